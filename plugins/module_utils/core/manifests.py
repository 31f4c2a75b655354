# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of Kubernetes objects: what is wanted, what the API holds, and the steps in between.

A set has a name, and an inventory of its own in the cluster, the ConfigMap ``kube-system/slipway-manifests-NAME``: it
lists each object before that is made, so that what is no longer wanted is found and deleted, also after a run that was
killed. Only what carries the set's label is ever deleted. What differs is not guessed here: the API server's own
dry-run of the server-side apply is compared with what it holds now.

A definition (CustomResourceDefinition) that lives without the set's label was made by somebody else. It is used as it
is and never touched (``left_alone``): it would take every object of its kind along when it goes.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import gzip
import hashlib
import itertools
import json
import re
import typing as t

from .change import Change
from .problems import Problem, SlipwayError
from .state import fill

KubernetesObject = dict[str, t.Any]
Key = tuple[str, str, str, str]

FIELD_MANAGER = "slipway"
INVENTORY_NAMESPACE = "kube-system"
INVENTORY_PREFIX = "slipway-manifests-"
SET_LABEL = "slipway.cluster/set"
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
INVENTORY_LABEL = "slipway.cluster/inventory"
GENERATE = "slipway.cluster/generate"
"""Annotation of a Secret whose values are made on the host once and then left alone: see ``generated_fields``."""

HELD_BY_VOLUMES = "slipway.cluster/held-by-volumes"
"""Annotation of a StorageClass that is not deleted while volumes of it exist that would then never be removed."""

# What must be there before what: namespaces and APIs, then what workloads read and run as, then what runs.
_DEFINITION = "CustomResourceDefinition"
_FOUNDATIONS = ("Namespace", _DEFINITION)
REPLICATED = ("Deployment", "DaemonSet", "StatefulSet")
WORKLOADS = (*REPLICATED, "ReplicaSet", "Pod", "Job", "CronJob")
_HOOKS = ("APIService", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")

# An object that carries one of these and a newer version in it is somebody's newer one, and is left alone.
_RELEASES = ("gateway.networking.k8s.io/bundle-version",)

_MOST_VOLUMES = 8
# Set by the API server on each write, or by controllers: never a difference between wanted and held.
_VOLATILE_METADATA = ("creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid")
_NO_MATCH = re.compile(r'no matches for kind "([^"]+)" in version "([^"]+)"')
_SILENCE = (
    "connection refused",
    "was refused - did you specify the right host or port",
    "no route to host",
    "no such host",
    "i/o timeout",
    "network is unreachable",
)


@dataclasses.dataclass(frozen=True)
class ObjectRef:
    """Which object is meant. Two versions of one API group name the same object."""

    api_version: str
    kind: str
    name: str
    namespace: str = ""

    @property
    def key(self) -> Key:
        """Group, kind, namespace and name."""
        return (self.api_version.rpartition("/")[0], self.kind, self.namespace, self.name)

    def text(self) -> str:
        """The object as a person names it: ``Deployment kube-system/coredns``."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    def to_object(self) -> KubernetesObject:
        """The smallest object that names this one, as ``kubectl get -f`` and ``delete -f`` want it."""
        metadata = {"name": self.name, **({"namespace": self.namespace} if self.namespace else {})}
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": metadata}


@dataclasses.dataclass(frozen=True)
class ManifestSet:
    """The objects one owner wants, in the order they are made. With ``absent`` none of the set shall remain."""

    name: str
    objects: tuple[KubernetesObject, ...] = ()
    prune: bool = True
    absent: bool = False

    @property
    def wanted(self) -> tuple[KubernetesObject, ...]:
        """The objects that shall be there."""
        return () if self.absent else self.objects

    @property
    def digest(self) -> str:
        """A hash of what is wanted, as the inventory records it."""
        text = json.dumps(self.wanted, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclasses.dataclass(frozen=True)
class Inventory:
    """What the cluster remembers of a set: its objects, and the hash of the last set that was applied to the end."""

    refs: tuple[ObjectRef, ...] = ()
    digest: str = ""


@dataclasses.dataclass(frozen=True)
class SetSeen:
    """What the API holds; all empty where none answers.

    ``live`` are the objects found of those wanted and remembered, ``predicted`` is the dry-run's answer for each wanted
    one that lives, ``inventory`` is None where there is none. ``volumes`` are those that are to be removed with their
    claims, by the name of their StorageClass.
    """

    live: t.Mapping[Key, KubernetesObject] = dataclasses.field(default_factory=dict)
    predicted: t.Mapping[Key, KubernetesObject] = dataclasses.field(default_factory=dict)
    inventory: t.Optional[Inventory] = None
    volumes: t.Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SetStep:
    """One call to the API: objects to ``apply`` or to ``delete``.

    ``before`` and ``after`` are the inventory to write before and after it: None for none, one without objects means
    that the inventory goes too.
    """

    apply: tuple[KubernetesObject, ...] = ()
    delete: tuple[ObjectRef, ...] = ()
    before: t.Optional[Inventory] = None
    after: t.Optional[Inventory] = None


def ref_of(item: t.Mapping[str, t.Any]) -> ObjectRef:
    """The object's reference."""
    metadata = item.get("metadata") or {}
    return ObjectRef(item["apiVersion"], item["kind"], metadata["name"], metadata.get("namespace") or "")


def parse_set(
    *, name: str, objects: t.Sequence[t.Mapping[str, t.Any]], prune: bool = True, absent: bool = False
) -> ManifestSet:
    """The module's parameters as typed data: lists opened, labels of the set added, sorted in order of creation.

    SlipwayError names everything that is off.
    """
    problems: list[Problem] = []
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", name):
        problems.append(Problem("name", f"{name!r}", "at most 40 of a-z, 0-9 and -, the name of one set of objects"))
    flat = list(_flatten(objects))
    for position, item in enumerate(flat):
        problems.extend(_object_problems(item, position))
    if problems:
        raise SlipwayError(problems)
    keys = [ref_of(item).key for item in flat]
    twice = [Problem(ref_of(item).text(), "is listed twice") for i, item in enumerate(flat) if keys[i] in keys[:i]]
    if twice:
        raise SlipwayError(twice)
    ordered = creation_order([_labelled(item, name) for item in flat])
    return ManifestSet(name, tuple(ordered), prune, absent)


def unpack(packed: str) -> list[KubernetesObject]:
    """The objects of ``pack``'s text; SlipwayError if it is no such text."""
    if not packed:
        return []
    try:
        found = json.loads(gzip.decompress(base64.b64decode(packed)))
    except (ValueError, OSError, EOFError) as error:
        expected = "base64 of a gzipped JSON list of objects"
        raise SlipwayError(Problem("packed", f"cannot be read: {error}", expected)) from error
    return t.cast("list[KubernetesObject]", found)


def pack(objects: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """Objects as a short text; equal objects give equal text."""
    text = json.dumps(list(objects), sort_keys=True, separators=(",", ":"))
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def filled(value: t.Any, values: t.Mapping[str, str]) -> t.Any:
    """The value with every ``@@name@@`` in its texts replaced; unknown names stay."""
    if isinstance(value, str):
        return fill(value, values)
    if isinstance(value, dict):
        return {key: filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, values) for item in value]
    return value


def generated_fields(item: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    """The keys of a Secret's data that are made on the host where they are missing, from its annotation.

    ``certificate`` stands for a self-signed certificate, ``tls.crt`` and ``tls.key``, ``random`` for ``secretkey``.
    """
    kind = (item["metadata"].get("annotations") or {}).get(GENERATE, "") if item["kind"] == "Secret" else ""
    return {"certificate": ("tls.crt", "tls.key"), "random": ("secretkey",)}.get(kind, ())


def completed(item: KubernetesObject, live: t.Optional[t.Mapping[str, t.Any]]) -> KubernetesObject:
    """The item with the values that it leaves to the host and that already live; they are never made anew."""
    held = (live or {}).get("data") or {}
    kept = {key: held[key] for key in generated_fields(item) if key in held}
    return {**item, "data": {**(item.get("data") or {}), **kept}} if kept else item


def lacks_fields(item: t.Mapping[str, t.Any]) -> bool:
    """Whether values are still to be made for it."""
    return any(key not in (item.get("data") or {}) for key in generated_fields(item))


def covers(live: t.Any, wanted: t.Any) -> bool:
    """Whether all that is wanted lives, whatever else does. What the API writes in another way does not count as it."""
    if not live and not wanted:
        return type(live) is type(wanted) or live is None or wanted is None
    if isinstance(wanted, dict):
        return isinstance(live, dict) and all(covers(live.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        same = isinstance(live, list) and len(live) == len(wanted)
        return same and all(covers(one, other) for one, other in zip(live, wanted))
    return bool(live == wanted)


def owns(live: t.Mapping[str, t.Any], wanted: t.Mapping[str, t.Any]) -> bool:
    """Whether all that is wanted is still held by our field manager, from the managed fields of what lives.

    Whoever changes a value takes it over, and with a part of what the API treats as one value, such as a selector or a
    list of rules, the whole of it. An apply would take that back, though all that is wanted is still there.
    """
    held = [
        entry.get("fieldsV1") or {}
        for entry in live["metadata"].get("managedFields") or ()
        if (entry.get("manager"), entry.get("operation"), entry.get("apiVersion"))
        == (FIELD_MANAGER, "Apply", wanted["apiVersion"])
        and not entry.get("subresource")
    ]
    nobodys = ("name", "namespace", *_VOLATILE_METADATA)
    metadata = {key: value for key, value in wanted["metadata"].items() if key not in nobodys}
    fields = {key: value for key, value in wanted.items() if key not in ("apiVersion", "kind")}
    return bool(held) and _holds(held[0], {**fields, "metadata": metadata})


def _holds(held: t.Mapping[str, t.Any], wanted: t.Any) -> bool:
    """The same of one value and its part of ``fieldsV1``; an empty part stands for all of the value."""
    if not held:
        return True
    if isinstance(wanted, dict):
        return all(f"f:{key}" in held and _holds(held[f"f:{key}"], value) for key, value in wanted.items())
    return isinstance(wanted, list) and all(_holds_one(held, one) for one in wanted)


def _holds_one(held: t.Mapping[str, t.Any], one: t.Any) -> bool:
    """The same of one element of a list, which has its value or its keys for a name."""
    for name, part in held.items():
        kind, _colon, text = name.partition(":")
        if kind == "v" and json.loads(text) == one:
            return _holds(part, one)
        # A key that is not written has the API's default.
        if (
            kind == "k"
            and isinstance(one, dict)
            and all(one.get(key, it) == it for key, it in json.loads(text).items())
        ):
            return _holds(part, one)
    return False


def is_older(item: t.Mapping[str, t.Any], live: t.Mapping[str, t.Any]) -> bool:
    """Whether what lives names a newer release than what is wanted, so that applying would be a downgrade."""
    for name in _RELEASES:
        held = _release(live, name)
        if held and held > (_release(item, name) or held):
            return True
    return False


def _release(item: t.Mapping[str, t.Any], name: str) -> tuple[int, ...]:
    text = (item["metadata"].get("annotations") or {}).get(name, "")
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("-")[0]))


def left_alone(want: ManifestSet, live: t.Mapping[Key, KubernetesObject]) -> frozenset[Key]:
    """What of the set is somebody else's, so that it is neither made nor changed, and never deleted.

    These are definitions that live without the set's label, and what comes with a release of them, such as a policy
    that keeps other releases out. Where a definition is somebody else's, so is the choice of its release: no such
    policy is made.
    """
    held = {ref_of(item).key: lookup(live, ref_of(item)) for item in want.wanted}
    living = {key for key, item in held.items() if item is not None}
    ours = {key for key, item in held.items() if item is not None and _is_ours(want, item)}
    definitions = {ref_of(item).key for item in want.wanted if item["kind"] == _DEFINITION}
    beside = {ref_of(item).key for item in want.wanted if _release_text(item)} - definitions
    foreign = (definitions & living) - ours
    return frozenset(foreign | ((beside if foreign else beside & living) - ours))


def foreign_definitions(want: ManifestSet, seen: SetSeen) -> list[Problem]:
    """A warning for each release of wanted definitions that somebody else has made."""
    alone = left_alone(want, seen.live)
    found: dict[str, list[str]] = {}
    for item in want.wanted:
        live = lookup(seen.live, ref_of(item))
        if live is not None and ref_of(item).key in alone:
            held, own = _release_text(live), _release_text(item)
            release = f" (release {held or 'unknown'}; Slipway's would be {own})" if own else ""
            found.setdefault(release, []).append(ref_of(item).name)
    return [
        Problem(
            f"manifests {want.name}",
            f"definitions{release} that somebody else made are used as they are and never changed or deleted: "
            + ", ".join(names),
            remedy=f"to hand one over: kubectl label customresourcedefinition NAME {SET_LABEL}={want.name}; it then "
            "goes, with every object of its kind, when it is no longer wanted",
            warning=True,
        )
        for release, names in found.items()
    ]


def _release_text(item: t.Mapping[str, t.Any]) -> str:
    annotations = item["metadata"].get("annotations") or {}
    return next((str(annotations[name]) for name in _RELEASES if name in annotations), "")


def is_held_by_volumes(item: t.Mapping[str, t.Any]) -> bool:
    """Whether volumes of this class, if it is one, keep it from being deleted."""
    annotations = item["metadata"].get("annotations") or {}
    return item["kind"] == "StorageClass" and annotations.get(HELD_BY_VOLUMES) == "true"


def volumes_by_class(listing: t.Optional[t.Mapping[str, t.Any]]) -> dict[str, tuple[str, ...]]:
    """The PersistentVolumes that are to be removed with their claims, each with its claim's name, by class."""
    found: dict[str, list[str]] = {}
    for item in (listing or {}).get("items") or ():
        spec = item.get("spec") or {}
        claim = spec.get("claimRef") or {}
        if spec.get("persistentVolumeReclaimPolicy") == "Delete":
            text = f"{item['metadata']['name']} ({claim.get('namespace', '')}/{claim.get('name', '')})"
            found.setdefault(spec.get("storageClassName") or "", []).append(text)
    return {name: tuple(sorted(texts)) for name, texts in found.items()}


def creation_order(objects: t.Sequence[KubernetesObject]) -> list[KubernetesObject]:
    """Foundations, settings, workloads, hooks; within each as given."""
    return sorted(objects, key=_stage)


def plan_manifests(want: ManifestSet, seen: SetSeen) -> list[Change]:
    """The steps from what the API holds to what is wanted; ``data`` of each is its SetStep.

    Neighbours of one stage that get the same treatment are one step, because each call to kubectl costs as much for
    one object as for ten.
    """
    changes = [*_apply_changes(want, seen), *_delete_changes(want, seen)]
    return _with_inventory(want, seen, changes)


def inventory_ref(name: str) -> ObjectRef:
    """Where the set's inventory lies."""
    return ObjectRef("v1", "ConfigMap", INVENTORY_PREFIX + name, INVENTORY_NAMESPACE)


def inventory_object(name: str, inventory: Inventory) -> KubernetesObject:
    """The inventory as an object of the API."""
    item = inventory_ref(name).to_object()
    item["metadata"]["labels"] = {MANAGED_BY_LABEL: FIELD_MANAGER, INVENTORY_LABEL: "true"}
    objects = [dataclasses.asdict(ref) for ref in sorted(inventory.refs, key=lambda ref: ref.key)]
    item["data"] = {"objects": json.dumps(objects, indent=1), "hash": inventory.digest}
    return item


def parse_inventory(item: t.Optional[t.Mapping[str, t.Any]]) -> t.Optional[Inventory]:
    """The inventory from its object; None where there is none or a person broke it."""
    data = (item or {}).get("data") or {}
    try:
        refs = tuple(ObjectRef(**ref) for ref in json.loads(data["objects"]))
    except (KeyError, TypeError, ValueError):
        return None
    return Inventory(tuple(sorted(refs, key=lambda ref: ref.key)), data.get("hash", ""))


def index(items: t.Iterable[KubernetesObject]) -> dict[Key, KubernetesObject]:
    """Objects by key."""
    return {ref_of(item).key: item for item in items}


def lookup(found: t.Mapping[Key, KubernetesObject], ref: ObjectRef) -> t.Optional[KubernetesObject]:
    """The object meant; one that names no namespace may stand in ``default``."""
    group, kind, namespace, name = ref.key
    return found.get(ref.key) or (None if namespace else found.get((group, kind, "default", name)))


def comparable(item: t.Mapping[str, t.Any]) -> KubernetesObject:
    """The object without what the API server and controllers write into it."""
    kept = {key: copy.deepcopy(value) for key, value in item.items() if key != "status"}
    metadata = {key: value for key, value in kept.get("metadata", {}).items() if key not in _VOLATILE_METADATA}
    annotations = dict(metadata.get("annotations") or {})
    annotations.pop("deployment.kubernetes.io/revision", None)
    metadata["annotations"] = annotations
    kept["metadata"] = {key: value for key, value in metadata.items() if value not in ({}, None)}
    return kept


def shown(item: t.Mapping[str, t.Any], other: t.Optional[t.Mapping[str, t.Any]] = None, *, side: str = "") -> str:
    """The object as text for one ``side`` of a diff; ``other`` is what stands on the other side.

    Values of a Secret are masked, so that only the fact of a difference is seen.
    """
    kept = comparable(item)
    if item["kind"] == _DEFINITION:
        spec = item.get("spec") or {}
        kept["spec"] = {**spec, "versions": [_brief(each) for each in spec.get("versions") or ()]}
    if item["kind"] == "Secret":
        for field in ("data", "stringData"):
            values, others = item.get(field) or {}, (other or {}).get(field) or {}
            if values:
                same = "***" if other is None else f"*** ({side})"
                kept[field] = {key: "***" if others.get(key) == value else same for key, value in values.items()}
    return json.dumps(kept, indent=2, sort_keys=True) + "\n"


def _brief(version: t.Mapping[str, t.Any]) -> KubernetesObject:
    """A version of a definition with a hash for its schema, which has thousands of lines."""
    text = json.dumps(version.get("schema"), sort_keys=True)
    return {**version, "schema": f"sha256:{hashlib.sha256(text.encode()).hexdigest()[:16]}"}


def unknown_kinds(stderr: str) -> frozenset[tuple[str, str]]:
    """The (apiVersion, kind) pairs the API does not know, from kubectl's words."""
    return frozenset((version, kind) for kind, version in _NO_MATCH.findall(stderr))


def is_silent(stderr: str) -> bool:
    """Whether kubectl says that nothing answers, as opposed to an API that refuses."""
    return any(sign in stderr for sign in _SILENCE)


def unsettled(item: t.Mapping[str, t.Any]) -> t.Optional[str]:
    """Why the workload or API is not there in full yet; None if it is, or if it is nothing one waits for."""
    judge = {
        "Deployment": _replicas_lack,
        "StatefulSet": _replicas_lack,
        "DaemonSet": _daemon_set_lacks,
        "CustomResourceDefinition": _definition_lacks,
        "APIService": _service_lacks,
    }.get(item["kind"])
    if judge is None:
        return None
    status = item.get("status") or {}
    seen_generation, generation = status.get("observedGeneration", 0), item["metadata"].get("generation", 0)
    if item["kind"] in WORKLOADS and seen_generation < generation:
        return "its controller has not seen the last change yet"
    return judge(item, status)


def _replicas_lack(item: t.Mapping[str, t.Any], status: t.Mapping[str, t.Any]) -> t.Optional[str]:
    wanted = item["spec"].get("replicas", 1)
    counts = {name: status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    if all(count == wanted for count in counts.values()):
        return None
    return f"{counts['updatedReplicas']} updated and {counts['availableReplicas']} available of {wanted} replicas"


def _daemon_set_lacks(_item: t.Mapping[str, t.Any], status: t.Mapping[str, t.Any]) -> t.Optional[str]:
    wanted = status.get("desiredNumberScheduled", 0)
    updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    if updated == wanted and available == wanted:
        return None
    return f"{updated} updated and {available} available on {wanted} nodes"


def lacks_only_lost(
    item: t.Mapping[str, t.Any], found: t.Sequence[t.Mapping[str, t.Any]], down: t.Container[str]
) -> bool:
    """Whether all that an unsettled workload lacks is its pods on the nodes ``down``, which Kubernetes counts too.

    ``found`` is what its selector names: pods, also those that are going, and a DaemonSet's ControllerRevisions.
    """
    status = item.get("status") or {}
    pods = [each for each in found if each["kind"] == "Pod"]
    lost = [pod for pod in pods if pod["spec"].get("nodeName") in down]
    if not lost or status.get("observedGeneration", 0) < item["metadata"].get("generation", 0):
        return False
    if item["kind"] == "DaemonSet":
        everywhere = status.get("currentNumberScheduled", 0) == status.get("desiredNumberScheduled", 0)
        revisions = [each for each in found if each["kind"] == "ControllerRevision"]
        last = _revision_hash(max(revisions, key=lambda each: each["revision"])) if revisions else ""
        return everywhere and all(_revision_hash(pod) == last and _is_ready(pod) for pod in pods if pod not in lost)
    if item["kind"] == "Deployment":
        # Those that are going are no longer counted: others take their place.
        lost = [pod for pod in lost if not pod["metadata"].get("deletionTimestamp")]
    wanted = item["spec"].get("replicas", 1)
    least = min(status.get(name, 0) for name in ("updatedReplicas", "availableReplicas"))
    return bool(status.get("replicas", 0) == wanted and least >= wanted - len(lost))


def _revision_hash(item: t.Mapping[str, t.Any]) -> str:
    return str((item["metadata"].get("labels") or {}).get("controller-revision-hash", ""))


def _is_ready(pod: t.Mapping[str, t.Any]) -> bool:
    conditions = {each["type"]: each["status"] for each in (pod.get("status") or {}).get("conditions") or ()}
    return conditions.get("Ready") == "True"


def selector_text(selector: t.Mapping[str, t.Any]) -> str:
    """A LabelSelector as kubectl takes it."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for each in selector.get("matchExpressions") or ():
        values = f"({','.join(each.get('values') or ())})"
        texts = {"In": f"{each['key']} in {values}", "NotIn": f"{each['key']} notin {values}", "Exists": each["key"]}
        parts.append(texts.get(each["operator"], f"!{each['key']}"))
    return ",".join(parts)


def _definition_lacks(_item: t.Mapping[str, t.Any], status: t.Mapping[str, t.Any]) -> t.Optional[str]:
    conditions = {each["type"]: each["status"] for each in status.get("conditions") or ()}
    return None if conditions.get("Established") == "True" else "is not established yet"


def _service_lacks(_item: t.Mapping[str, t.Any], status: t.Mapping[str, t.Any]) -> t.Optional[str]:
    found = {each["type"]: each for each in status.get("conditions") or ()}.get("Available")
    if found and found["status"] == "True":
        return None
    return f"is not available yet: {(found or {}).get('message') or 'nobody has looked'}"


def _flatten(objects: t.Iterable[t.Mapping[str, t.Any]]) -> t.Iterator[t.Mapping[str, t.Any]]:
    for item in objects:
        if str(item.get("kind", "")).endswith("List") and isinstance(item.get("items"), list):
            yield from _flatten(item["items"])
        else:
            yield item


def _object_problems(item: t.Mapping[str, t.Any], position: int) -> t.Iterator[Problem]:
    where = f"objects[{position}]"
    missing = [field for field in ("apiVersion", "kind") if not isinstance(item.get(field), str)]
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        missing.append("metadata.name")
    if missing:
        yield Problem(where, f"{item.get('kind', 'an object')} without {', '.join(missing)}", "a complete object")


def _labelled(item: t.Mapping[str, t.Any], name: str) -> KubernetesObject:
    marked: KubernetesObject = copy.deepcopy(dict(item))
    labels = marked["metadata"].get("labels") or {}
    marked["metadata"]["labels"] = {MANAGED_BY_LABEL: FIELD_MANAGER, **labels, SET_LABEL: name}
    marked.pop("status", None)
    return marked


def _stage(item: t.Mapping[str, t.Any]) -> int:
    kind = item["kind"]
    if kind in _FOUNDATIONS:
        return 0
    if kind in _HOOKS:
        return 3
    return 2 if kind in WORKLOADS else 1


def _apply_changes(want: ManifestSet, seen: SetSeen) -> list[Change]:
    steps = []
    alone = left_alone(want, seen.live)
    for item in want.wanted:
        live = lookup(seen.live, ref_of(item))
        predicted = lookup(seen.predicted, ref_of(item))
        if ref_of(item).key in alone or (live is not None and is_older(item, live)):
            continue
        if live is None:
            steps.append(("create", item, "", shown(item)))
        elif predicted is None or comparable(live) != comparable(predicted):
            after = predicted or item
            steps.append(("update", item, shown(live, after, side="before"), shown(after, live, side="after")))
    changes = []
    for (verb, _stage_of), group in itertools.groupby(steps, key=lambda step: (step[0], _stage(step[1]))):
        members = list(group)
        changes.append(
            Change(
                _name(verb, [ref_of(item) for _verb, item, _before, _after in members]),
                before="".join(before for _verb, _item, before, _after in members),
                after="".join(after for _verb, _item, _before, after in members),
                data=SetStep(apply=tuple(item for _verb, item, _before, _after in members)),
            )
        )
    return changes


def _delete_changes(want: ManifestSet, seen: SetSeen) -> list[Change]:
    """Deletion of what the inventory lists, lives, carries our label and is not wanted; the last made goes first."""
    doomed = [
        item for ref in _unwanted(want, seen) for item in [lookup(seen.live, ref)] if item and _is_ours(want, item)
    ]
    _refuse_held(doomed, seen.volumes)
    changes = []
    for _stage_of, group in itertools.groupby(reversed(creation_order(doomed)), key=_stage):
        members = list(group)
        refs = [ref_of(item) for item in members]
        changes.append(
            Change(
                _name("delete", refs),
                before="".join(shown(item) for item in members),
                data=SetStep(delete=tuple(refs)),
            )
        )
    return changes


def _refuse_held(doomed: t.Iterable[t.Mapping[str, t.Any]], volumes: t.Mapping[str, tuple[str, ...]]) -> None:
    """SlipwayError if volumes would be left that nobody ever removes."""
    problems = []
    for item in doomed:
        name = item["metadata"]["name"]
        held = volumes.get(name, ()) if is_held_by_volumes(item) else ()
        if held:
            more = f" and {len(held) - _MOST_VOLUMES} more" if len(held) > _MOST_VOLUMES else ""
            problems.append(
                Problem(
                    f"StorageClass {name}",
                    f"has volumes that nobody would remove any more: {', '.join(held[:_MOST_VOLUMES])}{more}",
                    "no volume that goes with its claim",
                    "delete the claims, and the data with them; or keep it where it is, for good: kubectl patch pv "
                    'NAME --patch \'{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}\'',
                )
            )
    if problems:
        raise SlipwayError(problems)


def _unwanted(want: ManifestSet, seen: SetSeen) -> list[ObjectRef]:
    if seen.inventory is None or not (want.prune or want.absent):
        return []
    wanted = {ref_of(item).key for item in want.wanted}
    return [ref for ref in seen.inventory.refs if ref.key not in wanted]


def _is_ours(want: ManifestSet, item: t.Mapping[str, t.Any]) -> bool:
    return (item["metadata"].get("labels") or {}).get(SET_LABEL) == want.name


def _with_inventory(want: ManifestSet, seen: SetSeen, changes: list[Change]) -> list[Change]:
    """Give each step the inventory to write before and after it; the inventory alone is a step too."""
    target = _target_inventory(want, seen)
    if not changes:
        if target == (seen.inventory or Inventory()):
            return []
        return [Change(f"record what belongs to manifests {want.name}", data=SetStep(after=target))]
    held = seen.inventory or Inventory()
    steps = []
    for position, change in enumerate(changes):
        step: SetStep = change.data
        before = _grown(held, step.apply)
        after = target if position == len(changes) - 1 else _shrunk(before, step.delete)
        step = dataclasses.replace(
            step, before=None if before == held else before, after=None if after == before else after
        )
        steps.append(dataclasses.replace(change, data=step))
        held = after
    return steps


def _target_inventory(want: ManifestSet, seen: SetSeen) -> Inventory:
    """What shall be remembered at the end; without ``prune`` also what was remembered before."""
    kept: tuple[ObjectRef, ...] = ()
    if seen.inventory is not None and not (want.prune or want.absent):
        kept = seen.inventory.refs
    alone = left_alone(want, seen.live)
    own = [item for item in want.wanted if ref_of(item).key not in alone]
    refs = _grown(Inventory(kept), own).refs
    return Inventory(refs, want.digest) if refs else Inventory()


def _grown(inventory: Inventory, items: t.Iterable[KubernetesObject]) -> Inventory:
    refs = {ref.key: ref for ref in inventory.refs}
    refs.update({ref_of(item).key: ref_of(item) for item in items})
    return Inventory(tuple(sorted(refs.values(), key=lambda ref: ref.key)), inventory.digest)


def _shrunk(inventory: Inventory, refs: t.Iterable[ObjectRef]) -> Inventory:
    gone = {ref.key for ref in refs}
    return Inventory(tuple(ref for ref in inventory.refs if ref.key not in gone), inventory.digest)


def _name(verb: str, refs: t.Sequence[ObjectRef]) -> str:
    listed = ", ".join(ref.text() for ref in refs)
    takes_along = verb == "delete" and any(ref.kind == _DEFINITION for ref in refs)
    return f"{verb} {listed}{' and every object of these kinds' if takes_along else ''}"
