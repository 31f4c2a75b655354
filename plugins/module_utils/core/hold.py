# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the cluster: one run at a time changes it, and it leaves its name on the control-plane hosts.

A hold lives in the host's memory, so a power cut ends it, and a run takes it again before each batch of hosts. Modules
renew it where they run, from their beginning to their end. A run of the machine that asks is judged by its process and
by nothing else; of any other one all there is to see is when it was last active, and how long it said it may be silent.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from .problems import Problem, SlipwayError

PATH = "/run/slipway/hold"

SILENCE_SECONDS = 900
"""How long a run may be silent on a host that it holds, while it works on others."""

TASKS_SECONDS = 4 * 3600
"""What is added for tasks of the user's own, which renew nothing and take as long as they take."""


@dataclasses.dataclass(frozen=True)
class Hold:
    """One run's hold of one host.

    ``run`` tells runs apart and names the controller's process; ``by`` is the person and the controller, ``origin``
    the address they came from, ``verb`` what they do; ``since`` is in seconds since the epoch by the host's clock.
    ``silence`` is how many seconds without a sign of life end it.
    """

    run: str
    by: str = ""
    verb: str = ""
    since: int = 0
    origin: str = ""
    released: bool = False
    silence: int = SILENCE_SECONDS

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> Hold:
        """The hold from its JSON data; KeyError without a run."""
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(run=str(data["run"]), **{name: data[name] for name in names[1:] if name in data})

    def to_data(self) -> dict[str, t.Any]:
        """JSON data."""
        return dataclasses.asdict(self)

    @property
    def mark(self) -> str:
        """Which run this was and when it began: another mark means that somebody has been there."""
        return f"{self.run} {self.since}"

    def text(self) -> str:
        """For a person: what, who, since when and from where."""
        since = datetime.datetime.fromtimestamp(self.since, tz=datetime.timezone.utc)
        origin = f", from {self.origin}" if self.origin else ""
        return f"{self.verb or 'a run'} of {self.by or 'somebody'}{origin}, since {since:%Y-%m-%d %H:%M:%S} UTC"


@dataclasses.dataclass(frozen=True)
class Held:
    """A hold as it was seen: ``idle`` is how many seconds ago it was renewed, ``dead`` that its process is gone."""

    hold: Hold
    idle: int = 0
    dead: bool = False

    @classmethod
    def from_data(cls, data: t.Optional[t.Mapping[str, t.Any]]) -> t.Optional[Held]:
        """What the probe says of a host's hold; None where there is none."""
        if not data:
            return None
        return cls(Hold.from_data(data["hold"]), int(data.get("idle", 0)), bool(data.get("dead")))

    def to_data(self) -> dict[str, t.Any]:
        """JSON data."""
        return {"hold": self.hold.to_data(), "idle": self.idle, "dead": self.dead}

    def stops(self, run: str) -> bool:
        """Whether it keeps this run from changing anything."""
        if self.hold.run == run or self.hold.released or self.dead:
            return False
        return neighbour(self.hold.run, run) or self.idle < self.hold.silence


def neighbour(run: str, other: str) -> bool:
    """Whether they are of one machine, and so each knows if the other lives; not without the time it began."""
    machine, _unused, process = run.partition(" ")
    began = process.partition(" ")[2]
    return bool(began) and machine == other.partition(" ")[0]


def silence(*, tasks: bool, waits: t.Iterable[int] = ()) -> int:
    """How long a run may be silent that has these waits before it, in seconds, and perhaps tasks of the user's own."""
    return SILENCE_SECONDS + sum(waits) + (TASKS_SECONDS if tasks else 0)


def refusal(where: str, held: Held, run: str, *, warning: bool = False) -> Problem:
    """What a run is told that meets another's hold, as an error or, where it only looks, as a warning."""
    found = f"another run holds the cluster: {held.hold.text()}; last active {held.idle} s ago"
    if warning:
        return Problem(where, found, remedy="what is seen now may be half done", warning=True)
    if neighbour(held.hold.run, run):
        ends = f"it is process {held.hold.run.split()[1]} of this machine and ends with that"
    else:
        left = max(0, held.hold.silence - held.idle)
        ends = (
            f"without a sign of life its hold ends in {left} s; if you know that it is no more, "
            f"run slipway.cluster.release where it was started, or remove {PATH} on these hosts: {where}"
        )
    remedy = f"wait for it, or have slipway_hold_wait do so; {ends}"
    return Problem(where, found, "one run at a time that changes something", remedy)


def refusals(seen: t.Mapping[str, t.Optional[Held]], run: str, *, warning: bool) -> list[Problem]:
    """One refusal for each run that holds any of the hosts; ``seen`` is by host."""
    holders: dict[str, list[str]] = {}
    for host in sorted(seen):
        held = seen[host]
        if held is not None and held.stops(run):
            holders.setdefault(held.hold.run, []).append(host)
    found = []
    for hosts in holders.values():
        latest = min((held for held in map(seen.get, hosts) if held is not None), key=lambda held: held.idle)
        found.append(refusal(", ".join(hosts), latest, run, warning=warning))
    return found


def taken(want: Hold, held: t.Optional[Held], seen: t.Optional[str]) -> Hold:
    """The hold to write for a run; SlipwayError if another run has it, or has had it since the host was looked at.

    ``seen`` is the mark of the hold that the plan was made with, empty if there was none, None if there is no plan.
    """
    if held is None or held.hold.run == want.run:
        return want
    if held.stops(want.run):
        raise SlipwayError(refusal("control-plane hosts", held, want.run))
    if seen is not None and held.hold.mark != seen:
        raise SlipwayError(
            Problem(
                "cluster",
                f"has been changed since this run looked at it: {held.hold.text()}",
                "hosts as they were when the plan was made",
                "run it again",
            )
        )
    return want
