# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the module on its host as Ansible does; a host that falls silent meanwhile, or in what follows, is noticed.

It is the first that touches a host in a play or a turn, whose other tasks go on with its connection.
"""

from __future__ import annotations

import typing as t

from ansible.plugins.action.normal import ActionModule as Normal

from ansible_collections.slipway.cluster.plugins.plugin_utils.ssh import keep_alive


class ActionModule(Normal):
    """Returns what the module does."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the module named by the task."""
        keep_alive(self._connection)
        result: dict[str, t.Any] = super().run(tmp, task_vars)  # type: ignore[no-untyped-call]  # as Ansible has it
        return result
