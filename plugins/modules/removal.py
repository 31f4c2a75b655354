#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: removal
short_description: Decide which hosts leave a cluster, and who does the work
version_added: 0.1.0
description:
  - Finds what each host that is to leave is to the cluster, by the inventory or by its Node, and chooses a
    control-plane host and an etcd member that stay to do the work.
  - A host that cannot be reached is only let go if the user has declared it dead, and one outside C(--limit) not at
    all. All problems are told at once.
  - Touches no host. Made for the playbooks of this collection.
author:
  - Slipway maintainers (@slipway)
options:
  hosts:
    description:
      - Every host of the inventory with its C(node), C(kubelet), C(control_plane), C(etcd) and the C(peer_url) of its
        etcd member.
    type: dict
    required: true
  names:
    description:
      - The hosts that are to leave; one that the inventory no longer has is named by its Node, or by the name or id of
        its etcd member.
    type: list
    elements: str
    required: true
  dead:
    description: Whether those of them that cannot be reached are switched off for good.
    type: bool
    default: false
  cluster:
    description: The cluster's name.
    type: str
    required: true
  confirm:
    description: The same name, as a person has typed it. In check mode it may be left out.
    type: str
    default: ''
  helpers:
    description:
      - The hosts that answered, in C(control_plane) and C(etcd), the best for the work first. Of those that stay, the
        first of each part does it.
    type: dict
    required: true
  members:
    description: The members of etcd, as in M(slipway.cluster.etcd_member).
    type: list
    elements: dict
    default: []
attributes:
  action:
    description: Runs on the controller.
    support: full
  bypass_host_loop:
    description: Looks at all hosts at once; use it with C(run_once).
    support: none
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
"""

EXAMPLES = r"""
- name: See who leaves and who stays
  slipway.cluster.removal:
    hosts: "{{ slipway_plan.plan.roster }}"
    names: [w3]
    cluster: prod
    confirm: "{{ answer }}"
    helpers: "{{ slipway_plan.plan.helpers }}"
  run_once: true
  register: removal
"""

RETURN = r"""
removals:
  description: The hosts that leave, in order, for the role C(remove).
  returned: success
  type: list
  elements: dict
leader:
  description: A control-plane host that stays.
  returned: success
  type: str
etcd_host:
  description: A host with an etcd member that stays.
  returned: success
  type: str
problems:
  description: What is left to do afterwards, as warnings; or everything that stands in the way.
  returned: always
  type: list
  elements: dict
"""
