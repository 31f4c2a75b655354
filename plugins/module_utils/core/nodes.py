# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Node objects: what the API says about them, what they should carry, and the steps in between.

A kubelet may not give itself labels such as ``node-role.kubernetes.io/control-plane`` (NodeRestriction), so these are
set through the API. Two annotations on the Node remember which labels and taints are ours, so that one that is no
longer wanted is removed, and one that a person made is left alone.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import re
import typing as t

from .change import Change
from .drain import CORDONED_BY, disowned
from .problems import Problem, SlipwayError

MANAGED_LABELS = "slipway.cluster/managed-labels"
MANAGED_TAINTS = "slipway.cluster/managed-taints"
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")

# Put there by Kubernetes while a node is not usable, whatever its Ready condition says at that moment.
_UNREADY_TAINTS = (
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
)
# A kubelet gives its Node this label, and flanneld this annotation, when it starts and never again.
_REGISTERED = "kubernetes.io/hostname"
_ROUTED = "flannel.alpha.coreos.com/kube-subnet-manager"
SERVING_SIGNER = "kubernetes.io/kubelet-serving"
_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


@dataclasses.dataclass(frozen=True, order=True)
class Taint:
    """A taint; the same key may stand once per effect. ``time_added`` is Kubernetes' own mark on NoExecute ones."""

    key: str
    effect: str
    value: str = ""
    time_added: str = dataclasses.field(default="", compare=False)

    @property
    def identity(self) -> str:
        """Key and effect, as the annotation of ours lists them."""
        return f"{self.key}:{self.effect}"

    def text(self) -> str:
        """The taint as kubectl writes it."""
        return f"{self.key}={self.value}:{self.effect}" if self.value else self.identity

    def to_data(self) -> dict[str, str]:
        """The taint in the shape of the API."""
        data = {"key": self.key, "effect": self.effect, "value": self.value, "timeAdded": self.time_added}
        return {key: value for key, value in data.items() if value}


@dataclasses.dataclass(frozen=True)
class NodeWant:
    """What a Node should carry; ``unschedulable`` None leaves that as it is."""

    name: str
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: t.Optional[bool] = None


@dataclasses.dataclass(frozen=True)
class NodeSeen:
    """A Node as the API shows it.

    ``condition`` says why it is not ready, in one line, and is empty if it is; ``pressure`` what it says it is short of
    all the same. ``managed_*`` is what our annotations list, None where there is no such annotation; ``labelled`` and
    ``annotated`` are whether it has any of these at all. ``cordoned_by`` is what for it was Slipway that closed it.
    ``registered`` is whether its kubelet, and ``routed`` whether its flanneld has been started since it was made.
    """

    name: str
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    managed_labels: t.Optional[tuple[str, ...]] = None
    managed_taints: t.Optional[tuple[str, ...]] = None
    ready: bool = False
    condition: str = ""
    pressure: str = ""
    kubelet_version: str = ""
    addresses: tuple[str, ...] = ()
    pod_cidrs: tuple[str, ...] = ()
    labelled: bool = True
    annotated: bool = True
    cordoned_by: t.Optional[str] = None
    registered: bool = True
    routed: bool = True


@dataclasses.dataclass(frozen=True)
class NodeStep:
    """One step for one Node: what it changes (``label``, ``taint``, ``cordon``, ``disown``) and towards what."""

    kind: str
    want: NodeWant


@dataclasses.dataclass(frozen=True)
class NodesSeen:
    """All Nodes; ``known`` is false where no API answered, and every Node then counts as absent."""

    known: bool = False
    nodes: t.Mapping[str, NodeSeen] = dataclasses.field(default_factory=dict)

    @property
    def ready(self) -> tuple[str, ...]:
        """The names of those that are Ready."""
        return tuple(name for name, node in self.nodes.items() if node.ready)

    @property
    def down(self) -> tuple[str, ...]:
        """The names of those that are not."""
        return tuple(name for name, node in self.nodes.items() if not node.ready)

    def to_data(self) -> dict[str, t.Any]:
        """The observation as JSON data."""
        nodes = [
            {**dataclasses.asdict(node), "taints": [taint.to_data() for taint in node.taints]}
            for node in self.nodes.values()
        ]
        return {"known": self.known, "nodes": nodes}

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> NodesSeen:
        """The observation from ``to_data``."""
        nodes = [_node_from_data(node) for node in data.get("nodes", ())]
        return cls(known=bool(data.get("known")), nodes={node.name: node for node in nodes})


def summarize_nodes(listing: t.Optional[t.Mapping[str, t.Any]]) -> NodesSeen:
    """What matters of ``kubectl get nodes -o json``; None stands for an API that did not answer."""
    if listing is None:
        return NodesSeen()
    nodes = [_summarize(item) for item in listing.get("items") or ()]
    return NodesSeen(known=True, nodes={node.name: node for node in sorted(nodes, key=lambda node: node.name)})


def parse_nodes(items: t.Sequence[t.Mapping[str, t.Any]]) -> tuple[NodeWant, ...]:
    """The module's ``nodes`` parameter as typed data; SlipwayError names everything that is off."""
    problems: list[Problem] = []
    wants = [_parse_node(item, problems) for item in items]
    names = [want.name for want in wants if want.name]
    problems.extend(
        Problem(f"node {name}", "is listed more than once", "each node once")
        for name in sorted({name for name in names if names.count(name) > 1})
    )
    if problems:
        raise SlipwayError(problems)
    return tuple(wants)


def node_object(name: str, pod_cidr: str, taints: t.Sequence[t.Mapping[str, str]]) -> dict[str, t.Any]:
    """A Node with that pod network, which no kubelet could ask for, and what keeps pods off it from the beginning."""
    spec = {"podCIDR": pod_cidr, "podCIDRs": [pod_cidr], "taints": [dict(each) for each in taints]}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}


def plan_nodes(wants: t.Sequence[NodeWant], seen: NodesSeen) -> list[Change]:
    """The steps from the Nodes as seen to the Nodes as wanted, in the order given; ``data`` of each is its NodeStep.

    What is wanted is also recorded as ours, so the steps do not depend on what a kubelet registered its node with.
    """
    changes: list[Change] = []
    for want in wants:
        node = seen.nodes.get(want.name) or NodeSeen(want.name)
        steps = (_label(want, node), _taint(want, node), _cordon(want, node), _disown(want, node))
        changes.extend(change for change in steps if change)
    return changes


def patch_of(step: NodeStep, node: NodeSeen) -> list[dict[str, t.Any]]:
    """The JSON patch (RFC 6902) that carries out the step on the Node as seen; empty if nothing is left to do.

    What is replaced as a whole is tested to be as it was seen, because kubelets and controllers write there too; a
    failed test means to look again. A test for null holds where there is nothing at the path.
    """
    if step.kind == "cordon":
        operations = [{"op": "add", "path": "/spec/unschedulable", "value": step.want.unschedulable}]
        return operations if _cordon(step.want, node) else []
    if step.kind == "disown":
        return disowned(node.cordoned_by) if node.cordoned_by is not None and _disown(step.want, node) else []
    return _label_operations(step.want, node) if step.kind == "label" else _taint_operations(step.want, node)


def unready(names: t.Iterable[str], seen: NodesSeen) -> dict[str, str]:
    """The nodes of ``names`` that are not ready, each with the last seen reason."""
    reasons = {}
    for name in names:
        node = seen.nodes.get(name)
        if node is None:
            reasons[name] = "has not registered with the API server" if seen.known else "the API server does not answer"
        elif not node.ready:
            reasons[name] = node.condition
    return reasons


def unsaid(item: t.Mapping[str, t.Any], started: float) -> str:
    """What is lacking until the kubelet that was started at that time has itself said that its Node is Ready.

    ``started`` is in Unix seconds of the kubelet's own clock. For most of a minute the API goes on calling a Node Ready
    whose kubelet is no more, and a kubelet answers before it knows whether it can stay.
    """
    node = _summarize(item)
    if not node.ready:
        return node.condition
    conditions = item["status"]["conditions"]
    said = next(each for each in conditions if each.get("type") == "Ready").get("lastHeartbeatTime")
    moment = parse_time(said)
    # The API has whole seconds.
    if moment is None or moment.timestamp() < int(started):
        return f"its kubelet has not said so since it was started, the last time at {said}"
    return ""


def parse_time(text: t.Optional[str]) -> t.Optional[datetime.datetime]:
    """A time as the API writes it, with or without a fraction of a second."""
    if not text:
        return None
    plain = text.rstrip("Z").partition(".")[0]
    return datetime.datetime.strptime(plain, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)


def unserved(names: t.Iterable[str], listing: t.Mapping[str, t.Any]) -> list[str]:
    """The nodes of ``names`` with a request for a serving certificate that nobody has decided, nor its signer filled.

    ``listing`` is of CertificateSigningRequests. Without that certificate the API server cannot ask a kubelet for logs.
    """
    users = {f"system:node:{name}": name for name in names}
    found = set()
    for item in listing.get("items") or ():
        spec, status = item.get("spec") or {}, item.get("status") or {}
        ended = status.get("certificate") or any(
            condition.get("type") in ("Denied", "Failed") for condition in status.get("conditions") or ()
        )
        if spec.get("signerName") == SERVING_SIGNER and spec.get("username") in users and not ended:
            found.add(users[spec["username"]])
    return sorted(found)


def unready_problems(reasons: t.Mapping[str, str], seconds: float) -> list[Problem]:
    """One problem for each node that did not become ready within the time."""
    return [
        Problem(
            f"node {name}",
            f"after {seconds:g} s: {reason}",
            "a Node that is Ready",
            f"on {name} see: systemctl status kubelet containerd, journalctl -u kubelet",
        )
        for name, reason in sorted(reasons.items())
    ]


def _label(want: NodeWant, node: NodeSeen) -> t.Optional[Change]:
    target = _labels_after(want, node)
    if target == dict(node.labels) and not _record_differs(want.labels, node.managed_labels):
        return None
    keys = sorted({*want.labels, *(node.managed_labels or ())})
    return Change(
        f"label node {want.name}",
        sentence=_sentence("label node", want.name, [_pair(key, target.get(key)) for key in keys]),
        before=_lines(f"{key}={node.labels[key]}" for key in keys if key in node.labels),
        after=_lines(f"{key}={target[key]}" for key in keys if key in target),
        data=NodeStep("label", want),
    )


def _taint(want: NodeWant, node: NodeSeen) -> t.Optional[Change]:
    target = _taints_after(want, node)
    wanted = {taint.identity: "" for taint in want.taints}
    if set(target) == set(node.taints) and not _record_differs(wanted, node.managed_taints):
        return None
    gone = [taint for taint in node.taints if taint not in target]
    return Change(
        f"taint node {want.name}",
        sentence=_sentence(
            "taint node", want.name, [*(item.text() for item in want.taints), *(f"{item.text()}-" for item in gone)]
        ),
        before=_lines(sorted(taint.text() for taint in node.taints)),
        after=_lines(sorted(taint.text() for taint in target)),
        data=NodeStep("taint", want),
    )


def _cordon(want: NodeWant, node: NodeSeen) -> t.Optional[Change]:
    if want.unschedulable is None or want.unschedulable == node.unschedulable:
        return None
    verb = "cordon" if want.unschedulable else "uncordon"
    return Change(f"{verb} node {want.name}", data=NodeStep("cordon", want))


def _disown(want: NodeWant, node: NodeSeen) -> t.Optional[Change]:
    """Somebody opened by hand what Slipway had closed: the next cordon is not Slipway's."""
    if node.cordoned_by is None or node.unschedulable:
        return None
    return Change(
        f"forget that Slipway cordoned node {want.name}",
        before=f"{CORDONED_BY}: {node.cordoned_by}\n",
        after="",
        data=NodeStep("disown", want),
    )


def _record_differs(wanted: t.Iterable[str], managed: t.Optional[tuple[str, ...]]) -> bool:
    return set(wanted) != set(managed or ())


def _labels_after(want: NodeWant, node: NodeSeen) -> dict[str, str]:
    kept = {key: value for key, value in node.labels.items() if key not in (node.managed_labels or ())}
    return {**kept, **want.labels}


def _taints_after(want: NodeWant, node: NodeSeen) -> list[Taint]:
    replaced = {*(node.managed_taints or ()), *(taint.identity for taint in want.taints)}
    return [*(taint for taint in node.taints if taint.identity not in replaced), *want.taints]


def _label_operations(want: NodeWant, node: NodeSeen) -> list[dict[str, t.Any]]:
    if not _label(want, node):
        return []
    target = _labels_after(want, node)
    operations = [] if node.labelled else _empty_map("/metadata/labels")
    operations += [
        {"op": "add", "path": f"/metadata/labels/{_pointer(key)}", "value": value}
        for key, value in sorted(target.items())
        if node.labels.get(key) != value
    ]
    operations += [
        {"op": "remove", "path": f"/metadata/labels/{_pointer(key)}"}
        for key in sorted(node.labels)
        if key not in target
    ]
    return [*operations, *_record(node, MANAGED_LABELS, want.labels)]


def _taint_operations(want: NodeWant, node: NodeSeen) -> list[dict[str, t.Any]]:
    if not _taint(want, node):
        return []
    found = [taint.to_data() for taint in node.taints] or None
    return [
        {"op": "test", "path": "/spec/taints", "value": found},
        {"op": "add", "path": "/spec/taints", "value": [taint.to_data() for taint in _taints_after(want, node)]},
        *_record(node, MANAGED_TAINTS, [taint.identity for taint in want.taints]),
    ]


def _record(node: NodeSeen, annotation: str, names: t.Iterable[str]) -> list[dict[str, t.Any]]:
    path = f"/metadata/annotations/{_pointer(annotation)}"
    before = [] if node.annotated else _empty_map("/metadata/annotations")
    return [*before, {"op": "add", "path": path, "value": json.dumps(sorted(names))}]


def _empty_map(path: str) -> list[dict[str, t.Any]]:
    return [{"op": "test", "path": path, "value": None}, {"op": "add", "path": path, "value": {}}]


def _pointer(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def _pair(key: str, value: t.Optional[str]) -> str:
    if value is None:
        return f"{key}-"
    return f"{key}={value}" if value else key


def _sentence(verb: str, name: str, parts: t.Sequence[str]) -> str:
    return f"{verb} {name}: {', '.join(parts)}" if parts else f"{verb} {name}"


def _lines(texts: t.Iterable[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


def _summarize(item: t.Mapping[str, t.Any]) -> NodeSeen:
    metadata, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    annotations = metadata.get("annotations") or {}
    taints = tuple(_taint_from_data(taint) for taint in spec.get("taints") or ())
    condition = _condition(status, taints)
    return NodeSeen(
        name=metadata["name"],
        labels=dict(metadata.get("labels") or {}),
        taints=taints,
        unschedulable=bool(spec.get("unschedulable")),
        managed_labels=_remembered(annotations.get(MANAGED_LABELS)),
        managed_taints=_remembered(annotations.get(MANAGED_TAINTS)),
        ready=not condition,
        condition=condition,
        pressure=_pressure(status),
        kubelet_version=(status.get("nodeInfo") or {}).get("kubeletVersion", ""),
        addresses=tuple(
            address["address"] for address in status.get("addresses") or () if address.get("type") == "InternalIP"
        ),
        pod_cidrs=tuple(spec.get("podCIDRs") or ()),
        labelled=bool(metadata.get("labels")),
        annotated=bool(annotations),
        cordoned_by=annotations.get(CORDONED_BY),
        registered=_REGISTERED in (metadata.get("labels") or {}),
        routed=_ROUTED in annotations,
    )


def _pressure(status: t.Mapping[str, t.Any]) -> str:
    """What a node lacks that takes pods off it though it is Ready: DiskPressure, MemoryPressure, PIDPressure."""
    held = {each.get("type", ""): each for each in status.get("conditions") or () if each.get("status") == "True"}
    return "; ".join(f"{name}: {held[name].get('message', '')}" for name in sorted(held) if name.endswith("Pressure"))


def _condition(status: t.Mapping[str, t.Any], taints: t.Sequence[Taint]) -> str:
    """Why the node is not ready; empty if it is and Kubernetes lets pods run on it."""
    ready = next((each for each in status.get("conditions") or () if each.get("type") == "Ready"), None)
    if ready is None:
        return "has no Ready condition yet"
    if ready.get("status") != "True":
        return f"Ready={ready.get('status')} {ready.get('reason', '')}: {ready.get('message', '')}".strip()
    held = sorted(taint.key for taint in taints if taint.key in _UNREADY_TAINTS)
    return f"still tainted {', '.join(held)}" if held else ""


def _remembered(text: t.Optional[str]) -> t.Optional[tuple[str, ...]]:
    """The names an annotation of ours lists; what a person broke counts as nothing remembered."""
    try:
        names = json.loads(text) if text else None
    except ValueError:
        return None
    return tuple(str(name) for name in names) if isinstance(names, list) else None


def _taint_from_data(data: t.Mapping[str, t.Any]) -> Taint:
    return Taint(*(_text(data.get(field)) for field in ("key", "effect", "value", "timeAdded")))


def _node_from_data(data: t.Mapping[str, t.Any]) -> NodeSeen:
    fields: dict[str, t.Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in data.items() if key != "taints"
    }
    return NodeSeen(**fields, taints=tuple(_taint_from_data(taint) for taint in data.get("taints", ())))


def _parse_node(item: t.Mapping[str, t.Any], problems: list[Problem]) -> NodeWant:
    name = str(item.get("name") or "")
    where = f"node {name}" if name else "nodes"
    if not name:
        problems.append(Problem(where, "an entry has no name", "name, labels, taints, unschedulable"))
    labels = {str(key): _text(value) for key, value in (item.get("labels") or {}).items()}
    taints = tuple(sorted(_taint_from_data(taint) for taint in item.get("taints") or ()))
    problems.extend(
        Problem(where, f"label {_pair(key, value)}", "[prefix/]name=value, each part valid in Kubernetes")
        for key, value in labels.items()
        if not (_is_qualified(key) and _is_value(value))
    )
    problems.extend(
        Problem(where, f"taint {taint.text()}", f"a valid key and value, and an effect of {', '.join(EFFECTS)}")
        for taint in taints
        if not (_is_qualified(taint.key) and _is_value(taint.value) and taint.effect in EFFECTS)
    )
    unschedulable = item.get("unschedulable")
    return NodeWant(name, labels, taints, None if unschedulable is None else bool(unschedulable))


def _text(value: t.Any) -> str:
    """A scalar as Kubernetes wants it: YAML's true is the word, and nothing is the empty text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _is_value(text: str) -> bool:
    return not text or (len(text) <= 63 and bool(_NAME.fullmatch(text)))


def _is_qualified(key: str) -> bool:
    """Whether the text is a label key: an optional DNS prefix and a name (Kubernetes, labels and selectors)."""
    prefix, slash, name = key.rpartition("/")
    return bool(_NAME.fullmatch(name)) and (not slash or bool(_PREFIX.fullmatch(prefix)))
