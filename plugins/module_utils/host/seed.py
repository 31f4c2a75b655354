# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take in blobs that the controller brought, and serve them to other hosts for a limited time."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import pkgutil
import re
import sys
import tarfile
import typing as t
import urllib.error
import urllib.request

from ..core.artifacts import BLOBS, Artifact
from ..core.change import Change
from ..core.problems import Problem, SlipwayError
from . import seed_server
from .fetch import PARTIAL, disk_problem, write_all
from .machine import Machine
from .reach import end_listeners

UNIT = "slipway-seed.service"
DIRECTORY = "/run/slipway/seed"
PROGRAM = DIRECTORY + "/server.py"
TOKEN = DIRECTORY + "/token"
REPLACING = DIRECTORY + "/replacing"
START_SECONDS = 10.0
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Serving:
    """Serve the blobs on ``address``:``port`` for at most ``seconds`` to who shows ``token``."""

    address: str
    port: int
    seconds: int
    token: str = dataclasses.field(repr=False)

    @property
    def url(self) -> str:
        """What readers are given as source."""
        return f"http://[{self.address}]:{self.port}" if ":" in self.address else f"http://{self.address}:{self.port}"


@dataclasses.dataclass(frozen=True)
class SeedWant:
    """The artefacts that any host needs, and whether other hosts shall be served."""

    artifacts: tuple[Artifact, ...]
    serve: bool = True


def take_in(pack: str, labels: t.Mapping[str, str]) -> None:
    """Move the members of ``pack``, a tar of files named by their sha256, to BLOBS, each verified. The pack is removed.

    SlipwayError names every member whose bytes are wrong, by ``labels`` (sha256 to name); the right ones stay.
    """
    problems: list[Problem] = []
    try:
        with tarfile.open(pack, "r:") as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None and re.fullmatch(r"[0-9a-f]{64}", member.name):
                    problems += _take_in_one(member.name, labels.get(member.name, member.name), member.size, content)
    except (tarfile.TarError, EOFError) as error:
        problems.append(Problem(pack, f"arrived damaged: {error}", "a whole tar", "run again"))
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(pack)
    if problems:
        raise SlipwayError(problems)


def _take_in_one(sha256: str, label: str, size: int, content: t.IO[bytes]) -> list[Problem]:
    blob = f"{BLOBS}/{sha256}"
    digest = hashlib.sha256()
    try:
        with open(blob + PARTIAL, "wb", buffering=0) as stream:
            os.fchmod(stream.fileno(), 0o644)
            while True:
                chunk = content.read(_CHUNK)
                if not chunk:
                    break
                digest.update(chunk)
                write_all(stream, memoryview(chunk))
        if digest.hexdigest() == sha256:
            os.replace(blob + PARTIAL, blob)
            return []
    except OSError as error:
        raise disk_problem(error, blob, f"taking in {label}", size) from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(blob + PARTIAL)
    return [
        Problem(
            label,
            f"arrived with sha256 {digest.hexdigest()} and was thrown away",
            f"sha256 {sha256}, as the bundle says",
            "check the bundle with: slipway bundle verify",
        )
    ]


def serve(machine: Machine, serving: Serving) -> None:
    """Start the transient unit that serves the blobs, in place of one that is running, and see it answer."""
    os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
    source = pkgutil.get_data(__package__, "seed_server.py") or b""
    machine.write(PROGRAM, source, mode=0o600)
    machine.write(TOKEN, serving.token.encode() + b"\n", mode=0o600)
    machine.write(REPLACING, b"", mode=0o600)
    machine.run(["systemctl", "stop", UNIT], check=False)
    machine.run(["systemctl", "reset-failed", UNIT], check=False)
    machine.remove(REPLACING)
    end_listeners()  # the check of the ports, which is over, may still have this one
    machine.run(_command(serving))
    machine.wait(
        f"{UNIT} at {serving.url}",
        lambda: _not_serving(machine, serving),
        timeout=START_SECONDS,
        interval=0.05,
        remedy=f"see journalctl -u {UNIT}",
    )


def _command(serving: Serving) -> list[str]:
    properties = [
        f"RuntimeMaxSec={serving.seconds}",
        f"StandardInput=file:{TOKEN}",
        f"ExecStopPost=+{sys.executable} {PROGRAM} --directory {BLOBS} --clean-unless {REPLACING}",
        "CapabilityBoundingSet=CAP_SETUID CAP_SETGID",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX",
        "MemoryMax=256M",
    ]
    options = [word for setting in properties for word in ("--property", setting)]
    program = [sys.executable, PROGRAM, "--directory", BLOBS, "--address", serving.address, "--port", str(serving.port)]
    return [
        "systemd-run",
        "--quiet",
        "--collect",
        f"--unit={UNIT}",
        "--description=Slipway artefacts for other hosts",
        *options,
        *program,
    ]


def _not_serving(machine: Machine, serving: Serving) -> t.Optional[str]:
    """None when our server answers; else what was seen. A unit that ended is not waited for."""
    request = urllib.request.Request(serving.url, headers={seed_server.TOKEN_HEADER: serving.token})  # noqa: S310
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=2)
    except urllib.error.HTTPError as error:
        if error.code == 404 and error.headers.get("Server", "").startswith(seed_server.SeedHandler.server_version):
            return None
        seen = f"something else answers there ({error.code})"
    except OSError as error:
        seen = str(getattr(error, "reason", error))
    else:
        seen = "something else answers there"
    if machine.run(["systemctl", "is-active", UNIT], check=False).stdout.strip() not in ("active", "activating"):
        log = machine.run(["journalctl", "--no-pager", "-n", "4", "-o", "cat", "-u", UNIT], check=False).stdout
        raise SlipwayError(
            Problem(
                f"{serving.url} on {os.uname().nodename}",
                "the artefacts cannot be served: " + " | ".join(log.strip().splitlines()),
                "a free port",
                "free it, or give slipway.cluster.seed another one",
            )
        )
    return seen


def announce(serving: Serving, seeds: t.Iterable[str], artifacts: t.Iterable[Artifact]) -> None:
    """Tell the seeds that this host serves the artefacts too. One that cannot be told just serves more itself."""
    body = json.dumps({"port": serving.port}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for artifact in artifacts:
        for seed in seeds:
            url = f"{seed.rstrip('/')}/have/{artifact.sha256}"
            headers = {seed_server.TOKEN_HEADER: serving.token, "Content-Type": "application/json"}
            with contextlib.suppress(OSError):
                opener.open(urllib.request.Request(url, body, headers), timeout=5).close()  # noqa: S310


class Seeder:
    """Carries out plan_seed; one object per run of the module."""

    def __init__(self, pack: str, serving: Serving) -> None:
        """``pack`` is the tar the controller brought, empty if it brought none."""
        self._pack = pack
        self._serving = serving
        self._taken = False

    def apply(self, machine: Machine, want: SeedWant, change: Change) -> None:
        """Carry out one change; the first one takes in the whole pack."""
        os.makedirs(BLOBS, mode=0o755, exist_ok=True)
        if change.data is None:
            serve(machine, self._serving)
        elif self._pack and not self._taken:
            take_in(self._pack, {artifact.sha256: artifact.label for artifact in want.artifacts})
            self._taken = True
        if change.data is not None and not os.path.exists(change.data.blob):
            raise SlipwayError(Problem(change.data.label, "was not among the bytes that arrived", remedy="run again"))
