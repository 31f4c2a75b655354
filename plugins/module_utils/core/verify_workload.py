# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is put up in a cluster to see whether it works, and how its pods are read."""

from __future__ import annotations

import dataclasses
import datetime
import math
import typing as t

from .nodes import parse_time

KubernetesObject = dict[str, t.Any]

NAMESPACE_PREFIX = "slipway-verify-"
VERIFY_LABEL = "slipway.cluster/verify"
HTTP_PORT = 8080
UDP_PORT = 8081
# Where a backend's second program is told whether the pod counts as ready, and asked.
SWITCH_PORT = 8082
_READINESS_PORT = 8083
# Longer than any pod network's packet, so that an MTU that is too large shows as a hanging connection.
PAYLOAD = "slipway-" * 250
# A namespace of a run that was killed; no run takes so long.
STALE_SECONDS = 600

PROBE = "probe"
BACKEND = "backend"
HEADLESS = "backend-each"
WALLED = "walled"
APPS = (PROBE, BACKEND, WALLED)
_USER = 65532
_LONGEST = 300
POD_SECURITY: dict[str, t.Any] = {
    "runAsGroup": _USER,
    "runAsNonRoot": True,
    "runAsUser": _USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
# The probe runs on every node whatever its state; the others where anything may be scheduled at all.
EVERYWHERE = ({"operator": "Exists"},)
_ALL_SCHEDULABLE = ({"operator": "Exists", "effect": "NoSchedule"},)


@dataclasses.dataclass(frozen=True)
class Stage:
    """Where the pods of one verification are: their namespace and image, and the Nodes that most are kept off."""

    namespace: str
    image: str
    avoid: tuple[str, ...] = ()

    def place(self, objects: t.Iterable[KubernetesObject]) -> list[KubernetesObject]:
        """The objects, with their pods kept off these Nodes."""
        return kept_off(objects, self.avoid)


@dataclasses.dataclass(frozen=True)
class PodSeen:
    """A pod as the API shows it; ``lack`` says why it does not serve, and is empty if it does."""

    name: str
    node: str = ""
    ip: str = ""
    restarts: int = 0
    lack: str = ""


def namespace_object(name: str) -> KubernetesObject:
    """The namespace of one run; its label lets a later run find it if this one is killed."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {VERIFY_LABEL: "true"}},
    }


def workload_objects(*, namespace: str, image: str, nodes: int) -> list[KubernetesObject]:
    """A pod on each node, a Deployment behind Services, and a pod that a policy walls off.

    They meet the ``restricted`` Pod Security standard, so they run whatever default the cluster has.
    """
    backends = backend_count(nodes)
    ports = [{"name": "http", "port": 80, "targetPort": HTTP_PORT}]
    wall = {"podSelector": {"matchLabels": {"app": WALLED}}, "policyTypes": ["Ingress"]}
    return [
        workload("DaemonSet", PROBE, namespace, image, tolerations=EVERYWHERE),
        _with_switch(_deployment(BACKEND, namespace, image, backends), image),
        _deployment(WALLED, namespace, image, 1),
        _service(BACKEND, namespace, {"ports": ports}),
        _service(HEADLESS, namespace, {"ports": [{**ports[0], "port": HTTP_PORT}], "clusterIP": "None"}),
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": WALLED, "namespace": namespace},
            "spec": wall,
        },
    ]


def backend_count(nodes: int) -> int:
    """How many endpoints the Service has: two at least, and no more than three."""
    return min(max(nodes, 2), 3)


def tries_for(endpoints: int) -> int:
    """Requests after which an even, random choice has missed one of the endpoints once in a million runs at most."""
    if endpoints <= 1:
        return 1
    return math.ceil(math.log(1e-6 / endpoints) / math.log(1 - 1 / endpoints))


def stale_namespaces(listing: t.Mapping[str, t.Any], now: datetime.datetime) -> list[str]:
    """Namespaces that runs which were killed have left behind."""
    stale = []
    for item in listing.get("items") or ():
        made = parse_time(item["metadata"]["creationTimestamp"])
        if made is not None and (now - made).total_seconds() > STALE_SECONDS:
            stale.append(item["metadata"]["name"])
    return stale


def pods_of(listing: t.Mapping[str, t.Any], app: str) -> list[PodSeen]:
    """The pods of one workload that are not being deleted, by node and name."""
    pods = [
        _pod(item)
        for item in listing.get("items") or ()
        if item["metadata"].get("labels", {}).get("app") == app and not item["metadata"].get("deletionTimestamp")
    ]
    return sorted(pods, key=lambda pod: (pod.node, pod.name))


def stranded(listing: t.Mapping[str, t.Any], ready: t.Collection[str]) -> list[str]:
    """The pods on other Nodes than these: no kubelet is going to say that they have ended."""
    pods = listing.get("items") or ()
    return sorted(pod["metadata"]["name"] for pod in pods if pod["spec"].get("nodeName") not in (None, *ready))


def kept_off(objects: t.Iterable[KubernetesObject], nodes: t.Collection[str]) -> list[KubernetesObject]:
    """The objects, with their pods kept off these Nodes, but for those of DaemonSets.

    What tolerates every taint that forbids to schedule is put on Nodes that are down, too.
    """
    # A field is compared with one value (ValidateNodeFieldSelectorRequirement in Kubernetes).
    names = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in sorted(nodes)]
    terms = {"nodeSelectorTerms": [{"matchFields": names}]}
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}

    def placed(item: KubernetesObject) -> KubernetesObject:
        spec = item.get("spec") or {}
        if item["kind"] == "Pod":
            return {**item, "spec": {**spec, "affinity": affinity}}
        if item["kind"] == "DaemonSet" or "template" not in spec:
            return item
        template = {**spec["template"], "spec": {**spec["template"]["spec"], "affinity": affinity}}
        return {**item, "spec": {**spec, "template": template}}

    return [placed(item) if names else item for item in objects]


def on_nodes(listing: t.Mapping[str, t.Any], nodes: t.Collection[str]) -> dict[str, t.Any]:
    """The pods of a list that are on these Nodes."""
    return {"items": [pod for pod in listing.get("items") or () if pod["spec"].get("nodeName") in nodes]}


def lacking_pods(listing: t.Mapping[str, t.Any], nodes: t.Collection[str]) -> list[str]:
    """What keeps the workloads from being complete, a text each: a probe on each node, the backends, the walled pod.

    A probe on any other node, one that is not Ready, does not count.
    """
    probes = [pod for pod in pods_of(listing, PROBE) if pod.node in nodes]
    lacks = [f"no pod on node {name} yet" for name in sorted(set(nodes) - {pod.node for pod in probes})]
    others = [(BACKEND, backend_count(len(nodes))), (WALLED, 1)]
    for app, wanted in others:
        found = len(pods_of(listing, app))
        if found < wanted:
            lacks.append(f"{found} of {wanted} pods of Deployment {app} made")
    pods = [*probes, *pods_of(listing, BACKEND), *pods_of(listing, WALLED)]
    return lacks + [f"pod {pod.name} on {pod.node or 'no node'}: {pod.lack}" for pod in pods if pod.lack]


def warned(listing: t.Mapping[str, t.Any], pods: t.Collection[str], most: int = 2) -> list[str]:
    """The last warnings among the events of these pods, one of each reason: only there it is told why one waits."""
    found: dict[str, str] = {}
    items = [item for item in listing.get("items") or () if item.get("type") == "Warning"]
    for item in sorted(items, key=lambda item: item.get("lastTimestamp") or item.get("eventTime") or ""):
        name, reason = (item.get("involvedObject") or {}).get("name", ""), item.get("reason", "")
        if name in pods:
            found[reason] = f"{name}: {reason}: {' '.join(item.get('message', '').split())}"
    return [text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..." for text in list(found.values())[-most:]]


def _pod(item: t.Mapping[str, t.Any]) -> PodSeen:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    containers = status.get("containerStatuses") or ()
    conditions = {each["type"]: each for each in status.get("conditions") or ()}
    return PodSeen(
        name=item["metadata"]["name"],
        node=spec.get("nodeName", ""),
        ip=status.get("podIP", ""),
        restarts=sum(container.get("restartCount", 0) for container in containers),
        lack=_lack(status, containers, conditions),
    )


def _lack(
    status: t.Mapping[str, t.Any],
    containers: t.Sequence[t.Mapping[str, t.Any]],
    conditions: t.Mapping[str, t.Mapping[str, t.Any]],
) -> str:
    """Why a pod does not serve, in the words of whoever knows best; empty if it does."""
    if conditions.get("Ready", {}).get("status") == "True":
        return ""
    for container in containers:
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
            return f"{waiting['reason']} {waiting.get('message', '')}".strip()
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        return f"{scheduled.get('reason', '')} {scheduled.get('message', '')}".strip()
    return f"{status.get('phase', 'unknown')}, not ready"


def _service(name: str, namespace: str, spec: t.Mapping[str, t.Any]) -> KubernetesObject:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": BACKEND}, **spec},
    }


def _deployment(name: str, namespace: str, image: str, replicas: int) -> KubernetesObject:
    item = workload("Deployment", name, namespace, image, tolerations=_ALL_SCHEDULABLE)
    item["spec"]["replicas"] = replicas
    item["spec"]["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "labelSelector": {"matchLabels": {"app": name}},
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
        }
    ]
    return item


def _with_switch(deployment: KubernetesObject, image: str) -> KubernetesObject:
    """The Deployment with a second program in each pod, which is ready or not as it is told: the first serves on."""
    switch = _container(image)
    switch["name"] = "switch"
    switch["args"] = ["grpc-health-checking", f"--port={_READINESS_PORT}", f"--http-port={SWITCH_PORT}"]
    # One refusal is enough, a slow answer is none.
    switch["readinessProbe"] = {
        "grpc": {"port": _READINESS_PORT},
        "periodSeconds": 1,
        "timeoutSeconds": 5,
        "failureThreshold": 1,
    }
    deployment["spec"]["template"]["spec"]["containers"].append(switch)
    return deployment


def workload(
    kind: str, name: str, namespace: str, image: str, *, tolerations: t.Sequence[t.Mapping[str, t.Any]]
) -> KubernetesObject:
    """A Deployment or DaemonSet of such pods, by whose name they are found."""
    labels = {"app": name}
    template = pod_template(name, image, tolerations=tolerations)
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }


def pod_template(
    app: str, image: str, *, tolerations: t.Sequence[t.Mapping[str, t.Any]] = _ALL_SCHEDULABLE
) -> KubernetesObject:
    """A pod that answers over HTTP and UDP and meets the ``restricted`` standard."""
    pod = {
        "automountServiceAccountToken": False,
        "containers": [_container(image)],
        "enableServiceLinks": False,
        "securityContext": dict(POD_SECURITY),
        "terminationGracePeriodSeconds": 1,
        "tolerations": list(tolerations),
    }
    return {"metadata": {"labels": {"app": app}}, "spec": pod}


def _container(image: str) -> KubernetesObject:
    return {
        "name": "agnhost",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["netexec", f"--http-port={HTTP_PORT}", f"--udp-port={UDP_PORT}"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": HTTP_PORT}, "periodSeconds": 1},
        "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
