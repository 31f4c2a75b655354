# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may leave, who works meanwhile, and that nobody is given up by guess."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.removal import (
    Farewell,
    Host,
    Request,
    notices,
    plan_removals,
)

ROLE = "node-role.kubernetes.io/control-plane"


def control(node: str, *, up: bool = True) -> Host:
    url = f"https://{node}:2380"
    return Host(node, kubelet=True, control_plane=True, etcd=True, peer_url=url, reachable=up)


HOSTS = {
    "cp1": control("cp1"),
    "cp2": control("cp2"),
    "cp3": control("cp3", up=False),
    "w1": Host("node-1", kubelet=True, reachable=True),
    "w2": Host("w2", kubelet=True),
}
NODES = {"cp1": {ROLE: ""}, "cp2": {ROLE: ""}, "cp3": {ROLE: ""}, "cp9": {ROLE: ""}, "node-1": {}, "w2": {}, "w9": {}}

MEMBERS = [
    Member("a1", "cp1", ("https://cp1:2380",), healthy=True),
    Member("b1", "e9", ("https://e9:2380",)),
    Member("b2", "e8", ("https://e8:2380",), healthy=True),
    Member("b3", "", ("https://e7:2380",), learner=True),
    Member("b4", "cp1", ("https://old:2380",)),
    Member("b5", "twin", ("https://t1:2380",)),
    Member("b6", "twin", ("https://t2:2380",)),
]


HELPERS = {"control_plane": ["cp1", "cp2"], "etcd": ["cp1", "cp2"]}


def removed(
    *names: str,
    dead: bool = False,
    confirm: str = "prod",
    hosts: t.Mapping[str, Host] = HOSTS,
    helpers: t.Mapping[str, t.Sequence[str]] = HELPERS,
) -> Farewell:
    return plan_removals(Request(names, dead, "prod", confirm), hosts, NODES, helpers, MEMBERS)


def test_workers_leave_first_and_nobody_who_leaves_works() -> None:
    farewell = removed("cp1", "w1", "w1")
    assert [removal.host for removal in farewell.removals] == ["w1", "cp1"]
    assert (farewell.leader, farewell.etcd_host) == ("cp2", "cp2")
    assert removed("w1").leader == "cp1"
    worker = farewell.removals[0]
    assert (worker.node, worker.dead, worker.control_plane, worker.known) == ("node-1", False, False, True)


@pytest.mark.parametrize(
    ("names", "control_plane", "etcd", "workers"),
    [
        (("w1",), ["cp2", "cp1"], ["cp1", "cp2"], ("cp2", "cp1")),
        (("cp1",), ["cp1", "cp4", "cp2"], ["cp1", "cp2", "cp4"], ("cp4", "cp2")),
        (("cp1",), ["cp4"], ["e1", "e2"], ("cp4", "e1")),
    ],
)
def test_the_best_of_those_who_stay_work(
    names: tuple[str, ...], control_plane: list[str], etcd: list[str], workers: tuple[str, str]
) -> None:
    farewell = removed(*names, helpers={"control_plane": control_plane, "etcd": etcd})
    assert (farewell.leader, farewell.etcd_host) == workers


@pytest.mark.parametrize("dead", [False, True])
@pytest.mark.parametrize("name", ["w1", "w2"])
def test_who_is_outside_the_limit_is_not_taken_for_silent(name: str, dead: bool) -> None:
    hosts = {**HOSTS, name: dataclasses.replace(HOSTS[name], outside=True)}
    with pytest.raises(SlipwayError) as caught:
        removed(name, dead=dead, hosts=hosts)
    (problem,) = caught.value.problems
    assert (problem.where, problem.found) == (name, "is outside --limit, so nobody has looked whether it answers")
    assert removed("cp1", hosts=hosts).leader == "cp2", "another one may go"


@pytest.mark.parametrize(
    ("names", "dead", "flags"),
    [
        (("w2",), True, [("w2", True, True)]),
        (("w1",), True, [("w1", False, True)]),
        (("cp3", "w9"), True, [("w9", True, False), ("cp3", True, True)]),
        (("cp9",), True, [("cp9", True, False)]),
    ],
)
def test_who_is_declared_dead_is_only_dead_if_silent(
    names: tuple[str, ...], dead: bool, flags: list[tuple[str, bool, bool]]
) -> None:
    farewell = removed(*names, dead=dead)
    assert [(removal.host, removal.dead, removal.known) for removal in farewell.removals] == flags


@pytest.mark.parametrize(
    ("names", "confirm", "found"),
    [
        (("w2",), "prod", ["w2: cannot be reached, and nobody has said that it is dead"]),
        (("w9",), "prod", ["w9: is a Node whose host is no longer in the inventory, so it cannot be contacted"]),
        (
            ("w7",),
            "prod",
            ["w7: is neither a host of the inventory, nor a Node of the cluster, nor a member of its etcd"],
        ),
        (("node-1",), "prod", ["node-1: is the Node of host w1"]),
        (("w1",), "", ["remove: it was not confirmed"]),
        (("w1",), "test", ["remove: 'test' was given for the cluster's name"]),
        ((), "prod", ["slipway_remove: names no host"]),
        (
            ("cp2", "cp1"),
            "prod",
            ["remove: without cp2, cp1 no control-plane host and etcd member is left that can be reached"],
        ),
        (
            ("w2", "w7"),
            "",
            [
                "remove: it was not confirmed",
                "w2: cannot be reached, and nobody has said that it is dead",
                "w7: is neither a host of the inventory, nor a Node of the cluster, nor a member of its etcd",
            ],
        ),
    ],
)
def test_refusals(names: tuple[str, ...], confirm: str, found: list[str]) -> None:
    with pytest.raises(SlipwayError) as caught:
        removed(*names, confirm=confirm)
    assert [f"{problem.where}: {problem.found}" for problem in caught.value.problems] == found


def test_what_is_left_to_do_is_said() -> None:
    texts = [notice.text() for notice in notices(removed("w1", "cp3", "w9", dead=True))]
    assert len(texts) == 4
    assert texts[0].startswith("w1: is still in the inventory")
    assert texts[1].startswith("w9: was not contacted")
    assert texts[2].startswith("cp3: is still in the inventory")
    assert texts[3].startswith("cp3: has held the keys")
    assert "so they are still on it" in texts[3]
    assert all(notice.warning for notice in notices(removed("cp1")))
    assert "destroy its disk, for Slipway cannot rotate" in notices(removed("cp1"))[1].remedy
    assert [notice.where for notice in notices(removed("w1"))] == ["w1"]


def test_a_node_of_a_lost_control_plane_host_has_held_keys_too() -> None:
    (notice,) = notices(removed("cp9", dead=True))
    assert "has held the keys" in notice.text()


def test_a_host_for_etcd_alone_has_held_keys_too() -> None:
    hosts = {**HOSTS, "e1": Host("e1", etcd=True, peer_url="https://e1:2380", reachable=True)}
    request = Request(("e1", "e9"), dead=True, cluster="demo", confirm="demo")
    told = {notice.where: notice for notice in notices(plan_removals(request, hosts, NODES, HELPERS, MEMBERS))}
    texts = {where: notice.text() for where, notice in told.items()}
    assert "has held keys: that of etcd's authority" in texts["e1"]
    assert "if it was a control-plane host" not in texts["e1"]
    assert "all of the cluster's if it was a control-plane host" in texts["e9"]
    assert "it was not contacted" in texts["e9"]


@pytest.mark.parametrize(
    ("name", "url"),
    [("e9", "https://e9:2380"), ("b1", "https://e9:2380"), ("b3", "https://e7:2380"), ("b4", "https://old:2380")],
    ids=["by name", "by id", "a learner without a name", "a dead member beside the host of its name"],
)
def test_a_member_without_host_and_node_leaves_etcd_alone(name: str, url: str) -> None:
    (removal,) = removed(name, dead=True).removals
    assert (removal.host, removal.peer_url, removal.dead) == (name, url, True)
    assert (removal.etcd, removal.kubelet, removal.control_plane, removal.known) == (True, False, False, False)


def test_the_member_of_a_host_is_found_by_its_peer_url() -> None:
    assert removed("cp3", dead=True).removals[0].peer_url == "https://cp3:2380"


@pytest.mark.parametrize(
    ("name", "dead", "found"),
    [
        ("e9", False, "whose host is not in the inventory, and nobody has said that it is dead"),
        ("e8", True, "whose host is not in the inventory, and it is healthy"),
        ("twin", True, "is the name of several etcd members: b5 at https://t1:2380, b6 at https://t2:2380"),
        ("a1", True, "is the etcd member of host cp1"),
    ],
)
def test_a_member_is_not_given_up_by_guess(name: str, dead: bool, found: str) -> None:
    with pytest.raises(SlipwayError) as caught:
        removed(name, dead=dead)
    (problem,) = caught.value.problems
    assert found in problem.found
    assert problem.remedy
