# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Taking Nodes out of service and giving them back: whose cordon it is, which pods have to go, and what holds them.

An annotation on the Node says that it was Slipway that closed it, and why. Only such a Node is opened again; one that a
person closed stays closed.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from .change import Change
from .problems import Problem, SlipwayError

CORDONED_BY = "slipway.cluster/cordoned-by"
_MARK = f"/metadata/annotations/{CORDONED_BY.replace('/', '~1')}"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
OUT_OF_SERVICE_TAINT = {"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}

# The kubelet's own copy of a pod from a file, which it cannot be told to give up.
_MIRROR = "kubernetes.io/config.mirror"
_FINISHED = ("Succeeded", "Failed")


@dataclasses.dataclass(frozen=True)
class DrainWant:
    """The Nodes, and the ``state`` they shall be in: drained, active or absent.

    ``reason`` says what for: a Node is only opened by who closed it for the same reason. ``dead`` Nodes are not asked;
    their pods are released. ``detached`` Nodes have no volume left either, which is so for dead ones in any case.
    ``missing_ok`` passes over a Node that is not there.
    """

    nodes: tuple[str, ...]
    state: str = "drained"
    reason: str = "drain"
    delete_emptydir_data: bool = False
    force: bool = False
    dead: bool = False
    detached: bool = False
    missing_ok: bool = False


@dataclasses.dataclass(frozen=True)
class Pod:
    """A pod as far as it matters here; ``owner`` is the kind of its controller, empty if it has none.

    ``claims`` are those of its volumes that have one, each with its namespace.
    """

    namespace: str
    name: str
    uid: str
    node: str
    owner: str = ""
    mirror: bool = False
    empty_dir: bool = False
    finished: bool = False
    terminating: bool = False
    claims: tuple[str, ...] = ()

    def text(self) -> str:
        """Namespace and name."""
        return f"{self.namespace}/{self.name}"


@dataclasses.dataclass(frozen=True)
class Node:
    """A Node as far as it matters here; ``cordoned_by`` is our annotation's reason, None where there is none."""

    name: str
    unschedulable: bool = False
    cordoned_by: t.Optional[str] = None
    out_of_service: bool = False
    annotated: bool = True
    taints: tuple[t.Mapping[str, str], ...] = ()


@dataclasses.dataclass(frozen=True)
class Attachment:
    """A volume that a driver holds attached to a Node; ``claim`` is whose it is, with its namespace."""

    name: str
    node: str
    driver: str
    volume: str
    claim: str = ""

    def text(self) -> str:
        """Volume and driver."""
        return f"{self.volume} ({self.driver})"


@dataclasses.dataclass(frozen=True)
class DrainSeen:
    """The Nodes that there are, and the pods on those of them that are asked for; ``known`` is false without an API.

    ``attached`` are those Nodes' volumes, where they have to go.
    """

    known: bool = False
    nodes: t.Mapping[str, Node] = dataclasses.field(default_factory=dict)
    pods: tuple[Pod, ...] = ()
    attached: tuple[Attachment, ...] = ()


@dataclasses.dataclass(frozen=True)
class Step:
    """One step: ``cordon``, ``uncordon``, ``release`` or ``delete`` one Node, ``evict`` or ``detach`` from several."""

    kind: str
    nodes: tuple[str, ...]


def summarize_node(item: t.Mapping[str, t.Any]) -> Node:
    """What matters of a Node of the API."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    annotations = metadata.get("annotations") or {}
    taints = tuple(spec.get("taints") or ())
    return Node(
        name=metadata["name"],
        unschedulable=bool(spec.get("unschedulable")),
        cordoned_by=annotations.get(CORDONED_BY),
        out_of_service=any(taint.get("key") == OUT_OF_SERVICE for taint in taints),
        annotated=bool(annotations),
        taints=taints,
    )


def summarize_pod(item: t.Mapping[str, t.Any]) -> Pod:
    """What matters of a pod of the API."""
    metadata, spec = item["metadata"], item.get("spec") or {}
    owners = [owner for owner in metadata.get("ownerReferences") or () if owner.get("controller")]
    return Pod(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=str(metadata.get("uid", "")),
        node=spec.get("nodeName", ""),
        owner=owners[0].get("kind", "") if owners else "",
        mirror=_MIRROR in (metadata.get("annotations") or {}),
        empty_dir=any("emptyDir" in volume for volume in spec.get("volumes") or ()),
        finished=(item.get("status") or {}).get("phase") in _FINISHED,
        terminating="deletionTimestamp" in metadata,
        claims=tuple(f"{metadata['namespace']}/{name}" for name in _claims(metadata["name"], spec)),
    )


def _claims(pod: str, spec: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """The names of the claims; that of an ephemeral volume is made of the pod's and the volume's."""
    for volume in spec.get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"]["claimName"]
        elif "ephemeral" in volume:
            yield f"{pod}-{volume['name']}"


def summarize_attachments(items: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[Attachment, ...]:
    """What matters of VolumeAttachments, with the claims that PersistentVolumes among the items name."""
    listed = list(items)
    claims = {
        item["metadata"]["name"]: "{namespace}/{name}".format(**item["spec"]["claimRef"])
        for item in listed
        if item["kind"] == "PersistentVolume" and item["spec"].get("claimRef")
    }
    return tuple(
        Attachment(item["metadata"]["name"], spec["nodeName"], spec["attacher"], volume, claims.get(volume, ""))
        for item in listed
        if item["kind"] == "VolumeAttachment"
        for spec in [item["spec"]]
        for volume in [spec["source"].get("persistentVolumeName") or "an inline volume"]
    )


def detaching(seen: DrainSeen) -> tuple[Attachment, ...]:
    """The volumes that have to go: all but those of pods that stay."""
    gone = leaving(seen.pods)
    kept = {(pod.node, claim) for pod in seen.pods if pod not in gone for claim in pod.claims}
    return tuple(each for each in seen.attached if (each.node, each.claim) not in kept)


def leaving(pods: t.Iterable[Pod]) -> tuple[Pod, ...]:
    """The pods that have to go: all but those that would be back at once, or that only their kubelet can end."""
    return tuple(pod for pod in pods if not pod.mirror and (pod.owner != "DaemonSet" or pod.finished))


def plan_drain(want: DrainWant, seen: DrainSeen) -> list[Change]:
    """The steps; SlipwayError names every Node that is not there and every pod that would be lost."""
    if not seen.known:
        raise SlipwayError(
            Problem("kubectl", "no API server answers", "one", "see on this host: systemctl status kube-apiserver")
        )
    absent = [name for name in want.nodes if name not in seen.nodes]
    problems = [] if want.missing_ok or want.state == "absent" else [_missing(name, seen) for name in absent]
    present = tuple(name for name in want.nodes if name in seen.nodes)
    if want.state == "absent":
        return [Change(f"delete node {name}", data=Step("delete", (name,))) for name in present]
    if want.state == "active":
        changes = [_uncordon(seen.nodes[name]) for name in present if is_ours(seen.nodes[name], want.reason)]
    else:
        problems += [] if want.dead else _losses(want, seen.pods)
        changes = [_cordon(seen.nodes[name], want.reason) for name in present if not seen.nodes[name].unschedulable]
        changes += _release(present, seen) if want.dead else _evict(present, seen)
        changes += _detach(seen)
    if problems:
        raise SlipwayError(problems)
    return changes


def is_ours(node: Node, reason: str) -> bool:
    """Whether it was us who closed the Node, for this reason; a person may have opened it since."""
    return node.cordoned_by == reason


def left_closed(want: DrainWant, seen: DrainSeen) -> list[str]:
    """A sentence for each Node that is closed and stays so, because others closed it or we did for another reason."""
    nodes = [seen.nodes[name] for name in want.nodes if name in seen.nodes and want.state != "absent"]
    return [
        f"node {node.name} was cordoned by "
        + ("somebody else" if node.cordoned_by is None else f"Slipway to {node.cordoned_by}")
        + " and stays cordoned"
        for node in nodes
        if node.unschedulable and not is_ours(node, want.reason)
    ]


def patch_of(step: Step, node: Node, reason: str) -> list[dict[str, t.Any]]:
    """The JSON patch (RFC 6902) of a step for one Node as seen, empty if nothing is left to do.

    The cordon and whose it is are written together, so that a killed run leaves both or none.
    """
    if step.kind == "cordon":
        if node.unschedulable:
            return []
        empty = [] if node.annotated else [{"op": "add", "path": "/metadata/annotations", "value": {}}]
        return [*empty, _add(_MARK, reason), _add("/spec/unschedulable", value=True)]
    if step.kind == "uncordon":
        if not is_ours(node, reason):
            return []
        opened = [{"op": "remove", "path": "/spec/unschedulable"}] if node.unschedulable else []
        return [*disowned(reason), *opened, *_without_taint(node)]
    if node.out_of_service:
        return []
    return [_tested(node), _add("/spec/taints", [*node.taints, OUT_OF_SERVICE_TAINT])]


def disowned(reason: str) -> list[dict[str, t.Any]]:
    """The operations (RFC 6902) that take off whose cordon it is, if it is still ours for that reason."""
    return [{"op": "test", "path": _MARK, "value": reason}, {"op": "remove", "path": _MARK}]


def eviction_of(pod: Pod) -> dict[str, t.Any]:
    """The object that evicts this pod and no later one of its name."""
    return {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"namespace": pod.namespace, "name": pod.name},
        "deleteOptions": {"preconditions": {"uid": pod.uid}},
    }


def refusal(status: int, body: str) -> str:
    """Why an eviction was refused, in the API's words; empty if it was not, or the pod is gone already.

    429 is a PodDisruptionBudget, whose name and figures stand in the causes; 409 is another pod of the same name.
    """
    if status in (200, 201, 202, 404, 409):
        return ""
    try:
        data = json.loads(body)
    except ValueError:
        data = {}
    told = data if isinstance(data, dict) else {}
    causes = [str(cause.get("message")) for cause in (told.get("details") or {}).get("causes") or ()]
    return " ".join(causes) or str(told.get("message") or body.strip() or f"status {status}")


def blocked(pods: t.Iterable[Pod], refusals: t.Mapping[str, str], seconds: float) -> list[Problem]:
    """One problem for each pod that is still there when the time is over, with what holds it."""
    return [
        Problem(
            f"pod {pod.text()}",
            f"is still on node {pod.node} after {seconds:g} s: {refusals.get(pod.uid) or _waiting(pod)}",
            "a pod that moves elsewhere",
            _remedy(refusals.get(pod.uid, "")),
        )
        for pod in pods
    ]


def _waiting(pod: Pod) -> str:
    return "it is being ended by its kubelet" if pod.terminating else "its eviction was accepted"


def _remedy(refused: str) -> str:
    if "disruption budget" in refused.lower():
        return (
            "the Node stays cordoned and the next run goes on: give the workload more replicas or another "
            "PodDisruptionBudget, or wait longer"
        )
    return "the Node stays cordoned and the next run goes on; see: kubectl describe pod"


def _missing(name: str, seen: DrainSeen) -> Problem:
    return Problem(f"node {name}", "there is no such Node", f"one of {', '.join(sorted(seen.nodes)) or 'none'}")


def _losses(want: DrainWant, pods: t.Iterable[Pod]) -> list[Problem]:
    """What cannot be brought back elsewhere, and is not allowed to be lost."""
    going = [pod for pod in leaving(pods) if pod.node in want.nodes and not pod.finished and not pod.terminating]
    problems = [
        Problem(
            f"pod {pod.text()}",
            f"on node {pod.node} has no controller that would start it elsewhere",
            "pods that are replaced",
            "delete it, or allow its loss: force",
        )
        for pod in going
        if not pod.owner and not want.force
    ]
    return problems + [
        Problem(
            f"pod {pod.text()}",
            f"on node {pod.node} has data in an emptyDir, which is deleted with it",
            "pods without data of their own",
            "allow its loss: delete_emptydir_data",
        )
        for pod in going
        if pod.empty_dir and not want.delete_emptydir_data
    ]


def _cordon(node: Node, reason: str) -> Change:
    return Change(
        f"cordon node {node.name}", before="", after=f"{CORDONED_BY}: {reason}\n", data=Step("cordon", (node.name,))
    )


def _uncordon(node: Node) -> Change:
    return Change(
        f"uncordon node {node.name}",
        before=f"{CORDONED_BY}: {node.cordoned_by}\n",
        data=Step("uncordon", (node.name,)),
    )


def _evict(names: t.Sequence[str], seen: DrainSeen) -> list[Change]:
    going = sorted((pod for pod in leaving(seen.pods) if pod.node in names), key=lambda pod: (pod.node, pod.text()))
    nodes = tuple(dict.fromkeys(pod.node for pod in going))
    if not nodes:
        return []
    text = "; ".join(f"{node}: {', '.join(pod.text() for pod in going if pod.node == node)}" for node in nodes)
    name = f"evict pods from {', '.join(nodes)}"
    return [Change(name, sentence=f"evict pods from {text}", data=Step("evict", nodes))]


def _release(names: t.Sequence[str], seen: DrainSeen) -> list[Change]:
    held = {pod.node for pod in leaving(seen.pods)}
    return [
        Change(
            f"release the pods of dead node {name}",
            before="",
            after=f"{OUT_OF_SERVICE}=nodeshutdown:NoExecute\n",
            data=Step("release", (name,)),
        )
        for name in names
        if name in held or not seen.nodes[name].out_of_service
    ]


def _detach(seen: DrainSeen) -> list[Change]:
    """Its driver detaches a volume once no pod uses it; that has to be waited for while there is a Node to say so."""
    going = sorted(detaching(seen), key=lambda each: (each.node, each.text()))
    nodes = tuple(dict.fromkeys(each.node for each in going))
    if not nodes:
        return []
    text = "; ".join(f"{node}: {', '.join(each.text() for each in going if each.node == node)}" for node in nodes)
    name = "wait until volumes are detached from "
    return [Change(f"{name}{', '.join(nodes)}", sentence=f"{name}{text}", data=Step("detach", nodes))]


def _without_taint(node: Node) -> list[dict[str, t.Any]]:
    if not node.out_of_service:
        return []
    kept = [taint for taint in node.taints if taint.get("key") != OUT_OF_SERVICE]
    return [_tested(node), _add("/spec/taints", kept)]


def _tested(node: Node) -> dict[str, t.Any]:
    # Kubernetes' own controllers write taints too; a test for null holds where there are none.
    return {"op": "test", "path": "/spec/taints", "value": list(node.taints) or None}


def _add(path: str, value: t.Any) -> dict[str, t.Any]:
    return {"op": "add", "path": path, "value": value}
