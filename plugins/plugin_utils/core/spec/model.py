# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spec as the planner reads it: frozen dataclasses with every default filled in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

from ....module_utils.core.problems import Problem
from .texts import Endpoint, IPAddress, IPNetwork, Taint

CONTROL_PLANE = "control_plane"
WORKER = "worker"
ETCD = "etcd"
REGISTRY = "registry"
DOCKER = "docker"
INGRESS = "ingress"
PHASES = ("host", "control_plane", "node", "addons")
ENDPOINTS_PORT = 6446
"""Where a node with ``slipway_metrics.endpoints`` gives metrics."""

type Args = t.Mapping[str, tuple[str, ...]]
"""Flags without dashes → their values, one flag each; an empty tuple leaves Slipway's own flag out."""


class Setting(t.NamedTuple):
    """One value and where it came from, for ``plan --explain``."""

    key: str
    value: t.Any
    origin: str


@dataclasses.dataclass(frozen=True)
class HostInput:
    """What the inventory says of one host: its groups, its ``slipway_*`` variables and ``ansible_host``.

    ``origins`` may tell where a variable was written (variable → "group_vars/all.yml:3").
    """

    name: str
    groups: frozenset[str]
    variables: t.Mapping[str, t.Any]
    origins: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Network:
    """Pod network. The CIDRs are tuples, because a dual-stack cluster has two."""

    plugin: str
    pod_cidrs: tuple[IPNetwork, ...]
    service_cidrs: tuple[IPNetwork, ...]
    node_prefix: int
    mtu: int | None

    @property
    def pod_cidr(self) -> str:
        """The pod CIDRs as flags take them: separated by commas."""
        return ",".join(str(each) for each in self.pod_cidrs)

    @property
    def service_cidr(self) -> str:
        """The Service CIDRs as flags take them: separated by commas."""
        return ",".join(str(each) for each in self.service_cidrs)

    @property
    def dns_address(self) -> str:
        """The ClusterIP of the cluster's DNS: the tenth address, as everyone has it."""
        return str(self.service_cidrs[0][10])

    @property
    def node_networks(self) -> int:
        """For how many nodes the pod CIDR has networks."""
        return int(2 ** (self.node_prefix - self.pod_cidrs[0].prefixlen))


@dataclasses.dataclass(frozen=True)
class Dns:
    """Cluster DNS. No upstream means the host's own resolvers."""

    enabled: bool
    domain: str
    upstream: tuple[str, ...]
    replicas: int


@dataclasses.dataclass(frozen=True)
class Audit:
    """API audit log; without a policy of the user's, Slipway's own applies."""

    enabled: bool
    max_size_mib: int
    max_backups: int
    max_age_days: int
    policy: tuple[t.Mapping[str, t.Any], ...]


@dataclasses.dataclass(frozen=True)
class Etcd:
    """etcd's tunables."""

    quota_backend_bytes: int
    heartbeat_ms: int
    election_timeout_ms: int


@dataclasses.dataclass(frozen=True)
class Proxy:
    """The API proxy on every host's loopback."""

    port: int


@dataclasses.dataclass(frozen=True)
class Drain:
    """How a node is emptied; the timeout is in seconds."""

    timeout: int
    delete_emptydir_data: bool
    force: bool


@dataclasses.dataclass(frozen=True)
class PodSecurity:
    """Pod Security defaults of namespaces without labels of their own."""

    enforce: str
    audit: str
    warn: str
    exempt_namespaces: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Certificates:
    """Lifetimes in days, and when the timer renews."""

    days: int
    ca_days: int
    renew_before_days: int
    kubeconfig_days: int


@dataclasses.dataclass(frozen=True)
class Registry:
    """How containerd reaches one registry. The password is in ``ClusterSpec.registry_passwords``."""

    host: str
    mirrors: tuple[str, ...]
    ca: str | None
    skip_verify: bool
    username: str | None


@dataclasses.dataclass(frozen=True)
class Containerd:
    """Container runtime."""

    registries: tuple[Registry, ...]
    restrict_oom_score_adj: bool
    runtime_handlers: t.Mapping[str, t.Mapping[str, t.Any]]


@dataclasses.dataclass(frozen=True)
class RegistryService:
    """The registry on hosts of its group. The password is ``ClusterSpec.registry_password``."""

    port: int
    names: tuple[str, ...]
    username: str


@dataclasses.dataclass(frozen=True)
class Metrics:
    """metrics-server; ``endpoints``: whether nodes give a Prometheus what they have on loopback."""

    enabled: bool
    endpoints: bool


@dataclasses.dataclass(frozen=True)
class Ingress:
    """Traefik. ``enabled`` None means: where the inventory has hosts for it."""

    enabled: bool | None
    expose: str
    gateway: bool
    access_log: bool


@dataclasses.dataclass(frozen=True)
class IngressTls:
    """The default certificate and its key, in PEM."""

    certificate: str
    key: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class AddressPool:
    """Networks of Docker's bridges: parts of that prefix length out of each network."""

    networks: tuple[IPNetwork, ...]
    size: int


@dataclasses.dataclass(frozen=True)
class Docker:
    """Docker Engine on one host; fields are as the module slipway.cluster.docker has them."""

    packages: tuple[str, ...] | None
    data_root: str
    log_max_size_mib: int
    log_max_files: int
    live_restore: bool
    registry_mirrors: tuple[str, ...]
    address_pools: tuple[AddressPool, ...]
    settings: t.Mapping[str, t.Any]
    users: tuple[str, ...] | None
    images: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class BalancerPool:
    """Addresses that Services of type LoadBalancer get."""

    name: str
    addresses: tuple[str, ...]
    auto_assign: bool


@dataclasses.dataclass(frozen=True)
class LoadBalancer:
    """MetalLB in layer-2 mode; it is there if there are pools."""

    pools: tuple[BalancerPool, ...]


@dataclasses.dataclass(frozen=True)
class Storage:
    """Volumes on the nodes' own disks, below ``path`` on each."""

    enabled: bool
    path: str
    default_class: bool


@dataclasses.dataclass(frozen=True)
class HostSettings:
    """What the host role may touch on a host."""

    manage_kernel: bool
    packages: bool
    swap: str
    sysctls: t.Mapping[str, str]


@dataclasses.dataclass(frozen=True)
class Groups:
    """The inventory's names of the groups that give roles."""

    control_plane: str
    workers: str
    etcd: str
    ingress: str
    registry: str
    docker: str

    def role(self, group: str) -> str | None:
        """The role a group gives, if it is one of these."""
        for field in dataclasses.fields(self):
            if getattr(self, field.name) == group:
                return WORKER if field.name == "workers" else field.name
        return None


@dataclasses.dataclass(frozen=True)
class NodeProfile:
    """Settings for the hosts of some groups."""

    groups: tuple[str, ...]
    labels: t.Mapping[str, str | None]
    taints: tuple[Taint, ...]
    kubelet: t.Mapping[str, t.Any]
    runtime_handlers: t.Mapping[str, t.Mapping[str, t.Any]]


@dataclasses.dataclass(frozen=True)
class NodeSpec:
    """One host. ``node_name`` and ``addresses`` may need a probe: see ``with_probes``.

    A null in ``kubelet`` takes away Slipway's own default of that field.
    """

    name: str
    roles: frozenset[str]
    groups: frozenset[str]
    node_name: str | None
    addresses: tuple[IPAddress, ...]
    labels: t.Mapping[str, str]
    taints: tuple[Taint, ...]
    kubelet: t.Mapping[str, t.Any]
    runtime_handlers: t.Mapping[str, t.Mapping[str, t.Any]]
    host: HostSettings
    docker: Docker
    absent: bool
    tasks: t.Mapping[str, tuple[str, ...]]
    settings: tuple[Setting, ...]

    @property
    def known_as(self) -> str:
        """The name of its Node: the host's as long as no other is known."""
        return self.node_name or self.name

    @property
    def address(self) -> str | None:
        """The address other hosts use; None until a probe has told it."""
        return str(self.addresses[0]) if self.addresses else None

    @property
    def control_plane(self) -> bool:
        """Whether it runs the control plane."""
        return CONTROL_PLANE in self.roles

    @property
    def worker(self) -> bool:
        """Whether it takes users' pods."""
        return WORKER in self.roles

    @property
    def etcd(self) -> bool:
        """Whether it is an etcd member."""
        return ETCD in self.roles

    @property
    def registry(self) -> bool:
        """Whether it runs a registry."""
        return REGISTRY in self.roles

    @property
    def in_cluster(self) -> bool:
        """Whether it is a host of the cluster: one that is only for Docker stands beside it."""
        return bool(self.roles - {DOCKER})

    @property
    def is_node(self) -> bool:
        """Whether it runs a kubelet."""
        return self.control_plane or self.worker


@dataclasses.dataclass(frozen=True)
class ClusterSpec:
    """Everything that is wanted of one cluster."""

    name: str
    kubernetes_version: str
    versions: t.Mapping[str, str]
    endpoint: Endpoint | None
    bundle: str | None
    network: Network
    dns: Dns
    audit: Audit
    etcd: Etcd
    proxy: Proxy
    pod_security: PodSecurity
    certificates: Certificates
    containerd: Containerd
    registry: RegistryService
    apiserver_port: int
    apiserver_args: Args
    controller_manager_args: Args
    scheduler_args: Args
    etcd_args: Args
    apiserver_sans: tuple[str, ...]
    authentication: tuple[t.Mapping[str, t.Any], ...]
    kube_proxy: t.Mapping[str, t.Any]
    groups: Groups
    target: str | None
    node_profiles: tuple[NodeProfile, ...]
    ignore_preflight: frozenset[str]
    reset_confirm: str | None
    remove: tuple[str, ...]
    remove_dead: bool
    remove_confirm: str | None
    maintain_tasks: str | None
    batch: str
    maintain_batch: str | None
    maintain_again: bool
    accept_quorum_loss: bool
    drain: Drain
    hold_wait: int
    explain: str | None
    kubeconfig_output: str | None
    metrics: Metrics
    ingress: Ingress
    load_balancer: LoadBalancer
    storage: Storage
    manifests: tuple[str, ...]
    ingress_tls: IngressTls | None = dataclasses.field(repr=False)
    registry_passwords: t.Mapping[str, str] = dataclasses.field(repr=False)
    registry_password: str | None = dataclasses.field(repr=False)
    nodes: t.Mapping[str, NodeSpec]
    settings: tuple[Setting, ...]
    warnings: tuple[Problem, ...]

    @property
    def members(self) -> tuple[NodeSpec, ...]:
        """The hosts of the cluster, by name: the order in the inventory means nothing.

        Who is declared down is one of them, so that a host that is away changes nothing for the others.
        """
        return tuple(node for _name, node in sorted(self.nodes.items()) if node.in_cluster)

    @property
    def present(self) -> tuple[NodeSpec, ...]:
        """The hosts of the cluster that are not declared down: who is asked and worked on."""
        return tuple(node for node in self.members if not node.absent)

    @property
    def registries(self) -> tuple[NodeSpec, ...]:
        """The registry hosts."""
        return tuple(node for node in self.members if node.registry)

    @property
    def control_plane(self) -> tuple[NodeSpec, ...]:
        """The control-plane hosts."""
        return tuple(node for node in self.members if node.control_plane)

    @property
    def workers(self) -> tuple[NodeSpec, ...]:
        """The hosts that take users' pods and run no control plane."""
        return tuple(node for node in self.members if node.worker and not node.control_plane)

    @property
    def etcd_members(self) -> tuple[NodeSpec, ...]:
        """The etcd hosts."""
        return tuple(node for node in self.members if node.etcd)

    @property
    def has_ingress(self) -> bool:
        """Whether Traefik runs: as said, or because there are hosts for it."""
        wanted = self.ingress.enabled
        return any(INGRESS in node.roles for node in self.members) if wanted is None else wanted

    @property
    def ingress_nodes(self) -> tuple[NodeSpec, ...]:
        """The nodes that take traffic from outside: those of the group, else the workers, else all nodes."""
        nodes = tuple(node for node in self.members if node.is_node)
        chosen = tuple(node for node in nodes if INGRESS in node.roles)
        return chosen or tuple(node for node in nodes if node.worker) or nodes

    def to_data(self) -> dict[str, t.Any]:
        """The spec as JSON data without secrets and without what belongs to a single run."""
        data = {f.name: _data(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name not in _NO_DATA}
        nodes = {name: _data(self.nodes[name]) for name in sorted(self.nodes)}
        for node in nodes.values():
            node.pop("settings")
        return {**data, "nodes": nodes}

    def digest(self) -> str:
        """SHA-256 over ``to_data()``, for the record of a run."""
        return hashlib.sha256(json.dumps(self.to_data(), sort_keys=True).encode()).hexdigest()


_NO_DATA = frozenset(
    {
        "registry_passwords",
        "registry_password",
        "ingress_tls",
        "settings",
        "warnings",
        "nodes",
        "ignore_preflight",
        "reset_confirm",
        "remove",
        "remove_dead",
        "remove_confirm",
        "maintain_tasks",
        "batch",
        "maintain_batch",
        "maintain_again",
        "accept_quorum_loss",
        "drain",
        "hold_wait",
        "explain",
        "kubeconfig_output",
    }
)


def _data(value: t.Any) -> t.Any:
    """JSON data of a typed value; sets are sorted, addresses, networks, taints and endpoints become their text."""
    if isinstance(value, (Taint, Endpoint)):
        return str(value)
    if dataclasses.is_dataclass(value):
        return {field.name: _data(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, t.Mapping):
        return {str(key): _data(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, (tuple, list)):
        return [_data(item) for item in value]
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
