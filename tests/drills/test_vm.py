# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster on a machine with a kernel and a disk of its own, with none of the settings that containers need.

The tests walk through the life of one virtual machine, in this order: control plane and worker in one. Where it has to
be emulated they take about a quarter of an hour. A power cut takes the machine's page cache with it, which no container
can show, so what an acknowledged write is worth is tried here.
"""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import platform
import re
import subprocess
import time
import typing as t

import pytest
import yaml

from slipway import lab as labs
from slipway.lab import Lab
from slipway.lab.control import ssh_command
from slipway.lab.podman import Podman
from tests.cluster import cutting, support
from tests.drills import using

HOST = "cp1"
SLOW = 1200
WRITING_SECONDS = 60
# An etcd that tells its clients that a write is safe and has not asked the disk.
CARELESS = "drill-etcd"
CARELESS_DATA = "/var/lib/drill-etcd"
CARELESS_URL = "http://127.0.0.1:22379"
CARELESS_PEER = "http://127.0.0.1:22380"

# Emulated processors are busy with the components alone: leases are renewed less often, and metrics are left out.
LEASES = {
    "leader-elect-lease-duration": "60s",
    "leader-elect-renew-deadline": "40s",
    "leader-elect-retry-period": "5s",
}
UNHURRIED: dict[str, t.Any] = {
    "slipway_metrics": {"enabled": False},
    "slipway_controller_manager_args": LEASES,
    "slipway_scheduler_args": LEASES,
    "slipway_kubelet": {"nodeLeaseDurationSeconds": 160},
}


@pytest.fixture(scope="module")
def machine() -> collections.abc.Iterator[Lab]:
    """A virtual machine without a way out."""
    with support.lab_of(support.lab_name("vm"), workers=0, driver="vm", extra_vars=UNHURRIED) as lab:
        yield lab


def well(lab: Lab) -> None:
    """The cluster works, and nothing is left to do."""
    support.wait_for("nodes and pods are ready", lambda: support.settled(lab), timeout=SLOW, interval=5)
    support.slipway("verify", "-i", str(lab.inventory), "-e", "verify_timeout=600", timeout=SLOW).require()
    assert support.pending("-i", str(lab.inventory)) == []


def boot_id(lab: Lab) -> str:
    """Another one after every start of the kernel; empty where nobody answers."""
    return support.ask(lab, HOST, "cat", "/proc/sys/kernel/random/boot_id").stdout.strip()


def test_the_machine_is_one_of_its_own(machine: Lab) -> None:
    assert support.on(machine, HOST, "uname", "-r").strip() != platform.release()
    assert support.on(machine, HOST, "stat", "-fc", "%T", "/sys/fs/cgroup").strip() == "cgroup2fs"
    given = yaml.safe_load(machine.inventory.read_text(encoding="utf-8"))["all"]["vars"]
    basic = {"slipway_cluster_name", "slipway_kubernetes_version", "slipway_bundle"}
    assert {
        name: value for name, value in given.items() if name.startswith("slipway_") and name not in basic
    } == UNHURRIED


def test_a_clock_that_is_behind_is_refused_with_the_figure(machine: Lab) -> None:
    """Containers share their kernel's clock, so this can only be tried here."""
    support.on(machine, HOST, "date", "-s", "-1 hour")
    run = support.ansible_run(machine.inventory, "apply")
    support.on(machine, HOST, "date", "-s", "+1 hour")
    assert run.code != 0
    assert run.actions == ()
    (said,) = [problem for problem in run.problems if "clock" in problem.found and not problem.warning]
    behind = re.search(r"its clock is (\d+) s behind the controller's", said.found)
    assert behind
    assert 3500 < int(behind.group(1)) < 3700


@contextlib.contextmanager
def slow_disk(lab: Lab) -> collections.abc.Iterator[None]:
    """The machine's disk takes so few writes a second that each sync waits for tens of milliseconds."""

    def limit(writes: int) -> None:
        words = f"block_set_io_throttle root 0 0 0 0 0 {writes}"
        Podman(lab.root).run("exec", lab.container(HOST), "sh", "-c", f"echo {words} >/run/monitor.in")

    limit(60)
    try:
        yield
    finally:
        limit(0)


def test_a_disk_that_is_slow_for_etcd_is_a_warning_with_the_figure(machine: Lab) -> None:
    """The run is cut before its first change, so that it need not go on with such a disk."""
    planned = support.ansible_run(machine.inventory, "apply", "--check").require()
    cutting.arm(machine, cutting.points(planned)[:1])
    with slow_disk(machine):
        run = support.ansible_run(machine.inventory, "apply")
    assert run.code != 0
    assert run.actions == ()
    (said,) = [problem for problem in run.problems if "small writes" in problem.found]
    took = re.search(r"1 % of small writes took (\d+) ms or more", said.found)
    assert took
    assert 15 < int(took.group(1)) < 500
    assert said.warning


def test_apply_and_apply_again(machine: Lab) -> None:
    first = support.ansible_run(machine.inventory, "apply").require()
    second = support.ansible_run(machine.inventory, "apply").require()
    print(f"first apply {first.seconds:.0f} s, second {second.seconds:.0f} s")
    assert first.stats[HOST].changed > 0
    assert (second.actions, second.stats[HOST].changed) == ((), 0)
    well(machine)


def test_it_comes_back_from_a_reboot(machine: Lab) -> None:
    before = boot_id(machine)
    assert before
    support.ask(machine, HOST, "systemctl", "reboot")
    support.wait_for("the host starts again", lambda: rebooted(machine, before), timeout=SLOW, interval=5)
    well(machine)


def rebooted(lab: Lab, before: str) -> str | None:
    """None once the kernel is another one."""
    now = boot_id(lab)
    return None if now not in ("", before) else f"boot id is {now or 'unknown'}, was {before}"


def test_no_acknowledged_write_is_lost_with_the_power(machine: Lab) -> None:
    """The same cut costs an etcd that does not sync some of its writes: so it could be seen if ours lost any."""
    start_careless(machine)
    support.wait_for("it answers", lambda: keys(machine)[1] or None, timeout=300)
    # Its empty data are on the disk, so that it can be started again after the cut.
    support.on(machine, HOST, "sync")
    using.install(machine, HOST, HOST)
    acknowledged = written_until_cut(machine)
    labs.power(machine, [HOST], "on")
    support.wait_for("nodes and pods are ready", lambda: support.settled(machine), timeout=SLOW, interval=5)
    there = {item["metadata"]["name"] for item in support.objects(machine, "configmaps", "-n", "default")}
    lost, lost_beside = acknowledged["api"] - there, acknowledged["etcd"] - left_of_careless(machine)
    print(
        f"acknowledged by the API {len(acknowledged['api'])}, lost {len(lost)}; "
        f"by an etcd that does not sync {len(acknowledged['etcd'])}, lost {len(lost_beside)}"
    )
    assert len(acknowledged["api"]) > 20
    assert lost == set()
    assert lost_beside, "an etcd that does not sync lost nothing either, so this cut shows nothing"
    well(machine)


def start_careless(lab: Lab) -> None:
    """Start it, anew or with what it has on the disk; none of its ports is one of the cluster's etcd."""
    unit = ("systemd-run", f"--unit={CARELESS}", "/opt/slipway/etcd/current/etcd", f"--data-dir={CARELESS_DATA}")
    urls = (f"--listen-client-urls={CARELESS_URL}", f"--advertise-client-urls={CARELESS_URL}")
    peers = (f"--listen-peer-urls={CARELESS_PEER}", f"--initial-advertise-peer-urls={CARELESS_PEER}")
    support.on(lab, HOST, *unit, *urls, *peers, f"--initial-cluster=default={CARELESS_PEER}", "--unsafe-no-fsync")


def keys(lab: Lab) -> tuple[set[str], str]:
    """The keys that it has, and what was wrong if it did not answer."""
    command = ("/opt/slipway/etcd/current/etcdctl", f"--endpoints={CARELESS_URL}", "get", "", "--prefix", "--keys-only")
    answer = support.ask(lab, HOST, *command)
    return set(answer.stdout.split()), "" if answer.returncode == 0 else answer.stderr or "no answer"


def left_of_careless(lab: Lab) -> set[str]:
    """What it still has after the cut; nothing where it does not even start with what is on the disk."""
    start_careless(lab)
    deadline = time.monotonic() + 120
    found, fault = keys(lab)
    while fault and time.monotonic() < deadline:
        time.sleep(5)
        found, fault = keys(lab)
    # The cluster that is looked at next has no processor to spare.
    support.ask(lab, HOST, "systemctl", "stop", f"{CARELESS}.service")
    return found


def written_until_cut(lab: Lab) -> dict[str, set[str]]:
    """Write for a while, and cut the power: the names of what was acknowledged before, by who did."""
    call = [*ssh_command(lab, HOST), "--", *using.running(using.WRITER, using.PLACE, using.PROXY, CARELESS_URL)]
    found = collections.defaultdict(set)
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        time.sleep(WRITING_SECONDS)
        labs.power(lab, [HOST], "off", cut=True)
        process.terminate()
        out, _err = process.communicate(timeout=120)
    for line in out.splitlines():
        writer, _, name = line.partition(" ")
        found[writer].add(name)
    return found
