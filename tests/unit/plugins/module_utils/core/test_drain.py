# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose cordon it is, which pods have to go, and what is said when they do not."""

from __future__ import annotations

import copy
import dataclasses
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.drain import (
    CORDONED_BY,
    OUT_OF_SERVICE,
    OUT_OF_SERVICE_TAINT,
    Attachment,
    DrainSeen,
    DrainWant,
    Pod,
    Step,
    blocked,
    detaching,
    eviction_of,
    leaving,
    left_closed,
    patch_of,
    plan_drain,
    refusal,
    summarize_attachments,
    summarize_node,
    summarize_pod,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError

Api = dict[str, t.Any]
OTHER_TAINT = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}


def node(name: str = "w1", *, closed: bool = False, by: str | None = None, taints: t.Sequence[Api] = ()) -> Api:
    item: Api = {"metadata": {"name": name}, "spec": {}}
    if by is not None:
        item["metadata"]["annotations"] = {CORDONED_BY: by}
    if closed:
        item["spec"]["unschedulable"] = True
    if taints:
        item["spec"]["taints"] = list(taints)
    return item


def pod(name: str = "p", **parts: t.Any) -> Api:
    """A pod of a ReplicaSet on w1 as the API shows it."""
    owner = parts.pop("owner", "ReplicaSet")
    return {
        "metadata": {
            "namespace": "n",
            "name": name,
            "uid": f"uid-{name}",
            "ownerReferences": [{"kind": "X"}, {"kind": owner, "controller": True}] if owner else [],
            **parts.pop("metadata", {}),
        },
        "spec": {"nodeName": parts.pop("node", "w1"), "volumes": parts.pop("volumes", [{"name": "a", "secret": {}}])},
        "status": {"phase": parts.pop("phase", "Running")},
    }


def seen(nodes: t.Sequence[Api], pods: t.Sequence[Api] = ()) -> DrainSeen:
    summarized = {each.name: each for each in map(summarize_node, nodes)}
    return DrainSeen(known=True, nodes=summarized, pods=tuple(map(summarize_pod, pods)))


def names(want: DrainWant, at: DrainSeen) -> list[str]:
    return [change.name for change in plan_drain(want, at)]


EMPTY_DIR = [{"name": "a", "emptyDir": {}}]


@pytest.mark.parametrize(
    ("item", "goes"),
    [
        (pod(), True),
        (pod(owner="StatefulSet"), True),
        (pod(owner=""), True),
        (pod(owner="DaemonSet"), False),
        (pod(owner="DaemonSet", phase="Failed"), True),
        (pod(owner="Node", metadata={"annotations": {"kubernetes.io/config.mirror": "x"}}), False),
        (pod(phase="Succeeded"), True),
        (pod(metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}), True),
    ],
)
def test_who_has_to_go(item: Api, goes: bool) -> None:
    assert bool(leaving([summarize_pod(item)])) == goes


@pytest.mark.parametrize(
    ("want", "item", "pods", "steps"),
    [
        ({}, node(), [], ["cordon node w1"]),
        ({}, node(), [pod()], ["cordon node w1", "evict pods from w1"]),
        ({}, node(closed=True, by="drain"), [pod()], ["evict pods from w1"]),
        ({}, node(closed=True), [], []),
        ({}, node(closed=True), [pod(owner="DaemonSet")], []),
        ({"state": "active"}, node(), [], []),
        ({"state": "active"}, node(closed=True), [], []),
        ({"state": "active"}, node(closed=True, by="drain"), [], ["uncordon node w1"]),
        ({"state": "active"}, node(by="drain"), [], ["uncordon node w1"]),
        ({"state": "active"}, node(closed=True, by="remove"), [], []),
        ({"state": "absent"}, node(closed=True), [pod()], ["delete node w1"]),
        (
            {"dead": True},
            node(),
            [pod(owner="", volumes=EMPTY_DIR)],
            ["cordon node w1", "release the pods of dead node w1"],
        ),
        ({"dead": True}, node(closed=True, taints=[OUT_OF_SERVICE_TAINT]), [pod(owner="DaemonSet")], []),
        (
            {"dead": True},
            node(closed=True, taints=[OUT_OF_SERVICE_TAINT]),
            [pod()],
            ["release the pods of dead node w1"],
        ),
    ],
)
def test_steps(want: Api, item: Api, pods: list[Api], steps: list[str]) -> None:
    assert names(DrainWant(("w1",), **want), seen([item], pods)) == steps


EPHEMERAL: list[Api] = [{"name": "x", "ephemeral": {}}]


def attachment(name: str, volume: str | None, node: str = "w1") -> Api:
    source: Api = {"persistentVolumeName": volume} if volume else {"inlineVolumeSpec": {}}
    spec = {"attacher": "csi.test", "nodeName": node, "source": source}
    return {"kind": "VolumeAttachment", "metadata": {"name": name}, "spec": spec}


def volume(name: str, claim: str | None) -> Api:
    spec = {"claimRef": {"namespace": "n", "name": claim, "uid": "x"}} if claim else {}
    return {"kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}


def claiming(claim: str) -> list[Api]:
    return [*EMPTY_DIR, {"name": "b", "persistentVolumeClaim": {"claimName": claim}}]


def test_attachments_know_their_claims() -> None:
    items = [
        attachment("1", "v1"),
        attachment("2", "v2", "w2"),
        attachment("3", None),
        volume("v1", "c"),
        volume("v2", None),
    ]
    assert summarize_attachments(items) == (
        Attachment("1", "w1", "csi.test", "v1", "n/c"),
        Attachment("2", "w2", "csi.test", "v2"),
        Attachment("3", "w1", "csi.test", "an inline volume"),
    )


@pytest.mark.parametrize(
    ("pods", "goes"),
    [
        ([], True),
        ([pod(volumes=claiming("c"))], True),
        ([pod(owner="DaemonSet", volumes=claiming("c"))], False),
        ([pod(owner="DaemonSet", volumes=claiming("other"))], True),
        ([pod(owner="DaemonSet", volumes=claiming("c"), node="w2")], True),
        ([pod("c-pod", owner="DaemonSet", volumes=EPHEMERAL)], True),
        ([pod("c", owner="DaemonSet", volumes=EPHEMERAL)], False),
    ],
)
def test_a_volume_stays_with_the_pod_that_stays(pods: list[Api], goes: bool) -> None:
    claim = "c-x" if pods and pods[0]["spec"]["volumes"] == EPHEMERAL else "c"
    attached = summarize_attachments([attachment("1", "v1"), volume("v1", claim)])
    at = dataclasses.replace(seen([node(closed=True)], pods), attached=attached)
    assert bool(detaching(at)) == goes
    last = [change.text() for change in plan_drain(DrainWant(("w1",), detached=True, delete_emptydir_data=True), at)][
        -1:
    ]
    assert (last == ["wait until volumes are detached from w1: v1 (csi.test)"]) == goes


def test_several_nodes_are_emptied_at_once_and_all_pods_named() -> None:
    pods = [pod("b"), pod("a"), pod("c", node="w2"), pod("d", owner="DaemonSet", node="w3")]
    at = seen([node("w1"), node("w2"), node("w3")], pods)
    changes = plan_drain(DrainWant(("w1", "w2", "w3")), at)
    assert [change.name for change in changes] == [
        "cordon node w1",
        "cordon node w2",
        "cordon node w3",
        "evict pods from w1, w2",
    ]
    assert changes[-1].text() == "evict pods from w1: n/a, n/b; w2: n/c"
    assert changes[-1].data == Step("evict", ("w1", "w2"))


@pytest.mark.parametrize(
    ("item", "allowed", "said"),
    [
        (pod(owner=""), {"force": True}, "no controller"),
        (pod(volumes=EMPTY_DIR), {"delete_emptydir_data": True}, "emptyDir"),
        (pod(owner="", phase="Failed"), {}, ""),
        (pod(volumes=EMPTY_DIR, phase="Succeeded"), {}, ""),
        (pod(owner="", metadata={"deletionTimestamp": "x"}), {}, ""),
        (pod(owner="DaemonSet", volumes=EMPTY_DIR), {}, ""),
        (pod(owner="", node="w2"), {}, ""),
    ],
)
def test_what_would_be_lost_is_refused_unless_allowed(item: Api, allowed: Api, said: str) -> None:
    at = seen([node(), node("w2")], [item])
    if said:
        with pytest.raises(SlipwayError, match=said) as caught:
            plan_drain(DrainWant(("w1",)), at)
        assert caught.value.problems[0].where == "pod n/p"
    assert plan_drain(DrainWant(("w1",), **allowed), at)


def test_all_problems_are_named_at_once() -> None:
    at = seen([node()], [pod("a", owner=""), pod("b", owner="", volumes=EMPTY_DIR)])
    with pytest.raises(SlipwayError) as caught:
        plan_drain(DrainWant(("w1", "w8", "w9")), at)
    assert [problem.where for problem in caught.value.problems] == [
        "node w8",
        "node w9",
        "pod n/a",
        "pod n/b",
        "pod n/b",
    ]


def test_a_missing_node_may_be_passed_over() -> None:
    assert names(DrainWant(("w9",), missing_ok=True), seen([])) == []
    assert names(DrainWant(("w9",), state="absent"), seen([])) == []
    with pytest.raises(SlipwayError, match="there is no such Node; expected one of none"):
        names(DrainWant(("w9",)), seen([]))


def test_without_an_api_nothing_can_be_said() -> None:
    with pytest.raises(SlipwayError, match="no API server answers"):
        names(DrainWant(("w1",)), DrainSeen())


@pytest.mark.parametrize(
    ("item", "state", "sentences"),
    [
        (node(), "active", []),
        (node(closed=True, by="drain"), "drained", []),
        (node(closed=True), "absent", []),
        (node(closed=True), "drained", ["node w1 was cordoned by somebody else and stays cordoned"]),
        (node(closed=True, by="remove"), "active", ["node w1 was cordoned by Slipway to remove and stays cordoned"]),
    ],
)
def test_what_stays_closed_is_said(item: Api, state: str, sentences: list[str]) -> None:
    assert left_closed(DrainWant(("w1", "w9"), state=state), seen([item])) == sentences


def patched(item: Api, operations: list[Api]) -> Api:
    """The operations of RFC 6902 that are used here; a failed test raises AssertionError."""
    done = copy.deepcopy(item)
    for operation in operations:
        *parents, last = [part.replace("~1", "/") for part in operation["path"].split("/")[1:]]
        place = done
        for part in parents:
            place = place[part]
        if operation["op"] == "test":
            assert place.get(last) == operation["value"]
        elif operation["op"] == "remove":
            del place[last]
        else:
            place[last] = operation["value"]
    return done


def carried_out(want: DrainWant, item: Api) -> Api:
    for change in plan_drain(want, seen([item])):
        item = patched(item, patch_of(change.data, summarize_node(item), want.reason))
    return item


_NODES = st.builds(
    node,
    st.just("w1"),
    closed=st.booleans(),
    by=st.sampled_from([None, "drain", "remove"]),
    taints=st.sampled_from([(), (OTHER_TAINT,)]),
)


@given(_NODES, st.booleans())
def test_closing_and_opening_leaves_what_others_did(item: Api, dead: bool) -> None:
    closed = carried_out(DrainWant(("w1",), dead=dead), item)
    assert closed["spec"]["unschedulable"]
    assert plan_drain(DrainWant(("w1",), dead=dead), seen([closed])) == []
    opened = carried_out(DrainWant(("w1",), state="active"), closed)
    assert plan_drain(DrainWant(("w1",), state="active"), seen([opened])) == []
    before, after = summarize_node(item), summarize_node(opened)
    ours = not before.unschedulable or before.cordoned_by == "drain"
    assert after.unschedulable == (before.unschedulable and not ours)
    if ours:
        assert after.cordoned_by is None
        assert after.taints == before.taints


def test_patches_of_what_is_done_are_empty() -> None:
    done = summarize_node(node(closed=True, taints=[OUT_OF_SERVICE_TAINT]))
    for kind in ("cordon", "uncordon", "release"):
        assert patch_of(Step(kind, ("w1",)), done, "drain") == []


def test_a_taint_that_changed_meanwhile_fails_the_patch() -> None:
    patch = patch_of(Step("release", ("w1",)), summarize_node(node()), "drain")
    with pytest.raises(AssertionError):
        patched(node(taints=[OTHER_TAINT]), patch)
    released = patched(node(), patch)
    assert released["spec"]["taints"][0]["key"] == OUT_OF_SERVICE


BUDGET = {
    "message": "Cannot evict pod as it would violate the pod's disruption budget.",
    "details": {"causes": [{"message": "The disruption budget web needs 2 healthy pods and has 2 currently"}]},
}


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (201, "{}", ""),
        (404, "gone", ""),
        (409, "another pod", ""),
        (429, json.dumps(BUDGET), "The disruption budget web needs 2 healthy pods and has 2 currently"),
        (500, json.dumps({"message": "more than one"}), "more than one"),
        (503, "starting\n", "starting"),
        (503, "[]", "[]"),
        (0, "", "status 0"),
    ],
)
def test_refusals_are_told_in_the_words_of_the_api(status: int, body: str, text: str) -> None:
    assert refusal(status, body) == text


def test_what_is_left_is_named_with_what_holds_it() -> None:
    held, ending, slow = Pod("n", "a", "1", "w1"), Pod("n", "b", "2", "w1", terminating=True), Pod("n", "c", "3", "w1")
    problems = blocked([held, ending, slow], {"1": refusal(429, json.dumps(BUDGET)), "2": "", "3": ""}, 30)
    texts = [problem.text() for problem in problems]
    assert texts[0].startswith("pod n/a: is still on node w1 after 30 s: The disruption budget web needs 2")
    assert "more replicas" in texts[0]
    assert "being ended by its kubelet" in texts[1]
    assert "was accepted" in texts[2]


def test_an_eviction_means_this_very_pod() -> None:
    eviction = eviction_of(Pod("n", "a", "u", "w1"))
    assert eviction["metadata"] == {"namespace": "n", "name": "a"}
    assert eviction["deleteOptions"] == {"preconditions": {"uid": "u"}}
