# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""metrics-server: what `kubectl top` and HorizontalPodAutoscalers read.

Every connection is verified: it asks kubelets by the cluster's CA, which signs their serving certificates; the API
server asks it by that CA too, and shows its own front-proxy certificate. Its serving certificate is made on each
control-plane host and renewed there by the keeper, so it runs on these hosts only and its key is in no Secret.
"""

from __future__ import annotations

from ..targets import paths
from ..targets.node import CA_PLACEHOLDER
from .model import Addon, Scene, on_control_plane
from .objects import (
    CONTROL_PLANE_LABEL,
    KubernetesObject,
    as_nobody,
    cluster_role,
    cluster_role_binding,
    critical_tolerations,
    locked_down,
    namespaced,
    probe,
    role_binding,
    rule,
    service_account,
)

_NAME = "metrics-server"
_SPACE = "kube-system"
_LABELS = {"k8s-app": _NAME}
_PORT = 10250


def metrics_objects(*, image: str, replicas: int) -> list[KubernetesObject]:
    """The objects; ``replicas`` are spread over control-plane nodes."""
    account = service_account(_NAME, _SPACE)
    return [
        namespaced("v1", "ServiceAccount", _NAME, _SPACE, _LABELS, automountServiceAccountToken=False),
        cluster_role("slipway:metrics-server", _rules()),
        _reader_role(),
        cluster_role_binding("slipway:metrics-server", "slipway:metrics-server", account),
        cluster_role_binding("slipway:metrics-server:auth-delegator", "system:auth-delegator", account),
        role_binding("slipway:metrics-server", _SPACE, "extension-apiserver-authentication-reader", account),
        namespaced(
            "v1",
            "Service",
            _NAME,
            _SPACE,
            _LABELS,
            spec={
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": "https"}],
                "selector": dict(_LABELS),
            },
        ),
        _deployment(image, replicas),
        _api_service(),
    ]


def _rules() -> list[KubernetesObject]:
    """What it reads: the resource metrics of kubelets, and which nodes and pods there are."""
    return [rule("", "nodes/metrics", "get"), rule("", "pods nodes", "get list watch")]


def _reader_role() -> KubernetesObject:
    """Whoever may view a namespace may see what its pods use."""
    item = cluster_role("slipway:metrics-reader", [rule("metrics.k8s.io", "pods nodes", "get list watch")])
    roles = ("view", "edit", "admin")
    item["metadata"]["labels"] = {f"rbac.authorization.k8s.io/aggregate-to-{name}": "true" for name in roles}
    return item


def _deployment(image: str, replicas: int) -> KubernetesObject:
    pod = {
        "automountServiceAccountToken": True,
        "containers": [_container(image)],
        "nodeSelector": {CONTROL_PLANE_LABEL: ""},
        "priorityClassName": "system-cluster-critical",
        "securityContext": as_nobody(),
        "serviceAccountName": _NAME,
        "tolerations": critical_tolerations(),
        "topologySpreadConstraints": [
            {
                "labelSelector": {"matchLabels": dict(_LABELS)},
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
            }
        ],
        "volumes": [{"name": "serving", "hostPath": {"path": paths.METRICS, "type": "Directory"}}],
    }
    return namespaced(
        "apps/v1",
        "Deployment",
        _NAME,
        _SPACE,
        _LABELS,
        spec={
            "replicas": replicas,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": dict(_LABELS)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {"metadata": {"labels": dict(_LABELS)}, "spec": pod},
        },
    )


def _container(image: str) -> KubernetesObject:
    return {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [
            f"--secure-port={_PORT}",
            "--tls-cert-file=/serving/serving.crt",
            "--tls-private-key-file=/serving/serving.key",
            "--tls-min-version=VersionTLS12",
            "--kubelet-certificate-authority=/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
            "--kubelet-preferred-address-types=InternalIP",
            "--kubelet-use-node-status-port",
            "--metric-resolution=15s",
        ],
        "livenessProbe": probe("/livez", "https", scheme="HTTPS", failureThreshold=3, periodSeconds=10),
        "ports": [{"name": "https", "containerPort": _PORT, "protocol": "TCP"}],
        "readinessProbe": probe("/readyz", "https", scheme="HTTPS", failureThreshold=3, periodSeconds=10),
        "resources": {"requests": {"cpu": "50m", "memory": "80Mi"}},
        "securityContext": locked_down(),
        "startupProbe": probe("/readyz", "https", scheme="HTTPS", failureThreshold=120, periodSeconds=1),
        "volumeMounts": [{"name": "serving", "mountPath": "/serving", "readOnly": True}],
    }


def _api_service() -> KubernetesObject:
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "caBundle": CA_PLACEHOLDER,
            "group": "metrics.k8s.io",
            "groupPriorityMinimum": 100,
            "service": {"name": _NAME, "namespace": _SPACE, "port": 443},
            "version": "v1beta1",
            "versionPriority": 100,
        },
    }


def _objects(scene: Scene) -> list[KubernetesObject]:
    return metrics_objects(image=scene.images[_NAME], replicas=min(2, len(scene.spec.control_plane)))


METRICS = Addon(
    "metrics",
    wanted=lambda spec: spec.metrics.enabled,
    objects=_objects,
    images=(_NAME,),
    hosts=on_control_plane,
    by_default=True,
)
