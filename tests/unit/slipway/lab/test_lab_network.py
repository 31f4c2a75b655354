# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab's address range is free or refused."""

from __future__ import annotations

import ipaddress
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway.lab.network import POOL, choose_subnet, taken_networks


def test_routes_and_container_networks_count_as_taken_and_the_default_route_does_not() -> None:
    routes = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "0.0.0.0/0", "dev": "eth0"},
        {"dst": "192.0.2.0/24", "dev": "eth0"},
        {"type": "local", "dst": "172.28.0.1", "dev": "podman1"},
    ]
    networks: list[dict[str, t.Any]] = [
        {"name": "podman", "subnets": [{"subnet": "10.88.0.0/16"}]},
        {"name": "six", "subnets": [{"subnet": "fd00::/64"}]},
        {"name": "none"},
    ]
    taken = taken_networks(routes, networks)
    assert {str(network) for network in taken} == {"192.0.2.0/24", "172.28.0.1/32", "10.88.0.0/16"}
    assert "podman" in taken[ipaddress.IPv4Network("10.88.0.0/16")]


@given(st.sets(st.integers(0, 255), max_size=255), st.integers(0, 32))
def test_the_chosen_range_never_overlaps_a_taken_one(used: set[int], extra: int) -> None:
    taken = {ipaddress.IPv4Network(f"172.28.{third}.{extra}/32"): "x" for third in used}
    chosen = ipaddress.IPv4Network(choose_subnet(None, taken))
    assert chosen.subnet_of(POOL)
    assert not any(chosen.overlaps(other) for other in taken)
    assert chosen == ipaddress.IPv4Network(f"172.28.{min(set(range(256)) - used)}.0/24")


def test_a_wanted_range_is_taken_as_it_is_or_refused_with_what_is_in_the_way() -> None:
    taken = {
        ipaddress.IPv4Network("10.0.0.0/8"): "a route by way of tun0",
        ipaddress.IPv4Network("10.1.2.3/32"): "an address",
    }
    assert choose_subnet("192.168.9.0/24", taken) == "192.168.9.0/24"
    with pytest.raises(
        SlipwayError, match=r"10\.1\.2\.0/24 overlaps 10\.0\.0\.0/8 \(a route by way of tun0\); expected"
    ):
        choose_subnet("10.1.2.0/24", taken)


def test_a_full_pool_is_refused_with_a_remedy() -> None:
    with pytest.raises(SlipwayError, match="--subnet"):
        choose_subnet(None, {ipaddress.IPv4Network("172.16.0.0/12"): "a route"})
