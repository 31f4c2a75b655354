# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Clusters of Debian 12, and of Debian 12 and 13 side by side."""

from __future__ import annotations

import json
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


def test_docker_and_a_registry_on_debian_12() -> None:
    systems = dict.fromkeys(("cp1", "docker1", "registry1"), "debian-12")
    own = {"slipway_secret_registry_password": "a-password-of-drills"}
    name = support.lab_name("deb")
    with support.lab_of(name, workers=0, docker=1, registry=1, host_os=systems, extra_vars=own) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        second = support.ansible_run(lab.inventory, "apply").require()
        assert {host: stats.changed for host, stats in second.stats.items()} == dict.fromkeys(systems, 0)
        assert "bookworm" in support.on(lab, "docker1", "cat", "/etc/os-release")
        said = support.slipway("verify", "--json", "-i", str(lab.inventory)).require()
        found = {check["aspect"]: check for check in json.loads(said.out)["checks"]}
    for aspect in ("docker build", "docker run", "docker restart policy", "docker push", "image from the registry"):
        assert (found[aspect]["ok"], found[aspect]["skipped"]) == (True, False), found[aspect]
