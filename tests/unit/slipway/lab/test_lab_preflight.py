# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine lacks is said at once, each with its remedy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from slipway.lab import preflight
from slipway.lab.model import DRIVERS, GIB
from slipway.lab.preflight import Machine, machine_problems

MEMORY = DRIVERS["container"].memory

GOOD = Machine(
    root=True,
    python=(3, 12),
    programs=frozenset({**preflight.PACKAGES, **preflight.IMAGE_PACKAGES}),
    memory_available=4 * GIB,
    disk_free=20 * GIB,
    storage="/var/lib/containers",
)


def test_a_good_machine_has_no_problems() -> None:
    assert machine_problems(GOOD, new_hosts=3, memory=MEMORY, needs_image=True) == []


@pytest.mark.parametrize(
    ("change", "new_hosts", "where", "words"),
    [
        ({"root": False}, 0, "user", "not root"),
        ({"python": (3, 11)}, 0, "python", "3.11; expected 3.12 or newer"),
        ({"programs": GOOD.programs - {"podman", "runc"}}, 0, "programs", "apt-get install podman runc"),
        ({"programs": GOOD.programs - {"mmdebstrap"}}, 3, "programs", "apt-get install mmdebstrap"),
        ({"memory_available": 3 * GIB}, 3, "memory", "3.0 GiB available; expected 3.1 GiB for 3 more hosts"),
        ({"disk_free": 15 * GIB - 1}, 1, "disk", "expected 15 GiB"),
    ],
)
def test_each_lack_is_named(change: dict[str, object], new_hosts: int, where: str, words: str) -> None:
    machine = dataclasses.replace(GOOD, **change)  # type: ignore[arg-type]
    (problem,) = machine_problems(machine, new_hosts=new_hosts, memory=MEMORY, needs_image=True)
    assert problem.where == where
    assert words in problem.text()


def test_everything_at_once() -> None:
    machine = Machine(False, (3, 9), frozenset(), GIB, GIB, "/")
    problems = machine_problems(machine, new_hosts=1, memory=MEMORY, needs_image=True)
    assert [problem.where for problem in problems] == ["user", "python", "programs", "memory", "disk"]


def test_running_hosts_need_no_room_and_an_existing_image_no_builder() -> None:
    machine = dataclasses.replace(GOOD, memory_available=0, disk_free=0, programs=GOOD.programs - {"mmdebstrap"})
    assert machine_problems(machine, new_hosts=0, memory=MEMORY, needs_image=False) == []


def test_available_memory_is_read_in_bytes() -> None:
    assert preflight.memory_available("MemTotal: 100 kB\nMemAvailable:      42 kB\n") == 42 * 1024


def test_the_inotify_limit_is_raised_only_when_too_low(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "limit"
    monkeypatch.setattr(preflight, "_INOTIFY", limit)
    limit.write_text("128\n")
    assert "from 128 to 8192" in preflight.raise_inotify_limit()
    assert limit.read_text() == "8192\n"
    limit.write_text("9000\n")
    assert not preflight.raise_inotify_limit()
    assert limit.read_text() == "9000\n"
