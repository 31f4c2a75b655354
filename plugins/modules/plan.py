#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Turn inventory and probes into the plan of a run
version_added: 0.1.0
description:
  - Reads the C(slipway_) variables of all hosts and what M(slipway.cluster.probe) has registered as C(slipway_probe) on
    the hosts of the play, validates them together and computes what each host shall be and what that changes.
  - All problems of specification and hosts are told at once. Touches no host.
  - Made for the playbooks of this collection, which register its result as C(slipway_plan).
author:
  - Slipway maintainers (@slipway)
options:
  explain:
    description: A host of which to say where each of its values came from.
    type: str
    default: ''
  verb:
    description:
      - What the run is going to do. Empty for one that only looks, which another run's hold does not stop.
    type: str
    default: ''
  lenient:
    description:
      - Whether what preflight checks find is a warning, for a run that only asks a cluster how it is.
    type: bool
    default: false
  outside:
    description:
      - Do not plan, but say which control-plane and etcd hosts lie outside C(--limit), of whom one has to be looked at.
    type: bool
    default: false
attributes:
  action:
    description: Runs on the controller.
    support: full
  bypass_host_loop:
    description: Looks at all hosts at once; use it with C(run_once).
    support: none
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: Differences are in RV(slipway_report).
    support: none
"""

EXAMPLES = r"""
- name: Look at the host
  slipway.cluster.probe:
  register: slipway_probe

- name: Validate and plan
  slipway.cluster.plan:
  run_once: true
  register: slipway_plan
"""

RETURN = r"""
plan:
  description: The parameters of every module by host and phase, and what is done once.
  returned: success
  type: dict
slipway_report:
  description: Whether anything is C(pending), the changes by host, differences and warnings.
  returned: success
  type: dict
outside:
  description: Hosts outside C(--limit), each with C(name) and C(role).
  returned: with O(outside)
  type: list
  elements: dict
problems:
  description: Everything that stands in the way; or as warnings, what the run leaves out.
  returned: always
  type: list
  elements: dict
"""
