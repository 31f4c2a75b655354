# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters of Debian 12, and of Debian 12 and 13 side by side."""

from __future__ import annotations

import typing as t

import pytest

from tests.cluster import support

ALL_12 = {"cp1": "debian-12", "w1": "debian-12"}
MIXED = {"cp1": "debian-13", "w1": "debian-12", "w2": "debian-13"}


@pytest.mark.parametrize("systems", [ALL_12, MIXED], ids=["all", "mixed"])
def test_hosts_of_debian_12_become_a_cluster_that_works(systems: t.Mapping[str, str]) -> None:
    with support.lab_of(support.lab_name("deb"), workers=len(systems) - 1, host_os=systems) as lab:
        first = support.ansible_run(lab.inventory, "apply").require()
        assert first.actions
        second = support.ansible_run(lab.inventory, "apply").require()
        assert {host: stats.changed for host, stats in second.stats.items()} == dict.fromkeys(systems, 0)
        support.slipway("verify", "-i", str(lab.inventory)).require()
        found = {
            node["metadata"]["name"]: node["status"]["nodeInfo"]["osImage"] for node in support.objects(lab, "nodes")
        }
    assert set(found) == set(systems)
    for host, system in systems.items():
        assert system.replace("debian-", "Debian GNU/Linux ") in found[host]
