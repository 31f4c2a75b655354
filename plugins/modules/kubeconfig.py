#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A kubeconfig for a person, on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubeconfig
short_description: Fetch a kubeconfig for a person
version_added: 0.1.0
description:
  - Writes a kubeconfig with everything embedded to the controller, readable by its owner alone. Its client certificate
    is issued by the control-plane host on which this runs, its key is made on the controller and never leaves it.
  - The user is a member of a group that a ClusterRoleBinding gives its rights, not of C(system:masters), so deleting
    that binding takes the rights of all such kubeconfigs away at once.
  - A file that is for the same user, cluster and server, and has more than a third of its life left, stays as it is.
    One that something else has written is never overwritten.
author:
  - Slipway maintainers (@slipway)
options:
  cluster:
    description: The cluster's name, which the context gets. Required by the action plugin.
    type: str
  server:
    description: The URL at which the person reaches the API. Required by the action plugin.
    type: str
  path:
    description: Where it is put on the controller. Not set, C(kubeconfig) beside the inventory.
    type: path
  user:
    description: The person; the Kubernetes user gets C(slipway:) in front. By default, who runs this.
    type: str
  group:
    description: The group that has the rights.
    type: str
    default: slipway:admins
  days:
    description: How long it is valid.
    type: int
    default: 28
  certificate:
    description: The certificate of the authority that API servers ask for clients.
    type: path
    default: /etc/kubernetes/pki/ca.crt
  key:
    description: The path of the authority's key.
    type: path
    default: /etc/kubernetes/pki/ca.key
  request:
    description: Set by the action plugin, a certificate request for the new key.
    type: str
attributes:
  action:
    description: The file is written by an action plugin.
    support: full
  check_mode:
    description: Says whether the file would be written.
    support: full
  diff_mode:
    description: There is nothing to show but a key.
    support: none
  platform:
    description: Linux with openssl, a control-plane host.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Fetch a kubeconfig that is valid for a week
  slipway.cluster.kubeconfig:
    cluster: prod
    server: https://api.example.com:6443
    path: ~/.kube/prod
    days: 7
  delegate_to: cp1
  run_once: true
"""

RETURN = r"""
kubeconfig:
  description: Where it lies on the controller.
  returned: success
  type: str
user:
  description: The Kubernetes user.
  returned: success
  type: str
problems:
  description: What is wrong.
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import Authority, Certificate
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.pki import sign_request

ARGUMENT_SPEC: dict[str, t.Any] = {
    "cluster": {"type": "str"},
    "server": {"type": "str"},
    "path": {"type": "path"},
    "user": {"type": "str"},
    "group": {"type": "str", "default": "slipway:admins"},
    "days": {"type": "int", "default": 28},
    "certificate": {"type": "path", "default": "/etc/kubernetes/pki/ca.crt"},
    "key": {"type": "path", "default": "/etc/kubernetes/pki/ca.key", "no_log": False},
    "request": {"type": "str"},
}


class Module:
    """The verbs, and between them the certificate, which is written to no file here."""

    def __init__(self) -> None:
        self.request = ""
        self.authority = Authority("kubernetes", "", "")
        self.issued = b""

    def parse(self, params: dict[str, t.Any]) -> Certificate:
        """The certificate that is asked for."""
        self.request = params["request"] or ""
        self.authority = Authority("kubernetes", params["certificate"], params["key"])
        return Certificate(
            name=params["user"] or "",
            certificate="",
            key="",
            authority=self.authority.name,
            common_name=params["user"] or "",
            organizations=(params["group"],),
            usages=("client",),
            days=params["days"],
        )

    def observe(self, machine: Machine, want: Certificate) -> bool:
        """Whether a certificate is asked for; SlipwayError where there is no authority."""
        del want
        missing = [path for path in (self.authority.certificate, self.authority.key) if not machine.exists(path)]
        if missing:
            raise SlipwayError(
                Problem(missing[0], "is not there", "a control-plane host with its authority", "run apply first")
            )
        return bool(self.request)

    def plan(self, want: Certificate, asked: bool) -> list[Change]:
        """The one step."""
        return [Change(f"issue certificate {want.common_name}")] if asked else []

    def apply(self, machine: Machine, want: Certificate, change: Change) -> None:
        """Sign."""
        del change
        self.issued = sign_request(machine, self.authority, want, self.request)

    def result(self, machine: Machine, want: Certificate) -> dict[str, t.Any]:
        """What everybody may know: certificates."""
        del want
        return {"certificate": self.issued.decode(), "authority": machine.read_text(self.authority.certificate)}


def main() -> None:
    """Module entry."""
    module = Module()
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=module.parse,
        observe=module.observe,
        plan=module.plan,
        apply=module.apply,
        result=module.result,
    )


if __name__ == "__main__":
    main()
