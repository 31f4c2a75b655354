#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with a Docker Engine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker
short_description: Set up Docker Engine on a host
version_added: 0.1.0
description:
  - Installs engine and client, and buildx and compose where the distribution has them, from its packages.
  - Writes C(/etc/docker/daemon.json) as a whole, and has the running engine take it over with as little as is needed.
    What dockerd reads again on SIGHUP is reloaded; for the rest it is restarted, with C(live-restore), so that
    containers go on running.
  - Decides who is in the group C(docker), which is to say, who is root on this host.
  - Has the engine trust registries by their CA, logs root in to them, and pulls the images that must be there.
  - Is not for a node of a Kubernetes cluster; the packages' containerd would come in the way of the node's own, which
    is refused. Containers themselves are the business of the collection C(community.docker).
author:
  - Slipway maintainers (@slipway)
options:
  packages:
    description:
      - The packages to be installed. By default those of the distribution; known are Debian 12 and 13 and Ubuntu 24.04.
      - An empty list for a Docker that is installed by other means.
    type: list
    elements: str
  data_root:
    description: Where images, containers and volumes lie. Refused to change while there are containers.
    type: path
    default: /var/lib/docker
  log_max_size_mib:
    description: Size in MiB at which a container's log is rotated.
    type: int
    default: 50
  log_max_files:
    description: How many files a container's log has at most.
    type: int
    default: 5
  live_restore:
    description: Whether containers go on running while the engine is down.
    type: bool
    default: true
  registry_mirrors:
    description: Addresses to ask before Docker Hub, in order.
    type: list
    elements: str
    default: []
  address_pools:
    description:
      - Out of which networks the bridges get theirs, each a C(base) and the C(size) of a part as a prefix length.
      - A pool that overlaps a route of this host, or a network of O(avoid), is refused.
    type: list
    elements: dict
    default:
      - base: 172.17.0.0/16
        size: 24
    suboptions:
      base:
        description: An IPv4 network.
        type: str
        required: true
      size:
        description: The prefix length of each bridge's part of it.
        type: int
        default: 24
  avoid:
    description: Networks that no address pool may touch, such as a cluster's pod and Service CIDRs.
    type: list
    elements: str
    default: []
  settings:
    description: Further keys of C(daemon.json), verbatim. Those that options here stand for are refused.
    type: dict
    default: {}
  users:
    description: The members of the group C(docker), and no others. Not set, nobody's membership is touched.
    type: list
    elements: str
  images:
    description: Images that must be there, by reference; one that is there is not looked for again.
    type: list
    elements: str
    default: []
  registries:
    description:
      - Registries with a CA of their own, HOST[:PORT] to its certificate in PEM.
      - In check mode it may be empty, for a CA that is made in the same run.
    type: dict
    default: {}
  forget:
    description:
      - Whether registries that an earlier run was given in O(registries), and this one is not, are forgotten, with
        root's login. Images that came from them stay.
    type: bool
    default: false
  credentials:
    description: Registries that root is logged in to, HOST[:PORT] to C(username) and C(password).
    type: dict
    default: {}
attributes:
  check_mode:
    description: Says what would change and changes nothing, also on a host that has none of it yet.
    support: full
  diff_mode:
    description: Shows files before and after, except logins.
    support: full
  platform:
    description: Debian and Ubuntu, or any Linux with systemd that has Docker already.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Set up Docker for the build hosts
  slipway.cluster.docker:
    users: [ci]
    registry_mirrors: [https://mirror.example.org]
    address_pools:
      - base: 10.210.0.0/16
        size: 24
    images: [docker.io/library/debian:13]
"""

RETURN = r"""
version:
  description: The engine's version; empty where there is none yet.
  returned: success
  type: str
  sample: 26.1.5+dfsg1
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["write /etc/docker/daemon.json", "install packages docker.io", "start docker.service"]
problems:
  description: Everything that stood in the way.
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.docker import DockerWant, plan_docker
from ansible_collections.slipway.cluster.plugins.module_utils.host.docker import (
    apply_docker,
    docker_result,
    observe_docker,
    settle_docker,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module

ARGUMENT_SPEC: dict[str, t.Any] = {
    "packages": {"type": "list", "elements": "str"},
    "data_root": {"type": "path", "default": "/var/lib/docker"},
    "log_max_size_mib": {"type": "int", "default": 50},
    "log_max_files": {"type": "int", "default": 5},
    "live_restore": {"type": "bool", "default": True},
    "registry_mirrors": {"type": "list", "elements": "str", "default": []},
    "address_pools": {
        "type": "list",
        "elements": "dict",
        "default": [{"base": "172.17.0.0/16", "size": 24}],
        "options": {"base": {"type": "str", "required": True}, "size": {"type": "int", "default": 24}},
    },
    "avoid": {"type": "list", "elements": "str", "default": []},
    "settings": {"type": "dict", "default": {}},
    "users": {"type": "list", "elements": "str"},
    "images": {"type": "list", "elements": "str", "default": []},
    "registries": {"type": "dict", "default": {}},
    "forget": {"type": "bool", "default": False},
    "credentials": {"type": "dict", "default": {}, "no_log": True},
}


def main() -> None:
    """Module entry."""
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=DockerWant.from_params,
        observe=observe_docker,
        plan=plan_docker,
        apply=apply_docker,
        settle=settle_docker,
        result=docker_result,
    )


if __name__ == "__main__":
    main()
