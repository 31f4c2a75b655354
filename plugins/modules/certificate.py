#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate whose key is made on this host, and which another host signs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate
short_description: Request a certificate on a host, and put it in its place once it is signed
version_added: 0.1.0
description:
  - For a host without an authority of its own. The key is made on the host and never leaves it.
  - It is called twice, O(step=request) and O(step=issue), and between the two M(slipway.cluster.certificate_signing)
    runs on a host with the authority. Both do nothing while the certificate is as described, of that authority, and not
    near its end.
author:
  - Slipway maintainers (@slipway)
options:
  step:
    description: Which of the two.
    type: str
    choices: [request, issue]
    required: true
  issuer:
    description: The authority's certificate in PEM. One that is not known is not compared.
    type: str
    default: ""
  renew_fraction:
    description: The certificate is made anew when less than this part of its life is left.
    type: float
    default: 0.3333333333333333
  unit:
    description: A systemd unit that is restarted, if it runs, when the certificate is another than it has read.
    type: str
    default: ""
  serving:
    description: The file in which that unit keeps a copy of the certificate it has read.
    type: str
    default: ""
  signed:
    description: For O(step=issue), the certificate in PEM.
    type: str
    default: ""
extends_documentation_fragment:
  - slipway.cluster.leaf
attributes:
  check_mode:
    description: Says what would change and changes nothing.
    support: full
  diff_mode:
    description: There is nothing to show but keys.
    support: none
  platform:
    description: Linux with openssl and systemd.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Request a certificate
  slipway.cluster.certificate:
    step: request
    leaf: "{{ leaf }}"
  register: requested

- name: Sign it
  slipway.cluster.certificate_signing:
    leaf: "{{ leaf }}"
    request: "{{ requested.request }}"
  delegate_to: cp1
  when: requested.request | length > 0
  register: signed

- name: Put it in its place
  slipway.cluster.certificate:
    step: issue
    leaf: "{{ leaf }}"
    signed: "{{ signed.certificate | default('') }}"
"""

RETURN = r"""
request:
  description: After O(step=request), the request in PEM; empty where none is needed, and in check mode.
  returned: success
  type: str
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["issue certificate registry"]
problems:
  description: Everything that stood in the way.
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.leaf import (
    LeafSeen,
    LeafWant,
    certificate_from,
    issuer_from,
    plan_issue,
    plan_request,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.leaf import (
    LEAF_SPEC,
    apply_issue,
    observe_leaf,
    request,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

ARGUMENT_SPEC: dict[str, t.Any] = {
    "step": {"type": "str", "choices": ["request", "issue"], "required": True},
    "leaf": LEAF_SPEC,
    "issuer": {"type": "str", "default": ""},
    "renew_fraction": {"type": "float", "default": 1 / 3},
    "unit": {"type": "str", "default": ""},
    "serving": {"type": "str", "default": ""},
    "signed": {"type": "str", "default": ""},
}


class Module:
    """The verbs, and between them the request and the signed certificate."""

    def __init__(self) -> None:
        self.requests = False
        self.request = ""
        self.signed = ""

    def parse(self, params: dict[str, t.Any]) -> LeafWant:
        """The certificate that is wanted."""
        self.requests, self.signed = params["step"] == "request", params["signed"]
        return LeafWant(
            certificate_from(params["leaf"]),
            issuer_from(params["issuer"]),
            params["renew_fraction"],
            params["unit"],
            params["serving"],
        )

    def plan(self, want: LeafWant, seen: LeafSeen) -> list[Change]:
        """The steps of this half."""
        return plan_request(want, seen) if self.requests else plan_issue(want, seen)

    def apply(self, machine: Machine, want: LeafWant, change: Change) -> None:
        """One step."""
        if self.requests:
            self.request = request(machine, want.certificate)
        else:
            apply_issue(machine, want, change, self.signed)

    def result(self, machine: Machine, want: LeafWant) -> dict[str, t.Any]:
        """What the signer needs."""
        del machine, want
        return {"request": self.request}


def main() -> None:
    """Module entry."""
    module = Module()
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=module.parse,
        observe=observe_leaf,
        plan=module.plan,
        apply=module.apply,
        result=module.result,
    )


if __name__ == "__main__":
    main()
