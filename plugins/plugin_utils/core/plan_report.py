# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan as a person and a program want it: what the planner says and what the cluster says, in one report.

A report is a mapping: ``cluster`` (its name), ``pending`` (whether anything would change), ``hosts`` (host to its
changes in the order in which apply makes them, each with ``module``, ``phase`` and ``action``), ``diff`` (host to texts
before and after) and ``warnings`` (problems).
"""

from __future__ import annotations

import collections
import difflib
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem

Report = dict[str, t.Any]

PHASES = (
    "host",
    "seed",
    "artifacts",
    "containerd",
    "pki",
    "etcd",
    "keeper",
    "control_plane",
    "registry",
    "metrics",
    "node",
    "network",
    "addons",
    "docker",
    "record",
)
"""The order of playbooks/apply.yml."""


class Answer(t.NamedTuple):
    """What a module said in check mode: the phase in which apply does it, sentences and differences."""

    phase: str
    actions: t.Sequence[str]
    diff: t.Sequence[t.Mapping[str, t.Any]] = ()
    module: str = "manifests"


def merge(
    planned: t.Mapping[str, t.Any],
    leader: str,
    answers: t.Iterable[Answer],
    others: t.Mapping[str, Answer] | None = None,
    warnings: t.Iterable[t.Mapping[str, t.Any]] = (),
) -> Report:
    """The planner's report together with what the ``leader`` would do to the cluster's objects.

    ``others`` are hosts beside the cluster, which were asked themselves; ``warnings`` are the hosts' own.
    """
    hosts = {host: list(changes) for host, changes in planned["hosts"].items()}
    diff = {host: list(texts) for host, texts in planned["diff"].items()}
    for host, answer in [*((leader, each) for each in answers), *(others or {}).items()]:
        hosts.setdefault(host, []).extend(
            {"phase": answer.phase, "module": answer.module, "action": action} for action in answer.actions
        )
        diff.setdefault(host, []).extend(
            {"before": entry["before"], "after": entry["after"], "name": entry["after_header"]} for entry in answer.diff
        )
    ordered = {host: sorted(changes, key=_position) for host, changes in hosts.items()}
    told = [*(planned.get("warnings") or ()), *(dict(each) for each in warnings)]
    return {**planned, "pending": any(ordered.values()), "hosts": ordered, "diff": diff, "warnings": told}


def _position(change: t.Mapping[str, t.Any]) -> tuple[int, bool]:
    phase = change["phase"]
    rank = PHASES.index(phase) if phase in PHASES else len(PHASES)
    # Hosts are let in before they knock.
    return rank, change["module"] != "bootstrap_token"


def plan_lines(report: t.Mapping[str, t.Any]) -> list[str]:
    """The report for a person: per host how much would change and what, then the warnings."""
    hosts: t.Mapping[str, t.Any] = report.get("hosts") or {}
    width = max((len(host) for host in hosts), default=0)
    lines: list[str] = []
    for host, changes in hosts.items():
        lines.append(f"{host:<{width}}  {change_count(changes)}")
        lines += [f"{'':<{width}}    {change_text(change)}" for change in changes]
    lines += [f"warning: {problem_text(entry)}" for entry in report.get("warnings") or ()]
    return lines


def change_count(changes: t.Sequence[t.Any]) -> str:
    """How many changes, by module in the order in which they come."""
    if not changes:
        return "= nothing to do"
    modules = collections.Counter(module_of(change) for change in changes)
    parts = ", ".join(f"{module} {number}" if module else str(number) for module, number in modules.items())
    return f"+ {len(changes)} change{'' if len(changes) == 1 else 's'}: {parts}"


def diff_lines(report: t.Mapping[str, t.Any]) -> list[str]:
    """The planned differences of files, host by host, as unified diffs; secrets are not among them."""
    lines: list[str] = []
    for host, changes in (report.get("diff") or {}).items():
        for change in changes:
            before, after = str(change["before"] or "").splitlines(), str(change["after"] or "").splitlines()
            name = f"{host}: {change['name']}"
            lines += difflib.unified_diff(before, after, f"{name} (now)", f"{name} (planned)", lineterm="")
    return lines


def module_of(change: t.Any) -> str:
    """The short name of the module that would make a change."""
    return str(change.get("module", "")).rpartition(".")[2] if isinstance(change, dict) else ""


def change_text(change: t.Any) -> str:
    """One planned change: its sentence, after the module that would make it."""
    sentence = str(change.get("action", "")) if isinstance(change, dict) else str(change)
    module = module_of(change)
    return f"{module}: {sentence}" if module else sentence


def problem_from(entry: t.Any) -> Problem:
    """A problem as a task's result carries it: a mapping with Problem's fields, or a sentence."""
    if not isinstance(entry, dict):
        return Problem(where="", found=str(entry))
    return Problem(
        where=str(entry.get("where", "")),
        found=str(entry.get("found", "")),
        expected=str(entry.get("expected", "")),
        remedy=str(entry.get("remedy", "")),
        warning=bool(entry.get("warning", False)),
    )


def problem_text(entry: t.Any) -> str:
    """A problem as one line."""
    problem = problem_from(entry)
    return problem.text() if problem.where else problem.found
