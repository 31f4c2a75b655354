# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for units, paths and URLs, with a real server."""

from __future__ import annotations

import contextlib
import http.server
import json
import pathlib
import socket
import socketserver
import ssl
import subprocess
import threading
import time
import typing as t
import urllib.parse

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.readiness import Wait
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.module_utils.host.readiness import get, settle


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the name http.server calls
        status, _slash, said = self.path.strip("/").partition("/")
        self.send_response(int(status))
        self.end_headers()
        self.wfile.write(urllib.parse.unquote(said).encode() or b"[-]etcd failed")

    def log_message(self, *_: t.Any) -> None:
        pass


@contextlib.contextmanager
def serving(wrap: ssl.SSLContext | None = None) -> t.Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if wrap:
        server.socket = wrap.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http{'s' if wrap else ''}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def babbling() -> t.Iterator[str]:
    """A server that answers with something that is not HTTP."""

    class Babble(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(b"SSH-2.0-x\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Babble) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_url_is_up_when_it_answers_200(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with serving() as url:
        assert get(Wait("x", url=f"{url}/200")) is None
        assert get(Wait("x", url=f"{url}/204")) == "status 204"
        assert get(Wait("x", url=f"{url}/500")) == "status 500: [-]etcd failed"


def test_what_is_no_web_server_is_said_to_be_none() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert "refused" in (get(Wait("x", url=f"http://127.0.0.1:{unused.getsockname()[1]}/")) or "")
    with babbling() as url:
        assert "SSH-2.0-x" in (get(Wait("x", url=url)) or "")
    assert "unknown url type" in (get(Wait("x", url="nonsense")) or "")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    directory = tmp_path_factory.mktemp("tls")
    crt, key = str(directory / "tls.crt"), str(directory / "tls.key")
    subject = ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    call = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    subprocess.run([*call, *subject, "-keyout", key, "-out", crt], check=True, capture_output=True)
    return crt, key


def test_https_is_checked_against_the_given_authority(certificate: tuple[str, str]) -> None:
    crt, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    context.load_verify_locations(crt)
    with serving(context) as url:
        assert get(Wait("x", url=f"{url}/200", ca=crt)) is None
        assert "CERTIFICATE_VERIFY_FAILED" in (get(Wait("x", url=f"{url}/200")) or "")
        context.verify_mode = ssl.CERT_REQUIRED
        assert get(Wait("x", url=f"{url}/200", ca=crt)) is not None
        assert get(Wait("x", url=f"{url}/200", ca=crt, certificate=crt, key=key)) is None
    assert "No such file" in (get(Wait("x", url="https://127.0.0.1:1", ca="/none")) or "")


class Units(Machine):
    """A machine with one unit that comes up when it is asked for the third time."""

    def __init__(self) -> None:
        self.asked = 0

    def run(self, argv: t.Sequence[str], **_: t.Any) -> Output:
        if argv[0] == "journalctl":
            return Output(0, "still reading\n", "")
        self.asked += 1
        state = "active" if self.asked > 4 else "activating"
        return Output(0, f"Id=x.service\nLoadState=loaded\nActiveState={state}\n", "")


def test_units_and_paths_are_waited_for(tmp_path: pathlib.Path) -> None:
    machine = Units()
    (tmp_path / "there").write_text("")
    settle(machine, [Wait("x", unit="x.service", timeout=30), Wait("y", path=str(tmp_path / "there"))])
    assert machine.asked > 4


def test_what_does_not_come_is_said_with_what_was_seen(tmp_path: pathlib.Path) -> None:
    missing = tmp_path / "none"
    with pytest.raises(SlipwayError, match=f"the lease: not within 0.01 s; last seen: {missing} is not there"):
        settle(Machine(), [Wait("the lease", path=str(missing), timeout=0.01)])
    with pytest.raises(SlipwayError, match="still reading"):
        settle(Units(), [Wait("x", unit="x.service", timeout=0.01)])


class Kubelet(Machine):
    """A machine whose kubelet was started some seconds ago, or does not run."""

    def __init__(self, age: float | None) -> None:
        self.age = age

    def run(self, argv: t.Sequence[str], **_: t.Any) -> Output:
        if argv[0] == "journalctl":
            return Output(0, "allocatable is negative\n", "")
        assert argv[-1] == "kubelet.service"
        if "ActiveState" in argv[3]:
            return Output(0, "ActiveState=activating\nSubState=auto-restart\n", "")
        moment = time.clock_gettime(time.CLOCK_MONOTONIC) - (self.age or 0)
        pid = 0 if self.age is None else 7
        return Output(0, f"MainPID={pid}\nExecMainStartTimestampMonotonic={int(moment * 1e6)}\n", "")


def node_url(url: str, status: int, heartbeat_age: float) -> str:
    """Where a Node is answered that was said to be Ready some seconds ago."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - heartbeat_age))
    condition = {"type": "Ready", "status": "True", "lastHeartbeatTime": moment}
    item = {"metadata": {"name": "w1"}, "status": {"conditions": [condition]}}
    return f"{url}/{status}/{urllib.parse.quote(json.dumps(item))}"


@pytest.mark.parametrize(
    ("age", "status", "heartbeat_age", "lacking"),
    [
        (10, 200, 5, ""),
        (10, 200, 20, "has not said so since it was started"),
        (None, 200, 5, "last seen: ActiveState=activating"),
        (10, 503, 5, "status 503"),
    ],
)
def test_a_node_is_ready_when_the_kubelet_that_runs_has_said_so(
    age: float | None, status: int, heartbeat_age: float, lacking: str
) -> None:
    with serving() as url:
        wait = Wait("node w1 Ready", url=node_url(url, status, heartbeat_age), since="kubelet.service", timeout=0.01)
        if not lacking:
            settle(Kubelet(age), [wait])
            return
        with pytest.raises(SlipwayError, match=lacking) as caught:
            settle(Kubelet(age), [wait])
    assert "auto-restart; log: allocatable is negative" in str(caught.value)


def test_what_is_no_node_is_not_ready() -> None:
    with serving() as url, pytest.raises(SlipwayError, match="no Node"):
        settle(Kubelet(10), [Wait("x", url=f"{url}/200", since="kubelet.service", timeout=0.01)])
