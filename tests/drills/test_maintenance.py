# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All hosts of a cluster are rebooted in turn while its users notice nothing, and control-plane hosts leave it.

Three control-plane hosts and three workers. The client is a process on a host that is not rebooted meanwhile, and asks
a Service by its cluster address ten times a second.
"""

from __future__ import annotations

import collections.abc
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import yaml

from slipway import lab as labs
from slipway.lab import Lab
from slipway.lab.control import ssh_command
from tests.cluster import cutting, support
from tests.cluster.cutting import Cut

IMAGE = "slipway.local/agnhost:2.66.1"
END = "/run/drill-end"
CLIENT = """
import json, pathlib, sys, time, urllib.request
asked, failed = 0, []
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
while not pathlib.Path(sys.argv[2]).exists():
    started = time.monotonic()
    try:
        with opener.open(sys.argv[1] + "/hostname", timeout=5) as answer:
            assert answer.read()
    except Exception as error:
        failed.append(f"{asked}: {error}")
    asked += 1
    time.sleep(max(0.1 - (time.monotonic() - started), 0))
print(json.dumps({"asked": asked, "failed": failed}))
"""
COUNT = """
- name: Count the runs
  ansible.builtin.command: sh -c 'echo run >> /root/maintained'
  changed_when: true
"""
REBOOT = f"""{COUNT}
- name: Reboot
  ansible.builtin.reboot:
    reboot_timeout: 600
    boot_time_command: systemctl show --value --property=UserspaceTimestamp
"""


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """Three and three, with a default route: the client, a process of a host, asks Service addresses."""
    with support.lab_of(support.lab_name("mt"), control_plane=3, workers=3, isolated=False) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        yield lab


@pytest.fixture(scope="module")
def service(cluster: Lab) -> str:
    """The URL of a Service of three pods on three nodes, whose budget lets one go at a time.

    A pod goes on serving for some seconds after it was told to end, as long as its clients need to hear of it.
    """
    selector = {"matchLabels": {"app": "web"}}
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    container = {
        "name": "web",
        "image": IMAGE,
        "args": ["netexec"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1},
        "lifecycle": {"preStop": {"sleep": {"seconds": 8}}},
    }
    pod = {"topologySpreadConstraints": [{**spread, "labelSelector": selector}], "containers": [container]}
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    metadata = {"name": "web", "namespace": "default"}
    items = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {"replicas": 3, "selector": selector, "template": template},
        },
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata,
            "spec": {"minAvailable": 2, "selector": selector},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]},
        },
    ]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    support.kubectl(cluster, "apply", "--server-side", "-f", "-", stdin=text)
    support.wait_for("three pods are ready", lambda: lacking(cluster), timeout=180)
    return f"http://{support.objects(cluster, 'service', 'web')[0]['spec']['clusterIP']}"


def lacking(lab: Lab) -> str | None:
    """None if all three pods are ready."""
    healthy = support.objects(lab, "pdb", "web")[0].get("status", {}).get("currentHealthy")
    return None if healthy == 3 else f"{healthy} healthy pods"


@contextlib.contextmanager
def client(lab: Lab, host: str, url: str, told: dict[str, t.Any]) -> collections.abc.Iterator[None]:
    """Ask the Service from a host all the time; afterwards ``told`` has what came of it."""
    support.shell(lab, host, f"rm -f {END}")
    call = [*ssh_command(lab, host), "--", "python3", "-", url, END]
    with subprocess.Popen(call, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(CLIENT)
        process.stdin.close()
        process.stdin = None
        try:
            yield
        finally:
            support.shell(lab, host, f"touch {END}")
        out, _err = process.communicate(timeout=60)
    told.update(json.loads(out))


def runs(lab: Lab) -> dict[str, int]:
    """How often each host was maintained; one that reboots counts as none."""

    def count(host: str) -> int:
        return int(support.ask(lab, host, "sh", "-c", "cat /root/maintained 2>/dev/null | wc -l").stdout or 0)

    return support.everywhere(lab, count)


def without(lab: Lab, host: str, path: Path) -> Path:
    """The lab's inventory, in which a host is declared absent."""
    data = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
    for group in data.values():
        if host in group.get("hosts", {}):
            group["hosts"][host] = {**(group["hosts"][host] or {}), "slipway_node_absent": True}
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def cordons(run: support.Run) -> set[str]:
    """The Nodes that a run has cordoned."""
    begin = "cordon node "
    return {action.text.removeprefix(begin) for action in run.actions if action.text.startswith(begin)}


def test_a_worker_that_is_silent_is_left_to_the_next_run_and_its_node_is_opened_in_any_case(
    cluster: Lab, tmp_path: Path
) -> None:
    """The first worker is off: declared absent, it keeps nobody from finding the cluster; silent, it is waited for."""
    tasks = tmp_path / "count.yml"
    tasks.write_text(COUNT)
    words = ("maintain", "-i", str(cluster.inventory), "--tasks", str(tasks))
    others = [host for host in support.names(cluster) if host != "w1"]
    # A budget of the cluster's own DNS would hold up others for as long as Kubernetes waits for the silent host.
    support.kubectl(cluster, "drain", "w1", "--ignore-daemonsets", "--delete-emptydir-data", timeout=180)
    support.kubectl(cluster, "uncordon", "w1")
    labs.power(cluster, ["w1"], "off", cut=True)
    try:
        absent = without(cluster, "w1", tmp_path / "inventory.yml")
        extra = {"slipway_maintain_tasks": str(tasks)}
        limited = support.ansible_run(absent, "maintain", extra_vars=extra, limit="slipway_workers").require()
        assert cordons(limited) == {"w2", "w3"}
        assert support.kubectl(cluster, "get", *support.MAINTENANCE) == ""

        left = support.slipway(*words).require(1)
        assert "maintained: cp1, cp2, cp3, w2, w3\nnot maintained: w1; run it again" in left.out
        once = runs(cluster)
        assert once == {**dict.fromkeys(others, 1), "w1": 0, "w2": 2, "w3": 2}
        support.slipway(*words).require(1)
        assert runs(cluster) == once, "what was finished is not done again"
    finally:
        labs.power(cluster, ["w1"], "on")
    support.answers(cluster, "w1")
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=300)

    # It is the last one, and its run is cut before the Node is open: that is not forgotten.
    cutting.arm(cluster, [Cut(host, "drain", "uncordon node w1", "before") for host in ("cp1", "cp2", "cp3")])
    try:
        support.slipway(*words).require(1)
    finally:
        cutting.disarm(cluster)
    assert support.closed(cluster) == {"w1": "maintain"}
    said = support.slipway(*words).require()
    assert "maintained: w1\nmaintained before: cp1, cp2, cp3, w2, w3\n" in said.out
    assert runs(cluster) == {**once, "w1": 2}
    assert support.closed(cluster) == {}
    assert support.kubectl(cluster, "get", *support.MAINTENANCE) == ""
    support.everywhere(cluster, lambda host: support.shell(cluster, host, "rm /root/maintained"))


def test_nobody_notices_that_every_host_is_rebooted(cluster: Lab, service: str, tmp_path: Path) -> None:
    tasks = tmp_path / "reboot.yml"
    tasks.write_text(REBOOT)
    words = ["maintain", "-i", str(cluster.inventory), "--tasks", str(tasks), "--limit"]
    told: dict[str, t.Any] = {}
    started = time.monotonic()
    with support.power_button(cluster), client(cluster, "w1", service, told):
        program = str(Path(sys.executable).with_name("slipway"))
        with subprocess.Popen(
            [program, *words, "all:!w1"], cwd=support.ROOT, stdout=subprocess.DEVNULL, start_new_session=True
        ) as first:
            try:
                support.wait_for("the third host's turn", lambda: None if runs(cluster)["cp3"] else "no", timeout=1200)
            finally:
                os.killpg(first.pid, signal.SIGKILL)
        support.answers(cluster, "cp3")
        support.slipway(*words, "all:!w1", timeout=3600).require()
    print(f"five hosts rebooted in {time.monotonic() - started:.0f} s: {json.dumps(told)}")
    assert told["asked"] > 100
    assert told["failed"] == []
    done = runs(cluster)
    assert done["cp1"] == done["cp2"] == 1, "what was finished is not done again"
    assert all(done[host] for host in ("cp3", "w2", "w3"))

    told.clear()
    with support.power_button(cluster), client(cluster, "w2", service, told):
        support.slipway(*words, "w1", timeout=1200).require()
    print(f"the last host rebooted: {json.dumps(told)}")
    assert told["failed"] == []
    assert support.closed(cluster) == {}
    support.slipway("verify", "-i", str(cluster.inventory)).require()


def ready(lab: Lab, hosts: t.Iterable[str]) -> str | None:
    """None if the API servers of these hosts answer, and with them etcd."""
    call = (*support.KUBECTL, "get", "--raw=/readyz", "--request-timeout=5s")
    said = support.everywhere(lab, lambda host: support.ask(lab, host, *call), hosts)
    return ", ".join(host for host, answer in said.items() if answer.returncode) or None


def test_a_control_plane_host_that_is_off_holds_up_no_worker_and_costs_no_quorum(cluster: Lab, tmp_path: Path) -> None:
    """One of three is off and declared absent: workers are maintained, the other two only at the user's word."""
    workers, others = {"w1", "w2", "w3"}, {"cp1", "cp2"}
    tasks = tmp_path / "count.yml"
    tasks.write_text(COUNT)
    inventory = without(cluster, "cp3", tmp_path / "inventory.yml")
    extra: dict[str, t.Any] = {"slipway_maintain_tasks": str(tasks)}
    before = runs(cluster)

    def done() -> dict[str, int]:
        return {host: count - before[host] for host, count in runs(cluster).items() if host != "cp3"}

    labs.power(cluster, ["cp3"], "off", cut=True)
    try:
        support.wait_for("etcd has a leader", lambda: ready(cluster, others), timeout=120)
        limited = support.ansible_run(inventory, "maintain", extra_vars=extra, limit="slipway_workers").require()
        assert cordons(limited) == workers
        assert done() == {**dict.fromkeys(workers, 1), **dict.fromkeys(others, 0)}

        refused = support.ansible_run(inventory, "maintain", extra_vars=extra)
        text = refused.problem_text()
        print(f"workers maintained and two hosts refused in {refused.seconds:.0f} s: {text}")
        assert refused.code != 0
        for host in others:
            assert f"etcd member {host}: taking its host out of service would lose quorum while cp3 is down" in text
        assert "now 3 voting members, 2 healthy, quorum 2; meanwhile 3 voting members, 1 healthy, quorum 2" in text
        assert "cp3: down on purpose (slipway_node_absent), so not contacted and not maintained" in text
        assert not any(stats.unreachable for stats in refused.stats.values())
        assert cordons(refused) == workers
        assert done() == {**dict.fromkeys(workers, 2), **dict.fromkeys(others, 0)}

        word = {**extra, "slipway_accept_quorum_loss": True}
        accepted = support.ansible_run(inventory, "maintain", extra_vars=word).require()
        assert cordons(accepted) == others, "workers were finished by the run before"
        assert done() == {**dict.fromkeys(workers, 2), **dict.fromkeys(others, 1)}
        assert support.closed(cluster) == {}
    finally:
        labs.power(cluster, ["cp3"], "on")
    support.answers(cluster, "cp3")
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=300)
    support.slipway("verify", "-i", str(cluster.inventory)).require()


def test_a_second_of_three_is_not_removed_while_one_is_down(cluster: Lab) -> None:
    words = ("-i", str(cluster.inventory), "--confirm", cluster.name)
    labs.power(cluster, ["cp3"], "off", cut=True)
    refused = support.slipway("remove", "cp1", *words).require(1)
    assert "before 3 voting members, 2 healthy, quorum 2" in refused.out
    assert "after 2 voting members, 1 healthy, quorum 2" in refused.out
    assert set(support.members(cluster, "cp2")) == {"cp1", "cp2", "cp3"}
    assert support.on(cluster, "cp1", "systemctl", "is-active", "kube-apiserver").strip() == "active"

    said = support.slipway("remove", "cp3", "--dead", *words).require()
    assert "has held the keys" in said.out
    assert set(support.members(cluster, "cp2")) == {"cp1", "cp2"}
    labs.renew(cluster, ["cp3"])
    support.slipway("apply", "-i", str(cluster.inventory)).require()
    assert set(support.members(cluster, "cp2")) == {"cp1", "cp2", "cp3"}


def test_the_first_host_of_the_inventory_is_removed_and_comes_back(cluster: Lab, service: str) -> None:
    """The next of those that stay has no API server: the one that has works."""
    told: dict[str, t.Any] = {}
    words = ("-i", str(cluster.inventory), "--confirm", cluster.name)
    support.on(cluster, "cp2", "systemctl", "stop", "kube-apiserver")
    with client(cluster, "w1", service, told):
        said = support.slipway("remove", "cp1", *words).require()
    assert "has held the keys" in said.out
    assert set(support.members(cluster, "cp2")) == {"cp2", "cp3"}
    names = {node["metadata"]["name"] for node in support.objects(cluster, "nodes", host="cp3")}
    assert "cp1" not in names
    assert told["failed"] == []
    support.slipway("apply", "-i", str(cluster.inventory)).require()
    assert set(support.members(cluster, "cp2")) == {"cp1", "cp2", "cp3"}
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=240)
    support.slipway("verify", "-i", str(cluster.inventory)).require()


def test_a_limit_makes_nobody_silent(cluster: Lab) -> None:
    """Who is to leave has to be inside; a control-plane host outside does the work."""
    words = ("-i", str(cluster.inventory), "--confirm", cluster.name)
    for dead in ([], ["--dead"]):
        refused = support.slipway("remove", "w3", *dead, *words, "--limit", "all:!w3").require(1)
        assert "w3: is outside --limit, so nobody has looked whether it answers" in refused.out
    support.slipway("remove", "w3", "--dead", *words, "--limit", "w3").require()
    assert "w3" not in {node["metadata"]["name"] for node in support.objects(cluster, "nodes")}
    assert support.ask(cluster, "w3", "test", "-e", "/etc/slipway").returncode == 1, "it answers, so it is not dead"
    support.slipway("apply", "-i", str(cluster.inventory), "--limit", "w3").require()
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=240)
