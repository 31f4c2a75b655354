#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take a member out of an etcd cluster, if that keeps quorum."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_removal
short_description: Take a member out of an etcd cluster, if quorum allows it
version_added: 0.1.0
description:
  - Finds the member by its peer URL or its name and removes it, dead or alive. One that is not there is no error.
  - Refuses, with the arithmetic, what would leave fewer healthy voting members than the smaller cluster needs for its
    quorum, and any removal while there is no quorum.
  - The removed member's program ends by itself; its data stays on its host until that is reset.
  - Runs on a host with etcdctl and a client certificate, usually one with another etcd member, which is asked if no
    O(etcd_endpoints) are given.
author:
  - Slipway maintainers (@slipway)
options:
  name:
    description: The member's name.
    type: str
    required: true
  peer_url:
    description: The member's peer URL, which is looked for before the name.
    type: str
    default: ""
extends_documentation_fragment:
  - slipway.cluster.etcdctl
attributes:
  check_mode:
    description: Asks etcd, and says what would be removed or why not.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  idempotent:
    description: A second run finds no such member.
    support: full
"""

EXAMPLES = r"""
- name: Take a dead member out
  slipway.cluster.etcd_removal:
    name: cp3
    etcd_endpoints: ["https://192.0.2.11:2379", "https://192.0.2.12:2379"]
"""

RETURN = r"""
actions:
  description: What was done, or would be in check mode, with the arithmetic before and after.
  returned: success
  type: list
  elements: str
  sample:
    - "remove etcd member cp3: 3 voting members, 2 healthy, quorum 2 -> 2 voting members, 2 healthy, quorum 2"
problems:
  description: Why it was refused.
  returned: failure
  type: list
  elements: dict
"""

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member, plan_removal
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.etcdctl import ARGUMENTS, Etcdctl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    "name": {"type": "str", "required": True},
    "peer_url": {"type": "str", "default": ""},
}


@dataclasses.dataclass(frozen=True)
class Want:
    """The member, and the cluster that it is taken out of."""

    name: str
    peer_url: str
    etcdctl: Etcdctl


def parse(params: dict[str, t.Any]) -> Want:
    """The parameters as typed data."""
    return Want(params["name"], params["peer_url"], Etcdctl.from_params(Machine(), params))


def observe(_machine: Machine, want: Want) -> tuple[Member, ...]:
    """The members and their health."""
    return want.etcdctl.members()


def plan(want: Want, seen: tuple[Member, ...]) -> list[Change]:
    """The step, if quorum allows it."""
    return plan_removal(seen, name=want.name, peer_url=want.peer_url)


def apply(_machine: Machine, want: Want, change: Change) -> None:
    """Take the member out."""
    want.etcdctl.remove(change.data.id)


def main() -> None:
    """Module entry."""
    run_module(argument_spec=ARGUMENT_SPEC, parse=parse, observe=observe, plan=plan, apply=apply)


if __name__ == "__main__":
    main()
