# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts go off, in order and by a power cut, and come back: the cluster does too, by itself."""

from __future__ import annotations

import json

import pytest

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import support

# On an idle machine of two cores it takes 10 to 50 s until all pods run again.
BACK_SECONDS = 240
# A host that has not shut down by then is killed.
KILLED_SECONDS = 90


def boot_ids(lab: Lab) -> dict[str, str]:
    """When each host's first process started, on the machine's clock: the kernel is shared, its boot id stays."""
    return support.everywhere(lab, lambda host: support.on(lab, host, "stat", "-c", "%Y %Z", "/proc/1").strip())


def containers(lab: Lab) -> dict[str, str]:
    """Identity of every pod's present containers, by namespace and name of the pod."""
    return {
        f"{pod['metadata']['namespace']}/{pod['metadata']['name']}": json.dumps(
            sorted(status.get("containerID", "") for status in pod["status"].get("containerStatuses") or ())
        )
        for pod in support.objects(lab, "pods", "-A")
    }


@pytest.fixture
def kept(cluster: Lab) -> str:
    """A text in etcd that must still be there afterwards."""
    apply = ("apply", "--server-side", "-f", "-")
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept", "namespace": "default"}}
    support.kubectl(cluster, *apply, stdin=json.dumps(document | {"data": {"text": "still here"}}))
    return "still here"


@pytest.mark.parametrize("cut", [False, True], ids=["graceful", "cut"])
def test_the_cluster_comes_back_by_itself(cut: bool, cluster: Lab, kept: str) -> None:
    started, before = boot_ids(cluster), containers(cluster)
    said: list[str] = []
    labs.power(cluster, support.names(cluster), "cycle", cut=cut, say=said.append)
    print("\n".join(said))
    back = support.wait_for("nodes and pods are ready again", lambda: back_again(cluster, before), timeout=BACK_SECONDS)
    print(f"nodes and pods ready {back:.1f} s after the hosts")

    now = boot_ids(cluster)
    assert all(started[host] != now[host] for host in started), "a host did not restart"
    text = support.kubectl(cluster, "get", "configmap", "kept", "-n", "default", "-o", "jsonpath={.data.text}")
    assert text == kept
    support.slipway("verify", "-i", str(cluster.inventory)).require()
    support.slipway("plan", "-i", str(cluster.inventory)).require()
    if not cut:
        slow = [line for line in said if "off after" in line and float(line.split()[-2]) >= KILLED_SECONDS]
        assert slow == [], "killed, for it did not shut down by itself"
    failed = support.everywhere(
        cluster, lambda host: support.on(cluster, host, "systemctl", "--failed", "--plain", "-q")
    )
    assert failed == dict.fromkeys(failed, "")


def back_again(lab: Lab, before: dict[str, str]) -> str | None:
    """None if all is well, and what runs was started anew: the API may still tell how things were before."""
    complaint = support.settled(lab)
    if complaint:
        return complaint
    now = containers(lab)
    old = sorted(pod for pod, identity in now.items() if before.get(pod) == identity)
    return f"still as before: {', '.join(old)}" if old else None
