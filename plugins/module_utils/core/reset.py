# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reset removes, and in which order, so that it can be killed anywhere and run again.

Only a host with traces of Slipway is touched. The last thing to go is ``/etc/slipway``, which says whose the host is.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import places
from .change import Change
from .problems import Problem, SlipwayError

STOP_ORDER = (
    "slipway-keeper.timer",
    "slipway-keeper.service",
    "slipway-seed.service",
    "slipway-registry.service",
    "slipway-metrics.service",
    "kubelet.service",
    "kube-proxy.service",
    "slipway-service-route.service",
    "flanneld.service",
    "kube-scheduler.service",
    "kube-controller-manager.service",
    "kube-apiserver.service",
    "slipway-proxy.service",
    "etcd.service",
    "containerd.service",
)
"""Who starts others goes before them; containers end after the runtime, so that nothing starts them again."""

PODS_SLICE = "kubepods.slice"
MOUNT_ROOTS = ("/var/lib/kubelet", "/run/containerd", "/var/lib/containerd")
NAMESPACES = "/run/netns/cni-*"
INTERFACES = ("cni0", "flannel.1", "flannel-v6.1")
BRIDGE = "cni0"
TABLES = ("kube-proxy", "flannel-ipv4", "flannel-ipv6", "cni_hostport")
"""nftables tables by name: kube-proxy's, flannel's and the portmap plugin's."""

CONTAINERD_CONFIG = "/etc/containerd/config.toml"
RUNTIME_PATHS = (
    "/var/lib/containerd",
    "/run/containerd",
    "/run/nri",
    "/etc/containerd/certs.d",
    CONTAINERD_CONFIG,
)
"""A runtime that is not ours keeps them. The configuration tells whose they are, so it goes last."""

PATHS = (
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/slipway",
    "/var/lib/slipway-registry",
    "/var/log/pods",
    "/var/log/containers",
    "/var/log/kubernetes",
    "/run/flannel",
    "/run/slipway-proxy.pid",
    "/opt/slipway",
    "/etc/cni/net.d/10-containerd-net.conflist",
    "/etc/crictl.yaml",
    "/etc/kubernetes",
    "/etc/etcd",
    "/etc/slipway-registry",
    "/etc/slipway-metrics",
    "/etc/modules-load.d/slipway.conf",
    "/etc/systemd/logind.conf.d/99-kubelet.conf",
    "/etc/systemd/system/cri-containerd-.scope.d/50-slipway.conf",
)
EMPTY_DIRECTORIES = (
    "/etc/cni/net.d",
    "/etc/cni",
    "/etc/containerd",
    "/etc/systemd/logind.conf.d",
    "/etc/systemd/system/cri-containerd-.scope.d",
    "/opt/containerd/bin",
    "/opt/containerd/lib",
    "/opt/containerd",
    "/run/netns",
    "/usr/libexec/kubernetes/kubelet-plugins/volume/exec",
    "/usr/libexec/kubernetes/kubelet-plugins/volume",
    "/usr/libexec/kubernetes/kubelet-plugins",
    "/usr/libexec/kubernetes",
    "/var/lib/cni/networks",
    "/var/lib/cni/results",
    "/var/lib/cni",
)
"""The components made them, or found them; what holds something of others stays. Inner ones first."""

SYSCTL_FILE = "/etc/sysctl.d/90-slipway.conf"
SYSCTL_ASIDE = "/etc/slipway/sysctl.removed"
"""Where the settings are kept until they are set back, so that a rerun still knows them."""

RUN_DIRECTORY = "/run/slipway"
RUN_KEPT = ("lock", "fault", "hold")
"""The engine's own, in memory."""

MARK_DIRECTORY = "/etc/slipway"


@dataclasses.dataclass(frozen=True)
class ResetWant:
    """The name of the cluster that shall go: as a person typed it and as the inventory has it."""

    confirm: str
    cluster: str

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> ResetWant:
        """The module's parameters; SlipwayError unless both name the same cluster."""
        want = cls(str(params.get("confirm") or ""), str(params["cluster"]))
        if want.confirm != want.cluster:
            raise SlipwayError(
                Problem(
                    "reset",
                    f"was confirmed for {want.confirm!r}" if want.confirm else "was not confirmed",
                    f"{want.cluster!r}, the name of this inventory's cluster: reset removes its data",
                    "set slipway_reset_confirm to it, or add --confirm to slipway reset",
                )
            )
        return want


@dataclasses.dataclass(frozen=True)
class OwnUnit:
    """A unit of ours: whether it is ``up``, has a ``file``, is ``linked`` into a target, or systemd must look again."""

    up: bool = False
    file: bool = False
    linked: bool = False
    stale: bool = False


@dataclasses.dataclass(frozen=True)
class ResetSeen:
    """What there is of everything a reset removes; a mount point counts among ``paths`` if something lies in it.

    ``mark`` is the cluster's name in the host's mark. ``mounts`` has the roots with something mounted below them,
    ``addresses`` the files of the pods' address management, ``leftovers`` what killed modules had half written,
    ``run_files`` what lies in RUN_DIRECTORY. ``entries`` are the names in each of EMPTY_DIRECTORIES that exists.
    """

    ours: bool = False
    mark: str = ""
    units: t.Mapping[str, OwnUnit] = dataclasses.field(default_factory=dict)
    containers: bool = False
    mounts: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    interfaces: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()
    runtime_ours: bool = False
    paths: frozenset[str] = frozenset()
    links: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()
    settings: bool = False
    run_files: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    entries: t.Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)


def plan_reset(want: ResetWant, seen: ResetSeen) -> list[Change]:
    """Everything to remove, in order; nothing where Slipway never was. ``data`` is (verb, argument).

    SlipwayError if the host belongs to another cluster.
    """
    if not seen.ours:
        return []
    if seen.mark and seen.mark != want.confirm:
        raise SlipwayError(
            Problem(
                places.CLUSTER,
                f"this host belongs to cluster {seen.mark!r}",
                f"{want.confirm!r}",
                "take it out of this inventory, or reset it with its own; nothing was touched",
            )
        )
    changes = [*_stop(seen), *_network(seen), *_files(seen), *_units(seen), *_users(seen)]
    changes += _directories(seen, changes)
    return [*changes, Change(f"remove {MARK_DIRECTORY}", data=("remove", (MARK_DIRECTORY,)))]


def _stop(seen: ResetSeen) -> list[Change]:
    changes = [Change(f"stop {name}", data=("stop", name)) for name in STOP_ORDER if seen.units.get(name, OwnUnit()).up]
    if seen.containers:
        changes.append(Change("end all containers", data=("containers", None)))
    return changes + [Change(f"unmount what is below {root}", data=("unmount", root)) for root in seen.mounts]


def _network(seen: ResetSeen) -> list[Change]:
    changes = []
    if seen.namespaces:
        changes.append(Change("remove the pods' network namespaces", data=("namespaces", seen.namespaces)))
    changes += [Change(f"remove interface {name}", data=("interface", name)) for name in seen.interfaces]
    changes += [Change(f"remove nftables table {name}", data=("table", name)) for name in seen.tables]
    if seen.addresses:
        changes.append(Change("remove the pods' addresses from /var/lib/cni", data=("remove", seen.addresses)))
    return changes


def _files(seen: ResetSeen) -> list[Change]:
    changes = []
    if seen.settings:
        changes.append(Change(f"remove {SYSCTL_FILE} and set its settings back", data=("settings", None)))
    own = (*PATHS, *(RUNTIME_PATHS if seen.runtime_ours else ()))
    doomed = [*seen.links, *(path for path in own if path in seen.paths)]
    changes += [Change(f"remove {path}", data=("remove", (path,))) for path in doomed]
    if seen.leftovers:
        changes.append(Change("remove half-written files", data=("remove", seen.leftovers)))
    if seen.run_files:
        changes.append(Change(f"empty {RUN_DIRECTORY}", data=("remove", seen.run_files)))
    return changes


def _units(seen: ResetSeen) -> list[Change]:
    """Links and files, then one look of systemd at what is left."""
    doomed = [name for name in STOP_ORDER if name in seen.units and (seen.units[name].file or seen.units[name].linked)]
    changes = [Change(f"remove {name}", data=("unit", name)) for name in doomed]
    if doomed or any(unit.stale for unit in seen.units.values()):
        changes.append(Change("reload systemd", data=("reload", None)))
    return changes


def _users(seen: ResetSeen) -> list[Change]:
    return [Change(f"remove user {name}", data=("user", name)) for name in seen.users]


def _directories(seen: ResetSeen, changes: t.Sequence[Change]) -> list[Change]:
    """Directories that hold nothing once the changes are made."""
    gone = {path for change in changes if change.data[0] in ("remove", "namespaces") for path in change.data[1]}
    result = []
    for path in EMPTY_DIRECTORIES:
        if path in seen.entries and all(f"{path}/{name}" in gone for name in seen.entries[path]):
            gone.add(path)
            result.append(Change(f"remove directory {path}", data=("directory", path)))
    return result
