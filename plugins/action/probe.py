# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host by the probe module and notes the controller's clock around it."""

from __future__ import annotations

import shlex
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.cluster.plugins.module_utils.core.hold import Held
from ansible_collections.slipway.cluster.plugins.plugin_utils.controller import is_dead, run_id
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.findings import grouped
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.preflight import old_python
from ansible_collections.slipway.cluster.plugins.plugin_utils.ssh import keep_alive

WAIT_SECONDS = 2.0
_VERSION = "import sys; print('%d.%d.%d' % sys.version_info[:3])"


class ActionModule(ActionBase):
    """The probe module's result, with ``clock``: the controller's time before and after, in seconds."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        silent_ok = bool(boolean(self._task.args.get("silent_ok", False)))
        # A host outside --limit is asked by delegation: these are the variables of the host that delegates.
        absent = not silent_ok and self._templar.template((task_vars or {}).get("slipway_node_absent", False))
        if boolean(absent, strict=False):
            return result | {"skipped": True, "msg": "slipway_node_absent says that it is down on purpose"}
        keep_alive(self._connection)
        arguments: dict[str, t.Any] = {"sysctls": self._sysctls(task_vars or {})}
        end = time.monotonic() + self._patience(task_vars or {})
        while True:
            before = time.time()
            try:
                seen = self._module(arguments, task_vars)
            except AnsibleConnectionFailure as error:
                if not silent_ok:
                    raise
                return result | {"changed": False, "msg": f"does not answer: {error}"}
            if time.monotonic() >= end or not _is_held(seen):
                break
            time.sleep(WAIT_SECONDS)
        if seen.get("failed") and not seen.get("problems"):
            seen = self._in_words(seen, task_vars or {})
        return result | seen | {"clock": {"before": before, "after": time.time()}}

    def _module(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        seen: dict[str, t.Any] = self._execute_module(
            module_name="slipway.cluster.probe", module_args=arguments, task_vars=task_vars
        )
        return seen

    def _patience(self, task_vars: t.Mapping[str, t.Any]) -> int:
        """How long to wait for another run; one that only looks does not wait."""
        if self._task.check_mode or not task_vars.get("slipway__verb"):
            return 0
        wanted = str(self._templar.template(task_vars.get("slipway_hold_wait", 0)))
        return int(wanted) if wanted.isdigit() else 0

    def _in_words(self, seen: dict[str, t.Any], task_vars: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """Modules end in a traceback, or worse, where Python is too old for them; then that is what there is to say."""
        found = (seen.get("ansible_facts") or {}).get("discovered_interpreter_python")
        program = str(found or self._templar.template(task_vars.get("ansible_python_interpreter", "")))
        if not program or program.startswith("auto"):
            return seen
        asked = self._low_level_execute_command(f"{shlex.quote(program)} -c {shlex.quote(_VERSION)}")
        version = asked["stdout"].strip() if asked["rc"] == 0 else ""
        problems = grouped(old_python(str(task_vars["inventory_hostname"]), version))
        if not problems or asked["rc"] not in (0, 127):
            return seen
        return {"failed": True, "msg": problems[0].text(), "problems": [problem.as_dict() for problem in problems]}

    def _sysctls(self, task_vars: t.Mapping[str, t.Any]) -> list[str]:
        """The kernel settings the user has of their own; what is wrong with them is the plan's business to say."""
        settings = self._templar.template(task_vars.get("slipway_host", {}))
        wanted = settings.get("sysctls") if isinstance(settings, t.Mapping) else None
        return [str(key) for key in wanted] if isinstance(wanted, t.Mapping) else []


def _is_held(seen: t.Mapping[str, t.Any]) -> bool:
    held = Held.from_data((seen.get("probe") or {}).get("hold"))
    return held is not None and held.stops(run_id()) and not is_dead(held.hold.run)
