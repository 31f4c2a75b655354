#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Let nodes join for some minutes."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bootstrap_token
short_description: Let nodes join for some minutes
version_added: 0.1.0
description:
  - Creates a bootstrap token's Secret that ends by itself, when there are nodes to join.
  - Makes Nodes again that somebody deleted while their hosts ran.
  - See U(https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/).
author:
  - Slipway maintainers (@slipway)
options:
  token:
    description: The token, see P(slipway.cluster.bootstrap_token#lookup).
    type: str
    required: true
  joining:
    description: The hosts that are to join; without any there is nothing to do.
    type: list
    elements: str
    required: true
  nodes:
    description:
      - Node name to the names and addresses its serving certificate may have, of nodes that are to join. They are added
        to the keeper's list on this host, for a control-plane host on which nothing else is changed.
    type: dict
    default: {}
  missing:
    description:
      - Nodes (objects of the API) that are made if they are not there. A kubelet that registers gets a pod network that
        its host does not have.
    type: list
    elements: dict
    default: []
  minutes:
    description: How long the token is valid.
    type: int
    default: 15
extends_documentation_fragment:
  - slipway.cluster.kubectl
attributes:
  check_mode:
    description: Says what would be made.
    support: full
  diff_mode:
    description: A token is not shown.
    support: none
  idempotent:
    description: Hosts that are to join get a token in each run.
    support: none
  platform:
    description: A control-plane host.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Let w1 join
  slipway.cluster.bootstrap_token:
    token: "{{ lookup('slipway.cluster.bootstrap_token') }}"
    joining: [w1]
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["create bootstrap token"]
"""

import dataclasses
import json
import time
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import KubernetesObject, ref_of
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import ARGUMENTS, Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

ALLOW = "allow"
CREATE = "create"
NODES = "/etc/slipway/nodes.json"
GROUP = "system:bootstrappers:slipway"
ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    "token": {"type": "str", "required": True, "no_log": True},
    "joining": {"type": "list", "elements": "str", "required": True},
    "nodes": {"type": "dict", "default": {}},
    "missing": {"type": "list", "elements": "dict", "default": []},
    "minutes": {"type": "int", "default": 15},
}


@dataclasses.dataclass(frozen=True)
class Token:
    """A token and for how many hosts and minutes it is wanted, who is allowed what, and which Nodes are to be there."""

    token: str
    joining: tuple[str, ...]
    nodes: t.Mapping[str, t.Sequence[str]]
    missing: tuple[KubernetesObject, ...]
    minutes: int
    kubectl: str
    kubeconfig: str


def parse(params: dict[str, t.Any]) -> Token:
    """The parameters as typed data."""
    name, _unused, secret = params["token"].partition(".")
    if len(name) != 6 or len(secret) != 16:
        raise SlipwayError(Problem("token", "has the wrong form", "six and sixteen of a-z and 0-9 with a dot between"))
    lists = {name: tuple(params[name]) for name in ("joining", "missing")}
    return Token(**{**params, **lists})


@dataclasses.dataclass(frozen=True)
class Seen:
    """The keeper's list, and the names of those of the Nodes that are there."""

    allowed: t.Mapping[str, t.Sequence[str]]
    nodes: frozenset[str] = frozenset()


def observe(machine: Machine, want: Token) -> Seen:
    """The keeper's list and the Nodes; a token of this run is never there yet."""
    refs = [ref_of(item) for item in want.missing]
    found = Kubectl(machine, want.kubectl, want.kubeconfig).find(refs) if refs else {}
    return Seen(_allowed(machine), frozenset(ref.name for ref in refs if ref.key in (found or {})))


def _allowed(machine: Machine) -> dict[str, list[str]]:
    return t.cast("dict[str, list[str]]", json.loads(machine.read_text(NODES) or "{}"))


def plan(want: Token, seen: Seen) -> list[Change]:
    """The token if anybody is to join, who is not on the list, and the Nodes that are not there."""
    changes = [Change("create bootstrap token", secret=True)] if want.joining else []
    changes += [
        Change(f"allow a serving certificate for {name}", data=(ALLOW, {name: list(names)}))
        for name, names in sorted(want.nodes.items())
        if seen.allowed.get(name) != list(names)
    ]
    missing = {ref_of(item).name: item for item in want.missing}
    changes += [
        Change(f"create node {name}", data=(CREATE, item))
        for name, item in sorted(missing.items())
        if name not in seen.nodes
    ]
    return changes


def apply(machine: Machine, want: Token, change: Change) -> None:
    """Add to the list, make a Node, or create the Secret; its content goes through a pipe."""
    kubectl = Kubectl(machine, want.kubectl, want.kubeconfig)
    verb, item = change.data or ("", {})
    if verb == ALLOW:
        allowed = {**_allowed(machine), **item}
        machine.write(NODES, (json.dumps(allowed, indent=2, sort_keys=True) + "\n").encode(), mode=0o644)
        return
    if verb == CREATE:
        kubectl.apply([item])
        return
    name, _unused, secret = want.token.partition(".")
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60 * want.minutes))
    document = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": f"bootstrap-token-{name}", "namespace": "kube-system"},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": name,
            "token-secret": secret,
            "expiration": end,
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": GROUP,
        },
    }
    kubectl.apply([document])


def main() -> None:
    """Module entry."""
    run_module(argument_spec=ARGUMENT_SPEC, parse=parse, observe=observe, plan=plan, apply=apply)


if __name__ == "__main__":
    main()
