# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every host needs before anything of Kubernetes runs on it."""

from __future__ import annotations

import json

from ansible_collections.slipway.cluster.plugins.module_utils.core import places
from ansible_collections.slipway.cluster.plugins.module_utils.core.preparation import HostWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    Absent,
    Directory,
    File,
    HostState,
    User,
)

from ..addons.objects import NOBODY
from ..layout import Layout, Node
from . import metrics_gate, paths, registry
from .network import cni_target
from .text import NOTICE

SYSCTL_FILE = "/etc/sysctl.d/90-slipway.conf"
MODULES_FILE = "/etc/modules-load.d/slipway.conf"


def host_want(layout: Layout, node: Node) -> HostWant:
    """Everything the host needs; kernel settings without a namespace only where the host's kernel is ours to set."""
    return HostWant(
        state=host_target(layout, node) + cni_target(layout, node),
        packages=places.PACKAGES if node.packages else {},
        modules=places.KERNEL_MODULES if node.manage_kernel else (),
        sysctls=sysctls(node),
        swap=node.swap,
    )


def sysctls(node: Node) -> dict[str, str]:
    """The kernel settings this host gets; the user's win."""
    kernel = places.KERNEL_SYSCTLS if node.manage_kernel else {}
    user = {key: " ".join(value.split()) for key, value in node.sysctls.items()}
    return {**places.NETWORK_SYSCTLS, **kernel, **user}


def host_target(layout: Layout, node: Node) -> HostState:
    """Users and directories of the components on this host, and the kernel's settings for the next boot."""
    settings = "".join(f"{key} = {value}\n" for key, value in sysctls(node).items())
    mark = json.dumps({"name": layout.name, "id": layout.id}, indent=2) + "\n"
    files = [File(places.CLUSTER, mark), File(SYSCTL_FILE, NOTICE + settings)]
    if node.manage_kernel:
        files.append(File(MODULES_FILE, NOTICE + "".join(f"{name}\n" for name in places.KERNEL_MODULES)))
    state = HostState(
        directories=(
            Directory(paths.SLIPWAY_ETC),
            Directory(paths.SLIPWAY_VAR),
            Directory(paths.OPT),
            Directory(paths.ETC),
            Directory(paths.PKI),
        ),
        files=tuple(files),
    )
    if node.etcd:
        state += _owned("etcd", paths.ETCD_PKI, above=("/etc/etcd",))
    if node.control_plane:
        state += _owned("kube-apiserver", paths.APISERVER)
        state += _owned("kube-controller-manager", paths.CONTROLLER_MANAGER)
        state += _owned("kube-scheduler", paths.SCHEDULER)
        state += HostState(directories=(Directory(paths.ADMIN, "0700"),))
        state += _metrics(layout)
    state += _owned(registry.USER, registry.ETC) if node.registry else registry.no_registry_target()
    state += metrics_gate.own_gate_directory(layout, node)
    if node.control_plane or node.etcd:
        state += HostState(directories=(Directory(f"{paths.PKI}/etcd"),))
    return state


def _metrics(layout: Layout) -> HostState:
    """Where metrics-server's certificate lies; without metrics, what an earlier run put there goes."""
    if not layout.metrics:
        return HostState(absent=(Absent(paths.METRICS),))
    return HostState(directories=(Directory(paths.METRICS, "0700", str(NOBODY), str(NOBODY)),))


def _owned(user: str, directory: str, above: tuple[str, ...] = ()) -> HostState:
    return HostState(
        users=(User(user),),
        directories=(*(Directory(path) for path in above), Directory(directory, "0700", user, user)),
    )
