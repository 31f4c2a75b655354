#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at a host without touching it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Look at everything a plan needs to know of a host
version_added: 0.1.0
description:
  - Reads facts, Slipway's files, units, keys (their public side), artefacts and etcd's marks, and on a control-plane
    host the cluster's nodes. Writes nothing and never returns a secret.
author:
  - Slipway maintainers (@slipway)
options:
  sysctls:
    description: Kernel settings to look at besides those Slipway sets by itself.
    type: list
    elements: str
    default: []
  silent_ok:
    description:
      - A host that does not answer is no error; the result has no C(probe) then.
      - It is made for delegation, so C(slipway_node_absent) of the host that delegates is not heeded.
    type: bool
    default: false
attributes:
  check_mode:
    description: Does the same in check mode.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
  platform:
    description: Linux with systemd.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Look at the host
  slipway.cluster.probe:
  register: probe
"""

RETURN = r"""
probe:
  description: What the host is.
  returned: success
  type: dict
"""

import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.probe import probe


def main() -> None:
    """Module entry."""
    spec = {
        "sysctls": {"type": "list", "elements": "str", "default": []},
        "silent_ok": {"type": "bool", "default": False},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    begin = time.monotonic()
    try:
        seen = probe(Machine(), module.params["sysctls"])
    except SlipwayError as error:
        module.fail_json(msg=str(error), problems=[problem.as_dict() for problem in error.problems])
    module.exit_json(changed=False, probe={**seen, "seconds": round(time.monotonic() - begin, 3)})


if __name__ == "__main__":
    main()
