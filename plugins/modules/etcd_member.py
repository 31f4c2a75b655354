#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One etcd member on this host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: etcd_member
short_description: Run an etcd member, let a new cluster form, or join one that lives
version_added: 0.1.0
description:
  - Brings files and unit of an etcd member to a declared state. A bare member starts only with O(bootstrap=true), after
    an intent with the initial members and a unique token was written; when it has formed, a mark takes its place.
  - Where a cluster lives, named by O(endpoints), a host that is no member is added as a learner and promoted when it
    is in sync. A member at the same peer URL that has lost its data is removed first.
  - What was interrupted is finished by the next run. What would cost the cluster its quorum is refused with numbers.
author:
  - Slipway maintainers (@slipway)
options:
  state:
    description: Files, directories and the unit, see M(slipway.cluster.component).
    type: dict
    required: true
  name:
    description: The member's name.
    type: str
    required: true
  cluster:
    description: The hosts that are to be members, each name with its peer URL.
    type: dict
    required: true
  token:
    description: The cluster's unique token, needed to bootstrap.
    type: str
    default: ""
  bootstrap:
    description: Whether the whole cluster is known to be new.
    type: bool
    default: false
  endpoints:
    description: Client URLs of members that answer, if there are any.
    type: list
    elements: str
    default: []
  members:
    description:
      - The members as others have seen them, for a host that cannot ask yet, such as a bare one in check mode.
      - Each with C(id), C(name), C(peer_urls), C(client_urls), C(learner) and C(healthy).
    type: list
    elements: dict
    default: []
  accept_quorum_loss:
    description:
      - Whether the member may be restarted although others are down and etcd, and with it the API, stands still
        meanwhile, for good if the member does not come back.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says what would change and changes nothing.
    support: full
  diff_mode:
    description: Shows files before and after.
    support: full
  platform:
    description: Linux with systemd.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Form a cluster of one
  slipway.cluster.etcd_member:
    name: etcd1
    cluster:
      etcd1: https://192.0.2.11:2380
    token: 5b5f8a9c
    bootstrap: true
    state: "{{ etcd_files_and_unit }}"

- name: Add a second member
  slipway.cluster.etcd_member:
    name: etcd2
    cluster:
      etcd1: https://192.0.2.11:2380
      etcd2: https://192.0.2.12:2380
    token: 5b5f8a9c
    endpoints:
      - https://192.0.2.11:2379
    state: "{{ etcd_files_and_unit }}"
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["record the intent to form etcd", "start etcd.service", "record that etcd has formed"]
"""

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import EtcdSeen, EtcdWant, plan_etcd
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import member_of
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import HostState
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.etcd import apply_etcd, observe_etcd, settle_etcd
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

ARGUMENT_SPEC: dict[str, t.Any] = {
    "state": {"type": "dict", "required": True},
    "name": {"type": "str", "required": True},
    "cluster": {"type": "dict", "required": True},
    "token": {"type": "str", "default": "", "no_log": False},
    "bootstrap": {"type": "bool", "default": False},
    "endpoints": {"type": "list", "elements": "str", "default": []},
    "members": {"type": "list", "elements": "dict", "default": []},
    "accept_quorum_loss": {"type": "bool", "default": False},
}


def parse(params: dict[str, t.Any]) -> EtcdWant:
    """The parameters as typed data."""
    typed = {
        "state": HostState.from_data(params["state"]),
        "endpoints": tuple(params["endpoints"]),
        "members": tuple(member_of(item) for item in params["members"]),
    }
    return EtcdWant(**{**params, **typed})


def observe(machine: Machine, want: EtcdWant) -> EtcdSeen:
    """The member as it is."""
    return observe_etcd(machine, want)


def apply(machine: Machine, want: EtcdWant, change: Change) -> None:
    """One step."""
    apply_etcd(machine, want, change)


def settle(machine: Machine, want: EtcdWant) -> None:
    """The member answers."""
    del want
    settle_etcd(machine)


def main() -> None:
    """Module entry."""
    run_module(argument_spec=ARGUMENT_SPEC, parse=parse, observe=observe, plan=plan_etcd, apply=apply, settle=settle)


if __name__ == "__main__":
    main()
