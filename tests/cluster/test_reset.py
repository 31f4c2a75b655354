# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reset takes away what Slipway made, that and nothing else, and the hosts can be used again at once."""

from __future__ import annotations

import collections.abc
import os

import pytest

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import support


@pytest.fixture(scope="module", autouse=True)
def quiet_afterwards(lab: Lab) -> collections.abc.Iterator[None]:
    """These are the last tests of the shared lab: an idle cluster would slow down those of other labs."""
    yield
    if not os.environ.get("SLIPWAY_KEEP_LAB"):
        labs.power(lab, support.names(lab), "off", cut=True)


def test_reset_wants_to_be_confirmed(cluster: Lab) -> None:
    nodes = support.objects(cluster, "nodes")
    trees = ("/etc", "/usr/local", "/opt", "/root")
    before = support.fingerprints(cluster, *trees)
    said = support.slipway("reset", "-i", str(cluster.inventory)).require(1)
    assert "--confirm" in said.err
    said = support.slipway("reset", "-i", str(cluster.inventory), "--confirm", "another").require(1)
    assert cluster.name in said.out + said.err
    assert "another" in said.out + said.err
    assert [node["metadata"]["uid"] for node in support.objects(cluster, "nodes")] == [
        n["metadata"]["uid"] for n in nodes
    ]
    changed = support.difference(before, support.fingerprints(cluster, *trees))
    assert [line for line in changed if any(f": {tree}/" in line for tree in trees)] == []


@pytest.fixture(scope="module")
def reset(cluster: Lab) -> support.Said:
    """The cluster taken off all hosts, with a file beside it that is nobody's business."""
    for host in support.names(cluster):
        support.shell(cluster, host, "mkdir -p /srv/own && echo mine > /srv/own/file")
    return support.slipway("reset", "-i", str(cluster.inventory), "--confirm", cluster.name)


def test_reset_succeeds(reset: support.Said) -> None:
    reset.require()


def test_hosts_are_as_they_were_before_the_first_apply(
    cluster: Lab, bare: dict[str, support.Fingerprint], reset: support.Said
) -> None:
    reset.require()
    left = support.difference(bare, support.fingerprints(cluster))
    others = [line for line in left if " /srv" not in line]
    assert not others, "\n".join(others)
    assert len(left) > len(others), "the file that is not ours is still there"


def test_a_second_reset_finds_nothing_to_do(cluster: Lab, reset: support.Said) -> None:
    reset.require()
    again = support.ansible_run(
        cluster.inventory, "reset", extra_vars={"slipway_reset_confirm": cluster.name}
    ).require()
    assert {host: stats.changed for host, stats in again.stats.items()} == dict.fromkeys(support.names(cluster), 0)


def test_the_hosts_can_be_used_again_at_once(cluster: Lab, reset: support.Said) -> None:
    reset.require()
    support.ansible_run(cluster.inventory, "apply").require()
    assert support.settled(cluster) is None
    support.slipway("plan", "-i", str(cluster.inventory)).require()
