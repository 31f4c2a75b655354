# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labels and taints: the plan for every state a Node can be in, and that carrying it out leaves nothing to plan."""

from __future__ import annotations

import copy
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.drain import CORDONED_BY
from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import (
    EFFECTS,
    MANAGED_LABELS,
    MANAGED_TAINTS,
    NodesSeen,
    NodeWant,
    Taint,
    parse_nodes,
    patch_of,
    plan_nodes,
    summarize_nodes,
    unready,
    unready_problems,
    unsaid,
    unserved,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError

ROLE = "node-role.kubernetes.io/control-plane"
Api = dict[str, t.Any]


def node(name: str = "n", **parts: t.Any) -> Api:
    """A Node as the API shows it, Ready unless told otherwise."""
    condition = {"type": "Ready", "status": parts.pop("ready", "True"), "reason": "R", "message": "m"}
    return {
        "metadata": {
            "name": name,
            "labels": parts.pop("labels", {"kubernetes.io/hostname": name}),
            "annotations": parts.pop("annotations", {"a": "b"}),
        },
        "spec": parts.pop("spec", {}),
        "status": {
            "conditions": [condition],
            "nodeInfo": {"kubeletVersion": "v1.37.0"},
            "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Hostname", "address": name}],
        },
    }


def seen(*nodes: Api) -> NodesSeen:
    return summarize_nodes({"items": list(nodes)})


def patched(item: Api, operations: list[Api]) -> Api:
    """The operations of RFC 6902 that patches here use; a failed test raises AssertionError."""
    done = copy.deepcopy(item)
    for operation in operations:
        *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
        place = done
        for part in parents:
            place = place[part]
        if operation["op"] == "test":
            assert place.get(last) == operation["value"]
        elif operation["op"] == "remove":
            del place[last]
        else:
            place[last] = operation["value"]
    # The API never shows an empty map or list.
    for part in ("metadata", "spec"):
        done[part] = {key: value for key, value in done[part].items() if value not in ({}, [])}
    return done


def carried_out(wants: t.Sequence[NodeWant], items: dict[str, Api]) -> dict[str, Api]:
    done = dict(items)
    for change in plan_nodes(wants, seen(*items.values())):
        name = change.data.want.name
        current = seen(*done.values()).nodes[name]
        done[name] = patched(done[name], patch_of(change.data, current))
    return done


CASES: list[tuple[str, NodeWant, Api, list[str]]] = [
    ("nothing wanted, nothing there", NodeWant("n"), node(), []),
    ("a label is missing", NodeWant("n", {ROLE: ""}), node(), ["label node n"]),
    (
        "a label is there, but not recorded as ours: a bare host could not know that it will be",
        NodeWant("n", {"x": "y"}),
        node(labels={"x": "y"}),
        ["label node n"],
    ),
    (
        "a label is ours",
        NodeWant("n", {"x": "y"}),
        node(labels={"x": "y"}, annotations={MANAGED_LABELS: '["x"]'}),
        [],
    ),
    (
        "a label is ours and was changed",
        NodeWant("n", {"x": "y"}),
        node(labels={"x": "z"}, annotations={MANAGED_LABELS: '["x"]'}),
        ["label node n"],
    ),
    (
        "a label of ours is no longer wanted",
        NodeWant("n"),
        node(labels={"x": "y"}, annotations={MANAGED_LABELS: '["x"]'}),
        ["label node n"],
    ),
    ("a label that another made is left alone", NodeWant("n"), node(labels={"mine": "1"}), []),
    (
        "an annotation that a person broke",
        NodeWant("n", {"x": "y"}),
        node(annotations={MANAGED_LABELS: "{"}),
        ["label node n"],
    ),
    ("a taint is missing", NodeWant("n", taints=(Taint(ROLE, "NoSchedule"),)), node(), ["taint node n"]),
    (
        "the kubelet registered with the taint",
        NodeWant("n", taints=(Taint(ROLE, "NoSchedule"),)),
        node(spec={"taints": [{"key": ROLE, "effect": "NoSchedule"}]}),
        ["taint node n"],
    ),
    (
        "a taint is ours, and Kubernetes adds its own",
        NodeWant("n", taints=(Taint(ROLE, "NoSchedule"),)),
        node(
            spec={
                "taints": [
                    {"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"},
                    {"key": ROLE, "effect": "NoSchedule"},
                ]
            },
            annotations={MANAGED_TAINTS: json.dumps([f"{ROLE}:NoSchedule"])},
        ),
        [],
    ),
    ("close it", NodeWant("n", unschedulable=True), node(), ["cordon node n"]),
    ("open it", NodeWant("n", unschedulable=False), node(spec={"unschedulable": True}), ["uncordon node n"]),
    ("leave it closed", NodeWant("n"), node(spec={"unschedulable": True}), []),
    (
        "all at once",
        NodeWant("n", {"x": "y"}, (Taint("k", "NoExecute", "v"),), unschedulable=True),
        node(),
        ["label node n", "taint node n", "cordon node n"],
    ),
]


@pytest.mark.parametrize(("want", "item", "names"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_plan(want: NodeWant, item: Api, names: list[str]) -> None:
    assert [change.name for change in plan_nodes([want], seen(item))] == names
    assert plan_nodes([want], seen(*carried_out([want], {"n": item}).values())) == []


def test_the_same_names_on_a_bare_cluster() -> None:
    want = NodeWant("n", {"x": "y"}, (Taint("k", "NoSchedule"),))
    registered = node(spec={"taints": [{"key": "k", "effect": "NoSchedule"}]}, labels={"x": "y"})
    bare = [(change.name, change.text()) for change in plan_nodes([want], NodesSeen())]
    assert bare == [(change.name, change.text()) for change in plan_nodes([want], seen(registered))]
    assert bare == [("label node n", "label node n: x=y"), ("taint node n", "taint node n: k:NoSchedule")]


def test_others_keep_their_labels_and_taints_with_all_they_carry() -> None:
    added = {"key": "gpu", "value": "broken", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
    item = node(
        labels={"mine": "1", "old": "x"},
        spec={"taints": [added, {"key": "old", "effect": "NoSchedule"}]},
        annotations={MANAGED_LABELS: '["old"]', MANAGED_TAINTS: '["old:NoSchedule"]'},
    )
    after = carried_out([NodeWant("n", {"new": ""}, (Taint("new", "NoSchedule"),))], {"n": item})["n"]
    assert after["metadata"]["labels"] == {"mine": "1", "new": ""}
    assert after["spec"]["taints"] == [added, {"key": "new", "effect": "NoSchedule"}]


def test_a_taint_that_changed_meanwhile_fails_the_patch() -> None:
    want = NodeWant("n", taints=(Taint("k", "NoSchedule"),))
    (change,) = plan_nodes([want], seen(node()))
    stale = patch_of(change.data, seen(node()).nodes["n"])
    with pytest.raises(AssertionError):
        patched(node(spec={"taints": [{"key": "x", "effect": "NoExecute"}]}), stale)


def test_a_node_without_labels_and_annotations_can_be_patched() -> None:
    item = node(labels={}, annotations={})
    del item["metadata"]["labels"], item["metadata"]["annotations"]
    after = carried_out([NodeWant("n", {"x": "y"}, (Taint("k", "NoSchedule"),))], {"n": item})["n"]
    assert after["metadata"]["labels"] == {"x": "y"}
    assert set(after["metadata"]["annotations"]) == {MANAGED_LABELS, MANAGED_TAINTS}


_KEYS = st.sampled_from(["a", "b/c", "d~e", ROLE])
_VALUES = st.sampled_from(["", "1", "x"])
_TAINTS = st.lists(
    st.builds(Taint, _KEYS, st.sampled_from(EFFECTS), _VALUES), max_size=3, unique_by=lambda taint: taint.identity
).map(tuple)
_WANTS = st.builds(
    NodeWant, st.just("n"), st.dictionaries(_KEYS, _VALUES, max_size=3), _TAINTS, st.sampled_from([None, True, False])
)


@given(_WANTS, _WANTS, st.dictionaries(st.sampled_from(["theirs", "a"]), _VALUES), _TAINTS)
def test_any_want_after_any_other_is_reached_and_stays(
    first: NodeWant, second: NodeWant, labels: dict[str, str], taints: tuple[Taint, ...]
) -> None:
    item = node(labels=labels, spec={"taints": [taint.to_data() for taint in taints]})
    items = carried_out([first], {"n": patched(item, [])})
    assert plan_nodes([first], seen(*items.values())) == []
    items = carried_out([second], items)
    assert plan_nodes([second], seen(*items.values())) == []
    foreign = {key: value for key, value in labels.items() if key not in {**first.labels, **second.labels}}
    assert items["n"]["metadata"].get("labels", {}) == {**foreign, **second.labels}


@pytest.mark.parametrize(
    ("closed", "by", "sentences"),
    [
        (False, "maintain", ["forget that Slipway cordoned node n"]),
        (True, "maintain", []),
        (False, None, []),
    ],
)
def test_a_cordon_of_ours_that_somebody_lifted_is_forgotten(closed: bool, by: str | None, sentences: list[str]) -> None:
    annotations = {CORDONED_BY: by} if by else {}
    item = node("n", spec={"unschedulable": closed}, annotations=annotations)
    want = NodeWant("n")
    assert [change.name for change in plan_nodes([want], seen(item))] == sentences
    after = carried_out([want], {"n": item})
    assert plan_nodes([want], seen(*after.values())) == []
    assert (CORDONED_BY in after["n"]["metadata"].get("annotations", {})) is closed


def test_a_summary_survives_json() -> None:
    taints = [{"key": "k", "effect": "NoExecute", "timeAdded": "t"}]
    summary = seen(node("a", spec={"taints": taints}, annotations={CORDONED_BY: "maintain"}), node("b"))
    data = json.loads(json.dumps(summary.to_data()))
    again = NodesSeen.from_data(data)
    assert again == summary
    assert again.nodes["a"].taints[0].to_data() == {"key": "k", "effect": "NoExecute", "timeAdded": "t"}
    assert again.nodes["a"].addresses == ("10.0.0.1",)
    assert [again.nodes[name].cordoned_by for name in ("a", "b")] == ["maintain", None]
    assert NodesSeen.from_data({}) == summarize_nodes(None) == NodesSeen()


@pytest.mark.parametrize(
    ("metadata", "started"),
    [
        ({}, (False, False)),
        ({"labels": {"kubernetes.io/hostname": "a"}}, (True, False)),
        ({"annotations": {"flannel.alpha.coreos.com/kube-subnet-manager": "true"}}, (False, True)),
    ],
)
def test_what_was_started_since_a_node_was_made(metadata: dict[str, t.Any], started: tuple[bool, bool]) -> None:
    seen = summarize_nodes({"items": [{"metadata": {"name": "a", **metadata}}]})
    again = NodesSeen.from_data(json.loads(json.dumps(seen.to_data()))).nodes["a"]
    assert (again.registered, again.routed) == started


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (node(), None),
        (node(ready="False"), "Ready=False R: m"),
        (node(ready="Unknown"), "Ready=Unknown R: m"),
        (
            node(spec={"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]}),
            "still tainted node.kubernetes.io/not-ready",
        ),
        (node(spec={"taints": [{"key": ROLE, "effect": "NoSchedule"}], "unschedulable": True}), None),
        ({"metadata": {"name": "n"}}, "has no Ready condition yet"),
    ],
)
def test_readiness(item: Api, reason: str | None) -> None:
    assert unready(["n"], seen(item)) == ({"n": reason} if reason else {})


def test_what_a_ready_node_is_short_of() -> None:
    item = node()
    item["status"]["conditions"] += [
        {"type": "DiskPressure", "status": "True", "message": "kubelet has disk pressure"},
        {"type": "MemoryPressure", "status": "False", "message": "kubelet has sufficient memory"},
        {"type": "NetworkUnavailable", "status": "True", "message": "nobody asks"},
    ]
    assert seen(item).nodes["n"].pressure == "DiskPressure: kubelet has disk pressure"
    assert seen(node()).nodes["n"].pressure == ""


def test_absent_nodes_are_not_ready() -> None:
    assert unready(["n"], seen()) == {"n": "has not registered with the API server"}
    reasons = unready(["n"], NodesSeen())
    assert reasons == {"n": "the API server does not answer"}
    (problem,) = unready_problems(reasons, 30)
    assert "after 30 s" in problem.text()
    assert "journalctl -u kubelet" in problem.remedy


def test_parameters_become_what_kubernetes_wants() -> None:
    (want,) = parse_nodes(
        [{"name": "n", "labels": {"a": True, "b": None, "c": 5}, "taints": [{"key": "k", "effect": "NoSchedule"}]}]
    )
    assert want == NodeWant("n", {"a": "true", "b": "", "c": "5"}, (Taint("k", "NoSchedule"),))


def test_all_bad_parameters_are_named_at_once() -> None:
    with pytest.raises(SlipwayError) as caught:
        parse_nodes(
            [
                {"name": ""},
                {"name": "n", "labels": {"a b": "1", "/x": "1", "ok": "not ok"}},
                {"name": "n", "taints": [{"key": "k", "effect": "Never"}]},
            ]
        )
    text = str(caught.value)
    assert len(caught.value.problems) == 6
    for part in ("has no name", "label a b=1", "label /x=1", "label ok=not ok", "taint k:Never", "more than once"):
        assert part in text


SERVING = "kubernetes.io/kubelet-serving"
CLIENT = "kubernetes.io/kube-apiserver-client-kubelet"


@pytest.mark.parametrize(
    ("signer", "user", "status", "expected"),
    [
        (SERVING, "system:node:w1", {}, ["w1"]),
        (SERVING, "system:node:w1", None, ["w1"]),
        (SERVING, "system:node:w1", {"conditions": [{"type": "Approved"}]}, ["w1"]),
        (SERVING, "system:node:w1", {"conditions": [{"type": "Approved"}], "certificate": "LS0t"}, []),
        (SERVING, "system:node:w1", {"conditions": [{"type": "Denied"}]}, []),
        (SERVING, "system:node:w1", {"conditions": [{"type": "Approved"}, {"type": "Failed"}]}, []),
        (SERVING, "system:node:other", {}, []),
        (CLIENT, "system:node:w1", {}, []),
    ],
)
def test_who_waits_for_a_serving_certificate(signer: str, user: str, status: Api | None, expected: list[str]) -> None:
    item = {"spec": {"signerName": signer, "username": user}, "status": status}
    assert unserved(["cp1", "w1"], {"items": [item, item]}) == expected


def test_without_requests_nobody_waits() -> None:
    assert unserved(["w1"], {}) == []


@pytest.mark.parametrize(
    ("ready", "heartbeat", "expected"),
    [
        ("True", "2026-01-02T03:04:06Z", ""),
        # The kubelet was started at 03:04:05.7, and the API has whole seconds.
        ("True", "2026-01-02T03:04:05Z", ""),
        ("True", "2026-01-02T03:04:04Z", "not said so since it was started, the last time at 2026-01-02T03:04:04Z"),
        ("True", None, "not said so since it was started"),
        ("False", "2026-01-02T03:04:06Z", "Ready=False R: m"),
        ("Unknown", "2026-01-02T03:04:06Z", "Ready=Unknown R: m"),
    ],
)
def test_a_kubelet_has_to_say_itself_that_its_node_is_ready(ready: str, heartbeat: str | None, expected: str) -> None:
    item = node(ready=ready)
    item["status"]["conditions"][0]["lastHeartbeatTime"] = heartbeat
    said = unsaid(item, 1767323045.7)
    assert expected in said
    assert bool(said) is bool(expected)


def test_a_node_that_has_said_nothing_is_not_ready() -> None:
    assert unsaid({"metadata": {"name": "n"}}, 0.0) == "has no Ready condition yet"
