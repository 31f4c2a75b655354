# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many small questions to the API through one ``kubectl proxy``: a kubectl for each would cost 0.15 s of CPU."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import typing as t

from ..core.problems import Problem, SlipwayError
from .engine import RUN_DIRECTORY

_START_SECONDS = 10.0
# A caller that was killed leaves its proxy behind; this ends it, and the next caller removes what it left.
_LIFE_SECONDS = 600
_PREFIX = "proxy-"


@contextlib.contextmanager
def open_proxy(kubectl: str, kubeconfig: str) -> t.Iterator[ApiProxy]:
    """A proxy with the rights of a kubeconfig, on a socket in a directory that only root can enter."""
    os.makedirs(RUN_DIRECTORY, mode=0o700, exist_ok=True)
    _remove_leftovers()
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=RUN_DIRECTORY) as directory:
        path = os.path.join(directory, "socket")
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function  # it outlives the call
            ["timeout", str(_LIFE_SECONDS), kubectl, f"--kubeconfig={kubeconfig}", "proxy", f"--unix-socket={path}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"HOME": directory, "PATH": "/usr/bin:/bin"},
        )
        try:
            _await_socket(path, process)
            yield ApiProxy(path)
        finally:
            process.terminate()
            process.wait(5)


class ApiProxy:
    """Requests over the proxy's socket."""

    def __init__(self, path: str) -> None:
        self._path = path

    def get(self, path: str, *, timeout: float = 15) -> tuple[int, str]:
        """Status and body of a GET; status 0 and the reason where no answer came within ``timeout`` seconds."""
        return self.request("GET", path, timeout=timeout)

    def request(
        self, method: str, path: str, data: t.Optional[t.Mapping[str, t.Any]] = None, *, timeout: float = 15
    ) -> tuple[int, str]:
        """The same for any method, with JSON data if there is some."""
        connection = _SocketConnection(self._path, timeout)
        body = None if data is None else json.dumps(data)
        try:
            connection.request(method, path, body, {} if body is None else {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.read().decode("utf-8", "replace")
        except socket.timeout:
            return 0, f"no answer within {timeout:g} s"
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error) or type(error).__name__
        finally:
            connection.close()


def _remove_leftovers() -> None:
    for entry in os.scandir(RUN_DIRECTORY):
        if entry.name.startswith(_PREFIX) and time.time() - entry.stat().st_mtime > _LIFE_SECONDS:
            shutil.rmtree(entry.path, ignore_errors=True)


def _await_socket(path: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _START_SECONDS
    while not os.path.exists(path):
        if process.poll() is not None or time.monotonic() >= end:
            raise SlipwayError(Problem("kubectl proxy", f"did not listen within {_START_SECONDS:g} s"))
        time.sleep(0.02)


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
