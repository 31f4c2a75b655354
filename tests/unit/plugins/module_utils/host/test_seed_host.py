# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a host begins to serve the bundle's blobs."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.host import seed
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output


class Calls(Machine):
    """Notes the programs that are called."""

    def __init__(self, calls: list[str]) -> None:
        self.calls = calls

    def run(self, argv: t.Sequence[str], **_options: t.Any) -> Output:
        self.calls.append(argv[0])
        return Output(0, "", "")


def test_its_port_is_not_left_to_the_check_of_the_ports(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("DIRECTORY", "PROGRAM", "TOKEN", "REPLACING"):
        place = tmp_path / "seed"
        monkeypatch.setattr(seed, name, str(place if name == "DIRECTORY" else place / name.lower()))
    monkeypatch.setattr(seed, "_not_serving", lambda _machine, _serving: None)
    monkeypatch.setattr(seed, "end_listeners", lambda: calls.append("listeners ended"))
    seed.serve(Calls(calls), seed.Serving("127.0.0.1", 6445, 60, "token"))
    assert calls == ["systemctl", "systemctl", "listeners ended", "systemd-run"]
