# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long reads, writes and watches wait while a control-plane host fails in one way or another; nothing is lost.

A client on a worker uses the API through that host's own loopback proxy all the time. What is measured is printed; what
is asserted is that every write that was acknowledged is still there, and that no wait was longer than etcd can explain.
"""

from __future__ import annotations

import collections.abc
import json
import time
import typing as t

import pytest

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import support
from tests.drills import using

NODE_LEASES = ("leases", "-n", "kube-node-lease")
BEFORE_SECONDS, AFTER_SECONDS = 10, 40


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """Three control-plane hosts and three workers, one with a client's files."""
    with support.lab_of(support.lab_name("av"), control_plane=3, workers=3) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        using.install(lab, "w1", "cp1")
        yield lab


def leader_of_etcd(lab: Lab) -> str:
    """The host whose etcd member leads."""
    answers = json.loads(support.etcdctl(lab, "endpoint", "status", "--cluster", "-w=json", host="cp3"))
    (leader,) = [
        answer["Endpoint"]
        for answer in answers
        if answer["Status"]["header"]["member_id"] == answer["Status"].get("leader")
    ]
    (name,) = [host.name for host in lab.hosts if host.address in leader]
    return name


def stop_api_server(lab: Lab) -> collections.abc.Callable[[], object]:
    """One API server is stopped in order."""
    support.on(lab, "cp2", "systemctl", "stop", "kube-apiserver.service", timeout=120)
    return lambda: support.on(lab, "cp2", "systemctl", "start", "kube-apiserver.service", timeout=120)


def cut_first(lab: Lab) -> collections.abc.Callable[[], object]:
    """The first host of the inventory loses its power."""
    return cut(lab, "cp1")


def cut_leader(lab: Lab) -> collections.abc.Callable[[], object]:
    """The host whose etcd leads loses its power."""
    return cut(lab, leader_of_etcd(lab))


def cut(lab: Lab, host: str) -> collections.abc.Callable[[], object]:
    """A host loses its power; what is returned switches it on again."""
    labs.power(lab, [host], "off", cut=True)
    return lambda: labs.power(lab, [host], "on")


def fall_silent(lab: Lab) -> collections.abc.Callable[[], object]:
    """A host's packets are dropped, so that nobody gets a reset: the way a dead host is dead."""
    rules = (
        "nft add table inet drill; nft 'add chain inet drill out { type filter hook output priority -300; }'; "
        "nft 'add chain inet drill in { type filter hook input priority -300; }'; "
        "nft add rule inet drill out oif != lo drop; nft add rule inet drill in iif != lo tcp dport != 22 drop"
    )
    # SSH answers no more once packets are dropped, so the way back is prepared first.
    script = f"systemd-run --on-active={AFTER_SECONDS} nft delete table inet drill; ( sleep 1; {rules} ) >&- 2>&- &"
    support.shell(lab, "cp2", script)
    time.sleep(1)
    return lambda: support.answers(lab, "cp2")


CASES = [stop_api_server, cut_first, cut_leader, fall_silent]


@pytest.mark.parametrize("fault", CASES, ids=lambda fault: fault.__name__)
def test_no_acknowledged_write_is_lost_and_no_wait_is_long(
    fault: collections.abc.Callable[[Lab], collections.abc.Callable[[], object]], cluster: Lab
) -> None:
    told: dict[str, t.Any] = {}
    with using.client(cluster, "w1", told):
        time.sleep(BEFORE_SECONDS)
        mend = fault(cluster)
        time.sleep(AFTER_SECONDS)
    print(f"{fault.__doc__} {json.dumps(told)}")
    mend()
    support.wait_for("all is well again", lambda: support.settled(cluster), timeout=240)
    using.require_served(told)


def leases(lab: Lab) -> dict[str, str]:
    """When each node's kubelet last renewed its lease."""
    return {lease["metadata"]["name"]: lease["spec"]["renewTime"] for lease in support.objects(lab, *NODE_LEASES)}


def old(lab: Lab, before: t.Mapping[str, str]) -> str | None:
    """The nodes whose kubelets have not been heard of since; their conditions are old ones. None if there are none."""
    silent = [name for name, renewed in leases(lab).items() if renewed == before[name]]
    return f"not renewed: {', '.join(silent)}" if silent else None


def test_all_hosts_lose_their_power_at_once(cluster: Lab) -> None:
    before = leases(cluster)
    labs.power(cluster, support.names(cluster), "cycle", cut=True)
    back = support.wait_for(
        "the cluster is back", lambda: support.settled(cluster) or old(cluster, before), timeout=300
    )
    print(f"nodes and pods ready {back:.1f} s after the hosts")
    support.slipway("verify", "-i", str(cluster.inventory)).require()


def test_a_restart_that_costs_quorum_happens_at_the_users_word(cluster: Lab) -> None:
    """One of three is down: a member is restarted only if somebody says so, and the API is back after it."""
    here = ("cp2", "cp3")
    etcd = {"heartbeat_ms": 120}
    away = {"slipway_node_absent": "{{ inventory_hostname == 'cp1' }}"}
    labs.power(cluster, ["cp1"], "off", cut=True)
    try:
        pids = {host: support.on(cluster, host, "pidof", "etcd") for host in here}
        refused = support.ansible_run(cluster.inventory, "apply", extra_vars={**away, "slipway_etcd": etcd})
        assert refused.code != 0
        assert "slipway_accept_quorum_loss" in refused.problem_text()
        assert {host: support.on(cluster, host, "pidof", "etcd") for host in here} == pids
        said = {**away, "slipway_etcd": etcd, "slipway_accept_quorum_loss": True}
        support.ansible_run(cluster.inventory, "apply", extra_vars=said).require()
        assert not {host for host in here if support.on(cluster, host, "pidof", "etcd") == pids[host]}
        support.kubectl(cluster, "get", "--raw", "/readyz", host="cp2")
    finally:
        labs.power(cluster, ["cp1"], "on")
    support.ansible_run(cluster.inventory, "apply", extra_vars={"slipway_etcd": etcd}).require()
    support.wait_for("nodes and pods are ready", lambda: support.settled(cluster), timeout=300)
