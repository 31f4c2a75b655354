# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A user's line of an htpasswd file."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.passwords import htpasswd

DOCUMENTATION = r"""
name: htpasswd
author:
  - Slipway maintainers (@slipway)
version_added: 0.1.0
short_description: A user's line of an htpasswd file
description:
  - The line with a bcrypt hash, the same whenever password, user and salt are the same.
options:
  _input:
    description: The password.
    type: str
    required: true
  username:
    description: The user.
    type: str
    required: true
  salt:
    description: Any text that is not the same everywhere, such as a cluster's name.
    type: str
    required: true
"""

EXAMPLES = r"""
line: "{{ vaulted_password | slipway.cluster.htpasswd('puller', 'prod') }}"
"""

RETURN = r"""
_value:
  description: The line.
  type: str
"""


def line(password: str, username: str, salt: str) -> str:
    """The line; AnsibleFilterError where bcrypt is not to be had."""
    try:
        return htpasswd(str(password), str(username), str(salt))
    except SlipwayError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"htpasswd": line}
