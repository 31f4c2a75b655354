# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One step from what is to what should be."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Change:
    """A named step of a plan.

    ``name`` is stable: the same step has the same name in check mode on a bare host and in the run that carries it
    out, so it contains no serial, time or token. ``before`` and ``after`` are texts for ``--diff`` (none for secrets).
    ``data`` is what the module's own ``apply`` needs and never leaves the process.
    """

    name: str
    sentence: str = ""
    before: str = ""
    after: str = ""
    secret: bool = False
    data: t.Any = None

    def text(self) -> str:
        """The step as a sentence for a person."""
        return self.sentence or self.name


def diffs(changes: t.Sequence[Change]) -> list[dict[str, str]]:
    """Ansible's diff structure of the changes that have something to show; secrets never do."""
    return [
        {
            "before": change.before,
            "after": change.after,
            "before_header": change.name,
            "after_header": change.name,
        }
        for change in changes
        if not change.secret and change.before != change.after
    ]
