# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules between values: each is a small function over a draft of the spec, and one table says when it applies."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core import places, reset

from ..findings import Finding, names
from . import texts
from .kinds import nearest, shown
from .model import DOCKER, ENDPOINTS_PORT, WORKER, ClusterSpec, NodeProfile

_SERVICE_PREFIXES = range(12, 29)
_FIXED_PORTS = {2379: "etcd", 2380: "etcd", 10249: "kube-proxy", 10250: "kubelet", 10256: "kube-proxy"} | {
    10257: "kube-controller-manager",
    10259: "kube-scheduler",
}

# Volumes there would be mixed with, or removed with, what Slipway lays and resets.
_OWN_PATHS = tuple(
    sorted({*places.TREES, *places.SHALLOW, *reset.PATHS, *reset.RUNTIME_PATHS, *reset.MOUNT_ROOTS, "/run/slipway"})
)
# Gone with the next boot, or the packages' own.
_SYSTEM_PATHS = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys", "/usr", "/var/run"),
    *("/tmp", "/var/tmp"),  # noqa: S108
)
# The directory of the volumes is closed to all but root.
_SHARED_PATHS = ("/home", "/media", "/mnt", "/root", "/srv", "/var/backups", "/var/cache", "/var/log", "/var/spool")


@dataclasses.dataclass(frozen=True)
class Draft:
    """A spec that may be wrong: variables in ``faulty`` are at their defaults. ``groups`` are all of the inventory."""

    spec: ClusterSpec
    faulty: frozenset[str]
    groups: frozenset[str]


_OWN_GROUPS = (
    "slipway__",
    "slipway_changing",
    "slipway_forming_etcd",
    "slipway_hook_",
    "slipway_joining_etcd",
    "slipway_making",
    "slipway_pending",
    "slipway_receiving",
    "slipway_rolling",
)

type Rule = t.Callable[[Draft], t.Iterator[Finding]]


def judge(draft: Draft) -> list[Finding]:
    """What all rules say whose variables are sound."""
    return [finding for rule, needs in RULES if not needs & draft.faulty for finding in rule(draft)]


def _control_plane(draft: Draft) -> t.Iterator[Finding]:
    if not any(node.control_plane for node in draft.spec.present):
        group = draft.spec.groups.control_plane
        hint = nearest(group, draft.groups - {draft.spec.groups.workers})
        yield Finding(
            "there is no control-plane host" + (" that is not declared down" if draft.spec.control_plane else ""),
            "at least one",
            f"put a host into the group {group}" + (f"; {hint}" if hint else ""),
        )


def _etcd_members(draft: Draft) -> t.Iterator[Finding]:
    count = len(draft.spec.etcd_members)
    if count and count % 2 == 0:
        yield Finding(
            f"{count} etcd members survive the loss of {(count - 1) // 2}, no more than {count - 1} do",
            "an odd number",
            "add or take away one",
            subject=draft.spec.groups.etcd,
            warning=True,
        )


def _workers(draft: Draft) -> t.Iterator[Finding]:
    if draft.spec.control_plane and not any(node.worker for node in draft.spec.members):
        yield Finding(
            "there is no worker: users' pods run on the control-plane hosts",
            remedy=f"put hosts into the group {draft.spec.groups.workers} if that is not meant",
            subject=draft.spec.groups.workers,
            warning=True,
        )


def _nodes_with_roles(draft: Draft) -> t.Iterator[Finding]:
    for node in draft.spec.present:
        if "ingress" in node.roles and not node.is_node:
            groups = draft.spec.groups
            yield Finding(
                f"in the group {groups.ingress}, but no node",
                f"also in {groups.workers} or {groups.control_plane}",
                host=node.name,
            )


def _known_groups(draft: Draft) -> t.Iterator[Finding]:
    known = {getattr(draft.spec.groups, field.name) for field in dataclasses.fields(draft.spec.groups)}
    for group in sorted(draft.groups - known):
        hint = nearest(group, known) if _may_be_meant(group) else ""
        if hint and group != draft.spec.target:
            yield Finding(
                "gives no role", f"one of {', '.join(sorted(known))}", hint, subject=f"group {group}", warning=True
            )


def _may_be_meant(group: str) -> bool:
    """Whether a group's name looks like one that gives a role; playbooks make groups of their own as they run."""
    return group.startswith("slipway_") and not group.startswith(_OWN_GROUPS)


def _cidr_overlap(draft: Draft) -> t.Iterator[Finding]:
    network = draft.spec.network
    for pods, services in itertools.product(network.pod_cidrs, network.service_cidrs):
        if pods.overlaps(services):
            yield Finding(
                f"pod_cidr {pods} and service_cidr {services} overlap",
                "networks without a common address",
                "choose another for one of them",
                subject="slipway_network",
            )
    for node in draft.spec.members:
        yield from address_in_cidrs(draft.spec, node.name, node.addresses)


def address_in_cidrs(spec: ClusterSpec, host: str, addresses: t.Iterable[t.Any]) -> t.Iterator[Finding]:
    """A node's address that pods or Services could also get."""
    both = (("pod_cidr", spec.network.pod_cidrs), ("service_cidr", spec.network.service_cidrs))
    for address, (name, networks) in itertools.product(addresses, both):
        for network in networks:
            if address in network:
                yield Finding(
                    f"the host's address {address} is inside {name} {network}",
                    "node addresses outside pod_cidr and service_cidr",
                    f"choose another {name}",
                    host,
                    "slipway_network",
                )


def _cidr_sizes(draft: Draft) -> t.Iterator[Finding]:
    network, subject = draft.spec.network, "slipway_network"
    for services in network.service_cidrs:
        if services.prefixlen not in _SERVICE_PREFIXES:
            yield Finding(
                f"service_cidr {services} has a prefix of /{services.prefixlen}",
                "/12 to /28: kube-apiserver takes no larger one, and the DNS address is the tenth",
                subject=subject,
            )
    pods = network.pod_cidrs[0]
    if not pods.prefixlen <= network.node_prefix <= pods.prefixlen + 16:
        yield Finding(
            f"node_prefix {network.node_prefix} does not divide pod_cidr {pods}",
            f"{pods.prefixlen} to {min(28, pods.prefixlen + 16)} for this pod_cidr",
            subject=subject,
        )
        return
    count = sum(node.is_node for node in draft.spec.members)
    if count > network.node_networks:
        yield Finding(
            f"pod_cidr {pods} in /{network.node_prefix} parts ends at {network.node_networks} nodes, there are {count}",
            "a part for every node",
            "choose a larger pod_cidr or a longer node_prefix; neither can change once the cluster stands",
            subject=subject,
        )


def _max_pods(draft: Draft) -> t.Iterator[Finding]:
    room = 2 ** (32 - draft.spec.network.node_prefix) - 3
    for node in draft.spec.present:
        wanted = node.kubelet.get("maxPods", 110)
        if node.is_node and isinstance(wanted, int) and wanted > room:
            yield Finding(
                f"{wanted} pods may run on a node whose /{draft.spec.network.node_prefix} has {room} addresses",
                "an address for every pod",
                "lower slipway_kubelet.maxPods or slipway_network.node_prefix",
                node.name,
                "slipway_network.node_prefix",
                warning=True,
            )


def _duplicates(draft: Draft) -> t.Iterator[Finding]:
    yield from duplicates(draft.spec)


def duplicates(spec: ClusterSpec) -> t.Iterator[Finding]:
    """Two hosts with one address or one Node name."""
    yield from _shared("slipway_node_address", "address", ((node.name, node.address) for node in spec.members))
    nodes = (node for node in spec.members if node.is_node)
    yield from _shared("slipway_node_name", "Node name", ((node.name, node.node_name) for node in nodes))


def _shared(variable: str, what: str, values: t.Iterable[tuple[str, str | None]]) -> t.Iterator[Finding]:
    hosts: dict[str, list[str]] = collections.defaultdict(list)
    for host, value in values:
        if value is not None:
            hosts[value].append(host)
    for value, found in hosts.items():
        if len(found) > 1:
            yield Finding(
                f"{names(found)} have the same {what} {value}",
                f"a {what} of its own for every host",
                f"set {variable}",
                subject=variable,
            )


def _ports(draft: Draft) -> t.Iterator[Finding]:
    spec = draft.spec
    fixed = _fixed_ports(spec)
    taken = {**fixed, spec.apiserver_port: "kube-apiserver"}
    if spec.apiserver_port in fixed:
        yield _port("slipway_apiserver_port", spec.apiserver_port, fixed[spec.apiserver_port])
    if spec.proxy.port in taken:
        yield _port("slipway_proxy.port", spec.proxy.port, taken[spec.proxy.port])


def _fixed_ports(spec: ClusterSpec) -> dict[int, str]:
    return {**_FIXED_PORTS, **({ENDPOINTS_PORT: "slipway_metrics.endpoints"} if spec.metrics.endpoints else {})}


def _port(subject: str, port: int, owner: str) -> Finding:
    return Finding(f"{port} is the port of {owner}", "a port of its own", "choose another", subject=subject)


def _etcd_timing(draft: Draft) -> t.Iterator[Finding]:
    etcd = draft.spec.etcd
    if etcd.election_timeout_ms < 5 * etcd.heartbeat_ms:
        yield Finding(
            f"election_timeout_ms {etcd.election_timeout_ms} with heartbeat_ms {etcd.heartbeat_ms}",
            "an election timeout of at least five heartbeats",
            f"set it to {10 * etcd.heartbeat_ms}",
            subject="slipway_etcd",
        )


def _lifetimes(draft: Draft) -> t.Iterator[Finding]:
    lifetimes = draft.spec.certificates
    if lifetimes.renew_before_days >= lifetimes.days:
        yield Finding(
            f"renew_before_days {lifetimes.renew_before_days} with days {lifetimes.days}",
            "renewal before the end and not at once",
            f"set renew_before_days to {max(1, lifetimes.days // 3)}",
            subject="slipway_certificates",
        )
    if lifetimes.days > lifetimes.ca_days:
        yield Finding(
            f"days {lifetimes.days} with ca_days {lifetimes.ca_days}",
            "certificates that end before their CA",
            subject="slipway_certificates",
        )


def _registries(draft: Draft) -> t.Iterator[Finding]:
    registries = draft.spec.containerd.registries
    subject = "slipway_containerd.registries"
    for host, count in collections.Counter(each.host for each in registries).items():
        if count > 1:
            yield Finding(f"{host} stands there {count} times", "each registry once", subject=subject)
    for each in registries:
        if each.ca and each.skip_verify:
            yield Finding(f"{each.host} has both ca and skip_verify", "one of them", subject=subject)


def _registry_passwords(draft: Draft) -> t.Iterator[Finding]:
    users = {each.host for each in draft.spec.containerd.registries if each.username}
    passwords = set(draft.spec.registry_passwords)
    for host in sorted(users - passwords):
        yield Finding(
            f"{host} has a username and no password",
            "both",
            f"put the password of {host} into slipway_secret_registry_passwords",
            subject="slipway_containerd.registries",
        )
    for host in sorted(passwords - users):
        yield Finding(
            f"a password for {host}, which has no username",
            "a registry of slipway_containerd.registries with a username",
            nearest(host, users),
            subject="slipway_secret_registry_passwords",
        )


def _registry_password(draft: Draft) -> t.Iterator[Finding]:
    if draft.spec.registries and draft.spec.registry_password is None:
        yield Finding(
            f"there is none, and the registry on {names(node.name for node in draft.spec.registries)} has a user",
            "a password",
            "set it, in a vault",
            subject="slipway_secret_registry_password",
        )


def _registry_port(draft: Draft) -> t.Iterator[Finding]:
    spec = draft.spec
    taken = {**_fixed_ports(spec), spec.apiserver_port: "kube-apiserver", spec.proxy.port: "the API proxy"}
    if spec.registries and spec.registry.port in taken:
        yield _port("slipway_registry.port", spec.registry.port, taken[spec.registry.port])


def _docker_hosts(draft: Draft) -> t.Iterator[Finding]:
    """A kubelet's containerd and the one that Docker's packages bring do not go together."""
    for node in draft.spec.nodes.values():
        if DOCKER in node.roles and node.is_node and not node.absent:
            yield Finding(
                f"is a node of the cluster, whose containerd would get in the way of Docker's "
                f"(group {draft.spec.groups.docker})",
                "a host without a kubelet for Docker",
                f"take it out of {draft.spec.groups.docker}; images are built elsewhere and pulled from a registry",
                host=node.name,
            )


def _docker_pools(draft: Draft) -> t.Iterator[Finding]:
    network = draft.spec.network
    ours = [("pod_cidr", each) for each in network.pod_cidrs] + [
        ("service_cidr", each) for each in network.service_cidrs
    ]
    for node in draft.spec.nodes.values():
        pools = [each for pool in node.docker.address_pools for each in pool.networks] if DOCKER in node.roles else []
        for pool, (key, cidr) in itertools.product(pools, ours):
            if pool.overlaps(cidr):
                yield Finding(
                    f"the address pool {pool} overlaps slipway_network.{key} {cidr}",
                    "networks that lead nowhere else",
                    "choose another base",
                    node.name,
                    "slipway_docker.address_pools",
                )


def _ingress(draft: Draft) -> t.Iterator[Finding]:
    spec = draft.spec
    if spec.has_ingress and spec.ingress.expose == "load_balancer" and not spec.load_balancer.pools:
        yield Finding(
            "load_balancer without an address",
            "pools in slipway_load_balancer, or host",
            subject="slipway_ingress.expose",
        )


def _address_pools(draft: Draft) -> t.Iterator[Finding]:
    subject = "slipway_load_balancer.pools"
    pools = draft.spec.load_balancer.pools
    for name, count in collections.Counter(pool.name for pool in pools).items():
        if count > 1:
            yield Finding(f"{name} stands there {count} times", "each pool once", subject=subject)
    ranges = sorted((texts.range_ends(each), f"{pool.name} {each}") for pool in pools for each in pool.addresses)
    for ((_first, last), one), ((first, _last), other) in itertools.pairwise(ranges):
        if first <= last:
            yield Finding(f"{one} and {other} overlap", "each address once", subject=subject)
    for node in draft.spec.members:
        for (first, last), pool in ranges:
            if node.address and first <= int(node.addresses[0]) <= last:
                yield Finding(f"{pool} contains its address", "addresses that nobody uses", "", node.name, subject)


def _storage(draft: Draft) -> t.Iterator[Finding]:
    storage, subject = draft.spec.storage, "slipway_storage.path"
    own = next((path for path in _OWN_PATHS if _meet(path, storage.path)), "")
    system = next((path for path in _SYSTEM_PATHS if _is_below(path, storage.path)), "")
    remedy = "choose a directory that nothing else uses, such as /var/lib/slipway-volumes"
    if own:
        yield Finding(f"{storage.path} and Slipway's {own} lie in one another", "apart", remedy, subject=subject)
    elif system:
        yield Finding(f"{storage.path} lies in {system}, which is the system's", "apart", remedy, subject=subject)
    elif storage.path in _SHARED_PATHS:
        yield Finding(f"{storage.path} is there for others too", "a directory of its own", remedy, subject=subject)
    if storage.enabled:
        yield Finding(
            "a volume stays on the disk of one node: its pods run there only, and its data is lost with that disk",
            remedy="keep copies elsewhere; whoever makes a claim is not told of it",
            subject="slipway_storage",
            warning=True,
        )


def _meet(one: str, other: str) -> bool:
    """Whether one of two paths lies in the other."""
    return _is_below(one, other) or _is_below(other, one)


def _is_below(root: str, path: str) -> bool:
    return path == root or path.startswith(f"{root}/")


def _kube_proxy_mode(draft: Draft) -> t.Iterator[Finding]:
    mode = draft.spec.kube_proxy.get("mode", "nftables")
    if mode not in {"nftables", "iptables"}:
        yield Finding(
            shown(mode),
            "nftables or iptables",
            "ipvs is leaving Kubernetes; nftables scales as well" if mode == "ipvs" else "",
            subject="slipway_kube_proxy.mode",
        )


def _profile_groups(draft: Draft) -> t.Iterator[Finding]:
    for index, profile in enumerate(draft.spec.node_profiles):
        for group in profile.groups:
            if not _anyone_in(group, draft):
                yield Finding(
                    f"no host of the cluster is in the group {shown(group)}",
                    remedy=nearest(group, draft.groups),
                    subject=f"slipway_node_profiles[{index}].groups",
                    warning=True,
                )
        yield from _useless_profile(index, profile)


def _anyone_in(group: str, draft: Draft) -> bool:
    return any(group in node.groups for node in draft.spec.nodes.values())


def _useless_profile(index: int, profile: NodeProfile) -> t.Iterator[Finding]:
    if not profile.groups:
        yield Finding("is empty", "at least one group", subject=f"slipway_node_profiles[{index}].groups")


def _node_networks(draft: Draft) -> t.Iterator[Finding]:
    for node in draft.spec.present:
        if WORKER in node.roles and node.etcd and not node.control_plane:
            yield Finding(
                "is an etcd member and takes users' pods, which compete for its disk",
                remedy=f"take it out of {draft.spec.groups.etcd} or {draft.spec.groups.workers}",
                host=node.name,
                warning=True,
            )


RULES: tuple[tuple[Rule, frozenset[str]], ...] = (
    (_control_plane, frozenset({"slipway_groups", "slipway_node_absent"})),
    (_etcd_members, frozenset({"slipway_groups", "slipway_node_absent"})),
    (_workers, frozenset({"slipway_groups", "slipway_node_absent"})),
    (_nodes_with_roles, frozenset({"slipway_groups", "slipway_node_absent"})),
    (_known_groups, frozenset({"slipway_groups", "slipway_target"})),
    (_cidr_overlap, frozenset({"slipway_network", "slipway_node_address"})),
    (_cidr_sizes, frozenset({"slipway_network", "slipway_groups", "slipway_node_absent"})),
    (_max_pods, frozenset({"slipway_network", "slipway_kubelet", "slipway_node_profiles"})),
    (_duplicates, frozenset({"slipway_node_address", "slipway_node_name"})),
    (_ports, frozenset({"slipway_apiserver_port", "slipway_proxy"})),
    (_etcd_timing, frozenset({"slipway_etcd"})),
    (_lifetimes, frozenset({"slipway_certificates"})),
    (_registries, frozenset({"slipway_containerd"})),
    (_registry_passwords, frozenset({"slipway_containerd", "slipway_secret_registry_passwords"})),
    (_registry_password, frozenset({"slipway_groups", "slipway_node_absent", "slipway_secret_registry_password"})),
    (_registry_port, frozenset({"slipway_registry", "slipway_apiserver_port", "slipway_proxy", "slipway_groups"})),
    (_docker_hosts, frozenset({"slipway_groups", "slipway_node_absent"})),
    (_docker_pools, frozenset({"slipway_docker", "slipway_network", "slipway_groups"})),
    (_ingress, frozenset({"slipway_ingress", "slipway_load_balancer", "slipway_groups"})),
    (_address_pools, frozenset({"slipway_load_balancer", "slipway_node_address"})),
    (_storage, frozenset({"slipway_storage"})),
    (_kube_proxy_mode, frozenset({"slipway_kube_proxy"})),
    (_profile_groups, frozenset({"slipway_node_profiles"})),
    (_node_networks, frozenset({"slipway_groups"})),
)
"""Every rule with the variables that must be sound for it to say anything."""
