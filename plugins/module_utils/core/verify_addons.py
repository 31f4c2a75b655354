# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is put up to see whether add-ons and policies work, and how what was seen is judged."""

from __future__ import annotations

import base64
import collections
import dataclasses
import re
import typing as t

from .verify import Check
from .verify_workload import BACKEND, HTTP_PORT, KubernetesObject, pod_template

INGRESS = "web"
ROUTE = "route"
BALANCED = "balanced"
JOB = "errand"
KEPT = "kept"
WRITER, READER = f"{KEPT}-writer", f"{KEPT}-reader"
REQUESTS = 12
# What agnhost writes into a file.
_WRITTEN = "mount-tester new file"
_LONGEST = 200
_MOUNTED = {"configMap": "written in a ConfigMap", "secret": "written in a Secret"}


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came back for one request: a status and a text, or ``error``."""

    status: int = 0
    text: str = ""
    error: str = ""

    @property
    def trouble(self) -> str:
        """Why it is not the answer one wants; empty for a 200."""
        if self.error:
            return self.error
        return "" if self.status == 200 else f"status {self.status}"


@dataclasses.dataclass(frozen=True)
class Asked:
    """All requests to one address: those that shall be answered, and those that no route is for."""

    good: tuple[Reply, ...] = ()
    stray: tuple[Reply, ...] = ()


@dataclasses.dataclass(frozen=True)
class Holder:
    """Who answers for an address on the network: its ``hardware`` address, empty for nobody.

    ``announced`` is how many announcements this very host was seen to send for it: nobody hears its own answers.
    Where the address lies behind a ``router``, which passes on no ARP, ``nodes`` are those that say they announce it.
    """

    hardware: str = ""
    announced: int = 0
    router: str = ""
    nodes: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """Where the address is, as far as that can be seen from here."""
        if self.router:
            return f"{', '.join(self.nodes) or 'no node'} by its own word, behind {self.router}"
        if self.announced:
            said = f"was seen to say so {self.announced} times"
            return f"{self.hardware}, this host itself, which {said} and cannot be asked by itself"
        return self.hardware or "nobody"

    @property
    def trouble(self) -> str:
        """Why requests to the address would prove nothing; empty if somebody has it."""
        if self.router:
            return "" if self.nodes else "no node says that it announces it (event nodeAssigned of the Service)"
        return "" if self.hardware else "nobody on the network answers for it (ARP)"


@dataclasses.dataclass(frozen=True)
class Way:
    """How this host sends to an address: whether it can at all, and by which ``router``, none on its own networks."""

    reachable: bool = True
    router: str = ""


def way_of(routes: t.Sequence[t.Mapping[str, t.Any]]) -> Way:
    """The way, from what ``ip -j route get`` lists; it lists nothing where there is no route."""
    if not routes:
        return Way(reachable=False)
    through = routes[0].get("via") or {}
    return Way(router=str(routes[0].get("gateway") or through.get("host") or ""))


def announcers(events: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    """The nodes whose speaker says that it announces the Service, from the namespace's events."""
    said = [
        re.search(r'from node "([^"]+)"', str(item.get("message", "")))
        for item in events.get("items") or ()
        if item.get("reason") == "nodeAssigned" and (item.get("involvedObject") or {}).get("name") == BALANCED
    ]
    return tuple(sorted({match.group(1) for match in said if match}))


def arp_sender(frame: bytes) -> tuple[str, str]:
    """The IPv4 and hardware address that an Ethernet frame with ARP names as its sender's (RFC 826); else empty."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x06" or frame[16:18] != b"\x08\x00":
        return "", ""
    return ".".join(str(byte) for byte in frame[28:32]), ":".join(f"{byte:02x}" for byte in frame[22:28])


def host_name(namespace: str, kind: str) -> str:
    """A name that only this run has; it need not resolve."""
    return f"{kind}.{namespace}.test"


def ingress_objects(namespace: str, tls: t.Mapping[str, bytes]) -> list[KubernetesObject]:
    """An Ingress for one host name and one path of the backend, with a certificate (PEM) of its own."""
    host = host_name(namespace, INGRESS)
    backend = {"service": {"name": BACKEND, "port": {"name": "http"}}}
    path = {"path": "/hostname", "pathType": "Prefix", "backend": backend}
    data = {key: base64.b64encode(value).decode() for key, value in tls.items()}
    secret = _named("v1", "Secret", INGRESS, namespace)
    ingress = _named("networking.k8s.io/v1", "Ingress", INGRESS, namespace)
    rules = [{"host": host, "http": {"paths": [path]}}]
    return [
        {**secret, "type": "kubernetes.io/tls", "data": data},
        {**ingress, "spec": {"tls": [{"hosts": [host], "secretName": INGRESS}], "rules": rules}},
    ]


def route_object(namespace: str, gateway: tuple[str, str]) -> KubernetesObject:
    """An HTTPRoute of the Gateway (namespace and name) for one host name and one path of the backend."""
    item = _named("gateway.networking.k8s.io/v1", "HTTPRoute", ROUTE, namespace)
    match = {"path": {"type": "PathPrefix", "value": "/hostname"}}
    item["spec"] = {
        "hostnames": [host_name(namespace, ROUTE)],
        "parentRefs": [{"namespace": gateway[0], "name": gateway[1]}],
        "rules": [{"matches": [match], "backendRefs": [{"name": BACKEND, "port": 80}]}],
    }
    return item


def balanced_service(namespace: str) -> KubernetesObject:
    """A Service of the backends that wants an address from outside."""
    item = _named("v1", "Service", BALANCED, namespace)
    ports = [{"name": "http", "port": 80, "targetPort": HTTP_PORT}]
    item["spec"] = {"type": "LoadBalancer", "selector": {"app": BACKEND}, "ports": ports}
    return item


def job_objects(namespace: str, image: str, security: t.Mapping[str, t.Any]) -> list[KubernetesObject]:
    """A Job whose containers print what a ConfigMap and a Secret hold; ``security`` is what their pods run with."""
    config = {**_named("v1", "ConfigMap", JOB, namespace), "data": {"text": _MOUNTED["configMap"]}}
    secret = {**_named("v1", "Secret", JOB, namespace), "stringData": {"text": _MOUNTED["secret"]}}
    container = {
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
    }
    names = {"configMap": "config", "secret": "secret"}
    pod = {
        "automountServiceAccountToken": False,
        "containers": [
            {
                **container,
                "name": name,
                "args": ["mounttest", "--file_content=/mounted/text"],
                "volumeMounts": [{"name": name, "mountPath": "/mounted", "readOnly": True}],
            }
            for name in names.values()
        ],
        "restartPolicy": "Never",
        "securityContext": dict(security),
        "tolerations": [{"operator": "Exists", "effect": "NoSchedule"}],
        "volumes": [
            {"name": "config", "configMap": {"name": JOB}},
            {"name": "secret", "secret": {"secretName": JOB}},
        ],
    }
    job = _named("batch/v1", "Job", JOB, namespace)
    template = {"metadata": {"labels": {"app": JOB}}, "spec": pod}
    return [config, secret, {**job, "spec": {"backoffLimit": 2, "template": template}}]


def claim_object(namespace: str, storage_class: str) -> KubernetesObject:
    """A claim for a small volume."""
    claim = _named("v1", "PersistentVolumeClaim", KEPT, namespace)
    resources = {"requests": {"storage": "1Mi"}}
    claim["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": storage_class}
    return claim


def kept_job(namespace: str, image: str, name: str) -> KubernetesObject:
    """A Job whose pod writes a file into the claim's volume (``WRITER``), or prints that file (``READER``)."""
    template = pod_template(name, image)
    pod, container = template["spec"], template["spec"]["containers"][0]
    del container["readinessProbe"]
    container["args"] = ["mounttest", f"--{'new_file_0666' if name == WRITER else 'file_content'}=/kept/text"]
    container["volumeMounts"] = [{"name": KEPT, "mountPath": "/kept"}]
    pod["volumes"] = [{"name": KEPT, "persistentVolumeClaim": {"claimName": KEPT}}]
    pod["restartPolicy"] = "Never"
    return {**_named("batch/v1", "Job", name, namespace), "spec": {"backoffLimit": 0, "template": template}}


def privileged_pod(namespace: str, image: str) -> KubernetesObject:
    """A pod that no namespace of a user should let in."""
    item = _named("v1", "Pod", "privileged", namespace)
    item["spec"] = {"containers": [{"name": "it", "image": image, "securityContext": {"privileged": True}}]}
    return item


def judge_routes(aspect: str, what: str, asked: t.Mapping[str, Asked], where: str) -> Check:
    """Requests through a proxy, by the address they were sent to; ``where`` is the proxy's namespace."""
    replies = [reply for each in asked.values() for reply in each.good]
    pods = collections.Counter(reply.text for reply in replies if not reply.trouble)
    bad = {}
    for address, each in asked.items():
        troubles = [reply.trouble for reply in each.good if reply.trouble]
        strays = [reply.trouble or "status 200" for reply in each.stray if reply.status != 404]
        if troubles:
            bad[address] = f"{len(troubles)} of {len(each.good)} failed: {troubles[0]}"
        elif strays:
            bad[address] = f"what no route is for was answered: {strays[0]}"
    answered = sum(pods.values())
    strays_seen = sum(len(each.stray) for each in asked.values())
    seen = f"{answered} of {len(replies)} requests at {len(asked)} addresses answered by {len(pods)} pods"
    if strays_seen and not bad:
        seen += f", {strays_seen} for another name or path were not"
    lines = [seen, *(f"{address}: {text}" for address, text in sorted(bad.items()))]
    return Check(aspect, bool(replies) and not bad, what, "; ".join(lines), hint=_route_hint(bad, where))


def _route_hint(bad: t.Mapping[str, str], where: str) -> str:
    text = " ".join(bad.values())
    pods = f"kubectl --namespace {where} get daemonset,pods -o wide"
    if "refused" in text or "no answer" in text or "timed out" in text or "no address" in text:
        return f"nobody answers there: is Traefik running on that host? {pods}"
    if "status 404" in text:
        return f"Traefik does not know the route: kubectl --namespace {where} logs daemonset/traefik"
    return f"see: {pods}, and the logs of that pod"


def judge_metrics(nodes: t.Collection[str], listing: t.Optional[t.Mapping[str, t.Any]], said: str, pods: int) -> Check:
    """What the metrics API knows: a figure for every Ready node, and ``pods`` of them."""
    items = (listing or {}).get("items") or ()
    known = {item["metadata"]["name"]: (item.get("usage") or {}).get("cpu", "") for item in items}
    missing = sorted(set(nodes) - {name for name, cpu in known.items() if cpu})
    bad = [said] if listing is None else [f"nothing of {name}" for name in missing]
    if not bad and not pods:
        bad.append("nothing of any pod")
    return Check(
        "metrics",
        not bad,
        "asked the metrics API, as kubectl top and autoscalers do, for every node and pod",
        "; ".join([f"{len(set(nodes) & set(known))} of {len(nodes)} nodes and {pods} pods have figures", *bad]),
        hint="see: kubectl get apiservice v1beta1.metrics.k8s.io -o yaml, "
        "kubectl --namespace kube-system get pods -l k8s-app=metrics-server -o wide, and their logs",
    )


def judge_balanced(address: str, holder: Holder, replies: t.Sequence[Reply], where: str) -> Check:
    """An address from outside: who answers for it on the network, and what its Service says."""
    troubles = [reply.trouble for reply in replies if reply.trouble]
    bad = []
    if not address:
        bad.append("the Service got no address")
    elif holder.trouble:
        bad.append(holder.trouble)
    elif troubles:
        bad.append(f"{len(troubles)} of {len(replies)} requests failed: {troubles[0]}")
    pods = {reply.text for reply in replies if not reply.trouble}
    asked = "read which node announces it" if holder.router else "asked the network who has it (ARP)"
    seen = f"{address or 'none'} is at {holder.place}; {len(replies) - len(troubles)} requests, {len(pods)} pods"
    workload = "deployment/controller" if not address else "daemonset/speaker"
    return Check(
        "load balancer",
        not bad,
        f"gave a Service an address, {asked}, and sent requests to it from this node",
        "; ".join([seen, *bad]),
        hint=f"see: kubectl --namespace {where} get pods -o wide, and logs {workload}",
    )


def judge_job(job: t.Optional[t.Mapping[str, t.Any]], texts: t.Mapping[str, str]) -> Check:
    """A Job's end, and what its containers printed of what was mounted, by container."""
    status = (job or {}).get("status") or {}
    bad = [] if status.get("succeeded") else [f"the Job has not ended well: {_conditions(status) or 'still running'}"]
    for name, wanted in zip(("config", "secret"), _MOUNTED.values()):
        if not bad and wanted not in texts.get(name, ""):
            bad.append(f"container {name} read {texts.get(name, '').strip()[-80:] or 'nothing'}")
    return Check(
        "job and mounts",
        not bad,
        "ran a Job to its end that reads a ConfigMap and a Secret",
        "; ".join(bad or ["1 of 1 Jobs ended, 2 of 2 mounts read"]),
        hint="see: kubectl describe of that Job and its pods while this runs; journalctl -u kubelet on their node",
    )


@dataclasses.dataclass(frozen=True)
class Kept:
    """What became of a file in a volume.

    ``volume`` is its PersistentVolume, ``node`` where it was read, ``text`` what was read. ``waits`` are the claim's
    own words where it got no volume, ``trouble`` what else went wrong, ``left`` what was not removed; empty if nothing.
    """

    volume: str = ""
    node: str = ""
    text: str = ""
    waits: str = ""
    trouble: str = ""
    left: str = ""


def claim_words(claim: t.Optional[t.Mapping[str, t.Any]], events: t.Mapping[str, t.Any]) -> str:
    """Why a claim has no volume, by its last warning, else its last event; empty if it has one."""
    phase = ((claim or {}).get("status") or {}).get("phase", "not there")
    if phase == "Bound":
        return ""
    told = [
        item
        for item in events.get("items") or ()
        if (item.get("involvedObject") or {}).get("kind") == "PersistentVolumeClaim"
    ]
    ordered = sorted(told, key=lambda item: item.get("lastTimestamp") or item.get("eventTime") or "")
    warnings = [item for item in ordered if item.get("type") == "Warning"]
    last = (warnings or ordered or [{}])[-1]
    words = " ".join(str(last.get("message", "nobody says why")).split())
    return f"the claim is {phase}: {words if len(words) <= _LONGEST else f'{words[:_LONGEST]}...'}"


def judge_volume(kept: Kept, where: str) -> Check:
    """A file that one pod wrote and another one read; ``where`` is the namespace of what makes the volumes."""
    bad = [text for text in (kept.waits or kept.trouble, kept.left) if text]
    if not bad and _WRITTEN not in kept.text:
        bad.append(f"the second pod read {kept.text.strip()[-80:] or 'nothing'}")
    seen = f"1 of 1 files read by a second pod on {kept.node}; volume {kept.volume} was removed with its claim"
    pods = f"kubectl --namespace {where} get deployment,pods -o wide"
    return Check(
        "volume",
        not bad,
        "wrote a file into a volume with one pod, deleted that pod, read the file with another, removed the volume",
        "; ".join(bad) or seen,
        hint=f"is there somebody who makes and removes volumes? {pods}, and their logs"
        if kept.waits or kept.left
        else "see: kubectl describe of that Job and its pod while this runs; journalctl -u kubelet on its node",
    )


def _conditions(status: t.Mapping[str, t.Any]) -> str:
    return "; ".join(str(each.get("message", "")) for each in status.get("conditions") or ())


def judge_refusal(level: str, code: int, said: str) -> Check:
    """A privileged pod, tried in a namespace without labels; ``level`` is the cluster's default."""
    refused = code != 0 and "violates PodSecurity" in said
    seen = "1 privileged pod tried, 1 refused" if refused else f"it was not refused: {said.strip()[-160:] or 'let in'}"
    return Check(
        "pod security",
        refused,
        f"tried to create a privileged pod where {level} holds",
        seen,
        hint="see the file admission.yaml of kube-apiserver; apply puts it back",
    )


def _named(api_version: str, kind: str, name: str, namespace: str) -> KubernetesObject:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": namespace}}
