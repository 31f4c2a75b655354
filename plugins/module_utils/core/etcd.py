# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One etcd member: how a new cluster forms, how a host joins one that lives, and how both go on after a cut.

What only matters before a member has formed stands in ``initial.env`` (the intent: members and unique token). It is
written before etcd first starts and removed when the member has formed, when the mark is written: a data directory
that is lost later must never make a member start a second cluster.

A host that is no member yet joins as a learner, which does not count for quorum, and is promoted once it is in sync
(etcd, "Learner design"). A member that has lost its data can never come back under its old id: it is removed first. So
is one that has this host's name and another peer URL: it was the machine whose place this one takes.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .change import Change
from .problems import Problem, SlipwayError
from .quorum import Member, Quorum, find_member, quorum_of, refuse_removal, refuse_stop, without
from .state import Absent, HostState, SeenState, Unit, plan_state

INITIAL = "/etc/etcd/initial.env"
FORMED = "/etc/etcd/formed"
DATA = "/var/lib/etcd/member"
UNIT = "etcd.service"
PROMOTE = "promote the learner"


@dataclasses.dataclass(frozen=True)
class EtcdWant:
    """The member.

    ``cluster`` maps the name of each host that is to be a member to its peer URL; ``token`` is unique to the cluster;
    ``bootstrap`` says that the whole cluster is known to be new. ``endpoints`` are client URLs of members that answer,
    ``members`` what they said, for a host that cannot ask yet; both are empty while no cluster lives.
    ``accept_quorum_loss`` lets this member be restarted while others are down, at the user's word.
    """

    state: HostState
    name: str
    cluster: t.Mapping[str, str]
    token: str = ""
    bootstrap: bool = False
    endpoints: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()
    accept_quorum_loss: bool = False

    @property
    def peer_url(self) -> str:
        """Where the others reach this member."""
        return self.cluster[self.name]

    @property
    def initial(self) -> str:
        """The content of ``initial.env`` of a member that forms a new cluster."""
        return self._intent(self.cluster, "new")

    def joining(self, members: t.Sequence[Member]) -> str:
        """The content of ``initial.env`` of one that joins those members.

        etcd compares peer URLs, not names, which may be empty or the same twice; so the others stand there by id.
        """
        others = {each.id: each.peer_urls[0] for each in members if self.peer_url not in each.peer_urls}
        return self._intent({**others, self.name: self.peer_url}, "existing")

    def _intent(self, members: t.Mapping[str, str], state: str) -> str:
        listed = ",".join(f"{name}={url}" for name, url in sorted(members.items()))
        return (
            f"ETCD_INITIAL_CLUSTER={listed}\n"
            f"ETCD_INITIAL_ADVERTISE_PEER_URLS={self.peer_url}\n"
            f"ETCD_INITIAL_CLUSTER_TOKEN={self.token}\n"
            f"ETCD_INITIAL_CLUSTER_STATE={state}\n"
        )


@dataclasses.dataclass(frozen=True)
class EtcdSeen:
    """The member as it is: whether its data directory holds a member, whether it formed, its unfinished intent.

    ``members`` is the member list by the word of a live cluster, None where this host cannot ask.
    """

    state: SeenState = SeenState()
    data: bool = False
    formed: bool = False
    initial: str = ""
    members: t.Optional[tuple[Member, ...]] = None


def plan_etcd(want: EtcdWant, seen: EtcdSeen) -> list[Change]:
    """The steps; SlipwayError when this member may not start a cluster, join one, or would cost it its quorum."""
    if want.name not in want.cluster:
        raise SlipwayError(Problem("cluster", f"{want.name} is not among {sorted(want.cluster)}", "this member's name"))
    members = want.members if seen.members is None else seen.members
    own = own_member(want, members)
    steps = plan_state(want.state, seen.state)
    if seen.formed and seen.data and (own or not members):
        # A run was killed between the mark and the removal of the intent.
        cut = [Change(f"remove {INITIAL}", data=Absent(INITIAL))] if seen.initial else []
        if not want.accept_quorum_loss:
            _refuse_restart(own, members, steps)
        return [*cut, *steps, *([_PROMOTION] if own and own.learner else [])]
    if seen.formed and seen.data:
        _refuse_move(want, members)
        return _join(want, dataclasses.replace(seen, data=False), steps, members, [_WIPE])
    if seen.data and not seen.initial and not seen.formed:
        raise SlipwayError(
            Problem(
                f"etcd member {want.name}",
                "there is data that Slipway did not make",
                "an empty data directory",
                "move the data away or reset the host",
            )
        )
    if members:
        return _join(want, seen, steps, members, [])
    if seen.formed:
        raise SlipwayError(
            Problem(
                f"etcd member {want.name}",
                "has formed before, but its data directory is empty, and no other member answers",
                "the member's data, or a living cluster that it can join again",
                "bring the other members back, or restore a snapshot",
            )
        )
    return _bootstrap(want, seen, steps)


_PROMOTION = Change(PROMOTE, data=("promote",))
_FORMED = Change("record that etcd has formed", data=("formed",))
_WIPE = Change("remove the data of a member that the cluster has removed", data=("wipe",))


def own_member(want: EtcdWant, members: t.Sequence[Member]) -> t.Optional[Member]:
    """This host's entry in the member list, by its peer URL: names are empty until a member has started."""
    return find_member(members, peer_url=want.peer_url)


def _split(steps: t.Sequence[Change]) -> tuple[list[Change], list[Change]]:
    """Files and directories, then what is done to the unit."""
    unit = [change for change in steps if isinstance(change.data, tuple)]
    return [change for change in steps if not isinstance(change.data, tuple)], unit


def _join(
    want: EtcdWant, seen: EtcdSeen, steps: list[Change], members: t.Sequence[Member], first: list[Change]
) -> list[Change]:
    """Become a member of a cluster that lives, or finish what a run that was cut had begun."""
    own = own_member(want, members)
    lost = own is not None and bool(own.client_urls) and not seen.data
    leaving = [(own, "remove the member that has lost its data")] if own is not None and lost else []
    for each in _namesakes(want, members):
        if each.healthy:
            raise SlipwayError(_still_there(each))
        leaving.append((each, f"remove the member that this host replaces, {_at(each)}"))
    changes, left = _take_out(leaving, members)
    others = [each for each in left if each is not own]
    if own is None or lost:
        _refuse_join(want, others)
        changes.append(Change("add the member as a learner", data=("add",)))
    files, unit = _split(steps)
    intent = want.joining(others)
    if not seen.data and seen.initial != intent:
        changes.append(
            Change("record the intent to join etcd", before=seen.initial, after=intent, data=("intent", intent))
        )
    if not seen.data and not any(change.data[0] in ("start", "restart") for change in unit):
        unit = [*unit, *(Change(f"restart {UNIT}", data=("restart", each)) for each in _units(want))]
    promotion = [_PROMOTION] if own is None or lost or own.learner else []
    return [*first, *files, *changes, *unit, *promotion, _FORMED]


def _namesakes(want: EtcdWant, members: t.Iterable[Member]) -> list[Member]:
    """The members that have this host's name and another peer URL."""
    return [each for each in members if each.name == want.name and want.peer_url not in each.peer_urls]


def _at(member: Member) -> str:
    return ", ".join(member.peer_urls)


def _take_out(
    leaving: t.Iterable[tuple[Member, str]], members: t.Sequence[Member]
) -> tuple[list[Change], tuple[Member, ...]]:
    """The steps that remove those members, each with its step's name, one after the other; and who is left."""
    changes, left = [], tuple(members)
    for member, name in leaving:
        problem = refuse_removal(left, member)
        if problem:
            raise SlipwayError(problem)
        changes.append(Change(name, data=("remove", member.id)))
        left = without(left, member)
    return changes, left


def _still_there(member: Member) -> Problem:
    return Problem(
        f"etcd member {member.text()}",
        f"another machine is to take its place, but it is healthy at {_at(member)}",
        "a member that is down or removed, or a new machine with a name of its own",
        "switch the old machine off for good; or take it out while the inventory still has its address: "
        f"slipway remove {member.text()}",
    )


def _refuse_move(want: EtcdWant, members: t.Iterable[Member]) -> None:
    """A member does not follow its host to another address, and its data is not thrown away unasked."""
    old = ", ".join(_at(each) for each in _namesakes(want, members))
    if old:
        raise SlipwayError(
            Problem(
                f"etcd member {want.name}",
                f"the host has the data of a member that etcd knows at {old}, and its address is {want.peer_url} now",
                "the address that the member has, or a bare host",
                f"give it back its address; or let it join anew: slipway remove {want.name}, then apply",
            )
        )


def _refuse_restart(own: t.Optional[Member], members: t.Sequence[Member], steps: t.Iterable[Change]) -> None:
    """While another member is down, restarting this one may cost the cluster its quorum for that time."""
    restarts = any(isinstance(change.data, tuple) and change.data[0] == "restart" for change in steps)
    problem = refuse_stop(members, own, "a restart") if restarts and own else None
    if problem:
        raise SlipwayError(problem)


def _units(want: EtcdWant) -> list[Unit]:
    return [unit for unit in want.state.units if unit.name == UNIT]


def _refuse_join(want: EtcdWant, others: t.Sequence[Member]) -> None:
    """A learner is added only to a cluster that keeps its quorum once it votes, and only one at a time."""
    where = f"etcd member {want.name}"
    waiting = [each.text() for each in others if each.learner]
    dead = sorted(each.text() for each in others if not (each.learner or each.healthy))
    problems = []
    if waiting:
        problems.append(
            Problem(
                where,
                f"{', '.join(waiting)} is a learner already",
                "one learner at a time",
                "let the run that adds it end, or remove it from the cluster",
            )
        )
    before = quorum_of(others)
    after = Quorum(before.voters + 1, before.healthy + 1)
    if not after.holds or any(name not in want.cluster for name in dead):
        problems.append(
            Problem(
                where,
                f"cannot be added while {', '.join(dead)} is down: before {before.text()}; after {after.text()}",
                "other members that are healthy, or that have been removed",
                "bring back what is down, or take it out first: slipway remove HOST",
            )
        )
    if problems:
        raise SlipwayError(problems)


def _bootstrap(want: EtcdWant, seen: EtcdSeen, steps: list[Change]) -> list[Change]:
    files, unit = _split(steps)
    intent = []
    if not seen.initial:
        if not (want.bootstrap and want.token):
            raise SlipwayError(
                Problem(
                    f"etcd member {want.name}",
                    "is bare and the cluster is not known to be new",
                    "every control-plane and etcd host reachable and bare",
                    "make all of them reachable, or restore the member that has the data",
                )
            )
        intent = [Change("record the intent to form etcd", after=want.initial, data=("intent", want.initial))]
    return [*files, *intent, *unit, _FORMED]
