# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action that keeps watch over a connection."""

from __future__ import annotations

from unittest import mock

import pytest
from ansible.plugins.action.normal import ActionModule as Normal

from ansible_collections.slipway.cluster.plugins.action import component, host


def test_the_module_runs_once_its_connection_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def run(_action: object, _tmp: None, _variables: None) -> dict[str, bool]:
        done.append("module")
        return {"changed": False}

    monkeypatch.setattr(Normal, "run", run)
    monkeypatch.setattr(host, "keep_alive", lambda _connection: done.append("kept alive"))
    assert component.ActionModule(*(mock.MagicMock() for _ in range(6))).run() == {"changed": False}
    assert done == ["kept alive", "module"]
