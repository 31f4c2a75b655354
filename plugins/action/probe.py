# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at a host by the probe module and notes the controller's clock around it."""

from __future__ import annotations

import time
import typing as t

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The probe module's result, with ``clock``: the controller's time before and after, in seconds."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments: dict[str, t.Any] = {"sysctls": self._sysctls(task_vars or {})}
        before = time.time()
        seen = self._execute_module(module_name="slipway.cluster.probe", module_args=arguments, task_vars=task_vars)
        return result | seen | {"clock": {"before": before, "after": time.time()}}

    def _sysctls(self, task_vars: t.Mapping[str, t.Any]) -> list[str]:
        """The kernel settings the user has of their own; what is wrong with them is the plan's business to say."""
        settings = self._templar.template(task_vars.get("slipway_host", {}))
        wanted = settings.get("sysctls") if isinstance(settings, t.Mapping) else None
        return [str(key) for key in wanted] if isinstance(wanted, t.Mapping) else []
