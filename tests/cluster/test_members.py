# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three control-plane hosts: they form together, one may be away, be replaced or come later, whichever it is.

The tests walk through the life of one lab, in this order.
"""

from __future__ import annotations

import collections.abc
import typing as t
from pathlib import Path

import pytest
import yaml

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import support


@pytest.fixture(scope="module")
def three() -> collections.abc.Iterator[Lab]:
    """Three control-plane hosts and a worker, bare at first."""
    with support.lab_of(support.lab_name("ha"), control_plane=3, workers=1) as lab:
        yield lab


def authority(lab: Lab, host: str) -> str:
    """The cluster's certificate as a host holds it."""
    return support.on(lab, host, "cat", "/etc/kubernetes/pki/ca.crt")


def test_three_form_one_cluster_together(three: Lab) -> None:
    run = support.ansible_run(three.inventory, "apply").require()
    print({host: stats.results for host, stats in run.stats.items()}, f"{run.seconds:.0f} s")
    assert support.members(three, "cp1") == dict.fromkeys(("cp1", "cp2", "cp3"), False)
    assert len({authority(three, host) for host in support.names(three)}) == 1
    support.wait_for("nodes and pods are ready", lambda: support.settled(three), timeout=240)


def test_the_second_run_changes_nothing(three: Lab) -> None:
    run = support.ansible_run(three.inventory, "apply").require()
    assert {host: stats.changed for host, stats in run.stats.items()} == dict.fromkeys(support.names(three), 0)
    assert max(stats.results for stats in run.stats.values()) <= 6


def test_no_key_has_passed_through_the_controller(three: Lab) -> None:
    """What one control-plane host sealed for another cannot be opened again: its receiver's key is in memory."""
    key = support.on(three, "cp1", "cat", "/etc/kubernetes/pki/ca.key")
    assert support.on(three, "cp2", "cat", "/etc/kubernetes/pki/ca.key") == key
    assert support.on(three, "cp3", "stat", "-f", "-c", "%T", "/run/slipway").strip() == "tmpfs"


def test_the_order_of_the_inventory_and_any_limit_mean_nothing(three: Lab, tmp_path: t.Any) -> None:
    inventory = yaml.safe_load(three.inventory.read_text(encoding="utf-8"))
    turned = {
        group: {**content, "hosts": dict(reversed(content["hosts"].items()))} if "hosts" in content else content
        for group, content in reversed(inventory.items())
    }
    shuffled = tmp_path / "inventory.yml"
    shuffled.write_text(yaml.safe_dump(turned, sort_keys=False), encoding="utf-8")
    assert not support.pending("-i", str(shuffled))
    renamed = {{"slipway_control_plane": "masters", "slipway_workers": "nodes"}.get(k, k): v for k, v in turned.items()}
    renamed["all"]["vars"]["slipway_groups"] = {"control_plane": "masters", "workers": "nodes"}
    shuffled.write_text(yaml.safe_dump(renamed, sort_keys=False), encoding="utf-8")
    assert not support.pending("-i", str(shuffled))
    for host in ("cp2", "w1"):
        assert not support.pending("-i", str(three.inventory), "--limit", host)


def test_a_dead_control_plane_host_stops_nobody(three: Lab) -> None:
    """The first of the inventory is off: it is named, the others are mended, the exit code says that one is away."""
    labs.power(three, ["cp1"], "off", cut=True)
    support.shell(three, "w1", "chmod 0644 /etc/kubernetes/kubelet.yaml")
    run = support.ansible_run(three.inventory, "apply")
    assert run.code != 0
    assert run.stats["cp1"].unreachable == 1
    assert {host: stats.failed for host, stats in run.stats.items()} == dict.fromkeys(run.stats, 0)
    assert support.on(three, "w1", "stat", "-c", "%a", "/etc/kubernetes/kubelet.yaml").strip() == "600"
    declared = {"slipway_node_absent": "{{ inventory_hostname == 'cp1' }}"}
    support.ansible_run(three.inventory, "apply", extra_vars=declared).require()
    assert support.members(three, "cp2") == dict.fromkeys(("cp1", "cp2", "cp3"), False)


def test_a_second_member_is_not_restarted_while_one_is_down(three: Lab) -> None:
    """What would cost etcd its quorum is refused before anything is touched."""
    pids = {host: support.on(three, host, "pidof", "etcd") for host in ("cp2", "cp3")}
    changed = {"slipway_node_absent": "{{ inventory_hostname == 'cp1' }}", "slipway_etcd": {"heartbeat_ms": 120}}
    run = support.ansible_run(three.inventory, "apply", extra_vars=changed)
    assert run.code != 0
    assert "quorum" in run.problem_text()
    assert {host: support.on(three, host, "pidof", "etcd") for host in ("cp2", "cp3")} == pids


def test_a_new_machine_takes_the_first_hosts_place(three: Lab) -> None:
    """Same name, same address, empty disks: its old member is removed, it joins as a learner and is promoted."""
    before = authority(three, "cp2")
    labs.renew(three, ["cp1"])
    support.ansible_run(three.inventory, "apply").require()
    assert support.members(three, "cp2") == dict.fromkeys(("cp1", "cp2", "cp3"), False)
    assert authority(three, "cp1") == before
    assert not support.pending("-i", str(three.inventory))
    support.wait_for("nodes and pods are ready", lambda: support.settled(three), timeout=240)


MOMENTS = "/run/moments"


def own_tasks(directory: Path) -> dict[str, t.Any]:
    """A file for each moment that notes it, and which kubelet ran then; the variables that name them."""
    variables: dict[str, t.Any] = {}
    for phase in ("host", "node", "addons"):
        for when in ("before", "after"):
            note = f"echo {when}_{phase} $(pidof kubelet) >> {MOMENTS}"
            text = yaml.safe_dump(
                [{"name": f"Note {when} {phase}", "ansible.builtin.shell": note, "changed_when": False}]
            )
            (directory / f"{when}_{phase}.yml").write_text(text)
            variables[f"slipway_tasks_{when}_{phase}"] = str(directory / f"{when}_{phase}.yml")
    return variables


def noted(lab: Lab, host: str) -> list[list[str]]:
    """The moments in their order, each with its kubelet's process, and forgets them."""
    lines = support.on(lab, host, "cat", MOMENTS).splitlines()
    support.on(lab, host, "rm", MOMENTS)
    return [line.split() for line in lines]


IN_ORDER = ["before_host", "after_host", "before_node", "after_node", "before_addons", "after_addons"]


def test_a_new_worker_joins_with_nobody_else_in_the_limit(three: Lab, tmp_path: Path) -> None:
    """The worker's machine is new; beyond it one control-plane host is asked and told, and no other host."""
    support.kubectl(three, "delete", "node", "w1")
    labs.renew(three, ["w1"])
    run = support.ansible_run(three.inventory, "apply", limit="w1", extra_vars=own_tasks(tmp_path)).require()
    moments = noted(three, "w1")
    assert [moment for moment, *_kubelet in moments] == IN_ORDER
    assert [len(each) for each in moments] == [1, 1, 1, 2, 2, 2], "a kubelet runs once its phase is over"
    assert set(run.stats) == {"w1"}
    touched = {action.host for action in run.actions} - {"w1"}
    assert len(touched) == 1
    assert touched <= {"cp1", "cp2", "cp3"}
    support.wait_for("nodes and pods are ready", lambda: support.settled(three), timeout=240)
    support.slipway("verify", "-i", str(three.inventory)).require()


def test_own_tasks_are_part_of_a_hosts_turn(three: Lab, tmp_path: Path) -> None:
    profile = {"groups": ["slipway_workers"], "kubelet": {"maxPods": 100}}
    extra = {**own_tasks(tmp_path), "slipway_node_profiles": [profile]}
    support.ansible_run(three.inventory, "apply", limit="w1", extra_vars=extra).require()
    moments = noted(three, "w1")
    turn = ["before_host", "before_node", "after_host", "after_node"]
    assert [moment for moment, _kubelet in moments] == [*turn, "before_addons", "after_addons"]
    old, new = moments[0][1], moments[-1][1]
    assert old != new
    assert [kubelet for _moment, kubelet in moments] == [old, old, new, new, new, new]


def test_what_runs_is_restarted_one_host_after_the_other(three: Lab) -> None:
    run = support.ansible_run(three.inventory, "apply", extra_vars={"slipway_apiserver_args": {"v": "1"}}).require()
    restarted = [action.host for action in run.actions if action.text == "restart kube-apiserver.service"]
    assert sorted(restarted) == ["cp1", "cp2", "cp3"]
    gates = [task for task in run.tasks() if task.startswith("Wait until all others are well")]
    assert gates
    support.wait_for("nodes and pods are ready", lambda: support.settled(three), timeout=240)
