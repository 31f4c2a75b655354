# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words that ssh gets."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.plugin_utils.ssh import KEEP_ALIVE, keep_alive


class Connection:
    """A connection with options."""

    def __init__(self, transport: str = "ssh", **options: str | None) -> None:
        self.transport = transport
        self.options = options

    def get_option(self, name: str) -> str | None:
        return self.options.get(name)

    def set_option(self, name: str, value: str) -> None:
        self.options[name] = value


@pytest.mark.parametrize(
    ("transport", "options", "expected"),
    [
        ("ssh", {"ssh_args": "-C -o ControlMaster=auto"}, f"-C -o ControlMaster=auto {KEEP_ALIVE}"),
        ("ssh", {}, KEEP_ALIVE),
        ("ssh", {"ssh_args": "-o serveraliveinterval=5"}, "-o serveraliveinterval=5"),
        ("ssh", {"ssh_args": "-C", "ssh_common_args": "-o ServerAliveInterval=5"}, "-C"),
        ("ssh", {"ssh_args": "-C", "ssh_extra_args": "-oServerAliveInterval=0"}, "-C"),
        ("local", {"ssh_args": "-C"}, "-C"),
    ],
)
def test_a_silent_host_is_given_up_unless_the_user_says_when(
    transport: str, options: dict[str, str], expected: str
) -> None:
    connection: t.Any = Connection(transport, **options)
    for _again in range(2):
        keep_alive(connection)
        assert connection.options["ssh_args"] == expected
