#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels, taints and readiness of Nodes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node
short_description: Labels, taints and readiness of Kubernetes Nodes
version_added: 0.1.0
description:
  - Gives Nodes the labels and taints that a kubelet may not give itself, such as its role, through the API.
  - Remembers on each Node, in annotations, which of them it set, and removes those that are no longer wanted. What a
    person or another program set is left alone.
  - Waits until Nodes have registered, and, if asked, until they are Ready.
  - Runs on a host that has kubectl and an administrator's kubeconfig, usually a control-plane host.
author: Slipway maintainers (@slipway)
options:
  nodes:
    description: The Nodes, each with all the labels and taints that it shall have from here.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The Node's name.
        type: str
        required: true
      labels:
        description: Labels, key to value.
        type: dict
        default: {}
      taints:
        description: Taints.
        type: list
        elements: dict
        default: []
        suboptions:
          key:
            description: The taint's key.
            type: str
            required: true
          value:
            description: The taint's value.
            type: str
            default: ""
          effect:
            description: What it does to pods that do not tolerate it.
            type: str
            required: true
            choices: [NoSchedule, PreferNoSchedule, NoExecute]
      unschedulable:
        description: Whether the Node is closed to new pods. Left as it is if not given.
        type: bool
  timeout:
    description: Seconds to wait for a Node to register before it is changed.
    type: int
    default: 240
  wait_ready:
    description: Seconds to wait until all the Nodes are Ready, also when nothing changed. V(0) does not wait.
    type: int
    default: 0
  approver:
    description:
      - A systemd unit of this host that approves the Nodes' requests for serving certificates when it is started.
      - It is started when the first Node is changed, and after that wait as long as such a request is pending, for half
        a minute at most. So the logs of pods can be read as soon as the module has ended, however seldom a timer starts
        the unit.
    type: str
    default: ""
extends_documentation_fragment:
  - slipway.cluster.kubectl
attributes:
  check_mode:
    support: full
    details: Where no API answers, every Node counts as one without labels and taints.
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Mark the control plane and keep ordinary pods off it
  slipway.cluster.node:
    nodes:
      - name: cp1
        labels:
          node-role.kubernetes.io/control-plane: ""
        taints:
          - key: node-role.kubernetes.io/control-plane
            effect: NoSchedule
      - name: w1
        labels:
          disk: ssd
    wait_ready: 120
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["label node w1: disk=ssd"]
nodes:
  description: The Nodes as last seen, by name. Empty where no API answers.
  returned: success
  type: dict
  sample:
    w1:
      ready: true
      condition: ""
      version: v1.37.0
problems:
  description: What is wrong, all of it.
  returned: failure
  type: list
  elements: dict
"""

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import (
    EFFECTS,
    NodesSeen,
    NodeWant,
    parse_nodes,
    plan_nodes,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import ARGUMENTS, Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.nodes import Nodes

_TAINT: dict[str, t.Any] = {
    "key": {"type": "str", "required": True, "no_log": False},
    "value": {"type": "str", "default": ""},
    "effect": {"type": "str", "required": True, "choices": list(EFFECTS)},
}
ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    "nodes": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "labels": {"type": "dict", "default": {}},
            "taints": {"type": "list", "elements": "dict", "default": [], "options": _TAINT},
            "unschedulable": {"type": "bool"},
        },
    },
    "timeout": {"type": "int", "default": 240},
    "wait_ready": {"type": "int", "default": 0},
    "approver": {"type": "str", "default": ""},
}


@dataclasses.dataclass
class Want:
    """What is asked for, and the API it is asked of."""

    wanted: tuple[NodeWant, ...]
    nodes: Nodes
    timeout: int
    wait_ready: int
    approver: str


def parse(params: dict[str, t.Any]) -> Want:
    """The parameters as typed data."""
    machine = Machine()
    nodes = Nodes(machine, Kubectl(machine, params["kubectl"], params["kubeconfig"]))
    return Want(parse_nodes(params["nodes"]), nodes, params["timeout"], params["wait_ready"], params["approver"])


def observe(_machine: Machine, want: Want) -> NodesSeen:
    """All Nodes as the API shows them."""
    return want.nodes.observe()


def plan(want: Want, seen: NodesSeen) -> list[Change]:
    """The steps to what is wanted."""
    return plan_nodes(want.wanted, seen)


def apply(_machine: Machine, want: Want, change: Change) -> None:
    """Carry out one step."""
    want.nodes.apply(change, timeout=want.timeout, approver=want.approver)


def settle(_machine: Machine, want: Want) -> None:
    """Wait for readiness and serving certificates if asked to."""
    names = [node.name for node in want.wanted]
    if want.wait_ready > 0:
        want.nodes.wait_ready(names, timeout=want.wait_ready)
    if want.approver:
        want.nodes.wait_served(names, want.approver)


def result(_machine: Machine, want: Want) -> dict[str, t.Any]:
    """The Nodes as last seen."""
    seen = [want.nodes.seen.nodes[node.name] for node in want.wanted if node.name in want.nodes.seen.nodes]
    return {
        "nodes": {
            node.name: {"ready": node.ready, "condition": node.condition, "version": node.kubelet_version}
            for node in seen
        }
    }


def main() -> None:
    """Run the module."""
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=parse,
        observe=observe,
        plan=plan,
        apply=apply,
        settle=settle,
        result=result,
    )


if __name__ == "__main__":
    main()
