# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether these hosts can become, or stay, this cluster: pure checks over what the probes saw, all of them at once."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from ...module_utils.core.places import PACKAGES, PODS
from ...module_utils.core.problems import Problem
from ...module_utils.core.reach import PROCESS
from .addons import ingress, load_balancer
from .findings import Finding, grouped, names
from .probe import Listener, Probe
from .spec.definitions import PREFLIGHT
from .spec.model import ENDPOINTS_PORT, ClusterSpec, NodeSpec

GIB = 2**30
MIB = 2**20
PYTHON_MINIMUM = (3, 9)
SYSTEMD_MINIMUM = 247
"""The oldest systemd that knows every setting our units use (LoadCredential, ProtectProc)."""
KERNEL_MINIMUM = (5, 13)
"""kube-proxy's nftables mode asks for it (KEP-3866)."""
CLOCK_LIMIT_SECONDS = 5.0
"""etcd and certificates made a moment ago take about this much difference."""
TESTED = {"debian": frozenset({"12", "13"})}
ARCHITECTURES = frozenset({"amd64", "arm64"})
_CLUSTER_CA = "kubernetes"
_INSTALLS_PACKAGES = frozenset({"debian", "ubuntu"})
_ANYWHERE = frozenset({"", "*", "0.0.0.0", "::", "[::]"})  # noqa: S104


@dataclasses.dataclass(frozen=True)
class Clock:
    """The controller's clock right before and right after a host was probed, in seconds since the epoch."""

    before: float
    after: float

    def difference(self, host: float) -> float:
        """How far the host is off, in seconds: 0 if its time lies between the two, negative if it is behind."""
        return min(host - self.before, 0.0) or max(host - self.after, 0.0)


@dataclasses.dataclass(frozen=True)
class Floor:
    """How many bytes are too few: below ``least`` a host is refused, below ``good`` there is a warning."""

    role: str
    least: int
    good: int


@dataclasses.dataclass(frozen=True)
class Space:
    """Free bytes a path needs on a host with a role: before the first installation, and later for the next version."""

    path: str
    role: str
    new: int
    installed: int


@dataclasses.dataclass(frozen=True)
class Port:
    """A port a role listens on, whose it is, and on which address (empty: all).

    ``process`` is the program, if it is the pods' slice that has it: there are strangers in it, too.
    """

    port: int
    role: str
    unit: str
    address: str = ""
    process: str = ""

    @property
    def owner(self) -> str:
        """Who is to listen there, in a word."""
        return self.process or self.unit.removesuffix(".service")


MEMORY = (
    Floor("control_plane", 900 * MIB, 1700 * MIB),
    Floor("etcd", 450 * MIB, 900 * MIB),
    Floor("worker", 450 * MIB, 700 * MIB),
)
SPACE = (
    Space("/opt/slipway", "any", GIB, 512 * MIB),
    Space("/var/lib/etcd", "etcd", 2 * GIB, 512 * MIB),
    Space("/var/lib/containerd", "node", 2 * GIB, GIB),
    Space("/var/lib/slipway", "node", GIB, 256 * MIB),
    Space("/var/lib/kubelet", "node", GIB, 256 * MIB),
    Space("/var/log", "any", 512 * MIB, 128 * MIB),
)


@dataclasses.dataclass(frozen=True)
class Seen:
    """Everything the checks look at. ``probes`` has only hosts that are to be in the cluster."""

    spec: ClusterSpec
    probes: t.Mapping[str, Probe]
    clocks: t.Mapping[str, Clock]
    architectures: frozenset[str]

    def pairs(self) -> t.Iterator[tuple[NodeSpec, Probe]]:
        """Every probed host with what is wanted of it, by name."""
        for name in sorted(self.probes):
            yield self.spec.nodes[name], self.probes[name]


def check(
    spec: ClusterSpec,
    probes: t.Mapping[str, Probe],
    *,
    silent: t.Mapping[str, str] | None = None,
    clocks: t.Mapping[str, Clock] | None = None,
    architectures: t.AbstractSet[str] = ARCHITECTURES,
    outside: t.AbstractSet[str] = frozenset(),
) -> list[Problem]:
    """Every problem of every host, errors first; the same problem of several hosts is said once.

    ``silent`` are hosts that could not be probed and why (in words); a host of the spec that is in neither is silent
    too, unless it is ``outside`` the limit. The problems of silent hosts come first and name them all in ``where``,
    separated by commas. ``clocks`` are the controller's times around each probe; ``architectures`` those there are
    artefacts for. Errors of the checks named in the spec's ``ignore_preflight`` come back as warnings.
    """
    wanted = {node.name: probes[node.name] for node in spec.present if node.name in probes}
    seen = Seen(spec, wanted, clocks or {}, frozenset(architectures))
    reasons = silent or {}
    unheard = [node.name for node in spec.present if node.name not in wanted and node.name not in outside]
    missing = {name: reasons.get(name, "no answer") for name in unheard}
    problems = grouped((silence(host, reason) for host, reason in missing.items()), most=len(missing))
    found = (_named(name, finding, spec.ignore_preflight) for name in CHECKS for finding in CHECKS[name](seen))
    return problems + grouped(found)


def silence(host: str, reason: str) -> Finding:
    """Why a host did not answer: ``reason`` is what Ansible says, with what the host wrote on stderr if there is any.

    ansible-core 2.21 says in its own words that Python is older than 3.9; one older than 3.7 stops before that.
    """
    match = re.search(
        r"requires Python .*Current version: (\d+\.\d+(\.\d+)?)|Python (\S+) is too old", reason, re.DOTALL
    )
    if match:
        return python_too_old(host, match.group(1) or match.group(3))
    if "future feature annotations is not defined" in reason:
        return python_too_old(host, "3.6 or older")
    if re.search(
        r"python[0-9.]*: (command )?not found|interpreter .*not found|there is no Python", reason, re.IGNORECASE
    ):
        return python_too_old(host, "")
    return unreachable(host, reason)


def unreachable(host: str, reason: str) -> Finding:
    """The finding for a host that could not be probed; ``reason`` is one line of Ansible's message."""
    reason = " ".join(reason.split())
    return Finding(
        f"cannot be reached: {reason}",
        "an answer from every host of the cluster",
        "check address, SSH key and power, or set slipway_node_absent for a host that is down on purpose",
        host,
    )


def python_too_old(host: str, version: str) -> Finding:
    """The finding for a host whose Python cannot run modules; empty version: none was found."""
    return Finding(
        f"Python {version} is too old" if version else "there is no Python",
        f"Python {'.'.join(map(str, PYTHON_MINIMUM))} or newer",
        "install one and point ansible_python_interpreter at it",
        host,
    )


def old_python(host: str, version: str) -> list[Finding]:
    """What is wrong with a host's Python; nothing if its version will do. Empty version: there is none."""
    return [] if version and _numbers(version) >= PYTHON_MINIMUM else [python_too_old(host, version)]


def _named(name: str, finding: Finding, ignored: t.AbstractSet[str]) -> Finding:
    if finding.warning or name not in PREFLIGHT:
        return finding
    if name in ignored:
        remedy = f"{finding.remedy} (check {name} is ignored)".strip()
        return dataclasses.replace(finding, warning=True, remedy=remedy)
    hint = f"or go on with slipway_ignore_preflight: [{name}]"
    return dataclasses.replace(finding, remedy=f"{finding.remedy}, {hint}" if finding.remedy else hint)


def has_role(node: NodeSpec, role: str) -> bool:
    """Whether a host has a role, or one of several with ``|`` between them.

    ``node`` stands for every host with a kubelet, ``any`` for every host.
    """
    has = {"any": True, "node": node.is_node}
    return any(has.get(each, each in node.roles) for each in role.split("|"))


def _os(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        if probe.os_version not in TESTED.get(probe.os_id, frozenset()):
            yield Finding(
                f"{probe.os_id or 'an unknown system'} {probe.os_version}".strip() + " has not been tested",
                "Debian 12 or 13",
                host=node.name,
                warning=True,
            )


def _architecture(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        if probe.architecture not in seen.architectures:
            yield Finding(
                f"there are no artefacts for the architecture {probe.architecture}",
                " or ".join(sorted(seen.architectures)),
                "build or lock artefacts for it",
                node.name,
            )


def _numbers(text: str) -> tuple[int, ...]:
    """The first two numbers of a version."""
    return tuple(int(part) for part in re.findall(r"\d+", text)[:2])


def _kernel(seen: Seen) -> t.Iterator[Finding]:
    if seen.spec.kube_proxy.get("mode", "nftables") != "nftables":
        return
    for node, probe in seen.pairs():
        if node.is_node and _numbers(probe.kernel) < KERNEL_MINIMUM:
            yield Finding(
                f"Linux {probe.kernel} is too old for kube-proxy's nftables mode",
                "Linux 5.13 or newer",
                "set slipway_kube_proxy.mode: iptables",
                node.name,
            )


def _python(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        yield from old_python(node.name, probe.python)


def _systemd(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        if probe.systemd < SYSTEMD_MINIMUM:
            yield Finding(
                f"systemd {probe.systemd} is too old" if probe.systemd else "systemd does not run",
                f"systemd {SYSTEMD_MINIMUM} or newer",
                "use a newer release of the operating system",
                node.name,
            )


def _cgroup(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        if node.is_node and probe.cgroup != 2 and node.kubelet.get("failCgroupV1") is not False:
            yield Finding(
                f"cgroup v{probe.cgroup}, with which the kubelet refuses to start",
                "cgroup v2",
                "boot without systemd.unified_cgroup_hierarchy=0, or set slipway_kubelet.failCgroupV1: false",
                node.name,
            )


def _memory(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        floors = [floor for floor in MEMORY if has_role(node, floor.role)]
        for floor in floors[:1]:
            if probe.memory_bytes < floor.good:
                least = probe.memory_bytes < floor.least
                yield Finding(
                    f"{_size(probe.memory_bytes)} of memory",
                    f"at least {_size(floor.least if least else floor.good)} for its role {floor.role}",
                    "give it more",
                    node.name,
                    warning=not least,
                )


def _size(count: float) -> str:
    """Bytes for a person."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def _disk(seen: Seen) -> t.Iterator[Finding]:
    """Paths on one file system need the sum of what each needs."""
    for node, probe in seen.pairs():
        for mount, (needed, free, paths) in _space_by_mount(node, probe).items():
            if free < needed:
                yield Finding(
                    f"{_size(free)} free for {', '.join(paths)} ({mount})",
                    f"at least {_size(needed)}",
                    "free some or mount more",
                    node.name,
                )
        yield from _pressure(node, probe)


def _space_by_mount(node: NodeSpec, probe: Probe) -> dict[str, tuple[int, int, tuple[str, ...]]]:
    """File system → bytes needed, bytes free, paths."""
    found: dict[str, tuple[int, int, tuple[str, ...]]] = {}
    for space in SPACE:
        mount = probe.mounts.get(space.path)
        if mount is not None and has_role(node, space.role):
            needed, _unused, paths = found.get(mount.mount or space.path, (0, 0, ()))
            needed += space.installed if probe.installed else space.new
            found[mount.mount or space.path] = (needed, mount.free_bytes, (*paths, space.path))
    return found


def _pressure(node: NodeSpec, probe: Probe) -> t.Iterator[Finding]:
    """The kubelet evicts pods and takes none when less than a share of the disk is free."""
    limits = node.kubelet.get("evictionHard") or {}
    for signal, path, default in (("nodefs", "/var/lib/kubelet", "10%"), ("imagefs", "/var/lib/containerd", "15%")):
        limit = re.fullmatch(r"(\d+(?:\.\d+)?)%", str(limits.get(f"{signal}.available", default)))
        mount = probe.mounts.get(path)
        if node.is_node and mount and mount.total_bytes and limit:
            free = 100 * mount.free_bytes / mount.total_bytes
            if free < float(limit.group(1)):
                yield Finding(
                    f"{free:.0f} % of the disk of {path} are free: the kubelet will report DiskPressure and evict pods",
                    f"{limit.group(1)} %, by evictionHard {signal}.available",
                    "free some, or set slipway_kubelet.evictionHard",
                    node.name,
                    warning=True,
                )


def _swap(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        if not probe.swaps or not node.is_node:
            continue
        if node.kubelet.get("failSwapOn") is True and node.host.swap == "keep":
            yield Finding(
                "swap is on, and slipway_kubelet.failSwapOn makes the kubelet refuse to start",
                "one or the other",
                "leave failSwapOn out, or set slipway_host.swap: disable",
                node.name,
            )
        elif node.host.swap == "disable":
            yield Finding(
                "swap is on",
                remedy="Slipway turns it off, now and at boot; slipway_host.swap: keep leaves it",
                host=node.name,
                warning=True,
            )


def _clock(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        clock = seen.clocks.get(node.name)
        difference = clock.difference(probe.time) if clock else 0.0
        if abs(difference) > CLOCK_LIMIT_SECONDS:
            yield Finding(
                f"its clock is {abs(difference):.0f} s {'ahead of' if difference > 0 else 'behind'} the controller's",
                f"at most {CLOCK_LIMIT_SECONDS:.0f} s",
                "set the controller's clock, for the host's is synchronised"
                if probe.ntp_synchronized
                else "set it and run a time service such as systemd-timesyncd or chrony",
                node.name,
                warning=bool(probe.ntp_synchronized),
            )
        elif probe.ntp_synchronized is False:
            yield Finding(
                "its clock is not synchronised",
                "a time service such as systemd-timesyncd or chrony",
                host=node.name,
                warning=True,
            )


def ports(spec: ClusterSpec) -> tuple[Port, ...]:
    """The TCP ports of each role, all of them Slipway's own choice or the spec's."""
    loopback = "127.0.0.1"
    return (
        Port(spec.apiserver_port, "control_plane", "kube-apiserver.service"),
        Port(10257, "control_plane", "kube-controller-manager.service"),
        Port(10259, "control_plane", "kube-scheduler.service"),
        Port(2379, "etcd", "etcd.service"),
        Port(2380, "etcd", "etcd.service"),
        Port(2381, "etcd", "etcd.service", loopback),
        Port(10248, "node", "kubelet.service", loopback),
        Port(10250, "node", "kubelet.service"),
        Port(10249, "node", "kube-proxy.service", loopback),
        Port(10256, "node", "kube-proxy.service"),
        Port(spec.proxy.port, "any", "slipway-proxy.service", loopback),
        Port(spec.registry.port, "registry", "slipway-registry.service"),
        *([Port(ENDPOINTS_PORT, "node|etcd", "slipway-metrics.service")] if spec.metrics.endpoints else []),
    )


def addon_ports(spec: ClusterSpec, node: NodeSpec) -> tuple[Port, ...]:
    """The TCP ports of pods that share the host's network."""
    loopback = "127.0.0.1"
    traefik = speaker = dict[int, str]()
    hosts = spec.ingress_nodes if spec.has_ingress and spec.ingress.expose == "host" else ()
    if node.name in [each.name for each in hosts]:
        # Its pings have a loopback address of their own: only who is on all addresses is in their way.
        traefik = {80: "", 443: "", ingress.METRICS_PORT: loopback, ingress.PING_PORT: "127.x.y.z"}
    if spec.load_balancer.pools and node.is_node:
        speaker = {
            load_balancer.MEMBERS_PORT: node.address or "",
            load_balancer.METRICS_PORT: "",
            load_balancer.HEALTH_PORT: loopback,
        }
    pods = (("traefik", traefik), ("speaker", speaker))
    return tuple(Port(port, "node", PODS, address, process) for process, own in pods for port, address in own.items())


def _ports(seen: Seen) -> t.Iterator[Finding]:
    wanted = ports(seen.spec)
    # What listens for the check named so is ended before that is done again.
    ended = set() if "reach" in seen.spec.ignore_preflight else {PROCESS}
    for node, probe in seen.pairs():
        for port in (*wanted, *addon_ports(seen.spec, node)):
            if has_role(node, port.role):
                others = [each for each in probe.listening if _in_the_way(port, each) and each.process not in ended]
                if others:
                    yield _taken(node, port, others[0])


def _in_the_way(port: Port, listener: Listener) -> bool:
    address = listener.address.partition("%")[0]
    meets = not port.address or address in _ANYWHERE or address == port.address
    ours = listener.unit == port.unit and port.process in ("", listener.process)
    return listener.protocol == "tcp" and listener.port == port.port and meets and not ours


def _taken(node: NodeSpec, port: Port, other: Listener) -> Finding:
    who = " of ".join(part for part in (other.process, other.unit) if part) or "an unknown program"
    return Finding(
        f"port {port.port} is in use by {who}",
        f"port {port.port} free for {port.owner}",
        f"stop it; ss -ltnp 'sport = :{port.port}' shows it",
        node.name,
    )


def _programs(seen: Seen) -> t.Iterator[Finding]:
    """Installing is the host role's work where it may and can."""
    for node, probe in seen.pairs():
        missing = sorted(name for name in PACKAGES if not probe.programs.get(name))
        if not missing:
            continue
        packages = " ".join(sorted({PACKAGES[name] for name in missing}))
        installs = node.host.packages and probe.os_id in _INSTALLS_PACKAGES
        yield Finding(
            f"not installed: {', '.join(missing)}",
            "" if installs else f"the packages {packages} (Debian's names)",
            f"Slipway installs {packages} from the distribution's sources" if installs else "install them",
            node.name,
            warning=installs,
        )


def _identity(seen: Seen) -> t.Iterator[Finding]:
    for hosts, value in _same(seen, lambda probe: probe.machine_id):
        yield Finding(
            f"{names(hosts)} have the same machine-id {value}: a cloned image, or one host under two names",
            "a machine-id of its own for every host",
            "on all but one: rm /etc/machine-id && systemd-machine-id-setup, and reboot",
            subject="machine-id",
        )
    for hosts, value in _same(seen, lambda probe: probe.hostname):
        yield Finding(
            f"{names(hosts)} have the same host name {value}",
            "a host name of its own for every host",
            "hostnamectl set-hostname NAME",
            subject="hostname",
        )


def _same(seen: Seen, key: t.Callable[[Probe], str]) -> t.Iterator[tuple[list[str], str]]:
    hosts: dict[str, list[str]] = {}
    for node, probe in seen.pairs():
        if key(probe):
            hosts.setdefault(key(probe), []).append(node.name)
    return ((found, value) for value, found in hosts.items() if len(found) > 1)


def _address(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        own = sorted({each.address for each in probe.addresses if not ipaddress.ip_address(each.address).is_loopback})
        if node.address is not None and probe.addresses and probe.interface_of(node.address) is None:
            yield Finding(
                f"no interface has its address {node.address}",
                f"one of {', '.join(own)}" if own else "one of its own",
                "set slipway_node_address",
                node.name,
            )


def _networks(seen: Seen) -> t.Iterator[Finding]:
    """Only before the first installation: later, pods' own interfaces are in these networks."""
    network = seen.spec.network
    ours = (("pod_cidr", network.pod_cidrs), ("service_cidr", network.service_cidrs))
    for node, probe in seen.pairs():
        for each in () if probe.installed else probe.addresses:
            local = ipaddress.ip_interface(f"{each.address}/{each.prefix}").network
            for key, cidrs in ours:
                if any(cidr.overlaps(local) for cidr in cidrs if cidr.version == local.version):
                    yield Finding(
                        f"its network {local} ({each.interface}) overlaps slipway_network.{key}",
                        "networks of the cluster that lead nowhere else",
                        f"choose another {key}",
                        node.name,
                    )


def _resolvers(seen: Seen) -> t.Iterator[Finding]:
    if seen.spec.dns.upstream or not seen.spec.dns.enabled:
        return
    for node, probe in seen.pairs():
        known = [text for text in probe.resolvers if _is_ip(text)]
        if node.is_node and known and all(_plain_ip(text).is_loopback for text in known):
            yield Finding(
                f"its only resolvers are its own loopback ({', '.join(known)}), which in a pod is the pod itself",
                "a resolver that pods can reach",
                "set slipway_dns.upstream",
                node.name,
            )


def _plain_ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    return ipaddress.ip_address(text.partition("%")[0])


def _is_ip(text: str) -> bool:
    try:
        _plain_ip(text)
    except ValueError:
        return False
    return True


def _proxy(seen: Seen) -> t.Iterator[Finding]:
    """Names of the variables only: a proxy's address may carry a password."""
    for node, probe in seen.pairs():
        environment = {name.lower(): value for name, value in probe.proxy_environment.items()}
        used = sorted(name for name, value in environment.items() if value and name != "no_proxy")
        missing = uncovered(seen.spec, environment.get("no_proxy", "")) if used else []
        if missing:
            yield Finding(
                f"{', '.join(used)} would catch {', '.join(missing)}",
                "no_proxy with the cluster's networks, node addresses and domain",
                f"add to no_proxy: {','.join(missing)}",
                node.name,
            )


def uncovered(spec: ClusterSpec, no_proxy: str) -> list[str]:
    """What of the cluster a no_proxy leaves to the proxy: networks, node addresses, domain."""
    entries = [entry.strip() for entry in no_proxy.split(",") if entry.strip()]
    if "*" in entries:
        return []
    networks = [network for network in map(_network, entries) if network is not None]
    wanted = [*spec.network.pod_cidrs, *spec.network.service_cidrs]
    addresses = [address for node in spec.present for address in node.addresses]
    missing = [str(each) for each in wanted if not _covered(each, networks)]
    missing += [str(each) for each in addresses if not _covered(ipaddress.ip_network(each), networks)]
    suffixes = {entry.lstrip(".") for entry in entries}
    domain = spec.dns.domain
    return (
        missing if any(domain == each or domain.endswith(f".{each}") for each in suffixes) else [*missing, f".{domain}"]
    )


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _covered(
    wanted: ipaddress.IPv4Network | ipaddress.IPv6Network,
    networks: t.Iterable[ipaddress.IPv4Network | ipaddress.IPv6Network],
) -> bool:
    first, last = wanted[0], wanted[-1]
    return any(first in network and last in network for network in networks)


def _kubeadm(seen: Seen) -> t.Iterator[Finding]:
    for node, probe in seen.pairs():
        if probe.kubeadm_leftovers:
            yield Finding(
                f"kubeadm left {', '.join(probe.kubeadm_leftovers)}",
                "no other cluster's files",
                "kubeadm reset, if that cluster is not needed",
                node.name,
            )


def _belonging(seen: Seen) -> t.Iterator[Finding]:
    """The mark a host carries: it names another cluster, or another one of the same name."""
    marked = {node.name: probe.cluster for node, probe in seen.pairs() if probe.cluster is not None}
    for host, mark in marked.items():
        if mark.name != seen.spec.name:
            yield Finding(
                f"belongs to the cluster {mark.name}",
                f"a host of the cluster {seen.spec.name}, or a bare one",
                "take it out of this inventory, or reset it there; a cluster's name cannot change",
                host,
            )
    ids: dict[str, list[str]] = {}
    for host, mark in marked.items():
        if mark.name == seen.spec.name:
            ids.setdefault(mark.id, []).append(host)
    if len(ids) > 1:
        yield Finding(
            f"hosts are of {len(ids)} clusters of that name: " + "; ".join(names(hosts) for hosts in ids.values()),
            "hosts of one cluster",
            "reset the hosts that are not of this one",
            subject=f"cluster {seen.spec.name}",
        )


def is_ours(probe: Probe) -> bool:
    """Whether Slipway has begun on the host: only then can keys and data there be its own."""
    return probe.cluster is not None or probe.installed


def _leftovers(seen: Seen) -> t.Iterator[Finding]:
    """Other kinds of CA and etcd's data; whether the cluster's own CA is foreign, the planner judges by its traces."""
    for node, probe in seen.pairs():
        if is_ours(probe):
            continue
        remedy = "if nobody needs that cluster, remove it from the host; nothing was touched"
        others = sorted(set(probe.authorities) - {_CLUSTER_CA})
        if others:
            found = ", ".join(others)
            yield Finding(f"has a CA that Slipway did not make ({found})", "no other cluster's keys", remedy, node.name)
        if probe.etcd_data:
            yield Finding("/var/lib/etcd holds data that is not Slipway's", "no other etcd's data", remedy, node.name)


def _authorities(seen: Seen) -> t.Iterator[Finding]:
    """One CA of each other kind in the whole cluster; the cluster's own is judged by the planner."""
    for kind in sorted({kind for _unused, probe in seen.pairs() for kind in probe.authorities} - {_CLUSTER_CA}):
        hosts: dict[str, list[str]] = {}
        for node, probe in seen.pairs():
            if kind in probe.authorities:
                hosts.setdefault(probe.authorities[kind], []).append(node.name)
        if len(hosts) > 1:
            said = "; ".join(f"{names(found)}: {value[:16]}…" for value, found in hosts.items())
            yield Finding(
                f"hosts have different CAs: {said}",
                "the same CA on all hosts",
                "find out which is the cluster's and reset the other hosts; nothing was touched",
                subject=f"certificate authority {kind}",
            )


CHECKS: t.Mapping[str, t.Callable[[Seen], t.Iterator[Finding]]] = {
    "os": _os,
    "architecture": _architecture,
    "kernel": _kernel,
    "python": _python,
    "systemd": _systemd,
    "cgroup": _cgroup,
    "memory": _memory,
    "disk": _disk,
    "swap": _swap,
    "clock": _clock,
    "ports": _ports,
    "programs": _programs,
    "identity": _identity,
    "address": _address,
    "networks": _networks,
    "resolvers": _resolvers,
    "proxy": _proxy,
    "kubeadm": _kubeadm,
    "cluster": _belonging,
    "leftovers": _leftovers,
    "authorities": _authorities,
}
"""Every check by name. The last three guard keys and data: they are not in PREFLIGHT and cannot be ignored."""
