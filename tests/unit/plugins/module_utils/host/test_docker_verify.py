# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verification of Docker: each registry is used, and nothing stays of it, nor of one that was killed before."""

from __future__ import annotations

import collections.abc
import contextlib
import datetime
import http.server
import json
import os
import pathlib
import signal
import ssl
import subprocess
import threading
import time
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core import docker
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_registry import new_tag, stale_tags
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_workload import VERIFY_LABEL
from ansible_collections.slipway.cluster.plugins.module_utils.host import docker_verify
from ansible_collections.slipway.cluster.plugins.module_utils.host.docker_verify import (
    forget,
    run_on_cluster,
    use_docker,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.modules import docker_verify as module

DIGEST = f"sha256:{'a' * 64}"
HOUR = 3600


# --- what was pushed ------------------------------------------------------------------------------------------------
class Store(http.server.BaseHTTPRequestHandler):
    """A registry's repository, tag to digest, that answers one user."""

    tags: t.ClassVar[dict[str, str]] = {}
    status: t.ClassVar[int] = 0

    def do_GET(self) -> None:
        self._answer(200 if self.tags else 404, json.dumps({"tags": list(self.tags)}).encode())

    def do_HEAD(self) -> None:
        self._answer(200, b"", self.tags[self.path.rpartition("/")[2]])

    def do_DELETE(self) -> None:
        found = [tag for tag, digest in self.tags.items() if digest == self.path.rpartition("/")[2]]
        for tag in found:
            del self.tags[tag]
        self._answer(202 if found else 404, b"")

    def _answer(self, status: int, body: bytes, digest: str = "") -> None:
        known = self.headers["Authorization"] == "Basic dXNlcg=="
        self.send_response(self.status or (status if known else 401))
        self.send_header("Docker-Content-Digest", digest)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        """Say nothing."""


class LoggedIn(Machine):
    """Root's login to one registry."""

    def __init__(self, host: str, auth: str = "dXNlcg==") -> None:
        self.login = json.dumps({"auths": {host: {"auth": auth}}})

    def read_text(self, path: str) -> str | None:
        return self.login if path == docker.LOGIN else super().read_text(path)


@pytest.fixture
def registry(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> collections.abc.Iterator[str]:
    """HOST:PORT of a registry whose authority the host has."""
    call = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    key, certificate = tmp_path / "key", tmp_path / "crt"
    subprocess.run([*call, *names, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    host = f"127.0.0.1:{server.server_address[1]}"
    (tmp_path / host).mkdir()
    (tmp_path / host / "ca.crt").write_bytes(certificate.read_bytes())
    monkeypatch.setattr(docker, "CERTIFICATES", str(tmp_path))
    monkeypatch.setattr(Store, "tags", {})
    monkeypatch.setattr(Store, "status", 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_what_was_pushed_is_taken_out_with_what_killed_runs_have_left(registry: str) -> None:
    now = time.time()
    for age, token, digest in ((0, "mine", DIGEST), (60, "other", "sha256:b"), (2 * HOUR, "old", "sha256:c")):
        Store.tags[new_tag(now - age, token)] = digest
    image = f"{registry}/slipway-verify/hello@{DIGEST}"
    check = forget(LoggedIn(registry), [image])
    assert (check.ok, check.seen) == (True, "1 of 1 registries, 1 images of earlier runs")
    assert [tag.rpartition("-")[2] for tag in Store.tags] == ["other"]
    assert forget(LoggedIn(registry), [image]).ok, "what has gone need not go"


@pytest.mark.parametrize(("auth", "status", "said"), [("eA==", 0, "401"), ("dXNlcg==", 500, "500")])
def test_a_registry_that_keeps_what_was_pushed_is_told(registry: str, auth: str, status: int, said: str) -> None:
    Store.status = status
    gone = "127.0.0.1:1"
    check = forget(LoggedIn(registry, auth), [f"{host}/slipway-verify/hello@{DIGEST}" for host in (registry, gone)])
    assert not check.ok
    assert said in check.seen
    assert "refused" in check.seen


def test_tags_say_how_old_they_are() -> None:
    tags = [new_tag(1000.7, "ab"), new_tag(9000, "cd"), "latest", "hello-1-1-1", "hello-old-ab"]
    assert stale_tags(tags, 9001) == ["hello-1000-ab"]


# --- the Docker host ------------------------------------------------------------------------------------------------
class Engine(Machine):
    """Docker that works, but for pushing to some registries."""

    def __init__(self, *closed: str) -> None:
        self.closed = closed
        self.told: list[str] = []

    def run(self, argv: t.Sequence[str], *, check: bool = True, **_options: t.Any) -> Output:
        self.told.append(" ".join(argv))
        if argv[1] == "push" and argv[2].partition("/")[0] in self.closed:
            return super().run(["sh", "-c", "echo connection refused >&2; exit 1"], check=check)
        return Output(0, f"digest: {DIGEST}", "")


@pytest.mark.parametrize(
    ("closed", "pushed", "seen"),
    [
        ((), ["a:1", "b:1"], "2 of 2 registries took it"),
        (("a:1",), ["b:1"], "a:1"),
        (("a:1", "b:1"), [], "connection refused"),
    ],
)
def test_each_registry_is_pushed_to(
    monkeypatch: pytest.MonkeyPatch, closed: tuple[str, ...], pushed: list[str], seen: str
) -> None:
    for step in ("_build", "_run", "_kill"):
        monkeypatch.setattr(docker_verify, step, lambda *_arguments: "done")
    machine = Engine(*closed)
    checks, images = use_docker(machine, ["a:1", "b:1"], "hello-1-x")
    assert images == [f"{host}/slipway-verify/hello@{DIGEST}" for host in pushed]
    assert (checks[-1].aspect, checks[-1].ok) == ("docker push", not closed)
    assert seen in checks[-1].seen
    assert machine.told[:2] == machine.told[-2:]
    assert machine.told[-2] == "docker rm --force slipway-verify"
    assert machine.told[-1] == "docker image prune --all --force --filter=label=slipway.cluster.verify"


# --- the cluster ----------------------------------------------------------------------------------------------------
class Kubectl:
    """A cluster that runs a pod, unless its namespaces stay or the run is killed meanwhile."""

    def __init__(self, *, stay: bool = False, killed: bool = False) -> None:
        self.stay = stay
        self.killed = killed
        self.namespaces: dict[str, dict[str, t.Any]] = {}
        self.pods: list[dict[str, t.Any]] = []

    def apply(self, objects: t.Sequence[dict[str, t.Any]]) -> None:
        for item in objects:
            if item["kind"] == "Namespace":
                stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
                self.namespaces[item["metadata"]["name"]] = {
                    "metadata": {**item["metadata"], "creationTimestamp": stamp}
                }
            else:
                self.pods.append(item)

    def nodes(self) -> t.Any:
        return {"items": []}

    def json(self, arguments: t.Sequence[str]) -> t.Any:
        if arguments[1] == "namespaces":
            wanted = arguments[2].rpartition("=")[0].rpartition("=")[2]
            return {"items": [each for each in self.namespaces.values() if wanted in each["metadata"]["labels"]]}
        if arguments[1] == "namespace":
            return self.namespaces.get(arguments[2])
        if self.killed:
            os.kill(os.getpid(), signal.SIGTERM)
        spec = {"nodeName": "w1"}
        return {"spec": spec, "status": {"phase": "Succeeded", "containerStatuses": [{"imageID": f"a@{DIGEST}"}]}}

    def run(self, arguments: t.Sequence[str], **_options: t.Any) -> Output:
        if arguments[:2] == ["delete", "namespace"] and not self.stay:
            for name in arguments[2:]:
                self.namespaces.pop(name, None)
        containers = self.pods[-1]["spec"]["containers"] if self.pods else ()
        return Output(0, "\n".join(each["command"][-1].partition(" ")[2] for each in containers), "")


IMAGES = [f"{host}/slipway-verify/hello@{DIGEST}" for host in ("a:1", "b:1")]


def test_the_cluster_runs_the_image_of_each_registry_and_keeps_nothing() -> None:
    kubectl: t.Any = Kubectl()
    old = {"name": "slipway-verify-old", "labels": {VERIFY_LABEL: "true"}, "creationTimestamp": "2026-01-01T00:00:00Z"}
    kubectl.namespaces = {"slipway-verify-old": {"metadata": old}}
    first, last = run_on_cluster(Machine(), kubectl, IMAGES)
    assert (first.ok, last.ok) == (True, True), first
    assert "from 2 registries" in first.seen
    assert [each["image"] for each in kubectl.pods[0]["spec"]["containers"]] == IMAGES
    assert kubectl.namespaces == {}
    run_on_cluster(Machine(), kubectl, IMAGES)
    assert len({each["metadata"]["namespace"] for each in kubectl.pods}) == 2, "each run has a namespace of its own"


def test_a_namespace_that_stays_is_told_and_a_later_run_knows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_verify, "REMOVAL_SECONDS", 0.1)
    kubectl: t.Any = Kubectl(stay=True)
    first, last = run_on_cluster(Machine(), kubectl, IMAGES)
    assert (first.ok, last.ok) == (True, False)
    assert [each["metadata"]["labels"] for each in kubectl.namespaces.values()] == [{VERIFY_LABEL: "true"}]


def test_a_termination_takes_the_namespace_away(monkeypatch: pytest.MonkeyPatch) -> None:
    kubectl = Kubectl(killed=True)
    monkeypatch.setattr(module, "Kubectl", lambda *_arguments: kubectl)
    # So that without a handler only the test ends.
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(pytest.raises(SystemExit))
            module.look({"step": "run", "images": IMAGES, "kubectl": "", "kubeconfig": ""})
    finally:
        signal.signal(signal.SIGTERM, before)
    assert kubectl.pods
    assert kubectl.namespaces == {}
