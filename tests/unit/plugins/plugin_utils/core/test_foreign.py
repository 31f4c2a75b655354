# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in a cluster and not in its inventory is said, and what is in order is not."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import NodeSeen, NodesSeen
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import SeenPath, SeenState, SeenUnit
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.foreign import foreign
from tests.unit.plugins.cluster import one_and_two

LAYOUT, SPEC = one_and_two().layout()[0], one_and_two().spec()
OURS = Member("1", "cp1", ("https://10.0.0.11:2380",), healthy=True)
STRANGER = Member("2", "old", ("https://10.0.0.99:2380",))
NODE = NodeSeen("w1", ready=True)
CONFLIST = '{"plugins": [{"ipam": {"ranges": [[{"subnet": "10.244.3.0/24"}]]}}]}'


def seen(*nodes: NodeSeen) -> NodesSeen:
    return NodesSeen(True, {node.name: node for node in nodes})


@pytest.mark.parametrize(
    ("members", "nodes", "found"),
    [
        ((OURS,), seen(NODE), []),
        ((), None, []),
        (
            (OURS, STRANGER),
            None,
            ["etcd member old: is no host of this inventory (https://10.0.0.99:2380); it does not answer"],
        ),
        (
            (dataclasses.replace(STRANGER, healthy=True),),
            None,
            ["etcd member old: is no host of this inventory (https://10.0.0.99:2380); it is healthy"],
        ),
        (
            (dataclasses.replace(STRANGER, name="cp1"),),
            None,
            [
                (
                    "etcd member cp1: is at https://10.0.0.99:2380, and the host of its name at 10.0.0.11; "
                    "it does not answer"
                )
            ],
        ),
        ((dataclasses.replace(OURS, healthy=False),), None, ["etcd member cp1: is not healthy"]),
        ((dataclasses.replace(OURS, healthy=False, learner=True),), None, []),
        ((), seen(NodeSeen("w9")), ["node w9: is no host of this inventory"]),
        ((), seen(NodeSeen("w1", unschedulable=True)), ["node w1: is cordoned: no new pod runs there"]),
    ],
)
def test_what_is_said(members: tuple[Member, ...], nodes: NodesSeen | None, found: list[str]) -> None:
    problems = foreign(SPEC, LAYOUT, members, nodes, {})
    assert [f"{problem.where}: {problem.found}" for problem in problems] == found
    assert all(problem.warning and problem.remedy for problem in problems)


@pytest.mark.parametrize(
    ("by", "found", "remedy"),
    [
        (None, "is cordoned: no new pod runs there", "kubectl uncordon w1, if nobody works on it"),
        (
            "maintain",
            "is cordoned by Slipway (maintain): no new pod runs there",
            "if nobody works on it: run slipway maintain again, which goes on and opens it; or kubectl uncordon w1",
        ),
        (
            "remove",
            "is cordoned by Slipway (remove): no new pod runs there",
            "if nobody works on it: run slipway remove w1 again, which goes on; or kubectl uncordon w1",
        ),
        (
            "firmware",
            "is cordoned by Slipway (firmware): no new pod runs there",
            "if nobody works on it: run again what closed it, which opens it; or kubectl uncordon w1",
        ),
    ],
)
def test_who_closed_a_node_and_the_way_out(by: str | None, found: str, remedy: str) -> None:
    (problem,) = foreign(SPEC, LAYOUT, (), seen(NodeSeen("w1", unschedulable=True, cordoned_by=by)), {})
    assert (problem.found, problem.remedy) == (found, remedy)
    assert foreign(SPEC, LAYOUT, (), seen(NodeSeen("w1", cordoned_by=by)), {}) == [], "a person has opened it"


def test_units_that_somebody_changed_are_named_with_the_files() -> None:
    files = ("/etc/systemd/system/kubelet.service.d/a.conf", "/etc/systemd/system/kubelet.service.d/b.conf")
    states = {
        "w1": SeenState(units={"kubelet.service": SeenUnit(drop_ins=files), "kube-proxy.service": SeenUnit()}),
        "cp1": SeenState(units={"etcd.service": SeenUnit(drop_ins=files[:1])}),
    }
    problems = foreign(SPEC, LAYOUT, (), None, states)
    assert [f"{problem.where}: {problem.found}" for problem in problems] == [
        f"cp1: etcd.service: is changed by {files[0]}, which is not Slipway's",
        f"w1: kubelet.service: is changed by {files[0]}, {files[1]}, which is not Slipway's",
    ]
    assert all(problem.warning and "restart " in problem.remedy for problem in problems)


@pytest.mark.parametrize(
    ("cidrs", "text", "found"),
    [
        (("10.244.3.0/24",), CONFLIST, []),
        (("10.244.4.0/24",), CONFLIST, ["node w1: has the pod network 10.244.4.0/24"]),
        (("10.244.4.0/24",), "", []),
        ((), CONFLIST, []),
    ],
)
def test_a_node_with_another_network_than_its_host(cidrs: tuple[str, ...], text: str, found: list[str]) -> None:
    states = {"w1": SeenState(paths={"/etc/cni/net.d/10-containerd-net.conflist": SeenPath("file", text=text)})}
    problems = foreign(SPEC, LAYOUT, (), seen(dataclasses.replace(NODE, pod_cidrs=cidrs)), states)
    assert [f"{problem.where}: {problem.found}".split(", and")[0] for problem in problems] == found
    assert all(problem.warning and "kubectl delete node w1" in problem.remedy for problem in problems)
    layout = dataclasses.replace(LAYOUT, network="none")
    assert foreign(SPEC, layout, (), seen(dataclasses.replace(NODE, pod_cidrs=cidrs)), states) == []


@pytest.mark.parametrize(
    ("kubelet", "named"),
    [
        ({}, "/etc/kubernetes/manifests/a.yaml, /etc/kubernetes/manifests/own/b.yaml"),
        (
            {"staticPodPath": "/etc/static"},
            "/etc/kubernetes/manifests/a.yaml, /etc/kubernetes/manifests/own/b.yaml",
        ),
        ({"staticPodPath": None}, "/etc/kubernetes/manifests/a.yaml, /etc/kubernetes/manifests/own/b.yaml"),
        ({"staticPodPath": "/etc/kubernetes/manifests/a.yaml"}, "/etc/kubernetes/manifests/own/b.yaml"),
        ({"staticPodPath": "/etc/kubernetes/manifests/"}, ""),
    ],
)
def test_static_pods_that_nobody_declared_are_named(kubelet: dict[str, str | None], named: str) -> None:
    manifests = "/etc/kubernetes/manifests"
    # Preflight names the second.
    files = [f"{manifests}/{name}" for name in ("a.yaml", "kube-apiserver.yaml", "own/b.yaml", ".keep")]
    found = {path: SeenPath("file") for path in (*files, "/etc/kubernetes/kubelet.yaml")}
    found |= {path: SeenPath("directory") for path in (manifests, f"{manifests}/own")}
    nodes = {**SPEC.nodes, "w1": dataclasses.replace(SPEC.nodes["w1"], kubelet=kubelet)}
    problems = foreign(dataclasses.replace(SPEC, nodes=nodes), LAYOUT, (), None, {"w1": SeenState(paths=found)})
    assert [(problem.where, problem.found.split(": ")[0]) for problem in problems] == ([("w1", named)] if named else [])
    assert all(problem.warning and "slipway_kubelet.staticPodPath" in problem.remedy for problem in problems)


@pytest.mark.parametrize(
    ("members", "name"),
    [
        ((OURS, STRANGER), "old"),
        ((OURS, dataclasses.replace(STRANGER, name="")), "2"),
        ((OURS, dataclasses.replace(STRANGER, name="cp1")), "2"),
        ((OURS, dataclasses.replace(STRANGER, name="w1")), "2"),
        ((OURS, STRANGER, dataclasses.replace(STRANGER, id="3")), "2"),
    ],
    ids=["named", "never started", "the name of a control-plane host", "the name of a worker", "the same name twice"],
)
def test_what_is_advised_names_the_one_that_is_meant(members: tuple[Member, ...], name: str) -> None:
    problem = foreign(SPEC, LAYOUT, members, None, {})[0]
    assert problem.remedy.endswith(f"take it out: slipway remove {name} --dead")
