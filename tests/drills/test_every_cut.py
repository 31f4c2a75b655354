# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first apply, killed before and after every single change it makes: it goes on each time and converges.

The engine makes one change right after the other, so a module of N changes can be cut at N + 1 points: before the
first, between each two (which is after the one and before the next), and after the last. The hosts are cut side by
side: each dies at its own next point. That is some 300 runs, one after the other. For machines with little time:

* SLIPWAY_CUTS=N ends after N runs that were cut.
* SLIPWAY_CUTS_PART=K/N takes every Nth point, from the Kth on: N runs of the drill, one after the other or on several
  machines, cut at every point once.
* SLIPWAY_CUTS_LAB=NAME keeps the lab and goes on with it next time, where the last time ended.
"""

from __future__ import annotations

import collections.abc
import os

import pytest

from slipway import lab as labs
from slipway.lab import Lab, LabSpec
from tests.cluster import cutting, support
from tests.cluster.cutting import Cut, Keys

# These work on many artefacts at once: one that is killed at the first may have done others too.
AT_ONCE = frozenset({"seed", "artifacts"})


def points(run: support.Run) -> list[Cut]:
    """Every point at which the run can be cut, from what each module of a run in check mode announced."""
    found = []
    for event in run.events:
        actions = support.actions_of([event])
        # A label's or taint's sentence goes on after its change's name.
        names = [action.text.partition(": ")[0] if action.module == "node" else action.text for action in actions]
        found += [Cut(action.host, action.module, name, "before") for action, name in zip(actions, names, strict=True)]
        found += [Cut(actions[-1].host, actions[-1].module, names[-1], "after")] if actions else []
    return found


def part_of(every: list[Cut], part: str) -> list[Cut]:
    """Every Nth point from the Kth on, host by host, for a part named ``K/N``."""
    first, step = (int(number) for number in part.split("/"))
    hosts = dict.fromkeys(cut.host for cut in every)
    return [cut for host in hosts for cut in [each for each in every if each.host == host][first - 1 :: step]]


def still_armed(lab: Lab) -> list[Cut]:
    """The points that no run has met yet."""
    return [cut for host in support.names(lab) for cut in cutting.armed(lab, host)]


@pytest.fixture
def lab() -> collections.abc.Iterator[Lab]:
    """A control-plane host and a worker."""
    kept = os.environ.get("SLIPWAY_CUTS_LAB", "")
    if kept:
        yield labs.up(LabSpec(name=kept, workers=1, isolated=True), root=support.ROOT)
    else:
        with support.lab_of(support.lab_name("every"), workers=1) as made:
            yield made


def begun(lab: Lab) -> list[Cut]:
    """The points at which runs are to be cut: those that an earlier drill on this lab left, or all, armed now."""
    left = still_armed(lab)
    if left:
        return left
    every = points(support.ansible_run(lab.inventory, "apply", "--check").require())
    assert len(every) > 200
    chosen = part_of(every, os.environ.get("SLIPWAY_CUTS_PART", "1/1"))
    cutting.arm(lab, chosen)
    return chosen


def test_a_first_apply_cut_at_every_change_converges(lab: Lab) -> None:
    most = int(os.environ.get("SLIPWAY_CUTS", "0"))
    keys = Keys(lab, lab.directory / "keys-seen.json")
    waiting = begun(lab)
    runs = 0
    while waiting:
        run = support.ansible_run(lab.inventory, "apply")
        left = still_armed(lab)
        met = [cut for cut in waiting if cut not in left]
        print(f"{run.seconds:5.1f} s, {len(left)} left: {', '.join(map(str, met))}", flush=True)
        keys.look()
        if run.code == 0:
            break
        assert met, f"failed by itself\n{run.problem_text()}\n{run.output()[-4000:]}"
        waiting = left
        runs += 1
        if runs == most and os.environ.get("SLIPWAY_CUTS_LAB"):
            pytest.skip(f"{len(left)} points are left for the next time")
        if runs == most:
            for host in support.names(lab):
                support.on(lab, host, "rm", "-f", cutting.FAULT)
            break
    cutting.converge(lab, keys)
    missed = [] if runs == most else [str(cut) for cut in waiting if cut.module not in AT_ONCE]
    assert missed == [], "announced, but never come to"
