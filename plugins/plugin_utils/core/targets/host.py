# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every host needs before anything of Kubernetes runs on it."""

from __future__ import annotations

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.state import Directory, File, HostState, User

from ..layout import Layout, Node
from . import paths
from .text import NOTICE

SYSCTL_FILE = "/etc/sysctl.d/90-slipway.conf"
MODULES_FILE = "/etc/modules-load.d/slipway.conf"
KERNEL_MODULES = ("overlay", "br_netfilter", "vxlan")
# Namespaced ones first; the rest change the whole machine and are left alone where slipway_host says so.
NETWORK_SYSCTLS: t.Mapping[str, str] = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
}
KERNEL_SYSCTLS: t.Mapping[str, str] = {
    "fs.inotify.max_user_instances": "8192",
    "fs.inotify.max_user_watches": "524288",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "vm.overcommit_memory": "1",
}
# Debian's package of each program.
PACKAGES: t.Mapping[str, str] = {
    "haproxy": "haproxy",
    "nft": "nftables",
    "openssl": "openssl",
    "conntrack": "conntrack",
    "mount": "mount",
    "ip": "iproute2",
}


def sysctls(layout: Layout) -> dict[str, str]:
    """The kernel settings this host gets."""
    return {**NETWORK_SYSCTLS, **(KERNEL_SYSCTLS if layout.manage_kernel else {})}


def host_target(layout: Layout, node: Node) -> HostState:
    """Users and directories of the components on this host, and the kernel's settings for the next boot."""
    settings = "".join(f"{key} = {value}\n" for key, value in sysctls(layout).items())
    files = [File(SYSCTL_FILE, NOTICE + settings)]
    if layout.manage_kernel:
        files.append(File(MODULES_FILE, NOTICE + "".join(f"{name}\n" for name in KERNEL_MODULES)))
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
    if node.control_plane or node.etcd:
        state += HostState(directories=(Directory(f"{paths.PKI}/etcd"),))
    return state


def _owned(user: str, directory: str, above: tuple[str, ...] = ()) -> HostState:
    return HostState(
        users=(User(user),),
        directories=(*(Directory(path) for path in above), Directory(directory, "0700", user, user)),
    )
