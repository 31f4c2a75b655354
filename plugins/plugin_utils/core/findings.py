# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong on single hosts, and the same for several hosts said once."""

from __future__ import annotations

import dataclasses
import typing as t

from ...module_utils.core.problems import Problem

NAMED = 5
"""As many hosts a sentence names."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """A problem of one host, of one variable (``subject``), or of both. Texts are as in Problem."""

    found: str
    expected: str = ""
    remedy: str = ""
    host: str = ""
    subject: str = ""
    warning: bool = False


def names(hosts: t.Iterable[str], most: int = NAMED) -> str:
    """Hosts for a sentence: at most so many by name."""
    ordered = sorted(set(hosts))
    rest = len(ordered) - most
    return ", ".join(ordered[:most]) + (f" and {rest} more" if rest > 0 else "")


def grouped(findings: t.Iterable[Finding], most: int = NAMED) -> list[Problem]:
    """One problem for all hosts that have the same finding, in the order of the first of each; errors come first.

    ``where`` names at most ``most`` hosts.
    """
    hosts: dict[Finding, list[str]] = {}
    for finding in findings:
        hosts.setdefault(dataclasses.replace(finding, host=""), []).append(finding.host)
    problems = [_problem(finding, names([host for host in found if host], most)) for finding, found in hosts.items()]
    return sorted(problems, key=lambda problem: problem.warning)


def _problem(finding: Finding, hosts: str) -> Problem:
    where = " on ".join(part for part in (finding.subject, hosts) if part)
    return Problem(where or "inventory", finding.found, finding.expected, finding.remedy, finding.warning)
