# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""MetalLB in layer-2 mode: one node at a time answers for a Service's address with its own hardware address.

The definitions come from MetalLB's own module by way of the bundle; the objects are written here, without its webhooks,
because what they would check has been checked in the spec.
"""

from __future__ import annotations

import typing as t

import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import GENERATE

from ..spec import LoadBalancer
from .model import Addon, Scene
from .objects import (
    KubernetesObject,
    as_nobody,
    cluster_role,
    cluster_role_binding,
    config_hash,
    critical_tolerations,
    locked_down,
    namespace,
    namespaced,
    one_at_a_time,
    probe,
    role,
    role_binding,
    rule,
    service_account,
)

SPACE = "slipway-load-balancer"
_GROUP = "metallb.io"
_API = f"{_GROUP}/v1beta1"
_DEFINITIONS = "metallb-definitions"
_MEMBERS = "memberlist"
METRICS_PORT = 9120
HEALTH_PORT = 17472
MEMBERS_PORT = 7946
"""MetalLB's own choice: by which speakers hear of each other."""
_READ = "get list watch"
# Interfaces that lead to pods and not to the network the addresses are of.
_NOT_ANNOUNCED = ("^lo$", "^cni.*", "^veth.*", "^flannel.*", "^docker.*", "^br-.*", "^virbr.*", "^dummy.*")


def load_balancer_objects(
    *, controller: str, speaker: str, settings: LoadBalancer, proxy_port: int
) -> list[KubernetesObject]:
    """Everything but the definitions. ``controller`` and ``speaker`` are images."""
    exclude = yaml.safe_dump({"announcedInterfacesToExclude": list(_NOT_ANNOUNCED)})
    secret = namespaced("v1", "Secret", _MEMBERS, SPACE)
    secret["metadata"]["annotations"] = {GENERATE: "random"}
    return [
        namespace(SPACE, "privileged"),
        *_permissions(),
        secret,
        namespaced("v1", "ConfigMap", "speaker", SPACE, data={"excludel2.yaml": exclude}),
        _controller(controller),
        _speaker(speaker, proxy_port, exclude),
        *_pools(settings),
    ]


def _permissions() -> list[KubernetesObject]:
    """What either reads and writes; who asks for metrics must show a token that may."""
    objects = []
    for name, rules, own in (
        ("controller", _controller_rules(), "ipaddresspools/status"),
        ("speaker", _speaker_rules(), ""),
    ):
        account = service_account(name, SPACE)
        local = [rule("", "secrets configmaps pods", _READ)]
        local.append(rule(_GROUP, " ".join(_kinds()), _READ))
        if own:
            local.append(rule(_GROUP, own, "update"))
        objects += [
            namespaced("v1", "ServiceAccount", name, SPACE, automountServiceAccountToken=False),
            cluster_role(f"slipway:load-balancer-{name}", rules),
            cluster_role_binding(f"slipway:load-balancer-{name}", f"slipway:load-balancer-{name}", account),
            cluster_role_binding(f"slipway:load-balancer-{name}:metrics", "system:auth-delegator", account),
            role(name, SPACE, local),
            role_binding(name, SPACE, name, account),
        ]
    return objects


def _kinds() -> tuple[str, ...]:
    return (
        *("bfdprofiles", "bgppeers", "bgpadvertisements", "communities", "ipaddresspools", "l2advertisements"),
        *("servicebgpstatuses", "servicel2statuses", "configurationstates"),
    )


def _controller_rules() -> list[KubernetesObject]:
    return [
        rule("", "services namespaces nodes", _READ),
        rule("", "services/status", "update patch"),
        rule("", "events", "create patch"),
        rule(_GROUP, "configurationstates configurationstates/status", "*"),
    ]


def _speaker_rules() -> list[KubernetesObject]:
    states = "servicel2statuses servicebgpstatuses configurationstates"
    return [
        rule("", "services endpoints nodes namespaces", _READ),
        rule("discovery.k8s.io", "endpointslices", _READ),
        rule("", "events", "create patch"),
        rule(_GROUP, f"{states} {' '.join(f'{state}/status' for state in states.split())}", "*"),
    ]


def _controller(image: str) -> KubernetesObject:
    container = {
        "name": "controller",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [f"--port={METRICS_PORT}", "--webhook-mode=disabled"],
        "env": [
            _from_field("METALLB_POD_NAME", "metadata.name"),
            {"name": "METALLB_DEPLOYMENT", "value": "controller"},
        ],
        "ports": [{"name": "metrics", "containerPort": METRICS_PORT, "protocol": "TCP"}],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        "securityContext": locked_down(),
        **_probes(),
    }
    pod = {
        "containers": [container],
        "automountServiceAccountToken": True,
        "priorityClassName": "system-cluster-critical",
        "securityContext": as_nobody(),
        "serviceAccountName": "controller",
        "tolerations": critical_tolerations(),
    }
    return _workload("Deployment", "controller", pod, {}, {"replicas": 1, "strategy": one_at_a_time()})


def _speaker(image: str, proxy_port: int, config: str) -> KubernetesObject:
    """On every node's own network, as root with the one capability that answering for an address takes."""
    security = locked_down()
    security["capabilities"]["add"] = ["NET_RAW"]
    # The host's own way to the API servers: a host without a default route does not reach the Service's address.
    plain = {
        "METALLB_ML_LABELS": "app.kubernetes.io/name=speaker",
        "METALLB_ML_SECRET_KEY_PATH": "/memberlist",
        "KUBERNETES_SERVICE_HOST": "127.0.0.1",
        "KUBERNETES_SERVICE_PORT": str(proxy_port),
    }
    fields = {
        "METALLB_NODE_NAME": "spec.nodeName",
        "METALLB_POD_NAME": "metadata.name",
        "METALLB_ML_BIND_ADDR": "status.podIP",
    }
    container = {
        "name": "speaker",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": [f"--port={METRICS_PORT}"],
        "env": [
            *(_from_field(name, path) for name, path in fields.items()),
            *({"name": name, "value": value} for name, value in plain.items()),
        ],
        "resources": {"requests": {"cpu": "20m", "memory": "32Mi"}},
        "securityContext": security,
        "volumeMounts": [
            {"name": "memberlist", "mountPath": "/memberlist", "readOnly": True},
            {"name": "config", "mountPath": "/etc/metallb", "readOnly": True},
        ],
        **_probes(host="127.0.0.1"),
    }
    pod = {
        "containers": [container],
        "automountServiceAccountToken": True,
        "dnsPolicy": "ClusterFirstWithHostNet",
        "hostNetwork": True,
        "priorityClassName": "system-node-critical",
        "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        "serviceAccountName": "speaker",
        "terminationGracePeriodSeconds": 2,
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "volumes": [
            {"name": "memberlist", "secret": {"secretName": _MEMBERS}},
            {"name": "config", "configMap": {"name": "speaker"}},
        ],
    }
    # A pod on a host that is down counts as missing, and never goes: where half of them may be, the others are renewed.
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "51%"}}
    return _workload("DaemonSet", "speaker", pod, config_hash(config), {"updateStrategy": strategy})


def _from_field(name: str, path: str) -> KubernetesObject:
    return {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}}


def _probes(**where: t.Any) -> KubernetesObject:
    return {
        "livenessProbe": probe("/healthz", HEALTH_PORT, **where, failureThreshold=3, periodSeconds=10),
        "readinessProbe": probe("/readyz", HEALTH_PORT, **where, failureThreshold=3, periodSeconds=10),
        "startupProbe": probe("/readyz", HEALTH_PORT, **where, failureThreshold=60, periodSeconds=1),
    }


def _workload(
    kind: str, name: str, pod: KubernetesObject, annotations: t.Mapping[str, str], fields: KubernetesObject
) -> KubernetesObject:
    labels = {"app.kubernetes.io/name": name}
    template = {"metadata": {"labels": labels, "annotations": dict(annotations)}, "spec": pod}
    spec = {"revisionHistoryLimit": 3, "selector": {"matchLabels": labels}, "template": template, **fields}
    return namespaced("apps/v1", kind, name, SPACE, labels, spec=spec)


def _pools(settings: LoadBalancer) -> list[KubernetesObject]:
    pools = [
        namespaced(
            _API,
            "IPAddressPool",
            pool.name,
            SPACE,
            spec={"addresses": list(pool.addresses), "autoAssign": pool.auto_assign},
        )
        for pool in settings.pools
    ]
    names = [pool.name for pool in settings.pools]
    return [*pools, namespaced(_API, "L2Advertisement", "default", SPACE, spec={"ipAddressPools": names})]


def _objects(scene: Scene) -> list[KubernetesObject]:
    return [
        *(dict(item) for item in scene.definitions[_DEFINITIONS]),
        *load_balancer_objects(
            controller=scene.images["metallb-controller"],
            speaker=scene.images["metallb-speaker"],
            settings=scene.spec.load_balancer,
            proxy_port=scene.layout.proxy_port,
        ),
    ]


LOAD_BALANCER = Addon(
    "load-balancer",
    wanted=lambda spec: bool(spec.load_balancer.pools),
    objects=_objects,
    images=("metallb-controller", "metallb-speaker"),
    definitions=(_DEFINITIONS,),
)
