#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Try for real whether hosts reach each other."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reach
short_description: Try ports and packet sizes between hosts
version_added: 0.1.0
description:
  - With O(step=listen) a process answers on ports that nobody uses yet. It ends when all O(listen[].callers) have
    called, after O(seconds) in any case, and leaves nothing behind. The resolvers are asked and the disk is measured,
    for a warning.
  - With O(step=try) the ports of the other hosts are connected to, and packets of full size sent to UDP ports. Every
    port that cannot be reached is an error that names both hosts and what the port is for.
  - Run the first step on all hosts before the second on any. Nothing is done in check mode.
  - Between hosts that are in a cluster already, O(settled), nobody has to listen. Only what runs there is tried.
  - Made for the playbooks of this collection, which try the first where a host is new, and the second for a plan.
author:
  - Slipway maintainers (@slipway)
options:
  step:
    description: Which of the two.
    type: str
    choices: [listen, try]
    required: true
  name:
    description: The name of this host, for the others.
    type: str
    required: true
  listen:
    description: Ports to open.
    type: list
    elements: dict
    default: []
    suboptions:
      port:
        description: The port.
        type: int
        required: true
      protocol:
        description: Its protocol.
        type: str
        choices: [tcp, udp]
        required: true
      callers:
        description: The hosts that are going to try it.
        type: list
        elements: str
        required: true
  seconds:
    description: How long to listen at most.
    type: int
    default: 60
  targets:
    description: Whom to try.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: The host's name.
        type: str
        required: true
      address:
        description: Its address.
        type: str
        required: true
      size:
        description: The size of the largest packet, headers included, in bytes.
        type: int
        required: true
      ports:
        description:
          - Its ports, each with C(port), C(protocol), C(purpose), and in C(answers) whether this module listens there.
          - C(through) is the host's address in flannel's tunnel, through which a packet is sent instead.
        type: list
        elements: dict
        required: true
  settled:
    description: The hosts are in a cluster already, so what cannot be reached is told in RV(closed) and is no error.
    type: bool
    default: false
  resolvers:
    description: Addresses of which one must answer.
    type: list
    elements: str
    default: []
  disk:
    description: The directory of etcd's data, whose disk is measured. Empty measures nothing.
    type: str
    default: ''
attributes:
  check_mode:
    description: Nothing is tried.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  platform:
    description: Linux.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Listen on all hosts
  slipway.cluster.reach:
    step: listen
    name: "{{ inventory_hostname }}"
    listen:
      - port: 6443
        protocol: tcp
        callers: [w1]

- name: Try them
  slipway.cluster.reach:
    step: try
    name: w1
    targets:
      - host: cp1
        address: 10.0.0.11
        size: 1500
        ports:
          - port: 6443
            protocol: tcp
            purpose: the API server
            answers: true
"""

RETURN = r"""
problems:
  description: What is wrong, all of it; after the first step only warnings.
  returned: always
  type: list
  elements: dict
closed:
  description: What cannot be reached between hosts that are in a cluster, as warnings.
  returned: with O(step=try) and O(settled)
  type: list
  elements: dict
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.cluster.plugins.module_utils.core.reach import (
    Listen,
    Target,
    silent_resolvers,
    slow_disk,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host import reach

_PORT: dict[str, t.Any] = {
    "port": {"type": "int", "required": True},
    "protocol": {"type": "str", "choices": ["tcp", "udp"], "required": True},
    "callers": {"type": "list", "elements": "str", "required": True},
}
_TARGET: dict[str, t.Any] = {
    "host": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "size": {"type": "int", "required": True},
    "ports": {"type": "list", "elements": "dict", "required": True},
}
ARGUMENT_SPEC: dict[str, t.Any] = {
    "step": {"type": "str", "choices": ["listen", "try"], "required": True},
    "name": {"type": "str", "required": True},
    "listen": {"type": "list", "elements": "dict", "default": [], "options": _PORT},
    "seconds": {"type": "int", "default": 60},
    "targets": {"type": "list", "elements": "dict", "default": [], "options": _TARGET},
    "settled": {"type": "bool", "default": False},
    "resolvers": {"type": "list", "elements": "str", "default": []},
    "disk": {"type": "str", "default": ""},
}


def main() -> None:
    """Module entry."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    wanted = module.params
    name, disk = wanted["name"], wanted["disk"]
    if module.check_mode:
        module.exit_json(changed=False, problems=[])
    if wanted["step"] == "listen":
        reach.listen([Listen.from_data(each) for each in wanted["listen"]], wanted["seconds"])
        warnings = silent_resolvers(reach.silent(wanted["resolvers"]))
        warnings += slow_disk(name, disk, reach.fsync_seconds(disk)) if disk else []
        module.exit_json(changed=False, problems=[warning.as_dict() for warning in warnings])
    problems = reach.try_all(name, [Target.from_data(each) for each in wanted["targets"]])
    if wanted["settled"]:
        closed = [dataclasses.replace(problem, warning=True).as_dict() for problem in problems]
        module.exit_json(changed=False, problems=[], closed=closed)
    told = [problem.as_dict() for problem in problems]
    if problems:
        module.fail_json(msg="\n".join(problem.text() for problem in problems), problems=told)
    module.exit_json(changed=False, problems=[])


if __name__ == "__main__":
    main()
