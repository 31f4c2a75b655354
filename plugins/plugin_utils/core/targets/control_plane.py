# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""API server, controller manager and scheduler of one control-plane host."""

from __future__ import annotations

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import UNIT as ETCD_UNIT
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import Directory, File, HostState, Unit

from ..layout import Layout, Node
from . import paths
from .etcd import CIPHERS, CLIENT_PORT, client_url
from .text import Service, flags, kubeconfig, to_yaml

APISERVER_UNIT = "kube-apiserver.service"
CONTROLLER_MANAGER_UNIT = "kube-controller-manager.service"
SCHEDULER_UNIT = "kube-scheduler.service"
CONTROLLER_MANAGER_PORT = 10257
SCHEDULER_PORT = 10259


def control_plane_target(layout: Layout, node: Node) -> HostState:
    """All three components and the host's emergency kubeconfig."""
    return (
        apiserver_target(layout, node)
        + controller_manager_target(layout, node)
        + scheduler_target(layout, node)
        + admin_target(layout)
    )


def waits(layout: Layout, node: Node) -> list[dict[str, t.Any]]:
    """What answers when the control plane of this host is up; anonymous requests may ask for nothing else."""
    return [
        {
            "what": "kube-apiserver",
            "url": f"https://{node.address}:{layout.api_port}/readyz",
            "ca": paths.CA,
        },
        {
            "what": "kube-controller-manager",
            "url": f"https://127.0.0.1:{CONTROLLER_MANAGER_PORT}/healthz",
            "ca": paths.CA,
        },
        {"what": "kube-scheduler", "url": f"https://127.0.0.1:{SCHEDULER_PORT}/healthz", "ca": paths.CA},
    ]


def apiserver_target(layout: Layout, node: Node) -> HostState:
    """The API server, its policies and its unit."""
    own = "kube-apiserver"
    policies = {
        f"{paths.APISERVER}/authentication.yaml": _authentication(layout),
        f"{paths.APISERVER}/admission.yaml": _admission(layout),
        f"{paths.APISERVER}/audit-policy.yaml": _audit_policy(layout),
    }
    service = Service(
        description="Kubernetes API server",
        command=(paths.program(own), *flags(_apiserver_flags(layout, node), layout.args["apiserver"])),
        type="notify",
        user=own,
        after=("network-online.target", ETCD_UNIT),  # so that it is stopped before etcd: without etcd it cannot end
        lines=(f"ReadWritePaths={paths.AUDIT}",),
        inputs=(*policies.values(), layout.versions["kubernetes"]),
        start_timeout=240,  # what kubeadm's startup probe gives it; killed earlier, a slow machine never gets there
        stop_timeout=75,
    )
    return HostState(
        directories=(Directory(paths.AUDIT, "0700", own, own),),
        files=(
            *(File(path, text, "0600", own, own) for path, text in policies.items()),
            File(paths.unit(APISERVER_UNIT), service.text()),
        ),
        units=(Unit(APISERVER_UNIT, service.digest),),
    )


def _apiserver_flags(layout: Layout, node: Node) -> dict[str, t.Any]:
    own = paths.APISERVER
    stacked = any(member.host == node.host for member in layout.etcd)
    etcd = f"https://127.0.0.1:{CLIENT_PORT}" if stacked else ",".join(client_url(member) for member in layout.etcd)
    return {
        "advertise-address": node.address,
        "secure-port": layout.api_port,
        "allow-privileged": True,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "admission-control-config-file": f"{own}/admission.yaml",
        "authentication-config": f"{own}/authentication.yaml",
        "enable-bootstrap-token-auth": True,
        "etcd-servers": etcd,
        "etcd-cafile": f"{own}/etcd-ca.crt",
        "etcd-certfile": f"{own}/etcd-client.crt",
        "etcd-keyfile": f"{own}/etcd-client.key",
        "encryption-provider-config": f"{own}/encryption.yaml",
        "encryption-provider-config-automatic-reload": True,
        "client-ca-file": f"{own}/ca.crt",
        "tls-cert-file": f"{own}/serving.crt",
        "tls-private-key-file": f"{own}/serving.key",
        "tls-min-version": "VersionTLS12",
        "tls-cipher-suites": ",".join(CIPHERS),
        "kubelet-certificate-authority": f"{own}/ca.crt",
        "kubelet-client-certificate": f"{own}/kubelet-client.crt",
        "kubelet-client-key": f"{own}/kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,Hostname",
        "requestheader-client-ca-file": f"{own}/front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "proxy-client-cert-file": f"{own}/front-proxy-client.crt",
        "proxy-client-key-file": f"{own}/front-proxy-client.key",
        "enable-aggregator-routing": True,
        "service-account-issuer": f"https://kubernetes.default.svc.{layout.domain}",
        "service-account-key-file": f"{own}/sa.pub",
        "service-account-signing-key-file": f"{own}/sa.key",
        "service-account-extend-token-expiration": False,
        "service-cluster-ip-range": layout.service_cidr,
        **_audit_flags(layout),
        "profiling": False,
        # Ends once requests in flight are answered; without it, open watches hold up every stop and restart for 60 s.
        "shutdown-send-retry-after": True,
    }


def _audit_flags(layout: Layout) -> dict[str, t.Any]:
    if not layout.audit.get("enabled", True):
        return {}
    return {
        "audit-policy-file": f"{paths.APISERVER}/audit-policy.yaml",
        "audit-log-path": f"{paths.AUDIT}/audit.log",
        "audit-log-maxage": layout.audit["max_age_days"],
        "audit-log-maxbackup": layout.audit["max_backups"],
        "audit-log-maxsize": layout.audit["max_size_mib"],
    }


def _authentication(layout: Layout) -> str:
    """Anonymous requests may ask whether the server is well, and nothing else (KEP-4633)."""
    return to_yaml(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AuthenticationConfiguration",
            "jwt": list(layout.authentication),
            "anonymous": {"enabled": True, "conditions": [{"path": "/livez"}, {"path": "/readyz"}]},
        }
    )


def _admission(layout: Layout) -> str:
    """Pod Security for namespaces that carry no labels of their own."""
    level = layout.pod_security
    return to_yaml(
        {
            "apiVersion": "apiserver.config.k8s.io/v1",
            "kind": "AdmissionConfiguration",
            "plugins": [
                {
                    "name": "PodSecurity",
                    "configuration": {
                        "apiVersion": "pod-security.admission.config.k8s.io/v1",
                        "kind": "PodSecurityConfiguration",
                        "defaults": {
                            "enforce": level["enforce"],
                            "enforce-version": "latest",
                            "audit": level["audit"],
                            "audit-version": "latest",
                            "warn": level["warn"],
                            "warn-version": "latest",
                        },
                        "exemptions": {"namespaces": sorted({"kube-system", *level["exempt_namespaces"]})},
                    },
                }
            ],
        }
    )


def _audit_policy(layout: Layout) -> str:
    """Who did what, without the content of Secrets and without the noise of health checks and leases."""
    quiet = [
        {"level": "None", "nonResourceURLs": ["/livez*", "/readyz*", "/healthz*", "/version", "/openapi*"]},
        {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
        {"level": "None", "verbs": ["get", "list", "watch"], "userGroups": ["system:nodes"]},
        {
            "level": "None",
            "verbs": ["get", "list", "watch"],
            "users": ["system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"],
        },
        {"level": "None", "resources": [{"group": "", "resources": ["events"]}]},
    ]
    rules = layout.audit.get("policy") or [
        *quiet,
        {"level": "Metadata", "omitStages": ["RequestReceived"]},
    ]
    return to_yaml({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": list(rules)})


def _serving_flags(directory: str) -> dict[str, t.Any]:
    """How both controllers answer on the loopback: who is well is told to everybody, the rest to whom the API knows."""
    return {
        "authentication-kubeconfig": f"{directory}/kubeconfig",
        "authorization-kubeconfig": f"{directory}/kubeconfig",
        "authorization-always-allow-paths": "/healthz,/readyz,/livez",
        "bind-address": "127.0.0.1",
        "tls-cert-file": f"{directory}/serving.crt",
        "tls-private-key-file": f"{directory}/serving.key",
        "tls-min-version": "VersionTLS12",
        "client-ca-file": f"{directory}/ca.crt",
        "requestheader-client-ca-file": f"{directory}/front-proxy-ca.crt",
    }


def controller_manager_target(layout: Layout, node: Node) -> HostState:
    """The controller manager; it talks to its own host's API server, whose version it may not be ahead of."""
    own, directory = "kube-controller-manager", paths.CONTROLLER_MANAGER
    config = _component_kubeconfig(layout, node, own, directory)
    defaults = {
        "kubeconfig": f"{directory}/kubeconfig",
        **_serving_flags(directory),
        "cluster-name": layout.name,
        "cluster-cidr": layout.pod_cidr,
        "allocate-node-cidrs": True,
        "node-cidr-mask-size": layout.node_prefix,
        "service-cluster-ip-range": layout.service_cidr,
        "cluster-signing-cert-file": f"{directory}/ca.crt",
        "cluster-signing-key-file": f"{directory}/ca.key",
        "root-ca-file": f"{directory}/ca.crt",
        "service-account-private-key-file": f"{directory}/sa.key",
        "use-service-account-credentials": True,
        # A new leader asks for a token for each controller before the first one starts; with upstream's 20 requests a
        # second and bursts of 30 that takes 5 s, in a new cluster and after every loss of the leader.
        "kube-api-qps": 100,
        "kube-api-burst": 200,
        "controllers": "*,tokencleaner",
        "leader-elect": True,
        "profiling": False,
    }
    service = Service(
        description="Kubernetes controller manager",
        command=(paths.program(own), *flags(defaults, layout.args["controller_manager"])),
        user=own,
        after=("network-online.target", APISERVER_UNIT),
        inputs=(config, layout.versions["kubernetes"]),
    )
    return HostState(
        files=(
            File(f"{directory}/kubeconfig", config, "0600", own, own),
            File(paths.unit(CONTROLLER_MANAGER_UNIT), service.text()),
        ),
        units=(Unit(CONTROLLER_MANAGER_UNIT, service.digest),),
    )


def scheduler_target(layout: Layout, node: Node) -> HostState:
    """The scheduler, like the controller manager at its own host's API server."""
    own, directory = "kube-scheduler", paths.SCHEDULER
    config = _component_kubeconfig(layout, node, own, directory)
    scheduler = to_yaml(
        {
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": {"kubeconfig": f"{directory}/kubeconfig"},
            "leaderElection": {"leaderElect": True},
            "enableProfiling": False,
        }
    )
    defaults = {
        "config": f"{directory}/config.yaml",
        **_serving_flags(directory),
    }
    service = Service(
        description="Kubernetes scheduler",
        command=(paths.program(own), *flags(defaults, layout.args["scheduler"])),
        user=own,
        after=("network-online.target", APISERVER_UNIT),
        inputs=(config, scheduler, layout.versions["kubernetes"]),
    )
    return HostState(
        files=(
            File(f"{directory}/kubeconfig", config, "0600", own, own),
            File(f"{directory}/config.yaml", scheduler, "0600", own, own),
            File(paths.unit(SCHEDULER_UNIT), service.text()),
        ),
        units=(Unit(SCHEDULER_UNIT, service.digest),),
    )


def _component_kubeconfig(layout: Layout, node: Node, name: str, directory: str) -> str:
    return kubeconfig(
        cluster=layout.name,
        server=f"https://{node.address}:{layout.api_port}",
        ca=f"{directory}/ca.crt",
        user=name,
        certificate=f"{directory}/client.crt",
        key=f"{directory}/client.key",
    )


def admin_target(layout: Layout) -> HostState:
    """The kubeconfig for root on this host: it cannot be revoked, so it stays here."""
    text = kubeconfig(
        cluster=layout.name,
        server=f"https://127.0.0.1:{layout.api_port}",
        ca=paths.CA,
        user="emergency-admin",
        certificate=f"{paths.ADMIN}/client.crt",
        key=f"{paths.ADMIN}/client.key",
    )
    return HostState(files=(File(paths.ADMIN_CONF, text, "0600"),))
