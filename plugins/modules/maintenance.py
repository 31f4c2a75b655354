#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember in the cluster which hosts of a maintenance are finished."""

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance
short_description: Remember which hosts of a maintenance are finished
version_added: 0.1.0
description:
  - Keeps in the cluster, in the ConfigMap C(kube-system/slipway-maintenance), which hosts an unfinished maintenance has
    and which of them are finished, so that a run that was cut off is continued by the next one, from any controller.
  - A maintenance is known by the digest of its tasks. When its last host is finished it is forgotten.
  - Hosts that are passed over because they are finished are named in a warning, with the time the maintenance began.
  - Runs on a host that has kubectl and an administrator's kubeconfig, usually a control-plane host.
author:
  - Slipway maintainers (@slipway)
options:
  tasks:
    description: A digest of what is done on each host.
    type: str
    required: true
  hosts:
    description: Names of hosts.
    type: list
    elements: str
    required: true
  state:
    description:
      - V(open) adds the hosts to the maintenance, or begins one.
      - V(finished) says that they are done.
    type: str
    choices: [open, finished]
    default: open
  again:
    description: Whether to forget what an earlier run has finished.
    type: bool
    default: false
  cluster:
    description:
      - All hosts that there are. What is remembered of others is forgotten, and where only such were left, a new
        maintenance begins. Without it, hosts that are no more are waited for.
    type: list
    elements: str
  silent:
    description:
      - Those of O(hosts) that do not answer in this run, with V(open). A maintenance in which only such were left waits
        for them until 24 hours after its beginning; then a new one begins.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - slipway.cluster.kubectl
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: See what is left
  slipway.cluster.maintenance:
    tasks: "{{ lookup('ansible.builtin.file', 'firmware.yml') | hash('sha256') }}"
    hosts: [w1, w2]
  register: maintenance

- name: One is done
  slipway.cluster.maintenance:
    tasks: "{{ lookup('ansible.builtin.file', 'firmware.yml') | hash('sha256') }}"
    hosts: [w1]
    state: finished
"""

RETURN = r"""
maintained:
  description: Those of O(hosts) that an earlier run of the same tasks has finished.
  returned: success
  type: list
  elements: str
slipway_report:
  description:
    - In C(maintenance), for the C(slipway) command, the hosts that are C(done) and C(open), and where the run begins
      those that had been done C(before) it.
  returned: success
  type: dict
problems:
  description:
    - What is wrong; a warning says that an unfinished maintenance goes on and passes over hosts, or was given up for
      this one.
  returned: failure, or when there is something to say
  type: list
  elements: dict
"""

import dataclasses
import datetime
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.maintenance import (
    Maintenance,
    MaintenanceWant,
    finished_before,
    notices,
    plan_maintenance,
    report,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import ARGUMENTS, Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.maintenance import Memory

ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    "tasks": {"type": "str", "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "state": {"type": "str", "choices": ["open", "finished"], "default": "open"},
    "again": {"type": "bool", "default": False},
    "cluster": {"type": "list", "elements": "str"},
    "silent": {"type": "list", "elements": "str", "default": []},
}


@dataclasses.dataclass
class Want:
    """What is asked for, the API it is asked of, and what that knew before."""

    want: MaintenanceWant
    memory: Memory
    seen: t.Optional[Maintenance] = None


def parse(params: dict[str, t.Any]) -> Want:
    """The parameters as typed data."""
    cluster = None if params["cluster"] is None else frozenset(params["cluster"])
    want = MaintenanceWant(
        params["tasks"],
        frozenset(params["hosts"]),
        datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0),
        params["state"] == "finished",
        params["again"],
        cluster,
        frozenset(params["silent"]),
    )
    return Want(want, Memory(Kubectl(Machine(), params["kubectl"], params["kubeconfig"]), want))


def observe(_machine: Machine, want: Want) -> t.Optional[Maintenance]:
    """The unfinished maintenance."""
    want.seen = want.memory.observe()
    return want.seen


def plan(want: Want, seen: t.Optional[Maintenance]) -> list[Change]:
    """Remember or forget."""
    return plan_maintenance(want.want, seen)


def apply(_machine: Machine, want: Want, _change: Change) -> None:
    """Carry it out."""
    want.memory.apply()


def result(_machine: Machine, want: Want) -> dict[str, t.Any]:
    """Who is done, and who is not."""
    warnings = [problem.as_dict() for problem in notices(want.want, want.seen)]
    return {
        "maintained": finished_before(want.want, want.seen),
        "slipway_report": {"maintenance": report(want.want, want.seen)},
        **({"problems": warnings} if warnings else {}),
    }


def main() -> None:
    """Module entry."""
    run_module(argument_spec=ARGUMENT_SPEC, parse=parse, observe=observe, plan=plan, apply=apply, result=result)


if __name__ == "__main__":
    main()
