# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns the hosts that are to leave into targets for the role that takes them out, once, on the controller."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import member_of
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.removal import (
    Host,
    Request,
    notices,
    plan_removals,
)

from .plan import plain

_PARTS = ("node", "kubelet", "control_plane", "etcd", "peer_url")


class ActionModule(ActionBase):
    """Returns ``removals``, ``leader``, ``etcd_host``, and as warnings what is left to do; or all that is wrong."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Decide who leaves and who works meanwhile."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        variables, arguments = task_vars or {}, plain(self._task.args)
        # What changes nothing needs no word of a person.
        unasked = arguments["cluster"] if self._task.check_mode else ""
        request = Request(
            names=tuple(arguments["names"]),
            dead=bool(arguments.get("dead")),
            cluster=arguments["cluster"],
            confirm=str(arguments.get("confirm") or unasked),
        )
        hosts = {
            name: Host(
                **{part: own[part] for part in _PARTS},
                reachable=_answered(variables, name),
                outside="ansible_limit" in variables and name not in variables["ansible_play_hosts_all"],
            )
            for name, own in arguments["hosts"].items()
        }
        try:
            members = [member_of(each) for each in arguments.get("members") or ()]
            farewell = plan_removals(request, hosts, _nodes(variables), arguments["helpers"], members)
        except SlipwayError as error:
            problems = [problem.as_dict() for problem in error.problems]
            return result | {"failed": True, "msg": str(error), "problems": problems}
        return result | {
            "changed": False,
            **dataclasses.asdict(farewell),
            "problems": [notice.as_dict() for notice in notices(farewell)],
        }


def _answered(variables: t.Mapping[str, t.Any], name: str) -> bool:
    return "probe" in (variables["hostvars"].get(name, {}).get("slipway_probe") or {})


def _nodes(variables: t.Mapping[str, t.Any]) -> dict[str, dict[str, str]]:
    """The labels of all Nodes, as the control-plane hosts' probes know them."""
    labels: dict[str, dict[str, str]] = {}
    witnesses = variables.get("slipway__witnesses") or {}
    for name in plain(variables["groups"]["all"]):
        told = variables["hostvars"][name].get("slipway_probe") or witnesses.get(name) or {}
        seen = plain(told.get("probe") or {}).get("nodes") or {}
        labels |= {node["name"]: dict(node["labels"]) for node in seen.get("nodes", ())}
    return labels
