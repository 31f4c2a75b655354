# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may leave, who works meanwhile, and that nobody is given up by guess."""

from __future__ import annotations

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.removal import (
    Farewell,
    Host,
    Request,
    notices,
    plan_removals,
)

ROLE = "node-role.kubernetes.io/control-plane"


def control(node: str, *, up: bool = True) -> Host:
    return Host(node, kubelet=True, control_plane=True, etcd=True, reachable=up)


HOSTS = {
    "cp1": control("cp1"),
    "cp2": control("cp2"),
    "cp3": control("cp3", up=False),
    "w1": Host("node-1", kubelet=True, reachable=True),
    "w2": Host("w2", kubelet=True),
}
NODES = {"cp1": {ROLE: ""}, "cp2": {ROLE: ""}, "cp3": {ROLE: ""}, "cp9": {ROLE: ""}, "node-1": {}, "w2": {}, "w9": {}}


def removed(*names: str, dead: bool = False, confirm: str = "prod", leader: str = "cp1") -> Farewell:
    return plan_removals(Request(names, dead, "prod", confirm), HOSTS, NODES, leader)


def test_workers_leave_first_and_nobody_who_leaves_works() -> None:
    farewell = removed("cp1", "w1", "w1")
    assert [removal.host for removal in farewell.removals] == ["w1", "cp1"]
    assert (farewell.leader, farewell.etcd_host) == ("cp2", "cp2")
    assert removed("w1").leader == "cp1"
    worker = farewell.removals[0]
    assert (worker.node, worker.dead, worker.control_plane, worker.known) == ("node-1", False, False, True)


def test_a_leader_that_does_not_answer_does_not_work() -> None:
    farewell = removed("w1", leader="cp3")
    assert (farewell.leader, farewell.etcd_host) == ("cp1", "cp1")


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
        (("w7",), "prod", ["w7: is neither a host of the inventory nor a Node of the cluster"]),
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
                "w7: is neither a host of the inventory nor a Node of the cluster",
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
    assert [notice.where for notice in notices(removed("w1"))] == ["w1"]


def test_a_node_of_a_lost_control_plane_host_has_held_keys_too() -> None:
    (notice,) = notices(removed("cp9", dead=True))
    assert "has held the keys" in notice.text()
