# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The last thing a run of tests says is why tests failed, in few lines: a log may be all there is to go by."""

from __future__ import annotations

import typing as t

import pytest

# For all failures together, and for one; of a long reason the beginning and the end tell most.
MOST_LINES = 60
FIRST_LINES, LAST_LINES = 4, 8
LONGEST = 240


def condensed(text: str, first: int = FIRST_LINES, last: int = LAST_LINES) -> list[str]:
    """The first and last lines of a text that say something, none of them long."""
    lines = [line.rstrip()[:LONGEST] for line in text.splitlines() if line.strip()]
    if len(lines) <= first + last:
        return lines
    return [*lines[:first], f"... {len(lines) - first - last} lines ...", *lines[-last:]]


def reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """What the exception said that ended a test; the end of the whole story if there was no exception."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return str(crash.message) if crash else "\n".join(str(report.longrepr).splitlines()[-LAST_LINES:])


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say why each failed test failed."""
    failed: list[t.Any] = [
        report
        for outcome in ("failed", "error")
        for report in terminalreporter.stats.get(outcome, ())
        if isinstance(report, (pytest.TestReport, pytest.CollectReport))
    ]
    reasons: dict[str, list[str]] = {}
    for report in failed:
        told = f"{report.nodeid} ({getattr(report, 'when', 'collect')})"
        reasons.setdefault(reason(report), []).append(told)
    if not reasons:
        return
    terminalreporter.section("why")
    share = max(3, MOST_LINES // len(reasons))
    for text, tests in list(reasons.items())[:MOST_LINES]:
        terminalreporter.write_line(f"{tests[0]}{f' and {len(tests) - 1} more' if tests[1:] else ''}:")
        for line in condensed(text, min(FIRST_LINES, share // 2), min(LAST_LINES, share - share // 2)):
            terminalreporter.write_line(f"    {line}")
