#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take Nodes out of service, and give back those that were taken."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drain
short_description: Cordon Nodes and evict their pods, and uncordon what was cordoned
version_added: 0.1.0
description:
  - Closes Nodes to new pods and evicts those that run there through the API, which respects PodDisruptionBudgets. What
    is refused is tried again until O(timeout); then the pod and the budget that hold it are named.
  - Remembers on each Node, in the annotation C(slipway.cluster/cordoned-by), that it was closed from here and why. With
    O(state=active) only such Nodes are opened; one that a person closed before stays closed in both states.
  - Pods of DaemonSets and static pods stay. Pods without a controller, and with O(delete_emptydir_data=false) those
    with data of their own, are refused before anything is touched.
  - Runs on a host that has kubectl and an administrator's kubeconfig, usually a control-plane host.
author:
  - Slipway maintainers (@slipway)
options:
  nodes:
    description: Names of the Nodes. Their pods are evicted at the same time.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(drained) cordons and evicts.
      - V(active) opens again what was closed from here for the same O(reason).
      - V(absent) deletes the Node, pods or not; drain it before, and end its kubelet, which would register it again.
    type: str
    choices: [drained, active, absent]
    default: drained
  reason:
    description: What for, in a word; remembered on the Node.
    type: str
    default: drain
  delete_emptydir_data:
    description: Whether pods with data in an emptyDir may be evicted; it is deleted with them.
    type: bool
    default: false
  force:
    description: Whether pods that no controller starts elsewhere may be lost.
    type: bool
    default: false
  dead:
    description:
      - The hosts are switched off for good. Nothing is asked of them; the Nodes get the taint
        C(node.kubernetes.io/out-of-service=nodeshutdown:NoExecute), with which Kubernetes forgets their pods and
        detaches their volumes at once (KEP-2268).
      - Refused for a Node that is Ready, after O(timeout).
      - Implies O(detached=true).
    type: bool
    default: false
  detached:
    description:
      - Whether to wait, too, until no volume is attached to the Nodes but those of pods that stay. Where a Node is
        deleted before, its volumes stay attached for minutes, and pods elsewhere wait for them.
    type: bool
    default: false
  missing_ok:
    description: Whether a Node that is not there is passed over.
    type: bool
    default: false
  timeout:
    description: Seconds that pods may take to be gone, and volumes after them.
    type: int
    default: 600
extends_documentation_fragment:
  - slipway.cluster.kubectl
attributes:
  check_mode:
    support: full
    details: Names the pods that would be evicted; whether a budget would hold them is not asked.
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Take a Node out of service
  slipway.cluster.drain:
    nodes: [w1]
    reason: firmware
    delete_emptydir_data: true
    timeout: 900

- name: Give it back
  slipway.cluster.drain:
    nodes: [w1]
    state: active
    reason: firmware

- name: Release what a host that burned down has held
  slipway.cluster.drain:
    nodes: [w2]
    dead: true
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["cordon node w1", "evict pods from w1: default/web-5d4f8-x2x7q"]
left:
  description: Nodes that are closed and stay so, because they were not closed from here for this reason.
  returned: success
  type: list
  elements: str
  sample: ["node w1 was cordoned by somebody else and stays cordoned"]
problems:
  description: What is wrong, all of it. Warnings say what was left as it is.
  returned: failure, or when something is left
  type: list
  elements: dict
"""

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.drain import DrainSeen, DrainWant, left_closed
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from ansible_collections.slipway.cluster.plugins.module_utils.host.drain import Drain
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import ARGUMENTS
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    "nodes": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["drained", "active", "absent"], "default": "drained"},
    "reason": {"type": "str", "default": "drain"},
    "delete_emptydir_data": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "dead": {"type": "bool", "default": False},
    "detached": {"type": "bool", "default": False},
    "missing_ok": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 600},
}
_WANT = tuple(field.name for field in dataclasses.fields(DrainWant))


@dataclasses.dataclass
class Want:
    """What is asked for, and the API it is asked of."""

    want: DrainWant
    drain: Drain


def parse(params: dict[str, t.Any]) -> Want:
    """The parameters as typed data."""
    want = DrainWant(**{name: params[name] for name in _WANT if name != "nodes"}, nodes=tuple(params["nodes"]))
    return Want(want, Drain(Machine(), (params["kubectl"], params["kubeconfig"]), want, params["timeout"]))


def observe(_machine: Machine, want: Want) -> DrainSeen:
    """The Nodes, their pods and volumes."""
    return want.drain.observe()


def plan(want: Want, _seen: DrainSeen) -> list[Change]:
    """The steps to what is wanted."""
    return want.drain.plan()


def apply(_machine: Machine, want: Want, change: Change) -> None:
    """Carry out one step."""
    want.drain.apply(change)


def result(_machine: Machine, want: Want) -> dict[str, t.Any]:
    """What stays closed."""
    left = left_closed(want.want, want.drain.seen)
    warnings = [Problem("drain", sentence, warning=True).as_dict() for sentence in left]
    return {"left": left, **({"problems": warnings} if warnings else {})}


def main() -> None:
    """Run the module; the API orders what happens at the same time, so it may run beside others."""
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=parse,
        observe=observe,
        plan=plan,
        apply=apply,
        result=result,
        exclusive=False,
    )


if __name__ == "__main__":
    main()
