# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first apply, killed before and after every single change it makes: it goes on each time and converges.

The hosts are cut side by side: each dies at its own next point. That is some 300 runs, one after the other. For
machines with little time:

* SLIPWAY_CUTS=N ends after N runs that were cut.
* SLIPWAY_CUTS_PART=K/N takes every Nth point, from the Kth on: N runs of the drill, one after the other or on several
  machines, cut at every point once.
* SLIPWAY_CUTS_MODULES=pki,node takes the points in these modules only.
* SLIPWAY_CUTS_LAB=NAME keeps the lab and goes on with it next time, where the last time ended.
"""

from __future__ import annotations

import collections.abc
import os

import pytest

from slipway import lab as labs
from slipway.lab import Lab, LabSpec
from tests.cluster import cutting, support
from tests.cluster.cutting import Keys

# These work on many artefacts at once: one that is killed at the first may have done others too.
AT_ONCE = frozenset({"seed", "artifacts"})
# A run that finds nothing left to do, as after the cut before this one, records nothing.
RECORD = "slipway-record"


@pytest.fixture
def lab() -> collections.abc.Iterator[Lab]:
    """A control-plane host and a worker."""
    kept = os.environ.get("SLIPWAY_CUTS_LAB", "")
    if kept:
        yield labs.up(LabSpec(name=kept, workers=1, isolated=True), root=support.ROOT)
    else:
        with support.lab_of(support.lab_name("every"), workers=1) as made:
            yield made


def begun(lab: Lab) -> None:
    """Arm the points at which runs are to be cut, unless an earlier drill on this lab left some."""
    if cutting.still_armed(lab):
        return
    every = cutting.points(support.ansible_run(lab.inventory, "apply", "--check").require())
    assert len(every) > 200
    modules = os.environ.get("SLIPWAY_CUTS_MODULES", "").split(",")
    chosen = [cut for cut in every if cut.module in modules or modules == [""]]
    cutting.arm(lab, cutting.part_of(chosen, os.environ.get("SLIPWAY_CUTS_PART", "1/1")))


def test_a_first_apply_cut_at_every_change_converges(lab: Lab) -> None:
    most = int(os.environ.get("SLIPWAY_CUTS", "0"))
    keys = Keys(lab, lab.directory / "keys-seen.json")
    begun(lab)
    left, whole = cutting.until_whole(lab, lambda: support.ansible_run(lab.inventory, "apply"), keys.look, most)
    if not whole and os.environ.get("SLIPWAY_CUTS_LAB"):
        pytest.skip(f"{len(left)} points are left for the next time")
    cutting.disarm(lab)
    cutting.converge(lab, keys)
    missed = [str(cut) for cut in left if cut.module not in AT_ONCE and RECORD not in cut.change] if whole else []
    assert missed == [], "announced, but never come to"
