# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The pure parts of sets of objects: parameters, order, comparison, masking, readiness."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import (
    HELD_BY_VOLUMES,
    Inventory,
    ObjectRef,
    SetSeen,
    comparable,
    inventory_object,
    is_silent,
    lacks_only_lost,
    lookup,
    parse_inventory,
    parse_set,
    plan_manifests,
    ref_of,
    selector_text,
    shown,
    unknown_kinds,
    unsettled,
    volumes_by_class,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError


def thing(kind: str, name: str = "x", **fields: t.Any) -> dict[str, t.Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def test_parameters_are_opened_marked_and_ordered() -> None:
    listing = {"kind": "List", "apiVersion": "v1", "items": [thing("Pod"), thing("Namespace")]}
    want = parse_set(
        name="s", objects=[thing("ValidatingWebhookConfiguration"), listing, thing("Secret", status={"a": 1})]
    )
    assert [item["kind"] for item in want.objects] == ["Namespace", "Secret", "Pod", "ValidatingWebhookConfiguration"]
    assert "status" not in want.objects[1]
    assert want.objects[0]["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "slipway",
        "slipway.cluster/set": "s",
    }


def test_a_users_own_label_stays() -> None:
    item = thing("Secret")
    item["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "me", "slipway.cluster/set": "stolen"}
    labels = parse_set(name="s", objects=[item]).objects[0]["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/managed-by": "me", "slipway.cluster/set": "s"}


def test_the_hash_follows_the_objects() -> None:
    one, same, other = (parse_set(name="s", objects=[thing("ConfigMap", data={"a": value})]).digest for value in "aab")
    assert one == same != other


@pytest.mark.parametrize(
    ("name", "objects", "parts"),
    [
        ("Bad Name", [{}], ["'Bad Name'", "objects[0]", "apiVersion, kind, metadata.name"]),
        (
            "s",
            [thing("A"), {"kind": "B", "apiVersion": "v1", "metadata": {"generateName": "g"}}],
            ["objects[1]", "metadata.name"],
        ),
        ("s", [{**thing("A"), "apiVersion": f"g/v{number}"} for number in (1, 2)], ["A x: is listed twice"]),
    ],
)
def test_bad_parameters(name: str, objects: list[dict[str, t.Any]], parts: list[str]) -> None:
    with pytest.raises(SlipwayError) as caught:
        parse_set(name=name, objects=objects)
    for part in parts:
        assert part in str(caught.value)


def test_what_the_api_writes_is_no_difference() -> None:
    live = thing("Deployment", status={"replicas": 1}, spec={"a": 1})
    live["metadata"].update(uid="1", resourceVersion="2", generation=3, managedFields=[], creationTimestamp="now")
    live["metadata"]["annotations"] = {"deployment.kubernetes.io/revision": "7"}
    assert comparable(live) == {"apiVersion": "v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"a": 1}}
    assert live["status"] == {"replicas": 1}


def test_a_secret_is_never_shown() -> None:
    live = thing("Secret", data={"same": "c2FtZQ==", "password": "aHVudGVyMg=="})
    new = thing("Secret", data={"same": "c2FtZQ==", "password": "aHVudGVyMw=="}, stringData={"more": "hunter4"})
    before, after = shown(live, new, side="before"), shown(new, live, side="after")
    assert before != after
    assert '"password": "*** (before)"' in before
    assert '"password": "*** (after)"' in after
    assert '"same": "***"' in before
    for text in (before, after, shown(new)):
        assert "hunter" not in text
        assert "aHVudGVy" not in text


def test_a_secret_is_masked_in_a_plan() -> None:
    want = parse_set(name="s", objects=[thing("Secret", stringData={"password": "hunter2"})])
    (change,) = plan_manifests(want, SetSeen())
    assert change.name == "create Secret x"
    assert "hunter2" not in change.after


def test_an_inventory_survives_and_a_broken_one_is_none() -> None:
    inventory = Inventory((ObjectRef("apps/v1", "Deployment", "d", "n"), ObjectRef("v1", "Namespace", "n")), "abc")
    item = inventory_object("s", inventory)
    assert ref_of(item).text() == "ConfigMap kube-system/slipway-manifests-s"
    again = parse_inventory(item)
    assert again is not None
    assert (set(again.refs), again.digest) == (set(inventory.refs), "abc")
    for broken in (None, {}, {"data": {"objects": "["}}, {"data": {"objects": '[{"who": 1}]'}}):
        assert parse_inventory(broken) is None


def test_another_version_is_the_same_object() -> None:
    assert ObjectRef("apps/v1", "D", "x").key == ObjectRef("apps/v1beta1", "D", "x").key
    assert ObjectRef("v1", "D", "x").key != ObjectRef("apps/v1", "D", "x").key


def test_an_object_without_namespace_may_stand_in_default() -> None:
    found = {("", "ConfigMap", "default", "x"): thing("ConfigMap")}
    assert lookup(found, ObjectRef("v1", "ConfigMap", "x")) is not None
    assert lookup(found, ObjectRef("v1", "ConfigMap", "x", "other")) is None


def test_kubectls_words() -> None:
    said = (
        'resource mapping not found for name: "w" namespace: "team" from "STDIN": '
        'no matches for kind "Widget" in version "example.com/v1"\nensure CRDs are installed first'
    )
    assert unknown_kinds(said) == {("example.com/v1", "Widget")}
    assert unknown_kinds("forbidden") == frozenset()
    refused = "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?"
    assert is_silent(refused)
    assert is_silent('Get "https://127.0.0.1:6443/api": dial tcp 127.0.0.1:6443: connect: connection refused')
    assert not is_silent('Error from server (Forbidden): nodes is forbidden: User "x" cannot list')
    assert not is_silent("tls: failed to verify certificate: x509: certificate signed by unknown authority")


def rolled(updated: int, available: int) -> dict[str, int]:
    counts = {"desiredNumberScheduled": 3, "updatedNumberScheduled": updated, "numberAvailable": available}
    return {"observedGeneration": 1, **counts}


@pytest.mark.parametrize(
    ("kind", "status", "lack"),
    [
        ("DaemonSet", rolled(3, 3), None),
        ("DaemonSet", rolled(0, 3), "0 updated and 3 available on 3 nodes"),
        ("DaemonSet", rolled(3, 2), "3 updated and 2 available on 3 nodes"),
        ("DaemonSet", {}, "its controller has not seen the last change yet"),
        ("CustomResourceDefinition", {"conditions": [{"type": "Established", "status": "True"}]}, None),
        ("CustomResourceDefinition", {}, "is not established yet"),
        ("ConfigMap", {}, None),
    ],
)
def test_what_is_not_there_in_full(kind: str, status: dict[str, t.Any], lack: str | None) -> None:
    item = thing(kind, status=status, spec={})
    item["metadata"]["generation"] = 1
    assert unsettled(item) == lack


def counted(replicas: int, updated: int, available: int) -> dict[str, int]:
    counts = {"replicas": replicas, "updatedReplicas": updated, "availableReplicas": available}
    return {"observedGeneration": 1, **counts}


def revision(number: int, template: str) -> dict[str, t.Any]:
    metadata = {"labels": {"controller-revision-hash": template}}
    return {"kind": "ControllerRevision", "metadata": metadata, "revision": number}


def placed(node: str, template: str = "new", *, ready: bool = True, going: bool = False) -> dict[str, t.Any]:
    metadata = {"labels": {"controller-revision-hash": template}, **({"deletionTimestamp": "now"} if going else {})}
    return {
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"nodeName": node} if node else {},
        "status": {"conditions": [{"type": "Ready", "status": str(ready)}]},
    }


EVERYWHERE = {**rolled(2, 2), "currentNumberScheduled": 3}
DEAD = placed("w2", "old", ready=False)
REVISIONS = [revision(9, "old"), revision(10, "new"), revision(8, "older")]


@pytest.mark.parametrize(
    ("kind", "status", "pods", "lost"),
    [
        ("DaemonSet", EVERYWHERE, [placed("cp1"), placed("w1"), DEAD], True),
        ("DaemonSet", EVERYWHERE, [placed("cp1"), placed("w1"), placed("w2", ready=False), DEAD], True),
        ("DaemonSet", EVERYWHERE, [placed("cp1"), placed("w1", "old"), DEAD], False),
        ("DaemonSet", EVERYWHERE, [placed("cp1"), placed("w1", ready=False), DEAD], False),
        ("DaemonSet", EVERYWHERE, [placed("cp1"), placed("w1", "old", ready=False, going=True), DEAD], False),
        ("DaemonSet", EVERYWHERE, [placed("cp1"), placed("", ready=False), DEAD], False),
        ("DaemonSet", {**EVERYWHERE, "currentNumberScheduled": 2}, [placed("cp1"), DEAD], False),
        ("DaemonSet", {**EVERYWHERE, "observedGeneration": 0}, [placed("cp1"), placed("w1"), DEAD], False),
        ("DaemonSet", EVERYWHERE, [placed("cp1"), placed("w1")], False),
        ("Deployment", counted(3, 3, 2), [placed("cp1"), placed("w1"), DEAD], True),
        ("Deployment", counted(3, 3, 1), [placed("cp1"), placed("w1"), DEAD], False),
        ("Deployment", counted(4, 3, 3), [placed("cp1"), placed("w1"), DEAD], False),
        ("Deployment", counted(3, 3, 2), [placed("w2", ready=False, going=True)], False),
        ("StatefulSet", counted(3, 2, 2), [placed("w2", ready=False, going=True)], True),
        ("StatefulSet", counted(2, 2, 2), [placed("w2", ready=False, going=True)], False),
    ],
)
def test_what_a_node_that_is_down_takes_with_it(
    kind: str, status: dict[str, t.Any], pods: list[dict[str, t.Any]], lost: bool
) -> None:
    item = thing(kind, status=status, spec={"replicas": 3})
    item["metadata"]["generation"] = 1
    assert lacks_only_lost(item, [*pods, *REVISIONS], {"w2"}) == lost


@pytest.mark.parametrize(
    ("selector", "text"),
    [
        ({"matchLabels": {"a": "b", "c": "d"}}, "a=b,c=d"),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}, "a in (b,c)"),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}, "a notin (b)"),
        (
            {"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "DoesNotExist"}]},
            "a,!b",
        ),
    ],
)
def test_a_selector_as_kubectl_takes_it(selector: dict[str, t.Any], text: str) -> None:
    assert selector_text(selector) == text


def volume(name: str, storage_class: str, policy: str = "Delete") -> dict[str, t.Any]:
    claim = {"namespace": "shop", "name": "data"}
    spec = {"storageClassName": storage_class, "persistentVolumeReclaimPolicy": policy, "claimRef": claim}
    return thing("PersistentVolume", name, spec=spec)


def test_volumes_by_class_are_those_that_go_with_their_claims() -> None:
    items = [volume("b", "local"), volume("a", "local"), volume("c", "local", "Retain"), thing("PersistentVolume", "d")]
    assert volumes_by_class({"items": items}) == {"local": ("a (shop/data)", "b (shop/data)")}
    assert volumes_by_class(None) == {}


@pytest.mark.parametrize(
    ("annotations", "volumes", "refused"),
    [
        ({HELD_BY_VOLUMES: "true"}, {"local": ("pvc-1 (shop/data)",)}, "pvc-1 (shop/data)"),
        ({HELD_BY_VOLUMES: "true"}, {"local": tuple(f"v{n}" for n in range(10))}, "v7 and 2 more"),
        ({HELD_BY_VOLUMES: "true"}, {"another": ("pvc-1 (shop/data)",)}, ""),
        ({HELD_BY_VOLUMES: "true"}, {}, ""),
        ({}, {"local": ("pvc-1 (shop/data)",)}, ""),
    ],
)
def test_a_class_is_not_deleted_while_volumes_hold_it(
    annotations: dict[str, str], volumes: dict[str, tuple[str, ...]], refused: str
) -> None:
    item = {**thing("StorageClass", "local"), "apiVersion": "storage.k8s.io/v1"}
    item["metadata"] = {"name": "local", "annotations": annotations}
    (held,) = parse_set(name="s", objects=[item]).objects
    ref = ref_of(held)
    seen = SetSeen(live={ref.key: held}, inventory=Inventory((ref,), "x"), volumes=volumes)
    want = parse_set(name="s", objects=[], absent=True)
    if not refused:
        assert [change.name for change in plan_manifests(want, seen)] == ["delete StorageClass local"]
        return
    with pytest.raises(SlipwayError) as caught:
        plan_manifests(want, seen)
    assert refused in str(caught.value)
    assert "Retain" in str(caught.value)
