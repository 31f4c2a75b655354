# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every machine of a cluster is replaced in turn, until none of the first ones is left; a client goes on all the time.

The cluster has three control-plane hosts and two workers at any time. The first machine dies and is replaced under
another name; the others leave in order, and fresh machines come under the names and addresses that became free. The
client writes and reads ten times a second through the loopback proxy of a worker, which is the last one to be replaced.
"""

from __future__ import annotations

import collections.abc
import json
import typing as t
from pathlib import Path

import pytest

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import support
from tests.drills import using

WORKERS = ("w1", "w2")


@pytest.fixture(scope="module")
def lab() -> collections.abc.Iterator[Lab]:
    """Four machines that are or become control-plane hosts, and two workers."""
    with support.lab_of(support.lab_name("to"), control_plane=4, workers=2) as made:
        yield made


class Cluster:
    """Which of the lab's hosts are in the inventory now."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.lab, self.directory = lab, directory
        self.inventory = directory / "inventory.yml"

    def apply(self, *control_plane: str) -> None:
        """These are the control-plane hosts from now on; afterwards nothing is left to do and each has a member."""
        support.inventory_of(self.lab, {*control_plane, *WORKERS}, self.inventory)
        support.ansible_run(self.inventory, "apply").require()
        assert support.members(self.lab, control_plane[0]) == dict.fromkeys(control_plane, False)
        assert support.pending("-i", str(self.inventory)) == []
        print(f"members: {', '.join(control_plane)}", flush=True)

    def remove(self, host: str, *options: str) -> None:
        """Take a host out that is in the inventory still."""
        words = ("-i", str(self.inventory), "--confirm", self.lab.name, *options)
        said = support.slipway("remove", host, *words).require()
        print(f"removed: {host}", flush=True)
        if host not in WORKERS:
            assert "has held the keys" in said.out

    def births(self) -> dict[str, int]:
        """When each machine's disk was made, in seconds of the epoch."""
        return support.everywhere(
            self.lab, lambda host: int(support.on(self.lab, host, "stat", "-c", "%W", "/var/lib/dpkg"))
        )


def test_no_machine_of_the_first_ones_is_left(lab: Lab, tmp_path: Path) -> None:
    cluster = Cluster(lab, tmp_path)
    cluster.apply("cp1", "cp2", "cp3")
    authority = support.on(lab, "cp2", "cat", "/etc/kubernetes/pki/ca.crt")
    first = cluster.births()
    told: dict[str, t.Any] = {}
    using.install(lab, "w2", "cp2")
    with using.client(lab, "w2", told):
        labs.power(lab, ["cp1"], "off", cut=True)
        cluster.remove("cp1", "--dead")
        cluster.apply("cp2", "cp3", "cp4")
        labs.renew(lab, ["cp1"])
        for leaving, others in (("cp2", ("cp3", "cp4", "cp1")), ("cp3", ("cp4", "cp1", "cp2"))):
            cluster.remove(leaving)
            labs.renew(lab, [leaving])
            cluster.apply(*others)
        cluster.remove("cp4")
        labs.renew(lab, ["cp4"])
        cluster.apply("cp1", "cp2", "cp4")
        cluster.remove("w1")
        labs.renew(lab, ["w1"])
        cluster.apply("cp1", "cp2", "cp4")
    print(json.dumps(told))
    using.require_served(told)

    cluster.remove("w2")
    labs.renew(lab, ["w2"])
    cluster.apply("cp1", "cp2", "cp4")
    now = cluster.births()
    assert [host for host in ("cp1", "cp2", "cp4", *WORKERS) if now[host] <= max(first.values())] == []
    assert support.on(lab, "cp4", "cat", "/etc/kubernetes/pki/ca.crt") == authority
    support.slipway("verify", "-i", str(cluster.inventory)).require()
