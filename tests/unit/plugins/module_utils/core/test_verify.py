# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a cluster's answers are judged: what is well passes, and what is broken fails and is named."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core import verify
from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import NodeSeen, NodesSeen, parse_time
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify import Answer, Check, table
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_workload import (
    STALE_SECONDS,
    backend_count,
    lacking_pods,
    namespace_object,
    pods_of,
    stale_namespaces,
    tries_for,
    warned,
    workload_objects,
)

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


def stamp(seconds_ago: float) -> str:
    return (NOW - datetime.timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def lease(name: str, age: float) -> dict[str, t.Any]:
    spec = {"renewTime": stamp(age), "leaseDurationSeconds": 15, "holderIdentity": "cp1_abc"}
    return {"metadata": {"name": name}, "spec": spec}


LEASES = [lease("kube-controller-manager", 2), lease("kube-scheduler", 3), lease("unrelated", 999)]
HEALTHY = [{"endpoint": "https://a:2379", "health": True}, {"endpoint": "https://b:2379", "health": True}]
STATUS = [{"Endpoint": f"https://{name}:2379", "Status": {"leader": 7, "dbSize": 2**20}} for name in "ab"]


def seen(**nodes: str) -> NodesSeen:
    """Nodes by name; the text is the version of a Ready one, or ``!`` and why it is not."""
    found = [
        NodeSeen(
            name,
            ready=not text.startswith("!"),
            condition=text[1:] if text.startswith("!") else "",
            kubelet_version=text,
        )
        for name, text in nodes.items()
    ]
    return NodesSeen(known=True, nodes={node.name: node for node in found})


PODS = {"x": "a", "y": "a", "z": "b"}
EVENTS = [
    {"involvedObject": {"name": name}, "reason": reason}
    for name, reason in (
        ("x", "Scheduled"), ("x", "Started"), ("y", "Started"), ("x", "Unhealthy"), ("z", "Started"), ("w", "Started"),
    )
]  # fmt: skip

GOOD: list[tuple[str, Check, str]] = [
    (
        "api",
        verify.judge_readyz({"https://a": None}, {"https://a": "[+]ping ok\n[+]etcd ok\n"}),
        "1 of 1 ready (2 inner",
    ),
    ("etcd", verify.judge_etcd(HEALTHY, STATUS), "2 of 2 members healthy, database 1.0 MiB"),
    (
        "a member down on purpose",
        verify.judge_etcd([*HEALTHY, {"endpoint": "c", "health": False, "error": "late"}], STATUS, ["c", "d"]),
        "2 of 2 members healthy, database 1.0 MiB; not asked, for down on purpose: c",
    ),
    ("leases", verify.judge_leases({"items": LEASES}, NOW), "kube-scheduler on cp1 renewed 3 s ago"),
    (
        "nodes",
        verify.judge_nodes(seen(a="v1.37.0", b="v1.37.0"), {"a": "1.37.0", "b": ""}),
        "2 of 2 Ready (2 x v1.37.0)",
    ),
    ("any nodes", verify.judge_nodes(seen(a="v1.37.0"), {}), "1 of 1 Ready"),
    ("health", verify.judge_health("kubelets", "", {"a": "", "b": ""}, ""), "2 of 2 healthy"),
    ("pairs", verify.judge_pairs({("a", "b"): "", ("b", "a"): ""}), "2 of 2 directed pairs of 2 nodes"),
    ("one node", verify.judge_pairs({}), "one node"),
    (
        "service",
        verify.judge_service({"a": Answer(("x", "y", "x")), "b": Answer(("y", "x"))}, ["x", "y"]),
        "5 requests from 2 nodes hit 2 endpoints 3/2 times",
    ),
    ("names", verify.judge_names("DNS", "", {("a", "n"): "", ("a", "m"): ""}), "2 of 2 answers: 2 names from 1 nodes"),
    (
        "an unready pod",
        verify.judge_unready("x", "", {"a": "", "b": ""}, {"a": "", "b": ""}),
        "x served by itself but not through the Service, and through it again, as seen from 2 nodes",
    ),
    ("streams", verify.judge_streams({"a": ""}, 1), "logs from 1 nodes, exec on 1"),
    ("policy", verify.judge_policy(Answer(("x",)), Answer(("walled",))), "not enforced"),
    (
        "events",
        verify.judge_events({"items": EVENTS}, PODS),
        "5 events of 3 pods: 1 scheduled, 3 started, as told by 2 of 2 kubelets",
    ),
    ("skipped", verify.skipped("x", "why"), "skipped: why"),
]

BAD: list[tuple[str, Check, str]] = [
    (
        "no events",
        verify.judge_events({"items": []}, PODS),
        "0 of 2 kubelets; kubelet of a: told nothing; kubelet of b: told nothing; scheduler: told nothing",
    ),
    (
        "a kubelet tells nothing",
        verify.judge_events({"items": EVENTS[:3]}, PODS),
        "1 of 2 kubelets; kubelet of b: told",
    ),
    ("the scheduler tells nothing", verify.judge_events({"items": EVENTS[1:]}, PODS), "2 kubelets; scheduler: told"),
    ("events of nobody", verify.judge_events({"items": EVENTS}, {}), "0 events of 0 pods"),
    (
        "one api down",
        verify.judge_readyz({"a": None, "b": "refused"}, {"a": "[+]x"}),
        "1 of 2 ready (1 inner checks each); b: refused",
    ),
    ("no api known", verify.judge_readyz({}, {}), "0 of 0"),
    (
        "a member down",
        verify.judge_etcd([HEALTHY[0], {"endpoint": "b", "health": False, "error": "late"}], STATUS),
        "1 of 2 members healthy, database 1.0 MiB; b: late",
    ),
    ("all members down on purpose", verify.judge_etcd(HEALTHY[:1], [], ["https://a:2379"]), "0 of 0"),
    ("no etcd answers", verify.judge_etcd([], []), "0 of 0"),
    ("two leaders", verify.judge_etcd(HEALTHY, [STATUS[0], {"Status": {"leader": 8}}]), "members name 2 leaders"),
    ("no leader", verify.judge_etcd(HEALTHY, [{"Status": {"leader": 0}}]), "leaders"),
    (
        "an alarm",
        verify.judge_etcd(HEALTHY, [{"Endpoint": "a", "Status": {"leader": 7, "errors": ["NOSPACE"]}}]),
        "a: NOSPACE",
    ),
    (
        "a lease is old",
        verify.judge_leases({"items": [LEASES[0], lease("kube-scheduler", 60)]}, NOW),
        "kube-scheduler on cp1 renewed 60 s ago",
    ),
    (
        "a lease was never taken",
        verify.judge_leases({"items": LEASES[1:]}, NOW),
        "kube-controller-manager never took its lease",
    ),
    ("a node is not ready", verify.judge_nodes(seen(a="v1", b="!gone"), {}), "1 of 2 Ready"),
    ("a node is missing", verify.judge_nodes(seen(a="v1"), {"a": "", "b": ""}), "b: has not registered"),
    ("a node is unknown", verify.judge_nodes(seen(a="v1", b="v1"), {"a": ""}), "b: nobody expects this Node"),
    (
        "a version is off",
        verify.judge_nodes(seen(a="v1.36.4"), {"a": "v1.37.0"}),
        "a: kubelet v1.36.4, expected v1.37.0",
    ),
    ("no nodes", verify.judge_nodes(seen(), {}), "0 of 0"),
    (
        "a full disk",
        verify.judge_nodes(
            NodesSeen(known=True, nodes={"a": NodeSeen("a", ready=True, pressure="DiskPressure: kubelet has it")}), {}
        ),
        "1 of 1 Ready (1 x ); a: DiskPressure: kubelet has it",
    ),
    ("a kubelet", verify.judge_health("kubelets", "", {"a": "", "b": "refused"}, ""), "1 of 2 healthy; b: refused"),
    (
        "a pair",
        verify.judge_pairs({("a", "b"): "TCP: timeout", ("b", "a"): ""}),
        "1 of 2 directed pairs of 2 nodes; a -> b: TCP: timeout",
    ),
    (
        "an endpoint is never met",
        verify.judge_service({"a": Answer(("x", "x"))}, ["x", "y"]),
        "a: never reached y in 2 requests",
    ),
    ("a stranger answers", verify.judge_service({"a": Answer(("x", "z"))}, ["x"]), "a: led to z"),
    (
        "an unready pod is sent to",
        verify.judge_unready("x", "", {"a": "led to x", "b": ""}, {"a": "", "b": ""}),
        "while it was not ready, from a: led to x",
    ),
    (
        "a pod that is ready again is not sent to",
        verify.judge_unready("x", "", {"a": ""}, {"a": "never reached x in 22 requests"}),
        "when it was ready again, from a: never reached x in 22 requests",
    ),
    (
        "an unready pod has died",
        verify.judge_unready("x", "refused", {"a": ""}, {"a": ""}),
        "x itself did not answer while not ready: refused",
    ),
    ("nobody asks for an unready pod", verify.judge_unready("x", "", {}, {}), "0 nodes"),
    ("no answer from a service", verify.judge_service({"a": Answer(errors=("refused",))}, ["x"]), "a: refused"),
    ("an empty answer", verify.judge_service({"a": Answer()}, ["x"]), "a: an empty answer"),
    (
        "a name",
        verify.judge_names("DNS", "", {("a", "n"): "no such host"}),
        "0 of 1 answers: 1 names from 1 nodes; n from a: no such host",
    ),
    ("a log", verify.judge_streams({"a": "logs: x509"}, 1), "a: logs: x509"),
]


@pytest.mark.parametrize(("check", "said"), [case[1:] for case in GOOD], ids=[case[0] for case in GOOD])
def test_what_is_well(check: Check, said: str) -> None:
    assert check.ok
    assert said in check.seen


@pytest.mark.parametrize(("check", "said"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_what_is_broken(check: Check, said: str) -> None:
    assert not check.ok
    assert said in check.seen


def test_the_node_that_all_bad_pairs_share_is_named() -> None:
    trouble = {(one, other): "late" if "c" in (one, other) else "" for one in "abc" for other in "abc" if one != other}
    assert verify.judge_pairs(trouble).hint.startswith("on c see")
    assert verify.judge_pairs(dict.fromkeys(trouble, "late")).hint.startswith("on the nodes named")


def test_many_troubles_are_counted() -> None:
    check = verify.judge_health("kubelets", "", {f"n{number}": "down" for number in range(8)}, "")
    assert check.seen.count("down") == 5
    assert check.seen.endswith("and 3 more")


def test_a_table_shows_every_finding_and_the_hint_of_a_failed_one() -> None:
    lines = table(
        [
            Check("nodes", ok=True, done="read every Node", seen="3 of 3", hint="unused", seconds=1.26),
            Check("pod to pod", ok=False, done="asked one pod after the other from each node", seen="a", hint="there"),
            verify.skipped("etcd", "elsewhere"),
        ]
    ).splitlines()
    assert lines == [
        "ok    nodes         1.3 s  read every Node                       3 of 3",
        "FAIL  pod to pod    0.0 s  asked one pod after the other from    a",
        "                           each node",
        "                           -> there",
        "skip  etcd          0.0 s                                        skipped: elsewhere",
    ]
    assert table([]) == ""


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(errors=('Get "http://192.0.2.7:9/hostname": dial tcp 192.0.2.7:9: connect: connection refused',)), ""),
        (Answer(errors=('Get "http://192.0.2.7:9/hostname": context deadline exceeded (Client.Timeout)',)), ""),
        (Answer(errors=('Get "http://[2001:db8::7]:9/hostname": dial tcp: network is unreachable',)), ""),
        (Answer(("something listens",)), ""),
        (Answer(errors=("host and/or port param are invalid. lookup x.test on 10.96.0.10: no such host",)), "lookup"),
        (Answer(errors=("no endpoints available for service (status 503)",)), "status 503"),
        (Answer(errors=("no answer within 12 s when asked through the API server",)), "no answer"),
        (Answer(errors=('Get "http://dead.beef:9/hostname": no address of that',)), "no address"),
        (Answer(), "an empty answer"),
    ],
)
def test_only_an_address_proves_that_a_name_was_resolved(answer: Answer, said: str) -> None:
    assert said in verify.unresolved(answer)
    assert bool(verify.unresolved(answer)) == bool(said)


DIALLED = 'Get "http://10.244.1.3:8080/hostname": '


@pytest.mark.parametrize(
    ("control", "answer", "said"),
    [
        ((), (DIALLED + "context deadline exceeded (Client.Timeout exceeded while awaiting headers)",), "enforced"),
        ((), (DIALLED + "dial tcp 10.244.1.3:8080: i/o timeout",), "enforced"),
        ((), (DIALLED + "dial tcp 10.244.1.3:8080: connect: connection refused",), "enforced"),
        ((), (DIALLED + "dial tcp 10.244.1.3:8080: connect: no route to host",), "enforced"),
        ((), (DIALLED + "EOF",), "skipped: the pod could not be asked: Get"),
        ((), ("net/http: TLS handshake timeout when asked through the API server",), "could not be asked: net/http"),
        (
            (),
            ("error trying to reach service: dial tcp 10.244.1.2:8080: i/o timeout (status 503)",),
            "skipped: the pod",
        ),
        ((DIALLED + "i/o timeout",), (DIALLED + "i/o timeout",), "skipped: a pod that no policy walls off was not"),
        (("TLS handshake timeout",), (), "skipped: a pod that no policy walls off was not"),
    ],
)
def test_only_its_own_cut_connection_proves_a_policy(
    control: tuple[str, ...], answer: tuple[str, ...], said: str
) -> None:
    check = verify.judge_policy(Answer(() if control else ("x",), control), Answer((), answer))
    assert check.ok
    assert said in check.seen
    assert check.skipped == (said != "enforced")


def test_a_table_is_no_wider_than_a_screen() -> None:
    words = Check("bad version", ok=False, done="did " * 40, seen="a word " * 60, hint="see: this " * 20)
    url = "https://" + "x" * 100
    text = table([words, Check("nodes", ok=True, done="asked", seen=f"then\n{url} was there")])
    assert {len(line) <= 120 for line in text.splitlines() if url not in line} == {True}
    assert sum(url in line for line in text.splitlines()) == 1
    assert (text.count("did"), text.count("word"), text.count("this")) == (40, 60, 20)


def pod(app: str, node: str = "", *, ready: bool = True, **status: t.Any) -> dict[str, t.Any]:
    conditions = [{"type": "Ready", "status": str(ready)}, *status.pop("conditions", ())]
    return {
        "metadata": {"name": f"{app}-{node}", "labels": {"app": app}},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIP": "10.1.0.1", "conditions": conditions, **status},
    }


COMPLETE = [pod("probe", "a"), pod("probe", "b"), pod("backend", "a"), pod("backend", "b"), pod("walled", "a")]


def test_the_workload_is_complete() -> None:
    assert lacking_pods({"items": COMPLETE}, ["a", "b"]) == []


def test_what_is_lacking_is_named() -> None:
    waiting = {"state": {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}}
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no place"}
    starting = {"state": {"waiting": {"reason": "ContainerCreating"}}}
    lacks = lacking_pods(
        {
            "items": [
                pod("probe", "a", ready=False, containerStatuses=[waiting]),
                pod("backend", ready=False, phase="Pending", conditions=[unscheduled]),
                pod("walled", "a", ready=False, phase="Pending", containerStatuses=[starting]),
            ]
        },
        ["a", "b"],
    )
    assert lacks == [
        "no pod on node b yet",
        "1 of 2 pods of Deployment backend made",
        "pod probe-a on a: ErrImagePull no such image",
        "pod backend- on no node: Unschedulable no place",
        "pod walled-a on a: Pending, not ready",
    ]


def test_a_pod_that_is_going_does_not_count() -> None:
    going = pod("backend", "a", containerStatuses=[{"restartCount": 2}])
    assert [each.restarts for each in pods_of({"items": [going]}, "backend")] == [2]
    going["metadata"]["deletionTimestamp"] = "now"
    assert pods_of({"items": [going]}, "backend") == []


@pytest.mark.parametrize(("nodes", "backends"), [(1, 2), (2, 2), (3, 3), (100, 3)])
def test_backends(nodes: int, backends: int) -> None:
    assert backend_count(nodes) == backends


@pytest.mark.parametrize("endpoints", [2, 3, 10])
def test_enough_tries_to_meet_every_endpoint(endpoints: int) -> None:
    missed = endpoints * (1 - 1 / endpoints) ** tries_for(endpoints)
    assert missed <= 1e-6
    assert endpoints * (1 - 1 / endpoints) ** (tries_for(endpoints) - 2) > 1e-6
    assert tries_for(1) == 1


def test_only_old_namespaces_are_stale() -> None:
    items = [
        {"metadata": {"name": name, "creationTimestamp": stamp(age)}}
        for name, age in (("old", STALE_SECONDS + 1), ("running", 20))
    ]
    assert stale_namespaces({"items": items}, NOW) == ["old"]


@pytest.mark.parametrize("text", ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"])
def test_times_of_the_api(text: str) -> None:
    assert parse_time(text) == NOW
    assert parse_time(None) is None


def test_the_workload_keeps_to_itself_and_to_the_restricted_standard() -> None:
    namespace = namespace_object("slipway-verify-x")
    assert namespace["metadata"]["labels"] == {"slipway.cluster/verify": "true"}
    objects = workload_objects(namespace="slipway-verify-x", image="i", nodes=3)
    assert {item["metadata"]["namespace"] for item in objects} == {"slipway-verify-x"}
    pods = [item["spec"]["template"]["spec"] for item in objects if item["apiVersion"] == "apps/v1"]
    assert [len(each["containers"]) for each in pods] == [1, 2, 1]
    for each in pods:
        assert each["securityContext"]["runAsNonRoot"]
        assert each["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in each["containers"]:
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_a_backend_is_ready_only_if_its_switch_says_so() -> None:
    objects = workload_objects(namespace="slipway-verify-x", image="i", nodes=3)
    (backend,) = [each for each in objects if each["kind"] == "Deployment" and each["metadata"]["name"] == "backend"]
    served, switch = backend["spec"]["template"]["spec"]["containers"]
    assert "httpGet" in served["readinessProbe"]
    assert switch["args"] == ["grpc-health-checking", "--port=8083", "--http-port=8082"]
    assert switch["readinessProbe"]["grpc"] == {"port": 8083}


def test_a_full_disk_is_looked_for_on_its_node() -> None:
    pressed = NodeSeen("w1", ready=True, pressure="DiskPressure: kubelet has it")
    check = verify.judge_nodes(NodesSeen(known=True, nodes={"w1": pressed}), {})
    assert check.hint.startswith("a disk of w1 is nearly full: df -h")
    memory = dataclasses.replace(pressed, pressure="MemoryPressure: kubelet has it")
    assert "df" not in verify.judge_nodes(NodesSeen(known=True, nodes={"w1": memory}), {}).hint


def event(reason: str, message: str, stamp: str, kind: str = "Warning", *, pod: str = "probe-x") -> dict[str, t.Any]:
    """An Event of a pod."""
    return {
        "type": kind,
        "reason": reason,
        "message": message,
        "lastTimestamp": stamp,
        "involvedObject": {"name": pod},
    }


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ([], []),
        ([event("Pulled", "image is there", "1", "Normal")], []),
        ([event("Unhealthy", "late", "1", pod="ready")], []),
        (
            [event("FailedCreatePodSandBox", "no\n  plugin", "2"), event("FailedCreatePodSandBox", "older", "1")],
            ["probe-x: FailedCreatePodSandBox: no plugin"],
        ),
        (
            [event("A", "1", "1"), event("C", "3", "3"), event("B", "2", "2")],
            ["probe-x: B: 2", "probe-x: C: 3"],
        ),
        ([event("A", "x" * 400, "1")], [f"probe-x: A: {'x' * 288}..."]),
    ],
    ids=["none", "nothing bad", "of a pod that did start", "the last of a reason", "the last two", "long"],
)
def test_why_pods_do_not_start_is_told_by_events(events: list[dict[str, t.Any]], told: list[str]) -> None:
    assert warned({"items": events}, ["probe-x"]) == told


@pytest.mark.parametrize(
    ("failed", "blamed"),
    [
        ((), {}),
        (("service",), {}),
        (("pod to pod", "service", "unready pod"), {"service": "pod to pod", "unready pod": "pod to pod"}),
        (("service", "bad version"), {"bad version": "service"}),
        (("nodes", "pod to pod", "DNS outside"), {"pod to pod": "nodes", "DNS outside": "nodes"}),
    ],
)
def test_what_follows_from_another_failure_names_its_root(failed: tuple[str, ...], blamed: dict[str, str]) -> None:
    checks = [
        Check(aspect, ok=aspect not in failed, done="", seen="", hint="its own")
        for aspect in ("nodes", "pod to pod", "service", "unready pod", "bad version", "DNS outside")
    ]
    hints = {check.aspect: check.hint for check in verify.with_causes(checks) if check.hint != "its own"}
    assert hints == {aspect: f"most likely a consequence: mend {cause} first" for aspect, cause in blamed.items()}
