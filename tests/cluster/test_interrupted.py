# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A first apply that is cut again and again: each run goes on where the last one ended, and no key is made twice.

The tests walk through one first apply, in the order of its changes. Modules are killed on a host before and after
five telling changes (tests/drills/test_every_cut.py takes all), the whole run on the controller at three moments.
"""

from __future__ import annotations

import collections.abc
import json
import time
from pathlib import Path

import pytest
import yaml

from ansible_collections.slipway.cluster.plugins.plugin_utils.release import person
from slipway.lab import Lab
from tests.cluster import cutting, support
from tests.cluster.cutting import Cut, Keys

KUBERNETES_CA = "make authority kubernetes"
APISERVER_UNIT = "write /etc/systemd/system/kube-apiserver.service"
TOKEN_FILE = "write /run/slipway/bootstrap-kubelet.conf"


@pytest.fixture(scope="module")
def pair() -> collections.abc.Iterator[Lab]:
    """A control-plane host and a worker, bare at first."""
    with support.lab_of(support.lab_name("cut"), workers=1) as lab:
        yield lab


@pytest.fixture(scope="module")
def keys(pair: Lab) -> Keys:
    """What was made in all these runs."""
    return Keys(pair)


def cut_short(lab: Lab, keys: Keys, *changes: tuple[str, str, str]) -> None:
    """Two runs, killed before and after a change (host, module, name) of each of these hosts."""
    cuts = [Cut(*change, when) for change in changes for when in ("before", "after")]
    cutting.arm(lab, cuts)
    for met in (1, 2):
        run = support.ansible_run(lab.inventory, "apply")
        assert run.code != 0, f"the run came to its end\n{run.output()}"
        for host, _module, name in changes:
            left = [cut for cut in cuts if cut.host == host][met:]
            assert cutting.armed(lab, host) == left, f"not met: {name}\n{run.problem_text()}"
            assert run.stats[host].failed == 1, run.output()
        keys.look()


def test_cut_while_artefacts_are_unpacked_and_after_the_first_ca(pair: Lab, keys: Keys) -> None:
    unpack = ("w1", "artifacts", f"unpack kubelet {version('kubernetes')}")
    cut_short(pair, keys, unpack, ("cp1", "pki", KUBERNETES_CA))
    assert support.ask(pair, "w1", "test", "-e", "/opt/slipway/kubelet/current").returncode == 1
    assert "etc/kubernetes/pki/ca.key" in keys.seen["cp1"]
    assert "etc/kubernetes/pki/sa.key" not in keys.seen["cp1"]


def version(component: str) -> str:
    """A component's version in the bundle."""
    bundle = json.loads((support.BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    return str(bundle["versions"][component])


def test_a_module_that_outlives_its_killed_run_is_waited_for(pair: Lab, keys: Keys, tmp_path: Path) -> None:
    with cutting.running(pair, tmp_path / "first") as first:
        cutting.waits_for(pair, "w1", cutting.in_module("artifacts", "STOP"))
        module = str(cutting.holder(pair, "w1")["pid"])
        cutting.kill_tree(first)
    support.on(pair, "w1", "kill", "-0", module)
    with cutting.running(pair, tmp_path / "second") as second:
        others = f"find /proc/[0-9]*/fd -lname {cutting.LOCK} | grep -v ^/proc/{module}/"
        cutting.waits_for(pair, "w1", others)
        assert cutting.holder(pair, "w1")["pid"] == int(module)
        assert second.poll() is None
        support.on(pair, "w1", "kill", "-CONT", module)
        cutting.waits_for(pair, "w1", "test -e /opt/slipway/kubelet/current")
        cutting.waits_for(pair, "w1", cutting.in_module("containerd"))
    assert support.ask(pair, "w1", "kill", "-0", module).returncode == 1
    keys.look()


def test_of_two_runs_at_once_one_works_and_the_other_says_who(pair: Lab, keys: Keys, tmp_path: Path) -> None:
    with cutting.running(pair, tmp_path / "first") as first:
        # It must not get any further while the others look: the next tests cut what comes then.
        cutting.waits_for(pair, "cp1", cutting.in_module("host|artifacts|containerd|pki", "STOP"))
        module = str(cutting.holder(pair, "cp1")["pid"])
        run = cutting.held(pair, "cp1")["run"]
        second = support.slipway("apply", "-i", str(pair.inventory))
        assert second.code == 1, second.out
        assert f"another run holds the cluster: apply of {person()}" in second.out
        looking = support.slipway("plan", "--json", "-i", str(pair.inventory))
        warnings = json.loads(looking.out)["warnings"]
        assert any("another run holds the cluster" in warning["found"] for warning in warnings), "plan only warns"
        assert cutting.held(pair, "cp1")["run"] == run
        assert first.poll() is None
    support.on(pair, "cp1", "kill", "-CONT", module)
    keys.look()


def test_the_hold_of_a_killed_run_is_taken_over_at_once_and_another_machines_is_not(
    pair: Lab, keys: Keys, tmp_path: Path
) -> None:
    left = cutting.held(pair, "cp1")
    assert left["released"] is False
    elsewhere = json.dumps({**left, "run": "another-machine 1 1", "by": "ann@elsewhere"})
    support.on(pair, "cp1", "tee", cutting.HOLD, stdin=elsewhere)
    refused = support.slipway("apply", "-i", str(pair.inventory))
    assert "apply of ann@elsewhere" in refused.out
    support.on(pair, "cp1", "tee", cutting.HOLD, stdin=json.dumps(left))
    with cutting.running(pair, tmp_path / "run"):
        cutting.waits_for(pair, "cp1", f"! grep -qF '{left['run']}' {cutting.HOLD}")
    keys.look()


def test_cut_around_the_start_of_etcd(pair: Lab, keys: Keys) -> None:
    cut_short(pair, keys, ("cp1", "etcd_member", "start etcd.service"))
    assert support.ask(pair, "cp1", "test", "-e", "/etc/etcd/formed").returncode == 1


def test_cut_while_the_control_plane_is_written(pair: Lab, keys: Keys) -> None:
    cut_short(pair, keys, ("cp1", "component", APISERVER_UNIT))


def test_killed_while_the_control_plane_starts(pair: Lab, keys: Keys, tmp_path: Path) -> None:
    with cutting.running(pair, tmp_path / "run") as run:
        cutting.waits_for(pair, "cp1", "systemctl show -P ActiveState kube-apiserver.service | grep -q ^activating")
        cutting.kill_tree(run)
    keys.look()


def test_cut_while_a_worker_joins(pair: Lab, keys: Keys) -> None:
    cut_short(pair, keys, ("w1", "component", TOKEN_FILE))


def test_killed_while_a_worker_joins(pair: Lab, keys: Keys, tmp_path: Path) -> None:
    with cutting.running(pair, tmp_path / "run") as run:
        cutting.waits_for(pair, "w1", f"{cutting.in_module('component')} && systemctl is-active kubelet.service")
        cutting.kill_tree(run)
    keys.look()


def test_then_it_converges(pair: Lab, keys: Keys) -> None:
    cutting.converge(pair, keys)


def test_a_run_cut_before_its_record_leaves_it_to_the_next(pair: Lab, keys: Keys) -> None:
    support.kubectl(pair, "-n", "kube-system", "delete", "configmap", "slipway-record")
    plan = support.slipway("plan", "--json", "-i", str(pair.inventory))
    assert plan.code == 2, plan.out
    said = [
        step["action"] for host in json.loads(plan.out)["hosts"].values() for step in host if step["phase"] == "record"
    ]
    assert len(said) == 1, plan.out
    run = support.ansible_run(pair.inventory, "apply").require()
    assert {host: stats.changed for host, stats in run.stats.items()} == {"cp1": 1, "w1": 0}
    assert support.kubectl(pair, "-n", "kube-system", "get", "configmap", "slipway-record", "--output=name").strip()
    support.slipway("plan", "-i", str(pair.inventory)).require()
    keys.look()


def test_a_run_waits_for_another_as_long_as_it_was_told(pair: Lab, tmp_path: Path) -> None:
    last = cutting.held(pair, "cp1")
    other = {**last, "run": "another-machine 1 1", "by": "ann@elsewhere", "released": False}
    support.on(pair, "cp1", "tee", cutting.HOLD, stdin=json.dumps(other))
    refused = support.slipway("apply", "-i", str(pair.inventory), "-e", "slipway_hold_wait=5").require(1)
    assert "apply of ann@elsewhere" in refused.out
    log = tmp_path / "waiting"
    with cutting.running(pair, log, extra_vars={"slipway_hold_wait": 300}) as waiting:
        support.wait_for("it waits", lambda: None if WAITING in log.read_text() else log.read_text(), timeout=60)
        time.sleep(10)
        support.on(pair, "cp1", "tee", cutting.HOLD, stdin=json.dumps({**other, "released": True}))
        assert waiting.wait(timeout=300) == 0, log.read_text()


WAITING = "TASK [Wait until no other run holds the host]"


def test_a_reset_of_one_host_meets_the_run_that_holds_the_control_plane(pair: Lab, tmp_path: Path) -> None:
    words = ("--limit", "w1", "--confirm", pair.name)
    last = cutting.held(pair, "cp1")
    other = {**last, "run": "another-machine 1 1", "by": "ann@elsewhere", "released": False}
    support.on(pair, "cp1", "tee", cutting.HOLD, stdin=json.dumps(other))
    refused = support.slipway("reset", "-i", str(pair.inventory), *words).require(1)
    assert "apply of ann@elsewhere" in refused.out
    assert support.on(pair, "w1", "systemctl", "is-active", "kubelet").strip() == "active"

    support.on(pair, "cp1", "tee", cutting.HOLD, stdin=json.dumps({**other, "released": True}))
    support.slipway("reset", "-i", str(pair.inventory), *words).require()
    assert support.ask(pair, "w1", "systemctl", "is-active", "kubelet").stdout.strip() != "active"
    mine = cutting.held(pair, "cp1")
    assert (mine["verb"], mine["released"]) == ("reset", True)

    support.on(pair, "w1", "mkdir", "/etc/slipway")
    data = yaml.safe_load(pair.inventory.read_text(encoding="utf-8"))
    control_plane = data["slipway_control_plane"]["hosts"]
    control_plane["cp1"] = {**(control_plane["cp1"] or {}), "ansible_port": 1}
    deaf = tmp_path / "inventory.yml"
    deaf.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    support.slipway("reset", "-i", str(deaf), *words).require()
    assert support.ask(pair, "w1", "test", "-e", "/etc/slipway").returncode == 1, "it goes on where nobody can be met"
