# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a run, and who may go on from it."""

from __future__ import annotations

import json

import pytest

from ansible_collections.slipway.cluster.plugins.plugin_utils.core.record import (
    newer_release,
    record_object,
    unrecorded,
)


def test_the_record_says_when_by_whom_and_what() -> None:
    item = record_object(
        {"spec": "abc", "versions": {"kubernetes": "1.37.0"}},
        time="2026-11-22T14:00:00Z",
        by="me@desk",
        release="0.1.0",
    )
    assert item["metadata"] == {"name": "slipway-record", "namespace": "kube-system"}
    assert json.loads(item["data"].pop("versions")) == {"kubernetes": "1.37.0"}
    assert item["data"] == {"time": "2026-11-22T14:00:00Z", "by": "me@desk", "slipway": "0.1.0", "spec": "abc"}
    assert all(isinstance(value, str) for value in item["data"].values())


@pytest.mark.parametrize(
    ("recorded", "own", "refused"),
    [
        ({}, "0.1.0", False),
        ({"cp1": "0.1.0"}, "0.1.0", False),
        ({"cp1": "0.1.0"}, "0.2.0", False),
        ({"cp1": "0.2.0"}, "0.1.9", True),
        ({"cp1": "0.10.0"}, "0.9.0", True),
        ({"cp1": "1.0.0"}, "1.0.0-rc.1", True),
        ({"cp1": "1.0.0-rc.1"}, "1.0.0", False),
        ({"cp1": "0.1.0", "cp2": "0.3.0"}, "0.2.0", True),
        ({"cp1": "not a version"}, "0.1.0", False),
    ],
)
def test_an_older_slipway_refuses_a_newer_ones_cluster(recorded: dict[str, str], own: str, refused: bool) -> None:
    problems = newer_release(recorded, own)
    assert bool(problems) is refused
    assert all(own in problem.found and max(recorded.values()) in problem.found for problem in problems)


@pytest.mark.parametrize(
    ("versions", "due"),
    [
        (None, True),
        ("", True),
        ("half a { line", True),
        ('{"etcd": "3.6.14"}', True),
        ('{"etcd": "3.7.0"}', False),
    ],
)
def test_a_run_that_was_cut_before_its_record_leaves_it_to_the_next(versions: str | None, due: bool) -> None:
    seen = None if versions is None else {"spec": "of another hash", "versions": versions}
    assert unrecorded(seen, {"spec": "abc", "versions": {"etcd": "3.7.0"}}) is due


def test_a_record_that_was_written_is_found_to_be_one() -> None:
    record = {"spec": "abc", "versions": {"etcd": "3.7.0"}}
    assert not unrecorded(record_object(record, time="now", by="me", release="0.1.0")["data"], record)
