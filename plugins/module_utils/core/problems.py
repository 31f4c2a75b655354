# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What went wrong, in three parts: what was found, what was expected, what to do."""

from __future__ import annotations

import dataclasses
import typing as t


@dataclasses.dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    ``where`` names the host, variable, file or component; ``found``, ``expected`` and ``remedy`` are sentences
    without a full stop. A warning does not stop a run.
    """

    where: str
    found: str
    expected: str = ""
    remedy: str = ""
    warning: bool = False

    def text(self) -> str:
        """The problem as one line for a person."""
        parts = [f"{self.where}: {self.found}"]
        if self.expected:
            parts.append(f"expected {self.expected}")
        if self.remedy:
            parts.append(self.remedy)
        return "; ".join(parts)

    def as_dict(self) -> dict[str, t.Any]:
        """The problem as JSON data."""
        return dataclasses.asdict(self)


class SlipwayError(Exception):
    """Domain error that carries every problem found, never only the first."""

    def __init__(self, problems: t.Union[Problem, t.Sequence[Problem]]) -> None:
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(problem.text() for problem in self.problems))
