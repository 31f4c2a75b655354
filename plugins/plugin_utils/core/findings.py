# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong on single hosts, and the same for several hosts said once."""

from __future__ import annotations

import dataclasses
import typing as t

from ...module_utils.core.problems import Problem

_NAMED = 5


@dataclasses.dataclass(frozen=True)
class Finding:
    """A problem of one host, of one variable (``subject``), or of both. Texts are as in Problem."""

    found: str
    expected: str = ""
    remedy: str = ""
    host: str = ""
    subject: str = ""
    warning: bool = False


def names(hosts: t.Iterable[str]) -> str:
    """Hosts for a sentence: at most five by name."""
    ordered = sorted(set(hosts))
    rest = len(ordered) - _NAMED
    return ", ".join(ordered[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def grouped(findings: t.Iterable[Finding]) -> list[Problem]:
    """One problem for all hosts that have the same finding, in the order of the first of each; errors come first."""
    hosts: dict[Finding, list[str]] = {}
    for finding in findings:
        hosts.setdefault(dataclasses.replace(finding, host=""), []).append(finding.host)
    problems = [_problem(finding, [host for host in found if host]) for finding, found in hosts.items()]
    return sorted(problems, key=lambda problem: problem.warning)


def _problem(finding: Finding, hosts: list[str]) -> Problem:
    where = " on ".join(part for part in (finding.subject, names(hosts)) if part)
    return Problem(where or "inventory", finding.found, finding.expected, finding.remedy, finding.warning)
