# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the plan action makes of Ansible's variables."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible.parsing.dataloader import DataLoader

from ansible_collections.slipway.cluster.plugins.action.plan import _inputs, plain, reason


def test_tagged_values_become_plain_ones() -> None:
    loaded = DataLoader().load("{a: [text, 1, 1.5, true, null], b: {c: d}, 2: x, day: 2026-01-01}")
    assert type(loaded["b"]) is not dict or type(loaded["a"][0]) is not str, "Ansible tags what it loads"
    found = plain(loaded)
    assert found == {"a": ["text", 1, 1.5, True, None], "b": {"c": "d"}, 2: "x", "day": "2026-01-01"}

    def types(value: t.Any) -> set[type]:
        if isinstance(value, dict):
            return {type(value)}.union(*(types(item) for pair in value.items() for item in pair))
        return {type(value)}.union(*map(types, value)) if isinstance(value, list) else {type(value)}

    assert types(found) <= {dict, list, str, int, float, bool, type(None)}


@pytest.mark.parametrize(
    ("value", "expected"),
    [("\udcff", "\udcff"), ((1, 2), [1, 2]), (True, True), (datetime.date(2026, 1, 2), "2026-01-02")],
)
def test_whatever_it_is_it_becomes_data(value: t.Any, expected: t.Any) -> None:
    found = plain(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ({}, "could not be reached"),
        ({"msg": ""}, "could not be reached"),
        ({"msg": "Connection timed out", "unreachable": True}, "Connection timed out"),
        (
            {"msg": "MODULE FAILURE", "module_stderr": "/bin/sh: python3: not found\n", "module_stdout": ""},
            "MODULE FAILURE; /bin/sh: python3: not found",
        ),
        ({"module_stderr": None, "module_stdout": "SyntaxError"}, "SyntaxError"),
    ],
)
def test_why_a_host_is_silent(result: dict[str, t.Any], expected: str) -> None:
    assert reason(result) == expected


def test_the_inventory_is_taken_apart_by_host() -> None:
    probe = {"probe": {"hostname": "cp1"}, "clock": {"before": 1.0, "after": 2.0}}
    hostvars = {
        "cp1": {
            "group_names": ["slipway_control_plane"],
            "slipway_cluster_name": "prod",
            "slipway_probe": probe,
            "slipway_plan": {"large": True},
            "ansible_host": "10.0.0.11",
            "ansible_user": "root",
        },
        "w1": {"group_names": ["slipway_workers"], "slipway_probe": {"msg": "Permission denied"}},
        "w2": {"group_names": ["slipway_workers"]},
        "other": {"group_names": []},
    }
    found = _inputs(
        {"hostvars": hostvars, "groups": {"all": list(hostvars)}, "ansible_play_hosts_all": ["cp1", "w1", "w2"]}
    )
    assert found.hosts["cp1"].variables == {"slipway_cluster_name": "prod", "ansible_host": "10.0.0.11"}
    assert found.hosts["w1"].groups == {"slipway_workers"}
    assert set(found.hosts) == set(hostvars)
    assert found.probes == {"cp1": {"hostname": "cp1"}}
    assert found.clocks == {"cp1": {"before": 1.0, "after": 2.0}}
    assert found.silent == {"w1": "Permission denied", "w2": "could not be reached"}
