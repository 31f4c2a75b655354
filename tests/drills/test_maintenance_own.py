# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Maintenance as people do it: the ready-made updates of packages, and the role in a playbook of their own.

Hosts have a repository of their own with one tiny package, so that there is something to update whatever the
distribution's sources have.
"""

from __future__ import annotations

import collections.abc
import json
import re
import typing as t
from pathlib import Path

import pytest
import yaml

from slipway.lab import Lab
from tests.cluster import support

IMAGE = "slipway.local/agnhost:2.66.1"
PACKAGE = "slipway-drill"
REPOSITORY = "/srv/drill"
REBOOT = "/run/reboot-required"
# $1 is the version, $2 what its installation does on the host besides.
PUBLISH = f"""
tree=$(mktemp -d)
mkdir -p {REPOSITORY} $tree/DEBIAN
chmod 0755 $tree
cat > $tree/DEBIAN/control <<END
Package: {PACKAGE}
Version: $1
Architecture: all
Maintainer: Nobody <nobody@localhost>
Description: something to update
END
printf '#!/bin/sh\\n%s\\n' "$2" > $tree/DEBIAN/postinst
chmod 0755 $tree/DEBIAN/postinst
dpkg-deb --root-owner-group --build $tree {REPOSITORY}/$1.deb >&2
rm -r $tree
cd {REPOSITORY}
for file in *.deb; do
    dpkg-deb --field $file
    printf 'Filename: ./%s\\nSize: %s\\n' $file $(stat -c %s $file)
    printf 'SHA256: %s\\n\\n' $(sha256sum $file | cut -d' ' -f1)
done > Packages
printf 'Date: %s\\nSHA256:\\n %s %s Packages\\n' "$(date -Ru)" \
    $(sha256sum Packages | cut -d' ' -f1) $(stat -c %s Packages) > Release
echo 'deb [trusted=yes] file:{REPOSITORY} ./' > /etc/apt/sources.list.d/drill.list
"""
# What a person's tasks are here: they leave a trace, fail where a file says so, and tell what they saw of the cluster.
COUNT = "sh -c 'test ! -e /root/broken && echo run >> /root/maintained'"
LOOK = f"sh -c '{' '.join(support.KUBECTL)} get nodes,pods -A -o json > /root/seen-{{{{ inventory_hostname }}}}'"
TASKS: list[dict[str, t.Any]] = [
    {"name": "Do it", "ansible.builtin.command": COUNT, "changed_when": True},
    {"name": "Look", "ansible.builtin.command": LOOK, "changed_when": True, "delegate_to": "cp1"},
]
# With more memory reserved than any machine has, a kubelet starts, answers and ends, again and again.
BREAK = """sh -c 'test ! -e /root/heavy || {
sed -i s/256Mi/9000Gi/ /etc/kubernetes/kubelet.yaml && systemctl restart kubelet; }'"""
WORKERS = ("w1", "w2")


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """One and two, which reach the distribution's sources."""
    with support.lab_of(isolated=False) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        yield lab


def publish(lab: Lab, version: str, *, reboots: str = "") -> None:
    """Give every host a version of the package; on one of them its installation asks for a reboot."""

    def offer(host: str) -> None:
        does = f"touch {REBOOT}" if host == reboots else ":"
        support.on(lab, host, "sh", "-euc", PUBLISH, "sh", version, does)

    support.everywhere(lab, offer)


def installed(lab: Lab) -> dict[str, str]:
    """The version of the package on each host."""
    ask = ("dpkg-query", "--show", "--showformat=${Version}", PACKAGE)
    return support.everywhere(lab, lambda host: support.on(lab, host, *ask))


def booted(lab: Lab) -> dict[str, int]:
    """When each host's systemd began, in microseconds of the machine's clock."""
    show = ("systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic")
    return support.everywhere(lab, lambda host: int(support.on(lab, host, *show)))


def rebooted(lab: Lab, before: t.Mapping[str, int]) -> set[str]:
    """The hosts that were rebooted since."""
    return {host for host, moment in booted(lab).items() if moment != before[host]}


def asks_for_reboot(lab: Lab) -> set[str]:
    """The hosts that wait for a reboot."""
    return {host for host in support.names(lab) if support.ask(lab, host, "test", "-e", REBOOT).returncode == 0}


def updates(lab: Lab, *options: str) -> support.Said:
    """Maintain hosts with the ready-made tasks."""
    with support.power_button(lab):
        said = support.slipway("maintain", "-i", str(lab.inventory), "--tasks", "os_updates", *options).require()
    print(f"os_updates {' '.join(options)}: {said.seconds:.0f} s")
    assert support.closed(lab) == {}
    assert support.kubectl(lab, "get", *support.MAINTENANCE) == "", "nothing is left to remember"
    return said


def test_updates_are_installed_and_only_who_asks_for_it_is_rebooted(cluster: Lab) -> None:
    publish(cluster, "1")
    support.everywhere(cluster, lambda host: support.shell(cluster, host, f"dpkg --install {REPOSITORY}/1.deb"))
    publish(cluster, "2", reboots="w1")
    assert installed(cluster) == dict.fromkeys(("cp1", *WORKERS), "1")
    before = booted(cluster)
    said = updates(cluster)
    assert "maintained: cp1, w1, w2" in said.out
    assert installed(cluster) == dict.fromkeys(("cp1", *WORKERS), "2")
    assert rebooted(cluster, before) == {"w1"}
    assert asks_for_reboot(cluster) == set()


def test_a_second_maintenance_begins_anew_and_a_reboot_can_wait(cluster: Lab) -> None:
    publish(cluster, "3", reboots="w2")
    before = booted(cluster)
    said = updates(cluster, "-e", "os_updates_reboot=never")
    assert "maintained: cp1, w1, w2" in said.out
    assert installed(cluster) == dict.fromkeys(("cp1", *WORKERS), "3")
    assert rebooted(cluster, before) == set()
    assert asks_for_reboot(cluster) == {"w2"}

    later = updates(cluster, "--limit", "w2")
    assert "maintained: w2" in later.out
    assert rebooted(cluster, before) == {"w2"}
    assert asks_for_reboot(cluster) == set()
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=180)
    support.slipway("verify", "-i", str(cluster.inventory)).require()


# --- tasks of a person's own ------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def served(cluster: Lab) -> Lab:
    """The cluster with two pods that have to move."""
    container = {"name": "web", "image": IMAGE, "args": ["netexec"]}
    pod = {"terminationGracePeriodSeconds": 1, "containers": [container]}
    item = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod},
        },
    }
    support.kubectl(cluster, "apply", "--server-side", "-f", "-", stdin=json.dumps(item))
    support.wait_for("its pods are ready", lambda: support.settled(cluster), timeout=180)
    return cluster


def documented(path: Path) -> Path:
    """The playbook of docs/maintenance.md with other tasks in the middle."""
    text = (support.ROOT / "docs" / "maintenance.md").read_text(encoding="utf-8")
    examples = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "tasks_from: begin" in block]
    observe, play = yaml.safe_load(examples[0])
    begin, _flash, end = play["tasks"]
    path.write_text(yaml.safe_dump([observe, {**play, "tasks": [begin, *TASKS, end]}], sort_keys=False))
    return path


def forget(lab: Lab) -> None:
    """Remove the traces of what was done."""
    support.everywhere(lab, lambda host: support.shell(lab, host, "rm -f /root/maintained /root/seen-*"))


def runs(lab: Lab) -> dict[str, int]:
    """How often the tasks ran on each host."""
    count = "cat /root/maintained 2>/dev/null | wc -l"
    return support.everywhere(lab, lambda host: int(support.shell(lab, host, count)))


def seen_during(lab: Lab, host: str) -> tuple[dict[str, str | None], int]:
    """Which Nodes were closed while the tasks ran on a host, and how many pods of the Deployment were on it."""
    items = json.loads(support.shell(lab, "cp1", f"cat /root/seen-{host}"))["items"]
    nodes, pods = ([item for item in items if item["kind"] == kind] for kind in ("Node", "Pod"))
    own = [pod for pod in pods if pod["metadata"].get("labels", {}).get("app") == "web"]
    return support.closed_of(nodes), sum(pod["spec"].get("nodeName") == host for pod in own)


def test_the_documented_playbook_empties_each_worker_for_its_tasks(served: Lab, tmp_path: Path) -> None:
    forget(served)
    run = support.ansible_run(served.inventory, str(documented(tmp_path / "own.yml"))).require()
    print(f"a playbook of one's own on two workers: {run.seconds:.0f} s")
    assert runs(served) == {"cp1": 0, "w1": 1, "w2": 1}
    for host in WORKERS:
        assert seen_during(served, host) == ({host: "maintain"}, 0)
    assert support.closed(served) == {}


def test_a_task_that_fails_leaves_its_node_closed_and_the_others_alone(served: Lab, tmp_path: Path) -> None:
    forget(served)
    playbook = str(documented(tmp_path / "own.yml"))
    support.shell(served, "w1", "touch /root/broken")
    failed = support.ansible_run(served.inventory, playbook)
    text = failed.output()
    print(failed.problem_text(), text[-3000:], sep="\n")
    assert failed.code != 0
    assert "fatal: [w1]" in text
    assert failed.stats["w1"].failed == 1
    assert runs(served) == {"cp1": 0, "w1": 0, "w2": 0}
    assert support.closed(served) == {"w1": "maintain"}
    assert "cordon node w2" not in [action.text for action in failed.actions]

    support.shell(served, "w1", "rm /root/broken")
    support.ansible_run(served.inventory, playbook).require()
    assert runs(served) == {"cp1": 0, "w1": 1, "w2": 1}
    assert support.closed(served) == {}


def test_a_failed_maintenance_says_who_is_left_and_goes_on_there(served: Lab, tmp_path: Path) -> None:
    forget(served)
    tasks = tmp_path / "tasks.yml"
    tasks.write_text(yaml.safe_dump(TASKS, sort_keys=False))
    words = ("maintain", "-i", str(served.inventory), "--tasks", str(tasks))
    support.shell(served, "w1", "touch /root/broken")
    failed = support.slipway(*words).require(1)
    print(failed.out)
    assert "error: Do it: " in failed.out
    assert "hosts: w1" in failed.out
    assert "maintained: cp1\nnot maintained: w1, w2; run it again to go on with them" in failed.out
    assert runs(served) == {"cp1": 1, "w1": 0, "w2": 0}
    assert support.closed(served) == {"w1": "maintain"}

    support.shell(served, "w1", "rm /root/broken")
    done = support.slipway(*words).require()
    assert "maintained: w1, w2\nmaintained before: cp1\n" in done.out
    assert runs(served) == {"cp1": 1, "w1": 1, "w2": 1}
    assert support.closed(served) == {}


def test_a_host_whose_kubelet_does_not_stay_up_is_not_given_back(cluster: Lab, tmp_path: Path) -> None:
    tasks = tmp_path / "tasks.yml"
    tasks.write_text(yaml.safe_dump([{"name": "Change it", "ansible.builtin.command": BREAK, "changed_when": True}]))
    words = ("-i", str(cluster.inventory), "--limit", "slipway_workers", "--tasks", str(tasks))
    support.shell(cluster, "w1", "touch /root/heavy")
    failed = support.slipway("maintain", *words, "-e", "maintain_timeout=60")
    print(failed.out, f"{failed.seconds:.0f} s")
    support.shell(cluster, "w1", "rm /root/heavy")
    assert failed.code == 1
    assert "error: node w1 Ready: not within 60 s" in failed.out
    assert "not maintained: w1, w2" in failed.out
    assert support.closed(cluster) == {"w1": "maintain"}

    support.slipway("apply", "-i", str(cluster.inventory)).require()
    support.slipway("maintain", *words).require()
    assert support.closed(cluster) == {}
    support.wait_for("all is well", lambda: support.settled(cluster), timeout=120)
