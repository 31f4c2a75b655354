# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts passwords to user names, so that no plan or fact needs to hold them."""

from __future__ import annotations

import typing as t

DOCUMENTATION = r"""
name: with_passwords
author:
  - Slipway maintainers (@slipway)
version_added: 0.1.0
short_description: Put passwords to user names
description:
  - From user names by host and passwords by host to what M(slipway.cluster.containerd) takes as credentials.
  - A host without a password is left out.
options:
  _input:
    description: Host to user name.
    type: dict
    required: true
  passwords:
    description: Host to password.
    type: dict
    required: true
"""

EXAMPLES = r"""
credentials: "{{ {'registry.example': 'puller'} | slipway.cluster.with_passwords(slipway_secret_registry_passwords) }}"
"""

RETURN = r"""
_value:
  description: Host to user name and password.
  type: dict
"""


def with_passwords(users: t.Mapping[str, str], passwords: t.Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Host → user name and password."""
    return {host: {"username": user, "password": passwords[host]} for host, user in users.items() if host in passwords}


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"with_passwords": with_passwords}
