#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host
short_description: Prepare a host for a cluster's components
version_added: 0.1.0
description:
  - Packages for missing programs, kernel modules, kernel settings, swap, users, directories and files.
  - Packages are installed with apt only, and only those whose program is missing.
author:
  - Slipway maintainers (@slipway)
options:
  state:
    description: Users, directories, files and links, see M(slipway.cluster.component).
    type: dict
    default: {}
  packages:
    description: Programs that must be there, each with the package that brings it.
    type: dict
    default: {}
  modules:
    description: Kernel modules to load now; a kernel that loads none is left as it is.
    type: list
    elements: str
    default: []
  sysctls:
    description: Kernel settings to set now; one that the kernel does not have is left out.
    type: dict
    default: {}
  swap:
    description: Whether swap is switched off, now and in F(/etc/fstab).
    type: str
    choices: [disable, keep]
    default: disable
attributes:
  check_mode:
    description: Says what would change and changes nothing.
    support: full
  diff_mode:
    description: Shows files and settings before and after.
    support: full
  platform:
    description: Linux with systemd; packages on Debian.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Forward packets and do without swap
  slipway.cluster.host:
    sysctls:
      net.ipv4.ip_forward: "1"
    swap: disable
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["set net.ipv4.ip_forward", "switch swap off"]
"""

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.preparation import HostSeen, HostWant, plan_host
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.preparation import apply_host, observe_host

ARGUMENT_SPEC: dict[str, t.Any] = {
    "state": {"type": "dict", "default": {}},
    "packages": {"type": "dict", "default": {}},
    "modules": {"type": "list", "elements": "str", "default": []},
    "sysctls": {"type": "dict", "default": {}},
    "swap": {"type": "str", "choices": ["disable", "keep"], "default": "disable"},
}


def observe(machine: Machine, want: HostWant) -> HostSeen:
    """What the host is."""
    return observe_host(machine, want)


def apply(machine: Machine, want: HostWant, change: Change) -> None:
    """One step."""
    del want
    apply_host(machine, change)


def main() -> None:
    """Module entry."""
    run_module(argument_spec=ARGUMENT_SPEC, parse=HostWant.from_data, observe=observe, plan=plan_host, apply=apply)


if __name__ == "__main__":
    main()
