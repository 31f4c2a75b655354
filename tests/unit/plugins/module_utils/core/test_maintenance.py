# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An unfinished maintenance is continued, a finished one forgotten, and other tasks are another one."""

from __future__ import annotations

import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.maintenance import (
    Maintenance,
    MaintenanceWant,
    finished_before,
    object_of,
    parse_maintenance,
    plan_maintenance,
    replaced,
    report,
    target,
)


def want(
    hosts: str, *, done: bool = False, again: bool = False, tasks: str = "t", cluster: str = ""
) -> MaintenanceWant:
    return MaintenanceWant(tasks, frozenset(hosts.split()), done, again, frozenset(cluster.split()) or None)


def seen(hosts: str, finished: str = "", tasks: str = "t") -> Maintenance:
    return Maintenance(tasks, frozenset(hosts.split()), frozenset(finished.split()))


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
    ],
)
def test_what_need_not_be_done_again(asked: MaintenanceWant, known: Maintenance | None, finished: list[str]) -> None:
    assert finished_before(asked, known) == finished


@pytest.mark.parametrize(
    ("asked", "known", "done", "left"),
    [
        (want("a b"), None, [], ["a", "b"]),
        (want("a", done=True), seen("a b"), ["a"], ["b"]),
        (want("b", done=True), seen("a b", "a"), ["a", "b"], []),
        (want("a", done=True), None, ["a"], []),
    ],
)
def test_report(asked: MaintenanceWant, known: Maintenance | None, done: list[str], left: list[str]) -> None:
    assert report(asked, known) == {"done": done, "open": left}


def test_another_maintenance_is_given_up_in_words() -> None:
    assert "(b were left)" in replaced(want("a", tasks="u"), seen("a b", "a"))
    for asked, known in ((want("a"), seen("a b")), (want("a"), None), (want("a", tasks="u", done=True), seen("a"))):
        assert replaced(asked, known) == ""


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
    maintenance = seen("a b", "a")
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
        {"data": {"tasks": "t", "hosts": "[]"}},
        {"data": {"tasks": "t", "hosts": "{", "finished": "[]"}},
        {"data": {"tasks": "t", "hosts": "7", "finished": "[]"}},
    ],
)
def test_what_a_person_broke_counts_as_none(item: dict[str, t.Any] | None) -> None:
    assert parse_maintenance(item) is None
