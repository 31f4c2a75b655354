# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the hosts know: their addresses and names where the inventory does not say."""

from __future__ import annotations

import dataclasses
import typing as t
import urllib.parse

from ....module_utils.core.nodes import NodesSeen
from ....module_utils.core.problems import Problem, SlipwayError
from ....module_utils.core.quorum import Member
from ..findings import Finding, grouped
from ..probe import Probe
from . import texts
from .model import ClusterSpec, NodeSpec, Setting
from .rules import address_in_cidrs, duplicates


def with_probes(spec: ClusterSpec, probes: t.Mapping[str, Probe], problems: list[Problem] | None = None) -> ClusterSpec:
    """The spec with the Node name and address of every probed host filled in.

    A host that has joined keeps the Node name it joined with, also when the inventory renames it. Raises SlipwayError
    with every problem: no usable address or name, another ``slipway_node_name`` than at the join, two hosts with one
    name or address, an address inside the cluster's networks. Hosts without a probe stay as they are.
    If ``problems`` is given, they are put there instead, so that they can be told together with those of preflight.
    """
    findings: list[Finding] = []
    nodes = dict(spec.nodes)
    for name, probe in sorted(probes.items()):
        if name in nodes:
            nodes[name] = _resolved(nodes[name], probe, findings)
            if not spec.nodes[name].addresses:
                findings.extend(address_in_cidrs(spec, name, nodes[name].addresses))
    resolved = dataclasses.replace(spec, nodes=nodes)
    findings.extend(duplicates(resolved))
    if problems is not None:
        problems.extend(grouped(findings))
    elif findings:
        raise SlipwayError(grouped(findings))
    return resolved


def with_cluster(
    spec: ClusterSpec, probes: t.Container[str], nodes: t.Iterable[NodesSeen], members: t.Iterable[Member]
) -> ClusterSpec:
    """The spec with the addresses that a living cluster knows of hosts without a probe: what it lacks yet.

    That is the address of a host's Node, else that of its member of etcd; one that another host has is nobody's.
    """
    known = _of_members(members) | _of_nodes(nodes)
    taken = {node.address for node in spec.nodes.values()}
    found = dict(spec.nodes)
    for name, node in spec.nodes.items():
        address, origin = known.get(node.known_as, ("", ""))
        lacking = node.in_cluster and not node.addresses and name not in probes
        if lacking and address not in taken and texts.valid(texts.address, address):
            told = Setting("address", address, origin)
            found[name] = dataclasses.replace(
                node,
                addresses=(texts.address(address),),
                settings=tuple(told if setting.key == "address" else setting for setting in node.settings),
            )
    return dataclasses.replace(spec, nodes=found)


def _of_nodes(answers: t.Iterable[NodesSeen]) -> dict[str, tuple[str, str]]:
    listed = [node for answer in answers for node in answer.nodes.values()]
    return {node.name: (node.addresses[0], "its Node") for node in listed if node.addresses}


def _of_members(members: t.Iterable[Member]) -> dict[str, tuple[str, str]]:
    hosts = {member.name: urllib.parse.urlsplit(url).hostname for member in members for url in member.peer_urls[:1]}
    return {name: (host, "its member of etcd") for name, host in hosts.items() if name and host}


def _resolved(node: NodeSpec, probe: Probe, findings: list[Finding]) -> NodeSpec:
    found: dict[str, Setting] = {}
    if not node.addresses:
        found["address"] = _address(node, probe, findings)
    if node.is_node:
        found["node name"] = _node_name(node, probe, findings)
    name = found["node name"].value if "node name" in found else node.node_name
    new = found["address"].value if "address" in found else None
    return dataclasses.replace(
        node,
        addresses=(texts.address(new),) if new else node.addresses,
        node_name=name,
        settings=tuple(found.get(setting.key, setting) for setting in node.settings),
    )


def _address(node: NodeSpec, probe: Probe, findings: list[Finding]) -> Setting:
    source = probe.default_route.source if probe.default_route else None
    if source is None or not texts.valid(texts.address, source):
        found = "no default route" if source is None else f"a default route whose source {source} cannot be reached"
        findings.append(
            Finding(
                f"no address for the cluster: {found}, and ansible_host is no address",
                "an IPv4 address that the other hosts can reach",
                "set slipway_node_address",
                node.name,
            )
        )
        return Setting("address", None, "nowhere")
    return Setting("address", source, "the source of the default route")


def _node_name(node: NodeSpec, probe: Probe, findings: list[Finding]) -> Setting:
    asked = next(setting for setting in node.settings if setting.key == "node name")
    if probe.node_name is not None:
        if asked.origin.startswith("slipway_node_name") and asked.value != probe.node_name:
            findings.append(
                Finding(
                    f"joined as {probe.node_name}, asked for as {asked.value}",
                    "the name it joined with, which cannot change",
                    "take slipway_node_name back, or remove the node and let it join anew",
                    node.name,
                    "slipway_node_name",
                )
            )
        return Setting("node name", probe.node_name, "fixed when it joined")
    if asked.value is not None:
        return asked
    own = probe.hostname.lower()
    if texts.valid(texts.node_name, own) and own != "localhost":
        return Setting("node name", own, "the host's own name")
    findings.append(
        Finding(
            f"neither its inventory name nor its host name {probe.hostname} can name a Node",
            "a DNS name in lower case of at most 63 characters",
            "set slipway_node_name",
            node.name,
        )
    )
    return Setting("node name", None, "nowhere")
