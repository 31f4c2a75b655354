# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of a playbook says to a person: ansible-runner's events folded into a log, and the log put into words.

Pure: events and times come in, lines go out. The events are ansible-runner's job events
(https://ansible.readthedocs.io/projects/runner/en/stable/intro/#artifactevents), of which the keys ``event``,
``event_data`` and ``stdout`` are read.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.plan_report import problem_from

Event = t.Mapping[str, t.Any]

RESULTS = ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped")
NOISE_LINES = 20
_SILENT = "cannot be reached"
# These think on the controller, once for all hosts; Ansible books their result to whichever host comes first.
CONTROLLER_ACTIONS = {"slipway.cluster.plan", "slipway.cluster.plan_report", "slipway.cluster.removal"}


@dataclasses.dataclass
class Tally:
    """One host's results; ``results`` counts every one, ``ok`` those that are neither failed nor skipped."""

    ok: int = 0
    changed: int = 0
    failed: int = 0
    unreachable: int = 0
    results: int = 0


@dataclasses.dataclass
class Phase:
    """One play: its name, when it started and ended (seconds of the run's own clock), and how many results it had."""

    name: str
    started: float
    ended: float
    results: int = 0
    begun: bool = False

    @property
    def seconds(self) -> float:
        """How long it took so far."""
        return self.ended - self.started


@dataclasses.dataclass
class RunLog:
    """Everything a run said, in the order it said it; ``holding`` while the run holds the cluster.

    ``failed`` are the hosts on which something of their own failed, and not what they did for others.
    """

    hosts: dict[str, Tally] = dataclasses.field(default_factory=dict)
    phases: list[Phase] = dataclasses.field(default_factory=list)
    problems: dict[Problem, list[str]] = dataclasses.field(default_factory=dict)
    actions: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    noise: list[str] = dataclasses.field(default_factory=list)
    failed: set[str] = dataclasses.field(default_factory=set)
    report: dict[str, t.Any] | None = None
    holding: bool = False

    def fold(self, event: Event, now: float) -> list[str]:
        """Take in one event at time ``now``; returns the lines to show at once."""
        if self.phases:
            self.phases[-1].ended = now
        kind = event.get("event", "")
        data = event.get("event_data") or {}
        if kind == "playbook_on_play_start":
            self._play(str(data.get("play") or data.get("name") or ""), now)
        if kind == "playbook_on_task_start":
            return self._task()
        if kind in RESULTS:
            return self._result(kind, data)
        if kind == "playbook_on_stats":
            self._forgive(data.get("dark") or {})
        if kind in {"verbose", "error", "warning", "deprecated"}:
            self.noise += [line for line in str(event.get("stdout", "")).splitlines() if line.strip()]
        return []

    def _forgive(self, dark: t.Collection[str]) -> None:
        """Forget that hosts did not answer with which Ansible went on: the playbook was told to ignore that."""
        forgiven = {host for host, tally in self.hosts.items() if tally.unreachable and host not in dark}
        for host in forgiven:
            self.hosts[host].unreachable = 0
        for problem in [each for each in self.problems if each.where in forgiven and each.found.startswith(_SILENT)]:
            del self.problems[problem]

    def _play(self, name: str, now: float) -> None:
        # A play with `serial` starts once per batch; it stays one phase.
        if not self.phases or self.phases[-1].name != name:
            self.phases.append(Phase(name=name, started=now, ended=now))

    def _task(self) -> list[str]:
        """The phase's name, once: with its first task, for a play without hosts has none."""
        if not self.phases or self.phases[-1].begun:
            return []
        self.phases[-1].begun = True
        return [self.phases[-1].name]

    def _result(self, kind: str, data: t.Mapping[str, t.Any]) -> list[str]:
        host = str(data.get("host", "?"))
        result = data.get("res") or {}
        if not isinstance(result, dict):
            result = {"msg": str(result)}
        self._count(kind, host, data, result)
        speaker = "" if data.get("task_action") in CONTROLLER_ACTIONS else _doer(host, result)
        self._collect(speaker, result)
        if kind == "runner_on_unreachable":
            found = f"{_SILENT}: {_first_line(result.get('msg', ''))}"
            remedy = "check its address, that it runs, and that SSH logs in with the inventory's user and key"
            return self._problem(Problem(where=host, found=found, remedy=remedy), host)
        if kind == "runner_on_failed" and not data.get("ignore_errors"):
            self.failed |= {host} if speaker == host else set()
            return self._failure(speaker, str(data.get("task") or "task"), result)
        return []

    def _count(self, kind: str, host: str, data: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any]) -> None:
        tally = self.hosts.setdefault(host, Tally())
        tally.results += 1
        if self.phases:
            self.phases[-1].results += 1
        if kind == "runner_on_ok":
            tally.ok += 1
            tally.changed += bool(result.get("changed"))
        elif kind == "runner_on_failed":
            tally.ok += bool(data.get("ignore_errors"))
            tally.failed += not data.get("ignore_errors")
        elif kind == "runner_on_unreachable":
            tally.unreachable += 1

    def _collect(self, host: str, result: t.Mapping[str, t.Any]) -> None:
        report = result.get("slipway_report")
        if isinstance(report, dict):
            self.report = joined(self.report, report)
        for each in _parts(result):
            self.holding = bool(each.get("holds", self.holding))
        for action in result.get("actions") or ():
            self.actions.setdefault(host, []).append(str(action))
        for entry in result.get("problems") or ():
            problem = problem_from(entry)
            if problem.warning:
                self._problem(problem, host)

    def _failure(self, host: str, task: str, result: t.Mapping[str, t.Any]) -> list[str]:
        stated = [problem_from(entry) for each in _parts(result) for entry in each.get("problems") or ()]
        stated = [problem for problem in stated if not problem.warning]
        lines: list[str] = []
        for problem in stated or [Problem(where=task, found=failure_text(result))]:
            lines += self._problem(problem, host)
        return lines

    def _problem(self, problem: Problem, host: str) -> list[str]:
        hosts = self.problems.setdefault(problem, [])
        if host and host not in hosts:
            hosts.append(host)
        line = ": ".join(part for part in (host, _first_line(problem.text())) if part)
        return [f"  {line}"] if not problem.warning else []


def joined(before: dict[str, t.Any] | None, now: dict[str, t.Any]) -> dict[str, t.Any]:
    """The later report; where both have findings (``checks``), one report of all of them, in order.

    Of a maintenance it tells who was done in this run and who ``before`` it, which only the first report knows.
    """
    if before and "maintenance" in before and "maintenance" in now:
        first, own = before["maintenance"], now["maintenance"]
        done = sorted({*first["done"], *own["done"]} - {*first["before"]})
        return {**now, "maintenance": {**own, "before": first["before"], "done": done}}
    if not before or "checks" not in before or "checks" not in now:
        return now
    return {
        **before,
        "ok": bool(before.get("ok")) and bool(now.get("ok")),
        "checks": [*before["checks"], *now["checks"]],
        "table": str(before.get("table") or "") + str(now.get("table") or ""),
        "seconds": round(float(before.get("seconds") or 0) + float(now.get("seconds") or 0), 1),
    }


def _parts(result: t.Mapping[str, t.Any]) -> list[t.Mapping[str, t.Any]]:
    """The result itself, and that of each item where the task was a loop."""
    return [result, *(each for each in result.get("results") or () if isinstance(each, dict))]


def _doer(host: str, result: t.Mapping[str, t.Any]) -> str:
    """Who did it: Ansible books a delegated task to the host for which it was done, its own to the one that did it."""
    delegated = result.get("_ansible_delegated_vars")
    return str((delegated if isinstance(delegated, dict) else {}).get("ansible_delegated_host") or host)


def failure_text(result: t.Mapping[str, t.Any]) -> str:
    """What a failed result says for itself: its message, and the end of what its command wrote to stderr."""
    message = str(result.get("msg") or result.get("reason") or "failed without a message").strip()
    stderr = str(result.get("stderr") or result.get("module_stderr") or "").strip()
    if stderr and stderr not in message:
        message += "\n" + "\n".join(stderr.splitlines()[-NOISE_LINES:])
    return message


def _first_line(text: t.Any) -> str:
    lines = str(text).strip().splitlines()
    return lines[0] if lines else ""


def problem_lines(problems: t.Mapping[Problem, t.Sequence[str]]) -> list[str]:
    """Each problem once, errors first, with the hosts that have it when it does not name them itself."""
    lines: list[str] = []
    for problem, hosts in sorted(problems.items(), key=lambda item: item[0].warning):
        prefix = f"{problem.where}: " if problem.where else ""
        first, *more = problem.found.splitlines() or [""]
        lines.append(f"{'warning' if problem.warning else 'error'}: {prefix}{first}")
        lines += [f"    {line}" for line in more]
        if problem.expected:
            lines.append(f"  expected: {problem.expected}")
        if problem.remedy:
            lines.append(f"  remedy: {problem.remedy}")
        if any(host not in problem.where.split() and host != problem.where for host in hosts):
            lines.append(f"  hosts: {', '.join(hosts)}")
    return lines


def table(rows: t.Sequence[t.Sequence[str]], *, numbers: bool = True) -> list[str]:
    """Rows as aligned columns: the first to the left, the others, if they are ``numbers``, to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    return [
        "  ".join(
            cell.ljust(width) if column == 0 or not numbers else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def summary_lines(log: RunLog) -> list[str]:
    """The tables at the end: results per host, seconds per phase, and who could not be reached."""
    if not log.hosts:
        return []
    rows = [["host", "ok", "changed", "failed", "unreachable", "results"]]
    for host, tally in sorted(log.hosts.items()):
        counts = (tally.ok, tally.changed, tally.failed, tally.unreachable, tally.results)
        rows.append([host, *(str(count) for count in counts)])
    lines = [*table(rows), ""]
    phases = [phase for phase in log.phases if phase.results]
    lines += table([["phase", "seconds"], *([phase.name, f"{phase.seconds:.1f}"] for phase in phases)])
    unreachable = [host for host, tally in sorted(log.hosts.items()) if tally.unreachable]
    if unreachable:
        lines += ["", f"unreachable: {', '.join(unreachable)}"]
    return lines


def done_lines(log: RunLog) -> list[str]:
    """Which of the hosts with changes are done and which are not: a turn that did not come, or something that failed.

    A host is done when modules told of every change that the plan announced, and nothing of its own failed after that.
    What is done once for the whole cluster is left out, for it says nothing of the host that does it.
    """
    hosts: t.Mapping[str, t.Any] = (log.report or {}).get("hosts") or {}
    own = {host: [each["action"] for each in changes if each["phase"] != "addons"] for host, changes in hosts.items()}
    done, left = list[str](), list[str]()
    for host in (host for host, actions in own.items() if actions):
        made = set(own[host]) <= set(log.actions.get(host, ())) and host not in log.failed
        (done if made else left).append(host)
    return [f"{word}: {', '.join(names)}" for word, names in (("done", done), ("not done", left)) if names]


def explain_lines(report: t.Mapping[str, t.Any]) -> list[str]:
    """Where each value of a host's spec came from, as a table."""
    lines: list[str] = []
    for host, settings in (report.get("explain") or {}).items():
        lines.append(f"{host}: every value and where it came from")
        lines += [f"  {line}" for line in table([[str(cell) for cell in row] for row in settings], numbers=False)]
    return lines
