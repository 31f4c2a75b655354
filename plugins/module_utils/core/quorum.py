# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who is a member of an etcd cluster, who of them is healthy, and what a change of members does to quorum.

A cluster of n voting members commits with n // 2 + 1 of them (Raft); learners do not vote. etcd itself refuses a
removal after which fewer voters would be active than the smaller cluster needs (``mayRemoveMember`` in its server); the
same arithmetic is done here first, so that a plan can be refused in words before anything is touched.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .change import Change
from .problems import Problem, SlipwayError


@dataclasses.dataclass(frozen=True)
class Member:
    """A member of the cluster.

    ``id`` is hexadecimal as etcdctl wants it; ``name`` is empty until the member has started for the first time.
    ``healthy`` says that it answers and follows the leader of the newest term. ``index`` and ``applied`` are the
    last entries of Raft's log that it knows and that it has applied; ``errors`` are its alarms.
    """

    id: str
    name: str = ""
    peer_urls: tuple[str, ...] = ()
    client_urls: tuple[str, ...] = ()
    learner: bool = False
    healthy: bool = False
    leader: bool = False
    index: int = 0
    applied: int = 0
    errors: tuple[str, ...] = ()

    def text(self) -> str:
        """The member for a person: its name, or where it listens if it never started."""
        return self.name or " ".join(self.peer_urls) or self.id


@dataclasses.dataclass(frozen=True)
class Quorum:
    """The arithmetic of the voting members."""

    voters: int
    healthy: int

    @property
    def needed(self) -> int:
        """How many voters a decision needs."""
        return self.voters // 2 + 1

    @property
    def holds(self) -> bool:
        """Whether the cluster can decide."""
        return self.voters > 0 and self.healthy >= self.needed

    def text(self) -> str:
        """The arithmetic for a person."""
        return f"{self.voters} voting members, {self.healthy} healthy, quorum {self.needed}"


def parse_members(
    listing: t.Mapping[str, t.Any], status: t.Optional[t.Sequence[t.Mapping[str, t.Any]]]
) -> tuple[Member, ...]:
    """The members from the JSON of ``etcdctl member list`` and ``etcdctl endpoint status --cluster``, by name.

    ``endpoint status`` leaves out who does not answer; ids are numbers, or hexadecimal texts with ``--hex``.
    """
    answers = {_hex(_header(each).get("member_id", 0)): each["Status"] for each in status or () if each.get("Status")}
    # A leader was elected by a majority, so the one of the newest term is the true one and others are late to hear.
    claims = {int(answer.get("raftTerm", 0)): _hex(answer.get("leader", 0)) for answer in answers.values()}
    leader = next((claims[term] for term in sorted(claims, reverse=True) if claims[term] != "0"), "")
    members = [_member(item, answers.get(_hex(item["ID"])), leader) for item in listing.get("members") or ()]
    return tuple(sorted(members, key=lambda member: (member.name, member.peer_urls, member.id)))


def member_of(data: t.Mapping[str, t.Any]) -> Member:
    """A member from JSON data with the fields of Member; SlipwayError for a field it has not."""
    fields: dict[str, t.Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
    try:
        return Member(**fields)
    except TypeError as error:
        raise SlipwayError(Problem("members", str(error), "the fields of an etcd member")) from error


def find_member(members: t.Iterable[Member], *, peer_url: str = "", name: str = "") -> t.Optional[Member]:
    """The member at the peer URL, else the one of that name; None if there is neither."""
    known = list(members)
    at_url = [member for member in known if peer_url and peer_url in member.peer_urls]
    named = [member for member in known if name and member.name == name]
    return next(iter([*at_url, *named]), None)


def quorum_of(members: t.Iterable[Member]) -> Quorum:
    """The arithmetic of these members."""
    voters = [member for member in members if not member.learner]
    return Quorum(len(voters), sum(1 for member in voters if member.healthy))


def without(members: t.Iterable[Member], member: Member) -> tuple[Member, ...]:
    """The members that would be left."""
    return tuple(each for each in members if each.id != member.id)


def refuse_removal(members: t.Sequence[Member], member: Member) -> t.Optional[Problem]:
    """Why the member cannot be removed without losing quorum, with the arithmetic; None if it can.

    Removing a member needs quorum before, to be decided, and after, to go on.
    """
    where = f"etcd member {member.text()}"
    before = quorum_of(members)
    after = quorum_of(without(members, member))
    if not before.holds:
        return Problem(
            where,
            f"cannot be removed: etcd has no quorum now ({before.text()}; down: {_down(members)})",
            f"{before.needed} healthy members",
            "bring members back, or restore a snapshot",
        )
    if after.holds:
        return None
    if after.voters == 0:
        return Problem(
            where, "is the last voting member; without it the cluster and its data are gone", "another member"
        )
    return Problem(
        where,
        f"removing it would lose quorum: before {before.text()}; after {after.text()}; down: {_down(members)}",
        f"{after.needed} healthy members after the removal",
        f"remove or bring back first what is down: {_down(members)}",
    )


def refuse_stop(members: t.Sequence[Member], member: Member, what: str) -> t.Optional[Problem]:
    """Why ``what`` may not stop the member for a while, with the arithmetic; None if it may.

    Only what is down besides makes it a refusal: a cluster of one or two that is whole has no other way, and where
    there is no quorum there is none to lose.
    """
    now = quorum_of(members)
    if not member.healthy or member.learner or now.healthy == now.voters:
        return None
    then = Quorum(now.voters, now.healthy - 1)
    if then.holds or not now.holds:
        return None
    down = _down(members)
    return Problem(
        f"etcd member {member.text()}",
        f"{what} would lose quorum while {down} is down: now {now.text()}; meanwhile {then.text()}",
        f"{then.needed} other healthy members",
        f"bring back {down}, or take it out: slipway remove HOST; or let the API stand still meanwhile: "
        "slipway_accept_quorum_loss: true",
    )


def plan_removal(members: t.Sequence[Member], *, name: str, peer_url: str = "") -> list[Change]:
    """The step that takes the member out, none if there is no such member; SlipwayError if that would lose quorum."""
    member = find_member(members, name=name, peer_url=peer_url)
    if member is None:
        return []
    problem = refuse_removal(members, member)
    if problem:
        raise SlipwayError(problem)
    before, after = quorum_of(members).text(), quorum_of(without(members, member)).text()
    change = f"remove etcd member {member.text()}"
    return [Change(change, sentence=f"{change}: {before} -> {after}", data=member)]


def lagging(first: t.Sequence[Member], second: t.Sequence[Member]) -> dict[str, str]:
    """The voting members of ``second`` that are not healthy and in sync, each with what is wrong with it.

    In sync is who has applied, at the second look, every entry that any member knew at the first: so the measure does
    not depend on how many writes there are meanwhile.
    """
    known = max((member.index for member in first), default=0)
    found = {member.text(): _fault(member, known) for member in second if not member.learner}
    return {name: fault for name, fault in found.items() if fault}


def _fault(member: Member, known: int) -> str:
    if not member.healthy:
        return "does not answer, or follows no leader"
    if member.errors:
        return f"has alarms: {', '.join(member.errors)}"
    if member.applied < known:
        return f"is {known - member.applied} entries behind"
    return ""


def _down(members: t.Iterable[Member]) -> str:
    return ", ".join(member.text() for member in members if not member.learner and not member.healthy) or "none"


def _member(item: t.Mapping[str, t.Any], answer: t.Optional[t.Mapping[str, t.Any]], leader: str) -> Member:
    own = _hex(item["ID"])
    told = answer or {}
    return Member(
        id=own,
        name=str(item.get("name") or ""),
        peer_urls=tuple(sorted(item.get("peerURLs") or ())),
        client_urls=tuple(sorted(item.get("clientURLs") or ())),
        learner=bool(item.get("isLearner")),
        healthy=bool(leader) and _hex(told.get("leader", 0)) == leader,
        leader=own == leader,
        index=int(told.get("raftIndex", 0)),
        applied=int(told.get("raftAppliedIndex", 0)),
        errors=tuple(sorted(str(error) for error in told.get("errors") or ())),
    )


def _header(status: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    return t.cast("t.Mapping[str, t.Any]", status["Status"].get("header") or {})


def _hex(number: t.Union[int, str]) -> str:
    return number.lower() if isinstance(number, str) else f"{number:x}"
