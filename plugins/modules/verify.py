#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check of a cluster by real use."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify
short_description: See by real use whether a Kubernetes cluster works
version_added: 0.1.0
description:
  - Asks every API server, etcd member, controller, kubelet and kube-proxy for its health, and compares Nodes and
    versions with what is expected.
  - Puts up a pod on every node, in a namespace of its own, and has them talk, pod to pod over every pair of nodes, to a
    Service until every endpoint was met, by DNS names; has every node ask each registry, reads logs and the events of
    these pods, runs a command, makes a pod unready for a while, deletes a pod, kills another.
  - Removes the namespace at the end whatever happened. What a killed run left behind is removed by a later one.
  - Fails if any finding is not as it should be, with the cause and a hint for each.
  - Without etcdctl or its certificate on this host etcd is not asked directly; without O(etcd_endpoints) the member of
    this host is asked, and all others through it.
  - Runs on a host that has kubectl and an administrator's kubeconfig, usually a control-plane host.
author: Slipway maintainers (@slipway)
options:
  image:
    description: An agnhost image that the nodes have or can pull.
    type: str
    required: true
  nodes:
    description:
      - The Nodes that are expected, name to kubelet version; an empty version stands for any.
      - Without it, whatever Nodes there are must be Ready.
    type: dict
    default: {}
  absent:
    description: Nodes that are down on purpose. They need not be Ready, and nothing is asked of them.
    type: list
    elements: str
    default: []
  etcd_absent:
    description: Client URLs of members of etcd that are down on purpose. They need not answer.
    type: list
    elements: str
    default: []
  domain:
    description: The cluster's DNS domain.
    type: str
    default: cluster.local
  outside_name:
    description:
      - A DNS name outside the cluster, asked from pods if this host itself resolves it. An empty one is not asked.
    type: str
    default: kubernetes.io
  full:
    description:
      - Whether the longer questions are asked too, some minutes of them. A rolling update under load, a bad version,
        a liveness probe, an autoscaler.
    type: bool
    default: false
  addons:
    description: What the cluster is expected to have. Beside DNS, what is not named is not asked for.
    type: dict
    default: {}
    suboptions:
      dns:
        description: Whether pods are expected to find names.
        type: bool
        default: true
      metrics:
        description: Whether the metrics API answers.
        type: bool
        default: false
      ingress:
        description: Addresses that take HTTP and HTTPS on ports 80 and 443.
        type: list
        elements: str
        default: []
      ingress_service:
        description: Namespace and name of the Service whose address takes them instead.
        type: list
        elements: str
        default: []
      gateway:
        description: Namespace and name of the default Gateway.
        type: list
        elements: str
        default: []
      load_balancer:
        description: The namespace of what gives Services their addresses.
        type: str
        default: ""
      storage:
        description: The namespace of what makes volumes, and the name of its StorageClass.
        type: list
        elements: str
        default: []
      pod_security:
        description: The Pod Security level of namespaces without labels.
        type: str
        default: ""
  registries:
    description:
      - HOST:PORT of registries. Every node's containerd is made to look into each, with the CA and the login that it
        has for it, for an image that nobody has pushed. Nothing is pulled.
    type: list
    elements: str
    default: []
  no_registries:
    description: Why there are no O(registries), for the line that says so.
    type: str
    default: none was named
  timeout:
    description:
      - Seconds that each wait may take, such as the one for the pods to start.
      - Seconds, too, that may be spent on asking again where an answer was not good, in all. What passes by itself in
        that time, such as a controller waiting for its old lease to end, is not a failure; the finding tells of it.
    type: int
    default: 60
extends_documentation_fragment:
  - slipway.cluster.kubectl
  - slipway.cluster.etcdctl
attributes:
  check_mode:
    support: partial
    details: Asks nothing in check mode and says so.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: Never reports a change.
"""

EXAMPLES = r"""
- name: See whether the cluster works
  slipway.cluster.verify:
    image: registry.k8s.io/e2e-test-images/agnhost:2.66.1
    nodes:
      cp1: v1.37.0
      w1: v1.37.0
  register: finding

- name: Show what was found
  ansible.builtin.debug:
    msg: "{{ finding.table.splitlines() }}"
"""

RETURN = r"""
ok:
  description: Whether all is as it should be.
  returned: always
  type: bool
checks:
  description: The findings in the order they were made.
  returned: always
  type: list
  elements: dict
  contains:
    aspect:
      description: What was looked at.
      type: str
    ok:
      description: Whether it is as it should be.
      type: bool
    skipped:
      description: Whether it could not be looked at here; O(ignore:ok) is then true.
      type: bool
    done:
      description: What was done to find out.
      type: str
    seen:
      description: What was seen, with counts.
      type: str
    seconds:
      description: How long it took.
      type: float
    hint:
      description: Where to look if it is not as it should be.
      type: str
table:
  description: The findings as text, with what was done and what was seen, in 120 columns.
  returned: always
  type: str
seconds:
  description: How long all of it took.
  returned: always
  type: float
slipway_report:
  description: All of these again, for the C(slipway) command.
  returned: always
  type: dict
problems:
  description: What is wrong, all of it.
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.host.etcdctl import ARGUMENTS as ETCD_ARGUMENTS
from ansible_collections.slipway.cluster.plugins.module_utils.host.etcdctl import Etcdctl
from ansible_collections.slipway.cluster.plugins.module_utils.host.findings import Found, run_checks
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import ARGUMENTS
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.verify import VerifyWant, verify_cluster
from ansible_collections.slipway.cluster.plugins.module_utils.host.verify_addons import Addons

ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    **ETCD_ARGUMENTS,
    "image": {"type": "str", "required": True},
    "nodes": {"type": "dict", "default": {}},
    "absent": {"type": "list", "elements": "str", "default": []},
    "etcd_absent": {"type": "list", "elements": "str", "default": []},
    "domain": {"type": "str", "default": "cluster.local"},
    "outside_name": {"type": "str", "default": "kubernetes.io"},
    "timeout": {"type": "int", "default": 60},
    "full": {"type": "bool", "default": False},
    "registries": {"type": "list", "elements": "str", "default": []},
    "no_registries": {"type": "str", "default": "none was named"},
    "addons": {
        "type": "dict",
        "default": {},
        "options": {
            "dns": {"type": "bool", "default": True},
            "metrics": {"type": "bool", "default": False},
            "ingress": {"type": "list", "elements": "str", "default": []},
            "ingress_service": {"type": "list", "elements": "str", "default": []},
            "gateway": {"type": "list", "elements": "str", "default": []},
            "load_balancer": {"type": "str", "default": ""},
            "storage": {"type": "list", "elements": "str", "default": []},
            "pod_security": {"type": "str", "default": ""},
        },
    },
}


def parse(params: dict[str, t.Any]) -> VerifyWant:
    """The parameters as typed data."""
    given: dict[str, t.Any] = params["addons"]
    expected: dict[str, t.Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in given.items()
    }
    return VerifyWant(
        kubectl=params["kubectl"],
        kubeconfig=params["kubeconfig"],
        image=params["image"],
        domain=params["domain"],
        outside_name=params["outside_name"],
        nodes={str(name): str(version or "") for name, version in params["nodes"].items()},
        etcd=Etcdctl.from_params(Machine(), params),
        timeout=params["timeout"],
        addons=Addons(**expected),
        absent=tuple(params["absent"]),
        etcd_absent=tuple(params["etcd_absent"]),
        registries=tuple(params["registries"]),
        no_registries=params["no_registries"],
        full=params["full"],
    )


def look(params: dict[str, t.Any]) -> Found:
    """The findings."""
    return verify_cluster(Machine(), parse(params)), {}


def main() -> None:
    """Module entry."""
    run_checks(argument_spec=ARGUMENT_SPEC, look=look)


if __name__ == "__main__":
    main()
