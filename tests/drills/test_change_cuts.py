# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A control-plane host is added, changed and removed, and each run is cut: at every change, and by its power.

The tests walk through the life of one lab, in this order. Two control-plane hosts and a worker are there at first.
SLIPWAY_CUTS_PART=K/N takes every Nth point, from the Kth on, as in test_every_cut.py. SLIPWAY_SEED repeats the moments
of the power cuts, SLIPWAY_POWER_CUTS says how many there are.
"""

from __future__ import annotations

import collections.abc
import functools
import os
import random
import secrets
import time
import typing as t
from pathlib import Path

import pytest

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import cutting, support
from tests.cluster.cutting import Keys

NEW = "cp3"
CHANGED = {"slipway_apiserver_args": {"v": "1"}, "slipway_etcd": {"heartbeat_ms": 120}}
ALL = {"cp1": False, "cp2": False, NEW: False}
# An artefact that a run fetched before it died is there when the next one comes; pods leave a node at once.
AT_ONCE = frozenset({"seed", "artifacts", "drain"})
# These take no host's lock.
SHARED = frozenset({"drain", "gate"})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> collections.abc.Iterator[Lab]:
    """A cluster of two control-plane hosts and a worker, and a bare host that is to be the third."""
    with support.lab_of(support.lab_name("cc"), control_plane=3, workers=1) as made:
        first = support.inventory_of(made, {"cp1", "cp2", "w1"}, tmp_path_factory.mktemp("cc") / "inventory.yml")
        support.ansible_run(first, "apply").require()
        yield made


@pytest.fixture(scope="module")
def keys(lab: Lab) -> Keys:
    """What the first hosts made."""
    seen = Keys(lab)
    seen.look()
    return seen


def adding(lab: Lab, *options: str) -> support.Run:
    """Apply with the third host in the inventory."""
    return support.ansible_run(lab.inventory, "apply", *options)


def changing(lab: Lab, *options: str) -> support.Run:
    """Apply what restarts etcd and the API server of every host in turn."""
    return support.ansible_run(lab.inventory, "apply", *options, extra_vars=CHANGED)


def removing(lab: Lab, *options: str) -> support.Run:
    """Take the third host out."""
    asked = {"slipway_remove": [NEW], "slipway_remove_confirm": lab.name}
    return support.ansible_run(lab.inventory, "remove_node", *options, extra_vars=asked)


def cut_everywhere(lab: Lab, run: t.Callable[..., support.Run], look: t.Callable[[], None]) -> None:
    """Cut the run before and after every change that it announces, and let it come to its end."""
    every = cutting.points(run(lab, "--check").require())
    assert len(every) > 5
    cutting.arm(lab, cutting.part_of(every, os.environ.get("SLIPWAY_CUTS_PART", "1/1")))
    left, _whole = cutting.until_whole(lab, functools.partial(run, lab), look)
    cutting.disarm(lab)
    missed = [str(cut) for cut in left if cut.module not in AT_ONCE and not done_before(cut, every)]
    assert missed == [], "announced, but never come to"


def done_before(cut: cutting.Cut, every: t.Iterable[cutting.Cut]) -> bool:
    """Whether another module makes the same change first: in check mode both announce it."""
    return any((each.host, each.change) == (cut.host, cut.change) and each.module != cut.module for each in every)


def well(lab: Lab) -> None:
    """All three are members, nothing is left to do, and the cluster works."""
    assert support.members(lab) == ALL
    assert support.pending("-i", str(lab.inventory)) == []
    support.slipway("verify", "-i", str(lab.inventory)).require()


def test_a_host_that_is_added(lab: Lab, keys: Keys) -> None:
    cut_everywhere(lab, adding, keys.look)
    keys.look()
    well(lab)


def test_a_change_that_restarts_every_host_in_turn(lab: Lab, keys: Keys) -> None:
    adding(lab).require()
    cut_everywhere(lab, changing, keys.look)
    assert changing(lab).require().actions == ()
    assert support.members(lab) == ALL
    adding(lab).require()
    well(lab)


def test_a_host_that_is_removed(lab: Lab) -> None:
    adding(lab).require()
    cut_everywhere(lab, removing, lambda: None)
    assert support.members(lab) == {"cp1": False, "cp2": False}
    assert NEW not in {node["metadata"]["name"] for node in support.objects(lab, "nodes")}
    adding(lab).require()
    well(lab)


REMOVAL = {"slipway_remove": [NEW]}
WORK: tuple[tuple[str, dict[str, t.Any]], ...] = (
    ("remove_node", REMOVAL),
    ("apply", {}),
    ("apply", CHANGED),
    ("apply", {}),
)


def a_moment(run: support.Run, moments: random.Random) -> tuple[str, list[str]]:
    """A host on which the run works, and the modules by whose lock one sees that it is at this point or past it."""
    exclusive = [cut for cut in cutting.points(run) if cut.module not in SHARED]
    chosen = moments.choice(exclusive)
    own = [cut for cut in exclusive if cut.host == chosen.host]
    place = own.index(chosen)
    before = {cut.module for cut in own[:place]} - {chosen.module}
    return chosen.host, [module for module in dict.fromkeys(cut.module for cut in own[place:]) if module not in before]


def test_the_host_that_is_worked_on_loses_its_power(lab: Lab, tmp_path: Path) -> None:
    """A host leaves, comes back, and all are changed to and fro; the same work is then done again without a cut."""
    adding(lab).require()
    seed = os.environ.get("SLIPWAY_SEED") or secrets.token_hex(4)
    moments = random.Random(seed)  # noqa: S311  # moments, no secrets
    print(f"SLIPWAY_SEED={seed}")
    for turn in range(int(os.environ.get("SLIPWAY_POWER_CUTS", "10"))):
        playbook, extra = WORK[turn % len(WORK)]
        if extra == REMOVAL:
            extra = {**extra, "slipway_remove_confirm": lab.name}
        again = functools.partial(support.ansible_run, lab.inventory, playbook, extra_vars=extra)
        host, modules = a_moment(again("--check").require(), moments)
        wait = moments.uniform(0, 0.5)
        at_work = f"""grep -qE '"module": "({"|".join(modules)})"' {cutting.LOCK}"""
        with cutting.running(lab, tmp_path / "run", playbook, extra) as run:
            cutting.waits_for(lab, host, at_work)
            time.sleep(wait)
            assert run.poll() is None, "the run was over"
            labs.power(lab, [host], "cycle", cut=True)
            code = run.wait(timeout=900)
        what = f"{playbook} {extra}: {host} lost its power {wait:.2f} s after {modules[0]} was come to there"
        print(f"{what}; the run ended with {code}", flush=True)
        again().require()
        left = {name: False for name in ALL if name != NEW or playbook == "apply"}
        assert support.members(lab) == left
    adding(lab).require()
    support.wait_for("all is well", lambda: support.settled(lab), timeout=240)
    well(lab)
