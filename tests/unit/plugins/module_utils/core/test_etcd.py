# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When an etcd member may form a cluster, may go on, and must be refused."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import (
    INITIAL,
    EtcdSeen,
    EtcdWant,
    plan_etcd,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import Directory, File, HostState, Unit
from tests.unit.plugins.simulate import carry_out, names

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
    formed = before.formed or "formed" in verbs
    return EtcdSeen(
        state=carry_out(changes, before.state),
        data=before.data or "start" in verbs,
        formed=formed,
        initial="" if formed else (intents or [before.initial])[-1],
    )


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
        (WANT, EtcdSeen(formed=True), "its data directory is empty"),
        (WANT, EtcdSeen(formed=True, initial=WANT.initial), "its data directory is empty"),
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
