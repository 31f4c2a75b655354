# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unfinished maintenance remembers in the cluster, so that the next run goes on where it was.

The ConfigMap ``kube-system/slipway-maintenance`` exists only while a maintenance is unfinished. It names the tasks by
their digest: other tasks are another maintenance. So is one that begins a day after the last one did what it could.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import typing as t

from .change import Change
from .manifests import ObjectRef
from .nodes import parse_time
from .problems import Problem

REF = ObjectRef("v1", "ConfigMap", "slipway-maintenance", "kube-system")
WAITS = datetime.timedelta(days=1)
"""How long after its beginning a maintenance waits for hosts that do not answer."""


@dataclasses.dataclass(frozen=True)
class Maintenance:
    """The digest of the tasks, when it began, the hosts that are to be maintained, and those of them that were.

    ``silent`` are those that did not answer in the last run.
    """

    tasks: str
    began: datetime.datetime
    hosts: frozenset[str] = frozenset()
    finished: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()

    @property
    def left(self) -> frozenset[str]:
        """The hosts whose turn is to come."""
        return self.hosts - self.finished

    @property
    def is_over(self) -> bool:
        """Whether no host is left."""
        return not self.left

    def is_past(self, moment: datetime.datetime) -> bool:
        """Whether it did what it could, and has waited long enough for the others."""
        return self.left <= self.silent and moment - self.began > WAITS


@dataclasses.dataclass(frozen=True)
class MaintenanceWant:
    """With ``finished``, these ``hosts`` are done; else they are to be, from the beginning if it is ``again``.

    ``cluster`` are all hosts that there are, if that is known: nobody waits for others. ``silent`` are those of
    ``hosts`` that do not answer, ``moment`` is the time, to the second.
    """

    tasks: str
    hosts: frozenset[str]
    moment: datetime.datetime
    finished: bool = False
    again: bool = False
    cluster: t.Optional[frozenset[str]] = None
    silent: frozenset[str] = frozenset()


def parse_maintenance(item: t.Optional[t.Mapping[str, t.Any]]) -> t.Optional[Maintenance]:
    """The maintenance that a ConfigMap holds; one that a person broke counts as none."""
    data = (item or {}).get("data") or {}
    try:
        began = parse_time(data["began"])
        groups = [frozenset(map(str, json.loads(data[key]))) for key in ("hosts", "finished", "silent")]
        return Maintenance(str(data["tasks"]), began, *groups) if began else None
    except (KeyError, TypeError, ValueError):
        return None


def object_of(maintenance: Maintenance, version: str = "") -> dict[str, t.Any]:
    """The ConfigMap; with the ``version`` that was read, one that was changed since is not overwritten."""
    item = REF.to_object()
    if version:
        item["metadata"]["resourceVersion"] = version
    return {
        **item,
        "data": {
            "tasks": maintenance.tasks,
            "began": f"{maintenance.began:%Y-%m-%dT%H:%M:%SZ}",
            "hosts": json.dumps(sorted(maintenance.hosts)),
            "finished": json.dumps(sorted(maintenance.finished)),
            "silent": json.dumps(sorted(maintenance.silent)),
        },
    }


def target(want: MaintenanceWant, seen: t.Optional[Maintenance]) -> t.Optional[Maintenance]:
    """What is to be remembered; None when nothing is left to do."""
    known = _known(want, seen)
    finished = known.finished | want.hosts if want.finished else known.finished
    silent = known.silent if want.finished else want.silent
    maintenance = Maintenance(want.tasks, known.began, known.hosts | want.hosts, finished, silent)
    return None if maintenance.is_over else maintenance


def _known(want: MaintenanceWant, seen: t.Optional[Maintenance]) -> Maintenance:
    """The maintenance that goes on; a new one if none does, or only hosts were left that are no more."""
    new = Maintenance(want.tasks, want.moment)
    if seen is None or seen.tasks != want.tasks or want.again or _is_past(want, seen):
        return new
    if want.cluster is None:
        return seen
    known = dataclasses.replace(seen, hosts=seen.hosts & want.cluster, finished=seen.finished & want.cluster)
    return new if known.is_over else known


def _is_past(want: MaintenanceWant, seen: Maintenance) -> bool:
    return not want.finished and seen.is_past(want.moment)


def plan_maintenance(want: MaintenanceWant, seen: t.Optional[Maintenance]) -> list[Change]:
    """The step, if there is one."""
    wanted = target(want, seen)
    if wanted == seen:
        return []
    name = "remember which hosts are maintained" if wanted else "forget the finished maintenance"
    return [Change(name, before=_text(seen), after=_text(wanted), data=wanted)]


def finished_before(want: MaintenanceWant, seen: t.Optional[Maintenance]) -> list[str]:
    """Those of the hosts that an earlier run has finished."""
    wanted = target(want, seen)
    return sorted(want.hosts & wanted.finished) if wanted and not want.finished else []


def report(want: MaintenanceWant, seen: t.Optional[Maintenance]) -> dict[str, list[str]]:
    """Which hosts are open once the step is carried out, and which are done; of a run that begins, ``before`` it."""
    wanted = target(want, seen)
    left = sorted(wanted.left) if wanted else []
    if not want.finished:
        return {"before": sorted(wanted.finished) if wanted else [], "done": [], "open": left}
    done = wanted.finished if wanted else (seen.hosts if seen else frozenset()) | want.hosts
    return {"before": [], "done": sorted(done), "open": left}


def notices(want: MaintenanceWant, seen: t.Optional[Maintenance]) -> list[Problem]:
    """What the user has to know of an earlier maintenance that was not finished, as warnings."""
    if seen is None or want.finished or want.again:
        return []
    left, passed = ", ".join(sorted(seen.left)), ", ".join(finished_before(want, seen))
    remedy = ""
    if seen.tasks != want.tasks:
        found = f"one with other tasks was not finished ({left} were left); this one takes its place, on every host"
    elif _is_past(want, seen):
        found = f"that of {_date(seen)} waits no longer for {left}; this is a new one, on every host"
    elif passed:
        found = f"goes on with that of {_date(seen)} and passes over {passed}, finished since then"
        remedy = "--again (slipway_maintain_again) starts over, on every host"
    else:
        return []
    return [Problem("maintenance", found, remedy=remedy, warning=True)]


def _date(maintenance: Maintenance) -> str:
    return f"{maintenance.began:%Y-%m-%d %H:%M} UTC"


def _text(maintenance: t.Optional[Maintenance]) -> str:
    if maintenance is None:
        return ""
    return "".join(
        f"{host}: {'finished' if host in maintenance.finished else 'open'}\n" for host in sorted(maintenance.hosts)
    )
