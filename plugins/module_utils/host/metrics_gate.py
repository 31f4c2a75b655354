# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives the metrics that this host has on loopback and in files to those who may read metrics.

Runs as a program of its own, so it imports nothing of Slipway. etcd and kube-proxy know no credentials where they give
their metrics, so they listen on loopback; this stands before them on the network.

``GET /metrics/NAME`` with ``Authorization: Bearer TOKEN`` over TLS. With that token the API server is asked whether its
owner may get ``/metrics`` (a SelfSubjectAccessReview, which everybody who is known may make). So the gate has no rights
of its own, and a token that is revoked gets nothing more after half a minute. While the API server cannot be asked, a
token that it let in within the last hour is good.

Answers: 401 without a token that is valid, 403 for who may not, 404 for a name that is not on this host, 503 if the API
server cannot be asked, 502 if the source does not answer, else what the source said.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import http.client
import http.server
import json
import os
import re
import socket
import socketserver
import ssl
import sys
import threading
import time
import typing as t
import urllib.error
import urllib.request

SERVING, KEY, AUTHORITY = "serving.pem", "serving.key", "ca.crt"
"""In the credentials' directory: certificate of this host, its key where that is not in the same file, and the CA of
the API servers and of sources."""
AT_ONCE = 32
STALLED_SECONDS = 10
FRESH_SECONDS = 30
REMEMBERED_SECONDS = 3600
# systemd gives the certificate to the process when it starts, and kubelets renew theirs weeks before its end.
LIFETIME_SECONDS = 24 * 3600
TEXT = "text/plain; version=0.0.4; charset=utf-8"
_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
_REVIEW = {
    "apiVersion": "authorization.k8s.io/v1",
    "kind": "SelfSubjectAccessReview",
    "spec": {"nonResourceAttributes": {"path": "/metrics", "verb": "get"}},
}
_TOKEN = re.compile(r"Bearer ([A-Za-z0-9._~+/-]+=*)")
_PATH = re.compile(r"/metrics/([a-z-]+)")


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a request is answered with."""

    status: int
    body: bytes
    kind: str = TEXT


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is shown to nobody but whom it was meant for."""

    def redirect_request(  # pylint: disable=too-many-positional-arguments
        self, req: t.Any, fp: t.Any, code: int, msg: str, headers: t.Any, newurl: str
    ) -> None:
        """Do not follow."""


@dataclasses.dataclass(frozen=True)
class Gate:
    """``sources`` maps names to URLs and paths of files; ``ca`` vouches for them and the API servers.

    ``apis`` are the API servers' URLs: the next one is asked where one does not answer.
    """

    apis: tuple[str, ...]
    sources: t.Mapping[str, str]
    ca: ssl.SSLContext
    let_in: dict[bytes, float] = dataclasses.field(default_factory=dict)
    """Digest of a token → when the API server last said that its owner may."""

    def answer(self, path: str, authorization: str, accept: str) -> Answer:
        """The answer to a request."""
        token = _TOKEN.fullmatch(authorization)
        status = self.may_read(token.group(0)) if token else 401
        if token is None or status != 200:
            return Answer(status, f"{http.client.responses[status]}\n".encode())
        match = _PATH.fullmatch(path)
        source = self.sources.get(match.group(1)) if match else None
        if source is None:
            return Answer(404, f"here are: {' '.join(f'/metrics/{name}' for name in sorted(self.sources))}\n".encode())
        try:
            return _read(source) if source.startswith("/") else self._fetch(source, token.group(0), accept)
        except (OSError, http.client.HTTPException) as error:
            return Answer(502, f"{source}: {error}\n".encode())

    def may_read(self, authorization: str) -> int:
        """200 if the token's owner may get /metrics, else 401, 403 or 503."""
        token, now = hashlib.sha256(authorization.encode()).digest(), time.monotonic()
        age = now - self.let_in.get(token, -float("inf"))
        if age < FRESH_SECONDS:
            return 200
        status = self._ask(authorization)
        if status == 503 and age < REMEMBERED_SECONDS:
            return 200
        for old in [each for each, moment in list(self.let_in.items()) if now - moment >= REMEMBERED_SECONDS]:
            self.let_in.pop(old, None)
        if status == 200:
            self.let_in[token] = now
        elif status != 503:
            self.let_in.pop(token, None)
        return status

    def _ask(self, authorization: str) -> int:
        """What the first API server that can be asked says of it."""
        return next(
            (status for status in (self._ask_at(api, authorization) for api in self.apis) if status != 503), 503
        )

    def _ask_at(self, api: str, authorization: str) -> int:
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        asked = urllib.request.Request(api + _REVIEWS, json.dumps(_REVIEW).encode(), headers)  # noqa: S310  # https
        # A host without power does not refuse, and who scrapes waits for 10 s by default.
        seconds = STALLED_SECONDS / (len(self.apis) + 1)
        try:
            with self._opener().open(asked, timeout=seconds) as response:
                said = json.load(response)
                return 200 if said["status"]["allowed"] is True else 403
        except urllib.error.HTTPError as error:
            return error.code if error.code in (401, 403) else 503
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
            return 503

    def _fetch(self, url: str, authorization: str, accept: str) -> Answer:
        headers = {"Accept": accept or "*/*"}
        if url.startswith("https:"):  # these ask for credentials themselves
            headers["Authorization"] = authorization
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  # from the command line
        try:
            with self._opener().open(request, timeout=STALLED_SECONDS) as response:
                return Answer(200, response.read(), response.headers.get("Content-Type", TEXT))
        except urllib.error.HTTPError as error:
            return Answer(error.code, error.read())

    def _opener(self) -> urllib.request.OpenerDirector:
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self.ca), _NoRedirect())
        return urllib.request.build_opener(*handlers)


def _read(path: str) -> Answer:
    with open(path, "rb") as stream:
        return Answer(200, stream.read())


class GateServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """The gate at one address; a connection is one request."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], gate: Gate, tls: ssl.SSLContext) -> None:
        """Bind."""
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, GateHandler)
        self.gate = gate
        self._tls = tls
        self._free = threading.BoundedSemaphore(AT_ONCE)

    def server_bind(self) -> None:
        """As the parent's, without asking DNS for this host's name."""
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def process_request(self, request: t.Any, client_address: t.Any) -> None:
        """In a thread of its own, unless too many are busy."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: t.Any, client_address: t.Any) -> None:
        """The whole of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: t.Any, client_address: t.Any) -> None:
        """TLS is agreed on here, so that who is slow in it holds up nobody else."""
        request.settimeout(STALLED_SECONDS)
        with self._tls.wrap_socket(request, server_side=True) as connection:
            super().finish_request(connection, client_address)

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:  # noqa: ARG002
        """A stranger's bad request is no event; the rest goes to the journal as one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # what TLS and the network say is one
            sys.stderr.write(f"{client_address[0]}: {type(error).__name__}: {error}\n")


class GateHandler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    server_version = "slipway-metrics"
    sys_version = ""
    timeout = STALLED_SECONDS
    server: GateServer

    def do_GET(self) -> None:
        """Answer."""
        headers = (self.headers.get("Authorization", ""), self.headers.get("Accept", ""))
        answer = self.server.gate.answer(self.path, *headers)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        if answer.status == 401:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        """Say nothing per request."""


def serve(listen: tuple[str, int], apis: t.Sequence[str], sources: t.Mapping[str, str], credentials: str) -> GateServer:
    """The gate, bound and ready to ``serve_forever``; OSError if there is no certificate or the port is taken."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    key = os.path.join(credentials, KEY)
    tls.load_cert_chain(os.path.join(credentials, SERVING), key if os.path.exists(key) else None)
    trusted = ssl.create_default_context(cafile=os.path.join(credentials, AUTHORITY))
    return GateServer(listen, Gate(tuple(apis), sources, trusted), tls)


def main(arguments: t.Optional[t.Sequence[str]] = None) -> None:
    """Serve for a day; systemd starts it anew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--api", action="append", required=True, help="URL of an API server")
    parser.add_argument("--source", action="append", default=[], help="NAME=URL or NAME=/path")
    options = parser.parse_args(arguments)
    sources = dict(source.split("=", 1) for source in options.source)
    server = serve((options.address, options.port), options.api, sources, os.environ["CREDENTIALS_DIRECTORY"])
    end = threading.Timer(LIFETIME_SECONDS, server.shutdown)
    end.daemon = True
    end.start()
    try:
        server.serve_forever(poll_interval=5)
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
