# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an etcd member may form a cluster, may go on, and must be refused."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import (
    INITIAL,
    EtcdSeen,
    EtcdWant,
    plan_etcd,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import Directory, File, HostState, Unit
from tests.unit.plugins.simulate import carry_out, names


def member(number: int, **changes: t.Any) -> Member:
    """A healthy voting member of the host cpN."""
    urls = [f"https://10.0.0.1{number}:{port}" for port in (2380, 2379)]
    own = Member(str(number), f"cp{number}", (urls[0],), (urls[1],), healthy=True)
    return dataclasses.replace(own, **changes)


CP1, CP2, CP3 = (member(number) for number in (1, 2, 3))
WANT = EtcdWant(
    HostState(
        directories=(Directory("/var/lib/etcd", "0700"),),
        files=(File("/etc/etcd/etcd.env", "x"),),
        units=(Unit("etcd.service", "d"),),
    ),
    "cp1",
    {"cp2": "https://10.0.0.12:2380", "cp1": "https://10.0.0.11:2380"},
    token="t1",
    bootstrap=True,
)
FRESH = [
    "create directory /var/lib/etcd",
    "write /etc/etcd/etcd.env",
    "record the intent to form etcd",
    "enable etcd.service",
    "start etcd.service",
    "record that etcd has formed",
]


def after(changes: list[Change], seen: EtcdSeen | None = None) -> EtcdSeen:
    """The member once the changes were carried out: a started etcd has data, the mark takes the intent's place."""
    before = seen or EtcdSeen()
    verbs = [change.data[0] for change in changes if isinstance(change.data, tuple)]
    intents = [change.data[1] for change in changes if isinstance(change.data, tuple) and change.data[0] == "intent"]
    wiped = "wipe" in verbs
    formed = (before.formed and not wiped) or "formed" in verbs
    return EtcdSeen(
        state=carry_out(changes, before.state),
        data=(before.data and not wiped) or "start" in verbs or "restart" in verbs,
        formed=formed,
        initial="" if "formed" in verbs else (intents or [before.initial])[-1],
        members=_members_after(changes, before.members),
    )


def _members_after(changes: t.Sequence[Change], before: tuple[Member, ...] | None) -> tuple[Member, ...] | None:
    """The member list once the changes were carried out by cp3."""
    if before is None:
        return None
    members = {member.id: member for member in before}
    own = next((member for member in before if CP3.peer_urls[0] in member.peer_urls), None)
    for change in changes:
        verb = change.data[0] if isinstance(change.data, tuple) else ""
        if verb == "remove":
            del members[change.data[1]]
        elif verb == "add":
            own = dataclasses.replace(CP3, id="f", name="", client_urls=(), learner=True, healthy=False)
        elif verb in ("start", "restart") and own:
            own = dataclasses.replace(own, name="cp3", client_urls=CP3.client_urls, healthy=True)
        elif verb == "promote" and own:
            own = dataclasses.replace(own, learner=False)
        if own and verb != "remove":
            members[own.id] = own
    return tuple(sorted(members.values(), key=lambda member: member.peer_urls))


DONE = after(plan_etcd(WANT, EtcdSeen()))


def test_the_intent_is_every_members_in_one_order() -> None:
    assert WANT.initial == (
        "ETCD_INITIAL_CLUSTER=cp1=https://10.0.0.11:2380,cp2=https://10.0.0.12:2380\n"
        "ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.11:2380\n"
        "ETCD_INITIAL_CLUSTER_TOKEN=t1\n"
        "ETCD_INITIAL_CLUSTER_STATE=new\n"
    )


def test_a_fresh_member_says_what_it_is_up_to_before_it_starts() -> None:
    assert names(plan_etcd(WANT, EtcdSeen())) == FRESH


def test_a_formed_member_has_nothing_to_do() -> None:
    assert plan_etcd(WANT, DONE) == []
    assert plan_etcd(dataclasses.replace(WANT, bootstrap=False, token=""), DONE) == []


@pytest.mark.parametrize("done", range(len(FRESH) + 1))
def test_a_bootstrap_cut_off_anywhere_is_finished_without_a_second_intent(done: int) -> None:
    first = plan_etcd(WANT, EtcdSeen())
    halfway = after(first[:done])
    # The cluster's id may be another one in the next run: an intent that was written stays.
    second = plan_etcd(dataclasses.replace(WANT, token="t2"), halfway)
    assert names(second) == FRESH[done:]
    finished = after(second, halfway)
    assert finished.formed
    assert plan_etcd(WANT, finished) == []


def test_an_intent_is_kept_even_when_hosts_went_silent_since() -> None:
    halfway = after(plan_etcd(WANT, EtcdSeen())[:4])
    assert halfway.initial == WANT.initial
    assert names(plan_etcd(dataclasses.replace(WANT, bootstrap=False), halfway)) == FRESH[4:]


def test_an_intent_left_beside_the_mark_is_removed() -> None:
    left = dataclasses.replace(DONE, initial=WANT.initial)
    assert names(plan_etcd(WANT, left)) == [f"remove {INITIAL}"]


def test_new_settings_restart_a_formed_member() -> None:
    state = HostState(files=(File("/etc/etcd/etcd.env", "y"),), units=(Unit("etcd.service", "e"),))
    changes = plan_etcd(dataclasses.replace(WANT, state=state), DONE)
    assert names(changes) == ["write /etc/etcd/etcd.env", "restart etcd.service"]


@pytest.mark.parametrize(
    ("want", "seen", "found"),
    [
        (WANT, EtcdSeen(formed=True), "its data directory is empty, and no other member answers"),
        (WANT, EtcdSeen(formed=True, initial=WANT.initial), "its data directory is empty, and no other member answers"),
        (WANT, EtcdSeen(data=True), "data that Slipway did not make"),
        (dataclasses.replace(WANT, bootstrap=False), EtcdSeen(), "not known to be new"),
        (dataclasses.replace(WANT, token=""), EtcdSeen(), "not known to be new"),
        (dataclasses.replace(WANT, name="cp9"), EtcdSeen(), "cp9 is not among ['cp1', 'cp2']"),
        (dataclasses.replace(WANT, name="cp9"), DONE, "cp9 is not among"),
    ],
)
def test_what_would_lose_or_hide_data_is_refused(want: EtcdWant, seen: EtcdSeen, found: str) -> None:
    with pytest.raises(SlipwayError) as caught:
        plan_etcd(want, seen)
    (problem,) = caught.value.problems
    assert found in problem.found
    assert problem.expected


# --- joining a cluster that lives ------------------------------------------------------------------------------------
JOIN = dataclasses.replace(
    WANT,
    name="cp3",
    cluster={"cp1": CP1.peer_urls[0], "cp2": CP2.peer_urls[0], "cp3": CP3.peer_urls[0]},
    bootstrap=False,
    endpoints=(CP1.client_urls[0], CP2.client_urls[0]),
    members=(CP1, CP2),
)
JOINING = [
    "create directory /var/lib/etcd",
    "write /etc/etcd/etcd.env",
    "add the member as a learner",
    "record the intent to join etcd",
    "enable etcd.service",
    "start etcd.service",
    "promote the learner",
    "record that etcd has formed",
]
DEAD = dataclasses.replace(CP3, healthy=False)


def test_a_new_host_joins_as_a_learner() -> None:
    # Where it cannot ask, what others have seen counts: check mode on a bare host says what will be done.
    assert names(plan_etcd(JOIN, EtcdSeen())) == JOINING
    assert names(plan_etcd(JOIN, EtcdSeen(members=(CP1, CP2)))) == JOINING


def test_who_joins_knows_the_others_and_never_says_that_the_cluster_is_new() -> None:
    assert JOIN.joining((CP1, CP2)) == (
        "ETCD_INITIAL_CLUSTER=1=https://10.0.0.11:2380,2=https://10.0.0.12:2380,cp3=https://10.0.0.13:2380\n"
        "ETCD_INITIAL_ADVERTISE_PEER_URLS=https://10.0.0.13:2380\n"
        "ETCD_INITIAL_CLUSTER_TOKEN=t1\n"
        "ETCD_INITIAL_CLUSTER_STATE=existing\n"
    )


@pytest.mark.parametrize("done", range(len(JOINING) + 1))
def test_a_join_cut_off_anywhere_is_finished_and_not_doubled(done: int) -> None:
    bare = EtcdSeen(members=(CP1, CP2))
    halfway = after(plan_etcd(JOIN, bare)[:done], bare)
    second = plan_etcd(JOIN, halfway)
    assert names(second) == JOINING[done:]
    finished = after(second, halfway)
    assert plan_etcd(JOIN, finished) == []
    assert finished.members is not None
    assert [each.learner for each in finished.members] == [False] * 3


def test_a_host_of_a_static_bootstrap_that_never_started_is_not_added_again() -> None:
    listed = dataclasses.replace(CP3, client_urls=(), healthy=False)
    expected = [name for name in JOINING if name not in ("add the member as a learner", "promote the learner")]
    assert names(plan_etcd(JOIN, EtcdSeen(members=(CP1, CP2, listed)))) == expected


@pytest.mark.parametrize("formed", [False, True], ids=["a new machine", "a lost disk"])
def test_a_member_without_its_data_is_removed_before_it_is_added_again(formed: bool) -> None:
    seen = EtcdSeen(formed=formed, members=(CP1, CP2, DEAD))
    changes = plan_etcd(JOIN, seen)
    assert names(changes) == [*JOINING[:2], "remove the member that has lost its data", *JOINING[2:]]
    assert plan_etcd(JOIN, after(changes, seen)) == []


MOVED = dataclasses.replace(
    DEAD, id="9", peer_urls=("https://10.0.0.99:2380",), client_urls=("https://10.0.0.99:2379",)
)
REPLACED = "remove the member that this host replaces, https://10.0.0.99:2380"
REPLACING = [*JOINING[:2], REPLACED, *JOINING[2:]]


def test_a_machine_with_another_address_takes_the_dead_ones_place() -> None:
    assert names(plan_etcd(JOIN, EtcdSeen(members=(CP1, CP2, MOVED)))) == REPLACING
    assert names(plan_etcd(dataclasses.replace(JOIN, members=(CP1, CP2, MOVED)), EtcdSeen())) == REPLACING


@pytest.mark.parametrize("done", range(len(REPLACING) + 1))
def test_a_replacement_cut_off_anywhere_is_finished(done: int) -> None:
    bare = EtcdSeen(members=(CP1, CP2, MOVED))
    halfway = after(plan_etcd(JOIN, bare)[:done], bare)
    second = plan_etcd(JOIN, halfway)
    assert names(second) == REPLACING[done:]
    finished = after(second, halfway)
    assert plan_etcd(JOIN, finished) == []
    assert finished.members is not None
    assert [each.peer_urls for each in finished.members] == [each.peer_urls for each in (CP1, CP2, CP3)]


def test_a_replacement_that_was_added_beside_the_dead_member_is_mended() -> None:
    """Its intent listed three members of four, and etcd did not start."""
    added = dataclasses.replace(CP3, id="f", name="", client_urls=(), learner=True, healthy=False)
    halfway = dataclasses.replace(DONE, data=False, formed=False, initial="x", members=(CP1, CP2, MOVED, added))
    changes = plan_etcd(JOIN, halfway)
    assert names(changes) == [REPLACED, "record the intent to join etcd", *names(changes)[2:]]
    assert changes[1].after == JOIN.joining((CP1, CP2, added))
    assert plan_etcd(JOIN, after(changes, halfway)) == []


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (EtcdSeen(members=(CP1, CP2, dataclasses.replace(MOVED, healthy=True))), "it is healthy at https://10.0.0.99"),
        (EtcdSeen(members=(CP1, MOVED)), "etcd has no quorum now (2 voting members, 1 healthy, quorum 2; down: cp3)"),
        (
            dataclasses.replace(DONE, members=(CP1, CP2, MOVED)),
            "data of a member that etcd knows at https://10.0.0.99:2380, and its address is https://10.0.0.13:2380 now",
        ),
    ],
    ids=["the old machine runs", "no quorum", "the old machine moved"],
)
def test_a_member_of_the_same_name_is_not_given_up_lightly(seen: EtcdSeen, found: str) -> None:
    with pytest.raises(SlipwayError) as caught:
        plan_etcd(JOIN, seen)
    (problem,) = caught.value.problems
    assert found in problem.found
    assert problem.expected
    assert problem.remedy


def test_a_member_that_runs_without_its_data_is_started_anew() -> None:
    running = dataclasses.replace(DONE, data=False, members=(CP1, CP2, DEAD))
    assert names(plan_etcd(JOIN, running)) == [
        "remove the member that has lost its data",
        "add the member as a learner",
        "record the intent to join etcd",
        "restart etcd.service",
        "promote the learner",
        "record that etcd has formed",
    ]


def test_a_host_that_was_removed_while_it_was_away_comes_back_empty() -> None:
    away = dataclasses.replace(DONE, members=(CP1, CP2))
    changes = plan_etcd(JOIN, away)
    assert names(changes)[0] == "remove the data of a member that the cluster has removed"
    assert "add the member as a learner" in names(changes)
    assert plan_etcd(JOIN, after(changes, away)) == []


def test_a_member_of_a_cluster_that_lives_has_nothing_to_do() -> None:
    assert plan_etcd(JOIN, dataclasses.replace(DONE, members=(CP1, CP2, CP3))) == []
    learner = dataclasses.replace(CP3, learner=True)
    assert names(plan_etcd(JOIN, dataclasses.replace(DONE, members=(CP1, CP2, learner)))) == ["promote the learner"]


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ((CP1, dataclasses.replace(CP2, healthy=False), DEAD), "etcd has no quorum now (3 voting members, 1 healthy"),
        ((CP1, member(4, learner=True)), "cp4 is a learner already"),
        ((dataclasses.replace(CP1, healthy=False), dataclasses.replace(CP2, healthy=False)), "before 2 voting members"),
        ((CP1, CP2, member(9, healthy=False)), "cannot be added while cp9 is down"),
    ],
    ids=["no quorum", "two learners", "all down", "down and not in the inventory"],
)
def test_a_join_that_would_risk_the_quorum_is_refused_with_the_numbers(members: tuple[Member, ...], found: str) -> None:
    with pytest.raises(SlipwayError) as caught:
        plan_etcd(JOIN, EtcdSeen(members=members))
    assert any(found in problem.found for problem in caught.value.problems)


def restarted(members: tuple[Member, ...], *, accept: bool = False) -> list[str]:
    """What is planned when the settings of cp3 have changed."""
    state = HostState(units=(Unit("etcd.service", "other"),))
    want = dataclasses.replace(JOIN, state=state, accept_quorum_loss=accept)
    return names(plan_etcd(want, dataclasses.replace(DONE, members=members)))


def test_a_member_is_restarted_only_if_quorum_stays() -> None:
    down = dataclasses.replace(CP2, healthy=False)
    assert restarted((CP1, CP2, CP3)) == restarted((CP3,)) == ["restart etcd.service"]
    assert restarted((CP1, CP2, DEAD)) == ["restart etcd.service"], "the one that is down is the one that is mended"
    assert restarted((CP3, down)) == ["restart etcd.service"], "there is no quorum to lose"
    with pytest.raises(SlipwayError) as caught:
        restarted((CP1, down, CP3))
    (problem,) = caught.value.problems
    assert problem.found == (
        "a restart would lose quorum while cp2 is down: now 3 voting members, 2 healthy, quorum 2; "
        "meanwhile 3 voting members, 1 healthy, quorum 2"
    )
    assert "slipway_accept_quorum_loss" in problem.remedy
    assert restarted((CP1, down, CP3), accept=True) == ["restart etcd.service"]
