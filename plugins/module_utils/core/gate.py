# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be well before the next host may be disturbed, and what is not."""

from __future__ import annotations

import dataclasses
import typing as t

from .nodes import NodesSeen, unready
from .problems import Problem, SlipwayError
from .quorum import Member, find_member, lagging, quorum_of, refuse_stop


@dataclasses.dataclass(frozen=True)
class GateWant:
    """What is asked for: API servers by URL, Nodes by name, and paths that each Node answers through the API's proxy.

    ``etcd`` says whether the members of etcd are asked too; ``etcd_down`` are those that may be down, by name,
    and ``etcd_stops`` is the one that stops once the gate is passed, empty if none does.
    """

    etcd: bool = False
    etcd_down: tuple[str, ...] = ()
    etcd_stops: str = ""
    api_servers: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    node_paths: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class GateSeen:
    """Two looks at etcd, one after the other, and what everything else answered: a text where it is not well.

    ``etcd_error`` says why etcd could not be asked; ``answers`` and ``probes`` (by Node and path) are empty for what is
    well.
    """

    first: tuple[Member, ...] = ()
    second: tuple[Member, ...] = ()
    etcd_error: str = ""
    answers: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    nodes: NodesSeen = NodesSeen()
    probes: t.Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)


def faults(want: GateWant, seen: GateSeen) -> list[Problem]:
    """Everything that is not as it must be; empty when the gate is open.

    SlipwayError where everything is, and etcd would lose its quorum all the same: nobody waits for who may be down.
    """
    found = _etcd(want, seen) if want.etcd else []
    found += [
        Problem(
            f"API server {url}",
            seen.answers.get(url, "was not asked"),
            "200 from /readyz",
            "on that host see: systemctl status kube-apiserver, journalctl -u kube-apiserver",
        )
        for url in want.api_servers
        if seen.answers.get(url, "was not asked")
    ]
    found += [
        Problem(
            f"node {name}",
            reason,
            "a Node that is Ready",
            f"on {name} see: systemctl status kubelet containerd, journalctl -u kubelet",
        )
        for name, reason in sorted(unready(want.nodes, seen.nodes).items())
    ]
    found += [
        Problem(f"node {name}", f"{path}: {said}", "200", f"on {name} see: systemctl status kubelet kube-proxy")
        for (name, path), said in sorted(seen.probes.items())
        if said
    ]
    stops = find_member(seen.second, name=want.etcd_stops) if want.etcd_stops and not found else None
    refused = refuse_stop(seen.second, stops, "taking its host out of service") if stops else None
    if refused:
        raise SlipwayError(refused)
    return found


def _etcd(want: GateWant, seen: GateSeen) -> list[Problem]:
    if seen.etcd_error:
        return [Problem("etcd", seen.etcd_error, "members that answer", "on etcd's hosts see: systemctl status etcd")]
    arithmetic = quorum_of(seen.second).text()
    # One that has come back meanwhile counts for quorum, so it must be in sync like the others.
    forgiven = {member.text() for member in seen.second if not member.healthy} & set(want.etcd_down)
    found = [
        Problem(
            f"etcd member {name}",
            f"{fault} ({arithmetic})",
            "every voting member healthy and in sync",
            "on its host see: systemctl status etcd, journalctl -u etcd",
        )
        for name, fault in sorted(lagging(seen.first, seen.second).items())
        if name not in forgiven
    ]
    return found or ([] if seen.second else [Problem("etcd", "has no members", "members that answer")])
