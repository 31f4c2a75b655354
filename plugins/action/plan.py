# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the inventory's spec and all probes into the plan of this run, once, on the controller."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.blueprint import Inputs, make, outside, report
from ansible_collections.slipway.cluster.plugins.plugin_utils.controller import is_dead, run_id
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.record import record_object
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec import HostInput
from ansible_collections.slipway.cluster.plugins.plugin_utils.release import now, person, release

# Facts of our own, large and no part of the spec.
_OWN = frozenset({"slipway_probe", "slipway_plan"})


class ActionModule(ActionBase):
    """Returns ``plan`` for the plays that follow, and ``slipway_report`` for people."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Plan; all problems at once if there is something in the way."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        if self._task.args.get("outside"):
            return result | {"changed": False, "outside": outside(_inputs(variables))}
        try:
            lenient = bool(boolean(self._task.args.get("lenient", False)))
            inputs = dataclasses.replace(_inputs(variables), verb=self._verb(), run=run_id(), lenient=lenient)
            data = make(inputs, self._loader)
        except SlipwayError as error:
            problems = [problem.as_dict() for problem in error.problems]
            return result | {"failed": True, "msg": str(error), "problems": problems}
        host = str(self._task.args.get("explain") or "")
        told = report(data)
        if host:
            told["explain"] = {host: data["explain"].get(host, [])}
        data.pop("explain")
        notices = data.pop("notices")
        record = record_object(data["record"], time=now(), by=person(), release=release())
        data["manifests"]["record"] = [record]
        return result | {"changed": False, "plan": data, "slipway_report": told, "problems": notices}

    def _verb(self) -> str:
        return "" if self._task.check_mode else str(self._task.args.get("verb") or "")


def _inputs(variables: t.Mapping[str, t.Any]) -> Inputs:
    hostvars, groups = variables["hostvars"], variables["groups"]
    hosts: dict[str, HostInput] = {}
    probes: dict[str, t.Any] = {}
    clocks: dict[str, t.Any] = {}
    witnesses = plain(variables.get("slipway__witnesses") or {})
    for name in plain(groups["all"]):
        own = hostvars[name]
        hosts[name] = HostInput(name, frozenset(plain(own.get("group_names", []))), _spec_variables(own))
        seen = own.get("slipway_probe") or witnesses.get(name) or {}
        if "probe" in seen:
            probes[name], clocks[name] = plain(seen["probe"]), plain(seen["clock"])
            judge_hold(probes[name].get("hold"))
    silent = {
        name: reason(plain(hostvars[name].get("slipway_probe") or {}))
        for name in plain(variables["ansible_play_hosts_all"])
        if name not in probes
    }
    asked = frozenset(plain(variables["ansible_play_hosts_all"]))
    return Inputs(hosts, probes, clocks, silent, asked, directory=plain(variables.get("inventory_dir") or ""))


def judge_hold(held: dict[str, t.Any] | None) -> None:
    """Note in a probe's answer whether the run that holds the host was one of this machine and is gone."""
    if held:
        held["dead"] = is_dead(str(held["hold"]["run"]))


def reason(result: t.Mapping[str, t.Any]) -> str:
    """Why a host has not answered: a module that did not run says more on its streams than Ansible in ``msg``."""
    said = [str(result.get(key) or "").strip() for key in ("msg", "module_stderr", "module_stdout")]
    told = [text for text in said if text]
    return "; ".join(told) or "could not be reached"


def _spec_variables(own: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    wanted = [key for key in own if (key.startswith("slipway_") and key not in _OWN) or key == "ansible_host"]
    return {plain(key): plain(own[key]) for key in wanted}


def plain(value: t.Any) -> t.Any:
    """The value in Python's own types: Ansible's strings and containers carry tags that other libraries refuse."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "surrogatepass")
    if isinstance(value, t.Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bool) or value is None:
        return value
    return float(value) if isinstance(value, float) else int(value) if isinstance(value, int) else str(value)
