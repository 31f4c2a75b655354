# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this cluster new, and who speaks for it? Decided by what was seen on all hosts, never by the inventory's order."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem

from .probe import Probe
from .spec import ClusterSpec


@dataclasses.dataclass(frozen=True)
class Marks:
    """What a host's probe tells of its past.

    ``traces`` are the shared keys of which there is anything; then etcd's two marks, and whether its API answers.
    """

    traces: frozenset[str] = frozenset()
    etcd_formed: bool = False
    etcd_intent: bool = False
    api_answers: bool = False


@dataclasses.dataclass(frozen=True)
class Evidence:
    """The verdict.

    ``leader`` is the control-plane host that is asked and told things; ``generator`` the one host that may make what
    all share, if any may; ``bootstrap`` whether etcd may form a cluster.
    """

    leader: str
    generator: str | None
    bootstrap: bool
    problems: tuple[Problem, ...] = ()


def judge(spec: ClusterSpec, probes: t.Mapping[str, Probe], marks: t.Mapping[str, Marks]) -> Evidence:
    """Weigh the probes; ``problems`` is everything that forbids going on."""
    control_plane = [node.name for node in spec.control_plane]
    voters = sorted({*control_plane, *(node.name for node in spec.etcd_members)})
    answered = [name for name in control_plane if name in probes]
    holders = [name for name in answered if marks[name].traces]
    formed = [name for name in voters if name in probes and marks[name].etcd_formed]
    silent = [name for name in control_plane if name not in probes]
    problems = _foreign(spec, probes, holders, known=not silent and not formed)
    if holders or formed:
        leader = min(holders or answered or voters, key=lambda name: (not _answers(marks, name), name))
        generator = None if formed else _unfinished(holders, problems)
    else:
        leader = generator = min(answered, default=min(voters, default=""))
        problems += _not_provably_new(voters, probes)
    bootstrap = not formed and all(name in probes for name in voters)
    return Evidence(leader, generator, bootstrap, tuple(problems))


def _answers(marks: t.Mapping[str, Marks], name: str) -> bool:
    return name in marks and marks[name].api_answers


def _unfinished(holders: list[str], problems: list[Problem]) -> str | None:
    if len(holders) == 1:
        return holders[0]
    problems.append(
        Problem(
            ", ".join(holders),
            "hold the cluster's keys, and etcd has never formed",
            "one host at most that has begun to make them",
            "reset all of them but one and run again",
        )
    )
    return None


def _not_provably_new(voters: t.Sequence[str], probes: t.Mapping[str, Probe]) -> list[Problem]:
    silent = [name for name in voters if name not in probes]
    if not silent:
        return []
    return [
        Problem(
            ", ".join(silent),
            "did not answer, so the cluster is not provably new: a cluster may live there",
            "every control-plane and etcd host to answer before a first cluster is formed",
            "bring them up, or take them out of the inventory",
        )
    ]


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
