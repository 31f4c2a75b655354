# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts must reach which others on which ports, tried for real before a host becomes part of the cluster.

Only pairs with a host on which Slipway has put nothing yet. Such a host listens itself for a minute; what runs on the
others is only connected to. So the tunnel can only be tried towards hosts that have none yet.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.reach import PROCESS

from .layout import Layout, Node
from .probe import Probe
from .targets.network import VXLAN_OVERHEAD_BYTES, pod_mtu

CHECK = "reach"
FULL_MATRIX_HOSTS = 50
NEIGHBOURS = 3
"""Beyond so many hosts each tries the control plane, etcd and so many neighbours in the order of names."""
ETCD_CLIENTS, ETCD_PEERS, KUBELET, VXLAN = 2379, 2380, 10250, 8472
LISTEN_SECONDS = 60
LISTEN_SECONDS_PER_HOST = 4
"""How long a host listens at most: Ansible may do few hosts at a time. It ends as soon as all others have called."""


@dataclasses.dataclass(frozen=True)
class Host:
    """A host for this purpose: ``new`` if nothing of Slipway's is there yet, ``listening`` are TCP ports in use."""

    node: Node
    new: bool
    kubelet: bool
    listening: frozenset[int]
    asked: bool = True


@dataclasses.dataclass(frozen=True)
class Flow:
    """A port, and what it is for."""

    port: int
    protocol: str
    purpose: str


def served(probe: Probe) -> frozenset[int]:
    """TCP ports on which somebody else can be reached on a host."""
    return frozenset(
        each.port for each in probe.listening if not each.address.startswith("127.") and each.process != PROCESS
    )


def flows(layout: Layout, source: Host, target: Host) -> list[Flow]:
    """What the source needs of the target once both are in the cluster."""
    found = []
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
    calls = {
        (source, target): tried
        for source in sorted(hosts)
        for target in partners(hosts, source)
        if (tried := _tried(layout, hosts[source], hosts[target]))
    }
    return {
        name: {
            "targets": [
                _target(layout, hosts[each].node, calls[name, each]) for each in hosts if (name, each) in calls
            ],
            "listen": _listen(name, calls),
            "seconds": LISTEN_SECONDS + LISTEN_SECONDS_PER_HOST * len(hosts),
            "resolvers": list(probes[name].resolvers) if own.new else [],
            "disk": "/var/lib/etcd" if own.new and own.node.etcd and not probes[name].etcd_data else "",
        }
        for name, own in sorted(hosts.items())
        if own.asked and (own.new or any(name in pair for pair in calls))
    }


def partners(hosts: t.Mapping[str, Host], source: str) -> list[str]:
    """Whom a host tries: all others, or in a large cluster the control plane, etcd and a few neighbours."""
    names = sorted(hosts)
    own = hosts[source]
    place = names.index(source)
    near = {names[(place + step) % len(names)] for step in range(1, NEIGHBOURS + 1)}
    return [
        name
        for name in names
        if name != source
        and own.asked
        and (own.new or hosts[name].new)
        and (
            len(names) <= FULL_MATRIX_HOSTS
            or name in near
            or any(each.node.control_plane or each.node.etcd for each in (own, hosts[name]))
        )
    ]


def _tried(layout: Layout, source: Host, target: Host) -> list[tuple[Flow, bool]]:
    """The flows that can be tried, each with whether the target listens for it itself."""
    found = []
    for flow in flows(layout, source, target):
        served = flow.protocol == "tcp" and flow.port in target.listening
        # The ports of a host that is in the cluster are its components', also while one of them is down.
        ours = not served and target.asked and target.new
        if served or ours:
            found.append((flow, ours))
    return found


def _target(layout: Layout, node: Node, tried: t.Sequence[tuple[Flow, bool]]) -> dict[str, t.Any]:
    return {
        "host": node.host,
        "address": node.address,
        "size": pod_mtu(layout, node) + VXLAN_OVERHEAD_BYTES,
        "ports": [{**dataclasses.asdict(flow), "answers": ours} for flow, ours in tried],
    }


def _listen(name: str, calls: t.Mapping[tuple[str, str], t.Sequence[tuple[Flow, bool]]]) -> list[dict[str, t.Any]]:
    """The ports a host opens, each with those who are going to call."""
    callers: dict[tuple[int, str], list[str]] = {}
    for (source, target), tried in calls.items():
        for flow, ours in tried:
            if target == name and ours:
                callers.setdefault((flow.port, flow.protocol), []).append(source)
    return [{"port": port, "protocol": protocol, "callers": who} for (port, protocol), who in sorted(callers.items())]
