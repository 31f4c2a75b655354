# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster with everything resolved: what the spec asks for, put together with what the probes saw."""

from __future__ import annotations

import dataclasses
import ipaddress
import typing as t


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

    @property
    def member(self) -> Member:
        """The host as others see it."""
        return Member(self.host, self.node_name, self.address)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What is the same for all hosts."""

    name: str
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
    manage_kernel: bool
    swap: str
    etcd_token: str

    api_port: int = 6443

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
        """The API as every host reaches it, through its own loopback."""
        return f"https://127.0.0.1:{self.proxy_port}"
