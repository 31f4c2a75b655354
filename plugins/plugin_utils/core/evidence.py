# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this cluster new, and who speaks for it? Decided by what was seen on all hosts, never by the inventory's order."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member

from .probe import Probe
from .spec import ClusterSpec


@dataclasses.dataclass(frozen=True)
class Marks:
    """What a host's probe tells of its past.

    ``traces`` are the shared keys of which there is anything; ``shared`` maps those that are complete to their public
    fingerprint, ``complete`` says that this is all of them. Then etcd's two marks, the members as this host's etcd
    lists them (None if it does not answer), and whether the host's API server answers.
    """

    traces: frozenset[str] = frozenset()
    shared: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    complete: bool = False
    etcd_formed: bool = False
    etcd_intent: bool = False
    members: tuple[Member, ...] | None = None
    api_answers: bool = False


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The verdict.

    ``leader`` is the control-plane host that is asked and told things; ``generator`` the one host that may make what
    all share, if any may; ``holder`` the one that has it, or will have, and from which others get it; ``shared`` its
    fingerprints where it has it already; ``receiving`` are the hosts that lack some of it; ``bootstrap`` whether etcd
    may form a cluster; ``members`` those of the cluster that lives, empty if none does.
    """

    leader: str
    generator: str | None
    bootstrap: bool
    problems: tuple[Problem, ...] = ()
    holder: str = ""
    shared: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    receiving: frozenset[str] = frozenset()
    members: tuple[Member, ...] = ()


def judge(
    spec: ClusterSpec,
    probes: t.Mapping[str, Probe],
    marks: t.Mapping[str, Marks],
    outside: t.AbstractSet[str] = frozenset(),
) -> Evidence:
    """Weigh the probes; ``problems`` is everything that forbids going on. ``outside`` are hosts that nobody asked."""
    control_plane = [node.name for node in spec.control_plane]
    voters = sorted({*control_plane, *(node.name for node in spec.etcd_members)})
    answered = [name for name in control_plane if name in probes]
    holders = [name for name in answered if marks[name].traces]
    formed = [name for name in voters if name in probes and marks[name].etcd_formed]
    silent = [name for name in control_plane if name not in probes]
    members = _members(voters, marks)
    problems = _foreign(spec, probes, holders, known=not silent and not formed)
    problems += _disagreement(holders, marks)
    generator = None
    if holders or formed:
        leader = min(holders or answered or voters, key=lambda name: _rank(marks, name))
        holder = min(holders, key=lambda name: (not marks[name].complete, *_rank(marks, name)), default="")
        if not formed and not members:
            generator = _unfinished(holders, marks, problems)
        elif not members:
            problems += _no_quorum([node.name for node in spec.etcd_members], formed, marks)
    else:
        leader = holder = generator = min(answered, default=min(voters, default=""))
        problems += _not_provably_new(spec, [name for name in voters if name not in probes], outside)
    return Evidence(
        leader,
        generator,
        bootstrap=not formed and not members and all(name in probes for name in voters),
        problems=tuple(problems),
        holder=holder,
        shared=marks[holder].shared if holder in marks and marks[holder].complete else {},
        receiving=frozenset(
            name for name in voters if holder and name != holder and name in marks and not marks[name].complete
        ),
        members=members,
    )


def _rank(marks: t.Mapping[str, Marks], name: str) -> tuple[bool, bool, bool, str]:
    """The best host to ask comes first: one whose API answers, with a living etcd, with all keys."""
    own = marks.get(name, Marks())
    return (not own.api_answers, own.members is None, not own.complete, name)


def _members(voters: t.Sequence[str], marks: t.Mapping[str, Marks]) -> tuple[Member, ...]:
    """The member list of the host whose etcd sees most healthy members."""
    lists = [listed for name in voters if name in marks and (listed := marks[name].members)]
    return max(lists, key=lambda listed: sum(member.healthy for member in listed), default=())


def _unfinished(holders: list[str], marks: t.Mapping[str, Marks], problems: list[Problem]) -> str | None:
    """The host that goes on making keys: the only one that has begun, or one that has ended and handed them on."""
    complete = [name for name in holders if marks[name].complete]
    if complete:
        return min(complete)
    if len(holders) == 1:
        return holders[0]
    problems.append(
        Problem(
            ", ".join(holders),
            "hold parts of the cluster's keys, none of them all, and etcd has never formed",
            "one host at most that has begun to make them",
            "reset all of them but one and run again",
        )
    )
    return None


def _no_quorum(voters: t.Sequence[str], formed: t.Sequence[str], marks: t.Mapping[str, Marks]) -> list[Problem]:
    """A member that has nothing can join only where a quorum of the others answers."""
    bare = [name for name in voters if name in marks and not (marks[name].etcd_formed or marks[name].etcd_intent)]
    if not bare:
        return []
    return [
        Problem(
            ", ".join(bare),
            f"no member of etcd, and the members that were ({', '.join(formed)}) answer nothing: they have no quorum",
            f"{len(voters) // 2 + 1} of {len(voters)} members with their data, running and reachable",
            "bring back hosts that have etcd's data; where it is lost, restore etcd from a snapshot first",
        )
    ]


def _disagreement(holders: t.Sequence[str], marks: t.Mapping[str, Marks]) -> list[Problem]:
    """Shared keys that are not the same on all hosts; the cluster's own authority is looked at by ``_foreign``."""
    problems = []
    for item in sorted({item for name in holders for item in marks[name].shared} - {"kubernetes"}):
        found = {name: marks[name].shared[item] for name in holders if item in marks[name].shared}
        if len(set(found.values())) > 1:
            told = ", ".join(f"{name} has {found[name][:16]}…" for name in sorted(found))
            problems.append(
                Problem(
                    f"shared key {item}",
                    f"control-plane hosts hold different ones: {told}",
                    "the same on all of them",
                    "find out which one the cluster works with; reset the host that is wrong and run again",
                )
            )
    return problems


def _not_provably_new(spec: ClusterSpec, unheard: t.Sequence[str], outside: t.AbstractSet[str]) -> list[Problem]:
    absent = [name for name in unheard if spec.nodes[name].absent]
    unasked = [name for name in unheard if name in outside and name not in absent]
    silent = [name for name in unheard if name not in (*absent, *unasked)]
    problems = []
    if unasked:
        problems.append(
            Problem(
                ", ".join(unasked),
                "outside --limit and not known to run a cluster, so there is none to join",
                "a control-plane host that answers and has a cluster, or all of them in the first run",
                "run without --limit, or bring a control-plane host up",
            )
        )
    for names, why in ((silent, "did not answer"), (absent, "declared down (slipway_node_absent)")):
        if names:
            problems.append(
                Problem(
                    ", ".join(names),
                    f"{why}, so the cluster is not provably new: a cluster may live there",
                    "every control-plane and etcd host to answer before a first cluster is formed",
                    "bring them up, or take them out of the inventory",
                )
            )
    return problems


def _foreign(
    spec: ClusterSpec, probes: t.Mapping[str, Probe], holders: t.Sequence[str], *, known: bool
) -> list[Problem]:
    """Authorities that are not this cluster's: without Slipway's mark beside them, or not the same everywhere.

    ``known``: the whole control plane has answered and never formed, so that where it has no authority there is none.
    """
    own = {name: fingerprint for name in holders if (fingerprint := probes[name].authorities.get("kubernetes"))}
    problems = [
        _foreign_problem(name, own[name], "no authority, or one that Slipway made")
        for name in sorted(own)
        if probes[name].cluster is None
    ]
    if len(set(own.values())) > 1:
        found = ", ".join(f"{name} has {own[name][:16]}…" for name in sorted(own))
        problems.append(
            Problem(
                "certificate authority kubernetes",
                f"control-plane hosts hold different ones: {found}",
                "the same on all of them",
                "find out which cluster each belongs to and reset the one that is wrong",
            )
        )
    elif own or known:
        expected = next(iter(own.values()), None)
        for name, probe in sorted(probes.items()):
            carried = probe.authorities.get("kubernetes")
            if name in spec.nodes and name not in own and carried and carried != expected:
                wanted = f"{expected[:16]}…" if expected else "none, for the control plane has made none yet"
                problems.append(_foreign_problem(name, carried, wanted))
    return problems


def _foreign_problem(host: str, fingerprint: str, expected: str) -> Problem:
    return Problem(
        host,
        f"/etc/kubernetes/pki/ca.crt belongs to another cluster ({fingerprint[:16]}…)",
        expected,
        "reset that host, or take it out of this inventory; nothing was touched",
    )
