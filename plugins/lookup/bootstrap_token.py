# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bootstrap token for this run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: bootstrap_token
author:
  - Slipway maintainers (@slipway)
version_added: 0.1.0
short_description: A random bootstrap token that is the same throughout one run
description:
  - Returns a token of the form Kubernetes wants (C([a-z0-9]{6}.[a-z0-9]{16})). It is kept in the directory that Ansible
    makes for each run and removes at its end, readable by this user only, so it stands in no result and in no fact.
options: {}
"""

EXAMPLES = r"""
- name: Let nodes join for ten minutes
  slipway.cluster.bootstrap_token:
    token: "{{ lookup('slipway.cluster.bootstrap_token') }}"
    joining: [w1]
"""

RETURN = r"""
_raw:
  description: The token.
  type: list
  elements: str
"""

import os
import secrets
import string
import typing as t

from ansible import constants
from ansible.plugins.lookup import LookupBase

ALPHABET = string.ascii_lowercase + string.digits


class LookupModule(LookupBase):
    """The run's token."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        """Make the token when it is asked for first; workers of one run agree through an exclusive link."""
        del terms, variables, kwargs
        path = os.path.join(str(vars(constants)["DEFAULT_LOCAL_TMP"]), "slipway-bootstrap-token")  # noqa: PTH118
        try:
            return [_read(path)]
        except FileNotFoundError:
            own = f"{path}.{os.getpid()}"
            handle = os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(_random(6) + "." + _random(16))
            try:
                os.link(own, path)
            except FileExistsError:
                pass
            finally:
                os.unlink(own)  # noqa: PTH108
            return [_read(path)]


def _random(length: int) -> str:
    return "".join(secrets.choice(ALPHABET) for _each in range(length))


def _read(path: str) -> str:
    with open(path, encoding="ascii") as stream:  # noqa: PTH123
        return stream.read()
