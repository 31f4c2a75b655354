#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's container runtime."""

from __future__ import annotations

DOCUMENTATION = r"""
module: containerd
short_description: Run containerd with its registries and images
version_added: 0.1.0
description:
  - Writes containerd's configuration, its unit, F(hosts.toml) files with mirrors and credentials, and
    F(/etc/crictl.yaml), starts it, waits until its CRI works, and imports images from archives on the host.
  - The programs are expected in C(/opt/slipway/containerd/current) and C(/opt/slipway/runc/current), where
    M(slipway.cluster.artifacts) puts them.
  - A change of registries restarts nothing. A restart of containerd leaves containers running.
  - Imported images are pinned, so that the kubelet does not remove what cannot be pulled again.
author:
  - Slipway maintainers (@slipway)
options:
  version:
    description: What stands for the installed programs; another value restarts containerd.
    type: str
  sandbox_image:
    description: The image of a pod's sandbox. Without one it is containerd's own default.
    type: str
  systemd_cgroup:
    description: Whether containers' control groups are made by systemd.
    type: bool
    default: true
  restrict_oom_score_adj:
    description: For hosts that may not lower an C(oom_score_adj), such as containers.
    type: bool
    default: false
  snapshotter:
    description: What makes containers' file systems.
    type: str
    default: overlayfs
  runtime_handlers:
    description:
      - Further runtimes, by the name a RuntimeClass uses, each as containerd's table of it, such as C(runtime_type) and
        C(options).
    type: dict
    default: {}
  cni_bin_dirs:
    description: Where CNI plugins lie.
    type: list
    elements: path
    default: [/opt/slipway/cni-plugins/current]
  cni_template:
    description: A file from which containerd makes the CNI configuration once it knows the node's pod CIDR.
    type: path
  registries:
    description:
      - Registries that are not used as they are. What Slipway wrote for one that is no longer named here is removed.
    type: list
    elements: dict
    default: []
    suboptions:
      host:
        description: The registry's host, with its port if it has one, as in image names; V(_default) for all others.
        type: str
        required: true
      server:
        description: The URL asked after the mirrors. By default the registry itself.
        type: str
      mirrors:
        description: URLs asked before, in this order.
        type: list
        elements: str
      capabilities:
        description: What the mirrors are trusted with.
        type: list
        elements: str
        choices: [pull, resolve, push]
        default: [pull, resolve]
      ca:
        description: An authority to trust, a path on the host or a PEM text.
        type: str
      skip_verify:
        description: Whether to believe any certificate.
        type: bool
        default: false
      override_path:
        description: Whether the URLs contain the root of the API.
        type: bool
        default: false
  credentials:
    description:
      - C(username) and C(password) by the host, with its port if it has one, of a mirror's or registry's URL;
        V(docker.io) for Docker Hub.
    type: dict
    default: {}
  images:
    description: Images to import, each a C(reference) and the C(sha256) of an archive in C(/var/lib/slipway/blobs).
    type: list
    elements: dict
    default: []
    suboptions:
      reference:
        description: The image's name in the archive.
        type: str
        required: true
      sha256:
        description: The archive.
        type: str
        required: true
  keep_blobs:
    description: Keep archives after their import, on a host that serves them to others.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would change and changes nothing, also on a host that has none of it yet.
    support: full
  diff_mode:
    description: Shows files before and after, except those with credentials.
    support: full
  platform:
    description: Linux with systemd.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Pull through a mirror with a password
  slipway.cluster.containerd:
    registries:
      - host: docker.io
        mirrors: [https://mirror.example:5000]
        ca: /etc/ssl/mirror.pem
    credentials:
      mirror.example:5000:
        username: puller
        password: "{{ vaulted_password }}"
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["write /etc/containerd/config.toml", "start containerd.service", "import image slipway.local/pause:0.1.7"]
problems:
  description: Everything that stood in the way.
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.containerd import ContainerdWant
from ansible_collections.slipway.cluster.plugins.module_utils.host.containerd import (
    apply_containerd,
    observe_containerd,
    plan_containerd,
    settle_containerd,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module

REGISTRY_SPEC: dict[str, t.Any] = {
    "host": {"type": "str", "required": True},
    "server": {"type": "str"},
    "mirrors": {"type": "list", "elements": "str"},
    "capabilities": {
        "type": "list",
        "elements": "str",
        "choices": ["pull", "resolve", "push"],
        "default": ["pull", "resolve"],
    },
    "ca": {"type": "str"},
    "skip_verify": {"type": "bool", "default": False},
    "override_path": {"type": "bool", "default": False},
}
IMAGE_SPEC: dict[str, t.Any] = {
    "reference": {"type": "str", "required": True},
    "sha256": {"type": "str", "required": True},
}
ARGUMENT_SPEC: dict[str, t.Any] = {
    "version": {"type": "str"},
    "sandbox_image": {"type": "str"},
    "systemd_cgroup": {"type": "bool", "default": True},
    "restrict_oom_score_adj": {"type": "bool", "default": False},
    "snapshotter": {"type": "str", "default": "overlayfs"},
    "runtime_handlers": {"type": "dict", "default": {}},
    "cni_bin_dirs": {"type": "list", "elements": "path", "default": ["/opt/slipway/cni-plugins/current"]},
    "cni_template": {"type": "path"},
    "registries": {"type": "list", "elements": "dict", "default": [], "options": REGISTRY_SPEC},
    "credentials": {"type": "dict", "default": {}, "no_log": True},
    "images": {"type": "list", "elements": "dict", "default": [], "options": IMAGE_SPEC},
    "keep_blobs": {"type": "bool", "default": False},
}


def main() -> None:
    """Module entry."""
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=ContainerdWant.from_data,
        observe=observe_containerd,
        plan=plan_containerd,
        apply=apply_containerd,
        settle=settle_containerd,
    )


if __name__ == "__main__":
    main()
