# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waiting for units, paths and URLs, with a real server."""

from __future__ import annotations

import contextlib
import http.server
import pathlib
import socket
import socketserver
import ssl
import subprocess
import threading
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.readiness import Wait
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.module_utils.host.readiness import get, settle


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:  # the name http.server calls
        status = int(self.path.strip("/"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"[-]etcd failed")

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
