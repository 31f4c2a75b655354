# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who tries whom on which ports, and who listens for it."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.reach import PROCESS
from ansible_collections.slipway.cluster.plugins.plugin_utils.core import reach
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.probe import Probe
from tests.unit.plugins.cluster import Cluster, bare, one_and_two, three_and_one

KUBELET, VXLAN, SEED = (10250, "tcp"), (8472, "udp"), (6445, "tcp")
API, CLIENTS, PEERS = (6443, "tcp"), (2379, "tcp"), (2380, "tcp")
SERVING = [{"protocol": "tcp", "address": "*", "port": port} for port in (6443, 2379, 2380, 10250)]


def hosts_of(
    cluster: Cluster, old: t.Container[str] = (), outside: t.Container[str] = (), **changes: t.Any
) -> dict[str, reach.Host]:
    probes = cluster.typed()
    _layout, nodes = cluster.layout()
    return {
        name: dataclasses.replace(
            reach.Host(
                nodes[name], name not in old, True, reach.served(probes[name]) if name in old else frozenset(),
                name not in outside, reach.tunnel_end(probes[name]),
            ),
            **changes.get(name, {}),
        )
        for name in probes
    }  # fmt: skip


def planned(
    cluster: Cluster, old: t.Container[str] = (), outside: t.Container[str] = (), **layout: t.Any
) -> dict[str, dict[str, t.Any]]:
    made, _nodes = cluster.layout()
    hosts = hosts_of(cluster, old, outside)
    return reach.plan_reach(dataclasses.replace(made, **layout), hosts, cluster.typed())


def settled(cluster: Cluster) -> Cluster:
    """What the probes of a cluster that runs say of ports and of flannel's tunnel."""
    for number, (name, probe) in enumerate(cluster.probes.items()):
        ports = (10250,) if name.startswith("w") else (6443, 2379, 2380, 10250)
        probe["listening"] = [each for each in SERVING if each["port"] in ports]
        tunnel = {"interface": "flannel.1", "address": f"10.244.{number}.0", "prefix": 32, "mtu": 1450}
        probe["addresses"] = [*probe["addresses"], tunnel]
    return cluster


def ways(
    cluster: Cluster, old: t.Container[str], outside: t.Container[str] = (), **changes: t.Any
) -> dict[tuple[str, str], set[tuple[int, str]]]:
    made, _nodes = cluster.layout()
    plan = reach.plan_ways(made, hosts_of(cluster, old, outside, **changes))
    assert not any(port["answers"] for own in plan.values() for target in own for port in target["ports"])
    return tried({name: {"targets": targets} for name, targets in plan.items()})


def tried(plan: dict[str, dict[str, t.Any]]) -> dict[tuple[str, str], set[tuple[int, str]]]:
    return {
        (source, target["host"]): {(port["port"], port["protocol"]) for port in target["ports"]}
        for source, own in plan.items()
        for target in own["targets"]
    }


def test_a_new_cluster_tries_all_that_each_needs_of_the_others() -> None:
    plan = planned(three_and_one())
    assert tried(plan)["cp1", "cp2"] == {API, CLIENTS, PEERS, KUBELET, VXLAN}
    assert tried(plan)["cp1", "w1"] == {KUBELET, VXLAN}
    assert tried(plan)["w1", "cp3"] == {API, VXLAN}
    assert len(tried(plan)) == 12
    assert {"port": 2380, "protocol": "tcp", "callers": ["cp2", "cp3"]} in plan["cp1"]["listen"]
    assert {each["port"] for each in plan["w1"]["listen"]} == {10250, 8472}
    assert [own["disk"] for own in plan.values()] == ["/var/lib/etcd"] * 3 + [""]
    assert plan["w1"]["resolvers"] == ["10.0.0.53"]
    assert {target["size"] for target in plan["w1"]["targets"]} == {1500}


@pytest.mark.parametrize(
    ("old", "seed", "callers"),
    [
        ((), "cp1", ["w1", "w2"]),
        ({"w1"}, "cp1", ["w2"]),
        ({"cp1"}, "cp1", None),
        ((), "", None),
    ],
    ids=["a new cluster", "who is in the cluster has its artefacts", "nobody listens on the seed yet", "no bundle"],
)
def test_new_hosts_must_reach_the_one_that_has_the_artefacts(
    old: t.Container[str], seed: str, callers: list[str] | None
) -> None:
    cluster = one_and_two()
    made, _nodes = cluster.layout()
    hosts = hosts_of(cluster, old, **({seed: {"seed": True}} if seed else {}))
    plan = reach.plan_reach(made, hosts, cluster.typed())
    listen = [each for own in plan.values() for each in own["listen"] if each["port"] == 6445]
    assert listen == ([] if callers is None else [{"port": 6445, "protocol": "tcp", "callers": callers}])
    assert [pair for pair, ports in tried(plan).items() if SEED in ports] == [(name, seed) for name in callers or ()]


def test_without_our_network_nothing_is_tried_for_it() -> None:
    assert ("w1", "w2") not in tried(planned(one_and_two(), network="none"))


def test_one_host_alone_only_looks_at_itself() -> None:
    plan = planned(Cluster({"cp1": "control_plane"}, probes={"cp1": bare("cp1")}))
    assert plan["cp1"]["targets"] == plan["cp1"]["listen"] == []
    assert plan["cp1"]["disk"]


def test_where_no_host_is_new_nothing_is_tried() -> None:
    assert planned(one_and_two(), old={"cp1", "w1", "w2"}) == {}


def test_a_new_host_connects_to_what_runs_and_listens_itself() -> None:
    cluster = one_and_two()
    cluster.probes["cp1"]["listening"] = cluster.probes["w1"]["listening"] = SERVING
    plan = planned(cluster, old={"cp1", "w1"})
    assert tried(plan) == {
        ("cp1", "w2"): {KUBELET, VXLAN},
        ("w1", "w2"): {VXLAN},
        ("w2", "cp1"): {API},
    }
    assert [port["answers"] for target in plan["w2"]["targets"] for port in target["ports"]] == [False]
    assert plan["cp1"]["listen"] == plan["w1"]["listen"] == []
    assert plan["cp1"]["disk"] == ""
    assert plan["w2"]["listen"] == [
        {"port": 8472, "protocol": "udp", "callers": ["cp1", "w1"]},
        {"port": 10250, "protocol": "tcp", "callers": ["cp1"]},
    ]


def test_the_port_of_a_component_that_is_down_is_left_alone() -> None:
    plan = planned(one_and_two(), old={"cp1", "w1"})
    assert ("w2", "cp1") not in tried(plan)
    assert plan["cp1"]["listen"] == []


def test_under_a_limit_only_what_serves_outside_is_tried() -> None:
    cluster = one_and_two()
    cluster.probes["cp1"]["listening"] = SERVING
    plan = planned(cluster, old={"cp1", "w1"}, outside={"cp1", "w1"})
    assert tried(plan) == {("w2", "cp1"): {API}}
    assert list(plan) == ["w2"]


EVERYBODY = {"cp1", "cp2", "cp3", "w1", "w2"}


def test_hosts_in_the_cluster_try_what_is_in_use_and_the_tunnel() -> None:
    found = ways(settled(three_and_one()), EVERYBODY)
    assert found["cp1", "cp2"] == {API, CLIENTS, PEERS, KUBELET, VXLAN}
    assert found["cp1", "w1"] == {KUBELET, VXLAN}
    assert found["w1", "cp3"] == {API, VXLAN}
    assert len(found) == 12


def test_the_tunnel_is_gone_through_to_where_it_ends() -> None:
    cluster = settled(one_and_two())
    made, _nodes = cluster.layout()
    (target,) = [each for each in reach.plan_ways(made, hosts_of(cluster, EVERYBODY))["cp1"] if each["host"] == "w2"]
    assert [(port["port"], port["through"]) for port in target["ports"]] == [(10250, ""), (8472, "10.244.2.0")]
    assert target["address"] == "10.0.0.52"


@pytest.mark.parametrize(
    ("changes", "pair", "ports"),
    [
        ({"w1": {"listening": frozenset()}}, ("cp1", "w1"), {VXLAN}),
        ({"w1": {"tunnel": ""}}, ("cp1", "w1"), {KUBELET}),
        ({"cp1": {"tunnel": ""}}, ("cp1", "w1"), {KUBELET}),
        ({"w1": {"forwards": False}}, ("cp1", "w1"), {KUBELET}),
        ({"w1": {"forwards": False}}, ("w1", "cp1"), {API, VXLAN}),
        ({"w1": {"kubelet": False}}, ("cp1", "w1"), None),
    ],
    ids=["component down", "no tunnel there", "no tunnel here", "forwards nothing", "but is heard", "no node"],
)
def test_what_is_another_finding_is_not_tried(
    changes: dict[str, t.Any], pair: tuple[str, str], ports: set[tuple[int, str]] | None
) -> None:
    assert ways(settled(one_and_two()), EVERYBODY, **changes).get(pair) == ports


def test_ways_are_tried_between_hosts_in_the_cluster_by_those_who_are_asked() -> None:
    assert ways(settled(one_and_two()), ()) == {}, "bare hosts"
    assert set(ways(settled(one_and_two()), {"cp1", "w1"})) == {("cp1", "w1"), ("w1", "cp1")}
    assert set(ways(settled(one_and_two()), EVERYBODY, {"cp1", "w1"})) == {("w2", "cp1"), ("w2", "w1")}


def test_a_large_cluster_tries_the_control_plane_and_some_neighbours() -> None:
    _layout, nodes = one_and_two().layout()
    hosts = {"cp1": reach.Host(nodes["cp1"], True, True, frozenset())}
    hosts |= {f"w{number:02}": reach.Host(nodes["w1"], True, True, frozenset()) for number in range(59)}
    assert reach.partners(hosts, "w10") == ["cp1", "w11", "w12", "w13"]
    assert reach.partners(hosts, "w58") == ["cp1", "w00", "w01"]
    assert len(reach.partners(hosts, "cp1")) == 59
    old = {name: dataclasses.replace(host, new=False) for name, host in hosts.items()}
    assert reach.partners(old, "w10", settled=True) == ["cp1", "w11", "w12", "w13"]
    assert reach.partners(old, "w10") == []
    few = dict(list(hosts.items())[: reach.FULL_MATRIX_HOSTS])
    assert len(reach.partners(few, "w10")) == reach.FULL_MATRIX_HOSTS - 1


@pytest.mark.parametrize(
    ("listener", "ports"),
    [
        ({"address": "*", "port": 6443}, {6443}),
        ({"address": "127.0.0.1", "port": 6444}, set()),
        ({"address": "10.0.0.11", "port": 10250, "process": PROCESS}, set()),
    ],
)
def test_what_a_host_serves(listener: dict[str, t.Any], ports: set[int]) -> None:
    probe = Probe.from_data(bare("cp1", listening=[{"protocol": "tcp", **listener}]))
    assert reach.served(probe) == ports
