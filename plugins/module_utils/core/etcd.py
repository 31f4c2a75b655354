# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One etcd member: its files and unit, and the two marks that tell an unfinished bootstrap from a member with data.

What only matters before a cluster has formed stands in ``initial.env`` (the intent: members and unique token). It is
written before etcd first starts and removed when the member has formed, when the mark is written: a data directory
that is lost later must never make a member start a second cluster.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .change import Change
from .problems import Problem, SlipwayError
from .state import Absent, HostState, SeenState, plan_state

INITIAL = "/etc/etcd/initial.env"
FORMED = "/etc/etcd/formed"


@dataclasses.dataclass(frozen=True)
class EtcdWant:
    """The member.

    ``cluster`` maps each initial member's name to its peer URL; ``token`` is unique to the cluster; ``bootstrap`` says
    that the whole cluster is known to be new.
    """

    state: HostState
    name: str
    cluster: t.Mapping[str, str]
    token: str = ""
    bootstrap: bool = False

    @property
    def initial(self) -> str:
        """The content of ``initial.env``."""
        members = ",".join(f"{name}={url}" for name, url in sorted(self.cluster.items()))
        return (
            f"ETCD_INITIAL_CLUSTER={members}\n"
            f"ETCD_INITIAL_ADVERTISE_PEER_URLS={self.cluster[self.name]}\n"
            f"ETCD_INITIAL_CLUSTER_TOKEN={self.token}\n"
            "ETCD_INITIAL_CLUSTER_STATE=new\n"
        )


@dataclasses.dataclass(frozen=True)
class EtcdSeen:
    """The member as it is: whether its data directory holds a member, whether it formed, its unfinished intent."""

    state: SeenState = SeenState()
    data: bool = False
    formed: bool = False
    initial: str = ""


def plan_etcd(want: EtcdWant, seen: EtcdSeen) -> list[Change]:
    """The steps; SlipwayError when this member may not start a cluster or would start a second one."""
    if want.name not in want.cluster:
        raise SlipwayError(Problem("cluster", f"{want.name} is not among {sorted(want.cluster)}", "this member's name"))
    steps = plan_state(want.state, seen.state)
    if seen.formed:
        if not seen.data:
            raise SlipwayError(
                Problem(
                    f"etcd member {want.name}",
                    "has formed before, but its data directory is empty",
                    "the member's data",
                    "remove the member from the cluster and add it again, or restore a snapshot",
                )
            )
        # A run was killed between the mark and the removal of the intent.
        return [Change(f"remove {INITIAL}", data=Absent(INITIAL)), *steps] if seen.initial else steps
    if seen.data and not seen.initial:
        raise SlipwayError(
            Problem(
                f"etcd member {want.name}",
                "there is data that Slipway did not make",
                "an empty data directory",
                "move the data away or reset the host",
            )
        )
    return _bootstrap(want, seen, steps)


def _bootstrap(want: EtcdWant, seen: EtcdSeen, steps: list[Change]) -> list[Change]:
    unit = [change for change in steps if isinstance(change.data, tuple)]
    files = [change for change in steps if not isinstance(change.data, tuple)]
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
    return [*files, *intent, *unit, Change("record that etcd has formed", data=("formed", want.name))]
