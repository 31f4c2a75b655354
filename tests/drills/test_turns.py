# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What restarts something goes from worker to worker, in batches, and ends at the first that is not well again.

Neither pods nor their connections are disturbed by it, which is why no turn empties a host.
"""

from __future__ import annotations

import collections.abc
import contextlib
import itertools
import json
import subprocess
import typing as t
from pathlib import Path

import pytest

from slipway.lab import Lab
from slipway.lab.control import ssh_command
from tests.cluster import support
from tests.drills import visitor

KUBELET = "kubelet.service"
GATE = "Wait until all others are well"
DROP_IN = f"/etc/systemd/system/{KUBELET}.d/broken.conf"
RELOAD = "systemctl daemon-reload"
PROGRAM, END = "/run/visitor.py", "/run/visitor.end"
# Within a second where processors are idle.
MOMENT = 10.0
# A pod on each worker that answers with its name, and one Service of them all.
WEB = """
apiVersion: v1
kind: Namespace
metadata: {{name: drill}}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: web, namespace: drill}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
        - name: web
          image: "{image}"
          args: [netexec, --http-port=8080]
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
          livenessProbe: {{httpGet: {{path: /healthz, port: 8080}}}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: drill}}
spec: {{selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""
# What restarts each of the units that pods live on.
CHANGES: dict[str, dict[str, t.Any]] = {
    "containerd.service": {
        "slipway_containerd": {
            "restrict_oom_score_adj": True,
            "runtime_handlers": {"drill": {"runtime_type": "io.containerd.runc.v2"}},
        }
    },
    "kubelet.service": {"slipway_node_profiles": [{"groups": ["slipway_workers"], "kubelet": {"maxPods": 104}}]},
    "kube-proxy.service": {
        "slipway_kube_proxy": {"conntrack": {"maxPerCore": 0, "min": 0}, "nftables": {"syncPeriod": "29s"}}
    },
    "flanneld.service": {"slipway_network": {"mtu": 1400}},
}


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """One control-plane host and three workers."""
    with support.lab_of(workers=3) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        yield lab


def workers_with(**kubelet: t.Any) -> dict[str, t.Any]:
    """Variables that give fields of its configuration to the kubelet of every worker."""
    return {"slipway_node_profiles": [{"groups": ["slipway_workers"], "kubelet": kubelet}]}


def started(lab: Lab, unit: str = KUBELET) -> dict[str, int]:
    """When a unit was started on each worker, in microseconds of the machine's clock, which hosts share."""
    show = ("systemctl", "show", "--value", "--property=ExecMainStartTimestampMonotonic", unit)
    return support.everywhere(
        lab, lambda host: int(support.on(lab, host, *show)), support.names(lab, "slipway_workers")
    )


def batches(run: support.Run) -> list[set[str]]:
    """The hosts whose kubelet was restarted after each passage of the gate."""
    found: list[set[str]] = []
    for event in run.events:
        data = event.get("event_data") or {}
        if event.get("event") != "runner_on_ok":
            continue
        if data["task"] == GATE:
            found.append(set())
        elif found and f"restart {KUBELET}" in (data["res"].get("actions") or ()):
            found[-1].add(support.ran_on(data))
    return found


def pods(lab: Lab) -> dict[str, list[int]]:
    """Every pod, and how often its containers were started anew."""
    return {
        pod["metadata"]["uid"]: [each["restartCount"] for each in pod["status"]["containerStatuses"]]
        for pod in support.objects(lab, "pods", "-A")
    }


def capacity(lab: Lab) -> dict[str, str]:
    """How many pods each worker says that it takes."""
    return {node["metadata"]["name"]: node["status"]["capacity"]["pods"] for node in support.objects(lab, "nodes")}


@pytest.mark.parametrize(
    ("batch", "most", "expected"),
    [("2", 101, [{"w1", "w2"}, {"w3"}]), ("10%", 102, [{"w1"}, {"w2"}, {"w3"}])],
)
def test_workers_go_in_batches_and_no_pod_is_disturbed(
    cluster: Lab, batch: str, most: int, expected: list[set[str]]
) -> None:
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=120)
    before, running = started(cluster), pods(cluster)
    extra = {**workers_with(maxPods=most), "slipway_batch": batch}
    run = support.ansible_run(cluster.inventory, "apply", extra_vars=extra).require()
    times = started(cluster)
    print(f"slipway_batch={batch}: {[sorted(hosts) for hosts in batches(run)]} in {run.seconds:.0f} s")
    assert batches(run) == expected
    assert all(times[host] > before[host] for host in times)
    for earlier, later in itertools.pairwise(expected):
        assert max(times[host] for host in earlier) < min(times[host] for host in later)
    assert pods(cluster) == running
    assert capacity(cluster) == {"cp1": "110", **dict.fromkeys(times, str(most))}


def files(lab: Lab, host: str) -> dict[str, str]:
    """What a host has in files where Slipway puts its own."""
    found = support.fingerprint(lab, host, "/etc", "/opt/slipway")
    return {name: what for name, what in found.items() if name.startswith("/")}


@contextlib.contextmanager
def cannot_start(lab: Lab, host: str) -> collections.abc.Iterator[None]:
    """As long as this is open, a kubelet that was stopped does not start any more."""
    lines = "[Service]\\nExecStartPre=/bin/false\\n"
    support.shell(lab, host, f"mkdir -p $(dirname {DROP_IN}); printf '{lines}' > {DROP_IN}; {RELOAD}")
    try:
        yield
    finally:
        support.shell(lab, host, f"rm {DROP_IN}; rmdir $(dirname {DROP_IN}); {RELOAD}")


def test_a_turn_that_fails_stops_the_rest_and_says_who_is_left(cluster: Lab) -> None:
    before, room = started(cluster), capacity(cluster)
    untouched = files(cluster, "w3")
    words = ("-i", str(cluster.inventory), "-e", json.dumps(workers_with(maxPods=103)))
    with cannot_start(cluster, "w2"):
        said = support.slipway("apply", *words).require(1)
        print(said.out)
        assert f"{KUBELET}: did not restart" in said.out
        assert "hosts: w2" in said.out
        assert "done: w1\nnot done: w2, w3" in said.out
        times = started(cluster)
        assert times["w1"] > before["w1"]

        # Nobody has mended it: it is its turn again, and w3 still has none.
        again = support.slipway("apply", *words).require(1)
        assert "not done: w2, w3" in again.out
        assert started(cluster)["w3"] == before["w3"]
        assert files(cluster, "w3") == untouched
        assert capacity(cluster)["w3"] == room["w3"]

    mended = support.slipway("apply", *words).require()
    print(f"stopped after {said.seconds:.0f} s and {again.seconds:.0f} s, finished in {mended.seconds:.0f} s")
    finished = started(cluster)
    assert finished["w1"] == times["w1"], "what was done is not done again"
    assert finished["w3"] > before["w3"]
    assert support.pending(*words) == []
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=120)
    assert capacity(cluster) == {"cp1": "110", **dict.fromkeys(finished, "103")}


def test_a_kubelet_that_ends_soon_after_its_start_stops_the_rest(cluster: Lab) -> None:
    """It answers for a moment each time, and for most of a minute the API still calls its Node Ready."""
    inventory = str(cluster.inventory)
    words = ("-i", inventory, "-e", json.dumps(workers_with(maxPods=103)))
    support.slipway("apply", *words).require()
    before = started(cluster)
    more_than_there_is = workers_with(maxPods=103, kubeReserved={"memory": "9000Gi"})
    said = support.slipway("apply", "-i", inventory, "-e", json.dumps(more_than_there_is))
    print(said.out, f"{said.seconds:.0f} s")
    after = started(cluster)
    assert said.code == 1
    assert after["w1"] > before["w1"]
    assert {host: after[host] for host in ("w2", "w3")} == {host: before[host] for host in ("w2", "w3")}
    assert "not done: w1, w2, w3" in said.out

    mended = support.slipway("apply", *words).require()
    print(f"mended in {mended.seconds:.0f} s")
    assert {host: started(cluster)[host] for host in ("w2", "w3")} == {host: before[host] for host in ("w2", "w3")}
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=120)
    support.slipway("verify", *words).require()


# --- pods and their connections ---------------------------------------------------------------------------------------
def ways_in(lab: Lab) -> dict[str, list[str]]:
    """The words that run a program in the network of the pod on each worker."""

    def way(host: str) -> list[str]:
        container = support.on(lab, host, "crictl", "ps", "--quiet", "--name=^web$").strip()
        info = json.loads(support.on(lab, host, "crictl", "inspect", "--output=json", container))["info"]
        return ["nsenter", f"--target={info['pid']}", "--net"]

    return support.everywhere(lab, way, support.names(lab, "slipway_workers"))


@pytest.fixture(scope="module")
def service(cluster: Lab) -> str:
    """The address of a Service with a pod on each worker, whose hosts have the program that asks it."""
    image = support.artifact("agnhost")["reference"]
    support.kubectl(cluster, "apply", "--filename=-", stdin=WEB.format(image=image))
    support.kubectl(cluster, "rollout", "status", "daemonset/web", "--namespace=drill", "--timeout=90s")
    program = Path(visitor.__file__).read_text(encoding="utf-8")
    support.everywhere(cluster, lambda host: support.on(cluster, host, "tee", PROGRAM, stdin=program))
    return str(support.objects(cluster, "service", "web", "-n", "drill")[0]["spec"]["clusterIP"])


@contextlib.contextmanager
def visitors(lab: Lab, service: str, told: dict[str, t.Any]) -> collections.abc.Iterator[None]:
    """A pod on each worker asks the Service as long as this is open; then ``told`` has what each host's prints."""
    support.everywhere(lab, lambda host: support.on(lab, host, "rm", "-f", END))
    asking = {
        host: subprocess.Popen(
            [*ssh_command(lab, host), "--", *way, "python3", PROGRAM, service, END], stdout=subprocess.PIPE, text=True
        )
        for host, way in ways_in(lab).items()
    }
    try:
        yield
    finally:
        support.everywhere(lab, lambda host: support.on(lab, host, "touch", END))
        told |= {host: json.loads(process.communicate(timeout=120)[0]) for host, process in asking.items()}


def asked_during(
    cluster: Lab, service: str, unit: str, variables: t.Mapping[str, t.Any]
) -> dict[str, dict[str, dict[str, t.Any]]]:
    """What visitors tell of an apply that restarts a unit on all workers at a time; pods and kept connections live on.

    A turn is of all workers only if it is asked to be.
    """
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=120)
    before, running = started(cluster, unit), pods(cluster)
    told: dict[str, t.Any] = {}
    with visitors(cluster, service, told):
        extra = {**variables, "slipway_batch": "100%"}
        run = support.ansible_run(cluster.inventory, "apply", extra_vars=extra).require()
    print(f"{unit}: {run.seconds:.0f} s; {json.dumps(told)}", flush=True)
    times = started(cluster, unit)
    assert [host for host in times if times[host] <= before[host]] == [], unit
    assert pods(cluster) == running, unit
    for kinds in told.values():
        assert kinds["kept"]["failures"] == {}, (unit, told)
        # They lead to its own host's pod and to those of the others.
        assert len(kinds["kept"]["pods"]) > 1, (unit, told)
        assert len(kinds["new"]["pods"]) == 3, (unit, told)
    return told


def test_no_restart_of_what_pods_live_on_disturbs_them_or_their_connections(cluster: Lab, service: str) -> None:
    variables: dict[str, t.Any] = {}
    for unit, change in CHANGES.items():
        variables |= change
        told = asked_during(cluster, service, unit, variables)
        assert [kinds["new"]["failures"] for kinds in told.values()] == [{}, {}, {}], (unit, told)


def test_another_mode_of_kube_proxy_costs_new_connections_to_services_a_moment(cluster: Lab, service: str) -> None:
    """It takes the rules of the old mode away before it makes those of the new one."""
    settings = {"conntrack": {"maxPerCore": 0, "min": 0}, "mode": "iptables"}
    told = asked_during(cluster, service, "kube-proxy.service", {"slipway_kube_proxy": settings})
    assert max(kinds["new"]["span"] for kinds in told.values()) <= MOMENT, told
