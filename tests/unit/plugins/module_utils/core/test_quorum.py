# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No removal may lose quorum, and what etcdctl says is read right."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import (
    Member,
    Quorum,
    find_member,
    lagging,
    parse_members,
    plan_removal,
    quorum_of,
    refuse_removal,
    refuse_stop,
    without,
)

BIG = 0xFEDC_BA98_7654_3210


def members(text: str) -> tuple[Member, ...]:
    """One member for each letter: h healthy, d down, l and k learners of either kind."""
    return tuple(
        Member(f"{number:x}", f"m{number}", (f"https://10.0.0.{number}:2380",), (), each in "lk", each in "hl")
        for number, each in enumerate(text, start=1)
    )


def require_told(problem: Problem | None, number: int, parts: tuple[str, ...]) -> None:
    """The refusal names the member and has all parts; without parts there is none."""
    if not parts:
        assert problem is None
        return
    assert problem is not None
    assert problem.where == f"etcd member m{number}"
    for part in parts:
        assert part in problem.text()


@pytest.mark.parametrize(
    ("text", "number", "parts"),
    [
        ("hhh", 1, ()),
        ("hhd", 3, ()),
        (
            "hhd",
            1,
            ("before 3 voting members, 2 healthy, quorum 2", "after 2 voting members, 1 healthy, quorum 2", "m3"),
        ),
        ("hh", 1, ()),
        ("hd", 1, ("no quorum now (2 voting members, 1 healthy, quorum 2", "m2")),
        ("hd", 2, ("no quorum now",)),
        ("h", 1, ("last voting member",)),
        ("hl", 1, ("last voting member",)),
        ("hl", 2, ()),
        ("hk", 2, ()),
        ("hddl", 4, ("no quorum now (3 voting members, 1 healthy, quorum 2; down: m2, m3)",)),
        ("hhhhh", 5, ()),
        ("hhhdd", 1, ("before 5 voting members, 3 healthy, quorum 3; after 4 voting members, 2 healthy, quorum 3",)),
        ("hhhdd", 4, ()),
        ("hhhhd", 1, ()),
        ("d", 1, ("no quorum now",)),
    ],
)
def test_refusals_come_with_the_arithmetic(text: str, number: int, parts: tuple[str, ...]) -> None:
    known = members(text)
    require_told(refuse_removal(known, known[number - 1]), number, parts)


@given(st.text("hdlk", min_size=1, max_size=9), st.data())
def test_no_sequence_of_removals_loses_quorum(text: str, data: st.DataObject) -> None:
    known = members(text)
    while known:
        chosen = data.draw(st.sampled_from(known))
        if refuse_removal(known, chosen):
            break
        before, known = known, without(known, chosen)
        assert quorum_of(before).holds
        assert quorum_of(known).holds
        assert len(known) == len(before) - 1


@given(st.integers(1, 9), st.data())
def test_what_is_down_can_go_as_long_as_there_is_quorum(count: int, data: st.DataObject) -> None:
    down = data.draw(st.integers(1, count))
    known = members("h" * (count - down) + "d" * down)
    refused = refuse_removal(known, known[-1]) is not None
    assert refused == (count - down < count // 2 + 1)


@pytest.mark.parametrize(
    ("text", "number", "parts"),
    [
        ("h", 1, ()),
        ("hh", 1, ()),
        ("hhh", 2, ()),
        ("hhd", 3, ()),
        ("hdd", 1, ()),
        ("hhdl", 4, ()),
        ("hhhhd", 1, ()),
        (
            "hhd",
            1,
            ("now 3 voting members, 2 healthy, quorum 2", "meanwhile 3 voting members, 1 healthy", "m3 is down"),
        ),
        ("hhdl", 2, ("now 3 voting members, 2 healthy, quorum 2",)),
        ("hhhd", 1, ("now 4 voting members, 3 healthy, quorum 3; meanwhile 4 voting members, 2 healthy, quorum 3",)),
        ("hhhdd", 3, ("while m4, m5 is down", "expected 3 other healthy members")),
    ],
)
def test_a_member_stops_only_if_what_is_down_leaves_it_room(text: str, number: int, parts: tuple[str, ...]) -> None:
    known = members(text)
    require_told(refuse_stop(known, known[number - 1], "a restart"), number, parts)


@given(st.text("hdlk", min_size=1, max_size=9), st.data())
def test_no_stop_beside_one_that_is_down_loses_quorum(text: str, data: st.DataObject) -> None:
    known = members(text)
    chosen = data.draw(st.sampled_from(known))
    left = tuple(dataclasses.replace(each, healthy=False) if each is chosen else each for each in known)
    whole = all(each.healthy for each in known if not each.learner)
    lost = quorum_of(known).holds and not quorum_of(left).holds
    assert (refuse_stop(known, chosen, "a restart") is not None) == (lost and not whole)


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_quorum(voters: int, needed: int) -> None:
    assert Quorum(voters, needed).holds
    assert not Quorum(voters, needed - 1).holds
    assert Quorum(voters, voters).needed == needed


def test_nobody_has_quorum() -> None:
    assert not quorum_of(()).holds


def item(number: int, name: str = "", **more: t.Any) -> dict[str, t.Any]:
    url = {"peerURLs": [f"https://10.0.0.{number}:2380"]}
    return {"ID": BIG + number, **url, **({"name": name} if name else {}), **more}


def status(number: int, leader: int, term: int = 2, **more: t.Any) -> dict[str, t.Any]:
    header = {"cluster_id": 1, "member_id": BIG + number}
    told = {"header": header, "raftTerm": term, "leader": BIG + leader if leader else 0, **more}
    return {"Endpoint": f"https://10.0.0.{number}:2379", "Status": told}


def test_members_are_read_with_their_health() -> None:
    listing = {"members": [item(2, "b"), item(1, "a", clientURLs=["https://10.0.0.1:2379"]), item(3, isLearner=True)]}
    answers = [status(1, 1, raftIndex=9, raftAppliedIndex=8, errors=["NOSPACE"]), {"Endpoint": "x", "Status": None}]
    first, second, third = sorted(parse_members(listing, answers), key=lambda member: member.id)
    assert first == Member(
        f"{BIG + 1:x}",
        "a",
        ("https://10.0.0.1:2380",),
        ("https://10.0.0.1:2379",),
        healthy=True,
        leader=True,
        index=9,
        applied=8,
        errors=("NOSPACE",),
    )
    assert (second.name, second.healthy, second.leader) == ("b", False, False)
    assert (third.text(), third.learner, third.healthy) == ("https://10.0.0.3:2380", True, False)


def test_hexadecimal_ids_are_the_same_ids() -> None:
    listing = {"members": [item(1, "a")]}
    listing["members"][0]["ID"] = f"{BIG + 1:X}"
    (member,) = parse_members(listing, [status(1, 1)])
    assert (member.id, member.healthy) == (f"{BIG + 1:x}", True)


@pytest.mark.parametrize(
    ("answers", "healthy"),
    [
        ([status(1, 1), status(2, 1), status(3, 1)], "abc"),
        ([status(1, 1), status(2, 1)], "ab"),
        ([status(1, 0), status(2, 0), status(3, 0)], ""),
        ([status(1, 1, 2), status(2, 3, 3), status(3, 3, 3)], "bc"),
        ([status(1, 0, 9), status(2, 3, 3), status(3, 3, 3)], "bc"),
        ([], ""),
        (None, ""),
    ],
)
def test_who_follows_no_leader_or_an_old_one_is_not_healthy(
    answers: list[dict[str, t.Any]] | None, healthy: str
) -> None:
    known = parse_members({"members": [item(1, "a"), item(2, "b"), item(3, "c")]}, answers)
    assert "".join(member.name for member in known if member.healthy) == healthy


def test_no_members() -> None:
    assert parse_members({}, None) == ()


def test_a_member_is_found_by_its_url_before_its_name() -> None:
    known = members("hhh")
    assert find_member(known, peer_url="https://10.0.0.2:2380", name="m1") == known[1]
    assert find_member(known, peer_url="https://10.9.9.9:2380", name="m3") == known[2]
    assert find_member(known, name="m9") is None
    assert find_member((Member("1"),), name="") is None


def voter(name: str, *, healthy: bool = True, learner: bool = False, **more: t.Any) -> Member:
    return Member(name, name, healthy=healthy, learner=learner, **more)


@pytest.mark.parametrize(
    ("first", "second", "faults"),
    [
        ([voter("a", index=7)], [voter("a", index=900, applied=7)], {}),
        ([voter("a", index=7)], [voter("a", applied=9), voter("b", applied=3)], {"b": "is 4 entries behind"}),
        ([], [voter("a", healthy=False)], {"a": "does not answer, or follows no leader"}),
        ([], [voter("a", errors=("x", "y"))], {"a": "has alarms: x, y"}),
        ([voter("a", index=7)], [voter("a", applied=7), voter("b", learner=True, healthy=False)], {}),
    ],
)
def test_in_sync_is_who_has_all_that_was_known_before(
    first: list[Member], second: list[Member], faults: dict[str, str]
) -> None:
    assert lagging(first, second) == faults


def test_text_of_a_member() -> None:
    assert [Member("a1").text(), Member("a1", peer_urls=("u", "v")).text(), Member("a1", "n").text()] == [
        "a1",
        "u v",
        "n",
    ]


def test_a_removal_says_its_arithmetic_and_is_done_once() -> None:
    known = members("hhd")
    (change,) = plan_removal(known, name="m3")
    assert change.name == "remove etcd member m3"
    assert change.text() == (
        "remove etcd member m3: 3 voting members, 2 healthy, quorum 2 -> 2 voting members, 2 healthy, quorum 2"
    )
    assert plan_removal(without(known, change.data), name="m3") == []
    with pytest.raises(SlipwayError, match="would lose quorum"):
        plan_removal(known, name="", peer_url="https://10.0.0.1:2380")
