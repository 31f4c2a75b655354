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
    waits until the restart policy has brought it back, and pushes it to O(registry). The image is made of the host's
    own shell; nothing comes from outside.
  - On a host with kubectl, O(step=run) has the cluster pull that image and run it.
  - On the Docker host again, O(step=forget) takes it out of the registry. Its layers go when the registry's garbage is
    collected; they are the same each time.
author:
  - Slipway maintainers (@slipway)
options:
  step:
    description: Which of the three.
    type: str
    choices: [build, run, forget]
    required: true
  registry:
    description: For O(step=build), HOST:PORT of a registry that root is logged in to; empty to push nowhere.
    type: str
    default: ""
  image:
    description: For the other two, RV(image) of the first.
    type: str
    default: ""
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
    registry: 10.0.0.9:5000
  register: built
"""

RETURN = r"""
image:
  description: What was pushed, by its digest; empty if nothing was.
  returned: always
  type: str
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
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host.docker_verify import (
    forget,
    run_on_cluster,
    use_docker,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.findings import Found, run_checks
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import ARGUMENTS, Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

ARGUMENT_SPEC: dict[str, t.Any] = {
    **ARGUMENTS,
    "step": {"type": "str", "choices": ["build", "run", "forget"], "required": True},
    "registry": {"type": "str", "default": ""},
    "image": {"type": "str", "default": ""},
}


def look(params: dict[str, t.Any]) -> Found:
    """The findings of one step, and what was pushed."""
    machine = Machine()
    if params["step"] == "build":
        checks, image = use_docker(machine, params["registry"], f"hello-{secrets.token_hex(4)}")
        return checks, {"image": image}
    if not params["image"]:
        raise SlipwayError(Problem("image", "is not given", "what the first step has pushed"))
    if params["step"] == "run":
        kubectl = Kubectl(machine, params["kubectl"], params["kubeconfig"])
        return run_on_cluster(machine, kubectl, params["image"]), {"image": ""}
    forget(machine, params["image"])
    return [], {"image": ""}


def main() -> None:
    """Module entry."""
    run_checks(argument_spec=ARGUMENT_SPEC, look=look, nothing={"image": ""})


if __name__ == "__main__":
    main()
