# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The life of one cluster's members: they come by --limit, die, move, change their part and leave volumes behind.

Three control-plane hosts and two workers, with bare machines beside them. The tests walk through it in this order; each
leaves a whole cluster, or says what is left to the next. The host cp1 is two machines in its life.
"""

from __future__ import annotations

import collections.abc
import contextlib
import json
import time
import typing as t
from pathlib import Path

import pytest
import yaml

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import support
from tests.drills import attaching

# Nobody's resolver knows it: hosts that ask have it in /etc/hosts.
NAME = "api.drill.example"
ENDPOINT = f"{NAME}:6443"
KUBECONFIG = "/root/kubeconfig-of-a-person"
ASKED = "cp2"
FIRST, WORKERS = ("cp1", "cp2", "cp3"), ("w1", "w2")
GROWN, MORE_WORKERS = (*FIRST, "cp4"), (*WORKERS, "w3")
MOVED = {"cp1": "cp5"}
PROMOTED, FEWER_WORKERS = (*FIRST, "w2"), ("w1", "w3")
KUBELET = ("systemctl", "show", "--property=ActiveEnterTimestampMonotonic,MainPID", "kubelet.service")
# Kubernetes detaches without the taint after 360 s.
MOVED_SECONDS = 120


@pytest.fixture(scope="module")
def lab() -> collections.abc.Iterator[Lab]:
    """Machines for all of it, bare at first."""
    with support.lab_of(control_plane=5, workers=3, extra_vars={"slipway_endpoint": ENDPOINT}) as made:
        yield made


@contextlib.contextmanager
def step(what: str) -> collections.abc.Iterator[None]:
    """Print the seconds that it takes."""
    started = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - started:.0f} s", flush=True)


def written(
    lab: Lab,
    directory: Path,
    control_plane: t.Iterable[str],
    workers: t.Iterable[str],
    machines: t.Mapping[str, str] | None = None,
) -> Path:
    """An inventory of these hosts, each of the machine of its name unless ``machines`` says otherwise."""
    data = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
    for group, hosts in (("slipway_control_plane", control_plane), ("slipway_workers", workers)):
        own = {host: lab.host((machines or {}).get(host, host)).address for host in hosts}
        data[group] = {"hosts": {host: {"ansible_host": address} for host, address in own.items()}}
    path = directory / "inventory.yml"
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def apply(inventory: Path, what: str) -> support.Run:
    """A whole apply that ends well and leaves nothing to do."""
    with step(f"apply, {what}"):
        run = support.ansible_run(inventory, "apply").require()
    with step("plan"):
        assert support.pending("-i", str(inventory)) == []
    return run


def settle(lab: Lab, *hosts: str) -> None:
    """Wait until all of these are nodes, and nodes and pods are ready."""
    with step("nodes and pods become ready"):
        support.wait_for("nodes and pods are ready", lambda: support.settled(lab, hosts, ASKED), timeout=240)


def through(lab: Lab, machine: str, name: str = NAME) -> labs.SshResult:
    """What a person's kubectl is told by a machine that the resolver gives for a name."""
    entry = f"{lab.host(machine).address} {name}"
    support.shell(lab, ASKED, f"sed -i '/ {name}$/d' /etc/hosts; echo '{entry}' >> /etc/hosts")
    mine = ("--cache-dir=/tmp/kubectl-of-tests", f"--kubeconfig={KUBECONFIG}", f"--server=https://{name}:6443")
    return support.ask(lab, ASKED, support.KUBECTL[0], *mine, "get", "nodes", "-o", "name")


def has_the_name(lab: Lab, machine: str) -> None:
    """The API server there proves that it is the endpoint."""
    answer = through(lab, machine)
    assert answer.returncode == 0, answer.stderr
    assert "node/cp2" in answer.stdout


def node(lab: Lab, name: str) -> dict[str, t.Any]:
    """One Node."""
    return next(each for each in support.objects(lab, "nodes", host=ASKED) if each["metadata"]["name"] == name)


def taints(lab: Lab, name: str) -> set[str]:
    """The keys of a Node's taints."""
    return {taint["key"] for taint in node(lab, name)["spec"].get("taints", ())}


def test_the_endpoint_of_the_users_own_is_where_people_are_sent(lab: Lab, tmp_path: Path) -> None:
    inventory = written(lab, tmp_path, FIRST, WORKERS)
    apply(inventory, "three and two from bare hosts")
    settle(lab, *FIRST, *WORKERS)
    fetched = tmp_path / "kubeconfig"
    support.slipway("kubeconfig", "-i", str(inventory), "--output", str(fetched)).require()
    text = fetched.read_text(encoding="utf-8")
    assert [each["cluster"]["server"] for each in yaml.safe_load(text)["clusters"]] == [f"https://{ENDPOINT}"]
    support.on(lab, ASKED, "tee", KUBECONFIG, stdin=text)
    for host in FIRST:
        has_the_name(lab, host)
    other = through(lab, "cp1", f"not-{NAME}")
    assert other.returncode != 0
    assert f"not not-{NAME}" in other.stderr


def test_a_limit_to_any_host_finds_nothing_to_do(lab: Lab, tmp_path: Path) -> None:
    inventory = written(lab, tmp_path, FIRST, WORKERS)
    for host in (*FIRST, *WORKERS):
        with step(f"plan --limit {host}"):
            assert support.pending("-i", str(inventory), "--limit", host) == []


def test_a_control_plane_host_joins_with_nobody_else_in_the_limit(lab: Lab, tmp_path: Path) -> None:
    inventory = written(lab, tmp_path, GROWN, WORKERS)
    others = {*FIRST, *WORKERS}
    started = support.everywhere(lab, lambda host: support.on(lab, host, *KUBELET), others)
    with step("apply --limit cp4"):
        run = support.ansible_run(inventory, "apply", limit="cp4").require()
    assert set(run.stats) == {"cp4"}
    (witness,) = run.contacted() - {"cp4"}
    assert witness in FIRST
    later = [problem for problem in run.problems if "the proxies there do not know cp4 yet" in problem.found]
    assert [problem.where for problem in later] == [", ".join(sorted(others))]
    assert support.members(lab, ASKED) == dict.fromkeys(GROWN, False)
    settle(lab, *GROWN, *WORKERS)
    has_the_name(lab, "cp4")
    assert set(support.pending("-i", str(inventory))) == others

    apply(inventory, "the others learn of cp4")
    assert support.everywhere(lab, lambda host: support.on(lab, host, *KUBELET), others) == started


def test_a_worker_joins_while_the_first_host_outside_the_limit_is_down(lab: Lab, tmp_path: Path) -> None:
    """It leaves cp1 without power to the next."""
    inventory = written(lab, tmp_path, GROWN, MORE_WORKERS)
    labs.power(lab, ["cp1"], "off", cut=True)
    with step("apply --limit w3, cp1 silent"):
        run = support.ansible_run(inventory, "apply", limit="w3").require()
    assert set(run.stats) == {"w3"}
    asked = run.contacted() - {"w3"}
    assert "cp1" in asked
    assert len(asked) == 2
    with step("apply --limit w3 again"):
        support.slipway("apply", "-i", str(inventory), "--limit", "w3").require()
    support.wait_for("w3 is ready", lambda: unready(lab, "w3"), timeout=120)
    assert support.pending("-i", str(inventory), "--limit", "w3") == []


def unready(lab: Lab, name: str) -> str | None:
    """None if the Node is Ready."""
    (status,) = [each["status"] for each in node(lab, name)["status"]["conditions"] if each["type"] == "Ready"]
    return None if status == "True" else f"Ready is {status}"


def test_a_dead_host_is_replaced_under_its_name_at_another_address(lab: Lab, tmp_path: Path) -> None:
    inventory = written(lab, tmp_path, GROWN, MORE_WORKERS, MOVED)
    apply(inventory, "cp1 is another machine")
    settle(lab, *GROWN, *MORE_WORKERS)
    assert support.members(lab, ASKED) == dict.fromkeys(GROWN, False)
    addresses = {each["address"] for each in node(lab, "cp1")["status"]["addresses"] if each["type"] == "InternalIP"}
    assert addresses == {lab.host("cp5").address}
    authority = ("cat", "/etc/kubernetes/pki/ca.crt")
    assert support.on(lab, "cp5", *authority) == support.on(lab, ASKED, *authority)
    has_the_name(lab, "cp5")


def test_members_without_host_and_node_are_removed_by_name_and_by_id(lab: Lab, tmp_path: Path) -> None:
    """One has died, one has never started; who knows of them is left to the next."""
    inventory = written(lab, tmp_path, FIRST, MORE_WORKERS, MOVED)
    nowhere = f"https://{lab.host('cp1').address}:2380"
    added = support.etcdctl(lab, "member", "add", "ghost", "--learner", f"--peer-urls={nowhere}", "-w=json", host=ASKED)
    ghost = f"{json.loads(added)['member']['ID']:x}"
    labs.power(lab, ["cp4"], "off", cut=True)
    support.kubectl(lab, "delete", "node", "cp4", host=ASKED)
    said = support.slipway("plan", "-i", str(inventory)).require(2)
    for name in ("cp4", ghost):
        assert f"slipway remove {name} --dead" in said.out
    words = ("-i", str(inventory), "--confirm", lab.name)
    refused = support.slipway("remove", "cp4", ghost, *words).require(1)
    for name in ("cp4", ghost):
        assert f"{name}: is an etcd member" in refused.out
    assert "nobody has said that it is dead" in refused.out
    assert set(support.members(lab, ASKED)) == {*GROWN, ""}
    with step("remove two members"):
        removed = support.slipway("remove", "cp4", ghost, "--dead", *words).require()
    for name in ("cp4", ghost):
        assert f"{name}: has held keys" in removed.out
    assert support.members(lab, ASKED) == dict.fromkeys(FIRST, False)


def test_a_worker_is_moved_into_the_control_plane(lab: Lab, tmp_path: Path) -> None:
    inventory = written(lab, tmp_path, PROMOTED, FEWER_WORKERS, MOVED)
    run = apply(inventory, "w2 is a control-plane host, cp4 is forgotten")
    assert "restart kubelet.service" in [text for _module, text in run.of("w2")]
    settle(lab, *PROMOTED, *FEWER_WORKERS)
    assert support.members(lab, ASKED) == dict.fromkeys(PROMOTED, False)
    assert "node-role.kubernetes.io/control-plane" in taints(lab, "w2")
    has_the_name(lab, "w2")


def test_a_dead_workers_volume_is_detached_and_attached_where_its_pod_goes(lab: Lab, tmp_path: Path) -> None:
    inventory = written(lab, tmp_path, PROMOTED, FEWER_WORKERS, MOVED)
    words = ("-i", str(inventory), "--confirm", lab.name)
    with attaching.driver(lab, ASKED) as driver:
        support.wait_for("the volume is attached and in use", driver.unused, timeout=120)
        before = driver.pod()
        dead = before.node
        (other,) = set(FEWER_WORKERS) - {dead}
        labs.power(lab, [dead], "off", cut=True)
        with step(f"{dead} is seen to be gone"):
            support.wait_for("it is not ready", lambda: None if unready(lab, dead) else "it is Ready", timeout=120)
        refused = support.slipway("remove", dead, *words).require(1)
        assert "nobody has said that it is dead" in refused.out
        assert driver.pod() == before
        assert driver.attached() == {dead: True}
        assert attaching.OUT_OF_SERVICE not in taints(lab, dead)
        assert not node(lab, dead)["spec"].get("unschedulable")

        with step(f"remove {dead} --dead"):
            support.slipway("remove", dead, "--dead", *words).require()
        assert dead not in {each["metadata"]["name"] for each in support.objects(lab, "nodes", host=ASKED)}
        assert dead not in driver.attached()
        assert attaching.pods_of(lab, ASKED, dead) == []
        # The driver took its time, and had the Node, with its taint, until it was finished.
        assert driver.detached == {dead: True}

        def moved() -> str | None:
            pod, attached = driver.pod(), driver.attached()
            done = pod.uid != before.uid and pod.node == other and attached == {other: True}
            return None if done else f"{pod}, {attached}"

        spent = support.wait_for(f"the volume is attached to {other}", moved, timeout=MOVED_SECONDS)
        print(f"attached to {other} {spent:.0f} s after the removal", flush=True)

    rest = written(lab, tmp_path, PROMOTED, (other,), MOVED)
    apply(rest, f"{dead} is forgotten")
    settle(lab, *PROMOTED, other)
    with step("verify"):
        support.slipway("verify", "-i", str(rest)).require()


def test_a_living_worker_is_reset_when_its_volume_is_detached(lab: Lab, tmp_path: Path) -> None:
    """It is the last worker, so its pods go nowhere, and this ends the walk."""
    (last,) = {each["metadata"]["name"] for each in support.objects(lab, "nodes", host=ASKED)} & set(FEWER_WORKERS)
    inventory = written(lab, tmp_path, PROMOTED, (last,), MOVED)
    with attaching.driver(lab, ASKED) as driver:
        support.wait_for("the volume is attached and in use", driver.unused, timeout=120)
        with step(f"remove {last}"):
            support.slipway("remove", last, "-i", str(inventory), "--confirm", lab.name).require()
        assert last not in {each["metadata"]["name"] for each in support.objects(lab, "nodes", host=ASKED)}
        assert driver.detached == {last: True}
