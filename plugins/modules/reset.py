#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove from a host what Slipway made there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reset
short_description: Remove from a host what Slipway made there, data included
version_added: 0.1.0
description:
  - Stops and removes units, ends containers, unmounts what pods had mounted, and removes interfaces, nftables tables,
    files, programs, users, kernel settings and all data of the cluster on this host.
  - Operating system packages stay, as does everything of others. A directory on a file system of its own is emptied.
  - A host on which Slipway never was is left alone; one that belongs to another cluster is refused.
  - May be cut off anywhere and run again; F(/etc/slipway), which says whose the host is, goes last.
author:
  - Slipway maintainers (@slipway)
options:
  cluster:
    description: The name of the cluster that the host belongs to.
    type: str
    default: slipway
  confirm:
    description: The same name, as a person has typed it.
    type: str
attributes:
  check_mode:
    description: Says what would be removed and removes nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  platform:
    description: Linux with systemd.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Take a host out of service for good
  slipway.cluster.reset:
    cluster: prod
    confirm: "{{ answer }}"
"""

RETURN = r"""
actions:
  description: What was removed, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["stop kubelet.service", "end all containers", "remove /etc/kubernetes", "remove /etc/slipway"]
problems:
  description: What is wrong, all of it.
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.reset import ResetWant, plan_reset
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.reset import apply_reset, observe_reset

ARGUMENT_SPEC: dict[str, t.Any] = {
    "cluster": {"type": "str", "default": "slipway"},
    "confirm": {"type": "str"},
}


def main() -> None:
    """Module entry."""
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=ResetWant.from_params,
        observe=observe_reset,
        plan=plan_reset,
        apply=apply_reset,
    )


if __name__ == "__main__":
    main()
