#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A check of Docker and of the registry by real use."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_verify
short_description: See by real use whether Docker and a registry work
version_added: 0.1.0
description:
  - On a Docker host, O(step=build) builds an image from a Dockerfile, runs it, reads its log, kills its process and
    waits until the restart policy has brought it back, and pushes it to each of O(registries). The image is made of the
    host's own shell; nothing comes from outside.
  - On a host with kubectl, O(step=run) has the cluster pull that image from each and run it.
  - On the Docker host again, O(step=forget) takes it out of the registries. Its layers go when a registry's garbage is
    collected; they are the same each time.
  - What a killed run left behind is removed by a later one.
author:
  - Slipway maintainers (@slipway)
options:
  step:
    description: Which of the three.
    type: str
    choices: [build, run, forget]
    required: true
  registries:
    description: For O(step=build), HOST:PORT of registries that root is logged in to; none to push nowhere.
    type: list
    elements: str
    default: []
  images:
    description: For the other two, RV(images) of the first.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - slipway.cluster.kubectl
attributes:
  check_mode:
    support: partial
    details: Does nothing in check mode and says so.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: Never reports a change.
"""

EXAMPLES = r"""
- name: Use Docker
  slipway.cluster.docker_verify:
    step: build
    registries: ["10.0.0.9:5000"]
  register: built
"""

RETURN = r"""
images:
  description: What was pushed, by registry and digest.
  returned: always
  type: list
  elements: str
ok:
  description: Whether all is as it should be.
  returned: always
  type: bool
checks:
  description: The findings, as M(slipway.cluster.verify) has them.
  returned: always
  type: list
  elements: dict
table:
  description: The findings as text, with what was done and what was seen, in 120 columns.
  returned: always
  type: str
slipway_report:
  description: All of these again, for the C(slipway) command.
  returned: always
  type: dict
problems:
  description: What is wrong, all of it.
  returned: failure
  type: list
  elements: dict
"""

import secrets
import time
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_registry import new_tag
from ansible_collections.slipway.cluster.plugins.module_utils.host.docker_verify import (
    forget,
    run_on_cluster,
    use_docker,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.findings import Found, run_checks
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import ARGUMENTS, Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.verify_space import termination_as_exit

ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    "step": {"type": "str", "choices": ["build", "run", "forget"], "required": True},
    "registries": {"type": "list", "elements": "str", "default": []},
    "images": {"type": "list", "elements": "str", "default": []},
}


def look(params: dict[str, t.Any]) -> Found:
    """The findings of one step, and what was pushed."""
    machine = Machine()
    with termination_as_exit():
        if params["step"] == "build":
            checks, images = use_docker(machine, params["registries"], new_tag(time.time(), secrets.token_hex(4)))
            return checks, {"images": images}
        if not params["images"]:
            raise SlipwayError(Problem("images", "are not given", "what the first step has pushed"))
        if params["step"] == "run":
            kubectl = Kubectl(machine, params["kubectl"], params["kubeconfig"])
            return run_on_cluster(machine, kubectl, params["images"]), {"images": []}
        return [forget(machine, params["images"])], {"images": []}


def main() -> None:
    """Module entry."""
    run_checks(argument_spec=ARGUMENT_SPEC, look=look, nothing={"images": []})


if __name__ == "__main__":
    main()
