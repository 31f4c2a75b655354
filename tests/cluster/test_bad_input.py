# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wrong is said with what was found, what was expected and what to do, and nothing is touched.

The hosts stay bare until the last two tests, which put artefacts on them.
"""

from __future__ import annotations

import collections.abc
import contextlib
import json
import os
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from slipway.lab import Lab
from tests.cluster import support

# What a run that is refused has done: looked at the hosts and thought.
REFUSED = ["Look at the host", "Validate and plan"]
OTHER_CA = "/etc/kubernetes/pki"


@pytest.fixture(scope="module")
def pair() -> collections.abc.Iterator[Lab]:
    """A control-plane host and a worker, bare."""
    with support.lab_of(support.lab_name("bad"), workers=1) as lab:
        yield lab


@pytest.fixture
def inventory(pair: Lab, tmp_path: Path) -> t.Callable[..., Path]:
    """Writes the lab's inventory with something added: variables of all hosts, of one host, or hosts in groups."""

    def write(
        variables: t.Mapping[str, t.Any] | None = None,
        *,
        hosts: t.Mapping[str, t.Mapping[str, t.Any]] | None = None,
        groups: t.Mapping[str, t.Sequence[str]] | None = None,
    ) -> Path:
        data = yaml.safe_load(pair.inventory.read_text(encoding="utf-8"))
        data["all"]["vars"].update(variables or {})
        for group, members in (groups or {}).items():
            entries = data.setdefault(group, {}).setdefault("hosts", {})
            entries.update({name: {} for name in members if name not in entries})
        for entry in data.values():
            for name, values in entry.get("hosts", {}).items():
                values.update((hosts or {}).get(name, {}))
        path = tmp_path / "inventory.yml"
        path.write_text(yaml.safe_dump(data), encoding="utf-8")
        return path

    return write


def refused(inventory: Path, **variables: t.Any) -> support.Run:
    """An apply that must end before anything is done."""
    run = support.ansible_run(inventory, "apply", extra_vars=variables or None)
    assert run.code != 0, run.output()
    assert run.tasks() == REFUSED
    assert run.actions == ()
    return run


@contextlib.contextmanager
def untouched(lab: Lab, but: str = "nothing") -> collections.abc.Iterator[None]:
    """The hosts are the same before and after; ``but`` is what of them does not count."""
    before = support.fingerprints(lab)
    yield
    found = support.difference(before, support.fingerprints(lab))
    assert [line for line in found if but not in line] == []


def the(run: support.Run, where: str) -> Problem:
    """The one problem about ``where``, which says all three things."""
    found = [problem for problem in run.problems if where in problem.where and not problem.warning]
    assert len(found) == 1, run.problem_text() or run.output()
    assert found[0].found
    assert found[0].expected
    assert found[0].remedy
    return found[0]


# --- the spec ---------------------------------------------------------------------------------------------------------
def test_an_unknown_variable_is_named_with_the_one_that_was_meant(inventory: t.Callable[..., Path]) -> None:
    path = inventory({"slipway_kubelett": {}})
    problem = the(refused(path), "slipway_kubelett")
    assert "no such variable" in problem.found
    assert "slipway_kubelet" in problem.remedy
    said = support.slipway("apply", "-i", str(path)).require(1)
    assert "error: slipway_kubelett" in said.out
    assert problem.remedy in said.out


def test_a_value_of_the_cluster_that_differs_between_hosts_is_refused_with_both(
    inventory: t.Callable[..., Path],
) -> None:
    run = refused(inventory(hosts={"w1": {"slipway_endpoint": "api.example.org:6443"}}))
    problem = the(run, "slipway_endpoint")
    assert "api.example.org:6443" in problem.found
    assert "cp1" in problem.found
    assert "w1" in problem.found


def test_networks_that_overlap_are_refused(inventory: t.Callable[..., Path]) -> None:
    network = {"pod_cidr": "10.64.0.0/16", "service_cidr": "10.64.128.0/20"}
    problem = the(refused(inventory({"slipway_network": network})), "slipway_network")
    assert "10.64.0.0/16" in problem.found
    assert "10.64.128.0/20" in problem.found


def test_a_pod_network_too_small_for_the_hosts_is_refused_with_the_numbers(inventory: t.Callable[..., Path]) -> None:
    problem = the(refused(inventory({"slipway_network": {"pod_cidr": "10.64.3.0/24"}})), "slipway_network")
    assert "10.64.3.0/24" in problem.found
    assert "ends at 1 node" in problem.found
    assert "there are 2" in problem.found


def test_an_even_number_of_etcd_members_is_a_warning(inventory: t.Callable[..., Path]) -> None:
    said = support.slipway("plan", "--json", "-i", str(inventory(groups={"slipway_etcd": ["cp1", "w1"]}))).require(2)
    (warning,) = [each for each in json.loads(said.out)["warnings"] if each["where"] == "slipway_etcd"]
    assert "2 etcd members" in warning["found"]
    assert "an odd number" in warning["expected"]


def test_an_unknown_version_is_refused_with_those_that_are_known(inventory: t.Callable[..., Path]) -> None:
    problem = the(refused(inventory({"slipway_kubernetes_version": "1.12"})), "slipway_kubernetes_version")
    assert "1.12" in problem.found
    assert support.KUBERNETES in problem.expected


# --- hosts that do not answer -----------------------------------------------------------------------------------------
def test_a_host_that_cannot_be_reached_is_named_and_the_others_are_still_looked_at(
    pair: Lab, inventory: t.Callable[..., Path]
) -> None:
    nobody = pair.hosts[0].address.rpartition(".")[0] + ".250"
    path = inventory(groups={"slipway_workers": ["w9"]}, hosts={"w9": {"ansible_host": nobody, "ansible_timeout": 3}})
    said = support.slipway("plan", "-i", str(path), "--json").require(1)
    report = json.loads(said.out)
    assert report["unreachable"] == ["w9"]
    assert any("w9" in problem["where"] and "reached" in problem["found"] for problem in report["problems"])
    assert all(report["hosts"][host] for host in ("cp1", "w1"))
    assert "w9" in said.err


def test_without_a_control_plane_host_that_answers_no_cluster_is_begun(
    pair: Lab, inventory: t.Callable[..., Path]
) -> None:
    nobody = pair.hosts[0].address.rpartition(".")[0] + ".250"
    run = refused(inventory(hosts={"cp1": {"ansible_host": nobody, "ansible_timeout": 3}}))
    assert any("cp1" in problem.where and "not provably new" in problem.found for problem in run.problems)


@pytest.fixture
def old_python(pair: Lab) -> collections.abc.Iterator[Path]:
    """A Python too old for Ansible's modules, copied to w1."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted((root / "versions").glob("3.8.*"))
    if not found:
        pytest.skip(f"no Python 3.8 below {root} to copy to a host")
    home = found[-1]
    unneeded = ("test", "site-packages", "__pycache__", "ensurepip", "idlelib", "tkinter", "lib2to3", "config-*", "*.a")
    pack = ["tar", "-C", "/", *(f"--exclude={name}" for name in unneeded), "-cz"]
    parts = [home / "bin" / "python3.8", home / "lib" / "python3.8", *(home / "lib").glob("libpython3.8*.so*")]
    packed = subprocess.run([*pack, *(str(part)[1:] for part in parts)], capture_output=True, check=True).stdout
    unpack = ["ssh", "-F", str(pair.ssh_config), "w1", "tar -C / -xz"]
    subprocess.run(unpack, input=packed, check=True, timeout=240)
    program = parts[0]
    assert support.on(pair, "w1", str(program), "--version").strip() == f"Python {home.name}"
    yield program
    support.on(pair, "w1", "rm", "-rf", str(root))


def test_a_python_too_old_is_said_in_words(pair: Lab, inventory: t.Callable[..., Path], old_python: Path) -> None:
    home = old_python.parents[1]
    path = inventory(hosts={"w1": {"ansible_python_interpreter": str(old_python)}})
    with untouched(pair, but=f"{home}/lib"):  # that Python compiles itself
        said = support.slipway("plan", "-i", str(path)).require(1)
    assert f"error: w1: Python {home.name} is too old" in said.out
    assert "expected: Python 3.9 or newer" in said.out
    assert "remedy: install one and point ansible_python_interpreter at it" in said.out
    for word in ("Traceback", "SyntaxError", 'File "'):
        assert word not in said.out + said.err


# --- hosts that are not what they should be ---------------------------------------------------------------------------
def test_two_hosts_with_one_machine_id_are_refused(pair: Lab, inventory: t.Callable[..., Path]) -> None:
    own = support.on(pair, "w1", "cat", "/etc/machine-id")
    copied = support.on(pair, "cp1", "cat", "/etc/machine-id")
    support.on(pair, "w1", "tee", "/etc/machine-id", stdin=copied)
    try:
        with untouched(pair):
            problem = the(refused(inventory()), "machine-id")
    finally:
        support.on(pair, "w1", "tee", "/etc/machine-id", stdin=own)
    assert "cp1, w1" in problem.found
    assert copied.strip() in problem.found
    assert "systemd-machine-id-setup" in problem.remedy


@pytest.mark.parametrize(
    ("host", "port", "whose", "variables"),
    [("cp1", 6443, "kube-apiserver", {}), ("w1", 80, "traefik", {"slipway_ingress": {"enabled": True}})],
)
def test_a_port_in_use_by_something_else_is_refused_with_its_owner(
    pair: Lab, inventory: t.Callable[..., Path], host: str, port: int, whose: str, variables: dict[str, t.Any]
) -> None:
    start = ("systemd-run", "--unit=web", "--collect", "python3", "-m", "http.server", str(port))
    support.on(pair, host, *start)
    try:
        support.wait_for("the web server", lambda: _listens(pair, host, port), timeout=60, interval=0.2)
        with untouched(pair):
            problem = the(refused(inventory(variables)), host)
    finally:
        support.on(pair, host, "systemctl", "stop", "web.service")
    assert f"port {port} is in use by python3 of web.service" in problem.found
    assert f"free for {whose}" in problem.expected


def _listens(lab: Lab, host: str, port: int) -> str | None:
    listing = support.on(lab, host, "ss", "-Hltn", f"sport = :{port}")
    return None if listing.strip() else "nothing listens"


def make_ca(lab: Lab, host: str, name: str) -> str:
    """A CA where Kubernetes has its own, made by somebody else; its SHA-256 fingerprint in hexadecimal."""
    key, certificate = f"{OTHER_CA}/ca.key", f"{OTHER_CA}/ca.crt"
    support.on(lab, host, "mkdir", "-p", OTHER_CA)
    subject = ("-subj", f"/CN={name}", "-days", "30", "-addext", "basicConstraints=critical,CA:TRUE")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    support.on(lab, host, "openssl", "req", "-x509", *new_key, "-keyout", key, "-out", certificate, *subject)
    shown = support.on(lab, host, "openssl", "x509", "-in", certificate, "-noout", "-fingerprint", "-sha256")
    return shown.strip().rpartition("=")[2].replace(":", "").lower()


def test_hosts_that_do_not_reach_each_other_are_refused_with_both_and_the_port(
    pair: Lab, inventory: t.Callable[..., Path]
) -> None:
    """Two hosts of a control plane to be, so that all of its ports are tried; and a resolver that nobody answers at."""
    path = inventory(groups={"slipway_control_plane": ["cp1", "w1"]})
    ports = (2379, 2380, 6443, 10250)
    rules = (*(f"tcp dport {port} drop" for port in ports), "udp dport 8472 meta length > 1300 drop")
    chain = "add chain inet drill in { type filter hook input priority -10; }"
    commands = ["add table inet drill", chain, *(f"add rule inet drill in {rule}" for rule in rules)]
    support.shell(pair, "w1", "".join(f"nft '{command}';" for command in commands))
    resolvers = support.on(pair, "w1", "cat", "/etc/resolv.conf")
    support.on(pair, "w1", "tee", "/etc/resolv.conf", stdin="nameserver 192.0.2.53\n")
    try:
        with untouched(pair):
            run = support.ansible_run(path, "apply")
            assert run.code != 0, run.output()
            assert run.tasks()[-1] == "Try to reach the others"
            assert run.actions == ()
            support.wait_for("all listeners ended", lambda: listeners(pair), timeout=120)
    finally:
        support.shell(pair, "w1", "nft delete table inet drill")
        support.on(pair, "w1", "tee", "/etc/resolv.conf", stdin=resolvers)
    told = run.problem_text()
    for port in ports:
        assert f"cp1 to w1: port {port}/tcp of w1" in told
    assert "cp1 to w1: packets of 1500 bytes do not arrive at w1" in told
    assert "w1 to cp1" not in told
    assert "no answer from 192.0.2.53" in told


def listeners(lab: Lab) -> str | None:
    """None once nobody listens for other hosts any more."""
    script = "cat /proc/[0-9]*/comm 2>/dev/null | grep -x slipway-reach || true"
    return "".join(support.everywhere(lab, lambda host: support.shell(lab, host, script)).values()) or None


@pytest.mark.parametrize("host", ["cp1", "w1"])
def test_a_ca_of_somebody_else_is_refused_and_left_alone(
    pair: Lab, inventory: t.Callable[..., Path], host: str
) -> None:
    fingerprint = make_ca(pair, host, "somebody else's")
    try:
        with untouched(pair):
            problem = the(refused(inventory()), host)
    finally:
        support.on(pair, host, "rm", "-r", "/etc/kubernetes")
    assert "belongs to another cluster" in problem.found
    assert fingerprint[:16] in problem.found.lower()
    assert "nothing was touched" in problem.remedy


def test_control_plane_hosts_with_different_cas_are_refused_with_both(
    pair: Lab, inventory: t.Callable[..., Path]
) -> None:
    path = inventory({"slipway_cluster_name": "twice"}, groups={"slipway_control_plane": ["cp1", "w1"]})
    mark = json.dumps({"name": "twice", "id": "0123456789abcdef0123456789abcdef"})
    fingerprints = {host: make_ca(pair, host, f"kubernetes of {host}") for host in ("cp1", "w1")}
    for host in fingerprints:
        support.on(pair, host, "install", "-D", "-m", "0644", "/dev/stdin", "/etc/slipway/cluster.json", stdin=mark)
    try:
        with untouched(pair):
            problem = the(refused(path), "certificate authority kubernetes")
    finally:
        for host in fingerprints:
            support.on(pair, host, "rm", "-r", "/etc/kubernetes", "/etc/slipway")
    for host, fingerprint in fingerprints.items():
        assert f"{host} has {fingerprint[:16]}" in problem.found.replace("\n", " ")
    assert "the same" in problem.expected


# --- artefacts --------------------------------------------------------------------------------------------------------
def flip(bundle: Path, name: str) -> tuple[Path, str]:
    """Flip one byte in the middle of a component of this bundle; the file, and the sha256 it should have had."""
    entries = json.loads((bundle / "bundle.json").read_text(encoding="utf-8"))["artifacts"]
    entry = next(entry for entry in entries if entry["name"] == name)
    file = bundle / entry["file"]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0x01
    file.unlink()  # the copy's names are links to the bundle's own bytes
    file.write_bytes(content)
    return file, entry["sha256"]


def test_an_artefact_with_a_wrong_byte_is_refused_and_nothing_is_activated(
    pair: Lab, inventory: t.Callable[..., Path], tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(support.BUNDLE, bundle, copy_function=_link)
    file, expected = flip(bundle, "crictl")
    got = support.command("sha256sum", str(file)).out.split()[0]
    run = support.ansible_run(inventory({"slipway_bundle": str(bundle)}), "apply", "--tags", "host")
    assert run.code != 0
    problem = the(run, "crictl")
    assert got in problem.found
    assert expected in problem.expected
    assert "slipway bundle verify" in problem.remedy
    for host in ("cp1", "w1"):
        assert support.on(pair, host, "find", "/opt/slipway", "-mindepth", "1") == ""
        assert support.ask(pair, host, "test", "-e", f"/var/lib/slipway/blobs/{got}").returncode == 1
    verified = support.slipway("bundle", "verify", str(bundle)).require(1)
    assert file.name in verified.out + verified.err


def _link(source: str, target: str) -> None:
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copy(source, target)


def test_a_full_disk_is_said_with_its_numbers_and_freeing_it_is_enough(
    pair: Lab, inventory: t.Callable[..., Path]
) -> None:
    place = "/var/lib/slipway"
    support.shell(pair, "w1", f"mkdir -p {place} && mount -t tmpfs -o size=48m tmpfs {place}")
    run = refused(inventory())
    assert any(problem.where == "w1" and place in problem.found for problem in run.problems), run.problem_text()
    run = support.ansible_run(inventory({"slipway_ignore_preflight": ["disk"]}), "apply", "--tags", "host")
    assert run.code != 0
    problem = the(run, f"{place} on w1")
    assert "48 MiB free" in problem.found
    assert "MiB or more" in problem.expected
    assert "free space" in problem.remedy
    assert support.on(pair, "w1", "find", place, "-name", "*.partial") == ""
    support.on(pair, "w1", "umount", place)
    support.ansible_run(inventory(), "apply", "--tags", "host").require()
    for host in ("cp1", "w1"):
        assert support.on(pair, host, "/opt/slipway/kubelet/current/kubelet", "--version").startswith("Kubernetes v")
        assert support.on(pair, host, "systemctl", "is-active", "containerd.service") == "active\n"
