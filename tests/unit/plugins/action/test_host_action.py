# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action behind the modules that have none of their own."""

from __future__ import annotations

import pathlib
from unittest import mock

import pytest
import yaml
from ansible.plugins.action.normal import ActionModule as Normal

from ansible_collections.slipway.cluster.plugins.action import host

PLUGINS = pathlib.Path(host.__file__).parents[1]


def test_every_module_without_an_action_of_its_own_has_this_one() -> None:
    modules, actions = ({path.stem for path in (PLUGINS / kind).glob("*.py")} for kind in ("modules", "action"))
    routed = yaml.safe_load((PLUGINS.parent / "meta/runtime.yml").read_text())["plugin_routing"]["action"]
    assert routed == {name: {"redirect": "slipway.cluster.host"} for name in modules - actions}


def test_the_module_runs_once_its_connection_is_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []

    def run(_action: object, _tmp: None, _variables: None) -> dict[str, bool]:
        done.append("module")
        return {"changed": False}

    monkeypatch.setattr(Normal, "run", run)
    monkeypatch.setattr(host, "keep_alive", lambda _connection: done.append("kept alive"))
    assert host.ActionModule(*(mock.MagicMock() for _ in range(6))).run() == {"changed": False}
    assert done == ["kept alive", "module"]
