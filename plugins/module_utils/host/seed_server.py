# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serves blobs to other hosts over HTTP, to those that show the token.

Runs as a program of its own, so it imports nothing of Slipway. What it serves is public and its readers verify every
byte by sha256; the token keeps strangers from using the host's bandwidth.

``GET /SHA256`` is answered with the blob, with 404, with 307 to a host that said it has it too when this one is busy,
or with 503 and Retry-After when it is very busy. ``GET /SHA256?here`` is never redirected. ``POST /have/SHA256`` with
``{"port": N}`` says that the asking host serves the blob on its port N.
"""

from __future__ import annotations

import argparse
import hmac
import http.server
import json
import os
import random
import re
import socket
import socketserver
import struct
import sys
import threading
import typing as t

TOKEN_HEADER = "X-Slipway-Token"  # noqa: S105  # the name of a header
BUSY_TRANSFERS = 4
"""From so many transfers on, others that have the blob are named instead."""
MAX_TRANSFERS = 16
STALLED_SECONDS = 60
NOBODY = 65534
_SENDFILE_BYTES = 1 << 24
_PATH = re.compile(r"/(have/)?([0-9a-f]{64})(\?here)?")


class SeedServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """The blobs of one directory on one address and port."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], directory: str, token: str) -> None:
        """Bind; ``directory`` is opened now, so that a later change of user or of its parents does not matter."""
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.directory = -1
        super().__init__(address, SeedHandler)
        self.token = token
        self.directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        self._lock = threading.Lock()
        self._transfers = 0
        self._peers: dict[str, set[str]] = {}

    def server_bind(self) -> None:
        """As the parent's, without asking DNS for this host's name."""
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), int(port)

    def server_close(self) -> None:
        """Close the socket and the directory."""
        super().server_close()
        if self.directory >= 0:
            os.close(self.directory)
            self.directory = -1

    def begin(self, sha256: str, *, here: bool) -> t.Union[bool, str]:
        """Whether a transfer may begin here: True, False when too busy, or the URL of a peer that should be asked."""
        with self._lock:
            peers = self._peers.get(sha256)
            if not here and peers and self._transfers >= BUSY_TRANSFERS:
                return random.choice(sorted(peers))  # noqa: S311  # spreading load
            if self._transfers >= MAX_TRANSFERS:
                return False
            self._transfers += 1
            return True

    def end(self) -> None:
        """A transfer is over."""
        with self._lock:
            self._transfers -= 1

    def add_peer(self, sha256: str, url: str) -> None:
        """Remember that a host has the blob too."""
        with self._lock:
            self._peers.setdefault(sha256, set()).add(url)

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:  # noqa: ARG002
        """A reader that went away is no event; the rest goes to the journal as one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, (ConnectionError, TimeoutError, BlockingIOError)):
            sys.stderr.write(f"{client_address[0]}: {type(error).__name__}: {error}\n")


class SeedHandler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    server_version = "slipway-seed"
    sys_version = ""
    timeout = STALLED_SECONDS
    server: SeedServer

    def do_GET(self) -> None:
        """Give a blob."""
        match = self._authorized_path()
        if match is None:
            return
        sha256, here = match.group(2), bool(match.group(3))
        try:
            handle = os.open(sha256, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self.server.directory)
        except OSError:
            self._answer(404, "not here")
            return
        try:
            self._give(handle, sha256, here=here)
        finally:
            os.close(handle)

    def _give(self, handle: int, sha256: str, *, here: bool) -> None:
        turn = self.server.begin(sha256, here=here)
        if isinstance(turn, str):
            self._answer(307, "ask there", {"Location": f"{turn}/{sha256}?here"})
            return
        if not turn:
            self._answer(503, "busy", {"Retry-After": "1"})
            return
        try:
            self._send(handle)
        finally:
            self.server.end()

    def _send(self, handle: int) -> None:
        size = os.fstat(handle).st_size
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.flush()
        self.connection.settimeout(None)  # sendfile blocks; SO_SNDTIMEO below bounds it
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STALLED_SECONDS, 0))
        sent = 0
        while sent < size:
            count = os.sendfile(self.connection.fileno(), handle, sent, min(_SENDFILE_BYTES, size - sent))
            if count == 0:  # the file became shorter: the reader sees a short body
                self.close_connection = True
                return
            sent += count

    def do_POST(self) -> None:
        """Remember a peer. Its address is the connection's, so nobody is sent to a third host."""
        match = self._authorized_path()
        if match is None:
            return
        try:
            length = int(self.headers.get("Content-Length", "0"))
            port = int(json.loads(self.rfile.read(min(length, 1024)))["port"])
        except (ValueError, KeyError, TypeError):
            self._answer(400, 'expected {"port": N}')
            return
        address = self.client_address[0]
        self.server.add_peer(
            match.group(2), f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
        )
        self._answer(200, "noted")

    def _authorized_path(self) -> t.Optional[t.Match[str]]:
        if not hmac.compare_digest(self.headers.get(TOKEN_HEADER, "").encode(), self.server.token.encode()):
            self._answer(403, "wrong token")
            return None
        match = _PATH.fullmatch(self.path)
        if match is None or bool(match.group(1)) != (self.command == "POST"):
            self._answer(404, "no such thing")
            return None
        return match

    def _answer(self, status: int, text: str, headers: t.Optional[dict[str, str]] = None) -> None:
        body = (text + "\n").encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        """Say nothing per request: a hundred hosts ask for twenty blobs each."""


def clean(directory: str, unless: str) -> None:
    """Remove the blobs when the unit ends as it should: its time is over, or the host goes down.

    systemd says so in the environment of ExecStopPost. ``unless`` is a file that exists while the unit is replaced.
    """
    if os.environ.get("SERVICE_RESULT") in ("timeout", "success") and not os.path.exists(unless):
        for name in os.listdir(directory):
            if re.fullmatch(r"[0-9a-f]{64}", name):
                os.unlink(os.path.join(directory, name))


def _become_nobody() -> None:
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)


def main(arguments: t.Optional[t.Sequence[str]] = None) -> None:
    """Serve until stopped. The token comes on standard input, where no other user can see it.

    Root is given up once the socket and the directory are open, so that neither the interpreter nor the directory needs
    to be readable by anybody.
    """
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", required=True)
    parser.add_argument("--address", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--clean-unless", default="")
    options = parser.parse_args(arguments)
    if options.clean_unless:
        clean(options.directory, options.clean_unless)
        return
    try:
        server = SeedServer((options.address, options.port), options.directory, sys.stdin.readline().strip())
    except OSError as error:
        sys.exit(f"{error.filename or options.address}: {error.strerror}")  # pylint: disable=ansible-bad-function
    _become_nobody()
    try:
        server.serve_forever(poll_interval=5)
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
