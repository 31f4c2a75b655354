# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch blobs over HTTP into the blob directory, verified on the way, and say clearly why one could not be had."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import http.client
import os
import random
import threading
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request

from ..core.artifacts import Artifact
from ..core.problems import Problem, SlipwayError
from .seed_server import TOKEN_HEADER

PARTIAL = ".partial"
BUSY_SECONDS = 900.0
"""How long a source that says it is busy is asked again."""
SILENCE_SECONDS = 30.0
ATTEMPTS = 4
"""How often a source that fails is asked."""
SPARE_BYTES = 64 << 20
"""What must stay free beside the artefacts: the host has other things to write."""
_CHUNK = 1 << 20


class Cancelled(Exception):
    """Another part of the run failed, so this one stopped."""


class _Refused(Exception):
    """A source will not give the right bytes, however often it is asked."""


class _Busy(Exception):
    """A source asks to wait for so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__("was busy all the time")
        self.seconds = seconds


class _Failed(Exception):
    """A source did not answer, or not fully; it may the next time."""


@dataclasses.dataclass(frozen=True)
class Sources:
    """Base URLs that serve ``/SHA256`` to who shows the token; they are tried before an artefact's own URL."""

    urls: tuple[str, ...] = ()
    token: str = dataclasses.field(default="", repr=False)


def obtain(artifact: Artifact, sources: Sources, cancelled: threading.Event) -> None:
    """Put the artefact's bytes at ``artifact.blob``: those on the disk if they are right, else from the first source.

    SlipwayError names every source that was tried with what it gave.
    """
    if cancelled.is_set():
        raise Cancelled
    if os.path.exists(artifact.blob):
        if sha256_of(artifact.blob, cancelled) == artifact.sha256:
            return
        os.unlink(artifact.blob)
    refusals = []
    seeds = [f"{base.rstrip('/')}/{artifact.sha256}" for base in random.sample(sources.urls, len(sources.urls))]
    for url in [*seeds, *([artifact.url] if artifact.url else [])]:
        try:
            _ask(artifact, url, sources.token if url in seeds else "", cancelled)
            return
        except _Refused as refusal:
            refusals.append(f"{_without_password(url)} {refusal}")
    if not refusals:
        raise SlipwayError(
            Problem(
                artifact.label,
                "its bytes are not on this host and no source was given",
                artifact.blob,
                "give a bundle, a mirror, or an entry with a url",
            )
        )
    raise SlipwayError(
        Problem(
            artifact.label,
            ", ".join(refusals),
            f"bytes with sha256 {artifact.sha256}",
            "see that a source is reachable and holds what the lock says (slipway bundle verify checks a bundle)",
        )
    )


def _ask(artifact: Artifact, url: str, token: str, cancelled: threading.Event) -> None:
    """Ask one source until it gives the bytes: a busy one for BUSY_SECONDS, a failing one ATTEMPTS times."""
    failures, deadline = 0, time.monotonic() + BUSY_SECONDS
    while True:
        here = "?here" if token and failures else ""  # a failure may have been that of the host we were sent to
        try:
            _fetch(artifact, url + here, token, cancelled)
            return
        except _Busy as busy:
            pause = busy.seconds
            if time.monotonic() + pause > deadline:
                raise _Refused(str(busy)) from busy
        except _Refused:
            if here or not token:
                raise
            failures, pause = failures + 1, 0.0  # it may have sent us to another host, and that one was wrong
        except _Failed as failure:
            failures += 1
            pause = 0.5 * 2**failures
            if failures >= ATTEMPTS:
                raise _Refused(f"failed {failures} times: {failure}") from failure
        if cancelled.wait(pause * _pause_factor()):
            raise Cancelled


def _pause_factor() -> float:
    """Spreads the load of hosts that began together."""
    return random.uniform(0.5, 1.0)  # noqa: S311


def _fetch(artifact: Artifact, url: str, token: str, cancelled: threading.Event) -> None:
    partial = artifact.blob + PARTIAL
    try:
        digest = _download(artifact, url, token, cancelled)
        if digest != artifact.sha256:
            raise _Refused(f"gave bytes with sha256 {digest}, which were thrown away")
        os.replace(partial, artifact.blob)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def _download(artifact: Artifact, url: str, token: str, cancelled: threading.Event) -> str:
    try:
        with _open(url, token) as response:
            return _receive(artifact, response, cancelled)
    except urllib.error.HTTPError as error:
        raise _of_status(error) from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        raise _Failed(str(getattr(error, "reason", "") or error) or type(error).__name__) from error
    except OSError as error:
        raise disk_problem(error, artifact.blob, f"fetching {artifact.label}", artifact.size) from error


def _of_status(error: urllib.error.HTTPError) -> Exception:
    if error.code in (429, 503):
        wait = error.headers.get("Retry-After", "")
        return _Busy(float(wait) if wait.isdigit() else 5.0)
    if error.code >= 500:
        return _Failed(f"answered {error.code} {error.reason}")
    return _Refused(f"answered {error.code} {error.reason}")


def _open(url: str, token: str) -> t.Any:
    """A response. Seeds are neighbours, so no proxy is asked for them."""
    headers = {"User-Agent": "slipway"}
    handlers: list[urllib.request.BaseHandler] = []
    if token:
        headers[TOKEN_HEADER] = token
        handlers.append(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=headers)  # noqa: S310  # the core allows http and https only
    return urllib.request.build_opener(*handlers).open(request, timeout=SILENCE_SECONDS)


def _receive(artifact: Artifact, response: t.Any, cancelled: threading.Event) -> str:
    """Write the body to the partial file; its sha256. A body of another length is not read to its end."""
    announced = int(response.headers.get("Content-Length") or artifact.size)
    if artifact.size and announced != artifact.size:
        raise _Refused(f"has {announced} bytes instead of {artifact.size}")
    digest, received = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_CHUNK))
    with open(artifact.blob + PARTIAL, "wb", buffering=0) as stream:
        os.fchmod(stream.fileno(), 0o644)
        while True:
            count = response.readinto(buffer)
            if not count:
                break
            received += count
            if (announced and received > announced) or cancelled.is_set():
                raise Cancelled if cancelled.is_set() else _Refused(f"gave more than {announced} bytes")
            digest.update(buffer[:count])
            write_all(stream, buffer[:count])
    if received < announced:
        raise _Failed(f"ended after {received} of {announced} bytes")
    return digest.hexdigest()


def write_all(stream: t.Any, data: memoryview) -> None:
    """Write to an unbuffered file until nothing is left."""
    while len(data):
        data = data[stream.write(data) :]


def sha256_of(path: str, cancelled: t.Optional[threading.Event] = None) -> str:
    """A file's sha256."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(_CHUNK))
    with open(path, "rb", buffering=0) as stream:
        while True:
            if cancelled is not None and cancelled.is_set():
                raise Cancelled
            count = stream.readinto(buffer)
            if not count:
                return digest.hexdigest()
            digest.update(buffer[:count])


def require_space(directory: str, needed: int, what: str) -> None:
    """SlipwayError unless the file system that holds ``directory`` has ``needed`` bytes free and some to spare."""
    free = _free(directory)
    if needed and free < needed + SPARE_BYTES:
        raise SlipwayError(_no_space(directory, what, needed + SPARE_BYTES, free))


def disk_problem(error: OSError, path: str, what: str, needed: int) -> SlipwayError:
    """What a failed write means, in words."""
    directory = os.path.dirname(path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SlipwayError(_no_space(directory, what, needed, _free(directory)))
    return SlipwayError(Problem(f"{path} on {os.uname().nodename}", f"{what}: {error.strerror or error}"))


def _no_space(directory: str, what: str, needed: int, free: int) -> Problem:
    return Problem(
        f"{mount_of(directory)} on {os.uname().nodename}",
        f"no space left for {what}: {free >> 20} MiB free",
        f"{max(1, needed >> 20)} MiB or more",
        "free space there and run again; what was done is kept",
    )


def _free(directory: str) -> int:
    status = os.statvfs(mount_of(directory))
    return status.f_bavail * status.f_frsize


def mount_of(path: str) -> str:
    """The mount point that holds the path, or will hold it."""
    path = os.path.realpath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def _without_password(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
