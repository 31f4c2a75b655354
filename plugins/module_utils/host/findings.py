# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the modules that have findings instead of changes: nothing to plan, and told also where something is wrong."""

from __future__ import annotations

import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..core.problems import Problem, SlipwayError
from ..core.verify import Check, table

Found = tuple[t.Sequence[Check], dict[str, t.Any]]
"""The findings, and what else the module returns."""


def run_checks(
    *,
    argument_spec: dict[str, t.Any],
    look: t.Callable[[dict[str, t.Any]], Found],
    nothing: t.Optional[dict[str, t.Any]] = None,
) -> None:
    """The whole of such a module. In check mode nobody looks, and ``nothing`` stands for what else it returns."""
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True)
    if module.check_mode:
        idle = {"ok": True, "checks": [], "table": "nothing is asked in check mode\n", "seconds": 0.0}
        module.exit_json(changed=False, **idle, **(nothing or {}))
    start = time.monotonic()
    try:
        checks, more = look(module.params)
    except SlipwayError as error:
        module.fail_json(msg=str(error), problems=[problem.as_dict() for problem in error.problems])
    problems = [Problem(check.aspect, check.seen, remedy=check.hint) for check in checks if not check.ok]
    found: dict[str, t.Any] = {
        "ok": not problems,
        "checks": [check.as_dict() for check in checks],
        "table": table(checks),
        "seconds": round(time.monotonic() - start, 1),
    }
    if checks:
        found["slipway_report"] = dict(found)
    found.update(more)
    if problems:
        text = "\n".join(problem.text() for problem in problems)
        module.fail_json(msg=text, problems=[problem.as_dict() for problem in problems], changed=False, **found)
    module.exit_json(changed=False, **found)
