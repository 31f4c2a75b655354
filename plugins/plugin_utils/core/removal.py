# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts leave the cluster, who does the work meanwhile, and what stands in the way.

Nothing is guessed: a host that cannot be reached is only given up when the user has declared it dead, and one that
answers is never treated as dead.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member


@dataclasses.dataclass(frozen=True)
class Host:
    """A host of the inventory: its Node, its parts, where its etcd member listens, and whether it answered.

    ``outside`` is whether nobody asked it, because it is not in the run's ``--limit``.
    """

    node: str
    kubelet: bool = False
    control_plane: bool = False
    etcd: bool = False
    peer_url: str = ""
    reachable: bool = False
    outside: bool = False


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for: names, whether silent hosts are dead, the cluster's name and what a person typed for it."""

    names: tuple[str, ...]
    dead: bool
    cluster: str
    confirm: str


@dataclasses.dataclass(frozen=True)
class Removal:
    """One host that leaves; ``known`` is whether the inventory has it, ``dead`` that it is not contacted.

    Its etcd member is the one at ``peer_url``, else the one of the Node's name.
    """

    host: str
    node: str
    known: bool
    dead: bool
    kubelet: bool
    control_plane: bool
    etcd: bool
    peer_url: str = ""


@dataclasses.dataclass(frozen=True)
class Farewell:
    """The removals in order, and on which hosts the work is done that concerns the cluster."""

    removals: tuple[Removal, ...]
    leader: str
    etcd_host: str


def plan_removals(
    request: Request,
    hosts: t.Mapping[str, Host],
    nodes: t.Mapping[str, t.Mapping[str, str]],
    helpers: t.Mapping[str, t.Sequence[str]],
    members: t.Sequence[Member] = (),
) -> Farewell:
    """Who leaves and who stays to do it; SlipwayError with everything in the way.

    ``nodes`` has the labels of the cluster's Nodes, ``members`` are those of etcd; ``helpers`` has the hosts that
    answered of the parts ``control_plane`` and ``etcd``, the best for the work first.
    """
    problems = [*_unconfirmed(request)]
    removals: list[Removal] = []
    for name in dict.fromkeys(request.names):
        found = _removal(name, request, hosts, nodes, members)
        (problems if isinstance(found, Problem) else removals).append(found)  # type: ignore[arg-type]
    if not request.names:
        problems.append(Problem("slipway_remove", "names no host", "the hosts to remove", "slipway remove HOST..."))
    leaving = {removal.host for removal in removals}
    leaders, voters = ([name for name in helpers[part] if name not in leaving] for part in ("control_plane", "etcd"))
    if removals and not (leaders and voters):
        problems.append(_nobody_left(removals))
    if problems:
        raise SlipwayError(problems)
    return Farewell(
        # Workers first: their pods may still move to nodes of the control plane.
        tuple(sorted(removals, key=lambda removal: (removal.control_plane or removal.etcd, removal.host))),
        leaders[0],
        voters[0],
    )


def notices(farewell: Farewell) -> list[Problem]:
    """What the user has to know and do afterwards, as warnings."""
    return [notice for removal in farewell.removals for notice in _notices(removal)]


def _notices(removal: Removal) -> t.Iterator[Problem]:
    where = removal.host
    if removal.known:
        yield Problem(
            where,
            "is still in the inventory; the next apply would make it part of the cluster again",
            remedy="take it out of the inventory and run apply, so that the other hosts forget it too",
            warning=True,
        )
    if removal.control_plane:
        yield Problem(
            where,
            "has held the keys of the cluster's authorities and the encryption key; who has its disk has the cluster",
            remedy="destroy its disk, for Slipway cannot rotate these keys yet"
            + ("; it was not contacted, so they are still on it" if removal.dead else ""),
            warning=True,
        )
    elif removal.etcd:
        yield Problem(
            where,
            "has held keys: that of etcd's authority, with which its data can be read and changed"
            + ("" if removal.known else ", and all of the cluster's if it was a control-plane host"),
            remedy="destroy its disk, for Slipway cannot rotate them yet"
            + ("; it was not contacted, so they are still on it" if removal.dead else ""),
            warning=True,
        )
    elif removal.dead:
        yield Problem(
            where,
            "was not contacted: what Slipway put there is still on it"
            + (", its kubelet's certificate included" if removal.kubelet else ""),
            remedy="run reset on it before it is used again, or erase its disk",
            warning=True,
        )


def _unconfirmed(request: Request) -> list[Problem]:
    if request.confirm == request.cluster:
        return []
    found = f"{request.confirm!r} was given for the cluster's name" if request.confirm else "it was not confirmed"
    return [
        Problem(
            "remove",
            found,
            "the cluster's name, since a removed host loses its data",
            "set slipway_remove_confirm to it, or add --confirm to slipway remove",
        )
    ]


def _removal(
    name: str,
    request: Request,
    hosts: t.Mapping[str, Host],
    nodes: t.Mapping[str, t.Mapping[str, str]],
    members: t.Sequence[Member],
) -> Removal | Problem:
    host = hosts.get(name)
    if host is None:
        return _stranger(name, request, hosts, nodes, members)
    if host.outside:
        return Problem(
            name,
            "is outside --limit, so nobody has looked whether it answers",
            "hosts inside the limit",
            "run it without --limit, or with this host in it",
        )
    if not host.reachable and not request.dead:
        return Problem(
            name,
            "cannot be reached, and nobody has said that it is dead",
            "a host that answers, or one that is switched off for good",
            "switch it on; or make sure that it is off for good and add --dead (slipway_remove_dead)",
        )
    return Removal(
        host=name,
        node=host.node,
        known=True,
        dead=not host.reachable,
        kubelet=host.kubelet,
        control_plane=host.control_plane,
        etcd=host.etcd,
        peer_url=host.peer_url,
    )


def _stranger(
    name: str,
    request: Request,
    hosts: t.Mapping[str, Host],
    nodes: t.Mapping[str, t.Mapping[str, str]],
    members: t.Sequence[Member],
) -> Removal | Problem:
    """A host that the inventory no longer has, by its Node's name, or by its etcd member's name or id."""
    owner = next((host for host, each in hosts.items() if each.node == name), None)
    if owner:
        return Problem(name, f"is the Node of host {owner}", "a host's name", f"name the host: {owner}")
    strangers = [each for each in members if name in (each.name, each.id)]
    if name not in nodes:
        return _strange_member(name, request, hosts, nodes, strangers)
    if not request.dead:
        return _perhaps_alive(name, "is a Node whose host is no longer in the inventory, so it cannot be contacted")
    control_plane = "node-role.kubernetes.io/control-plane" in nodes[name]
    return Removal(name, name, False, True, True, control_plane, control_plane or bool(strangers))


def _strange_member(
    name: str,
    request: Request,
    hosts: t.Mapping[str, Host],
    nodes: t.Mapping[str, t.Mapping[str, str]],
    found: t.Sequence[Member],
) -> Removal | Problem:
    """An etcd member without a Node: of a host for etcd alone, or one that has never started and has no name."""
    if not found:
        return Problem(
            name,
            "is neither a host of the inventory, nor a Node of the cluster, nor a member of its etcd",
            f"one of {', '.join(sorted({*hosts, *nodes}))}",
        )
    if len(found) > 1:
        ids = ", ".join(f"{each.id} at {' '.join(each.peer_urls)}" for each in found)
        return Problem(name, f"is the name of several etcd members: {ids}", "one member", "name it by its id")
    (member,) = found
    owner = next((host for host, each in hosts.items() if each.peer_url in member.peer_urls), None)
    if owner:
        return Problem(name, f"is the etcd member of host {owner}", "a host's name", f"name the host: {owner}")
    if member.healthy or not request.dead:
        state = "it is healthy" if member.healthy else "nobody has said that it is dead"
        urls = " ".join(member.peer_urls)
        return _perhaps_alive(name, f"is an etcd member ({urls}) whose host is not in the inventory, and {state}")
    return Removal(name, name, False, True, False, False, True, member.peer_urls[0])


def _perhaps_alive(name: str, found: str) -> Problem:
    return Problem(
        name,
        found,
        "a host in the inventory, or one that is switched off for good",
        "put it back into the inventory; or make sure that it is off for good and add --dead (slipway_remove_dead)",
    )


def _nobody_left(removals: t.Sequence[Removal]) -> Problem:
    return Problem(
        "remove",
        f"without {', '.join(removal.host for removal in removals)} no control-plane host and etcd member is left "
        "that can be reached",
        "at least one of each that stays",
        "add another control-plane host first; to take the whole cluster down, use slipway reset",
    )
