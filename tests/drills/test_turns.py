# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What restarts kubelets goes from worker to worker, in batches, and ends at the first that is not well again."""

from __future__ import annotations

import collections.abc
import contextlib
import itertools
import json
import typing as t

import pytest

from slipway.lab import Lab
from tests.cluster import support

KUBELET = "kubelet.service"
GATE = "Wait until all others are well"
DROP_IN = f"/etc/systemd/system/{KUBELET}.d/broken.conf"
RELOAD = "systemctl daemon-reload"


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """One control-plane host and three workers."""
    with support.lab_of(workers=3) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        yield lab


def workers_with(**kubelet: t.Any) -> dict[str, t.Any]:
    """Variables that give fields of its configuration to the kubelet of every worker."""
    return {"slipway_node_profiles": [{"groups": ["slipway_workers"], "kubelet": kubelet}]}


def started(lab: Lab) -> dict[str, int]:
    """When each worker's kubelet was started, in microseconds of the machine's clock, which hosts share."""
    show = ("systemctl", "show", "--value", "--property=ExecMainStartTimestampMonotonic", KUBELET)
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
