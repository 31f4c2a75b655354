# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How ssh is called on the controller."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ansible.plugins.connection import ConnectionBase

_OPTIONS = ("ssh_args", "ssh_common_args", "ssh_extra_args")
KEEP_ALIVE = "-o ServerAliveInterval=15 -o ServerAliveCountMax=3"
"""A host that is silent for 45 s is given up; by itself ssh waits for a quarter of an hour (tcp_retries2 in tcp(7))."""


def keep_alive(connection: ConnectionBase) -> None:
    """Have a connection notice that its host is gone, unless the user has said when.

    Ansible shares one connection for all its calls, and a run that comes soon after another one goes on with that: if
    the host has lost its power meanwhile, nobody refuses what is sent there.
    """
    if connection.transport != "ssh":
        return
    given = [str(connection.get_option(name) or "") for name in _OPTIONS]
    if "serveraliveinterval" not in " ".join(given).lower():
        connection.set_option("ssh_args", f"{given[0]} {KEEP_ALIVE}".strip())
