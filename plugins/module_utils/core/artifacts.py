# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which artefacts a host should have, which it has, and the steps between.

A component's files lie in ``/opt/slipway/NAME/VERSION/`` with a stamp (the artefact's sha256) that is written last, so
what has a stamp is complete. ``/opt/slipway/NAME/current`` is a link to the version in use. Bytes that are not
installed yet, and images that are not imported yet, lie in ``/var/lib/slipway/blobs`` under their sha256.
"""

from __future__ import annotations

import collections
import dataclasses
import re
import typing as t

from .change import Change
from .problems import Problem, SlipwayError

ROOT = "/opt/slipway"
BLOBS = "/var/lib/slipway/blobs"
STAMP = ".sha256"
CURRENT = "current"
KINDS = ("archive", "binary", "image")
BLOB_LABEL = "cluster.slipway/blob"
"""Label of an imported image: the sha256 of the archive it came from."""

COMMANDS = {f"/usr/local/bin/{name}": name for name in ("kubectl", "crictl", "ctr", "etcdctl", "etcdutl")}
"""The links that people and tools expect: path to program."""

FETCH, UNPACK, ACTIVATE, LINK = "fetch", "unpack", "activate", "link"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One entry of a bundle or a lock.

    ``archive`` is a tar.gz out of which ``programs`` are taken by base name, ``binary`` is the program itself (named
    by ``programs[0]``), ``image`` is an OCI archive that holds ``reference``. ``size`` is in bytes, 0 if unknown;
    ``file`` is relative to the bundle, ``url`` is upstream's or a mirror's.
    """

    name: str
    kind: str
    version: str
    architecture: str
    sha256: str
    size: int = 0
    file: str = ""
    url: str = ""
    programs: tuple[str, ...] = ()
    reference: str = ""

    @property
    def label(self) -> str:
        """How a person calls it: ``etcd 3.7.0`` or ``image coredns 1.14.6``."""
        return f"image {self.name} {self.version}" if self.kind == "image" else f"{self.name} {self.version}"

    @property
    def directory(self) -> str:
        """Where its programs lie."""
        return f"{ROOT}/{self.name}/{self.version}"

    @property
    def blob(self) -> str:
        """Where its bytes lie until they are installed or imported."""
        return f"{BLOBS}/{self.sha256}"

    def to_data(self) -> dict[str, t.Any]:
        """JSON data from which ``from_data`` makes the same artefact; empty fields are left out."""
        data = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data["programs"] = list(self.programs)
        return {key: value for key, value in data.items() if value}

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> Artifact:
        """The artefact an entry describes; keys of the bundle that are not needed here are passed over."""
        known = {field.name for field in dataclasses.fields(cls)}
        values = {key: value for key, value in data.items() if key in known and value is not None}
        missing = sorted({"name", "kind", "version", "architecture", "sha256"} - set(values))
        if missing:
            where = f"artefact {values.get('name', '(without a name)')}"
            raise SlipwayError(Problem(where, "has no " + ", ".join(missing)))
        values["programs"] = tuple(values.get("programs", ()))
        values["size"] = int(values.get("size", 0))
        return cls(**values)


@dataclasses.dataclass(frozen=True)
class ArtifactsWant:
    """What one host should have.

    ``links`` maps a path to a program of one of the artefacts. ``seeded`` says that the bytes are brought to this host
    by another step before, so that fetching is not a step of this plan.
    """

    artifacts: tuple[Artifact, ...] = ()
    links: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    seeded: bool = False

    def to_data(self) -> dict[str, t.Any]:
        """JSON data from which ``from_data`` makes the same target."""
        return {
            "artifacts": [artifact.to_data() for artifact in self.artifacts],
            "links": dict(self.links),
            "seeded": self.seeded,
        }

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> ArtifactsWant:
        """The target in ``data``; SlipwayError with everything that is wrong in it."""
        artifacts = tuple(Artifact.from_data(entry) for entry in data.get("artifacts") or ())
        want = cls(artifacts, dict(data.get("links") or {}), bool(data.get("seeded")))
        problems = check_artifacts(want)
        if problems:
            raise SlipwayError(problems)
        return want


@dataclasses.dataclass(frozen=True)
class SeenComponent:
    """A directory below ROOT: what ``current`` points to, and each installed version with its stamp."""

    current: str = ""
    stamps: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ArtifactsSeen:
    """What one host has.

    ``links`` maps paths to their targets; a path that holds something that is not a link into ROOT has an empty one.
    ``images`` maps the references containerd knows to the sha256 of the archive they came from, "" if from elsewhere.
    """

    components: t.Mapping[str, SeenComponent] = dataclasses.field(default_factory=dict)
    blobs: frozenset[str] = frozenset()
    images: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    links: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    def to_data(self) -> dict[str, t.Any]:
        """JSON data from which ``from_data`` makes the same observation."""
        return {
            "components": {
                name: {"current": seen.current, "stamps": dict(seen.stamps)} for name, seen in self.components.items()
            },
            "blobs": sorted(self.blobs),
            "images": dict(self.images),
            "links": dict(self.links),
        }

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> ArtifactsSeen:
        """The observation in ``to_data``'s result; what is missing counts as absent."""
        components = {
            name: SeenComponent(seen.get("current", ""), dict(seen.get("stamps", {})))
            for name, seen in data.get("components", {}).items()
        }
        blobs = frozenset(data.get("blobs", ()))
        return cls(components, blobs, dict(data.get("images", {})), dict(data.get("links", {})))


def check_artifacts(want: ArtifactsWant) -> list[Problem]:
    """Everything that is wrong in a target, before any host is touched."""
    problems = [problem for artifact in want.artifacts for problem in _check_artifact(artifact)]
    counts = collections.Counter((artifact.name, artifact.kind == "image") for artifact in want.artifacts)
    problems += [
        Problem(f"artefact {key[0]}", f"is wanted {count} times on one host", "one version of each")
        for key, count in counts.items()
        if count > 1
    ]
    owners = programs_of(want.artifacts)
    problems += [
        Problem(f"link {path}", f"no artefact has the program {program}", "one of " + ", ".join(sorted(owners)))
        for path, program in sorted(want.links.items())
        if program not in owners
    ]
    return problems


def _check_artifact(artifact: Artifact) -> t.Iterator[Problem]:
    where = f"artefact {artifact.name}"
    if artifact.kind not in KINDS:
        yield Problem(where, f"kind {artifact.kind}", "one of " + ", ".join(KINDS))
    if not _SHA256.fullmatch(artifact.sha256):
        yield Problem(where, f"sha256 {artifact.sha256}", "64 hexadecimal digits in lower case")
    for what, value in (("name", artifact.name), ("version", artifact.version), *_programs(artifact)):
        if not _SAFE.fullmatch(value) or value == CURRENT:
            yield Problem(where, f"{what} {value}", "a plain file name")
    if artifact.url and not artifact.url.startswith(("https://", "http://")):
        yield Problem(where, f"url {artifact.url}", "an http or https URL")
    if artifact.kind == "image" and not artifact.reference:
        yield Problem(where, "is an image without a reference")
    if artifact.kind != "image" and not artifact.programs:
        yield Problem(where, "names no programs", "the programs it holds")


def _programs(artifact: Artifact) -> t.Iterator[tuple[str, str]]:
    return (("program", program) for program in artifact.programs)


def programs_of(artifacts: t.Iterable[Artifact]) -> dict[str, Artifact]:
    """Each program with the artefact that brings it."""
    return {program: artifact for artifact in artifacts if artifact.kind != "image" for program in artifact.programs}


def plan_artifacts(want: ArtifactsWant, seen: ArtifactsSeen) -> list[Change]:
    """The steps from ``seen`` to ``want``.

    All bytes come first, then what switches versions, so that a failed download has switched nothing. ``Change.data``
    is (verb, Artifact), or (LINK, path, target) for links.
    """
    changes = [change for artifact in want.artifacts for change in _plan_bytes(want, artifact, seen)]
    changes += [change for artifact in want.artifacts for change in _plan_activation(artifact, seen)]
    owners = programs_of(want.artifacts)
    for path, program in sorted(want.links.items()):
        target = f"{ROOT}/{owners[program].name}/{CURRENT}/{program}"
        found = seen.links.get(path)
        if found not in (target, ""):
            before = f"{found}\n" if found else ""
            changes.append(Change(f"link {path}", before=before, after=f"{target}\n", data=(LINK, path, target)))
    return changes


def left_alone(want: ArtifactsWant, seen: ArtifactsSeen) -> list[str]:
    """Wanted links whose path holds something of the user's, which stays."""
    return sorted(path for path in want.links if seen.links.get(path) == "")


def is_installed(artifact: Artifact, seen: ArtifactsSeen) -> bool:
    """Whether the host has exactly these bytes installed, or for an image imported."""
    if artifact.kind == "image":
        return seen.images.get(artifact.reference) == artifact.sha256
    return seen.components.get(artifact.name, SeenComponent()).stamps.get(artifact.version) == artifact.sha256


def missing_blobs(want: ArtifactsWant, seen: ArtifactsSeen) -> list[Artifact]:
    """The artefacts whose bytes must come to the host from elsewhere: what a seed host must be able to give."""
    return [
        artifact
        for artifact in want.artifacts
        if not is_installed(artifact, seen) and artifact.sha256 not in seen.blobs
    ]


def _plan_bytes(want: ArtifactsWant, artifact: Artifact, seen: ArtifactsSeen) -> t.Iterator[Change]:
    if is_installed(artifact, seen):
        return
    if not want.seeded and artifact.sha256 not in seen.blobs:
        yield Change(f"fetch {artifact.label}", data=(FETCH, artifact))
    if artifact.kind != "image":
        yield Change(f"unpack {artifact.label}", data=(UNPACK, artifact))


def _plan_activation(artifact: Artifact, seen: ArtifactsSeen) -> t.Iterator[Change]:
    if artifact.kind == "image":
        return
    current = seen.components.get(artifact.name, SeenComponent()).current
    if current != artifact.version:
        before = f"{current}\n" if current else ""
        yield Change(
            f"activate {artifact.label}", before=before, after=f"{artifact.version}\n", data=(ACTIVATE, artifact)
        )


def plan_seed(wanted: t.Iterable[Artifact], held: t.Container[str], *, serve: bool = True) -> list[Change]:
    """What the seed host must be given: each of ``wanted`` once, without the sha256 it holds; then that it serves them.

    ``Change.data`` is the Artifact, or None for serving.
    """
    artifacts = list({artifact.sha256: artifact for artifact in wanted if artifact.sha256 not in held}.values())
    labels = collections.Counter(artifact.label for artifact in artifacts)
    changes = [
        Change(
            f"seed {artifact.label}" + (f" ({artifact.architecture})" if labels[artifact.label] > 1 else ""),
            data=artifact,
        )
        for artifact in artifacts
    ]
    return [*changes, Change("serve artefacts to other hosts")] if serve else changes
