# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe, fetch, unpack and activate artefacts on this host.

Nothing found on the disk is trusted: a blob that this process did not fetch is hashed before it is used. So blobs need
no fsync; unpacked programs do, before their version gets its name.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import gzip
import os
import shutil
import struct
import tarfile
import threading
import typing as t
import zlib

from ..core.artifacts import (
    ACTIVATE,
    BLOBS,
    COMMANDS,
    CURRENT,
    FETCH,
    LINK,
    ROOT,
    STAMP,
    UNPACK,
    Artifact,
    ArtifactsSeen,
    ArtifactsWant,
    SeenComponent,
    plan_artifacts,
)
from ..core.change import Change
from ..core.containerd import CTR, NAMESPACE, SOCKET, parse_images
from ..core.problems import Problem, SlipwayError
from .fetch import PARTIAL, Cancelled, Sources, disk_problem, obtain, require_space
from .machine import Machine

WORKERS = 3
_OLD = ".old"
_COPY_BYTES = 1 << 20
_Future = concurrent.futures.Future


def observe_artifacts(machine: Machine, links: t.Iterable[str] = tuple(COMMANDS)) -> ArtifactsSeen:
    """Every component, version, stamp and blob on this host, containerd's images, and the named links."""
    found = {path: _observe_link(path) for path in links}
    return ArtifactsSeen(
        components={name: _observe_component(machine, name) for name in _names(ROOT)},
        blobs=observe_blobs(),
        images=observe_images(machine),
        links={path: target for path, target in found.items() if target is not None},
    )


def observe_blobs() -> frozenset[str]:
    """The sha256 of every whole blob on this host."""
    return frozenset(name for name in _names(BLOBS) if len(name) == 64)


def observe_images(machine: Machine) -> dict[str, str]:
    """Image references containerd knows, with the sha256 of the archive they came from; none if it does not run."""
    if not (machine.exists(SOCKET) and machine.exists(CTR)):
        return {}
    listing = machine.run([CTR, "--namespace", NAMESPACE, "images", "ls"], check=False)
    return parse_images(listing.stdout) if listing.rc == 0 else {}


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _observe_component(machine: Machine, name: str) -> SeenComponent:
    directory = f"{ROOT}/{name}"
    current = f"{directory}/{CURRENT}"
    stamps = {}
    for version in _names(directory):
        if version != CURRENT and not version.endswith((PARTIAL, _OLD)):
            stamp = machine.read_text(f"{directory}/{version}/{STAMP}")
            if stamp:
                stamps[version] = stamp.strip()
    return SeenComponent(os.readlink(current) if os.path.islink(current) else "", stamps)


def _observe_link(path: str) -> t.Optional[str]:
    if not os.path.lexists(path):
        return None
    target = os.readlink(path) if os.path.islink(path) else ""
    return target if target.startswith(ROOT + "/") else ""


class Installer:
    """Carries out a plan of core/artifacts.py; one object per run of the module.

    With the first change all fetching and unpacking begins, in a few threads, and each change waits for its own part:
    the plan's order is what is reported, while cores and network are used in between. ``keep_blobs`` leaves fetched
    archives in place, for a host that serves them.
    """

    def __init__(self, sources: Sources, *, keep_blobs: bool = False) -> None:
        """Nothing happens before the first ``apply``."""
        self._sources = sources
        self._keep_blobs = keep_blobs
        self._plan: tuple[Change, ...] = ()
        self._cancelled = threading.Event()
        self._fetched: dict[str, _Future[None]] = {}
        self._done: dict[str, _Future[None]] = {}

    @property
    def held(self) -> list[Artifact]:
        """What this run fetched or unpacked and can give to others."""
        return [
            change.data[1] for change in self._plan if change.data[0] != LINK and os.path.exists(change.data[1].blob)
        ]

    def plan(self, want: ArtifactsWant, seen: ArtifactsSeen) -> list[Change]:
        """The plan of the core, remembered so that its parts can be worked on at once."""
        changes = plan_artifacts(want, seen)
        self._plan = tuple(changes)
        return changes

    def apply(self, machine: Machine, want: ArtifactsWant, change: Change) -> None:
        """Carry out one change of the plan; safe to repeat and safe to be killed in."""
        verb, subject, *rest = change.data
        if verb == ACTIVATE:
            machine.link(f"{ROOT}/{subject.name}/{CURRENT}", subject.version)
        elif verb == LINK:
            os.makedirs(os.path.dirname(subject), exist_ok=True)
            machine.link(subject, rest[0])
        else:
            if not self._done:
                self._start(machine, want)
            self._wait(self._fetched[subject.sha256] if verb == FETCH else self._done[subject.sha256])

    def _start(self, machine: Machine, want: ArtifactsWant) -> None:
        wanted = {verb: [change.data[1] for change in self._plan if change.data[0] == verb] for verb in (FETCH, UNPACK)}
        os.makedirs(BLOBS, mode=0o755, exist_ok=True)
        _remove_leftovers(None if self._keep_blobs else {artifact.sha256 for artifact in want.artifacts})
        require_space(BLOBS, sum(artifact.size for artifact in wanted[FETCH]), "the artefacts to fetch")
        artifacts = {artifact.sha256: artifact for artifact in (*wanted[FETCH], *wanted[UNPACK])}
        pool = concurrent.futures.ThreadPoolExecutor(max_workers=WORKERS)
        for artifact in sorted(artifacts.values(), key=lambda artifact: -artifact.size):
            fetched: _Future[None] = _Future()
            self._fetched[artifact.sha256] = fetched
            self._done[artifact.sha256] = pool.submit(self._work, machine, artifact, fetched)
        pool.shutdown(wait=False)

    def _work(self, machine: Machine, artifact: Artifact, fetched: _Future[None]) -> None:
        try:
            obtain(artifact, self._sources, self._cancelled)
        except BaseException as error:
            fetched.set_exception(error)
            raise
        fetched.set_result(None)
        if artifact.kind != "image":
            install(machine, artifact, keep_blob=self._keep_blobs)

    def _wait(self, future: _Future[None]) -> None:
        """Wait for one part; when it failed, stop the others and raise everything that went wrong."""
        if future.exception() is None:
            return
        self._cancelled.set()
        problems: list[Problem] = []
        for part in self._done.values():
            error = part.exception()
            if isinstance(error, SlipwayError):
                problems += error.problems
            elif error is not None and not isinstance(error, Cancelled):
                raise error
        raise SlipwayError(list(dict.fromkeys(problems)))


def _remove_leftovers(keep: t.Optional[t.Container[str]]) -> None:
    """Remove what killed runs left half, and blobs that are not to be kept (None keeps all).

    The host's lock says that nobody is writing them.
    """
    for name in _names(BLOBS):
        if name.endswith(PARTIAL) or (keep is not None and name not in keep):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{BLOBS}/{name}")


def install(machine: Machine, artifact: Artifact, *, keep_blob: bool) -> None:
    """Turn the verified blob into ``artifact.directory``, which appears complete, with its stamp, or not at all."""
    partial = artifact.directory + PARTIAL
    machine.remove(partial)
    for directory in (ROOT, os.path.dirname(partial), partial):
        machine.make_directory(directory, mode=0o755)
    try:
        if artifact.kind == "archive":
            _extract(artifact, partial)
        else:
            _place(artifact.blob, f"{partial}/{artifact.programs[0]}", keep_blob=keep_blob)
        _make_durable(artifact, partial)
    except OSError as error:
        machine.remove(partial)
        raise disk_problem(error, partial, f"unpacking {artifact.label}", _unpacked_size(artifact)) from error
    except BaseException:
        machine.remove(partial)
        raise
    _publish(machine, partial, artifact.directory)
    if not keep_blob:
        machine.remove(artifact.blob)


def _extract(artifact: Artifact, directory: str) -> None:
    """Take the programs out of the archive by base name; nothing else of it touches the disk."""
    require_space(directory, _unpacked_size(artifact), f"unpacking {artifact.label}")
    missing = set(artifact.programs)
    try:
        with gzip.open(artifact.blob, "rb") as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                program = os.path.basename(member.name)
                content = archive.extractfile(member) if member.isfile() and program in missing else None
                if content is not None:
                    with open(f"{directory}/{program}", "wb", buffering=0) as target:
                        shutil.copyfileobj(content, target, _COPY_BYTES)
                    missing.remove(program)
                if not missing:
                    break
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise SlipwayError(
            Problem(artifact.label, f"is not a tar.gz: {error}", "a tar.gz", "mend the lock's entry")
        ) from error
    if missing:
        raise SlipwayError(
            Problem(
                artifact.label,
                "does not contain " + ", ".join(sorted(missing)),
                "all the programs its entry names",
                "mend the lock's entry",
            )
        )


def _unpacked_size(artifact: Artifact) -> int:
    """What the archive holds in bytes, as gzip's last four bytes say (modulo 4 GiB, which no artefact reaches)."""
    if artifact.kind != "archive" or not os.path.exists(artifact.blob):
        return artifact.size
    with open(artifact.blob, "rb") as stream:
        stream.seek(-4, os.SEEK_END)
        return int(struct.unpack("<I", stream.read(4))[0])


def _place(blob: str, path: str, *, keep_blob: bool) -> None:
    """Give the blob a second name, or move it, or copy it when it lies on another file system."""
    try:
        if keep_blob:
            os.link(blob, path)
        else:
            os.replace(blob, path)
    except OSError:
        shutil.copyfile(blob, path)


def _make_durable(artifact: Artifact, directory: str) -> None:
    for program in artifact.programs:
        handle = os.open(f"{directory}/{program}", os.O_RDONLY)
        try:
            os.fchmod(handle, 0o755)
            os.fsync(handle)
        finally:
            os.close(handle)
    with open(f"{directory}/{STAMP}", "w", encoding="ascii") as stream:
        stream.write(artifact.sha256 + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    os.chmod(directory, 0o755)  # noqa: S103  # programs are for everybody


def _publish(machine: Machine, partial: str, final: str) -> None:
    """Give the directory its name; running programs of one that is replaced keep their open files."""
    machine.sync_directory(partial)
    old = final + _OLD
    machine.remove(old)
    if os.path.lexists(final):
        os.rename(final, old)
    os.rename(partial, final)
    machine.sync_directory(os.path.dirname(final))
    machine.remove(old)
