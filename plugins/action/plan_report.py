# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Joins what the planner found on the hosts with what the cluster's API says of its objects."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.slipway.cluster.plugins.plugin_utils.core.plan_report import Answer, merge, plan_lines


class ActionModule(ActionBase):
    """Returns the whole ``slipway_report``, and ``text``: its lines for a person."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Merge the reports."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        answers = [
            Answer(str(entry["phase"]), entry["result"].get("actions") or [], entry["result"].get("diff") or [])
            for entry in arguments["answers"]
        ]
        others = {
            str(host): Answer("docker", said.get("actions") or [], said.get("diff") or [], "docker")
            for host, said in (arguments.get("others") or {}).items()
        }
        report = merge(arguments["report"], str(arguments["leader"]), answers, others, arguments.get("warnings") or ())
        return result | {"changed": False, "slipway_report": report, "text": plan_lines(report)}
