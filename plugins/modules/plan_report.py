#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: plan_report
short_description: Say what a run would change, on the hosts and in the cluster
version_added: 0.1.0
description:
  - Joins the report of M(slipway.cluster.plan) with what M(slipway.cluster.manifests) said in check mode.
  - Touches no host.
author:
  - Slipway maintainers (@slipway)
options:
  report:
    description: RV(slipway.cluster.plan#module:slipway_report).
    type: dict
    required: true
  leader:
    description: The host that talks to the API.
    type: str
    required: true
  answers:
    description: What the API said, in order.
    type: list
    elements: dict
    default: []
    suboptions:
      phase:
        description: The phase in which apply does it.
        type: str
        required: true
      result:
        description: The registered result of M(slipway.cluster.manifests) in check mode; a skipped one says nothing.
        type: dict
        required: true
  others:
    description: Hosts beside the cluster, each with what M(slipway.cluster.docker) said there in check mode.
    type: dict
    default: {}
  warnings:
    description: Problems that hosts told, RV(slipway.cluster.reach#module:closed).
    type: list
    elements: dict
    default: []
attributes:
  action:
    description: Runs on the controller.
    support: full
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
"""

EXAMPLES = r"""
- name: Say what would change
  slipway.cluster.plan_report:
    report: "{{ slipway_plan.slipway_report }}"
    leader: "{{ slipway_plan.plan.leader }}"
    answers:
      - phase: addons
        result: "{{ dns }}"
"""

RETURN = r"""
slipway_report:
  description: Whether anything is C(pending), the changes by host, differences and warnings.
  returned: success
  type: dict
text:
  description: The same for a person, in lines.
  returned: success
  type: list
  elements: str
  sample: ["cp1  + 1 change: manifests 1", "       manifests: update Deployment kube-system/coredns"]
"""
