# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An unfinished maintenance is continued, a finished one forgotten, and other tasks are another one."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.maintenance import (
    Maintenance,
    MaintenanceWant,
    finished_before,
    notices,
    object_of,
    parse_maintenance,
    plan_maintenance,
    report,
    target,
)

BEGAN = datetime.datetime(2030, 5, 1, 8, 30, 15, tzinfo=datetime.UTC)


def want(hosts: str, *, hours: int = 0, tasks: str = "t", done: bool = False, **given: t.Any) -> MaintenanceWant:
    """So many hours after the first one began; groups of hosts as texts."""
    more: dict[str, t.Any] = {
        key: frozenset(value.split()) if isinstance(value, str) else value for key, value in given.items()
    }
    return MaintenanceWant(tasks, frozenset(hosts.split()), BEGAN + datetime.timedelta(hours=hours), done, **more)


def seen(hosts: str, finished: str = "", tasks: str = "t", silent: str = "", hours: int = 0) -> Maintenance:
    groups = [frozenset(names.split()) for names in (hosts, finished, silent)]
    return Maintenance(tasks, BEGAN + datetime.timedelta(hours=hours), *groups)


@pytest.mark.parametrize(
    ("asked", "known", "after"),
    [
        (want("a b"), None, seen("a b")),
        (want("a b"), seen("a b", "a"), seen("a b", "a")),
        (want("a c"), seen("a b", "a"), seen("a b c", "a")),
        (want("a b", again=True), seen("a b", "a"), seen("a b")),
        (want("a b", tasks="u"), seen("a b", "a"), seen("a b", tasks="u")),
        (want("a", done=True), seen("a b"), seen("a b", "a")),
        (want("b", done=True), seen("a b", "a"), None),
        (want("a b", done=True), seen("a b"), None),
        (want("a", done=True), None, None),
        (want("a b", cluster="a b"), seen("a b c", "a c"), seen("a b", "a")),
        (want("a", cluster="a b"), seen("a b c", "a"), seen("a b", "a")),
        (want("a b", cluster="a b"), seen("a b c", "a b"), seen("a b")),
        (want("a b", cluster="a b"), None, seen("a b")),
        (want("a b", silent="b"), None, seen("a b", silent="b")),
        (want("a", done=True), seen("a b", silent="b"), seen("a b", "a", silent="b")),
        (want("a b", hours=24, silent="b"), seen("a b", "a", silent="b"), seen("a b", "a", silent="b")),
        (want("a b", hours=24), seen("a b", "a", silent="b"), seen("a b", "a")),
        (want("a b", hours=25, silent="b"), seen("a b", "a", silent="b"), seen("a b", silent="b", hours=25)),
        (want("a b", hours=25), seen("a b", "a", silent="b"), seen("a b", hours=25)),
        (want("b", hours=25), seen("a b", "a", silent="b"), seen("b", hours=25)),
        (want("a b c", hours=25), seen("a b c", "a", silent="b"), seen("a b c", "a")),
        (want("a", done=True, hours=25), seen("a b", silent="b"), seen("a b", "a", silent="b")),
    ],
)
def test_what_is_remembered(asked: MaintenanceWant, known: Maintenance | None, after: Maintenance | None) -> None:
    assert target(asked, known) == after
    changes = plan_maintenance(asked, known)
    assert bool(changes) == (known != after)
    if not asked.again:
        assert plan_maintenance(asked, after) == [] or after is None


def test_the_step_is_shown() -> None:
    (change,) = plan_maintenance(want("a", done=True), seen("a b"))
    assert (change.name, change.before, change.after) == (
        "remember which hosts are maintained",
        "a: open\nb: open\n",
        "a: finished\nb: open\n",
    )
    (change,) = plan_maintenance(want("b", done=True), seen("a b", "a"))
    assert (change.name, change.after) == ("forget the finished maintenance", "")


@pytest.mark.parametrize(
    ("asked", "known", "finished"),
    [
        (want("a b"), seen("a b c", "a c"), ["a"]),
        (want("a b", again=True), seen("a b", "a"), []),
        (want("a b", tasks="u"), seen("a b", "a"), []),
        (want("a b"), None, []),
        (want("a", done=True), seen("a b"), []),
        (want("a"), seen("a", "a"), []),
        (want("a b", cluster="a b"), seen("a b c", "a c"), ["a"]),
        (want("a b", cluster="a b"), seen("a b c", "a b"), []),
        (want("a b", hours=25), seen("a b", "a", silent="b"), []),
    ],
)
def test_what_need_not_be_done_again(asked: MaintenanceWant, known: Maintenance | None, finished: list[str]) -> None:
    assert finished_before(asked, known) == finished


@pytest.mark.parametrize(
    ("asked", "known", "before", "done", "left"),
    [
        (want("a b"), None, [], [], ["a", "b"]),
        (want("a b"), seen("a b", "a"), ["a"], [], ["b"]),
        (want("b"), seen("a b", "a"), ["a"], [], ["b"]),
        (want("a", done=True), seen("a b"), [], ["a"], ["b"]),
        (want("b", done=True), seen("a b", "a"), [], ["a", "b"], []),
        (want("a", done=True), None, [], ["a"], []),
    ],
)
def test_report(
    asked: MaintenanceWant, known: Maintenance | None, before: list[str], done: list[str], left: list[str]
) -> None:
    assert report(asked, known) == {"before": before, "done": done, "open": left}


@pytest.mark.parametrize(
    ("asked", "known", "said"),
    [
        (want("a", tasks="u"), seen("a b", "a"), "one with other tasks was not finished (b were left); this one"),
        (want("a", tasks="u", done=True), seen("a"), ""),
        (want("a b"), seen("a b c", "a c"), "goes on with that of 2030-05-01 08:30 UTC and passes over a, finished"),
        (want("b"), seen("a b c", "a c"), ""),
        (want("a b", again=True), seen("a b", "a"), ""),
        (want("a b", hours=25), seen("a b", "a", silent="b"), "that of 2030-05-01 08:30 UTC waits no longer for b; th"),
        (want("b", done=True), seen("a b", "a"), ""),
        (want("a"), seen("a b"), ""),
        (want("a"), None, ""),
    ],
)
def test_nobody_is_passed_over_and_no_maintenance_given_up_without_a_word(
    asked: MaintenanceWant, known: Maintenance | None, said: str
) -> None:
    found = notices(asked, known)
    assert [problem.found[: len(said)] for problem in found] == ([said] if said else [])
    assert all(problem.warning for problem in found)


MEMORY = object_of(seen("a b", "a"))["data"]


@given(st.permutations("abcd"), st.integers(0, 3), st.booleans())
def test_any_order_ends_with_nothing_to_remember(order: list[str], cut: int, again: bool) -> None:
    known: Maintenance | None = target(want("a b c d"), None)
    for host in order[:cut]:
        known = target(want(host, done=True), known)
    known = target(want("a b c d", again=again), known)
    assert known is not None
    for host in order if again else order[cut:]:
        assert known is not None
        known = target(want(host, done=True), known)
    assert known is None


def test_the_object_holds_it_all() -> None:
    maintenance = seen("a b", "a", silent="b")
    item = object_of(maintenance, "7")
    assert item["metadata"] == {"name": "slipway-maintenance", "namespace": "kube-system", "resourceVersion": "7"}
    assert "resourceVersion" not in object_of(maintenance)["metadata"]
    assert parse_maintenance(item) == maintenance


@pytest.mark.parametrize(
    "item",
    [
        None,
        {},
        {"data": None},
        {"data": {**MEMORY, "finished": None}},
        {"data": {**MEMORY, "hosts": "{"}},
        {"data": {**MEMORY, "hosts": "7"}},
        {"data": {**MEMORY, "began": ""}},
        {"data": {**MEMORY, "began": "yesterday"}},
        {"data": {key: value for key, value in MEMORY.items() if key != "silent"}},
    ],
)
def test_what_a_person_broke_counts_as_none(item: dict[str, t.Any] | None) -> None:
    assert parse_maintenance(item) is None
