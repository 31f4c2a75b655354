# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts are taken out of service and given back, or taken out for good, and nothing is left closed or forgotten."""

from __future__ import annotations

import collections.abc
import json
import os
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import support

IMAGE = "slipway.local/agnhost:2.66.1"


def web(minimum: int) -> str:
    """Two pods that want to be on two nodes, and a budget that keeps ``minimum`` of them."""
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    selector = {"matchLabels": {"app": "web"}}
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 1}
    pod = {
        "terminationGracePeriodSeconds": 1,
        "topologySpreadConstraints": [{**spread, "labelSelector": selector}],
        "containers": [{"name": "web", "image": IMAGE, "args": ["netexec"], "readinessProbe": probe}],
    }
    template = {"metadata": {"labels": {"app": "web"}}, "spec": pod}
    deployment = {"replicas": 2, "selector": selector, "template": template}
    metadata = {"name": "web", "namespace": "default"}
    items = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": deployment},
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": metadata,
            "spec": {"minAvailable": minimum, "selector": selector},
        },
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@pytest.fixture(scope="module")
def served(cluster: Lab) -> collections.abc.Iterator[Lab]:
    """The cluster with a Deployment of two ready pods whose budget lets none of them go."""
    support.kubectl(cluster, "apply", "--server-side", "-f", "-", stdin=web(2))
    support.wait_for("two pods are ready", lambda: lacking(cluster), timeout=120)
    yield cluster
    support.kubectl(cluster, "delete", "deployment,pdb", "web", "--ignore-not-found", timeout=120)


def lacking(lab: Lab) -> str | None:
    """None if both pods of the Deployment are ready and its budget knows it."""
    (budget,) = support.objects(lab, "pdb", "web")
    healthy = budget.get("status", {}).get("currentHealthy")
    return None if healthy == 2 else f"{healthy} healthy pods"


def placed(lab: Lab) -> dict[str, str]:
    """The Deployment's pods and their nodes."""
    pods = support.objects(lab, "pods", "-n", "default", "-l", "app=web")
    return {pod["metadata"]["name"]: pod["spec"].get("nodeName", "") for pod in pods}


def drain(lab: Lab, tmp_path: Path, *options: str, **params: t.Any) -> support.Run:
    """Run the module alone, as a playbook of a user's own."""
    task = {"name": "Drain", "slipway.cluster.drain": {"timeout": 60, **params}}
    play = {"name": "Use the module", "hosts": "cp1", "gather_facts": False, "tasks": [task]}
    path = tmp_path / "drain.yml"
    path.write_text(yaml.safe_dump([play]))
    return support.ansible_run(lab.inventory, str(path), *options)


def test_a_budget_that_blocks_is_named_and_what_was_begun_is_finished(served: Lab, tmp_path: Path) -> None:
    pod, node = min(placed(served).items())
    checked = drain(served, tmp_path, "--check", nodes=[node]).require()
    assert support.closed(served) == {}

    blocked = drain(served, tmp_path, nodes=[node], timeout=8)
    assert blocked.code != 0
    text = blocked.problem_text()
    assert f"pod default/{pod}: is still on node {node} after 8 s" in text
    assert "The disruption budget web needs 2 healthy pods and has 2 currently" in text
    assert support.closed(served) == {node: "drain"}
    assert f"node {node}: is cordoned by Slipway (drain)" in support.slipway("plan", "-i", str(served.inventory)).out
    assert pod in placed(served)

    support.kubectl(served, "apply", "--server-side", "-f", "-", stdin=web(1))
    done = drain(served, tmp_path, nodes=[node]).require()
    assert [action.text for action in checked.actions][:1] == [f"cordon node {node}"]
    assert f"default/{pod}" in checked.actions[-1].text
    assert f"default/{pod}" in done.actions[-1].text
    assert pod not in placed(served)
    assert drain(served, tmp_path, nodes=[node]).require().actions == ()

    drain(served, tmp_path, nodes=[node], state="active").require()
    assert support.closed(served) == {}
    support.wait_for("two pods are ready", lambda: lacking(served), timeout=120)


def test_what_a_person_closed_stays_closed(served: Lab, tmp_path: Path) -> None:
    support.kubectl(served, "cordon", "w1")
    try:
        drain(served, tmp_path, nodes=["w1"]).require()
        opened = drain(served, tmp_path, nodes=["w1"], state="active").require()
        assert "node w1 was cordoned by somebody else and stays cordoned" in opened.problem_text()
        assert support.closed(served) == {"w1": None}
    finally:
        support.kubectl(served, "uncordon", "w1")


def test_a_pod_that_nobody_would_replace_is_not_lost(served: Lab, tmp_path: Path) -> None:
    support.kubectl(served, "run", "lonely", f"--image={IMAGE}", "--overrides", LONELY, "--", "pause")
    try:
        refused = drain(served, tmp_path, nodes=["w2"])
        assert refused.code != 0
        assert "pod default/lonely: on node w2 has no controller" in refused.problem_text()
        assert support.closed(served) == {}
    finally:
        support.kubectl(served, "delete", "pod", "lonely", "--now", timeout=120)


LONELY = json.dumps({"spec": {"nodeName": "w2"}})

TASKS = """
- name: Count the runs
  ansible.builtin.command: sh -c 'echo run >> /root/maintained'
  changed_when: true

- name: Take long on one of the hosts, until a file is there
  ansible.builtin.wait_for:
    path: /root/go-on
    timeout: 600
  when: inventory_hostname == 'w1'
"""


def runs(lab: Lab) -> dict[str, int]:
    """How often each host was maintained."""
    count = "cat /root/maintained 2>/dev/null | wc -l"
    return {
        host: int(text) for host, text in support.everywhere(lab, lambda each: support.shell(lab, each, count)).items()
    }


def test_a_killed_maintenance_is_continued_and_leaves_nothing_closed(served: Lab, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.yml"
    tasks.write_text(TASKS)
    program = str(Path(sys.executable).with_name("slipway"))
    words = ["maintain", "-i", str(served.inventory), "--tasks", str(tasks)]
    with subprocess.Popen(
        [program, *words],
        cwd=support.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as first:
        try:
            support.wait_for(
                "the second host is in its turn", lambda: None if runs(served)["w1"] else "not yet", timeout=400
            )
        finally:
            os.killpg(first.pid, signal.SIGKILL)
    assert support.closed(served) == {"w1": "maintain"}
    (memory,) = support.objects(served, *support.MAINTENANCE)
    assert json.loads(memory["data"]["finished"]) == ["cp1"]

    support.shell(served, "w1", "touch /root/go-on")
    said = support.slipway(*words).require()
    print(said.out)
    assert "maintained: w1, w2\nmaintained before: cp1\n" in said.out
    assert runs(served) == {"cp1": 1, "w1": 2, "w2": 1}
    assert support.closed(served) == {}
    assert support.kubectl(served, "get", *support.MAINTENANCE) == ""
    support.everywhere(served, lambda host: support.shell(served, host, "rm -f /root/maintained /root/go-on"))
    support.wait_for("two pods are ready", lambda: lacking(served), timeout=120)


def test_a_worker_is_removed_and_is_as_it_was_before(served: Lab, bare: dict[str, support.Fingerprint]) -> None:
    words = ("remove", "w2", "-i", str(served.inventory))
    refused = support.slipway(*words).require(1)
    assert "--confirm" in refused.err
    said = support.slipway(*words, "--confirm", served.name).require()
    assert "w2: is still in the inventory" in said.out
    assert [node["metadata"]["name"] for node in support.objects(served, "nodes")] == ["cp1", "w1"]
    assert set(placed(served).values()) <= {"cp1", "w1"}
    left = support.difference({"w2": bare["w2"]}, {"w2": support.fingerprint(served, "w2")})
    assert not left, "\n".join(left)

    again = support.slipway("remove", "w2", "-i", str(served.inventory), "--confirm", served.name).require()
    print(again.out)
    support.slipway("apply", "-i", str(served.inventory)).require()
    support.wait_for("all nodes are back", lambda: support.settled(served), timeout=120)


def test_a_dead_worker_is_removed_only_when_it_is_said_to_be_dead(served: Lab) -> None:
    words = ("-i", str(served.inventory), "--confirm", served.name)
    labs.power(served, ["w1"], "off", cut=True)
    try:
        refused = support.slipway("remove", "w1", *words).require(1)
        assert "w1: cannot be reached, and nobody has said that it is dead" in refused.out
        assert "w1" in {node["metadata"]["name"] for node in support.objects(served, "nodes")}
        said = support.slipway("remove", "w1", "--dead", *words).require()
        assert "w1: was not contacted" in said.out
        assert [node["metadata"]["name"] for node in support.objects(served, "nodes")] == ["cp1", "w2"]
        support.wait_for("its pods run elsewhere", lambda: lacking(served), timeout=120)
    finally:
        labs.power(served, ["w1"], "on")
    support.slipway("apply", "-i", str(served.inventory)).require()
    support.wait_for("all nodes are back", lambda: support.settled(served), timeout=120)
    assert support.closed(served) == {}
