# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker with add-ons on it loses its power: nothing waits for its pods, and what changes reaches the other hosts."""

from __future__ import annotations

import collections.abc
import json
import typing as t

import pytest

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import support

AWAY = {"slipway_node_absent": "{{ inventory_hostname == 'w2' }}"}
TRAEFIK = ("slipway-ingress", "traefik")
SPEAKER, CONTROLLER = ("slipway-load-balancer", "speaker"), ("slipway-load-balancer", "controller")


def variables(lab: Lab, *, access_log: bool = True) -> dict[str, t.Any]:
    """Two add-ons with a pod on each worker; whether requests are logged is in the template of Traefik's pods."""
    return {
        "slipway_ingress": {"enabled": True, "access_log": access_log},
        "slipway_load_balancer": {"pools": [support.address_pool(lab)]},
    }


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """A control-plane host and two workers; the second, on which MetalLB's controller has run, is off."""
    with support.lab_of(support.lab_name("down")) as lab:
        support.ansible_run(lab.inventory, "apply", extra_vars=variables(lab)).require()
        support.kubectl(lab, "cordon", "cp1", "w1")
        restart(lab, "deployment/controller")
        support.kubectl(lab, "rollout", "status", "deployment/controller", "-n", SPEAKER[0], "--timeout=90s")
        support.kubectl(lab, "uncordon", "cp1", "w1")
        assert (counts(lab, *TRAEFIK), counts(lab, *SPEAKER)) == ((2, 2), (3, 3))
        labs.power(lab, ["w2"], "off", cut=True)
        support.wait_for("Kubernetes sees it", lambda: unseen(lab), timeout=120)
        yield lab


def restart(lab: Lab, what: str) -> None:
    """Change the template of a workload of MetalLB, as a new version would."""
    support.kubectl(lab, "rollout", "restart", what, "-n", SPEAKER[0])


def unseen(lab: Lab) -> str | None:
    """None once Kubernetes counts the host's pod as lost, and still wants one there."""
    found = counts(lab, *TRAEFIK)
    return None if found == (2, 1) else f"{found}"


def counts(lab: Lab, space: str, name: str) -> tuple[int, int]:
    """On how many nodes Kubernetes wants a pod of a DaemonSet, and on how many there is one that serves."""
    status = support.objects(lab, "daemonset", name, "-n", space)[0]["status"]
    return status["desiredNumberScheduled"], status.get("numberAvailable", 0)


def pods(lab: Lab, space: str, name: str) -> set[str]:
    """The pods of a workload on nodes that are up."""
    found = support.objects(lab, "pods", "-n", space, "-l", f"app.kubernetes.io/name={name}")
    lasting = [pod for pod in found if not pod["metadata"].get("deletionTimestamp")]
    return {pod["metadata"]["name"] for pod in lasting if pod["spec"].get("nodeName") != "w2"}


def test_the_run_goes_on_and_names_the_host(cluster: Lab) -> None:
    run = support.ansible_run(cluster.inventory, "apply", extra_vars=variables(cluster))
    print(f"apply: {run.seconds:.0f} s")
    assert run.code != 0
    assert {host for host, stats in run.stats.items() if stats.unreachable} == {"w2"}
    assert {host: stats.failed for host, stats in run.stats.items()} == dict.fromkeys(run.stats, 0), run.problem_text()
    assert (counts(cluster, *TRAEFIK), counts(cluster, *SPEAKER)) == ((2, 1), (3, 2)), "Kubernetes counts the dead one"


def test_where_it_is_declared_absent_all_is_well(cluster: Lab) -> None:
    declared = {**variables(cluster), **AWAY}
    run = support.ansible_run(cluster.inventory, "apply", extra_vars=declared).require()
    assert {host: stats.changed for host, stats in run.stats.items()} == dict.fromkeys(run.stats, 0), run.actions
    said = support.slipway("verify", "--json", "-i", str(cluster.inventory), "-e", json.dumps(declared)).require()
    checks = {check["aspect"]: check["seen"] for check in json.loads(said.out)["checks"]}
    assert "2 of 2 Ready" in checks["nodes"]
    assert "down on purpose: w2" in checks["nodes"]


def test_what_changes_reaches_the_hosts_that_are_up(cluster: Lab) -> None:
    each = (TRAEFIK, SPEAKER, CONTROLLER)
    before = {one: pods(cluster, *one) for one in each}
    for what in ("daemonset/speaker", "deployment/controller"):
        restart(cluster, what)
    changed = {**variables(cluster, access_log=False), **AWAY}
    run = support.ansible_run(cluster.inventory, "apply", extra_vars=changed).require()
    after = {one: pods(cluster, *one) for one in each}
    print(f"apply: {run.seconds:.0f} s; {before} -> {after}")
    for found in (before, after):
        assert {one: len(pods) for one, pods in found.items()} == {TRAEFIK: 1, SPEAKER: 2, CONTROLLER: 1}
    assert not {pod for found in before.values() for pod in found} & {pod for found in after.values() for pod in found}
    said = support.slipway("plan", "--json", "-i", str(cluster.inventory), "-e", json.dumps(changed)).require()
    assert not json.loads(said.out)["pending"]


def test_the_host_comes_back(cluster: Lab) -> None:
    labs.power(cluster, ["w2"], "on")
    support.wait_for("all is well again", lambda: support.settled(cluster), timeout=300)
    changed = variables(cluster, access_log=False)
    support.ansible_run(cluster.inventory, "apply", extra_vars=changed).require()
    assert (counts(cluster, *TRAEFIK), counts(cluster, *SPEAKER)) == ((2, 2), (3, 3))
