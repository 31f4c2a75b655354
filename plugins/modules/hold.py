#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hold a host for one run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hold
short_description: Hold the cluster for one run, so that no second one changes it at the same time
version_added: 0.1.0
description:
  - Leaves the name of this run in the host's memory, or takes it away again. A run that meets the name of another one
    is told who that is, since when, and from where.
  - Modules of this collection that may change something, and those that wait for it, renew the hold of the host that
    they run on, for as long as they take. Without that it ends after O(silence), but not for a run of the same
    controller whose process lives. It ends at once when the run is known to be gone, and with the host's power.
  - Made for the playbooks of this collection, which hold the control-plane hosts.
author:
  - Slipway maintainers (@slipway)
options:
  state:
    description:
      - V(present) holds the host, V(absent) lets it go.
      - V(renewed) is V(present) for a run that goes on.
      - A host that does not answer is an error for V(present), and is passed over otherwise.
    type: str
    choices: [present, renewed, absent]
    default: present
  verb:
    description: What the run does, for those who meet it.
    type: str
    default: ''
  seen:
    description:
      - The mark of the hold that the host had when the plan was made, empty if there was none. Another run that has
        come and gone since then is an error, which nobody looks for if this is not given.
    type: str
  silence:
    description: After how many seconds without a sign of life the hold ends.
    type: int
    default: 900
  run:
    description: The run's identity. The action of the same name sets it.
    type: str
    default: ''
  by:
    description: The person who runs it. The action of the same name sets it.
    type: str
    default: ''
  dead:
    description: Runs known to be gone. The action of the same name sets it.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Nothing is held, and nothing refused.
    support: full
  diff_mode:
    description: There is nothing to show.
    support: none
  platform:
    description: Linux.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Hold the host for as long as this takes
  slipway.cluster.hold:
    verb: firmware

- name: Let it go
  slipway.cluster.hold:
    state: absent
"""

RETURN = r"""
holds:
  description: Whether this run holds the host now.
  returned: success
  type: bool
held:
  description: Another run's hold that was met, with how many seconds ago it was renewed.
  returned: when there is one
  type: dict
problems:
  description: What is wrong, all of it.
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.cluster.plugins.module_utils.core.hold import SILENCE_SECONDS, Hold
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host import hold

ARGUMENT_SPEC: dict[str, t.Any] = {
    "state": {"type": "str", "choices": ["present", "renewed", "absent"], "default": "present"},
    "verb": {"type": "str", "default": ""},
    "seen": {"type": "str"},
    "silence": {"type": "int", "default": SILENCE_SECONDS},
    "run": {"type": "str", "default": ""},
    "by": {"type": "str", "default": ""},
    "dead": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    """Module entry."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    wanted = module.params
    if module.check_mode:
        module.exit_json(changed=False)
    if wanted["state"] == "absent":
        other = hold.release(wanted["run"], wanted["dead"])
        module.exit_json(changed=False, holds=False, **({"held": other.to_data()} if other else {}))
    try:
        want = Hold(wanted["run"], wanted["by"], wanted["verb"], silence=wanted["silence"])
        hold.take(want, seen=wanted["seen"], dead=wanted["dead"])
    except SlipwayError as error:
        met = hold.look()
        module.fail_json(
            msg=str(error), problems=[each.as_dict() for each in error.problems], held=met.to_data() if met else {}
        )
    module.exit_json(changed=False, holds=True)


if __name__ == "__main__":
    main()
