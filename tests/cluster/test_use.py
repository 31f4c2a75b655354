# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Using the cluster from this machine, with the fetched kubeconfig and nothing else."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import functools
import http.client
import json
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from slipway.lab import Lab
from tests.cluster import support

NAMESPACE = "slipway-test"
PORT = 8080


@dataclasses.dataclass(frozen=True)
class Kubectl:
    """The bundle's kubectl on this machine with one kubeconfig."""

    program: Path
    kubeconfig: Path

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it and leave it running."""
        return subprocess.Popen(
            [self.program, *arguments],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, *arguments: str, stdin: str = "", timeout: float = 120) -> support.Said:
        """Whatever it says."""
        done = subprocess.run(
            [self.program, *arguments],
            env=self.environment(),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return support.Said(done.returncode, done.stdout, done.stderr, 0.0)

    def __call__(self, *arguments: str, stdin: str = "", timeout: float = 120) -> str:
        """What it writes to stdout, if it succeeds."""
        return self.ask(*arguments, stdin=stdin, timeout=timeout).require().out

    def environment(self) -> dict[str, str]:
        """Nothing of the user's own clusters."""
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.kubeconfig.parent)}


@pytest.fixture(scope="module")
def kubeconfig(cluster: Lab) -> Path:
    """As `slipway kubeconfig` leaves it."""
    path = cluster.kubeconfig
    path.unlink(missing_ok=True)
    said = support.slipway("kubeconfig", "-i", str(cluster.inventory), "--output", str(path)).require()
    assert str(path) in said.out
    return path


@pytest.fixture(scope="module")
def kubectl(kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """Out of the bundle, so that the machine needs none."""
    directory = tmp_path_factory.mktemp("kubectl")
    with tarfile.open(support.BUNDLE / support.artifact("kubectl")["file"]) as archive:
        archive.extract("kubectl", directory, filter="data")
    return Kubectl(directory / "kubectl", kubeconfig)


@pytest.fixture(scope="module")
def web(kubectl: Kubectl) -> collections.abc.Iterator[str]:
    """A deployment of two pods behind a service; its name."""
    kubectl("create", "namespace", NAMESPACE)
    try:
        image = ["--image", support.artifact("agnhost")["reference"], "--replicas", "2", "--port", str(PORT)]
        create = ["create", "deployment", "web", "--namespace", NAMESPACE, *image]
        kubectl(*create, "--", "/agnhost", "netexec", f"--http-port={PORT}")
        kubectl("expose", "deployment", "web", "--namespace", NAMESPACE, "--port", "80", "--target-port", str(PORT))
        kubectl("rollout", "status", "deployment/web", "--namespace", NAMESPACE, "--timeout", "240s", timeout=250)
        yield "web"
    finally:
        kubectl("delete", "namespace", NAMESPACE, "--timeout", "240s", timeout=250)


def test_the_kubeconfig_is_for_its_owner_alone(kubeconfig: Path) -> None:
    assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600


def test_its_user_is_an_administrator_who_can_be_revoked(kubectl: Kubectl) -> None:
    who = json.loads(kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert "slipway:admins" in who["groups"]
    assert "system:masters" not in who["groups"]
    assert kubectl("auth", "can-i", "*", "*").strip() == "yes"


def test_it_reaches_the_cluster_over_the_network(cluster: Lab, kubectl: Kubectl) -> None:
    config = json.loads(kubectl("config", "view", "-o", "json"))
    assert config["clusters"][0]["cluster"]["server"] == f"https://{cluster.host('cp1').address}:6443"
    assert len(json.loads(kubectl("get", "nodes", "-o", "json"))["items"]) == 3


def test_deploy_and_expose(kubectl: Kubectl, web: str) -> None:
    support.wait_for("two endpoints", lambda: lacks_endpoints(kubectl, web), timeout=60)


def lacks_endpoints(kubectl: Kubectl, service: str) -> str | None:
    """None if the service leads to two pods."""
    label = f"kubernetes.io/service-name={service}"
    slices = json.loads(kubectl("get", "endpointslices", "-n", NAMESPACE, "-l", label, "-o", "json"))["items"]
    ready = {
        address
        for entry in slices
        for endpoint in entry["endpoints"]
        if endpoint["conditions"]["ready"]
        for address in endpoint["addresses"]
    }
    return None if len(ready) == 2 else f"ready: {sorted(ready)}"


def pod_names(kubectl: Kubectl, name: str) -> list[str]:
    found = json.loads(kubectl("get", "pods", "-n", NAMESPACE, "-l", f"app={name}", "-o", "json"))["items"]
    return [item["metadata"]["name"] for item in found]


def test_exec_and_the_service_by_name(kubectl: Kubectl, web: str) -> None:
    pod = pod_names(kubectl, web)[0]
    for name in (web, f"{web}.{NAMESPACE}.svc.cluster.local"):
        command = ("/agnhost", "connect", f"{name}:80", "--timeout=5s", "--protocol=tcp")
        says_nothing = functools.partial(complaint, kubectl, "exec", "-n", NAMESPACE, pod, "--", *command)
        support.wait_for(f"{name} is reached", says_nothing, timeout=60)


def test_a_process_of_a_host_reaches_services_without_a_default_route(cluster: Lab, kubectl: Kubectl, web: str) -> None:
    address = json.loads(kubectl("get", "service", web, "-n", NAMESPACE, "-o", "json"))["spec"]["clusterIP"]
    asking = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
    for host in support.names(cluster):
        assert support.on(cluster, host, "ip", "route", "show", "default") == ""
        said = {support.on(cluster, host, "python3", "-c", asking, f"http://{address}/hostname") for _ in range(20)}
        assert {name.strip() for name in said} == set(pod_names(kubectl, web)), host


def complaint(kubectl: Kubectl, *arguments: str) -> str | None:
    """None if a command that says nothing when all is well says nothing."""
    said = kubectl.ask(*arguments)
    return None if said.code == 0 and not said.out + said.err else f"code {said.code}: {said.out}{said.err}"


def test_logs(kubectl: Kubectl, web: str) -> None:
    for pod in pod_names(kubectl, web):
        assert "Started HTTP server on port 8080" in kubectl("logs", "-n", NAMESPACE, pod)


@contextlib.contextmanager
def forwarded(kubectl: Kubectl, what: str, port: int) -> collections.abc.Iterator[int]:
    """A port of this machine that leads there."""
    process = kubectl.start("port-forward", "-n", NAMESPACE, "--address", "127.0.0.1", what, f":{port}")
    with process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()  # Forwarding from 127.0.0.1:34567 -> 8080
            assert "Forwarding from" in line, line + process.stderr.read()
            yield int(line.split()[2].rpartition(":")[2])
        finally:
            process.terminate()


def test_port_forward(kubectl: Kubectl, web: str) -> None:
    with forwarded(kubectl, f"service/{web}", 80) as port:
        assert fetched(port, "/hostname") in pod_names(kubectl, web)
        assert fetched(port, "/echo?msg=through") == "through"


def fetched(port: int, path: str) -> str:
    """What is answered over HTTP at a port of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        assert answer.status == 200
        return answer.read().decode()


def test_delete(kubectl: Kubectl, web: str) -> None:
    pod = pod_names(kubectl, web)[0]
    kubectl("delete", "pod", "-n", NAMESPACE, pod, "--timeout", "240s", timeout=250)
    assert pod not in pod_names(kubectl, web)


def test_its_right_can_be_revoked_and_apply_gives_it_back(cluster: Lab, kubectl: Kubectl) -> None:
    binding = "clusterrolebinding/slipway:admins"
    support.kubectl(cluster, "delete", binding)
    support.wait_for("the right is gone", lambda: is_refused(kubectl), timeout=60)

    plan = support.slipway("plan", "-i", str(cluster.inventory)).require(2)
    assert "slipway:admins" in plan.out
    assert is_refused(kubectl) is None, "plan gave the right back"

    run = support.ansible_run(cluster.inventory, "apply").require()
    done = [action.text for action in run.actions]
    assert done == ["create ClusterRoleBinding slipway:admins", "update ConfigMap kube-system/slipway-record"]
    support.wait_for("the right is back", lambda: kubectl.ask("get", "nodes").err or None, timeout=60)


def is_refused(kubectl: Kubectl) -> str | None:
    """None if the API server knows the user and refuses."""
    said = kubectl.ask("get", "nodes")
    return None if said.code != 0 and "is forbidden" in said.err else f"code {said.code}: {said.out}{said.err}"
