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

KUBELET, VXLAN = (10250, "tcp"), (8472, "udp")
API, CLIENTS, PEERS = (6443, "tcp"), (2379, "tcp"), (2380, "tcp")
SERVING = [{"protocol": "tcp", "address": "*", "port": port} for port in (6443, 2379, 2380, 10250)]


def planned(
    cluster: Cluster, old: t.Container[str] = (), outside: t.Container[str] = (), **layout: t.Any
) -> dict[str, dict[str, t.Any]]:
    probes = cluster.typed()
    made, nodes = cluster.layout()
    hosts = {
        name: reach.Host(
            nodes[name], name not in old, True, reach.served(probes[name]) if name in old else frozenset(),
            name not in outside,
        )
        for name in probes
    }  # fmt: skip
    return reach.plan_reach(dataclasses.replace(made, **layout), hosts, probes)


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


def test_a_large_cluster_tries_the_control_plane_and_some_neighbours() -> None:
    _layout, nodes = one_and_two().layout()
    hosts = {"cp1": reach.Host(nodes["cp1"], True, True, frozenset())}
    hosts |= {f"w{number:02}": reach.Host(nodes["w1"], True, True, frozenset()) for number in range(59)}
    assert reach.partners(hosts, "w10") == ["cp1", "w11", "w12", "w13"]
    assert reach.partners(hosts, "w58") == ["cp1", "w00", "w01"]
    assert len(reach.partners(hosts, "cp1")) == 59
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
