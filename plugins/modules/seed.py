#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host that gives a bundle's bytes to the others."""

from __future__ import annotations

DOCUMENTATION = r"""
module: seed
short_description: Bring a bundle's bytes to one host, which serves them to the others
version_added: 0.1.0
description:
  - Copies what the host lacks of a bundle on the controller to C(/var/lib/slipway/blobs), once and verified, over the
    connection Ansible has, and serves it over HTTP to other hosts. So a controller behind a narrow line feeds many
    hosts.
  - The server is a transient unit, C(slipway-seed.service), that stops by itself and removes the bytes then. It runs
    without privileges and answers only those that show a token made for this run.
  - Use the results with M(slipway.cluster.artifacts) on all hosts. The token lies in a file on the controller that is
    gone when Ansible ends, so that no output shows it.
author:
  - Slipway maintainers (@slipway)
options:
  bundle:
    description: The bundle's directory on the controller.
    type: path
    required: true
  artifacts:
    description: Entries of the bundle that any of the hosts needs, as for M(slipway.cluster.artifacts), with C(file).
    type: list
    elements: dict
    required: true
  serve:
    description: Serve them to other hosts.
    type: bool
    default: true
  address:
    description: The address of this host at which the others reach it. Required with O(serve).
    type: str
  port:
    description: The port at which it serves.
    type: int
    default: 6445
  seconds:
    description: For how long it serves.
    type: int
    default: 900
  held:
    description: The sha256 of what the host holds already, if that is known; it saves a look at the host.
    type: list
    elements: str
  phase:
    description: Set by the action plugin.
    type: str
    choices: [look, bring]
    default: bring
  pack:
    description: Set by the action plugin, the path on the host of what it brought.
    type: str
  token:
    description: Set by the action plugin.
    type: str
attributes:
  action:
    description: The bytes are brought by an action plugin.
    support: full
  check_mode:
    description: Says what would be brought and brings nothing.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  platform:
    description: Linux with systemd.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Bring the bundle to one host
  slipway.cluster.seed:
    bundle: /srv/bundle
    artifacts: "{{ (lookup('ansible.builtin.file', '/srv/bundle/bundle.json') | from_json).artifacts }}"
    address: 10.0.0.11
  delegate_to: cp1
  run_once: true
  register: seed

- name: Install from there
  slipway.cluster.artifacts:
    artifacts: "{{ wanted }}"
    sources: "{{ seed.sources }}"
    token: "{{ lookup('ansible.builtin.file', seed.token_file) if seed.token_file | default('') else omit }}"
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["seed etcd 3.7.0", "serve artefacts to other hosts"]
sources:
  description: The base URL at which the host serves, for M(slipway.cluster.artifacts).
  returned: success
  type: list
  elements: str
  sample: ["http://10.0.0.11:6445"]
token_file:
  description: A file on the controller, readable by this user only, that holds the token and lives as long as this run.
  returned: when it serves, not in check mode
  type: str
missing:
  description: The sha256 of each artefact the host did not have.
  returned: success
  type: list
  elements: str
problems:
  description: Everything that stood in the way.
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.artifacts import BLOBS, Artifact, plan_seed
from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.host.artifacts import observe_blobs
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.fetch import require_space
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.seed import Seeder, SeedWant, Serving

ARGUMENT_SPEC: dict[str, t.Any] = {
    "bundle": {"type": "path", "required": True},
    "artifacts": {"type": "list", "elements": "dict", "required": True},
    "serve": {"type": "bool", "default": True},
    "address": {"type": "str"},
    "port": {"type": "int", "default": 6445},
    "seconds": {"type": "int", "default": 900},
    "held": {"type": "list", "elements": "str"},
    "phase": {"type": "str", "choices": ["look", "bring"], "default": "bring"},
    "pack": {"type": "str"},
    "token": {"type": "str", "no_log": True},
}


class Module:
    """The verbs of one run. With phase look it only says what is missing, so that the action can bring it."""

    def __init__(self) -> None:
        self.look = False
        self.missing: list[Artifact] = []
        self.serving = Serving("", 0, 0, "")
        self.seeder = Seeder("", self.serving)

    def parse(self, params: dict[str, t.Any]) -> SeedWant:
        """The parameters as typed data."""
        self.look = params["phase"] == "look"
        self.serving = Serving(params["address"] or "", params["port"], params["seconds"], params["token"] or "")
        self.seeder = Seeder(params["pack"] or "", self.serving)
        return SeedWant(tuple(Artifact.from_data(entry) for entry in params["artifacts"]), serve=params["serve"])

    def observe(self, machine: Machine, want: SeedWant) -> frozenset[str]:
        """The blobs the host has, and whether it has space for the others."""
        del machine
        held = observe_blobs()
        needed = {artifact.sha256: artifact for artifact in want.artifacts if artifact.sha256 not in held}
        self.missing = list(needed.values())
        require_space(BLOBS, sum(artifact.size for artifact in self.missing), "the artefacts of the bundle")
        return held

    def plan(self, want: SeedWant, held: frozenset[str]) -> list[Change]:
        """The steps, see plan_seed."""
        return [] if self.look else plan_seed(want.artifacts, held, serve=want.serve)

    def apply(self, machine: Machine, want: SeedWant, change: Change) -> None:
        """One step."""
        self.seeder.apply(machine, want, change)

    def result(self, machine: Machine, want: SeedWant) -> dict[str, t.Any]:
        """What the action needs to know."""
        del machine
        missing = [artifact.sha256 for artifact in self.missing]
        return {"missing": missing, "sources": [self.serving.url] if want.serve else []}


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
        required_if=[("serve", True, ("address",))],
    )


if __name__ == "__main__":
    main()
