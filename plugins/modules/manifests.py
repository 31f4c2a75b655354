#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A set of Kubernetes objects, applied and pruned as a whole."""

from __future__ import annotations

DOCUMENTATION = r"""
module: manifests
short_description: Apply a named set of Kubernetes objects and delete what left it
version_added: 0.1.0
description:
  - Applies objects by server-side apply with the field manager C(slipway), foundations (namespaces, custom resource
    definitions) first, then settings, workloads and webhooks.
  - Objects that left the set are deleted. An inventory of the set, the ConfigMap
    C(kube-system/slipway-manifests-NAME), remembers what belongs to it; only objects that also carry the label
    C(slipway.cluster/set=NAME) are ever deleted.
  - What differs is decided by the API server's own dry-run, so fields that others own do not count. It is asked about
    objects that lack something wanted, or of which somebody else has taken over a field that is wanted.
  - A Secret with the annotation C(slipway.cluster/generate) set to C(certificate) or C(random) gets a self-signed
    certificate (C(tls.crt), C(tls.key)) or a random C(secretkey) when it is made, and keeps it.
  - A CustomResourceDefinition that lives without that label was made by somebody else. It is left as it is, never
    deleted, and named in a warning.
  - Definitions of the Gateway API that are newer than those wanted are left alone.
  - Runs on a host that has kubectl and an administrator's kubeconfig, usually a control-plane host.
author: Slipway maintainers (@slipway)
options:
  name:
    description: The set's name, of a-z, 0-9 and C(-). Two sets with one name would delete each other's objects.
    type: str
    required: true
  objects:
    description: All objects of the set. Lists are opened.
    type: list
    elements: dict
    default: []
  prune:
    description: Whether objects that left the set are deleted.
    type: bool
    default: true
  absent:
    description: Whether the whole set shall be gone. O(objects) is then not looked at.
    type: bool
    default: false
  packed:
    description: Further objects of the set, as base64 of a gzipped JSON list. For large ones, and for what is secret.
    type: str
    default: ""
  values:
    description:
      - Texts that stand for C(@@NAME@@) wherever that is found in a text of an object. They are not logged.
    type: dict
    default: {}
  files:
    description:
      - Files of the host whose content, in base64, stands for C(@@NAME@@), such as a CA's certificate for a
        C(caBundle). One that does not exist yet leaves the name as it is.
    type: dict
    default: {}
  also:
    description: Further sets to treat the same way after this one, which costs less than a task for each.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The set's name.
        type: str
        required: true
      objects:
        description: All objects of the set.
        type: list
        elements: dict
        default: []
      packed:
        description: As O(packed).
        type: str
        default: ""
      absent:
        description: As O(absent).
        type: bool
        default: false
  wait:
    description:
      - Seconds to wait until each Deployment, StatefulSet, DaemonSet, CustomResourceDefinition and APIService of all
        sets is there in full, also when nothing changed. Pods on a node that is not Ready are not waited for. V(0) does
        not wait.
    type: int
    default: 0
extends_documentation_fragment:
  - slipway.cluster.kubectl
attributes:
  check_mode:
    support: full
    details: An object whose namespace or API is missing counts as one to create, as all do where no API answers.
  diff_mode:
    support: full
    details: Values of a Secret are masked.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Apply a team's own objects
  slipway.cluster.manifests:
    name: team-a
    objects:
      - apiVersion: v1
        kind: Namespace
        metadata:
          name: team-a
      - apiVersion: v1
        kind: ResourceQuota
        metadata:
          name: pods
          namespace: team-a
        spec:
          hard:
            pods: "50"

- name: Remove them again
  slipway.cluster.manifests:
    name: team-a
    absent: true
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["create Namespace team-a", "create ResourceQuota team-a/pods"]
hash:
  description: A hash of the set as wanted; the inventory holds the same one when all of it was applied.
  returned: success
  type: str
problems:
  description: What is wrong, all of it; or as warnings, which definitions are somebody else's.
  returned: failure, or when there are such definitions
  type: list
  elements: dict
"""

import base64
import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import (
    ManifestSet,
    SetSeen,
    filled,
    foreign_definitions,
    parse_set,
    plan_manifests,
    unpack,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import ARGUMENTS, Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.manifests import (
    apply_step,
    observe_sets,
    settle_sets,
)

ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    "name": {"type": "str", "required": True},
    "objects": {"type": "list", "elements": "dict", "default": []},
    "prune": {"type": "bool", "default": True},
    "absent": {"type": "bool", "default": False},
    "packed": {"type": "str", "default": "", "no_log": True},
    "values": {"type": "dict", "default": {}, "no_log": True},
    "files": {"type": "dict", "default": {}},
    "also": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "name": {"type": "str", "required": True},
            "objects": {"type": "list", "elements": "dict", "default": []},
            "packed": {"type": "str", "default": "", "no_log": True},
            "absent": {"type": "bool", "default": False},
        },
    },
    "wait": {"type": "int", "default": 0},
}


@dataclasses.dataclass(frozen=True)
class Want:
    """The sets, and the API they are wanted in."""

    sets: tuple[ManifestSet, ...]
    kubectl: Kubectl
    wait: int


def parse(params: dict[str, t.Any]) -> Want:
    """The parameters as typed data."""
    machine = Machine()
    values = {name: str(value) for name, value in params["values"].items()}
    for name, path in params["files"].items():
        content = machine.read(path)
        if content is not None:
            values[name] = base64.b64encode(content).decode()
    sets = tuple(
        parse_set(
            name=each["name"],
            objects=filled([*each["objects"], *unpack(each["packed"])], values),
            prune=params["prune"],
            absent=each["absent"],
        )
        for each in (params, *params["also"])
    )
    return Want(sets, Kubectl(machine, params["kubectl"], params["kubeconfig"]), params["wait"])


def observe(_machine: Machine, want: Want) -> list[SetSeen]:
    """What the API holds of each set."""
    return observe_sets(want.kubectl, want.sets)


def plan(want: Want, seen: list[SetSeen]) -> list[Change]:
    """The steps to what is wanted; ``data`` is the set and its step."""
    return [
        dataclasses.replace(change, data=(manifests, change))
        for manifests, held in zip(want.sets, seen)
        for change in plan_manifests(manifests, held)
    ]


def apply(machine: Machine, want: Want, change: Change) -> None:
    """Carry out one step."""
    manifests, step = change.data
    apply_step(want.kubectl, manifests, step, machine)


def settle(machine: Machine, want: Want) -> None:
    """Wait for the workloads if asked to."""
    if want.wait > 0:
        settle_sets(machine, want.kubectl, want.sets, timeout=want.wait)


def result(_machine: Machine, want: Want) -> dict[str, t.Any]:
    """The first set's hash."""
    return {"hash": want.sets[0].digest}


def notices(want: Want, seen: list[SetSeen]) -> list[Problem]:
    """Which definitions are somebody else's."""
    return [problem for manifests, held in zip(want.sets, seen) for problem in foreign_definitions(manifests, held)]


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
        notices=notices,
    )


if __name__ == "__main__":
    main()
