# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of hosts that do not reach each other, of slow disks and of silent resolvers."""

from __future__ import annotations

import dataclasses
import typing as t

from .problems import Problem

FSYNC_GOOD_SECONDS = 0.010
"""etcd's documentation asks for 99 % of its log's writes to be on disk within 10 ms."""
POD_OVERHEAD_BYTES = 50
PROCESS = "slipway-reach"
"""The listener's name, by which the next run knows it if it comes before the listener has ended."""
TUNNEL = "flannel.1"
"""The interface of flannel's VXLAN, whose number is 1 unless told otherwise."""
_IGNORE = "or leave it untried with slipway_ignore_preflight: [reach]"


@dataclasses.dataclass(frozen=True)
class Port:
    """A port of a target and what it is for; ``answers`` if one of our listeners is there.

    ``through`` is the target's address in the tunnel that ends at this port, where there is one already.
    """

    port: int
    protocol: str
    purpose: str
    answers: bool
    through: str = ""


@dataclasses.dataclass(frozen=True)
class Target:
    """A host to try; ``size`` is how large a packet to it may have to be, in bytes, headers included."""

    host: str
    address: str
    size: int
    ports: tuple[Port, ...]

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> Target:
        """The target from the module's parameter."""
        ports = tuple(Port(**port) for port in data["ports"])
        return cls(str(data["host"]), str(data["address"]), int(data["size"]), ports)


@dataclasses.dataclass(frozen=True)
class Listen:
    """A port to open, and who is going to call there."""

    port: int
    protocol: str
    callers: frozenset[str]

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> Listen:
        """The port from the module's parameter."""
        return cls(int(data["port"]), str(data["protocol"]), frozenset(data["callers"]))


def blocked(me: str, target: Target, port: Port, why: str) -> Problem:
    """From whom to whom, which port, what for."""
    return Problem(
        f"{me} to {target.host}",
        f"port {port.port}/{port.protocol} of {target.host} ({target.address}) cannot be reached from {me}: {why}",
        f"a free way for {port.purpose}",
        f"let it through on both hosts and between them (packet filter, security group, route), {_IGNORE}",
    )


def too_large(me: str, target: Target) -> Problem:
    """Packets of the size that pods may send are lost."""
    return Problem(
        f"{me} to {target.host}",
        f"packets of {target.size} bytes do not arrive at {target.host} ({target.address}) from {me}, small ones do",
        f"the pods' MTU of {target.size - POD_OVERHEAD_BYTES} and {POD_OVERHEAD_BYTES} bytes of the tunnel to fit",
        f"set slipway_network.mtu to the MTU of the path less {POD_OVERHEAD_BYTES}, {_IGNORE}",
    )


def slow_disk(me: str, path: str, seconds: float) -> list[Problem]:
    """A warning with the figure if the disk is slow for etcd."""
    if seconds <= FSYNC_GOOD_SECONDS:
        return []
    return [
        Problem(
            f"{path} on {me}",
            f"1 % of small writes took {seconds * 1000:.0f} ms or more to be on disk",
            f"less than {FSYNC_GOOD_SECONDS * 1000:.0f} ms, as etcd asks for",
            "give etcd a disk of its own, or a faster one; a slow one costs leaders in busy clusters",
            warning=True,
        )
    ]


def silent_resolvers(resolvers: t.Sequence[str]) -> list[Problem]:
    """A warning that names resolvers that do not answer; the same for all hosts that have them."""
    if not resolvers:
        return []
    return [
        Problem(
            "resolvers",
            f"no answer from {', '.join(resolvers)}",
            "a resolver that answers: the cluster's DNS asks the same ones",
            "correct it, or set slipway_dns.upstream",
            warning=True,
        )
    ]


def percentile(values: t.Sequence[float], share: float) -> float:
    """The value that this share of all does not exceed; the largest, where they are too few to leave one out."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]
