#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until a cluster can bear the next disturbance."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gate
short_description: Wait until etcd, API servers and Nodes are well
version_added: 0.1.0
description:
  - Stands between two disturbances of a live cluster, such as restarts, drains and reboots, so that there is never more
    than one at a time.
  - Passes when every voting etcd member is healthy and in sync, every API server given answers its C(/readyz), and
    every Node given is Ready. Fails with exactly what is not when the time is over.
  - A member is in sync that has applied every entry that any member knew a moment before. Learners are left out.
  - Changes nothing. Runs on a host with a client certificate for etcd and an administrator's kubeconfig, usually a
    control-plane host; it asks only for what it is given.
author:
  - Slipway maintainers (@slipway)
options:
  api_servers:
    description: URLs of API servers, such as V(https://192.0.2.11:6443).
    type: list
    elements: str
    default: []
  ca:
    description: The CA of the API servers' certificates.
    type: path
    default: /etc/kubernetes/pki/ca.crt
  etcd_down:
    description:
      - Names of voting etcd members that may be down, because they were when the work began. All others, and those of
        them that answer again, must be healthy and in sync.
    type: list
    elements: str
    default: []
  etcd_stops:
    description:
      - Name of the etcd member that stops when the gate is passed, because its host is restarted for example. Where
        that would cost etcd its quorum, since another member is down, it is refused at once, with the arithmetic.
      - A name that no member has asks for nothing.
    type: str
    default: ""
  nodes:
    description: Names of Nodes that must be Ready.
    type: list
    elements: str
    default: []
  node_paths:
    description:
      - What each of these Nodes must answer with 200 through the API server, as paths after
        C(/api/v1/nodes/NAME), such as V(/proxy/healthz) for the kubelet and V(:10256/proxy/livez) for kube-proxy.
      - A Node counts as Ready for a while after its host has gone down; its kubelet does not answer.
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds until it fails. V(0) looks once.
    type: int
    default: 120
extends_documentation_fragment:
  - slipway.cluster.kubectl
  - slipway.cluster.etcdctl
attributes:
  check_mode:
    support: partial
    details: Asks nothing in check mode; what would have been disturbed before was not.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: Never reports a change.
"""

EXAMPLES = r"""
- name: Wait until the control plane is whole again
  slipway.cluster.gate:
    etcd_endpoints: ["https://192.0.2.11:2379", "https://192.0.2.12:2379", "https://192.0.2.13:2379"]
    api_servers: ["https://192.0.2.11:6443", "https://192.0.2.12:6443", "https://192.0.2.13:6443"]
    nodes: [cp1, cp2, cp3]
    timeout: 180
  delegate_to: cp2
"""

RETURN = r"""
problems:
  description: What is not well, all of it, or why a member may not stop.
  returned: failure
  type: list
  elements: dict
"""

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.etcdctl import ARGUMENTS as ETCD_ARGUMENTS
from ansible_collections.slipway.cluster.plugins.module_utils.host.etcdctl import Etcdctl
from ansible_collections.slipway.cluster.plugins.module_utils.host.gate import Gate, parse_gate
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import ARGUMENTS, Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    **ETCD_ARGUMENTS,
    "api_servers": {"type": "list", "elements": "str", "default": []},
    "ca": {"type": "path", "default": "/etc/kubernetes/pki/ca.crt"},
    "etcd_down": {"type": "list", "elements": "str", "default": []},
    "etcd_stops": {"type": "str", "default": ""},
    "nodes": {"type": "list", "elements": "str", "default": []},
    "node_paths": {"type": "list", "elements": "str", "default": []},
    "timeout": {"type": "int", "default": 120},
}


@dataclasses.dataclass(frozen=True)
class Want:
    """The gate, and how long to wait at it."""

    gate: Gate
    timeout: int


def parse(params: dict[str, t.Any]) -> Want:
    """The parameters as typed data."""
    machine = Machine()
    kubectl = Kubectl(machine, params["kubectl"], params["kubeconfig"])
    gate = Gate(kubectl, Etcdctl.from_params(machine, params), params["ca"], parse_gate(params))
    return Want(gate, params["timeout"])


def observe(_machine: Machine, _want: Want) -> None:
    """Nothing: what there is to see is waited for."""


def plan(_want: Want, _seen: None) -> list[Change]:
    """No steps."""
    return []


def apply(_machine: Machine, _want: Want, change: Change) -> None:
    """There are no steps."""
    raise AssertionError(change.name)


def settle(_machine: Machine, want: Want) -> None:
    """Wait."""
    want.gate.wait(timeout=want.timeout)


def main() -> None:
    """Run the module; it changes nothing, so it may run beside others."""
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=parse,
        observe=observe,
        plan=plan,
        apply=apply,
        settle=settle,
        exclusive=False,
    )


if __name__ == "__main__":
    main()
