# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What artefacts there are and how to know that a byte is right: the lock, and the version sets.

A *lock* (``bundle.json`` in a bundle, a ``.lock.json`` for upstream or a mirror) lists artefacts with their exact
versions and sha256. A *version set* (``artifacts/sets/1.37.yml``) says which versions belong together. Both are
data; this module turns them into frozen dataclasses and refuses, with every problem at once, what is malformed.
Nothing here does I/O: the caller reads the file and passes the parsed JSON or YAML with the file's name.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError

FORMAT = 1
LOCK_NAME = "bundle.json"
SOURCES = ("bundle", "upstream", "mirror")
KINDS = ("archive", "binary", "image", "objects")
PURPOSES = ("node", "test")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_VERSION = re.compile(r"\d+\.\d+(?:\.\d+)?(?:[-+][0-9A-Za-z.-]+)?")
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")
_TEXT_FIELDS = ("name", "kind", "version", "architecture")
_OPTIONAL_TEXT = ("sha256", "file", "url", "reference", "purpose", "module", "module_sum", "go", "checksum_from")


@dataclasses.dataclass(frozen=True)
class Artifact:
    """One thing a host fetches: its identity, where it lies, and the sha256 that proves it.

    ``kind`` is ``archive`` (tar.gz; ``programs`` are taken out by basename, whatever directory they lie in),
    ``binary`` (one executable, to be named ``programs[0]``), ``image`` (an OCI archive called ``reference``) or
    ``objects`` (a JSON list of Kubernetes objects, which the controller reads).
    A bundle's artefact has ``file`` (relative to the lock) and ``size`` (bytes); upstream's and a mirror's has
    ``url``. An upstream image has only its ``reference``: the runtime pulls it. ``purpose`` is ``node`` for what a
    host needs and ``test`` for what only tests use. The last four fields say how it was built, or who vouched for
    its checksum.
    """

    name: str
    kind: str
    version: str
    architecture: str
    sha256: str = ""
    file: str = ""
    url: str = ""
    size: int | None = None
    programs: tuple[str, ...] = ()
    reference: str = ""
    purpose: str = "node"
    module: str = ""
    module_sum: str = ""
    go: str = ""
    flags: tuple[str, ...] = ()
    checksum_from: str = ""

    def as_dict(self) -> dict[str, t.Any]:
        """The artefact as JSON data, without the fields that have nothing to say."""
        found = dataclasses.asdict(self)
        for name in ("programs", "flags"):
            found[name] = list(found[name])
        return {name: value for name, value in found.items() if value not in ("", [], None)}


@dataclasses.dataclass(frozen=True)
class Lock:
    """All artefacts of one version set, from one source."""

    set_name: str
    source: str
    versions: t.Mapping[str, str]
    artifacts: tuple[Artifact, ...]

    def artifact(self, name: str, architecture: str) -> Artifact:
        """The artefact of that name and architecture; raises SlipwayError naming what there is if there is none."""
        for found in self.artifacts:
            if found.name == name and found.architecture == architecture:
                return found
        have = sorted(found.architecture for found in self.artifacts if found.name == name)
        raise SlipwayError(
            Problem(
                where=f"{self.source} {self.set_name}",
                found=f"no {name} for {architecture} (there is: {', '.join(have) or 'none at all'})",
                expected="one artefact for each architecture in the inventory",
                remedy="build or lock the artefacts for that architecture too",
            )
        )

    def as_dict(self) -> dict[str, t.Any]:
        """The lock as JSON data."""
        return {
            "format": FORMAT,
            "set": self.set_name,
            "source": self.source,
            "versions": dict(self.versions),
            "artifacts": [artifact.as_dict() for artifact in self.artifacts],
        }

    def as_text(self) -> str:
        """The lock as the text of its file; equal locks give equal text."""
        return json.dumps(self.as_dict(), indent=2) + "\n"


@dataclasses.dataclass(frozen=True)
class ImageNames:
    """What an image is called when it comes from a bundle, and where upstream publishes it."""

    bundle: str
    upstream: str


@dataclasses.dataclass(frozen=True)
class VersionSet:
    """The exact versions that are tested together for one Kubernetes minor (``name``, such as ``1.37``)."""

    name: str
    versions: t.Mapping[str, str]
    images: t.Mapping[str, ImageNames]

    @property
    def kubernetes(self) -> str:
        """The set's own Kubernetes patch version."""
        return self.versions["kubernetes"]


def minor_of(version: str) -> str:
    """``1.37.2`` and ``v1.37`` → ``1.37``; what is not a version comes back unchanged."""
    found = re.match(r"v?(\d+\.\d+)(?:\.|$)", version)
    return found.group(1) if found else version


def is_version(text: object) -> bool:
    """Whether this is a full or minor version number without a leading ``v``."""
    return isinstance(text, str) and _VERSION.fullmatch(text) is not None


def parse_lock(data: object, where: str) -> Lock:
    """Turn a lock's JSON data into a Lock; ``where`` names the file in the problems raised (SlipwayError)."""
    if not isinstance(data, dict):
        raise SlipwayError(Problem(where, f"a {type(data).__name__}", "an object with format, set and artifacts"))
    if data.get("format") != FORMAT:
        raise SlipwayError(
            Problem(where, f"lock format {data.get('format')!r}", f"format {FORMAT}", "build it with this Slipway")
        )
    problems = _lock_problems(data, where)
    source = data.get("source")
    rows = data.get("artifacts")
    rows = rows if isinstance(rows, list) else []
    for number, row in enumerate(rows):
        problems += _artifact_problems(row, str(source), f"{where}: {_label(row, number)}")
    problems += _duplicates(rows, where)
    if problems:
        raise SlipwayError(problems)
    artifacts = tuple(_artifact(row) for row in rows)
    return Lock(set_name=data["set"], source=data["source"], versions=dict(data["versions"]), artifacts=artifacts)


def parse_lock_text(text: str, where: str) -> Lock:
    """Like ``parse_lock``, from the file's text."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise SlipwayError(
            Problem(where, f"not JSON: {error}", "the lock that slipway bundle wrote", "build or lock it again")
        ) from error
    return parse_lock(data, where)


def parse_version_set(data: object, where: str) -> VersionSet:
    """Turn a version set's YAML data into a VersionSet; raises SlipwayError with every problem."""
    if not isinstance(data, dict):
        raise SlipwayError(Problem(where, f"a {type(data).__name__}", "a mapping with set, versions and images"))
    problems: list[Problem] = []
    name = data.get("set")
    if not isinstance(name, str) or minor_of(name) != name:
        problems.append(Problem(where, f"set: {name!r}", 'a quoted Kubernetes minor such as "1.37"'))
    versions = data.get("versions")
    problems += _version_problems(versions, where)
    images = data.get("images")
    problems += _image_problems(images, where)
    if not problems and minor_of(data["versions"].get("kubernetes", "")) != name:
        problems.append(Problem(where, f"kubernetes {data['versions'].get('kubernetes')}", f"a patch of {name}"))
    if problems:
        raise SlipwayError(problems)
    return VersionSet(
        name=data["set"],
        versions=dict(data["versions"]),
        images={key: ImageNames(row["bundle"], row["upstream"]) for key, row in data["images"].items()},
    )


def _artifact(row: t.Mapping[str, t.Any]) -> Artifact:
    known = {field.name for field in dataclasses.fields(Artifact)}
    values = {name: value for name, value in row.items() if name in known}
    for name in ("programs", "flags"):
        values[name] = tuple(values.get(name, ()))
    return Artifact(**values)


def _label(row: object, number: int) -> str:
    name = row.get("name") if isinstance(row, dict) else None
    return str(name) if name else f"artifact {number + 1}"


def _lock_problems(data: t.Mapping[str, t.Any], where: str) -> list[Problem]:
    problems = _version_problems(data.get("versions"), where)
    if not isinstance(data.get("set"), str) or not data["set"]:
        problems.append(Problem(where, f"set: {data.get('set')!r}", "the name of a version set, such as 1.37"))
    if data.get("source") not in SOURCES:
        problems.append(Problem(where, f"source: {data.get('source')!r}", f"one of {', '.join(SOURCES)}"))
    if not isinstance(data.get("artifacts"), list) or not data["artifacts"]:
        problems.append(Problem(where, "no list of artifacts", "at least one artifact"))
    return problems


def _version_problems(versions: object, where: str) -> list[Problem]:
    if not isinstance(versions, dict) or not versions:
        return [Problem(where, f"versions: {versions!r}", "a mapping from component to version")]
    return [
        Problem(where, f"versions: {name}: {version!r}", "a version such as 1.37.0 (quote it if YAML reads a number)")
        for name, version in versions.items()
        if not is_version(version)
    ]


def _image_problems(images: object, where: str) -> list[Problem]:
    if not isinstance(images, dict):
        return [Problem(where, f"images: {images!r}", "a mapping from image to its bundle and upstream names")]
    return [
        Problem(where, f"images: {name}: {row!r}", "two image names with a tag: bundle and upstream")
        for name, row in images.items()
        if not (
            isinstance(row, dict)
            and set(row) == {"bundle", "upstream"}
            and all(_is_reference(value) for value in row.values())
        )
    ]


def _is_reference(text: object) -> bool:
    return isinstance(text, str) and "/" in text and ":" in text.rsplit("/", 1)[-1]


def _artifact_problems(row: object, source: str, where: str) -> list[Problem]:
    if not isinstance(row, dict):
        return [Problem(where, f"a {type(row).__name__}", "an object")]
    problems = _type_problems(row, where)
    if problems:
        return problems
    problems += _choice_problems(row, where)
    problems += _content_problems(row, where)
    problems += _place_problems(row, source, where)
    return problems


def _type_problems(row: t.Mapping[str, t.Any], where: str) -> list[Problem]:
    problems = [
        Problem(where, f"{name}: {row.get(name)!r}", "a text that is not empty")
        for name in _TEXT_FIELDS
        if not isinstance(row.get(name), str) or not row[name]
    ]
    problems += [
        Problem(where, f"{name}: {row[name]!r}", "a text")
        for name in _OPTIONAL_TEXT
        if name in row and not isinstance(row[name], str)
    ]
    for name in ("programs", "flags"):
        value = row.get(name, [])
        if not isinstance(value, list) or not all(isinstance(part, str) and part for part in value):
            problems.append(Problem(where, f"{name}: {value!r}", "a list of texts"))
    size = row.get("size", 1)
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0:
        problems.append(Problem(where, f"size: {size!r}", "a number of bytes"))
    return problems


def _choice_problems(row: t.Mapping[str, t.Any], where: str) -> list[Problem]:
    problems = []
    if row["kind"] not in KINDS:
        problems.append(Problem(where, f"kind: {row['kind']}", f"one of {', '.join(KINDS)}"))
    if row.get("purpose", "node") not in PURPOSES:
        problems.append(Problem(where, f"purpose: {row['purpose']}", f"one of {', '.join(PURPOSES)}"))
    if not _NAME.fullmatch(row["name"]):
        problems.append(Problem(where, f"name: {row['name']}", "lower-case letters, digits and hyphens"))
    if not is_version(row["version"]):
        problems.append(Problem(where, f"version: {row['version']}", "a version such as 1.37.0"))
    return problems


def _content_problems(row: t.Mapping[str, t.Any], where: str) -> list[Problem]:
    problems = []
    programs = row.get("programs", [])
    bad = [name for name in programs if "/" in name or name.startswith(".")]
    if bad:
        problems.append(Problem(where, f"programs: {', '.join(bad)}", "plain file names"))
    if row["kind"] == "archive" and not programs:
        problems.append(Problem(where, "no programs", "the programs to take out of the archive"))
    if row["kind"] == "binary" and len(programs) != 1:
        problems.append(Problem(where, f"{len(programs)} programs", "exactly one: the name of the executable"))
    if row["kind"] == "image" and not _is_reference(row.get("reference")):
        problems.append(Problem(where, f"reference: {row.get('reference', '')!r}", "an image name with a tag"))
    return problems


def _place_problems(row: t.Mapping[str, t.Any], source: str, where: str) -> list[Problem]:
    problems = []
    pulled = row["kind"] == "image" and source != "bundle" and not row.get("url")
    if not pulled and not _SHA256.fullmatch(row.get("sha256", "")):
        problems.append(Problem(where, f"sha256: {row.get('sha256', '')!r}", "64 lower-case hexadecimal digits"))
    if source == "bundle":
        if not _is_inside(row.get("file", "")):
            problems.append(Problem(where, f"file: {row.get('file', '')!r}", "a path inside the bundle"))
        if "size" not in row:
            problems.append(Problem(where, "no size", "the file's size in bytes"))
    elif not pulled and not re.fullmatch(r"https?://[^/\s]+/\S+", row.get("url", "")):
        problems.append(Problem(where, f"url: {row.get('url', '')!r}", "an http or https address"))
    return problems


def _is_inside(path: str) -> bool:
    return bool(path) and not path.startswith("/") and ".." not in path.split("/")


def _duplicates(rows: t.Sequence[object], where: str) -> list[Problem]:
    seen: set[tuple[object, object]] = set()
    problems = []
    for row in rows:
        if not isinstance(row, dict):
            continue
        key = (str(row.get("name")), str(row.get("architecture")))
        if key in seen:
            problems.append(Problem(where, f"{key[0]} for {key[1]} twice", "each artefact once per architecture"))
        seen.add(key)
    return problems
