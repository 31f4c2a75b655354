# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts must reach which others on which ports, tried for real.

Before a host becomes part of the cluster: pairs with a host on which Slipway has put nothing yet. Such a host listens
itself for a minute; what runs on the others is only connected to. So the tunnel's port can only be tried towards hosts
that have none yet.

For a plan: pairs of hosts that are in the cluster. What runs there is connected to, and the tunnel is gone through.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.reach import PROCESS, TUNNEL

from .layout import Layout, Node
from .probe import Probe
from .targets.network import VXLAN_OVERHEAD_BYTES, pod_mtu

CHECK = "reach"
FULL_MATRIX_HOSTS = 50
NEIGHBOURS = 3
"""Beyond so many hosts each tries the control plane, etcd and so many neighbours in the order of names."""
ETCD_CLIENTS, ETCD_PEERS, KUBELET, VXLAN, SEED = 2379, 2380, 10250, 8472, 6445
LISTEN_SECONDS = 60
LISTEN_SECONDS_PER_HOST = 4
"""How long a host listens at most: Ansible may do few hosts at a time. It ends as soon as all others have called."""


@dataclasses.dataclass(frozen=True)
class Host:
    """A host for this purpose: ``new`` if nothing of Slipway's is there yet, ``listening`` are TCP ports in use.

    ``tunnel`` is its address in flannel's tunnel, empty if it has none; ``forwards`` is whether it passes packets on.
    ``seed`` is whether the others are going to fetch the bundle's artefacts from it.
    """

    node: Node
    new: bool
    kubelet: bool
    listening: frozenset[int]
    asked: bool = True
    tunnel: str = ""
    forwards: bool = True
    seed: bool = False


@dataclasses.dataclass(frozen=True)
class Flow:
    """A port, and what it is for."""

    port: int
    protocol: str
    purpose: str


Calls = t.Mapping[tuple[str, str], t.Sequence[dict[str, t.Any]]]
"""What is tried, by who tries it and whom."""


def served(probe: Probe) -> frozenset[int]:
    """TCP ports on which somebody else can be reached on a host."""
    return frozenset(
        each.port for each in probe.listening if not each.address.startswith("127.") and each.process != PROCESS
    )


def tunnel_end(probe: Probe) -> str:
    """The address that a host has in flannel's tunnel, empty if it has none."""
    return next((each.address for each in probe.addresses if each.interface == TUNNEL and ":" not in each.address), "")


def flows(layout: Layout, source: Host, target: Host) -> list[Flow]:
    """What the source needs of the target once both are in the cluster, and to become part of it."""
    found = []
    if target.seed and source.new and target.new:
        found.append(Flow(SEED, "tcp", "the bundle's artefacts, which it gives to the others"))
    if target.node.control_plane:
        found.append(Flow(layout.api_port, "tcp", "the API server"))
    if target.node.etcd and (source.node.control_plane or source.node.etcd):
        found.append(Flow(ETCD_CLIENTS, "tcp", "etcd's clients"))
    if target.node.etcd and source.node.etcd:
        found.append(Flow(ETCD_PEERS, "tcp", "etcd's members"))
    if source.node.control_plane and target.kubelet:
        found.append(Flow(KUBELET, "tcp", "the kubelet, which the API server asks for logs and exec"))
    if layout.network == "flannel" and source.kubelet and target.kubelet:
        found.append(Flow(VXLAN, "udp", "traffic between pods (VXLAN)"))
    return found


def plan_reach(
    layout: Layout, hosts: t.Mapping[str, Host], probes: t.Mapping[str, Probe]
) -> dict[str, dict[str, t.Any]]:
    """For each host that takes part: whom it tries, what it listens on for whom, and what else it looks at."""
    calls = _calls(layout, hosts)
    return {
        name: {
            "targets": _targets(layout, hosts, calls, name),
            "listen": _listen(name, calls),
            "seconds": LISTEN_SECONDS + LISTEN_SECONDS_PER_HOST * len(hosts),
            "resolvers": list(probes[name].resolvers) if own.new else [],
            "disk": "/var/lib/etcd" if own.new and own.node.etcd and not probes[name].etcd_data else "",
        }
        for name, own in sorted(hosts.items())
        if own.asked and (own.new or any(name in pair for pair in calls))
    }


def plan_ways(layout: Layout, hosts: t.Mapping[str, Host]) -> dict[str, list[dict[str, t.Any]]]:
    """For each host that is in the cluster and was asked: whom of the others in it it tries, and on what."""
    calls = _calls(layout, hosts, settled=True)
    return {name: _targets(layout, hosts, calls, name) for name in sorted({source for source, _target in calls})}


def _calls(layout: Layout, hosts: t.Mapping[str, Host], *, settled: bool = False) -> Calls:
    return {
        (source, target): tried
        for source in sorted(hosts)
        for target in partners(hosts, source, settled=settled)
        if (tried := _tried(layout, hosts[source], hosts[target]))
    }


def partners(hosts: t.Mapping[str, Host], source: str, *, settled: bool = False) -> list[str]:
    """Whom a host tries: all others, or in a large cluster the control plane, etcd and a few neighbours.

    Pairs with a host that is new, or only pairs without one.
    """
    names = sorted(hosts)
    own = hosts[source]
    place = names.index(source)
    near = {names[(place + step) % len(names)] for step in range(1, NEIGHBOURS + 1)}
    return [
        name
        for name in names
        if name != source
        and own.asked
        and (own.new or hosts[name].new) != settled
        and (
            len(names) <= FULL_MATRIX_HOSTS
            or name in near
            or any(each.node.control_plane or each.node.etcd for each in (own, hosts[name]))
        )
    ]


def _tried(layout: Layout, source: Host, target: Host) -> list[dict[str, t.Any]]:
    """The ports that can be tried, each with whether the target listens there for it, or a tunnel leads there."""
    found = []
    for flow in flows(layout, source, target):
        through = target.tunnel if flow.protocol == "udp" and source.tunnel and target.forwards else ""
        served = bool(through) or (flow.protocol == "tcp" and flow.port in target.listening)
        # The ports of a host that is in the cluster are its components', also while one of them is down.
        ours = not served and target.asked and target.new
        if served or ours:
            found.append({**dataclasses.asdict(flow), "answers": ours, "through": through})
    return found


def _targets(layout: Layout, hosts: t.Mapping[str, Host], calls: Calls, source: str) -> list[dict[str, t.Any]]:
    return [_target(layout, hosts[each].node, calls[source, each]) for each in hosts if (source, each) in calls]


def _target(layout: Layout, node: Node, tried: t.Sequence[dict[str, t.Any]]) -> dict[str, t.Any]:
    return {
        "host": node.host,
        "address": node.address,
        "size": pod_mtu(layout, node) + VXLAN_OVERHEAD_BYTES,
        "ports": list(tried),
    }


def _listen(name: str, calls: Calls) -> list[dict[str, t.Any]]:
    """The ports a host opens, each with those who are going to call."""
    callers: dict[tuple[int, str], list[str]] = {}
    for (source, target), tried in calls.items():
        for port in tried:
            if target == name and port["answers"]:
                callers.setdefault((port["port"], port["protocol"]), []).append(source)
    return [{"port": port, "protocol": protocol, "callers": who} for (port, protocol), who in sorted(callers.items())]
