# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long reads, writes and watches wait while a control-plane host fails in one way or another; nothing is lost.

A client on a worker uses the API through that host's own loopback proxy all the time. What is measured is printed; what
is asserted is that every write that was acknowledged is still there, and that there were answers again.
"""

from __future__ import annotations

import collections.abc
import contextlib
import json
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

from slipway import lab as labs
from slipway.lab import Lab
from slipway.lab.control import ssh_command
from tests.cluster import support

CLIENT = Path(__file__).with_name("client.py")
PLACE = "/run/slipway-client"
BEFORE_SECONDS, AFTER_SECONDS = 10, 40


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """Three control-plane hosts and a worker with a client's files."""
    with support.lab_of(support.lab_name("av"), control_plane=3, workers=1) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        support.shell(lab, "w1", f"mkdir -p -m 0700 {PLACE}")
        for name in ("client.crt", "client.key"):
            content = support.on(lab, "cp1", "cat", f"/etc/kubernetes/admin/{name}")
            support.on(lab, "w1", "tee", f"{PLACE}/{name}", stdin=content)
        support.shell(lab, "w1", f"cp /etc/kubernetes/pki/ca.crt {PLACE}/ca.crt")
        support.on(lab, "w1", "tee", f"{PLACE}/client.py", stdin=CLIENT.read_text(encoding="utf-8"))
        yield lab


@contextlib.contextmanager
def client(lab: Lab, told: dict[str, t.Any]) -> collections.abc.Iterator[None]:
    """Use the API while something happens, and some time before and after; then ``told`` has the numbers."""
    support.shell(lab, "w1", f"rm -f {PLACE}/end")
    support.ask(lab, "cp3", *support.KUBECTL, "delete", "configmap", "slipway-client", "--ignore-not-found")
    call = [*ssh_command(lab, "w1"), "--", "python3", f"{PLACE}/client.py", PLACE, "https://127.0.0.1:6444"]
    with subprocess.Popen([*call, f"{PLACE}/end"], stdout=subprocess.PIPE, text=True) as process:
        try:
            time.sleep(BEFORE_SECONDS)
            yield
            time.sleep(AFTER_SECONDS)
        finally:
            support.shell(lab, "w1", f"touch {PLACE}/end")
        out, _err = process.communicate(timeout=60)
    told.update(json.loads(out))


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
    return lambda: support.wait_for("cp2 answers", lambda: support.ask(lab, "cp2", "true").stderr or None, timeout=120)


CASES = [stop_api_server, cut_first, cut_leader, fall_silent]


@pytest.mark.parametrize("fault", CASES, ids=lambda fault: fault.__name__)
def test_no_acknowledged_write_is_lost(
    fault: collections.abc.Callable[[Lab], collections.abc.Callable[[], object]], cluster: Lab
) -> None:
    told: dict[str, t.Any] = {}
    with client(cluster, told):
        mend = fault(cluster)
    print(f"{fault.__doc__} {json.dumps(told)}")
    mend()
    support.wait_for("all is well again", lambda: support.settled(cluster), timeout=240)
    assert told["lost"] == 0
    assert told["seen"] >= told["acknowledged"] > 0
    stored = support.kubectl(cluster, "get", "configmap", "slipway-client", "-o", "jsonpath={.data.number}")
    assert int(stored) >= told["acknowledged"]


def test_all_hosts_lose_their_power_at_once(cluster: Lab) -> None:
    labs.power(cluster, support.names(cluster), "cycle", cut=True)
    back = support.wait_for("the cluster is back", lambda: support.settled(cluster), timeout=300)
    print(f"nodes and pods ready {back:.1f} s after the hosts")
    support.slipway("verify", "-i", str(cluster.inventory)).require()
