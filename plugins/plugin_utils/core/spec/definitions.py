# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of variables. Validation, documentation, JSON Schema and suggestions all come from it."""

from __future__ import annotations

import dataclasses
import enum
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core import docker

from . import model, texts
from .kinds import Choice, Entries, Field, Flag, FlagValues, Integer, Items, Kind, Table, Text, Verbatim


class Scope(enum.Enum):
    """Who a variable speaks of: equal on all hosts (cluster, secret, run) or each host's own (node)."""

    CLUSTER = "cluster"
    NODE = "node"
    SECRET = "secret"  # noqa: S105
    RUN = "run"


@dataclasses.dataclass(frozen=True)
class Variable:
    """One variable of the spec. ``default`` is written as a user would write it; None means not set."""

    name: str
    scope: Scope
    kind: Kind
    description: str
    default: t.Any = None
    example: t.Any = None


_PATH = Text("a path", texts.line)
_FILE = Text("a path on the controller", texts.line)
_NAME = Text("a text", str)
_BATCH = Text("a number of hosts, or a share of them such as 10%", texts.batch, r"[1-9][0-9]*%?")
_HOST = Text("a DNS name or an IP address", texts.host_or_address)
_URL = Text("an http:// or https:// address", texts.url, r"https?://.+")
_CIDR = Text("an IPv4 network in CIDR notation such as 10.244.0.0/16", texts.networks)
_LABELS = Entries(
    texts.label_key,
    Text("a label's value", texts.label_value),
    "a dictionary: label → value, or null to take away what a profile gave",
    null_removes=True,
)
_TAINTS = Items(Text("KEY[=VALUE]:EFFECT as kubectl writes it", texts.taint))
_HANDLERS = Entries(
    texts.dns_label, Verbatim("containerd's table of a runtime"), "a dictionary: handler → containerd's table"
)
_KUBELET = Verbatim(
    "a dictionary of KubeletConfiguration fields",
    {
        "apiVersion": "leave it out",
        "kind": "leave it out",
        "cgroupDriver": "leave it out: kubelet and containerd both use systemd",
        "clusterDNS": "leave it out: it follows from slipway_network.service_cidr",
        "clusterDomain": "set slipway_dns.domain",
        "containerRuntimeEndpoint": "leave it out: the runtime is Slipway's containerd",
        "rotateCertificates": "leave it out: kubelets renew their certificates themselves",
        "serverTLSBootstrap": "leave it out: serving certificates come from the cluster",
        "registerWithTaints": "set slipway_node_taints",
    },
)
_KUBE_PROXY = Verbatim(
    "a dictionary of KubeProxyConfiguration fields",
    {
        "apiVersion": "leave it out",
        "kind": "leave it out",
        "clusterCIDR": "set slipway_network.pod_cidr",
        "clientConnection": "leave it out: kube-proxy uses the kubelet's certificate",
        "hostnameOverride": "set slipway_node_name",
    },
)


def _all(names: str, remedy: str) -> dict[str, str]:
    """Several flags with one remedy."""
    return dict.fromkeys(names.split(), remedy)


_OURS = "leave it out: Slipway lays and names this file"
_APISERVER_RESERVED = {
    "advertise-address": "set slipway_node_address",
    "authentication-config": "set slipway_authentication",
    "authorization-config": "leave it out: Node and RBAC",
    "authorization-mode": "leave it out: Node and RBAC",
    "anonymous-auth": "leave it out: anonymous requests get /livez and /readyz only",
    "secure-port": "set slipway_apiserver_port",
    "service-cluster-ip-range": "set slipway_network.service_cidr",
    "audit-log-maxsize": "set slipway_audit.max_size_mib",
    "audit-log-maxbackup": "set slipway_audit.max_backups",
    "audit-log-maxage": "set slipway_audit.max_age_days",
    "audit-policy-file": "set slipway_audit.policy",
    "etcd-servers": "leave it out: it follows from the group of etcd hosts",
    **_all(
        "client-ca-file tls-cert-file tls-private-key-file etcd-cafile etcd-certfile etcd-keyfile "
        "kubelet-client-certificate kubelet-client-key kubelet-certificate-authority proxy-client-cert-file "
        "proxy-client-key-file requestheader-client-ca-file service-account-key-file "
        "service-account-signing-key-file encryption-provider-config admission-control-config-file",
        _OURS,
    ),
}
_CONTROLLER_MANAGER_RESERVED = {
    "cluster-cidr": "set slipway_network.pod_cidr",
    "service-cluster-ip-range": "set slipway_network.service_cidr",
    "node-cidr-mask-size": "set slipway_network.node_prefix",
    "allocate-node-cidrs": "leave it out: it follows from slipway_network",
    "cluster-name": "set slipway_cluster_name",
    **_all(
        "kubeconfig authentication-kubeconfig authorization-kubeconfig client-ca-file root-ca-file "
        "cluster-signing-cert-file cluster-signing-key-file service-account-private-key-file "
        "requestheader-client-ca-file tls-cert-file tls-private-key-file",
        _OURS,
    ),
}
_SCHEDULER_RESERVED = _all(
    "kubeconfig authentication-kubeconfig authorization-kubeconfig client-ca-file "
    "requestheader-client-ca-file tls-cert-file tls-private-key-file",
    _OURS,
)
_ETCD_RESERVED = {
    "quota-backend-bytes": "set slipway_etcd.quota_backend_bytes",
    "heartbeat-interval": "set slipway_etcd.heartbeat_ms",
    "election-timeout": "set slipway_etcd.election_timeout_ms",
    **_all(
        "name data-dir initial-cluster initial-cluster-state initial-cluster-token initial-advertise-peer-urls "
        "advertise-client-urls listen-client-urls listen-peer-urls force-new-cluster",
        "leave it out: it follows from the group of etcd hosts",
    ),
    **_all("cert-file key-file trusted-ca-file peer-cert-file peer-key-file peer-trusted-ca-file config-file", _OURS),
}

_NETWORK = Table(
    model.Network,
    (
        Field(
            "plugin",
            Choice(("flannel", "none")),
            "Pod network. flannel does not enforce NetworkPolicy; with none, nodes stay NotReady until yours comes.",
            "flannel",
        ),
        Field("pod_cidr", _CIDR, "Addresses of pods; cannot change later.", "10.244.0.0/16", attribute="pod_cidrs"),
        Field("service_cidr", _CIDR, "Addresses of Services, /12 to /28.", "10.96.0.0/12", attribute="service_cidrs"),
        Field("node_prefix", Integer(8, 28), "Prefix length of each node's part of the pod CIDR.", 24),
        Field("mtu", Integer(1280, 9216, "bytes"), "MTU of pods. Not set: the node interface's, less the tunnel's 50."),
    ),
)
_DNS = Table(
    model.Dns,
    (
        Field(
            "enabled",
            Flag(),
            "Whether CoreDNS runs. Off: pods still ask the tenth address of service_cidr, which your own DNS can take.",
            True,
        ),
        Field(
            "domain", Text("a DNS name", texts.dns_name), "Domain of Services; cannot change later.", "cluster.local"
        ),
        Field(
            "upstream",
            Items(Text("an IP address other than loopback", texts.resolver)),
            "Resolvers for names outside. Empty: those of the hosts.",
            [],
            ["10.0.0.53"],
        ),
        Field("replicas", Integer(1, 100), "CoreDNS pods, spread over nodes.", 2),
    ),
)
_AUDIT = Table(
    model.Audit,
    (
        Field("enabled", Flag(), "Whether the API server writes an audit log.", True),
        Field("max_size_mib", Integer(1, 10240, "MiB"), "Size at which the log is rotated.", 100),
        Field("max_backups", Integer(1, 1000), "Rotated logs that are kept.", 10),
        Field("max_age_days", Integer(1, 3650, "days"), "Age at which rotated logs go.", 30),
        Field(
            "policy",
            Items(Verbatim("a rule of an audit Policy")),
            "Rules of the audit Policy, verbatim. Empty: Slipway's own.",
            [],
            [{"level": "Metadata"}],
        ),
    ),
)
_ETCD = Table(
    model.Etcd,
    (
        Field("quota_backend_bytes", Integer(2**28, 2**35, "bytes"), "Size at which etcd refuses writes.", 4 * 2**30),
        Field(
            "heartbeat_ms", Integer(10, 5000, "ms"), "Heartbeat interval; about the round trip between members.", 100
        ),
        Field("election_timeout_ms", Integer(100, 50000, "ms"), "Election timeout, at least five heartbeats.", 1000),
    ),
)
_PROXY = Table(
    model.Proxy,
    (Field("port", Integer(1024, 65535), "Port on loopback of every node where the API is reached.", 6444),),
)
_DRAIN = Table(
    model.Drain,
    (
        Field(
            "timeout",
            Integer(1, 86400, "s"),
            "How long pods may take to be gone, PodDisruptionBudgets included; in a removal, volumes after them.",
            600,
        ),
        Field(
            "delete_emptydir_data", Flag(), "Whether pods with data in an emptyDir are evicted, which deletes it.", True
        ),
        Field("force", Flag(), "Whether pods that no controller starts elsewhere are evicted, and so lost.", False),
    ),
)
_POD_SECURITY_LEVEL = Choice(("privileged", "baseline", "restricted"))
_POD_SECURITY = Table(
    model.PodSecurity,
    (
        Field("enforce", _POD_SECURITY_LEVEL, "Level that refuses pods.", "baseline"),
        Field("audit", _POD_SECURITY_LEVEL, "Level that is noted in the audit log.", "restricted"),
        Field("warn", _POD_SECURITY_LEVEL, "Level that warns the user.", "restricted"),
        Field(
            "exempt_namespaces",
            Items(Text("a namespace", texts.dns_label)),
            "Namespaces the defaults do not hold for.",
            ["kube-system"],
        ),
    ),
)
_CERTIFICATES = Table(
    model.Certificates,
    (
        Field("days", Integer(1, 3650, "days"), "Lifetime of certificates.", 365),
        Field("ca_days", Integer(30, 36500, "days"), "Lifetime of CAs.", 3650),
        Field("renew_before_days", Integer(1, 3650, "days"), "How long before its end the timer renews one.", 60),
        Field("kubeconfig_days", Integer(1, 365, "days"), "Lifetime of the fetched kubeconfig.", 28),
    ),
)
_REGISTRY = Table(
    model.Registry,
    (
        Field(
            "host",
            Text("a registry HOST[:PORT], or _default", texts.registry_host),
            "The registry as image names write it; _default for all others.",
            required=True,
        ),
        Field("mirrors", Items(_URL), "Addresses to ask first, in order.", [], ["https://mirror.example.org"]),
        Field("ca", _FILE, "CA certificates in PEM that its certificate is checked against."),
        Field("skip_verify", Flag(), "Whether its certificate goes unchecked.", False),
        Field(
            "username",
            _NAME,
            "User of the registry itself; the password is in slipway_secret_registry_passwords. A mirror that wants a "
            "login has an entry of its own.",
        ),
    ),
)
_CONTAINERD = Table(
    model.Containerd,
    (
        Field("registries", Items(_REGISTRY), "How registries are reached.", []),
        Field(
            "restrict_oom_score_adj",
            Flag(),
            "For hosts that may not lower oom_score_adj (containers as hosts).",
            False,
        ),
        Field(
            "runtime_handlers",
            _HANDLERS,
            "Further runtimes on every node: handler → containerd's table, verbatim.",
            {},
            {"kata": {"runtime_type": "io.containerd.kata.v2"}},
        ),
    ),
)
_REGISTRY_SERVICE = Table(
    model.RegistryService,
    (
        Field("port", Integer(1024, 65535), "Port of every registry host.", 5000),
        Field(
            "names",
            Items(Text("a DNS name", texts.dns_name)),
            "DNS names of the registry besides its hosts' addresses; images may be called by them.",
            [],
            ["registry.example.org"],
        ),
        Field("username", _NAME, "The one user; the password is slipway_secret_registry_password.", "slipway"),
    ),
)
_ADDRESS_POOL = Table(
    model.AddressPool,
    (
        Field("base", _CIDR, "A network that leads nowhere else.", required=True, attribute="networks"),
        Field("size", Integer(8, 29), "Prefix length of each bridge's part of it.", 24),
    ),
)
_DOCKER = Table(
    model.Docker,
    (
        Field(
            "packages",
            Items(_NAME),
            "OS packages to install; empty: Docker is there already. Not set: those of the distribution.",
            None,
            ["docker.io"],
        ),
        Field("data_root", _PATH, "Where images, containers and volumes lie.", "/var/lib/docker"),
        Field("log_max_size_mib", Integer(1, 10240, "MiB"), "Size at which a container's log is rotated.", 50),
        Field("log_max_files", Integer(1, 1000), "Files a container's log has at most.", 5),
        Field("live_restore", Flag(), "Whether containers go on running while the engine is down.", True),
        Field(
            "registry_mirrors", Items(_URL), "Addresses to ask before Docker Hub.", [], ["https://mirror.example.org"]
        ),
        Field(
            "address_pools",
            Items(_ADDRESS_POOL),
            "Networks out of which Docker's bridges get theirs; refused where they overlap the cluster's or a host's.",
            [{"base": "172.17.0.0/16", "size": 24}],
        ),
        Field(
            "settings",
            Verbatim("further keys of daemon.json", docker.RESERVED),
            "Further keys of daemon.json, verbatim.",
            {},
            {"max-concurrent-downloads": 6},
        ),
        Field(
            "users",
            Items(_NAME),
            "The members of the group docker, who are as good as root, and no others. Not set: nobody is touched.",
            None,
            ["ci"],
        ),
        Field("images", Items(_NAME), "Images that must be there.", [], ["docker.io/library/debian:13"]),
    ),
)
_METRICS = Table(
    model.Metrics,
    (
        Field("enabled", Flag(), "Whether metrics-server runs: kubectl top, HorizontalPodAutoscaler.", True),
        Field(
            "endpoints",
            Flag(),
            "Whether each node, and each host of etcd, gives on port 6446, to those who may get /metrics, what it has "
            "on loopback: metrics of etcd, scheduler, controller manager, kube-proxy, keeper and Traefik "
            "(docs/monitoring.md).",
            False,
        ),
    ),
)
_INGRESS = Table(
    model.Ingress,
    (
        Field(
            "enabled",
            Flag(),
            "Whether Traefik runs as the default IngressClass. Not set: if there are hosts in the group of "
            "slipway_groups.ingress; it runs on these, else on all workers.",
        ),
        Field(
            "expose",
            Choice(("host", "load_balancer")),
            "Where it listens: on ports 80 and 443 of its hosts, or at an address of slipway_load_balancer.",
            "host",
        ),
        Field("gateway", Flag(), "Whether Gateway API is there too: definitions, GatewayClass, default Gateway.", True),
        Field("access_log", Flag(), "Whether each request gets a line of JSON in the pod's log.", True),
    ),
)
_INGRESS_TLS = Table(
    model.IngressTls,
    (
        Field("certificate", Text("PEM", texts.pem), "Certificates in PEM, the server's own first.", required=True),
        Field("key", Text("PEM", texts.pem), "Its private key in PEM.", required=True),
    ),
)
_LOAD_BALANCER = Table(
    model.LoadBalancer,
    (
        Field(
            "pools",
            Items(
                Table(
                    model.BalancerPool,
                    (
                        Field("name", Text("a DNS label", texts.dns_label), "Name of the pool.", required=True),
                        Field(
                            "addresses",
                            Items(Text("an IPv4 CIDR or FIRST-LAST", texts.address_range), single=True),
                            "Addresses of the nodes' network that nobody else uses.",
                            required=True,
                        ),
                        Field("auto_assign", Flag(), "Whether Services that name no pool get one of these.", True),
                    ),
                )
            ),
            "Pools of addresses. With any, MetalLB answers for them in layer 2.",
            [],
        ),
    ),
)
_STORAGE = Table(
    model.Storage,
    (
        Field(
            "enabled",
            Flag(),
            "Whether claims get volumes on a node's own disk. Such a volume pins its pods to that node, without a word "
            "to whoever made the claim, and its data is lost with that disk.",
            False,
        ),
        Field(
            "path",
            Text("an absolute path of letters, digits, '-', '_' and '.'", texts.directory, texts.DIRECTORY),
            "Where the volumes lie on every node: a directory of their own, which only root may enter. Another one is "
            "for new volumes. Neither reset nor remove_node touches it.",
            "/var/lib/slipway-volumes",
        ),
        Field(
            "default_class",
            Flag(),
            "Whether claims that name no class get such volumes; else only those that name local-path.",
            True,
        ),
    ),
)
_HOST_SETTINGS = Table(
    model.HostSettings,
    (
        Field("manage_kernel", Flag(), "Whether sysctls and kernel modules are set.", True),
        Field("packages", Flag(), "Whether missing OS packages are installed from the distribution's sources.", True),
        Field(
            "swap",
            Choice(("disable", "keep")),
            "What happens to swap: off for good, or kept, and the kubelet starts with it.",
            "disable",
        ),
        Field(
            "sysctls",
            Entries(texts.line, Text("a value in quotes", str), "a dictionary: sysctl → value"),
            "Further sysctls.",
            {},
            {"net.core.somaxconn": "4096"},
        ),
    ),
)
_GROUPS = Table(
    model.Groups,
    tuple(
        Field(role, Text("a group of the inventory", texts.line), f"The group of {what}.", f"slipway_{role}")
        for role, what in (
            ("control_plane", "control-plane hosts"),
            ("workers", "hosts that take pods"),
            ("etcd", "etcd hosts; none: the control-plane hosts"),
            ("ingress", "nodes that take traffic from outside"),
            ("registry", "registry hosts"),
            ("docker", "hosts with a Docker Engine"),
        )
    ),
)
_PROFILE = Table(
    model.NodeProfile,
    (
        Field("groups", Items(_NAME, single=True), "Inventory groups whose hosts it is for.", required=True),
        Field("labels", _LABELS, "Node labels.", {}),
        Field("taints", _TAINTS, "Node taints.", []),
        Field("kubelet", _KUBELET, "KubeletConfiguration fields.", {}),
        Field("runtime_handlers", _HANDLERS, "Further runtimes: handler → containerd's table.", {}),
    ),
)

_CLUSTER = (
    Variable(
        "slipway_cluster_name",
        Scope.CLUSTER,
        Text("a DNS label of at most 63 characters", texts.dns_label, texts.DNS_LABEL),
        "The cluster's name; reset asks for it.",
        "slipway",
        "prod",
    ),
    Variable(
        "slipway_kubernetes_version",
        Scope.CLUSTER,
        Text('a minor such as "1.37" or a patch such as "1.37.2", in quotes', texts.version, r"v?1\.\d+(\.\d+)?"),
        "Kubernetes version: a minor stands for its tested set of versions, a patch replaces Kubernetes in that set.",
        "1.37",
        "1.37.2",
    ),
    Variable(
        "slipway_endpoint",
        Scope.CLUSTER,
        Text("HOST or HOST:PORT", texts.endpoint),
        "Where people outside reach the API: your DNS name or load balancer; without a port, at 6443. Not set: a "
        "control-plane host's address.",
        None,
        "api.example.org:6443",
    ),
    Variable(
        "slipway_bundle",
        Scope.CLUSTER,
        _FILE,
        "Needed. What hosts get: the directory that slipway bundle build made, or the lock file "
        "that slipway bundle lock made, of which hosts fetch the downloads themselves.",
        None,
        "/srv/slipway/bundle",
    ),
    Variable(
        "slipway_network", Scope.CLUSTER, _NETWORK, "Pod network.", {}, {"pod_cidr": "10.128.0.0/14", "node_prefix": 24}
    ),
    Variable("slipway_dns", Scope.CLUSTER, _DNS, "Cluster DNS.", {}, {"upstream": ["10.0.0.53"]}),
    Variable("slipway_audit", Scope.CLUSTER, _AUDIT, "Audit log of the API server.", {}, {"max_size_mib": 200}),
    Variable(
        "slipway_etcd", Scope.CLUSTER, _ETCD, "etcd's tunables.", {}, {"heartbeat_ms": 250, "election_timeout_ms": 2500}
    ),
    Variable("slipway_proxy", Scope.CLUSTER, _PROXY, "The API proxy on every node's loopback.", {}, {"port": 7443}),
    Variable(
        "slipway_pod_security",
        Scope.CLUSTER,
        _POD_SECURITY,
        "Pod Security defaults for namespaces without labels of their own.",
        {},
        {"enforce": "restricted"},
    ),
    Variable("slipway_certificates", Scope.CLUSTER, _CERTIFICATES, "Lifetimes of certificates.", {}, {"days": 180}),
    Variable(
        "slipway_containerd",
        Scope.CLUSTER,
        _CONTAINERD,
        "Container runtime.",
        {},
        {
            "registries": [
                {"host": "docker.io", "mirrors": ["https://mirror.example.org"]},
                {"host": "mirror.example.org", "username": "puller"},
            ]
        },
    ),
    Variable(
        "slipway_registry",
        Scope.CLUSTER,
        _REGISTRY_SERVICE,
        "The registry on hosts of the group slipway_registry.",
        {},
        {"names": ["registry.example.org"]},
    ),
    Variable("slipway_apiserver_port", Scope.CLUSTER, Integer(1024, 65535), "Port of every API server.", 6443, 7443),
    Variable(
        "slipway_apiserver_args",
        Scope.CLUSTER,
        FlagValues(_APISERVER_RESERVED),
        "Further flags of kube-apiserver.",
        {},
        {"profiling": False, "event-ttl": "2h"},
    ),
    Variable(
        "slipway_controller_manager_args",
        Scope.CLUSTER,
        FlagValues(_CONTROLLER_MANAGER_RESERVED),
        "Further flags of kube-controller-manager.",
        {},
        {"terminated-pod-gc-threshold": 500},
    ),
    Variable(
        "slipway_scheduler_args",
        Scope.CLUSTER,
        FlagValues(_SCHEDULER_RESERVED),
        "Further flags of kube-scheduler.",
        {},
        {"v": 4},
    ),
    Variable(
        "slipway_etcd_args",
        Scope.CLUSTER,
        FlagValues(_ETCD_RESERVED),
        "Further flags of etcd.",
        {},
        {"auto-compaction-retention": "8h"},
    ),
    Variable(
        "slipway_apiserver_sans",
        Scope.CLUSTER,
        Items(_HOST),
        "Further names and addresses in the API server's certificate; the endpoint and all hosts are in it anyway.",
        [],
        ["api.internal.example.org", "192.0.2.10"],
    ),
    Variable(
        "slipway_authentication",
        Scope.CLUSTER,
        Items(Verbatim("a JWTAuthenticator of an AuthenticationConfiguration")),
        "Token issuers (OIDC): the jwt list of an AuthenticationConfiguration, verbatim.",
        [],
        [
            {
                "issuer": {"url": "https://id.example.org", "audiences": ["kubernetes"]},
                "claimMappings": {"username": {"claim": "email", "prefix": "oidc:"}},
            }
        ],
    ),
    Variable(
        "slipway_kube_proxy",
        Scope.CLUSTER,
        _KUBE_PROXY,
        "KubeProxyConfiguration fields, verbatim. mode is nftables unless given; ipvs is refused.",
        {},
        {"conntrack": {"maxPerCore": 0, "min": 0}},
    ),
    Variable(
        "slipway_node_profiles",
        Scope.CLUSTER,
        Items(_PROFILE),
        "Settings for the hosts of some groups, merged in this order; a host's own come last. Labels and kubelet "
        "fields merge key by key, taints by key and effect.",
        [],
        [{"groups": ["gpu"], "labels": {"accelerator": "gpu"}, "taints": ["dedicated=gpu:NoSchedule"]}],
    ),
    Variable(
        "slipway_metrics",
        Scope.CLUSTER,
        _METRICS,
        "Metrics for people, autoscalers and Prometheus.",
        {},
        {"endpoints": True},
    ),
    Variable("slipway_ingress", Scope.CLUSTER, _INGRESS, "HTTP from outside.", {}, {"enabled": True}),
    Variable(
        "slipway_load_balancer",
        Scope.CLUSTER,
        _LOAD_BALANCER,
        "Addresses for Services of type LoadBalancer.",
        {},
        {"pools": [{"name": "office", "addresses": ["10.0.0.240-10.0.0.250"]}]},
    ),
    Variable(
        "slipway_storage",
        Scope.CLUSTER,
        _STORAGE,
        "Volumes on the nodes' own disks: the StorageClass local-path.",
        {},
        {"enabled": True, "path": "/srv/volumes"},
    ),
    Variable(
        "slipway_manifests",
        Scope.CLUSTER,
        Items(_FILE, single=True),
        "Your own manifests on the controller: YAML or JSON files, or directories of them. They are applied with the "
        "rest, and what leaves them is deleted.",
        [],
        ["manifests/"],
    ),
    Variable(
        "slipway_groups",
        Scope.CLUSTER,
        _GROUPS,
        "Other names for the groups that give roles.",
        {},
        {"control_plane": "masters", "workers": "nodes"},
    ),
    Variable(
        "slipway_target",
        Scope.CLUSTER,
        Text("a group of the inventory", texts.line),
        "Parent group of the cluster's hosts, where an inventory has several clusters. Given with -e, for it decides "
        "which hosts take part.",
        None,
        "prod",
    ),
)
_NODE = (
    Variable(
        "slipway_node_address",
        Scope.NODE,
        Text("an IPv4 address other hosts can reach", texts.address),
        "Address of the host in the cluster. Not set: ansible_host if an address, else the default route's source.",
        None,
        "10.0.0.21",
    ),
    Variable(
        "slipway_node_name",
        Scope.NODE,
        Text("a Node name: a DNS name in lower case of at most 63 characters", texts.node_name),
        "Node name, fixed once joined. Not set: the inventory name if it can be one, else the host's own.",
        None,
        "rack1-a",
    ),
    Variable("slipway_node_labels", Scope.NODE, _LABELS, "Node labels.", {}, {"topology.kubernetes.io/zone": "a"}),
    Variable("slipway_node_taints", Scope.NODE, _TAINTS, "Node taints.", [], ["dedicated=gpu:NoSchedule"]),
    Variable(
        "slipway_kubelet",
        Scope.NODE,
        _KUBELET,
        "KubeletConfiguration fields, verbatim, merged over Slipway's.",
        {},
        {"maxPods": 200, "evictionHard": {"memory.available": "200Mi"}},
    ),
    Variable(
        "slipway_host", Scope.NODE, _HOST_SETTINGS, "What Slipway may touch on the host.", {}, {"manage_kernel": False}
    ),
    Variable(
        "slipway_docker",
        Scope.NODE,
        _DOCKER,
        "Docker Engine on hosts of the group slipway_docker.",
        {},
        {"users": ["ci"], "images": ["docker.io/library/debian:13"]},
    ),
    Variable(
        "slipway_node_absent",
        Scope.NODE,
        Flag(),
        "Whether the host is down on purpose: it is not contacted, and nothing waits for it.",
        False,
        True,
    ),
    *(
        Variable(
            f"slipway_tasks_{when}_{phase}",
            Scope.NODE,
            Items(_FILE, single=True),
            f"Task files of yours that run on the host {when} the phase {phase}, if apply changes something on it.",
            [],
            "hooks/mount-disks.yml",
        )
        for phase in model.PHASES
        for when in ("before", "after")
    ),
)
PREFLIGHT: t.Mapping[str, str] = {
    "os": "the operating system has been tested",
    "architecture": "there are artefacts for the processor",
    "kernel": "the kernel is new enough for kube-proxy's nftables mode",
    "python": "the host's Python is new enough",
    "systemd": "systemd runs and is new enough",
    "cgroup": "cgroup v2, or the kubelet is told to accept v1",
    "memory": "enough memory for the host's roles",
    "disk": "enough free disk where the host's roles write",
    "swap": "swap is off, or is turned off, or the kubelet accepts it",
    "clock": "the host's clock agrees with the controller's and is kept right",
    "ports": "nobody else listens on the ports of the host's roles",
    "programs": "the programs the host needs from its distribution are there, or are installed",
    "identity": "no two hosts have the same machine-id or host name",
    "address": "the host has the address the cluster knows it by",
    "networks": "pod_cidr and service_cidr do not reach into networks the host is in",
    "resolvers": "cluster DNS has a resolver that is not itself",
    "proxy": "HTTP proxy settings leave the cluster's addresses alone",
    "kubeadm": "nothing that kubeadm left behind",
    "reach": "new hosts and all others reach each other's ports, with packets as large as pods need; apply tries it",
}
"""Preflight checks that a user may ignore: name → what they make sure of."""

_REST = (
    Variable(
        "slipway_secret_registry_passwords",
        Scope.SECRET,
        Entries(texts.registry_host, Text("a password"), "a dictionary: registry host → password"),
        "Passwords of registries and mirrors with a username in slipway_containerd. Keep it in a vault.",
        {},
        {"mirror.example.org": "from a vault"},
    ),
    Variable(
        "slipway_secret_registry_password",
        Scope.SECRET,
        Text("a password of 8 to 72 bytes", texts.bcrypt_password),
        "Password of the registry's one user, for hosts of the group slipway_registry. Keep it in a vault.",
        None,
        "from a vault",
    ),
    Variable(
        "slipway_secret_ingress_tls",
        Scope.SECRET,
        _INGRESS_TLS,
        "What Traefik shows for names without a certificate of their own. Not set: a self-signed one. Vault it.",
        None,
        {"certificate": "-----BEGIN CERTIFICATE-----…-----END CERTIFICATE-----", "key": "-----BEGIN …-----END …-----"},
    ),
    Variable(
        "slipway_ignore_preflight",
        Scope.RUN,
        Items(Choice(tuple(PREFLIGHT)), single=True),
        "Preflight checks whose errors become warnings.",
        [],
        ["memory", "clock"],
    ),
    Variable(
        "slipway_reset_confirm",
        Scope.RUN,
        _NAME,
        "The cluster's name: reset then does not ask for it.",
        None,
        "prod",
    ),
    Variable(
        "slipway_remove",
        Scope.RUN,
        Items(_NAME, single=True),
        "The hosts that remove_node takes out: names of the inventory, or of Nodes or etcd members that are not in it.",
        [],
        ["w3"],
    ),
    Variable(
        "slipway_remove_dead",
        Scope.RUN,
        Flag(),
        "Declares that those of slipway_remove that cannot be reached are switched off for good.",
        False,
        True,
    ),
    Variable(
        "slipway_remove_confirm",
        Scope.RUN,
        _NAME,
        "The cluster's name: remove_node then does not ask for it.",
        None,
        "prod",
    ),
    Variable(
        "slipway_batch",
        Scope.RUN,
        _BATCH,
        "How many workers apply restarts something on at a time; at least one. Control-plane hosts go one at a time.",
        "10%",
        "2",
    ),
    Variable(
        "slipway_maintain_tasks",
        Scope.RUN,
        _FILE,
        "The file of tasks that maintain runs on each host while it is out of service; os_updates is a ready-made one.",
        None,
        "firmware.yml",
    ),
    Variable(
        "slipway_maintain_batch",
        Scope.RUN,
        _BATCH,
        "How many workers maintain takes out of service at a time; at least one. Not set: as slipway_batch.",
        None,
        "2",
    ),
    Variable(
        "slipway_maintain_again",
        Scope.RUN,
        Flag(),
        "Starts a maintenance over that was not finished, also on the hosts it had finished.",
        False,
        True,
    ),
    Variable(
        "slipway_accept_quorum_loss",
        Scope.RUN,
        Flag(),
        "Whether a member of etcd may be restarted, or its host maintained, although others are down and etcd, and "
        "with it the API, stands still meanwhile, for good if the member does not come back.",
        False,
        True,
    ),
    Variable(
        "slipway_drain",
        Scope.RUN,
        _DRAIN,
        "How a node is emptied before it is disturbed.",
        {},
        {"timeout": 1800},
    ),
    Variable(
        "slipway_hold_wait",
        Scope.RUN,
        Integer(0, 86400, "seconds"),
        "How long a run waits for another one that holds the cluster; at 0 it stops and says who that is. "
        "Give it on the command line (-e).",
        0,
        600,
    ),
    Variable("slipway_explain", Scope.RUN, _NAME, "The host whose values plan explains.", None, "w1"),
    Variable(
        "slipway_kubeconfig_output",
        Scope.RUN,
        _PATH,
        "Where on the controller the kubeconfig is put (mode 0600); a relative path begins at the current directory. "
        "Not set: beside the inventory.",
        None,
        "~/.kube/prod",
    ),
)

VARIABLES: t.Mapping[str, Variable] = {each.name: each for each in (*_CLUSTER, *_NODE, *_REST)}

INTERNAL = frozenset({"slipway_plan", "slipway_probe", "slipway_report", "slipway_phase", "slipway_version"})
"""Variables of Slipway's own playbooks: no part of the spec."""


def is_internal(name: str) -> bool:
    """Whether a variable is Slipway's own and not the user's."""
    return name in INTERNAL or name.startswith("slipway__")
