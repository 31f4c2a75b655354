# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks upstream's downloads (or a mirror's): finds the published sha256 of every file, so that hosts can verify it.

What is known (artifacts/upstream/checksums.yml) needs no network; the rest comes from the checksum files that
upstream publishes beside its releases. Images are pulled by the container runtime: the lock has their names only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import http.client
import re
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import Artifact, Lock, VersionSet
from slipway.bundle.places import ARTIFACTS, read_yaml
from slipway.bundle.recipes import Recipe, load_recipes

ARCHITECTURES = ("amd64", "arm64")
TIMEOUT_SECONDS = 30
TRIES = 3
_PAUSE_SECONDS = 1.0
_PARALLEL = 8
_CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

Known = t.Mapping[str, t.Mapping[str, t.Mapping[str, str]]]


@dataclasses.dataclass(frozen=True)
class Release:
    """Where a component's files are published; ``checksum`` is empty where upstream publishes none."""

    base: str
    kind: str
    path: str
    checksum: str = ""


@dataclasses.dataclass(frozen=True)
class Download:
    """One artefact without its checksum, and the address of the file that has it (empty: the artefact's own)."""

    artifact: Artifact
    checksum_url: str


@dataclasses.dataclass(frozen=True)
class Where:
    """Where to look: a mirror of everything, or another base address for single components (which wins)."""

    mirror: str = ""
    bases: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def source(self) -> str:
        """The lock's source."""
        return "mirror" if self.mirror or self.bases else "upstream"

    def base_of(self, component: str, release: Release) -> str:
        """The address that takes the place of the component's base, without a slash at its end."""
        if component in self.bases:
            return self.bases[component].rstrip("/")
        if self.mirror:
            parts = urllib.parse.urlsplit(release.base)
            return f"{self.mirror.rstrip('/')}/{parts.netloc}{parts.path}"
        return release.base


def lock_upstream(
    versions: VersionSet, architectures: t.Sequence[str], where: Where, artifacts: Path = ARTIFACTS
) -> Lock:
    """The lock of a version set's downloads; raises SlipwayError naming every checksum that could not be found."""
    known: Known = read_yaml(artifacts / "upstream" / "checksums.yml")
    releases = load_releases(artifacts)
    _refuse_unknown(where, releases)
    recipes = load_recipes(artifacts)
    downloads = [
        download
        for architecture in architectures
        for download in plan_downloads(versions, recipes, releases, architecture, where)
    ]
    found, problems = _resolve_all(downloads, known)
    if problems:
        raise SlipwayError(problems)
    images = [image for architecture in architectures for image in upstream_images(versions, architecture)]
    return Lock(versions.name, where.source, versions.versions, (*found, *images))


def load_releases(artifacts: Path = ARTIFACTS) -> dict[str, Release]:
    """Every component's place at upstream, from artifacts/upstream/downloads.yml."""
    path = artifacts / "upstream" / "downloads.yml"
    try:
        return {name: Release(**row) for name, row in read_yaml(path).items()}
    except (TypeError, AttributeError) as error:
        raise SlipwayError(Problem(str(path), f"malformed: {error}", "base, kind, path and checksum")) from error


def plan_downloads(
    versions: VersionSet,
    recipes: t.Mapping[str, Recipe],
    releases: t.Mapping[str, Release],
    architecture: str,
    where: Where,
) -> list[Download]:
    """What must be locked for one architecture, in the recipes' order; pure."""
    downloads = []
    for name, recipe in recipes.items():
        release = releases.get(name)
        if release is None or name not in versions.versions:
            continue
        version = versions.versions[name]
        base = where.base_of(name, release)
        for output in recipe.outputs:
            values = {"name": output.name, "version": version, "architecture": architecture}
            artifact = Artifact(
                name=output.name,
                kind=release.kind,
                version=version,
                architecture=architecture,
                url=f"{base}/{release.path.format(**values)}",
                programs=output.programs,
                purpose=output.purpose,
            )
            checksum = f"{base}/{release.checksum.format(**values)}" if release.checksum else ""
            downloads.append(Download(artifact, checksum))
    return downloads


def upstream_images(versions: VersionSet, architecture: str) -> list[Artifact]:
    """The images of a version set as upstream names them."""
    return [
        Artifact(name, "image", _image_version(versions, name), architecture, reference=names.upstream)
        for name, names in versions.images.items()
    ]


def _image_version(versions: VersionSet, image: str) -> str:
    """The version of the component an image is of: its own name, or the beginning of it (metallb-speaker)."""
    return versions.versions[image if image in versions.versions else image.rpartition("-")[0]]


def parse_checksum(text: str, file: str) -> str | None:
    """The sha256 of ``file`` in a published checksum file, or None.

    Understands both shapes in use: one bare checksum, and lines of checksum and file name as sha256sum writes them
    (with a star before the name for binary mode).
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    if len(rows) == 1 and len(rows[0]) == 1 and _SHA256.fullmatch(rows[0][0]):
        return rows[0][0].lower()
    for row in rows:
        if len(row) == 2 and _SHA256.fullmatch(row[0]) and row[1].lstrip("*").rsplit("/", 1)[-1] == file:
            return row[0].lower()
    return None


def _refuse_unknown(where: Where, releases: t.Mapping[str, Release]) -> None:
    problems = [
        Problem(f"--base-url {name}", "no such component", f"one of {', '.join(releases)}")
        for name in where.bases
        if name not in releases
    ]
    if problems:
        raise SlipwayError(problems)


def _resolve_all(downloads: t.Sequence[Download], known: Known) -> tuple[list[Artifact], list[Problem]]:
    """Look all checksums up at once; what failed is a problem each."""
    found: list[Artifact] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(max_workers=_PARALLEL) as pool:
        for result in pool.map(lambda download: _resolve(download, known), downloads):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                found.append(result)
    return found, problems


def _resolve(download: Download, known: Known) -> Artifact | Problem:
    artifact = download.artifact
    checksum = known.get(artifact.name, {}).get(artifact.architecture, {}).get(artifact.version)
    if checksum:
        return dataclasses.replace(artifact, sha256=checksum.removeprefix("sha256:"), checksum_from="slipway")
    label = f"{artifact.name} {artifact.version} {artifact.architecture}"
    url = download.checksum_url or artifact.url
    try:
        body = _fetch(url, text=bool(download.checksum_url))
    except (OSError, http.client.HTTPException) as error:
        said = (
            f"HTTP {error.code}" if isinstance(error, urllib.error.HTTPError) else str(getattr(error, "reason", error))
        )
        remedy = "check the version" if said == "HTTP 404" else "check the network, the address and the proxy settings"
        return Problem(label, f"{url}: {said}", "the checksum that upstream publishes", remedy)
    if not download.checksum_url:
        return dataclasses.replace(artifact, sha256=body, checksum_from="download")
    file = artifact.url.rsplit("/", 1)[-1]
    parsed = parse_checksum(body, file)
    if parsed is None:
        return Problem(label, f"{url}: no sha256 of {file} in it", "the checksum that upstream publishes")
    return dataclasses.replace(artifact, sha256=parsed, checksum_from=url)


def _fetch(url: str, text: bool) -> str:
    """A small text file's content, or a large file's sha256; tries again on failures that may pass."""
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310  # ours or checked
                return str(answer.read(_CHUNK), "utf-8", "replace") if text else _hash(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500 or not left:
                raise
        except (OSError, http.client.HTTPException):
            if not left:
                raise
        time.sleep(_PAUSE_SECONDS)
    raise AssertionError("unreachable: the last try returns or raises")


def _hash(answer: http.client.HTTPResponse) -> str:
    digest = hashlib.sha256()
    while chunk := answer.read(_CHUNK):
        digest.update(chunk)
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    return digest.hexdigest()
