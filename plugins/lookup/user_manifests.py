# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's own manifests."""

from __future__ import annotations

DOCUMENTATION = r"""
name: user_manifests
author:
  - Slipway maintainers (@slipway)
version_added: 0.1.0
short_description: Your own manifests as a set of objects
description:
  - Reads the files and directories that C(slipway_manifests) of the host names on the controller and returns the set
    C(user) for the option C(also) of the module P(slipway.cluster.manifests#module). Without any the set is absent,
    so that what was applied before is deleted.
  - Files that are encrypted with Ansible Vault are decrypted.
options: {}
"""

EXAMPLES = r"""
- name: Apply what slipway_manifests names
  slipway.cluster.manifests:
    name: user
    packed: "{{ lookup('slipway.cluster.user_manifests').packed }}"
"""

RETURN = r"""
_raw:
  description: One dictionary with the set's name and its objects packed, or marked as absent.
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import pack
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.manifest_files import SET_NAME, read_manifests


class LookupModule(LookupBase):
    """The set."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[t.Any]:
        """One dictionary."""
        del terms, kwargs
        given = variables or {}
        paths = _template(self._templar, given.get("slipway_manifests")) or []
        directory = str(given.get("inventory_dir") or "")
        try:
            objects = read_manifests([paths] if isinstance(paths, str) else list(paths), self._loader, directory)
        except SlipwayError as error:
            raise AnsibleLookupError(str(error)) from error
        return [{"name": SET_NAME, "packed": pack(objects)} if objects else {"name": SET_NAME, "absent": True}]


def _template(templar: t.Any, value: t.Any) -> t.Any:
    """A variable's value; variables arrive here as they were written."""
    return value if templar is None else templar.template(value)
