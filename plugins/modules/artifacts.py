#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Versioned programs and image archives on a host, by lock."""

from __future__ import annotations

DOCUMENTATION = r"""
module: artifacts
short_description: Install versioned programs by their checksums
version_added: 0.1.0
description:
  - Fetches artefacts by HTTP, refuses wrong bytes, unpacks programs into C(/opt/slipway/NAME/VERSION/) and points
    C(/opt/slipway/NAME/current) at the wanted version in one step. All bytes are on the host before any version is
    switched.
  - Archives of images are left in C(/var/lib/slipway/blobs/SHA256) for M(slipway.cluster.containerd) to import; one
    that containerd has imported already is not fetched again.
  - Other versions stay, so that switching back is a run with the older entry. It can be killed at any point and run
    again.
author:
  - Slipway maintainers (@slipway)
options:
  artifacts:
    description:
      - What the host should have, one version of each name. Entries of a bundle's or a lock's C(artifacts) can be given
        as they are; other keys than these are passed over.
      - C(name), C(version) and C(architecture) as in file names, C(kind) C(archive) (a tar.gz with programs somewhere
        in it), C(binary) (one program) or C(image) (an OCI archive), and C(sha256) are required.
      - C(programs) lists the programs to take out of an archive by base name, or the name of the one program.
        C(reference) is the name of the image in its archive.
      - C(size) in bytes lets a full disk be noticed before fetching. C(url) is asked when no source has the bytes.
    type: list
    elements: dict
    required: true
  links:
    description:
      - Links to make, from path to program of one of the artefacts.
      - A path that holds something that is not Slipway's is left alone and named in RV(left_alone).
    type: dict
    default: {}
  sources:
    description: Base URLs that serve C(/SHA256), asked before an entry's own URL.
    type: list
    elements: str
    default: []
  token:
    description: What is shown to the sources.
    type: str
  seeded:
    description:
      - The bytes are brought to this host by another step, such as M(slipway.cluster.seed), so fetching is not
        announced.
    type: bool
    default: false
  keep_blobs:
    description: Keep archives after unpacking, on a host that serves them to others.
    type: bool
    default: false
  serve_address:
    description:
      - When all is done, serve the artefacts on this address too and tell the sources so. Implies O(keep_blobs).
    type: str
  serve_port:
    description: The port for O(serve_address).
    type: int
    default: 6445
  serve_seconds:
    description: For how long.
    type: int
    default: 900
attributes:
  check_mode:
    description: Says what would change and changes nothing, also on a host that has none of it yet.
    support: full
  diff_mode:
    description: Shows which versions and links change.
    support: full
  platform:
    description: Linux with systemd.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Install one version of etcd from upstream
  slipway.cluster.artifacts:
    artifacts:
      - name: etcd
        kind: archive
        version: 3.7.0
        architecture: amd64
        url: https://mirror.example/etcd-v3.7.0-linux-amd64.tar.gz
        sha256: "{{ etcd_sha256 }}"
        programs: [etcd, etcdctl, etcdutl]
    links:
      /usr/local/bin/etcdctl: etcdctl
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["fetch etcd 3.7.0", "unpack etcd 3.7.0", "activate etcd 3.7.0"]
left_alone:
  description: Wanted links whose path holds something of somebody else.
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

from ansible_collections.slipway.cluster.plugins.module_utils.core.artifacts import (
    ArtifactsSeen,
    ArtifactsWant,
    left_alone,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.host.artifacts import Installer, observe_artifacts
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.fetch import Sources
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.seed import Serving, announce, serve

ARGUMENT_SPEC: dict[str, t.Any] = {
    "artifacts": {"type": "list", "elements": "dict", "required": True},
    "links": {"type": "dict", "default": {}},
    "sources": {"type": "list", "elements": "str", "default": []},
    "token": {"type": "str", "no_log": True},
    "seeded": {"type": "bool", "default": False},
    "keep_blobs": {"type": "bool", "default": False},
    "serve_address": {"type": "str"},
    "serve_port": {"type": "int", "default": 6445},
    "serve_seconds": {"type": "int", "default": 900},
}


class Module:
    """The verbs of one run, which share what the run's installer knows."""

    def __init__(self) -> None:
        self.installer = Installer(Sources())
        self.sources = Sources()
        self.serving: t.Optional[Serving] = None
        self.left_alone: list[str] = []

    def parse(self, params: dict[str, t.Any]) -> ArtifactsWant:
        """The parameters as typed data."""
        self.sources = Sources(tuple(params["sources"]), params["token"] or "")
        if params["serve_address"] and self.sources.token:
            self.serving = Serving(
                params["serve_address"], params["serve_port"], params["serve_seconds"], self.sources.token
            )
        self.installer = Installer(self.sources, keep_blobs=params["keep_blobs"] or self.serving is not None)
        return ArtifactsWant.from_data(params)

    def plan(self, want: ArtifactsWant, seen: ArtifactsSeen) -> list[Change]:
        """The steps, see plan_artifacts."""
        self.left_alone = left_alone(want, seen)
        return self.installer.plan(want, seen)

    def apply(self, machine: Machine, want: ArtifactsWant, change: Change) -> None:
        """One step."""
        self.installer.apply(machine, want, change)

    def settle(self, machine: Machine, want: ArtifactsWant) -> None:
        """Serve what was fetched to others, if this host shall."""
        del want
        if self.serving is not None and self.installer.held:
            serve(machine, self.serving)
            announce(self.serving, self.sources.urls, self.installer.held)


def observe(machine: Machine, want: ArtifactsWant) -> ArtifactsSeen:
    """What the host has."""
    return observe_artifacts(machine, want.links)


def main() -> None:
    """Module entry."""
    module = Module()
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=module.parse,
        observe=observe,
        plan=module.plan,
        apply=module.apply,
        settle=module.settle,
        result=lambda *_: {"left_alone": module.left_alone},
    )


if __name__ == "__main__":
    main()
