# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One report of what would change: merged, ordered as apply goes, and put into words."""

from __future__ import annotations

import pathlib
import typing as t

import yaml

from ansible_collections.slipway.cluster.plugins.plugin_utils.core.plan_report import (
    Answer,
    diff_lines,
    merge,
    plan_lines,
)

ROOT = pathlib.Path(__file__).parents[5]


def change(phase: str, module: str, action: str) -> dict[str, str]:
    return {"phase": phase, "module": module, "action": action}


def planned(**hosts: t.Any) -> dict[str, t.Any]:
    return {"cluster": "c", "pending": any(hosts.values()), "hosts": hosts, "diff": {}, "warnings": []}


def test_merge_puts_changes_in_the_order_of_apply() -> None:
    seed = change("seed", "seed", "bring etcd 3.7.0")
    host = change("host", "host", "create user etcd")
    kubelet = change("node", "component", "start kubelet.service")
    token = change("node", "bootstrap_token", "create bootstrap token")
    label = change("addons", "node", "label node w1")
    report = merge(
        planned(cp1=[seed, host, kubelet, label, token], w1=[]),
        "cp1",
        [
            Answer("control_plane", ["create ClusterRole a"]),
            Answer("addons", ["create Deployment kube-system/coredns"]),
            Answer("record", ["create ConfigMap kube-system/slipway-record"]),
        ],
    )
    assert [entry["action"] for entry in report["hosts"]["cp1"]] == [
        "create user etcd",
        "bring etcd 3.7.0",
        "create ClusterRole a",
        "create bootstrap token",
        "start kubelet.service",
        "label node w1",
        "create Deployment kube-system/coredns",
        "create ConfigMap kube-system/slipway-record",
    ]
    assert report["hosts"]["w1"] == []
    assert report["pending"]


def test_hosts_beside_the_cluster_come_with_what_they_were_asked() -> None:
    diff = [{"before": "", "after": "{}", "after_header": "write daemon.json"}]
    others = {"d1": Answer("docker", ["write daemon.json"], diff, "docker"), "d2": Answer("docker", [])}
    report = merge(planned(cp1=[]), "cp1", [], others)
    assert report["hosts"] == {"cp1": [], "d1": [change("docker", "docker", "write daemon.json")], "d2": []}
    assert report["diff"]["d1"] == [{"before": "", "after": "{}", "name": "write daemon.json"}]
    assert report["pending"]
    assert not merge(planned(cp1=[]), "cp1", [], {"d2": others["d2"]})["pending"]


def test_what_hosts_warn_of_is_in_the_report_and_is_no_change() -> None:
    planner, host = {"where": "w1", "found": "is cordoned"}, {"where": "cp1 to w1", "found": "is closed"}
    before = planned(cp1=[]) | {"warnings": [planner]}
    report = merge(before, "cp1", [], {}, [host])
    assert report["warnings"] == [planner, host]
    assert before["warnings"] == [planner]
    assert not report["pending"]
    assert plan_lines(report) == ["cp1  = nothing to do", "warning: w1: is cordoned", "warning: cp1 to w1: is closed"]


def test_merge_of_nothing_is_nothing_and_changes_no_argument() -> None:
    before = planned(cp1=[], w1=[])
    assert merge(before, "cp1", [Answer("addons", [])]) == before | {"diff": {"cp1": []}}
    assert before["diff"] == {}


def test_an_object_alone_is_pending_and_shows_its_difference() -> None:
    diff = [{"before": "a\n", "after": "b\n", "before_header": "update X", "after_header": "update X"}]
    report = merge(planned(cp1=[]), "cp1", [Answer("addons", ["update X"], diff)])
    assert report["pending"]
    assert report["hosts"]["cp1"] == [change("addons", "manifests", "update X")]
    assert report["diff"] == {"cp1": [{"before": "a\n", "after": "b\n", "name": "update X"}]}


def test_every_phase_of_the_planner_has_its_place() -> None:
    """Tags of apply.yml's plays come in the same order as the phases."""
    plays = yaml.safe_load((ROOT / "playbooks/apply.yml").read_text(encoding="utf-8"))
    tags = [play["tags"][0] for play in plays if "hosts" in play]
    places = ["host", "etcd", "control_plane", "node", "addons", "record"]
    assert list(dict.fromkeys(tag for tag in tags if tag in places)) == places
    assert [tag for tag in tags if tag in places] == sorted((tag for tag in tags if tag in places), key=places.index)


def test_plan_lines() -> None:
    report = {
        "pending": True,
        "hosts": {"cp1": [{"module": "slipway.cluster.etcd", "action": "start it"}, {"action": "write x"}], "w1": []},
        "warnings": ["flannel enforces no NetworkPolicy", {"where": "etcd", "found": "two members"}],
    }
    assert plan_lines(report) == [
        "cp1  + 2 changes: etcd 1, 1",
        "       etcd: start it",
        "       write x",
        "w1   = nothing to do",
        "warning: flannel enforces no NetworkPolicy",
        "warning: etcd: two members",
    ]


def test_diff_lines() -> None:
    report = {"diff": {"w1": [{"name": "kubelet config", "before": None, "after": "a\nb\n"}]}}
    assert diff_lines(report) == [
        "--- w1: kubelet config (now)",
        "+++ w1: kubelet config (planned)",
        "@@ -0,0 +1,2 @@",
        "+a",
        "+b",
    ]
