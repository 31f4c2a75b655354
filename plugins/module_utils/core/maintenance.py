# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an unfinished maintenance remembers in the cluster, so that the next run goes on where it was.

The ConfigMap ``kube-system/slipway-maintenance`` exists only while a maintenance is unfinished. It names the tasks by
their digest: other tasks are another maintenance.
"""

from __future__ import annotations

import dataclasses
import json
import typing as t

from .change import Change
from .manifests import ObjectRef

REF = ObjectRef("v1", "ConfigMap", "slipway-maintenance", "kube-system")


@dataclasses.dataclass(frozen=True)
class Maintenance:
    """The digest of the tasks, the hosts that are to be maintained, and those of them that were."""

    tasks: str
    hosts: frozenset[str] = frozenset()
    finished: frozenset[str] = frozenset()

    @property
    def is_over(self) -> bool:
        """Whether no host is left."""
        return self.hosts <= self.finished


@dataclasses.dataclass(frozen=True)
class MaintenanceWant:
    """With ``finished``, these ``hosts`` are done; else they are to be, from the beginning if it is ``again``.

    ``cluster`` are all hosts that there are, if that is known: nobody waits for others.
    """

    tasks: str
    hosts: frozenset[str]
    finished: bool = False
    again: bool = False
    cluster: t.Optional[frozenset[str]] = None


def parse_maintenance(item: t.Optional[t.Mapping[str, t.Any]]) -> t.Optional[Maintenance]:
    """The maintenance that a ConfigMap holds; one that a person broke counts as none."""
    data = (item or {}).get("data") or {}
    try:
        hosts, finished = (frozenset(map(str, json.loads(data[key]))) for key in ("hosts", "finished"))
        return Maintenance(str(data["tasks"]), hosts, finished)
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
            "hosts": json.dumps(sorted(maintenance.hosts)),
            "finished": json.dumps(sorted(maintenance.finished)),
        },
    }


def target(want: MaintenanceWant, seen: t.Optional[Maintenance]) -> t.Optional[Maintenance]:
    """What is to be remembered; None when nothing is left to do."""
    known = _known(want, seen)
    finished = known.finished | want.hosts if want.finished else known.finished
    maintenance = Maintenance(want.tasks, known.hosts | want.hosts, finished)
    return None if maintenance.is_over else maintenance


def _known(want: MaintenanceWant, seen: t.Optional[Maintenance]) -> Maintenance:
    """The maintenance that goes on; a new one if none does, or only hosts were left that are no more."""
    if seen is None or seen.tasks != want.tasks or want.again:
        return Maintenance(want.tasks)
    if want.cluster is None:
        return seen
    known = Maintenance(seen.tasks, seen.hosts & want.cluster, seen.finished & want.cluster)
    return Maintenance(want.tasks) if known.is_over else known


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
    """Which hosts are done, and which are open, once the step is carried out."""
    wanted = target(want, seen) or Maintenance(want.tasks, *[(seen.hosts if seen else frozenset()) | want.hosts] * 2)
    return {"done": sorted(wanted.finished), "open": sorted(wanted.hosts - wanted.finished)}


def replaced(want: MaintenanceWant, seen: t.Optional[Maintenance]) -> str:
    """What the user has to know when another maintenance was not finished; empty otherwise."""
    if seen is None or seen.tasks == want.tasks or want.finished:
        return ""
    left = ", ".join(sorted(seen.hosts - seen.finished))
    return (
        f"a maintenance with other tasks was not finished ({left} were left); this one takes its place, on every host"
    )


def _text(maintenance: t.Optional[Maintenance]) -> str:
    if maintenance is None:
        return ""
    return "".join(
        f"{host}: {'finished' if host in maintenance.finished else 'open'}\n" for host in sorted(maintenance.hosts)
    )
