# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How what add-ons answered is judged: what counts as well, what is told, which hint goes with which failure."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_addons import (
    READER,
    WRITER,
    Asked,
    Holder,
    Kept,
    Reply,
    Way,
    announcers,
    arp_sender,
    balanced_service,
    claim_object,
    claim_words,
    ingress_objects,
    job_objects,
    judge_balanced,
    judge_job,
    judge_metrics,
    judge_refusal,
    judge_routes,
    judge_volume,
    kept_job,
    privileged_pod,
    route_object,
    way_of,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_full import (
    Load,
    failing_object,
    judge_autoscaler,
    judge_bad_version,
    judge_liveness,
    judge_rollout,
    rolled_objects,
    scaled_objects,
)

HELD, HARDWARE = "10.0.0.240", "02:42:0a:00:00:15"
ARP = bytes.fromhex("ffffffffffff02420a0000150806000108000604000102420a0000150a0000f0000000000000" + "0a0000f0")
GOOD, NOWHERE, REFUSED = Reply(200, "backend-1"), Reply(404, "404"), Reply(error="port 443: Connection refused")


def usage(*names: str) -> dict[str, t.Any]:
    return {"items": [{"metadata": {"name": name}, "usage": {"cpu": "1m"}} for name in names]}


@pytest.mark.parametrize(
    ("asked", "ok", "parts", "hint"),
    [
        ({"10.0.0.21": Asked((GOOD, GOOD), (NOWHERE,))}, True, ["2 of 2 requests at 1 addresses", "by 1 pods"], ""),
        ({"a": Asked((REFUSED,))}, False, ["0 of 1", "a: 1 of 1 failed: port 443: Connection refused"], "running"),
        ({"a": Asked((Reply(error="no address"),))}, False, ["no address"], "running"),
        ({"a": Asked((NOWHERE,))}, False, ["status 404"], "does not know the route"),
        ({"a": Asked((Reply(502, ""),))}, False, ["status 502"], "and the logs"),
        ({"a": Asked((GOOD,), (GOOD,))}, False, ["what no route is for was answered"], "and the logs"),
        ({}, False, ["0 of 0"], ""),
    ],
)
def test_routes(asked: dict[str, Asked], ok: bool, parts: list[str], hint: str) -> None:
    check = judge_routes("ingress", "asked", asked, "slipway-ingress")
    assert check.ok == ok
    for part in parts:
        assert part in check.seen
    assert hint in check.hint


@pytest.mark.parametrize(
    ("listing", "said", "pods", "ok", "part"),
    [
        (usage("cp1", "w1"), "", 7, True, "2 of 2 nodes and 7 pods"),
        (usage("cp1"), "", 7, False, "nothing of w1"),
        (usage("cp1", "w1"), "", 0, False, "nothing of any pod"),
        (None, "service unavailable (status 503)", 0, False, "service unavailable"),
    ],
)
def test_metrics(listing: dict[str, t.Any] | None, said: str, pods: int, ok: bool, part: str) -> None:
    check = judge_metrics(["cp1", "w1"], listing, said, pods)
    assert check.ok == ok
    assert part in check.seen


@pytest.mark.parametrize(
    ("address", "holder", "replies", "ok", "part", "hint"),
    [
        (HELD, Holder(HARDWARE), [GOOD] * 12, True, f"{HELD} is at {HARDWARE}; 12 requests, 1 pods", "speaker"),
        (HELD, Holder(HARDWARE, 2), [GOOD], True, f"is at {HARDWARE}, this host itself, which was seen", "speaker"),
        (HELD, Holder(HARDWARE, 2), [REFUSED], False, "1 of 1 requests failed", "speaker"),
        ("", Holder(), [], False, "got no address", "controller"),
        (HELD, Holder(), [], False, "nobody on the network", "speaker"),
        (HELD, Holder(HARDWARE), [GOOD, REFUSED], False, "1 of 2 requests failed", "speaker"),
        (HELD, Holder(router="10.0.1.1", nodes=("w1",)), [GOOD], True, "is at w1 by its own word, behind 10.0", ""),
        (HELD, Holder(router="10.0.1.1", nodes=("w1",)), [REFUSED], False, "1 of 1 requests failed", "speaker"),
        (HELD, Holder(router="10.0.1.1"), [], False, "no node says that it announces it", "speaker"),
    ],
)
def test_balanced(address: str, holder: Holder, replies: list[Reply], ok: bool, part: str, hint: str) -> None:
    check = judge_balanced(address, holder, replies, "slipway-load-balancer")
    assert check.ok == ok
    assert part in check.seen
    assert hint in check.hint


@pytest.mark.parametrize(
    ("routes", "way"),
    [
        ([{"dst": HELD, "dev": "eth0", "prefsrc": "10.0.0.11", "flags": [], "uid": 0}], Way()),
        ([{"dst": HELD, "gateway": "10.0.1.1", "dev": "eth0", "prefsrc": "10.0.1.11"}], Way(router="10.0.1.1")),
        ([{"dst": HELD, "via": {"family": "inet6", "host": "fe80::1"}, "dev": "eth0"}], Way(router="fe80::1")),
        ([{"type": "local", "dst": HELD, "dev": "lo"}], Way()),
        ([], Way(reachable=False)),
    ],
)
def test_the_way_to_an_address(routes: list[dict[str, t.Any]], way: Way) -> None:
    assert way_of(routes) == way


def test_who_announces_a_service_says_so_in_events() -> None:
    def event(name: str, reason: str, message: str) -> dict[str, t.Any]:
        return {"involvedObject": {"kind": "Service", "name": name}, "reason": reason, "message": message}

    said = 'announcing from node "{}" with protocol "layer2"'
    events = [
        event("balanced", "nodeAssigned", said.format("w2")),
        event("balanced", "nodeAssigned", said.format("w1")),
        event("balanced", "IPAllocated", 'Assigned IP from node "x"'),
        event("theirs", "nodeAssigned", said.format("w3")),
    ]
    assert announcers({"items": events}) == ("w1", "w2")
    assert announcers({}) == ()


@pytest.mark.parametrize(
    ("frame", "sender"),
    [
        (ARP, (HELD, HARDWARE)),
        (ARP + bytes(18), (HELD, HARDWARE)),
        (ARP[:12] + b"\x08\x00" + ARP[14:], ("", "")),
        (ARP[:16] + b"\x86\xdd" + ARP[18:], ("", "")),
        (ARP[:41], ("", "")),
        (b"", ("", "")),
    ],
)
def test_the_sender_of_a_frame(frame: bytes, sender: tuple[str, str]) -> None:
    assert arp_sender(frame) == sender


@pytest.mark.parametrize(
    ("job", "texts", "ok", "part"),
    [
        (
            {"status": {"succeeded": 1}},
            {"config": "written in a ConfigMap", "secret": "written in a Secret"},
            True,
            "2 of 2",
        ),
        ({"status": {"succeeded": 1}}, {"config": "written in a ConfigMap"}, False, "container secret read nothing"),
        ({"status": {"conditions": [{"message": "too many failures"}]}}, {}, False, "too many failures"),
        (None, {}, False, "still running"),
    ],
)
def test_a_job(job: dict[str, t.Any] | None, texts: dict[str, str], ok: bool, part: str) -> None:
    check = judge_job(job, texts)
    assert check.ok == ok
    assert part in check.seen


def test_a_refusal_is_one_only_if_pod_security_says_so() -> None:
    assert judge_refusal("baseline", 1, 'pods "it" is forbidden: violates PodSecurity "baseline:latest"').ok
    assert not judge_refusal("baseline", 1, "connection refused").ok
    assert not judge_refusal("baseline", 0, "").ok


def test_what_is_put_up_belongs_to_the_namespace() -> None:
    security: dict[str, t.Any] = {"runAsNonRoot": True}
    objects = [
        *ingress_objects("n", {"tls.crt": b"c", "tls.key": b"k"}),
        route_object("n", ("slipway-ingress", "default")),
        balanced_service("n"),
        *job_objects("n", "i", security),
        privileged_pod("n", "i"),
        *rolled_objects("n", "i", "1"),
        *scaled_objects("n", "i"),
        failing_object("n", "i"),
        claim_object("n", "c"),
        kept_job("n", "i", WRITER),
        kept_job("n", "i", READER),
    ]
    assert {item["metadata"]["namespace"] for item in objects} == {"n"}
    assert all(item["apiVersion"] and item["kind"] for item in objects)


@pytest.mark.parametrize(
    ("load", "finished", "ok", "part"),
    [
        (Load({"1": 40, "2": 60}), "", True, "100 requests answered (40 by version 1, 60 by version 2), 0 failed"),
        (Load({"1": 40, "2": 60}, ("reset",)), "", False, "1 of 101 requests failed: reset"),
        (Load({"1": 40}), "", False, "the new version 2 never answered"),
        (Load({}), "", False, "no request was made"),
        (Load({"1": 1, "2": 1}), "1 updated", False, "1 updated"),
    ],
)
def test_a_rollout(load: Load, finished: str, ok: bool, part: str) -> None:
    check = judge_rollout(load, finished, "2")
    assert check.ok == ok
    assert part in check.seen


@pytest.mark.parametrize(
    ("load", "held", "undone", "ok", "part"),
    [
        (Load({"2": 50}), "", "", True, "50 requests answered by the old version"),
        (Load({"2": 50, "3": 1}), "", "", False, "version 3 answered too"),
        (Load({"2": 50}), "it counts as ready", "", False, "it counts as ready"),
        (Load({"2": 50}), "", "1 of 2", False, "1 of 2"),
    ],
)
def test_a_bad_version(load: Load, held: str, undone: str, ok: bool, part: str) -> None:
    check = judge_bad_version(load, held, undone)
    assert check.ok == ok
    assert part in check.seen


def test_scaling_and_health() -> None:
    assert (
        judge_autoscaler(3, 1, (31.0, 45.0), "").seen == "1 -> 3 pods under load after 31 s, 1 without after 45 s more"
    )
    assert "no pod was added: no metrics" in judge_autoscaler(1, 1, (150.0, 0.0), "no metrics").seen
    assert "2 pods are still there" in judge_autoscaler(2, 2, (30.0, 150.0), "").seen
    assert judge_liveness(1).ok
    assert not judge_liveness(0).ok


READ = Kept("pvc-1", "w1", "content of file: mount-tester new file")
LEFT = "volume pvc-1 is Released and not removed"


@pytest.mark.parametrize(
    ("kept", "ok", "part", "hint"),
    [
        (READ, True, "1 of 1 files read by a second pod on w1; volume pvc-1 was removed with its claim", ""),
        (Kept(waits="the claim is Pending: nobody"), False, "the claim is Pending: nobody", "get deployment,pods"),
        (Kept("pvc-1", trouble="the Job kept-writer failed"), False, "kept-writer failed", "journalctl -u kubelet"),
        (Kept("pvc-1", "w1", "no such file"), False, "the second pod read no such file", "journalctl -u kubelet"),
        (Kept("pvc-1", "w1"), False, "the second pod read nothing", "journalctl -u kubelet"),
        (dataclasses.replace(READ, left=LEFT), False, LEFT, "--namespace slipway-storage get deployment,pods"),
    ],
)
def test_a_volume(kept: Kept, ok: bool, part: str, hint: str) -> None:
    check = judge_volume(kept, "slipway-storage")
    assert check.ok == ok
    assert part in check.seen
    assert hint in check.hint


def event(minute: int, text: str, *, kind: str = "PersistentVolumeClaim", **fields: str) -> dict[str, t.Any]:
    time = f"2026-11-22T10:{minute:02}:00Z"
    return {"involvedObject": {"kind": kind, "name": "kept"}, "lastTimestamp": time, "message": text, **fields}


PENDING: dict[str, t.Any] = {"status": {"phase": "Pending"}}


@pytest.mark.parametrize(
    ("claim", "events", "said"),
    [
        ({"status": {"phase": "Bound"}}, [event(1, "x")], ""),
        (PENDING, [event(2, "waits for\nsomebody"), event(1, "first")], "the claim is Pending: waits for somebody"),
        (PENDING, [event(1, "it failed", type="Warning"), event(2, "waits")], "the claim is Pending: it failed"),
        (PENDING, [event(2, "of a pod", kind="Pod")], "the claim is Pending: nobody says why"),
        (PENDING, [event(2, "x" * 300)], f"the claim is Pending: {'x' * 200}..."),
        (None, [], "the claim is not there: nobody says why"),
    ],
)
def test_a_claims_words(claim: dict[str, t.Any] | None, events: list[dict[str, t.Any]], said: str) -> None:
    assert claim_words(claim, {"items": events}) == said
