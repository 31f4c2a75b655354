# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster with everything resolved: what the spec asks for, put together with what the probes saw."""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem

from .probe import Probe
from .spec import ClusterSpec, NodeSpec
from .spec.model import RegistryService

INGRESS_LABEL = "slipway.cluster/ingress"
"""On nodes that take traffic from outside; where Traefik runs."""


@dataclasses.dataclass(frozen=True)
class Member:
    """A host with its name in the cluster and the address others reach it at."""

    host: str
    node_name: str
    address: str


@dataclasses.dataclass(frozen=True)
class Node:
    """One host of the cluster, resolved."""

    host: str
    node_name: str
    address: str
    hostname: str
    control_plane: bool
    etcd: bool
    labels: t.Mapping[str, str]
    taints: tuple[str, ...]
    kubelet: t.Mapping[str, t.Any]
    resolv_conf: str
    interface_mtu: int
    architecture: str
    runtime_handlers: t.Mapping[str, t.Mapping[str, t.Any]]
    manage_kernel: bool
    packages: bool
    swap: str
    sysctls: t.Mapping[str, str]
    registry: bool = False
    is_node: bool = True
    """Whether a kubelet runs there."""

    @property
    def member(self) -> Member:
        """The host as others see it."""
        return Member(self.host, self.node_name, self.address)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What is the same for all hosts."""

    name: str
    id: str
    versions: t.Mapping[str, str]
    domain: str
    pod_cidr: str
    service_cidr: str
    node_prefix: int
    network: str
    network_mtu: int
    endpoint: str
    apiserver_sans: tuple[str, ...]
    control_plane: tuple[Member, ...]
    etcd: tuple[Member, ...]
    proxy_port: int
    audit: t.Mapping[str, t.Any]
    pod_security: t.Mapping[str, t.Any]
    authentication: t.Sequence[t.Mapping[str, t.Any]]
    kube_proxy: t.Mapping[str, t.Any]
    args: t.Mapping[str, t.Mapping[str, t.Any]]
    etcd_quota_bytes: int
    certificate_days: int
    renew_before_days: int
    authority_days: int
    api_port: int
    metrics: bool
    registries: tuple[Member, ...] = ()
    registry: RegistryService = RegistryService(5000, (), "slipway")
    metrics_endpoints: bool = False
    ingress_on_hosts: bool = False

    @property
    def dns_address(self) -> str:
        """The tenth address of the Service CIDR, where clusters have their DNS."""
        return str(ipaddress.ip_network(self.service_cidr)[10])

    @property
    def kubernetes_address(self) -> str:
        """The first address of the Service CIDR, the API server's own Service."""
        return str(ipaddress.ip_network(self.service_cidr)[1])

    @property
    def proxy_url(self) -> str:
        """The API as every node reaches it, through its own loopback."""
        return f"https://127.0.0.1:{self.proxy_port}"


def resolve(spec: ClusterSpec, probes: t.Mapping[str, Probe], cluster_id: str) -> tuple[Layout, dict[str, Node]]:
    """The layout and its nodes from a spec that ``with_probes`` has completed.

    Hosts that were not probed are in the layout's member lists as long as inventory or cluster tell their address.
    """
    hosts = [spec.nodes[name] for name in sorted(spec.nodes)]
    ingress = {node.name for node in spec.ingress_nodes} if spec.has_ingress else set()
    labels = {name: {INGRESS_LABEL: "true"} for name in ingress}
    nodes = {node.name: _node(node, probes.get(node.name), labels.get(node.name, {})) for node in hosts if node.address}
    members = {name: node.member for name, node in nodes.items()}
    layout = Layout(
        name=spec.name,
        id=cluster_id,
        versions=spec.versions,
        domain=spec.dns.domain,
        pod_cidr=spec.network.pod_cidr,
        service_cidr=spec.network.service_cidr,
        node_prefix=spec.network.node_prefix,
        network=spec.network.plugin,
        network_mtu=spec.network.mtu or 0,
        endpoint=str(spec.endpoint) if spec.endpoint else "",
        apiserver_sans=spec.apiserver_sans,
        control_plane=tuple(members[node.name] for node in hosts if node.control_plane and node.name in members),
        etcd=tuple(members[node.name] for node in hosts if node.etcd and node.name in members),
        proxy_port=spec.proxy.port,
        audit=dataclasses.asdict(spec.audit),
        pod_security=dataclasses.asdict(spec.pod_security),
        authentication=spec.authentication,
        kube_proxy=spec.kube_proxy,
        args={
            "apiserver": spec.apiserver_args,
            "controller_manager": spec.controller_manager_args,
            "scheduler": spec.scheduler_args,
            "etcd": _etcd_args(spec),
        },
        etcd_quota_bytes=spec.etcd.quota_backend_bytes,
        certificate_days=spec.certificates.days,
        renew_before_days=spec.certificates.renew_before_days,
        authority_days=spec.certificates.ca_days,
        api_port=spec.apiserver_port,
        metrics=spec.metrics.enabled,
        registries=tuple(members[node.name] for node in spec.registries if node.name in members),
        registry=spec.registry,
        metrics_endpoints=spec.metrics.endpoints,
        ingress_on_hosts=spec.has_ingress and spec.ingress.expose == "host",
    )
    return layout, nodes


def unaddressed(spec: ClusterSpec, probes: t.Container[str]) -> list[Problem]:
    """Hosts without a probe that others are configured with, and would lose because nobody knows their address."""
    # Traefik tells the address of the one host that takes traffic; where there are several, it tells none.
    told = spec.has_ingress and spec.ingress.expose == "host" and len(spec.ingress_nodes) == 1
    named = {node.name: node for node in spec.members if node.control_plane or node.etcd or node.registry}
    named |= {node.name: node for node in spec.ingress_nodes if told}
    return [
        Problem(
            name,
            "its address is not known: it was not asked or did not answer, ansible_host is no address, "
            "and the cluster knows none",
            "an address for every host that others are configured with",
            "set slipway_node_address for it",
        )
        for name, node in sorted(named.items())
        if not node.address and name not in probes
    ]


def _etcd_args(spec: ClusterSpec) -> dict[str, t.Any]:
    """etcd's flags; None takes away a default of Slipway's."""
    own = {"heartbeat-interval": spec.etcd.heartbeat_ms, "election-timeout": spec.etcd.election_timeout_ms}
    user = {key: ",".join(values) if values else None for key, values in spec.etcd_args.items()}
    return {**own, **user}


def _node(node: NodeSpec, probe: Probe | None, labels: t.Mapping[str, str]) -> Node:
    address = node.address or ""
    interface = probe.interface_of(address) if probe else None
    return Node(
        host=node.name,
        node_name=node.known_as,
        address=address,
        hostname=probe.hostname if probe else node.name,
        control_plane=node.control_plane,
        etcd=node.etcd,
        labels={**node.labels, **labels},
        taints=tuple(str(taint) for taint in node.taints),
        kubelet=node.kubelet,
        resolv_conf=probe.resolv_conf if probe else "/etc/resolv.conf",
        interface_mtu=interface.mtu if interface else 1500,
        architecture=probe.architecture if probe else "",
        runtime_handlers=node.runtime_handlers,
        manage_kernel=node.host.manage_kernel,
        packages=node.host.packages,
        swap=node.host.swap,
        sysctls=node.host.sysctls,
        registry=node.registry,
        is_node=node.is_node,
    )
