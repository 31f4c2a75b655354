# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Choosing an address range for a lab. Pure."""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError

# Private (RFC 1918), away from 10.0.0.0/8 where pods, Services and most sites' own networks are, and above the
# ranges that container engines take by default (172.17.0.0/16 and up).
POOL = ipaddress.IPv4Network("172.28.0.0/16")


def taken_networks(
    routes: t.Sequence[t.Mapping[str, t.Any]], networks: t.Sequence[t.Mapping[str, t.Any]]
) -> dict[ipaddress.IPv4Network, str]:
    """Address ranges in use and by what.

    ``routes`` is the output of ``ip -j -4 route show table all``, ``networks`` that of
    ``podman network ls --format json``.
    """
    taken: dict[ipaddress.IPv4Network, str] = {}
    for route in routes:
        network = _ipv4(str(route.get("dst", "")))
        if network is not None and network.prefixlen > 0:
            taken[network] = f"a route by way of {route.get('dev', 'an unknown device')}"
    for entry in networks:
        for subnet in entry.get("subnets") or ():
            network = _ipv4(str(subnet.get("subnet", "")))
            if network is not None:
                taken[network] = f"the container network {entry.get('name', '')}"
    return taken


def _ipv4(text: str) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None


def choose_subnet(wanted: str | None, taken: t.Mapping[ipaddress.IPv4Network, str]) -> str:
    """A free /24: the wanted one, or the first of the pool; SlipwayError says what is in the way."""
    if wanted is not None:
        network = ipaddress.IPv4Network(wanted)
        users = {other: user for other, user in taken.items() if network.overlaps(other)}
        if users:
            # Single addresses inside a range that is named anyway say nothing more.
            widest = [one for one in users if not any(one != other and one.subnet_of(other) for other in users)]
            found = f"{wanted} overlaps {', '.join(f'{other} ({users[other]})' for other in widest)}"
            raise SlipwayError(Problem("--subnet", found, "a free range", "leave it out, or name another /24"))
        return wanted
    for network in POOL.subnets(new_prefix=24):
        if not any(network.overlaps(other) for other in taken):
            return str(network)
    raise SlipwayError(
        Problem("address range", f"every /24 of {POOL} is taken", "a free one", "name a free /24 with --subnet")
    )
