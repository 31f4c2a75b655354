# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What keeps the gate shut, and that nothing else does."""

from __future__ import annotations

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.gate import GateSeen, GateWant, faults
from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import NodeSeen, NodesSeen
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member

URL = "https://10.0.0.11:6443"
READY = NodesSeen(known=True, nodes={"w1": NodeSeen("w1", ready=True)})
A = Member("a", "a", healthy=True, index=7, applied=7)
B = Member("b", "b", healthy=True, index=7, applied=7)
C = Member("c", "c", healthy=True, index=7, applied=7)
BACK = Member("b", "b", healthy=True, index=7, applied=5)
DOWN, ALSO_DOWN = Member("b", "b"), Member("a", "a")


@pytest.mark.parametrize(
    ("want", "seen", "found"),
    [
        (GateWant(), GateSeen(), []),
        (GateWant(), GateSeen(etcd_error="x", answers={URL: "x"}, nodes=READY), []),
        (
            GateWant(etcd=True, api_servers=(URL,), nodes=("w1",), node_paths=("/p",)),
            GateSeen((A, B), (A, B), answers={URL: ""}, nodes=READY, probes={("w1", "/p"): ""}),
            [],
        ),
        (GateWant(etcd=True), GateSeen(etcd_error="no answer"), ["etcd: no answer"]),
        (GateWant(etcd=True), GateSeen(), ["etcd: has no members"]),
        (
            GateWant(etcd=True),
            GateSeen((A, DOWN), (A, DOWN)),
            ["etcd member b: does not answer, or follows no leader (2 voting members, 1 healthy, quorum 2)"],
        ),
        (GateWant(etcd=True, etcd_down=("b",)), GateSeen((A, DOWN), (A, DOWN)), []),
        (
            GateWant(etcd=True, etcd_down=("b",)),
            GateSeen((DOWN, ALSO_DOWN), (DOWN, ALSO_DOWN)),
            ["etcd member a: does not answer, or follows no leader (2 voting members, 0 healthy, quorum 2)"],
        ),
        (
            GateWant(etcd=True, etcd_down=("b",)),
            GateSeen((A, BACK, C), (A, BACK, C)),
            ["etcd member b: is 2 entries behind (3 voting members, 3 healthy, quorum 2)"],
        ),
        (GateWant(etcd=True, etcd_stops="a"), GateSeen((A, B, C), (A, B, C)), []),
        (GateWant(etcd=True, etcd_stops="a"), GateSeen((A,), (A,)), []),
        (GateWant(etcd=True, etcd_stops="other"), GateSeen((A, B), (A, B)), []),
        (GateWant(etcd=True, etcd_stops="b", etcd_down=("b",)), GateSeen((A, DOWN, C), (A, DOWN, C)), []),
        (
            GateWant(etcd=True, etcd_stops="a"),
            GateSeen((A, DOWN, C), (A, DOWN, C)),
            ["etcd member b: does not answer, or follows no leader (3 voting members, 2 healthy, quorum 2)"],
        ),
        (GateWant(api_servers=(URL,)), GateSeen(), [f"API server {URL}: was not asked"]),
        (GateWant(api_servers=(URL,)), GateSeen(answers={URL: "status 500"}), [f"API server {URL}: status 500"]),
        (GateWant(nodes=("w1",)), GateSeen(), ["node w1: the API server does not answer"]),
        (GateWant(nodes=("w2",)), GateSeen(nodes=READY), ["node w2: has not registered with the API server"]),
        (GateWant(nodes=("w1",)), GateSeen(nodes=READY, probes={("w1", "/p"): "refused"}), ["node w1: /p: refused"]),
    ],
)
def test_faults(want: GateWant, seen: GateSeen, found: list[str]) -> None:
    assert [f"{problem.where}: {problem.found}" for problem in faults(want, seen)] == found


def test_a_member_that_etcd_cannot_do_without_is_refused_with_the_arithmetic() -> None:
    seen = (A, DOWN, C)
    with pytest.raises(SlipwayError) as caught:
        faults(GateWant(etcd=True, etcd_down=("b",), etcd_stops="a"), GateSeen(seen, seen))
    (problem,) = caught.value.problems
    assert problem.where == "etcd member a"
    assert problem.found == (
        "taking its host out of service would lose quorum while b is down: now 3 voting members, 2 healthy, quorum 2; "
        "meanwhile 3 voting members, 1 healthy, quorum 2"
    )
    assert problem.expected == "2 other healthy members"
    assert "slipway_accept_quorum_loss" in problem.remedy


def test_all_faults_are_named_at_once() -> None:
    want = GateWant(etcd=True, api_servers=(URL, URL + "1"), nodes=("w1", "w2"))
    seen = GateSeen(etcd_error="x", answers={URL: "y", URL + "1": "z"})
    assert len(faults(want, seen)) == 5
