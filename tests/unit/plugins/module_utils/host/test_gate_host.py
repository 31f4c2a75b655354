# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the gate asks, and how long it waits."""

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host import gate as gates
from ansible_collections.slipway.cluster.plugins.module_utils.host.etcdctl import Etcdctl
from ansible_collections.slipway.cluster.plugins.module_utils.host.gate import Gate, parse_gate
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output

MEMBERS = {
    "members": [
        {"ID": 10, "name": "cp1", "peerURLs": ["https://10.0.0.11:2380"], "clientURLs": ["https://10.0.0.11:2379"]},
        {"ID": 11, "name": "cp2", "peerURLs": ["https://10.0.0.12:2380"], "clientURLs": ["https://10.0.0.12:2379"]},
    ]
}


def status(number: int, **more: t.Any) -> dict[str, t.Any]:
    return {"Status": {"header": {"member_id": number}, "leader": 10, "raftTerm": 2, **more}}


NODES = {
    "items": [
        {"metadata": {"name": "w1"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}},
        {"metadata": {"name": "w2"}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}},
    ]
}


class Host(Machine):
    """A host whose programs answer what a table says, by the words they are called with."""

    def __init__(self, **answers: Output | list[Output]) -> None:
        self.answers = answers
        self.calls: list[list[str]] = []

    def run(self, argv: t.Sequence[str], **_: t.Any) -> Output:
        words = [word for word in argv[1:] if not word.startswith("-") or word.startswith("--raw")]
        self.calls.append(list(argv))
        key = "_".join(words[:2]) if not argv[-1].startswith("--consistency") else "local_list"
        answer = self.answers[key if key in self.answers else words[0]]
        return answer.pop(0) if isinstance(answer, list) else answer

    def exists(self, path: str) -> bool:
        return path != "/absent"


def said(data: t.Any, rc: int = 0) -> Output:
    return Output(rc, json.dumps(data) if data else "", "" if rc == 0 else "first line\nlast line")


def etcdctl(machine: Machine, key: str = "/key") -> Etcdctl:
    params = {"etcdctl": "/etcdctl", "etcd_ca": "/ca", "etcd_certificate": "/crt", "etcd_key": key}
    return Etcdctl.from_params(machine, {**params, "etcd_endpoints": ["https://a:2379", "https://b:2379"]})


def test_members_are_asked_for_their_status_at_the_urls_they_announce() -> None:
    host = Host(member_list=said(MEMBERS), endpoint_status=said([status(10)], 1))
    found = etcdctl(host).members()
    assert [(member.name, member.healthy) for member in found] == [("cp1", True), ("cp2", False)]
    assert "--endpoints=https://a:2379,https://b:2379" in host.calls[0]
    assert "--endpoints=https://10.0.0.11:2379,https://10.0.0.12:2379" in host.calls[1]


def test_without_quorum_one_member_is_believed() -> None:
    host = Host(member_list=said(None, 1), local_list=said(MEMBERS), endpoint_status=said(None, 1))
    assert [member.healthy for member in etcdctl(host).members()] == [False, False]


def test_nobody_answers() -> None:
    host = Host(member_list=said(None, 1), local_list=said(None, 1))
    with pytest.raises(SlipwayError, match="ended with 1: last line"):
        etcdctl(host).members()
    with pytest.raises(SlipwayError, match="/absent: not on this host"):
        etcdctl(host, "/absent").members()
    assert etcdctl(Host(member_list=said({"members": []}))).members() == ()


def test_members_by_agreement_are_those_of_a_quorum() -> None:
    host = Host(member_list=said(MEMBERS), endpoint_status=said([status(10)], 1))
    assert [member.healthy for member in etcdctl(host).agreed_members() or ()] == [True, False]
    host = Host(member_list=said(None, 1), local_list=said(MEMBERS))
    assert etcdctl(host).agreed_members() is None
    assert len(host.calls) == 1
    assert etcdctl(Host(), "/absent").agreed_members() is None


def test_etcd_is_asked_with_roots_own_certificate() -> None:
    host = Host(endpoint_health=said([{"health": True}]))
    assert Etcdctl(host).ask("endpoint", "health") == [{"health": True}]
    assert host.calls[0][:2] == ["/opt/slipway/etcd/current/etcdctl", "--endpoints=https://127.0.0.1:2379"]
    assert "--cert=/etc/kubernetes/pki/etcd/root-client.crt" in host.calls[0]


def test_a_member_is_removed_once() -> None:
    gone = Output(1, "", "Error: etcdserver: member not found")
    host = Host(member_remove=[said({}), gone, Output(1, "", "Error: etcdserver: unhealthy cluster")])
    etcdctl(host).remove("a")
    etcdctl(host).remove("a")
    assert host.calls[0][-3:] == ["member", "remove", "a"]
    with pytest.raises(SlipwayError, match="unhealthy cluster"):
        etcdctl(host).remove("a")


def gate(machine: Machine, **params: t.Any) -> Gate:
    names = ("etcd_endpoints", "etcd_down", "api_servers", "nodes", "node_paths")
    given = {**{name: [] for name in names}, "etcd_stops": "", **params}
    return Gate(Kubectl(machine), etcdctl(machine), "/ca", parse_gate(given))


def test_only_what_is_given_is_asked() -> None:
    host = Host()
    assert gate(host).look() == []
    assert host.calls == []


def test_everything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "get", lambda wait: None if "11" in wait.url else f"{wait.url}: refused")
    host = Host(
        member_list=said(MEMBERS),
        endpoint_status=[
            said([status(10, raftIndex=7, raftAppliedIndex=7), status(11)]),
            said([status(10, raftIndex=9, raftAppliedIndex=9), status(11, raftAppliedIndex=5)]),
        ],
        get_nodes=said(NODES),
        get=Output(1, "", "warning\nError: refused"),
    )
    found = gate(
        host,
        etcd_endpoints=["x"],
        api_servers=["https://10.0.0.11:6443", "https://10.0.0.12:6443/"],
        nodes=["w1", "w2"],
        node_paths=["/proxy/healthz"],
    ).look()
    assert [f"{problem.where}: {problem.found}" for problem in found] == [
        "etcd member cp2: is 2 entries behind (2 voting members, 2 healthy, quorum 2)",
        "API server https://10.0.0.12:6443: https://10.0.0.12:6443/readyz: refused",
        "node w2: Ready=False :",
        "node w1: /proxy/healthz: Error: refused",
    ]


def test_what_cannot_be_asked_is_not_well() -> None:
    odd = Output(1, "", "forbidden")
    host = Host(member_list=odd, local_list=odd, get_nodes=odd)
    found = gate(host, etcd_endpoints=["x"], nodes=["w1"]).look()
    assert [problem.where for problem in found] == ["etcd", "node w1"]


def test_what_would_cost_quorum_is_refused_at_once() -> None:
    """Two of three are up, so neither may stop; that the third may be down is known and nothing to wait for."""
    third = {"ID": 12, "name": "cp3", "peerURLs": ["https://10.0.0.13:2380"], "clientURLs": ["https://10.0.0.13:2379"]}
    listed = said({"members": [*MEMBERS["members"], third]})
    host = Host(member_list=listed, endpoint_status=said([status(10), status(11)], 1))
    params: dict[str, t.Any] = {"etcd_endpoints": ["x"], "etcd_down": ["cp3"]}
    gate(host, **params).wait(timeout=30)
    with pytest.raises(SlipwayError, match=r"etcd member cp1: .* 2 healthy, quorum 2; meanwhile .* 1 healthy"):
        gate(host, **params, etcd_stops="cp1").wait(timeout=30)
    with pytest.raises(SlipwayError, match="etcd member cp1"):
        gate(host, etcd_down=["cp3"], etcd_stops="cp1").wait(timeout=30)


def test_it_waits_until_all_is_well_or_the_time_is_over() -> None:
    ready = {"items": [NODES["items"][0]]}
    host = Host(get_nodes=[said({"items": []}), said(ready)])
    gate(host, nodes=["w1"]).wait(timeout=30)
    assert len(host.calls) == 2
    with pytest.raises(SlipwayError, match="node w2: has not registered"):
        gate(Host(get_nodes=said(ready)), nodes=["w2"]).wait(timeout=0)
    with pytest.raises(SlipwayError, match=r"node w2: after 0.1 s: has not registered"):
        gate(Host(get_nodes=said(ready)), nodes=["w2"]).wait(timeout=0.1)
