# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of objects against an API in memory: planned, applied, pruned, and cut at every call."""

from __future__ import annotations

import copy
import functools
import json
import types
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import (
    SET_LABEL,
    Key,
    KubernetesObject,
    ManifestSet,
    ObjectRef,
    parse_set,
    plan_manifests,
    ref_of,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host import manifests
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.manifests import (
    apply_step,
    observe_sets,
    settle_sets,
)


class Cut(Exception):
    """The process was killed here."""


class Api(Kubectl):
    """The part of an API that matters: objects by key, defaults of its own, and a version for each write.

    ``cut`` is how many writes it takes before the caller is killed.
    """

    def __init__(self, cut: int | None = None) -> None:
        self.held: dict[Key, KubernetesObject] = {}
        self.cut = cut
        self.calls: list[str] = []
        self.answers = True
        self.up: dict[str, str] = {}
        self.pods: list[KubernetesObject] = []

    def nodes(self) -> dict[str, t.Any]:
        return {
            "items": [
                {"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}
                for name, ready in self.up.items()
            ]
        }

    def listed(self, kinds: str, *options: str) -> dict[str, t.Any] | None:
        assert (kinds, options) == ("pods,controllerrevisions.apps", ("--namespace=n", "--selector=app=d"))
        return {"items": self.pods}

    def find(self, refs: t.Iterable[ObjectRef], *, owners: bool = False) -> dict[Key, KubernetesObject] | None:
        self.calls.append("find")
        found = {ref.key: self.held.get(ref.key) for ref in refs}
        return {key: item for key, item in found.items() if item} if self.answers else None

    def predict(self, objects: t.Sequence[KubernetesObject]) -> dict[Key, KubernetesObject]:
        if objects:
            self.calls.append("predict")
        return {ref_of(item).key: self._merged(item) for item in objects}

    def apply(self, objects: t.Sequence[KubernetesObject]) -> None:
        self.calls.append("apply")
        for item in objects:
            self._count()
            self.held[ref_of(item).key] = self._merged(item)

    def delete(self, refs: t.Sequence[ObjectRef], *, timeout: float = 60) -> None:
        for ref in refs:
            self._count()
            self.held.pop(ref.key, None)

    def wait_established(self, objects: t.Sequence[KubernetesObject], *, timeout: float = 30) -> None:
        pass

    def _merged(self, item: KubernetesObject) -> KubernetesObject:
        merged = copy.deepcopy(item)
        before = self.held.get(ref_of(item).key, {"metadata": {}})
        merged["metadata"]["resourceVersion"] = str(len(self.calls))
        merged["metadata"]["uid"] = before["metadata"].get("uid", "made")
        merged["status"] = {"by": "a controller"}
        merged["defaulted"] = True
        # Every field of an object is one value here.
        ours: dict[str, t.Any] = {"f:metadata": {}, **{f"f:{name}": {} for name in item}}
        entry = {"manager": "slipway", "operation": "Apply", "apiVersion": item["apiVersion"], "fieldsV1": ours}
        merged["metadata"]["managedFields"] = [entry]
        if "theirs" in before:
            merged["theirs"] = before["theirs"]
        return merged

    def _count(self) -> None:
        if self.cut is not None:
            if self.cut == 0:
                raise Cut
            self.cut -= 1

    def names(self, owner: str = "s") -> set[str]:
        """The objects that belong to the set, without its inventory."""
        return {
            item["metadata"]["name"]
            for item in self.held.values()
            if item["metadata"]["labels"].get(SET_LABEL) == owner
        }

    def remembered(self) -> set[str] | None:
        """What the inventory lists."""
        item = self.held.get(("", "ConfigMap", "kube-system", "slipway-manifests-s"))
        return {ref["name"] for ref in json.loads(item["data"]["objects"])} if item else None


def thing(name: str, kind: str = "ConfigMap", **fields: t.Any) -> KubernetesObject:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "n"}, **fields}


def wanted(*objects: KubernetesObject, **options: t.Any) -> ManifestSet:
    return parse_set(name="s", objects=objects, **options)


def run(api: Api, want: ManifestSet) -> list[str]:
    """What the engine does: observe, plan, apply; the names of the changes."""
    changes = plan_manifests(want, *observe_sets(api, [want]))
    for change in changes:
        apply_step(api, want, change)
    return [change.name for change in changes]


def test_a_set_is_made_changed_pruned_and_removed() -> None:
    api = Api()
    first = wanted(thing("d", "Deployment"), thing("a"), {**thing("n", "Namespace"), "metadata": {"name": "n"}})
    assert run(api, first) == ["create Namespace n", "create ConfigMap n/a", "create Deployment n/d"]
    assert run(api, first) == []
    second = wanted(thing("a", data={"x": "y"}), thing("b"))
    assert run(api, second) == [
        "update ConfigMap n/a",
        "create ConfigMap n/b",
        "delete Deployment n/d",
        "delete Namespace n",
    ]
    assert run(api, second) == []
    assert (api.names(), api.remembered()) == ({"a", "b"}, {"a", "b"})
    assert run(api, wanted(absent=True)) == ["delete ConfigMap n/b, ConfigMap n/a"]
    assert (api.held, run(api, wanted(absent=True))) == ({}, [])


def test_what_others_own_is_no_difference() -> None:
    api = Api()
    want = wanted(thing("a"))
    run(api, want)
    api.held["", "ConfigMap", "n", "a"]["theirs"] = "5"
    assert run(api, want) == []


def test_drift_is_mended() -> None:
    api = Api()
    want = wanted(thing("a", data={"x": "y"}), thing("b"))
    run(api, want)
    api.held["", "ConfigMap", "n", "a"]["data"] = {"x": "z"}
    del api.held["", "ConfigMap", "n", "b"]
    assert run(api, want) == ["update ConfigMap n/a", "create ConfigMap n/b"]
    assert api.held["", "ConfigMap", "n", "a"]["data"] == {"x": "y"}


def test_what_somebody_added_to_a_value_of_ours_is_drift_and_asked_about() -> None:
    api = Api()
    want = wanted(thing("s", "Service", spec={"selector": {"app": "d"}}), thing("a"))
    run(api, want)
    live = api.held["", "Service", "n", "s"]
    live["spec"]["selector"]["typo"] = "x"
    del live["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
    assert run(api, want) == ["update Service n/s"]
    assert api.held["", "Service", "n", "s"]["spec"] == {"selector": {"app": "d"}}
    api.calls.clear()
    assert (run(api, want), api.calls) == ([], ["find"])


def test_only_what_carries_our_label_is_pruned() -> None:
    api = Api()
    run(api, wanted(thing("a"), thing("b")))
    api.held["", "ConfigMap", "n", "b"] = thing(
        "b", metadata={"name": "b", "namespace": "n", "labels": {SET_LABEL: "other"}}
    )
    assert run(api, wanted(thing("a"))) == ["record what belongs to manifests s"]
    assert ("", "ConfigMap", "n", "b") in api.held
    assert api.remembered() == {"a"}


DEFINITION = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {}}


def definition(name: str, **labels: str) -> KubernetesObject:
    return {**DEFINITION, "metadata": {"name": name, "labels": labels}}


def test_definitions_of_somebody_else_outlive_the_set_until_they_are_handed_over() -> None:
    api = Api()
    theirs = definition("theirs")
    key = ref_of(theirs).key
    api.held[key] = copy.deepcopy(theirs)
    want = wanted(definition("theirs"), definition("ours"))
    assert run(api, want) == ["create CustomResourceDefinition ours"]
    api.calls.clear()
    assert run(api, want) == []
    assert api.calls == ["find"], "a megabyte is not compared for nothing"
    assert api.held[key] == theirs
    assert run(api, wanted(absent=True)) == ["delete CustomResourceDefinition ours and every object of these kinds"]
    assert api.held == {key: theirs}
    api.held[key]["metadata"]["labels"] = {SET_LABEL: "s"}
    assert run(api, want) == ["update CustomResourceDefinition theirs", "create CustomResourceDefinition ours"]
    run(api, wanted(absent=True))
    assert api.held == {}


def test_without_prune_the_rest_stays_and_is_remembered() -> None:
    api = Api()
    run(api, wanted(thing("a"), thing("b")))
    assert run(api, wanted(thing("a"), prune=False)) == ["record what belongs to manifests s"]
    assert (api.names(), api.remembered()) == ({"a", "b"}, {"a", "b"})
    assert run(api, wanted(thing("a"))) == ["delete ConfigMap n/b"]


def test_a_lost_inventory_is_written_again() -> None:
    api = Api()
    want = wanted(thing("a"))
    run(api, want)
    del api.held["", "ConfigMap", "kube-system", "slipway-manifests-s"]
    assert run(api, want) == ["record what belongs to manifests s"]
    assert run(api, want) == []


def test_where_no_api_answers_everything_is_announced_as_it_will_be_done() -> None:
    want = wanted(thing("a"), thing("b"), thing("d", "DaemonSet"))
    silent, fresh = Api(), Api()
    silent.answers = False
    announced = [change.name for change in plan_manifests(want, *observe_sets(silent, [want]))]
    assert announced == run(fresh, want) == ["create ConfigMap n/a, ConfigMap n/b", "create DaemonSet n/d"]


def test_few_calls() -> None:
    api = Api()
    want = wanted(*(thing(f"c{number}") for number in range(20)), thing("d", "Deployment"))
    run(api, want)
    assert api.calls.count("apply") <= 3
    api.calls.clear()
    run(api, want)
    assert api.calls == ["find"]
    api.calls.clear()
    api.held["", "ConfigMap", "n", "c7"]["data"] = {"somebody": "else"}
    run(api, wanted(*(thing(f"c{number}", data={}) for number in range(20))))
    assert api.calls[:2] == ["find", "find"], "what left the set is looked for"
    assert api.calls.count("predict") == 1


_SETS = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    st.tuples(st.sampled_from(["ConfigMap", "Deployment", "Namespace"]), st.sampled_from(["1", "2"])),
).map(lambda names: wanted(*(thing(name, kind, data=data) for name, (kind, data) in names.items())))


@given(_SETS, _SETS, st.integers(0, 12))
def test_a_run_that_is_cut_anywhere_is_finished_by_the_next(before: ManifestSet, after: ManifestSet, cut: int) -> None:
    api = Api()
    run(api, before)
    api.cut = cut
    try:
        run(api, after)
    except Cut:
        # What lives and is ours was recorded before it was made.
        assert api.names() <= (api.remembered() or set())
    api.cut = None
    run(api, after)
    assert run(api, after) == []
    names = {item["metadata"]["name"] for item in after.objects}
    assert api.names() == names
    assert (api.remembered() or set()) == names


class Patience:
    """A machine whose waiting is one question."""

    def wait(self, what: str, predicate: t.Callable[[], str | None], **_options: t.Any) -> None:
        seen = predicate()
        if seen is not None:
            raise TimeoutError(f"{what}: {seen}")


@pytest.mark.parametrize(
    ("status", "lack"),
    [
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, ""),
        ({}, "its controller has not seen the last change yet"),
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, "has not seen"),
        (
            {"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 2},
            "2 updated and 2 available",
        ),
        (
            {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 1, "availableReplicas": 2},
            "1 updated and 2 available",
        ),
    ],
)
def test_settling(status: dict[str, int], lack: str) -> None:
    api = Api()
    want = wanted(thing("d", "Deployment", spec={"replicas": 2}))
    run(api, want)
    live = api.held["", "Deployment", "n", "d"]
    live["metadata"]["generation"] = 2
    live["status"] = status
    machine: t.Any = Patience()
    if not lack:
        settle_sets(machine, api, [want], timeout=1)
        return
    with pytest.raises(TimeoutError, match=lack):
        settle_sets(machine, api, [want], timeout=1)


class Looks(Patience):
    """One look after the other, each with what is so then, a few seconds apart."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *looks: t.Callable[[], object]) -> None:
        self._looks = looks
        self._seconds = 0.0
        monkeypatch.setattr(manifests, "time", types.SimpleNamespace(monotonic=lambda: self._seconds), raising=False)

    def wait(self, what: str, predicate: t.Callable[[], str | None], **_options: t.Any) -> None:
        seen: str | None = "never looked"
        for look in self._looks:
            look()
            seen = predicate()
            if seen is None:
                return
            self._seconds += 3
        raise TimeoutError(seen)


@pytest.mark.parametrize(
    ("ready", "silent", "waits"),
    [
        (["True", "True", "True"], [], True),
        (["Unknown", "Unknown", "Unknown"], [], False),
        (["Unknown", "Unknown"], [], True),
        (["Unknown", "True", "Unknown", "Unknown"], [], True),
        (["True", "Unknown", "Unknown", "Unknown"], [], False),
        (["Unknown", "Unknown", "Unknown"], [2], True),
    ],
    ids=["up", "down", "down for a moment", "down again", "goes down", "nobody says it"],
)
def test_pods_of_a_node_that_stays_down_are_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, ready: list[str], silent: list[int], waits: bool
) -> None:
    api = Api()
    want = wanted(thing("d", "Deployment", spec={"replicas": 2, "selector": {"matchLabels": {"app": "d"}}}))
    run(api, want)
    api.held["", "Deployment", "n", "d"]["status"] = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}
    api.pods = [{"kind": "Pod", "metadata": {"name": "d-1"}, "spec": {"nodeName": "w2"}}]
    listed = api.listed

    def look(number: int) -> None:
        api.up = {"w1": "True", "w2": ready[number]}
        monkeypatch.setattr(api, "listed", (lambda *_arguments: None) if number in silent else listed)

    looks = [functools.partial(look, number) for number in range(len(ready))]
    machine = t.cast("t.Any", Looks(monkeypatch, *looks))
    if waits:
        with pytest.raises(TimeoutError, match="2 updated and 1 available"):
            settle_sets(machine, api, [want], timeout=1)
    else:
        settle_sets(machine, api, [want], timeout=1)


def test_what_is_somebody_elses_is_not_waited_for() -> None:
    release = {"annotations": {"gateway.networking.k8s.io/bundle-version": "v1.6.3"}}
    policy = {"apiVersion": "v1", "kind": "Policy", "metadata": {"name": "p", **release}}
    api, want = Api(), wanted(definition("theirs"), policy)
    api.held[ref_of(definition("theirs")).key] = definition("theirs")
    assert run(api, want) == []
    settle_sets(t.cast("t.Any", Patience()), api, [want], timeout=1)


def test_what_does_not_go_away_by_itself_is_not_asked_for_again() -> None:
    api, asked = Api(), []
    want = wanted(thing("c"), thing("d", "Deployment", spec={"replicas": 1}))
    run(api, want)
    live = api.held["", "Deployment", "n", "d"]
    find = api.find

    def noted(refs: t.Iterable[t.Any], **_options: t.Any) -> t.Any:
        listed = list(refs)
        asked.append([ref.name for ref in listed])
        return find(listed)

    api.find = noted  # type: ignore[method-assign]

    class Twice(Patience):
        def wait(self, what: str, predicate: t.Callable[[], str | None], **_options: t.Any) -> None:
            assert predicate() is not None
            live["status"] = {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 1}
            super().wait(what, predicate)

    settle_sets(t.cast("t.Any", Twice()), t.cast("t.Any", api), [want], timeout=1)
    assert asked == [["c", "d"], ["d"]]
