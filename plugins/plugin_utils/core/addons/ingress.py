# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Traefik: HTTP from outside, by Ingress and Gateway API.

On its hosts it shares their network and listens on ports 80 and 443. Two of its processes can listen there at once
(SO_REUSEPORT), so that a new pod is up before the old one goes; no port is declared, or the scheduler would refuse the
second. Behind a load balancer's address it is a pod like any other.
"""

from __future__ import annotations

import hashlib
import typing as t

import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import GENERATE

from ..layout import INGRESS_LABEL
from ..spec import Ingress, NodeSpec
from .model import Addon, Scene
from .objects import (
    NOBODY,
    KubernetesObject,
    as_nobody,
    cluster_role,
    cluster_role_binding,
    config_hash,
    locked_down,
    namespace,
    namespaced,
    probe,
    rule,
    service_account,
)

SPACE = "slipway-ingress"
CLASS = "traefik"
GATEWAY = "default"
_NAME = "traefik"
_LABELS = {"app.kubernetes.io/name": _NAME}
_CERTIFICATE = "default-certificate"
METRICS_PORT = 9180
PING_PORT = 9181
# What is sent to an address takes a while to follow a Service, and after a restart without a change the old process may
# answer for the new one. So the old one goes on accepting for these seconds.
_STILL_ACCEPTING = 10
_FINISHING = 30


def ingress_objects(
    *,
    image: str,
    settings: Ingress,
    given_certificate: str,
    proxy_port: int,
    addresses: t.Sequence[str],
) -> list[KubernetesObject]:
    """The objects. ``addresses`` are those of the hosts, which an Ingress shows; ``proxy_port`` is the API's there.

    ``given_certificate`` is the user's, in PEM, or empty: another one makes new pods, for Traefik reads it once.
    """
    host, gateway = settings.expose == "host", settings.gateway
    static = _static(host=host, gateway=gateway, access_log=settings.access_log, addresses=addresses)
    dynamic = _yaml({"tls": {"stores": {"default": {"defaultCertificate": _certificate_files()}}}})
    digest = hashlib.sha256(f"{image}\0{static}\0{dynamic}\0{given_certificate}".encode()).digest()
    # Every template has a loopback address of its own, so that a probe asks the process of its own template.
    ping = f"127.{digest[0]}.{digest[1]}.{digest[2] % 254 + 1}" if host else ""
    static = static.replace("PING", ping)
    objects = [
        namespace(SPACE, "privileged" if host else "restricted"),
        namespaced("v1", "ServiceAccount", _NAME, SPACE, automountServiceAccountToken=False),
        cluster_role("slipway:traefik", _rules(gateway=gateway)),
        cluster_role_binding("slipway:traefik", "slipway:traefik", service_account(_NAME, SPACE)),
        _class(),
        _secret(given=bool(given_certificate)),
        namespaced("v1", "ConfigMap", _NAME, SPACE, data={"traefik.yaml": static, "tls.yaml": dynamic}),
        _daemon_set(image, host=host, ping=ping, proxy_port=proxy_port, config=(static, dynamic, given_certificate)),
    ]
    if not host:
        objects.append(_service())
    return [*objects, *(_gateway() if gateway else ())]


def _certificate_files() -> dict[str, str]:
    return {"certFile": "/certificate/tls.crt", "keyFile": "/certificate/tls.key"}


def _static(*, host: bool, gateway: bool, access_log: bool, addresses: t.Sequence[str]) -> str:
    """Traefik's own configuration, which needs a restart."""

    def entry(port: int, **http: t.Any) -> dict[str, t.Any]:
        lifecycle = {"requestAcceptGraceTimeout": f"{_STILL_ACCEPTING}s", "graceTimeOut": f"{_FINISHING}s"}
        # Backends that make variables of header names would take X_Forwarded_For for the one that Traefik vouches for.
        http = {"aliasHeadersStrategy": "delete", **http}
        common = {"address": f":{port}", "reusePort": host, "asDefault": True}
        return {**common, "http": http, "transport": {"lifeCycle": lifecycle}}

    # One address can be told; with several hosts it is for the user's DNS to name them.
    endpoint: dict[str, t.Any] = {"publishedService": f"{SPACE}/{_NAME}"}
    status: dict[str, t.Any] = {"service": {"name": _NAME, "namespace": SPACE}}
    if host:
        endpoint = {"ip": addresses[0]} if len(addresses) == 1 else {}
        status = {"ip": addresses[0]} if len(addresses) == 1 else {}
    providers: dict[str, t.Any] = {
        "file": {"filename": "/etc/traefik/tls.yaml", "watch": True},
        "kubernetesIngress": {"ingressClass": CLASS, **({"ingressEndpoint": endpoint} if endpoint else {})},
    }
    if gateway:
        providers["kubernetesGateway"] = {"statusAddress": status} if status else {}
    config: dict[str, t.Any] = {
        "entryPoints": {
            "web": entry(80),
            "websecure": entry(443, tls={}),
            # It knows no credentials; on hosts those of slipway_metrics.endpoints stand before it.
            "metrics": {"address": f"{'127.0.0.1' if host else ''}:{METRICS_PORT}", "reusePort": host},
            "ping": {"address": f"PING:{PING_PORT}", "reusePort": host},
        },
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"format": "json", "level": "INFO"},
        "metrics": {"prometheus": {"addRoutersLabels": True, "entryPoint": "metrics"}},
        "ping": {"entryPoint": "ping"},
        "providers": providers,
    }
    if access_log:
        config["accessLog"] = {"format": "json"}
    return _yaml(config)


def _yaml(data: t.Any) -> str:
    return yaml.safe_dump(data, sort_keys=True)


def _rules(*, gateway: bool) -> list[KubernetesObject]:
    """What Traefik's providers read (doc.traefik.io: providers kubernetes-ingress and kubernetes-gateway).

    Certificates are Secrets of any namespace, so it reads all of them.
    """
    rules = [
        rule("", "services secrets configmaps namespaces nodes", "get list watch"),
        rule("discovery.k8s.io", "endpointslices", "list watch"),
        rule("networking.k8s.io", "ingresses ingressclasses", "get list watch"),
        rule("networking.k8s.io", "ingresses/status", "update"),
    ]
    if gateway:
        kinds = "gatewayclasses gateways httproutes grpcroutes tcproutes tlsroutes udproutes listenersets"
        kinds += " referencegrants backendtlspolicies"
        states = " ".join(f"{kind}/status" for kind in kinds.split())
        rules.append(rule("gateway.networking.k8s.io", kinds, "get list watch"))
        rules.append(rule("gateway.networking.k8s.io", states, "update"))
    return rules


def _class() -> KubernetesObject:
    annotation = {"ingressclass.kubernetes.io/is-default-class": "true"}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": CLASS, "annotations": annotation},
        "spec": {"controller": "traefik.io/ingress-controller"},
    }


def _secret(*, given: bool) -> KubernetesObject:
    """The certificate for names without one of their own: the user's, or one that is made when the Secret is."""
    item = namespaced("v1", "Secret", _CERTIFICATE, SPACE, type="kubernetes.io/tls")
    if given:
        return {**item, "data": {"tls.crt": "@@ingress-certificate@@", "tls.key": "@@ingress-key@@"}}
    item["metadata"]["annotations"] = {GENERATE: "certificate"}
    return item


def _daemon_set(image: str, *, host: bool, ping: str, proxy_port: int, config: tuple[str, ...]) -> KubernetesObject:
    scrape = {"prometheus.io/port": str(METRICS_PORT), "prometheus.io/scrape": "true"}
    annotations = {**config_hash(*config), **({} if host else scrape)}
    pod: KubernetesObject = {
        "automountServiceAccountToken": True,
        "containers": [_container(image, host=host, ping=ping, proxy_port=proxy_port)],
        "enableServiceLinks": False,
        "nodeSelector": {INGRESS_LABEL: "true"},
        "priorityClassName": "system-cluster-critical",
        "serviceAccountName": _NAME,
        "terminationGracePeriodSeconds": _STILL_ACCEPTING + _FINISHING + 5,
        "tolerations": [{"effect": "NoSchedule", "operator": "Exists"}],
        "volumes": [
            {"name": "config", "configMap": {"name": _NAME}},
            {"name": "certificate", "secret": {"secretName": _CERTIFICATE, "defaultMode": 0o444}},
        ],
        **(_host_network() if host else _pod_network()),
    }
    # The new pod beside an old one on a host that is down never becomes ready, and counts: where there may be more of
    # them than half, the others are renewed.
    limits = {"maxSurge": "51%", "maxUnavailable": 0}
    return namespaced(
        "apps/v1",
        "DaemonSet",
        _NAME,
        SPACE,
        _LABELS,
        spec={
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": dict(_LABELS)},
            "template": {
                "metadata": {"labels": dict(_LABELS), "annotations": annotations},
                "spec": pod,
            },
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": limits},
        },
    )


def _host_network() -> KubernetesObject:
    """Ports below 1024 of the host need root with that one capability; a pod cannot give it to another user."""
    return {
        "dnsPolicy": "ClusterFirstWithHostNet",
        "hostNetwork": True,
        "securityContext": {"runAsGroup": 0, "runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}},
    }


def _pod_network() -> KubernetesObject:
    ports = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"}]
    return {"securityContext": as_nobody(fsGroup=NOBODY, sysctls=ports)}


def _container(image: str, *, host: bool, ping: str, proxy_port: int) -> KubernetesObject:
    container: KubernetesObject = {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["--configFile=/etc/traefik/traefik.yaml"],
        "livenessProbe": probe("/ping", PING_PORT, host=ping, failureThreshold=3, periodSeconds=10),
        "readinessProbe": probe("/ping", PING_PORT, host=ping, failureThreshold=1, periodSeconds=5),
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
        "securityContext": locked_down(),
        # A process answers before it has read its routes, which takes it about a second.
        "startupProbe": probe(
            "/ping", PING_PORT, host=ping, failureThreshold=60, initialDelaySeconds=0 if host else 3, periodSeconds=1
        ),
        "volumeMounts": [
            {"name": "config", "mountPath": "/etc/traefik", "readOnly": True},
            {"name": "certificate", "mountPath": "/certificate", "readOnly": True},
        ],
    }
    if not host:
        names = (("web", 80), ("websecure", 443), ("metrics", METRICS_PORT))
        ports = [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in names]
        return {**container, "ports": ports}
    # The host's own way to the API servers: a host without a default route does not reach the Service's address.
    place = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(proxy_port)}
    container["env"] = [{"name": name, "value": value} for name, value in place.items()]
    container["securityContext"]["capabilities"]["add"] = ["NET_BIND_SERVICE"]
    return container


def _service() -> KubernetesObject:
    """Where a load balancer's address leads; it keeps the client's address, so only nodes with a pod announce it."""
    names = (("web", 80), ("websecure", 443))
    return namespaced(
        "v1",
        "Service",
        _NAME,
        SPACE,
        _LABELS,
        spec={
            "externalTrafficPolicy": "Local",
            "ports": [{"name": name, "port": port, "protocol": "TCP", "targetPort": name} for name, port in names],
            "selector": dict(_LABELS),
            "type": "LoadBalancer",
        },
    )


def _gateway() -> list[KubernetesObject]:
    """The class, and a Gateway that routes of every namespace may use."""
    version = "gateway.networking.k8s.io/v1"
    everyone = {"allowedRoutes": {"namespaces": {"from": "All"}}}
    tls = {"certificateRefs": [{"name": _CERTIFICATE}], "mode": "Terminate"}
    return [
        {
            "apiVersion": version,
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": "traefik.io/gateway-controller"},
        },
        namespaced(
            version,
            "Gateway",
            GATEWAY,
            SPACE,
            spec={
                "gatewayClassName": CLASS,
                "listeners": [
                    {"name": "http", "port": 80, "protocol": "HTTP", **everyone},
                    {"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls, **everyone},
                ],
            },
        ),
    ]


def _objects(scene: Scene) -> list[KubernetesObject]:
    spec = scene.spec
    return ingress_objects(
        image=scene.images[_NAME],
        settings=spec.ingress,
        given_certificate=spec.ingress_tls.certificate.strip() if spec.ingress_tls else "",
        proxy_port=scene.layout.proxy_port,
        addresses=[node.address or "" for node in spec.ingress_nodes],
    )


def _takes_traffic(spec: t.Any, node: NodeSpec) -> bool:
    return any(each.name == node.name for each in spec.ingress_nodes)


INGRESS = Addon(
    "ingress", wanted=lambda spec: spec.has_ingress, objects=_objects, images=(_NAME,), hosts=_takes_traffic
)
