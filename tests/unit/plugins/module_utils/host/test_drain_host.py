# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a drain asks of the API, how often, and what it says when pods stay."""

from __future__ import annotations

import collections.abc
import contextlib
import datetime
import json
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.drain import CORDONED_BY, OUT_OF_SERVICE, DrainWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.maintenance import (
    Maintenance,
    MaintenanceWant,
    object_of,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host import drain as drains
from ansible_collections.slipway.cluster.plugins.module_utils.host.drain import Drain
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.module_utils.host.maintenance import Memory

Api = dict[str, t.Any]


def pod(name: str) -> Api:
    owner = {"kind": "ReplicaSet", "controller": True}
    metadata = {"namespace": "n", "name": name, "uid": name, "ownerReferences": [owner]}
    return {"metadata": metadata, "spec": {"nodeName": "w1"}}


class Cluster(Machine):
    """A Node w1 with pods, as kubectl and its proxy show it; ``held`` is how often each eviction is refused.

    Its volume is detached ``attached`` looks after the first; there is none if that is 0.
    """

    def __init__(self, pods: t.Sequence[str] = (), held: int = 0, ready: int = 0, attached: int = 0) -> None:
        self.pods = list(pods)
        self.held = dict.fromkeys(pods, held)
        self.ready = ready
        self.attached = attached
        self.node: Api = {"metadata": {"name": "w1"}, "spec": {}}
        self.asked: list[tuple[str, str]] = []
        self.conflicts = 0
        self.silent = 0

    def exists(self, path: str) -> bool:
        return True

    def run(self, argv: t.Sequence[str], **_: t.Any) -> Output:
        verb, kind = argv[1], argv[2]
        if (verb, kind) == ("get", "nodes"):
            self.ready -= 1
            status = {"conditions": [{"type": "Ready", "status": "True" if self.ready >= 0 else "Unknown"}]}
            return self.said({"items": [{**self.node, "status": status}]})
        if (verb, kind) == ("get", "node"):
            return self.said(self.node)
        if (verb, kind) == ("get", "pods"):
            return self.said({"items": [pod(name) for name in self.pods]})
        if (verb, kind) == ("get", "volumeattachments,persistentvolumes"):
            return self.attachments()
        if verb == "patch":
            return self.patch(json.loads(next(word for word in argv if word.startswith("--patch=")).partition("=")[2]))
        assert (verb, kind, argv[-1]) == ("delete", "node", "w1")
        self.asked.append(("DELETE", "w1"))
        return Output(0, "", "")

    def attachments(self) -> Output:
        if self.silent:
            self.silent -= 1
            return Output(1, "", "The connection to the server x was refused - did you specify the right host or port?")
        self.attached -= self.attached > 0
        spec = {"nodeName": "w1", "attacher": "csi.test", "source": {"persistentVolumeName": "data"}}
        item = {"kind": "VolumeAttachment", "metadata": {"name": "csi-1"}, "spec": spec}
        return self.said({"items": [item] if self.attached else []})

    @staticmethod
    def said(data: Api) -> Output:
        return Output(0, json.dumps(data), "")

    def patch(self, operations: list[Api]) -> Output:
        if self.conflicts:
            self.conflicts -= 1
            return Output(1, "", "the server rejected our request: test failed")
        for operation in operations:
            *parents, last = [part.replace("~1", "/") for part in operation["path"].split("/")[1:]]
            place = self.node
            for part in parents:
                place = place[part]
            if operation["op"] == "remove":
                del place[last]
            elif operation["op"] == "add":
                place[last] = operation["value"]
        return Output(0, "", "")

    def get(self, path: str, **_: t.Any) -> tuple[int, str]:
        assert path == "/api/v1/pods?fieldSelector=spec.nodeName%3Dw1"
        if self.silent:
            self.silent -= 1
            return 0, "no answer"
        return 200, json.dumps({"items": [pod(name) for name in self.pods]})

    def request(self, method: str, path: str, data: Api) -> tuple[int, str]:
        name = path.split("/")[6]
        self.asked.append((method, path.rpartition("/")[2]))
        if method == "POST" and self.held[name]:
            self.held[name] -= 1
            return 429, json.dumps({"message": "x", "details": {"causes": [{"message": "budget b"}]}})
        assert (data["deleteOptions"] if method == "POST" else data)["preconditions"] == {"uid": name}
        self.pods.remove(name)
        return 201, "{}"


def run(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, *, timeout: float = 30, **want: t.Any) -> list[str]:
    @contextlib.contextmanager
    def proxy(*_: t.Any) -> collections.abc.Iterator[Cluster]:
        yield cluster

    monkeypatch.setattr(drains, "open_proxy", proxy)
    monkeypatch.setattr(drains, "_INTERVAL_SECONDS", 0)
    drain = Drain(cluster, ("/kubectl", "/kubeconfig"), DrainWant(("w1",), **want), timeout)
    drain.observe()
    changes = drain.plan()
    for change in changes:
        drain.apply(change)
    return [change.name for change in changes]


def test_pods_are_asked_to_go_until_they_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(["a", "b"], held=2)
    assert run(monkeypatch, cluster) == ["cordon node w1", "evict pods from w1"]
    assert cluster.asked == [("POST", "eviction")] * 6
    assert cluster.node["metadata"]["annotations"] == {CORDONED_BY: "drain"}
    assert run(monkeypatch, cluster) == []
    assert run(monkeypatch, cluster, state="active") == ["uncordon node w1"]
    assert cluster.node["spec"] == {}


def test_what_holds_a_pod_is_said_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(["a"], held=10**6)
    with pytest.raises(SlipwayError, match=r"pod n/a: is still on node w1 after 0.05 s: budget b"):
        run(monkeypatch, cluster, timeout=0.05)
    assert cluster.node["spec"]["unschedulable"]


def test_an_api_that_is_away_for_a_moment_loses_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(["a"], held=1)
    cluster.silent = 1
    run(monkeypatch, cluster)
    assert cluster.pods == []


def test_a_patch_that_came_too_late_is_made_anew_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster()
    cluster.conflicts = 4
    run(monkeypatch, cluster)
    assert cluster.node["spec"]["unschedulable"]
    cluster = Cluster()
    cluster.conflicts = 5
    with pytest.raises(SlipwayError, match="cordon was refused 5 times"):
        run(monkeypatch, cluster)


def test_the_dead_are_released_and_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(["a"])
    assert run(monkeypatch, cluster, dead=True) == ["cordon node w1", "release the pods of dead node w1"]
    assert [taint["key"] for taint in cluster.node["spec"]["taints"]] == [OUT_OF_SERVICE]
    assert cluster.asked == [("DELETE", "a")]


DETACHED = "wait until volumes are detached from w1"


def test_volumes_are_waited_for_where_the_node_is_to_be_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, Cluster(["a"], attached=3)) == ["cordon node w1", "evict pods from w1"]
    cluster = Cluster(["a"], attached=4)
    assert run(monkeypatch, cluster, detached=True) == ["cordon node w1", "evict pods from w1", DETACHED]
    assert cluster.attached == 0
    cluster = Cluster(["a"], attached=3)
    assert run(monkeypatch, cluster, dead=True)[1:] == ["release the pods of dead node w1", DETACHED]
    assert cluster.attached == 0
    assert run(monkeypatch, cluster, dead=True) == []


def test_an_api_that_is_away_has_not_detached_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(attached=3)
    monkeypatch.setattr(drains, "_INTERVAL_SECONDS", 0)
    drain = Drain(cluster, ("/kubectl", "/kubeconfig"), DrainWant(("w1",), detached=True), 30)
    drain.observe()
    cluster.silent = 2
    drain.apply(drain.plan()[-1])
    assert (cluster.attached, cluster.silent) == (0, 0)


def test_a_volume_that_stays_attached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = r"node w1: not within 0 s; last seen: still attached: data \(csi.test\), VolumeAttachment csi-1"
    with pytest.raises(SlipwayError, match=found):
        run(monkeypatch, Cluster(attached=10**6), detached=True, timeout=0)


def test_the_living_are_not_released(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(["a"], ready=10**6)
    with pytest.raises(SlipwayError, match="its kubelet reports that it is Ready"):
        run(monkeypatch, cluster, dead=True, timeout=0)
    assert "taints" not in cluster.node["spec"]
    assert cluster.pods == ["a"]


def test_a_node_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(["a"])
    assert run(monkeypatch, cluster, state="absent") == ["delete node w1"]
    assert cluster.asked == [("DELETE", "w1")]


# --- the memory of a maintenance --------------------------------------------------------------------------------------
class Store(Machine):
    """One ConfigMap; the first ``conflicts`` writes come too late."""

    def __init__(self, item: Api | None = None, conflicts: int = 0, *, up: bool = True) -> None:
        self.item = item
        self.conflicts = conflicts
        self.up = up
        self.verbs: list[str] = []

    def exists(self, path: str) -> bool:
        return self.up

    def run(self, argv: t.Sequence[str], *, stdin: str | None = None, **_: t.Any) -> Output:
        if argv[1] == "get":
            return Output(0, json.dumps(self.item) if self.item else "", "")
        self.verbs.append(argv[1])
        if argv[1] == "delete":
            self.item = None
        elif self.conflicts:
            self.conflicts -= 1
            return Output(1, "", "the object has been modified")
        else:
            self.item = json.loads(stdin or "")
        return Output(0, "", "")


BEGAN = datetime.datetime(2030, 5, 1, 8, 30, tzinfo=datetime.UTC)


def write(store: Store, *hosts: str, finished: bool = False) -> None:
    Memory(Kubectl(store), MaintenanceWant("t", frozenset(hosts), BEGAN, finished)).apply()


def test_the_memory_is_made_changed_and_forgotten() -> None:
    store = Store()
    write(store, "a", "b")
    write(store, "a", "b")
    write(store, "a", finished=True)
    assert store.item is not None
    assert json.loads(store.item["data"]["finished"]) == ["a"]
    write(store, "b", finished=True)
    assert store.item is None
    assert store.verbs == ["create", "replace", "delete"]


def test_what_another_run_wrote_meanwhile_is_read_again() -> None:
    store = Store(object_of(Maintenance("t", BEGAN, frozenset("ab")), "7"), conflicts=4)
    write(store, "a", finished=True)
    assert store.item is not None
    assert store.item["metadata"]["resourceVersion"] == "7"
    with pytest.raises(SlipwayError, match="could not be written 5 times: the object has been modified"):
        write(Store(conflicts=5), "a")


def test_without_an_api_nothing_is_remembered() -> None:
    with pytest.raises(SlipwayError, match="no API server answers"):
        write(Store(up=False), "a")
