#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A systemd component as one declared target."""

from __future__ import annotations

DOCUMENTATION = r"""
module: component
short_description: Bring a systemd component to a declared state
version_added: 0.1.0
description:
  - Users, directories, files, links and units of one component, compared as a whole with what the host has, and
    brought about in one call.
  - A unit is restarted only if its running process was started with another digest than the target names
    (E(SLIPWAY_DIGEST) in the unit's environment), so an interrupted run is finished by the next one.
author:
  - Slipway maintainers (@slipway)
options:
  state:
    description:
      - The target, with the keys C(users), C(directories), C(files), C(links), C(absent) and C(units).
      - A file has C(path), C(content), C(mode), C(owner), C(group), C(secret), C(encoding) and C(create_only);
        C(@@name@@) in its content is filled from O(values) and O(secrets).
    type: dict
    required: true
  values:
    description: Texts for the placeholders in files.
    type: dict
    default: {}
  secrets:
    description: Texts for placeholders that must not be shown.
    type: dict
    default: {}
  wait:
    description:
      - What has to answer before the module returns, each a C(what) with a C(unit), C(url) or C(path).
      - Where C(since) names the kubelet's unit, the C(url) is that of its Node in the API, which has to be Ready, and
        the kubelet to have said so since it was started.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Says what would change and changes nothing, also on a host that has none of it yet.
    support: full
  diff_mode:
    description: Shows files before and after, except secrets.
    support: full
  platform:
    description: Linux with systemd.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Run the node exporter as a unit
  slipway.cluster.component:
    state:
      files:
        - path: /etc/systemd/system/node-exporter.service
          content: "{{ node_exporter_unit }}"
      units:
        - name: node-exporter.service
    wait:
      - what: the node exporter
        url: http://127.0.0.1:9100/metrics
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["write /etc/kubernetes/kubelet.yaml", "restart kubelet.service"]
problems:
  description: Everything that stood in the way.
  returned: failure
  type: list
  elements: dict
"""

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.readiness import Wait, parse_waits
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    HostState,
    SeenState,
    plan_state,
    resolve,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.readiness import settle
from ansible_collections.slipway.cluster.plugins.module_utils.host.state import apply_state, observe_state

ARGUMENT_SPEC: dict[str, t.Any] = {
    "state": {"type": "dict", "required": True},
    "values": {"type": "dict", "default": {}},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "wait": {"type": "list", "elements": "dict", "default": []},
}


@dataclasses.dataclass(frozen=True)
class Component:
    """The target with its values filled in, and what to wait for."""

    target: HostState
    waits: tuple[Wait, ...]


def parse(params: dict[str, t.Any]) -> Component:
    """The parameters as typed data."""
    target = HostState.from_data(params["state"])
    # YAML has made numbers and booleans of what stands in the file as text.
    values = {
        key: str(value).lower() if isinstance(value, bool) else str(value)
        for key, value in {**params["values"], **params["secrets"]}.items()
    }
    return Component(resolve(target, values), parse_waits(params["wait"]))


def observe(machine: Machine, want: Component) -> SeenState:
    """What the host has of it."""
    return observe_state(machine, want.target)


def plan(want: Component, seen: SeenState) -> list[Change]:
    """The steps, see plan_state."""
    return plan_state(want.target, seen)


def apply(machine: Machine, want: Component, change: Change) -> None:
    """One step."""
    del want
    apply_state(machine, change)


def main() -> None:
    """Module entry."""
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=parse,
        observe=observe,
        plan=plan,
        apply=apply,
        settle=lambda machine, want: settle(machine, want.waits),
    )


if __name__ == "__main__":
    main()
