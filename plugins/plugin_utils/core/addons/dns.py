# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CoreDNS, the cluster's DNS."""

from __future__ import annotations

import typing as t

from .model import Addon, Scene
from .objects import (
    KubernetesObject,
    as_nobody,
    cluster_role,
    cluster_role_binding,
    config_hash,
    critical_tolerations,
    locked_down,
    namespaced,
    probe,
    service_account,
)

_DNS_NAME = "coredns"
_DNS_LABELS = {"k8s-app": "kube-dns"}


def dns_objects(
    *, domain: str, service_ip: str, image: str, replicas: int = 2, upstreams: t.Sequence[str] | None = None
) -> list[KubernetesObject]:
    """CoreDNS as cluster DNS.

    ``domain`` is the cluster's DNS domain, ``service_ip`` the address kubelets give to pods. ``upstreams`` are the
    resolvers for outside names: None for those of the node a replica runs on, an empty list where hosts have none.
    """
    corefile = dns_corefile(domain=domain, upstreams=upstreams)
    return [
        _namespaced("v1", "ServiceAccount", automountServiceAccountToken=False),
        cluster_role("slipway:coredns", _dns_rules()),
        cluster_role_binding(
            "slipway:coredns",
            "slipway:coredns",
            service_account(_DNS_NAME, "kube-system"),
        ),
        _namespaced("v1", "ConfigMap", data={"Corefile": corefile}),
        _dns_service(service_ip),
        _namespaced(
            "policy/v1",
            "PodDisruptionBudget",
            spec={
                "maxUnavailable": 1,
                "selector": {"matchLabels": _DNS_LABELS},
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        ),
        _dns_deployment(image=image, replicas=replicas, corefile=corefile),
    ]


def dns_corefile(*, domain: str, upstreams: t.Sequence[str] | None = None) -> str:
    """CoreDNS's configuration.

    Without any upstream a ``forward`` would stop CoreDNS at its start, and no plugin at the end of the chain would log
    an error for each outside name, so those names are refused in words of their own.
    """
    if upstreams is not None and not upstreams:
        outside = ["template ANY ANY {", "    rcode REFUSED", "}"]
    else:
        targets = " ".join(upstreams) if upstreams else "/etc/resolv.conf"
        outside = [f"forward . {targets} {{", "    max_concurrent 1000", "}", "loop"]
    lines = [
        "errors",
        "health {",
        "    lameduck 5s",
        "}",
        "ready",
        f"kubernetes {domain} in-addr.arpa ip6.arpa {{",
        "    pods insecure",
        "    fallthrough in-addr.arpa ip6.arpa",
        "    ttl 30",
        "}",
        "prometheus :9153",
        *outside,
        "cache 30",
        "reload",
        "loadbalance",
    ]
    return "\n".join([".:53 {", *(f"    {line}" for line in lines), "}", ""])


def _namespaced(api_version: str, kind: str, *, name: str = _DNS_NAME, **fields: t.Any) -> KubernetesObject:
    return namespaced(api_version, kind, name, "kube-system", _DNS_LABELS, **fields)


def _dns_rules() -> list[KubernetesObject]:
    """What CoreDNS's kubernetes plugin watches (coredns.io/plugins/kubernetes)."""
    return [
        {"apiGroups": [""], "resources": ["namespaces", "pods", "services"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]


def _dns_service(service_ip: str) -> KubernetesObject:
    """The Service every pod's resolv.conf names; called kube-dns because the API server's tools look for that name."""
    service = _namespaced(
        "v1",
        "Service",
        name="kube-dns",
        spec={
            "clusterIP": service_ip,
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": "dns"},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": "dns-tcp"},
                {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": "metrics"},
            ],
            "selector": dict(_DNS_LABELS),
        },
    )
    service["metadata"]["labels"] |= {"kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}
    service["metadata"]["annotations"] = {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"}
    return service


def _dns_deployment(*, image: str, replicas: int, corefile: str) -> KubernetesObject:
    return _namespaced(
        "apps/v1",
        "Deployment",
        spec={
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": dict(_DNS_LABELS)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}},
            "template": {
                "metadata": {"labels": dict(_DNS_LABELS), "annotations": config_hash(corefile)},
                "spec": _dns_pod(image),
            },
        },
    )


def _dns_pod(image: str) -> KubernetesObject:
    return {
        "automountServiceAccountToken": True,
        "containers": [_dns_container(image)],
        # The node's resolv.conf, not the cluster's, which would be CoreDNS itself.
        "dnsPolicy": "Default",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "priorityClassName": "system-cluster-critical",
        "securityContext": as_nobody(
            # Port 53 without any capability; another port would slip past NetworkPolicies that allow DNS by its port.
            sysctls=[{"name": "net.ipv4.ip_unprivileged_port_start", "value": "53"}]
        ),
        "serviceAccountName": _DNS_NAME,
        "terminationGracePeriodSeconds": 30,
        "tolerations": critical_tolerations(),
        # Tainted nodes do not count, so that a replica is never left without a place.
        "topologySpreadConstraints": [
            {
                "labelSelector": {"matchLabels": dict(_DNS_LABELS)},
                "matchLabelKeys": ["pod-template-hash"],
                "maxSkew": 1,
                "nodeTaintsPolicy": "Honor",
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule",
            }
        ],
        "volumes": [{"name": "config", "configMap": {"name": _DNS_NAME}}],
    }


def _dns_container(image: str) -> KubernetesObject:
    return {
        "name": _DNS_NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["-conf", "/etc/coredns/Corefile"],
        "livenessProbe": probe("/health", "health", failureThreshold=5, timeoutSeconds=5),
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            {"name": "health", "containerPort": 8080, "protocol": "TCP"},
            {"name": "ready", "containerPort": 8181, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
        ],
        # A startup probe, because a readiness probe's next chance comes only a period later.
        "startupProbe": probe("/ready", "ready", failureThreshold=60, periodSeconds=1),
        "readinessProbe": probe("/ready", "ready", failureThreshold=3, periodSeconds=5),
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "securityContext": locked_down(),
        "volumeMounts": [{"name": "config", "mountPath": "/etc/coredns", "readOnly": True}],
    }


def _objects(scene: Scene) -> list[KubernetesObject]:
    # CoreDNS asks the resolvers of the node it runs on, unless the user names some; without any it must not forward.
    upstreams = list(scene.spec.dns.upstream) or (None if scene.resolvers else [])
    return dns_objects(
        domain=scene.layout.domain,
        service_ip=scene.layout.dns_address,
        image=scene.images["coredns"],
        replicas=scene.spec.dns.replicas,
        upstreams=upstreams,
    )


DNS = Addon("dns", wanted=lambda spec: spec.dns.enabled, objects=_objects, images=("coredns",))
