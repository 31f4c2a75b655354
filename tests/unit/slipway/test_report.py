# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Events in, words out."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from slipway.report import (
    RunLog,
    done_lines,
    explain_lines,
    failure_text,
    joined,
    problem_lines,
    summary_lines,
    table,
)


def play(name: str) -> dict[str, t.Any]:
    return {"event": "playbook_on_play_start", "event_data": {"play": name}}


def result(kind: str, host: str, res: dict[str, t.Any] | None = None, **data: t.Any) -> dict[str, t.Any]:
    return {"event": f"runner_on_{kind}", "event_data": {"host": host, "task": "Do it", "res": res or {}, **data}}


def folded(*events: dict[str, t.Any]) -> RunLog:
    log = RunLog()
    for second, event in enumerate(events):
        log.fold(event, float(second))
    return log


def test_counts_every_result_of_a_host() -> None:
    log = folded(
        play("Observe"),
        result("ok", "a", {"changed": True}),
        result("ok", "a"),
        result("skipped", "a"),
        result("failed", "a", {"msg": "ignored"}, ignore_errors=True),
        result("failed", "b", {"msg": "no"}),
        result("unreachable", "c", {"msg": "timed out"}),
    )
    assert (log.hosts["a"].ok, log.hosts["a"].changed, log.hosts["a"].failed, log.hosts["a"].results) == (3, 1, 0, 4)
    assert (log.hosts["b"].failed, log.hosts["b"].results) == (1, 1)
    assert (log.hosts["c"].unreachable, log.hosts["c"].results) == (1, 1)


def test_problems_of_a_loops_items_are_told() -> None:
    problem = {"where": "cp1", "found": "held", "expected": "", "remedy": "", "warning": False}
    log = folded(result("failed", "a", {"msg": "One or more items failed", "results": [{}, {"problems": [problem]}]}))
    assert [each.found for each in log.problems] == ["held"]


def test_batches_of_one_play_are_one_phase() -> None:
    log = folded(play("Join"), result("ok", "a"), play("Join"), result("ok", "b"), play("Verify"), result("ok", "a"))
    assert [(phase.name, phase.seconds, phase.results) for phase in log.phases] == [
        ("Join", 4.0, 2),
        ("Verify", 1.0, 1),
    ]


def test_says_phases_and_problems_at_once() -> None:
    log = RunLog()
    assert log.fold(play("Nobody's"), 0) == []
    assert log.fold(play("Observe"), 0) == []
    assert log.fold({"event": "playbook_on_task_start"}, 0) == ["Observe"]
    assert log.fold({"event": "playbook_on_task_start"}, 0) == []
    assert log.fold(result("ok", "a"), 1) == []
    assert log.fold(result("failed", "a", {"msg": "broken\nbadly"}), 2) == ["  a: Do it: broken"]


def test_the_same_problem_on_two_hosts_is_said_once() -> None:
    log = folded(result("failed", "a", {"msg": "broken\nbadly"}), result("failed", "b", {"msg": "broken\nbadly"}))
    assert problem_lines(log.problems) == ["error: Do it: broken", "    badly", "  hosts: a, b"]


def test_stated_problems_take_the_place_of_the_message() -> None:
    problems = [
        {"where": "w4", "found": "same machine-id as w2", "expected": "one of its own", "remedy": "remove it"},
        {"where": "cp1", "found": "little memory", "warning": True},
    ]
    log = folded(result("failed", "w4", {"msg": "2 problems", "problems": problems}))
    assert problem_lines(log.problems) == [
        "error: w4: same machine-id as w2",
        "  expected: one of its own",
        "  remedy: remove it",
        "warning: cp1: little memory",
        "  hosts: w4",
    ]


def test_warnings_of_a_result_that_is_ok_are_kept() -> None:
    log = folded(result("ok", "a", {"problems": [{"where": "etcd", "found": "even number", "warning": True}]}))
    assert list(log.problems) == [Problem(where="etcd", found="even number", warning=True)]
    assert log.hosts["a"].failed == 0


def test_what_the_planner_refuses_is_no_host_s_fault() -> None:
    stated = {"msg": "1 problem", "problems": [{"where": "slipway_dns on w1", "found": "unknown"}]}
    log = folded(result("failed", "cp1", stated, task_action="slipway.cluster.plan"))
    assert problem_lines(log.problems) == ["error: slipway_dns on w1: unknown"]


def test_an_unreachable_host_that_the_playbook_ignores_is_no_problem() -> None:
    said = [play("Observe"), result("unreachable", "w8", {"msg": "off"}), result("unreachable", "w9", {"msg": "off"})]
    log = folded(*said, {"event": "playbook_on_stats", "event_data": {"dark": {"w8": 1}}})
    assert [problem.where for problem in log.problems] == ["w8"]
    assert (log.hosts["w8"].unreachable, log.hosts["w9"].unreachable) == (1, 0)


def test_unreachable_hosts_are_named() -> None:
    log = folded(play("Observe"), result("ok", "a"), result("unreachable", "w9", {"msg": "no route\nmore"}))
    assert "unreachable: w9" in summary_lines(log)
    assert problem_lines(log.problems)[0] == "error: w9: cannot be reached: no route"


def test_summary_has_hosts_and_seconds() -> None:
    log = folded(play("Observe"), result("ok", "cp1", {"changed": True}), play("Empty"))
    assert summary_lines(log) == [
        "host  ok  changed  failed  unreachable  results",
        "cp1    1        1       0            0        1",
        "",
        "phase    seconds",
        "Observe      2.0",
    ]


def test_actions_and_report_are_taken_from_results() -> None:
    log = folded(result("ok", "a", {"actions": ["write x"], "slipway_report": {"pending": True}}))
    assert log.actions == {"a": ["write x"]}
    assert log.report == {"pending": True}


def test_a_delegated_action_belongs_to_who_did_it() -> None:
    told = {"actions": ["create X"], "_ansible_delegated_vars": {"ansible_delegated_host": "cp1"}}
    assert folded(result("ok", "a", told)).actions == {"cp1": ["create X"]}


@pytest.mark.parametrize(
    ("res", "text"),
    [
        ({"msg": "no"}, "no"),
        ({"msg": "non-zero return code", "stderr": "disk full\n"}, "non-zero return code\ndisk full"),
        ({"msg": "disk full", "stderr": "disk full"}, "disk full"),
        ({}, "failed without a message"),
    ],
)
def test_failure_text(res: dict[str, t.Any], text: str) -> None:
    assert failure_text(res) == text


def test_table_aligns_numbers_right() -> None:
    assert table([["a", "n"], ["bcd", "10"]]) == ["a     n", "bcd  10"]
    assert table([]) == []


def test_explain_lines() -> None:
    report = {"explain": {"w1": [["slipway_dns.replicas", "2", "default"], ["slipway_x", "10", "w1"]]}}
    assert explain_lines(report) == [
        "w1: every value and where it came from",
        "  slipway_dns.replicas  2   default",
        "  slipway_x             10  w1",
    ]
    assert explain_lines({}) == []


def test_findings_of_several_plays_are_one_report() -> None:
    first = {"ok": True, "checks": [{"aspect": "a"}], "table": "a\n", "seconds": 1.5}
    second = {"ok": False, "checks": [{"aspect": "b"}], "table": "b\n", "seconds": 2.0}
    both = joined(first, second)
    assert both == {"ok": False, "checks": [{"aspect": "a"}, {"aspect": "b"}], "table": "a\nb\n", "seconds": 3.5}
    assert joined(None, first) == first
    assert joined({"pending": True}, first) == first
    assert joined(first, {"pending": True}) == {"pending": True}


def test_a_maintenance_tells_this_run_from_those_before() -> None:
    told = None
    for own in (
        {"before": ["cp1"], "done": [], "open": ["w1", "w2", "w3"]},
        {"before": [], "done": ["cp1", "w2"], "open": ["w1", "w3"]},
        {"before": [], "done": ["cp1", "w1", "w2"], "open": ["w3"]},
    ):
        told = joined(told, {"maintenance": own})
    assert told == {"maintenance": {"before": ["cp1"], "done": ["w1", "w2"], "open": ["w3"]}}


def planned(**hosts: list[str]) -> dict[str, t.Any]:
    return {
        host: [
            {"phase": phase, "module": "m", "action": action} for phase, action in (each.split(": ") for each in own)
        ]
        for host, own in hosts.items()
    }


@pytest.mark.parametrize(
    ("hosts", "made", "failed", "expected"),
    [
        ({}, {}, set(), []),
        ({"w1": [], "w2": []}, {}, set(), []),
        ({"w2": ["node: a"], "w1": ["node: a"]}, {}, set(), ["not done: w2, w1"]),
        ({"w1": ["host: a", "node: b"], "w2": ["host: a", "node: b"]}, {"w1": ["a", "b"], "w2": ["a"]}, set(),
         ["done: w1", "not done: w2"]),
        ({"w1": ["node: a"], "w2": ["node: a"]}, {"w1": ["a"]}, {"w1", "cp1"}, ["not done: w1, w2"]),
        ({"cp1": ["node: a", "addons: label w2"], "cp2": ["addons: b"]}, {"cp1": ["a"]}, set(), ["done: cp1"]),
    ],
)  # fmt: skip
def test_hosts_are_done_when_every_change_was_made_and_nothing_failed(
    hosts: dict[str, list[str]], made: dict[str, list[str]], failed: set[str], expected: list[str]
) -> None:
    assert done_lines(RunLog(report={"hosts": planned(**hosts)}, actions=made, failed=failed)) == expected


def test_a_host_has_failed_where_its_own_work_did_and_not_what_it_did_for_others() -> None:
    gate = {"msg": "not ready", "_ansible_delegated_vars": {"ansible_delegated_host": "cp1"}}
    log = folded(
        result("failed", "w1", {"msg": "no kubelet"}),
        result("failed", "w2", {"msg": "never mind"}, ignore_errors=True),
        result("failed", "w3", gate),
        result("failed", "cp2", {"msg": "no such variable"}, task_action="slipway.cluster.plan"),
    )
    assert log.failed == {"w1"}


def test_without_a_plan_nobody_is_done() -> None:
    assert done_lines(RunLog()) == []
