# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the cluster or on its hosts and is not ours: apply leaves it alone, and the plan says it."""

from __future__ import annotations

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core import places
from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import NodeSeen, NodesSeen
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import SeenState, SeenUnit

from .layout import Layout
from .spec import ClusterSpec, NodeSpec
from .targets.etcd import peer_url
from .targets.network import pod_cidr


def foreign(
    spec: ClusterSpec,
    layout: Layout,
    members: t.Iterable[Member],
    seen: NodesSeen | None,
    states: t.Mapping[str, SeenState],
) -> list[Problem]:
    """Warnings: etcd members and Nodes without a host in the inventory, closed Nodes, changed units, static pods.

    Also Nodes that have another pod network than their hosts. ``members`` and ``seen`` are what a living etcd and API
    said, empty and None where there is none; ``states`` are each host's.
    """
    found = [*_members(spec, layout, tuple(members)), *(_nodes(spec, seen) if seen else ())]
    for host, state in sorted(states.items()):
        found += [*_drop_ins(host, state.units), *_static_pods(spec.nodes[host], state)]
        own = seen.nodes.get(spec.nodes[host].known_as) if seen else None
        found += _pod_network(own, pod_cidr(layout, state)) if own else []
    return found


def _members(spec: ClusterSpec, layout: Layout, members: t.Sequence[Member]) -> t.Iterator[Problem]:
    ours = {peer_url(member) for member in layout.etcd}
    hosts = {node.known_as: node for node in spec.members if node.address}
    names = [member.name for member in members]
    for member in members:
        if not ours & set(member.peer_urls):
            urls, own = ", ".join(member.peer_urls), hosts.get(member.name)
            where = (
                f"is at {urls}, and the host of its name at {own.address}"
                if own
                else f"is no host of this inventory ({urls})"
            )
            way = _way_out(member.name if member.name and not own and names.count(member.name) == 1 else member.id)
            yield Problem(
                f"etcd member {member.text()}",
                f"{where}; {'it is healthy' if member.healthy else 'it does not answer'}",
                "members that are hosts of the inventory",
                f"nothing, if this plan replaces it; else {way}" if own else way,
                warning=True,
            )
        elif not (member.healthy or member.learner):
            yield Problem(
                f"etcd member {member.text()}", "is not healthy", "a member that answers", "bring it back", warning=True
            )


def _way_out(name: str) -> str:
    """What to do about something that no host of the inventory stands for, named as ``slipway remove`` knows it."""
    return f"put its host into the inventory; or, if that is off for good, take it out: slipway remove {name} --dead"


def _nodes(spec: ClusterSpec, seen: NodesSeen) -> t.Iterator[Problem]:
    hosts = {node.known_as: node.name for node in spec.members}
    for name, node in sorted(seen.nodes.items()):
        if name not in hosts:
            yield Problem(
                f"node {name}",
                "is no host of this inventory",
                "Nodes that are hosts of the inventory",
                _way_out(name),
                warning=True,
            )
        elif node.unschedulable:
            yield _closed(node, hosts[name])


def _closed(node: NodeSeen, host: str) -> Problem:
    """A Node that takes no pods: who closed it, and the way out."""
    again = {
        "maintain": "run slipway maintain again, which goes on and opens it",
        "remove": f"run slipway remove {host} again, which goes on",
    }
    opening = f"kubectl uncordon {node.name}"
    by, way = "", f"{opening}, if nobody works on it"
    if node.cordoned_by is not None:
        by = f" by Slipway ({node.cordoned_by})"
        way = again.get(node.cordoned_by, "run again what closed it, which opens it")
        way = f"if nobody works on it: {way}; or {opening}"
    found = f"is cordoned{by}: no new pod runs there"
    return Problem(f"node {node.name}", found, "a Node that takes pods", way, warning=True)


def _pod_network(node: NodeSeen, cidr: str) -> list[Problem]:
    """A Node that was deleted and came back by itself, when its kubelet or its host was started."""
    if not cidr or not node.pod_cidrs or cidr in node.pod_cidrs:
        return []
    return [
        Problem(
            f"node {node.name}",
            f"has the pod network {', '.join(node.pod_cidrs)}, and its host gives pods addresses of {cidr}, "
            "to which no other host knows the way",
            "the same network on both",
            f"kubectl delete node {node.name}, then slipway apply, which makes it again with the network of its host",
            warning=True,
        )
    ]


def _drop_ins(host: str, units: t.Mapping[str, SeenUnit]) -> t.Iterator[Problem]:
    for name, unit in sorted(units.items()):
        if unit.drop_ins:
            yield Problem(
                f"{host}: {name}",
                f"is changed by {', '.join(unit.drop_ins)}, which is not Slipway's",
                "the unit as Slipway wrote it",
                "leave it if it is meant; else remove it on the host, then: "
                f"systemctl daemon-reload && systemctl restart {name}",
                warning=True,
            )


def _static_pods(node: NodeSpec, state: SeenState) -> t.Iterator[Problem]:
    """Manifests where people put static pods; nobody's concern where the user has the kubelet read them.

    Those of kubeadm's control plane are named by preflight.
    """
    read = str(node.kubelet.get("staticPodPath") or "").rstrip("/")
    files = [
        path
        for path, seen in sorted(state.paths.items())
        if path.startswith(f"{places.STATIC_PODS}/") and seen.kind != "directory"
        # As the kubelet does; packages keep their directory by such a file.
        if not path.rpartition("/")[2].startswith(".")
        if path not in places.KUBEADM_LEFTOVERS and read not in (path, places.STATIC_PODS)
    ]
    if files:
        yield Problem(
            node.name,
            f"{', '.join(files)}: not Slipway's, and not run, for the kubelet does not read static pods there",
            "no static pods but those of slipway_kubelet.staticPodPath",
            "remove them on the host; or, if they are meant, set slipway_kubelet.staticPodPath",
            warning=True,
        )
