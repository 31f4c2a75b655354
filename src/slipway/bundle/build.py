# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds a bundle: every component of a version set from source, and the lock that describes the result."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import shutil
import time
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import (
    LOCK_NAME,
    Artifact,
    Lock,
    VersionSet,
    parse_lock_text,
)
from slipway.bundle.components import (
    Component,
    build_component,
    cached_directory,
    exclusive,
    is_untouched,
    load_cached,
    plan_components,
)
from slipway.bundle.files import disk_errors, publish, remove_leftovers, sync, temporary_file, write_atomically
from slipway.bundle.places import ARTIFACTS
from slipway.bundle.recipes import load_recipes
from slipway.bundle.toolchain import Toolchain, find_toolchain


@dataclasses.dataclass(frozen=True)
class Built:
    """The outcome: the lock, how many components were compiled, and whether the bundle's directory changed."""

    lock: Lock
    compiled: int
    changed: bool


def build_bundle(
    versions: VersionSet, output: Path, cache: Path, say: t.Callable[[str], None], artifacts: Path = ARTIFACTS
) -> Built:
    """Build what is missing in the cache and link it into the bundle's directory ``output``.

    ``say`` gets one line of progress at a time. Raises SlipwayError; whatever was finished before stays.
    """
    recipes = load_recipes(artifacts)
    components = plan_components(versions, recipes, artifacts)
    _refuse_foreign(output)
    toolchain = find_toolchain((component.recipe for component in components), components[0].directory)
    found: list[Artifact] = []
    sources: dict[str, Path] = {}
    compiled = 0
    with exclusive(cache, say):
        for number, component in enumerate(components, start=1):
            place = cached_directory(cache, component, toolchain)
            made = load_cached(place)
            if made is None:
                made = _build_one(component, toolchain, cache, f"[{number}/{len(components)}]", say)
                compiled += 1
            found += made
            sources |= {artifact.file: place / Path(artifact.file).name for artifact in made}
        lock = Lock(versions.name, "bundle", versions.versions, tuple(found))
        changed = assemble(lock, sources, output)
    return Built(lock, compiled, changed)


def _build_one(
    component: Component, toolchain: Toolchain, cache: Path, step: str, say: t.Callable[[str], None]
) -> tuple[Artifact, ...]:
    say(f"{step} {component.label}: building")
    started = time.monotonic()
    made = build_component(component, toolchain, cache)
    size = sum(artifact.size or 0 for artifact in made) / 1e6
    say(f"{step} {component.label}: {time.monotonic() - started:.0f} s, {size:.1f} MB")
    return made


def _refuse_foreign(output: Path) -> None:
    """Refuse a directory that holds something and is not a bundle: nobody's files are mixed with ours."""
    if not output.exists():
        return
    names = {path.name for path in output.iterdir()} if output.is_dir() else {"a file"}
    if names and LOCK_NAME not in names and "artifacts" not in names:
        raise SlipwayError(
            Problem(str(output), "not empty and not a bundle", "a bundle or an empty directory", "choose another")
        )


def assemble(lock: Lock, sources: t.Mapping[str, Path], output: Path) -> bool:
    """Make the bundle's directory hold exactly these artefacts and their lock; returns whether anything changed.

    ``sources`` says where each artefact's file lies now. The lock is written last: a bundle that was interrupted
    is told by ``verify`` and mended by the next build.
    """
    target = output / "artifacts"
    with disk_errors(output):
        target.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        remove_leftovers(output)
        linked = [_place(sources[a.file], output / a.file, a.size) for a in lock.artifacts]
        old = _files_of(output / LOCK_NAME)
        for file in old - {artifact.file for artifact in lock.artifacts}:
            (output / file).unlink(missing_ok=True)
        sync(target)
    text = lock.as_text()
    index = output / LOCK_NAME
    if index.is_file() and index.read_text(encoding="utf-8") == text:
        return any(linked)
    write_atomically(index, text)
    return True


def _files_of(index: Path) -> set[str]:
    """The files that an existing lock names; none if there is no readable lock."""
    try:
        return {a.file for a in parse_lock_text(index.read_text(encoding="utf-8"), str(index)).artifacts}
    except (OSError, SlipwayError):
        return set()


def _place(source: Path, target: Path, size: int | None) -> bool:
    """Link (or, on another filesystem, copy) one file into the bundle; returns False if it was there already."""
    with contextlib.suppress(FileNotFoundError):
        if target.samefile(source) or (is_untouched(target, size) and target.stat().st_dev != source.stat().st_dev):
            return False
    with temporary_file(target) as temporary:
        temporary.unlink()
        try:
            os.link(source, temporary)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK):
                raise
            shutil.copy2(source, temporary)
        publish(temporary, target, mode=0o444)
    return True
