# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate over real connections: who is let in is decided by what the API server answers to their token."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import http.client
import http.server
import json
import pathlib
import socket
import ssl
import subprocess
import threading
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.host import metrics_gate

API_SAYS: dict[str, tuple[int, bool | None]] = {
    "may": (201, True),
    "may-not": (201, False),
    "unknown": (401, None),
    "broken": (500, None),
}


class Behind(http.server.BaseHTTPRequestHandler):
    """What stands behind the gate: an API server that knows the tokens of API_SAYS, and sources."""

    seen: t.ClassVar[list[tuple[str, str]]] = []

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert asked["spec"]["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}
        status, allowed = API_SAYS[self.headers["Authorization"].removeprefix("Bearer ")]
        self._answer(status, json.dumps({"status": {"allowed": allowed}}))

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization", "")))
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", "/metrics")
            self.end_headers()
            return
        self._answer(200 if self.path == "/metrics" else 403, "up 1\n")

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/x-test")
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        """Say nothing."""


@contextlib.contextmanager
def running(server: http.server.HTTPServer) -> collections.abc.Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclasses.dataclass(frozen=True)
class Window:
    """The gate's port, and its certificate's authority."""

    port: int
    ca: str

    def get(self, path: str, token: str | None = None) -> tuple[int, str]:
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context, timeout=20)
        connection.request("GET", path, headers={} if token is None else {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    directory = tmp_path_factory.mktemp("credentials")
    serving, ca = directory / metrics_gate.SERVING, directory / metrics_gate.AUTHORITY
    call = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*call, *names, "-keyout", serving, "-out", ca], check=True, capture_output=True)
    serving.write_bytes(serving.read_bytes() + ca.read_bytes())
    return directory


@pytest.fixture
def gate(credentials: pathlib.Path, tmp_path: pathlib.Path) -> collections.abc.Iterator[Window]:
    (tmp_path / "keeper.prom").write_text("slipway_keeper_failing 0\n")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(credentials / metrics_gate.SERVING)
    Behind.seen.clear()
    with contextlib.ExitStack() as stack:
        secured = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Behind)
        secured.socket = tls.wrap_socket(secured.socket, server_side=True)
        https = stack.enter_context(running(secured))
        plain = stack.enter_context(running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Behind)))
        sources = {
            "secured": f"https://127.0.0.1:{https}/metrics",
            "plain": f"http://127.0.0.1:{plain}/metrics",
            "strict": f"https://127.0.0.1:{https}/strict",
            "moved": f"https://127.0.0.1:{https}/elsewhere",
            "gone": "http://127.0.0.1:1/metrics",
            "keeper": str(tmp_path / "keeper.prom"),
            "missing": str(tmp_path / "none.prom"),
        }
        server = metrics_gate.serve(
            ("127.0.0.1", 0), ["https://127.0.0.1:1", f"https://127.0.0.1:{https}"], sources, str(credentials)
        )
        yield Window(stack.enter_context(running(server)), str(credentials / metrics_gate.AUTHORITY))


@pytest.mark.parametrize(
    ("token", "status"),
    [(None, 401), ("", 401), ("unknown", 401), ("may-not", 403), ("broken", 503), ("may", 200), ("may not", 401)],
)
def test_who_is_let_in(gate: Window, token: str | None, status: int) -> None:
    said, text = gate.get("/metrics/plain", token)
    assert said == status
    assert ("up 1" in text) == (status == 200)
    assert bool(Behind.seen) == (status == 200), "nothing is asked for a stranger"


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/metrics/", "/metrics/none", "/metrics/../keeper", "/metrics/plain/x"]
)
def test_there_is_nothing_but_sources(gate: Window, path: str) -> None:
    assert gate.get(path, "unknown")[0] == 401, "a stranger does not even learn that"
    status, text = gate.get(path, "may")
    assert (status, "/metrics/keeper" in text) == (404, True)


def test_files_and_sources_that_ask_for_credentials_themselves(gate: Window) -> None:
    assert gate.get("/metrics/keeper", "may") == (200, "slipway_keeper_failing 0\n")
    assert gate.get("/metrics/secured", "may") == (200, "up 1\n")
    assert gate.get("/metrics/plain", "may") == (200, "up 1\n")
    assert Behind.seen == [("/metrics", "Bearer may"), ("/metrics", "")], "who needs no token is shown none"
    assert gate.get("/metrics/strict", "may")[0] == 403, "what a source says is passed on"


def test_sources_that_do_not_answer_are_named(gate: Window) -> None:
    for name, part in (("gone", "refused"), ("missing", "No such file")):
        status, text = gate.get(f"/metrics/{name}", "may")
        assert status == 502
        assert part in text
    assert gate.get("/metrics/moved", "may")[0] == 302, "a token is not taken elsewhere"


def test_a_key_may_lie_beside_its_certificate(credentials: pathlib.Path, tmp_path: pathlib.Path) -> None:
    key, _mark, certificate = (credentials / metrics_gate.SERVING).read_text().partition("-----BEGIN CERTIFICATE")
    (tmp_path / metrics_gate.KEY).write_text(key)
    (tmp_path / metrics_gate.SERVING).write_text(f"-----BEGIN CERTIFICATE{certificate}")
    (tmp_path / metrics_gate.AUTHORITY).write_bytes((credentials / metrics_gate.AUTHORITY).read_bytes())
    server = metrics_gate.serve(("127.0.0.1", 0), ["https://127.0.0.1:1"], {}, str(tmp_path))
    with running(server) as port:
        assert Window(port, str(tmp_path / metrics_gate.AUTHORITY)).get("/metrics/x")[0] == 401


def test_no_api_server_no_metrics(credentials: pathlib.Path) -> None:
    server = metrics_gate.serve(("127.0.0.1", 0), ["https://127.0.0.1:1"], {"x": "/etc/hostname"}, str(credentials))
    with running(server) as port:
        assert Window(port, str(credentials / metrics_gate.AUTHORITY)).get("/metrics/x", "may")[0] == 503


def test_what_the_api_server_said_is_good_for_a_while(gate: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    assert gate.get("/metrics/keeper", "may")[0] == 200
    monkeypatch.setitem(API_SAYS, "may", (201, False))
    assert gate.get("/metrics/keeper", "may")[0] == 200, "it is not asked for every request"
    monkeypatch.setattr(metrics_gate, "FRESH_SECONDS", 0)
    assert gate.get("/metrics/keeper", "may")[0] == 403
    monkeypatch.setitem(API_SAYS, "may", (500, None))
    assert gate.get("/metrics/keeper", "may")[0] == 503, "who was refused is not remembered"


def test_while_the_api_server_is_away_who_was_let_in_may_go_on(gate: Window, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics_gate, "FRESH_SECONDS", 0)
    assert gate.get("/metrics/keeper", "may")[0] == 200
    monkeypatch.setitem(API_SAYS, "may", (500, None))
    assert gate.get("/metrics/keeper", "may")[0] == 200
    monkeypatch.setattr(metrics_gate, "REMEMBERED_SECONDS", 0)
    assert gate.get("/metrics/keeper", "may")[0] == 503, "not for ever"
    monkeypatch.setitem(API_SAYS, "may", (201, True))
    assert gate.get("/metrics/keeper", "may")[0] == 200


def test_who_is_slow_holds_up_nobody(gate: Window) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(metrics_gate.AT_ONCE // 2):
            stack.enter_context(socket.create_connection(("127.0.0.1", gate.port)))
        assert gate.get("/metrics/keeper", "may")[0] == 200


def test_bad_requests_do_not_end_it(gate: Window, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", gate.port)) as plain:
        plain.sendall(b"GET /metrics/keeper HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert b"200" not in plain.recv(100)
    assert gate.get("/metrics/keeper", "may")[0] == 200
    assert capfd.readouterr().err == ""
