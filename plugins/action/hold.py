# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Names this run to plugins/modules/hold.py, and tells it whether the run that it meets is still there."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.cluster.plugins.plugin_utils.controller import is_dead, run_id
from ansible_collections.slipway.cluster.plugins.plugin_utils.release import person
from ansible_collections.slipway.cluster.plugins.plugin_utils.ssh import keep_alive


class ActionModule(ActionBase):
    """The module's result; in check mode nothing is held."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module, a second time if it met a run of this machine that is gone."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        if self._task.check_mode:
            return result | {"changed": False, "msg": "nothing is held in check mode"}
        keep_alive(self._connection)
        arguments = {**self._task.args, "run": run_id(), "by": person()}
        try:
            done = self._module(arguments, task_vars)
        except AnsibleConnectionFailure as error:
            if arguments.get("state", "present") == "present":
                raise
            return result | {"changed": False, "msg": f"does not answer, so its hold is left as it is: {error}"}
        met = str(((done.get("held") or {}).get("hold") or {}).get("run") or "")
        if met and is_dead(met):
            done = self._module({**arguments, "dead": [met]}, task_vars)
        return result | done

    def _module(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        done: dict[str, t.Any] = self._execute_module(
            module_name="slipway.cluster.hold", module_args=arguments, task_vars=task_vars
        )
        return done
