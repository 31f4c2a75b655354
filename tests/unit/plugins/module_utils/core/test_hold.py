# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is refused by whose hold, and what they are told."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.hold import (
    SILENCE_SECONDS,
    TASKS_SECONDS,
    Held,
    Hold,
    neighbour,
    refusals,
    silence,
    taken,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError

SINCE = 1_790_000_000
THEIRS = Hold("boot/pid 7 99", "ann@desk", "apply", SINCE, "10.0.0.1")
LONG = dataclasses.replace(THEIRS, silence=5000)
OURS = Hold("other/pid 8 100", "bob@lap", "maintain", SINCE + 60)
BESIDE = "boot/pid 9 101"


@pytest.mark.parametrize(
    ("held", "stops"),
    [
        (Held(THEIRS), True),
        (Held(THEIRS, idle=SILENCE_SECONDS - 1), True),
        (Held(THEIRS, idle=SILENCE_SECONDS), False),
        (Held(THEIRS, dead=True), False),
        (Held(dataclasses.replace(THEIRS, released=True)), False),
        (Held(LONG, idle=SILENCE_SECONDS), True),
        (Held(LONG, idle=5000), False),
        (Held(OURS), False),
        (Held(OURS, idle=SILENCE_SECONDS), False),
    ],
)
def test_a_living_hold_of_another_run_stops_this_one(held: Held, stops: bool) -> None:
    assert held.stops(OURS.run) is stops


@pytest.mark.parametrize(
    ("held", "stops"),
    [
        (Held(THEIRS, idle=SILENCE_SECONDS), True),
        (Held(THEIRS, idle=10**6), True),
        (Held(THEIRS, dead=True), False),
        (Held(dataclasses.replace(THEIRS, released=True)), False),
        (Held(dataclasses.replace(THEIRS, run="boot/pid 7 "), idle=SILENCE_SECONDS), False),
    ],
)
def test_a_run_of_the_same_machine_is_judged_by_its_process(held: Held, stops: bool) -> None:
    assert held.stops(BESIDE) is stops


@pytest.mark.parametrize(
    ("run", "other", "expected"),
    [
        ("boot/pid 7 99", "boot/pid 8 100", True),
        ("boot/pid 7 99", "boot 8 100", False),
        ("boot 7 99", "boot/pid 8 100", False),
        ("desk 7 ", "desk 8 ", False),
        ("desk", "desk 8 100", False),
        ("", "", False),
    ],
)
def test_runs_of_one_machine_know_each_other(run: str, other: str, expected: bool) -> None:
    assert neighbour(run, other) is expected


@pytest.mark.parametrize(
    ("tasks", "waits", "seconds"),
    [
        (False, [], SILENCE_SECONDS),
        (False, [1800, 1800], SILENCE_SECONDS + 3600),
        (True, [86400], SILENCE_SECONDS + TASKS_SECONDS + 86400),
    ],
)
def test_a_run_may_be_silent_for_as_long_as_it_has_to_wait(tasks: bool, waits: list[int], seconds: int) -> None:
    assert silence(tasks=tasks, waits=waits) == seconds


@pytest.mark.parametrize(
    ("held", "seen"),
    [
        (None, ""),
        (None, THEIRS.mark),
        (Held(OURS), ""),
        (Held(THEIRS, dead=True), THEIRS.mark),
        (Held(THEIRS, idle=SILENCE_SECONDS), THEIRS.mark),
        (Held(dataclasses.replace(THEIRS, released=True)), THEIRS.mark),
        (Held(dataclasses.replace(THEIRS, released=True)), None),
    ],
)
def test_what_is_free_or_ours_is_taken(held: Held | None, seen: str | None) -> None:
    assert taken(OURS, held, seen) == OURS


@pytest.mark.parametrize(
    ("held", "seen", "told"),
    [
        (Held(THEIRS, 12), THEIRS.mark, "apply of ann@desk, from 10.0.0.1, since 2026-09-21 14:13:20 UTC"),
        (Held(THEIRS), None, "one run at a time"),
        (Held(dataclasses.replace(THEIRS, released=True)), "", "has been changed since this run looked"),
        (Held(dataclasses.replace(THEIRS, released=True, since=SINCE + 1)), THEIRS.mark, "run it again"),
    ],
)  # fmt: skip
def test_what_another_run_holds_or_has_changed_meanwhile_is_refused(held: Held, seen: str | None, told: str) -> None:
    with pytest.raises(SlipwayError) as caught:
        taken(OURS, held, seen)
    assert told in str(caught.value)


def test_each_holder_is_named_once_with_its_hosts() -> None:
    third = Hold("boot/pid 9 101", since=SINCE)
    seen = {
        "cp2": Held(THEIRS, 30),
        "cp1": Held(THEIRS, 20),
        "cp3": Held(third),
        "w1": None,
        "w2": Held(OURS),
    }
    found = refusals(seen, OURS.run, warning=False)
    assert [(each.where, each.warning) for each in found] == [("cp1, cp2", False), ("cp3", False)]
    assert "last active 20 s ago" in found[0].found
    assert "ends in 880 s" in found[0].remedy
    assert "slipway.cluster.release where it was started" in found[0].remedy
    assert "remove /run/slipway/hold on these hosts: cp1, cp2" in found[0].remedy
    assert "a run of somebody, since" in found[1].found


def test_the_end_is_as_far_off_as_the_hold_says() -> None:
    (found,) = refusals({"cp1": Held(LONG, 1000)}, OURS.run, warning=False)
    assert "ends in 4000 s" in found.remedy


def test_a_run_of_the_same_machine_is_named_by_its_process() -> None:
    (found,) = refusals({"cp1": Held(THEIRS, 10**6)}, BESIDE, warning=False)
    assert "process 7 of this machine" in found.remedy
    assert "remove" not in found.remedy


def test_who_only_looks_is_warned() -> None:
    (found,) = refusals({"cp1": Held(THEIRS)}, OURS.run, warning=True)
    assert found.warning
    assert "half done" in found.remedy


def test_a_hold_survives_being_data() -> None:
    held = Held(LONG, 3, dead=True)
    assert Held.from_data(held.to_data()) == held
    assert Held.from_data(None) is None
    assert Hold.from_data({"run": "r", "unknown": 1}) == Hold("r", silence=SILENCE_SECONDS)
