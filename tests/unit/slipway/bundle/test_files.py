# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway.bundle.archive import write_archive
from slipway.bundle.files import disk_errors, remove_leftovers, temporary_file, write_atomically


def test_replaces_the_content_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lock.json"
    write_atomically(path, "one")
    write_atomically(path, "two")
    assert path.read_text() == "two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_half_way_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "lock.json"
    path.write_text("old")
    with contextlib.suppress(KeyError), temporary_file(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_kernel_saying_the_disk_is_full_becomes_words(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(bytes(10_000_000))
    with pytest.raises(SlipwayError, match="no space left on the device"), disk_errors(tmp_path):
        write_archive(Path("/dev/full"), {"program": program})


def test_other_refusals_name_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SlipwayError, match="file: cannot be written: File exists"):
        write_atomically(tmp_path / "file" / "lock.json", "x")


def test_leftovers_are_files_and_directories_of_temporary_names_only(tmp_path: Path) -> None:
    (tmp_path / ".tmp-a").touch()
    (tmp_path / ".tmp-b" / "c").mkdir(parents=True)
    (tmp_path / "etcd").mkdir()
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["etcd"]
