# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts a play is for, by the inventory's groups and the names that slipway_groups gives them."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.filter.cluster_hosts import FilterModule, cluster_hosts

CLUSTER = {"slipway_control_plane": ["cp1"], "slipway_workers": ["w1"]}
DOCKER = {"slipway_docker": ["d1"]}


@pytest.mark.parametrize(
    ("groups", "options", "pattern"),
    [
        (CLUSTER, {}, "slipway_control_plane:slipway_workers"),
        (CLUSTER, {"target": "prod"}, "prod"),
        ({}, {}, "localhost"),
        ({**CLUSTER, **DOCKER}, {"role": "docker"}, "slipway_docker"),
        ({**CLUSTER, **DOCKER}, {"role": "docker", "target": "prod"}, "slipway_docker:&prod"),
        (CLUSTER, {"role": "docker"}, "!all"),
        ({**CLUSTER, **DOCKER}, {"alone": "docker"}, "slipway_control_plane:slipway_workers"),
        (DOCKER, {"alone": "docker"}, "!all"),
        (DOCKER, {}, "localhost"),
        ({**DOCKER, "slipway_workers": []}, {"alone": "docker"}, "!all"),
        ({"slipway_docker": [], "slipway_workers": []}, {"alone": "docker"}, "slipway_workers"),
        ({}, {"alone": "docker"}, "localhost"),
        (DOCKER, {"alone": "docker", "target": "prod"}, "prod"),
    ],
)
def test_the_pattern(groups: dict[str, list[str]], options: dict[str, str], pattern: str) -> None:
    hostvars: dict[str, dict[str, t.Any]] = {host: {} for hosts in groups.values() for host in hosts}
    assert FilterModule().filters()["cluster_hosts"](hostvars, groups, **options) == pattern


def test_groups_may_have_other_names() -> None:
    hostvars = {"d1": {"slipway_groups": {"docker": "builders"}}, "x": {}}
    groups = {"others": ["x"], "builders": ["d1"]}
    assert cluster_hosts(hostvars, groups, role="docker") == "builders"
    assert cluster_hosts(hostvars, groups, alone="docker") == "!all"
