# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is refused by whose hold, and what they are told."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.hold import (
    EXPIRES_SECONDS,
    Held,
    Hold,
    refusals,
    taken,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError

SINCE = 1_790_000_000
THEIRS = Hold("boot/pid 7 99", "ann@desk", "apply", SINCE, "10.0.0.1")
OURS = Hold("boot/pid 8 100", "bob@desk", "maintain", SINCE + 60)


@pytest.mark.parametrize(
    ("held", "stops"),
    [
        (Held(THEIRS), True),
        (Held(THEIRS, idle=EXPIRES_SECONDS - 1), True),
        (Held(THEIRS, idle=EXPIRES_SECONDS), False),
        (Held(THEIRS, dead=True), False),
        (Held(dataclasses.replace(THEIRS, released=True)), False),
        (Held(OURS), False),
    ],
)
def test_a_living_hold_of_another_run_stops_this_one(held: Held, stops: bool) -> None:
    assert held.stops(OURS.run) is stops


@pytest.mark.parametrize(
    ("held", "seen"),
    [
        (None, ""),
        (None, THEIRS.mark),
        (Held(OURS), ""),
        (Held(THEIRS, dead=True), THEIRS.mark),
        (Held(THEIRS, idle=EXPIRES_SECONDS), THEIRS.mark),
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
    assert "ends by itself in 880 s" in found[0].remedy
    assert "a run of somebody, since" in found[1].found


def test_who_only_looks_is_warned() -> None:
    (found,) = refusals({"cp1": Held(THEIRS)}, OURS.run, warning=True)
    assert found.warning
    assert "half done" in found.remedy


def test_a_hold_survives_being_data() -> None:
    held = Held(THEIRS, 3, dead=True)
    assert Held.from_data(held.to_data()) == held
    assert Held.from_data(None) is None
    assert Hold.from_data({"run": "r", "unknown": 1}) == Hold("r")
