# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One component in the cache: built once for equal inputs, kept whole, shared between bundles by hard links."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import Artifact, VersionSet
from slipway.bundle.archive import Image, write_archive, write_image
from slipway.bundle.compile import make_programs, module_objects
from slipway.bundle.files import TEMPORARY, disk_errors, publish, remove_leftovers, sha256_of, sync
from slipway.bundle.recipes import Output, Recipe, c_flags, go_flags, module_sum, recipe_text, wheel_sums
from slipway.bundle.toolchain import Toolchain

# Raised when the same inputs would give other bytes: what archive.py writes, or this file's entries.
BUILDER = 2
_INDEX = "component.json"
_KEY_LENGTH = 16


@dataclasses.dataclass(frozen=True)
class Component:
    """A recipe at one version, with the text of what pins its bytes: go.mod and go.sum, or requirements.txt alone.

    A package of the operating system has neither: the sha256 of its programs is part of what is known of the machine.
    ``references`` are the names of its images, by output.
    """

    recipe: Recipe
    version: str
    directory: Path
    go_mod: str
    go_sum: str
    references: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def label(self) -> str:
        """How people call it."""
        return f"{self.recipe.name} {self.version}"


def plan_components(versions: VersionSet, recipes: t.Mapping[str, Recipe], artifacts: Path) -> list[Component]:
    """The components of a version set, in the recipes' order; raises SlipwayError naming all that cannot be built."""
    components = []
    problems = []
    order = [name for name in recipes if name in versions.versions]
    for name in [*order, *(name for name in versions.versions if name not in recipes)]:
        version = versions.versions[name]
        try:
            components.append(_component(recipes[name], version, versions, artifacts))
        except (KeyError, OSError) as error:
            expected = "a recipe with what pins its bytes, and a name for each image"
            problems.append(Problem(f"{name} {version}", f"cannot be built: {error}", expected))
    if problems:
        raise SlipwayError(problems)
    return components


def _component(recipe: Recipe, version: str, versions: VersionSet, artifacts: Path) -> Component:
    directory, files = _pinned_by(recipe, version, artifacts)
    pins = [(directory / file).read_text(encoding="utf-8") for file in files]
    images = [output.name for output in recipe.outputs if output.kind == "image"]
    return Component(
        recipe=recipe,
        version=version,
        directory=directory,
        go_mod="".join(pins[:1]),
        go_sum="".join(pins[1:]),
        references={name: versions.images[name].bundle for name in images},
    )


def _pinned_by(recipe: Recipe, version: str, artifacts: Path) -> tuple[Path, tuple[str, ...]]:
    """Where a build runs, and the files there that pin its bytes."""
    if recipe.package:
        return artifacts, ()
    if recipe.wheel:
        return artifacts / "wheels" / recipe.name / version, ("requirements.txt",)
    return artifacts / "go" / recipe.name / version, ("go.mod", "go.sum")


def component_key(component: Component, toolchain: Toolchain) -> str:
    """A name for everything the bytes depend on: equal keys mean equal artefacts."""
    inputs = [
        str(BUILDER),
        recipe_text(component.recipe),
        component.version,
        component.go_mod,
        component.go_sum,
        ",".join(component.references.values()),
        toolchain.architecture,
        json.dumps(toolchain.facts(component.recipe)),
    ]
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:_KEY_LENGTH]


def cached_directory(cache: Path, component: Component, toolchain: Toolchain) -> Path:
    """Where this component lies in the cache once it is built."""
    key = component_key(component, toolchain)
    return cache / f"{component.recipe.name}-{component.version}-{toolchain.architecture}-{key}"


def load_cached(directory: Path) -> tuple[Artifact, ...] | None:
    """A built component's artefacts, or None if it is not there or a file was touched since it was built."""
    try:
        rows = json.loads((directory / _INDEX).read_text(encoding="utf-8"))
        artifacts = tuple(
            Artifact(**{**row, "programs": tuple(row.get("programs", ())), "flags": tuple(row.get("flags", ()))})
            for row in rows
        )
        intact = all(is_untouched(directory / Path(a.file).name, a.size) for a in artifacts)
    except (OSError, ValueError, TypeError):
        return None
    return artifacts if intact and artifacts else None


def is_untouched(path: Path, size: int | None) -> bool:
    """Whether a file has the size it was built with and the time of the epoch that finished artefacts are given."""
    found = path.stat()
    return found.st_size == size and found.st_mtime_ns == 0


def build_component(component: Component, toolchain: Toolchain, cache: Path) -> tuple[Artifact, ...]:
    """Compile and pack one component into the cache and return its artefacts; raises SlipwayError.

    The cache's directory appears by one rename, complete and on the disk, or not at all.
    """
    final = cached_directory(cache, component, toolchain)
    with disk_errors(cache):
        work = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY}{final.name}-", dir=cache))
        try:
            (work / "programs").mkdir()
            recipe = component.recipe
            programs = make_programs(recipe, component.version, component.directory, toolchain, work / "programs")
            ready = work / "ready"
            ready.mkdir()
            artifacts = tuple(_pack(component, output, toolchain, programs, ready) for output in recipe.outputs)
            rows = [artifact.as_dict() for artifact in artifacts]
            (ready / _INDEX).write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
            sync(ready / _INDEX)
            _drop_older(cache, component, toolchain)
            publish(ready, final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return artifacts


def _pack(
    component: Component, output: Output, toolchain: Toolchain, programs: t.Mapping[str, Path], ready: Path
) -> Artifact:
    architecture = toolchain.architecture
    suffix = {"image": "oci.tar", "objects": "json"}.get(output.kind, "tar.gz")
    path = ready / f"{output.name}-{component.version}-linux-{architecture}.{suffix}"
    chosen = {name: programs[name] for name in output.programs}
    reference = component.references.get(output.name, "")
    if output.kind == "objects":
        path.write_text(module_objects(component.recipe, component.directory, component.label), encoding="utf-8")
    elif output.kind == "image":
        image = Image(reference, architecture, output.entrypoint, output.command, output.user, output.links)
        write_image(path, chosen, image)
    else:
        write_archive(path, chosen)
    path.chmod(0o444)
    sync(path)
    # Finished artefacts carry the epoch's time, so that a later change shows without reading them.
    os.utime(path, ns=(0, 0))
    return Artifact(
        name=output.name,
        kind=output.kind,
        version=component.version,
        architecture=architecture,
        sha256=sha256_of(path),
        file=f"artifacts/{path.name}",
        size=path.stat().st_size,
        programs=output.programs if output.kind == "archive" else (),
        reference=reference,
        purpose=output.purpose,
        **_provenance(component, toolchain, made=bool(chosen)),
    )


def _provenance(component: Component, toolchain: Toolchain, *, made: bool) -> dict[str, t.Any]:
    """Where the bytes come from; ``made`` says that programs were compiled."""
    recipe = component.recipe
    if recipe.wheel:
        return {"module": f"{recipe.wheel}=={component.version}", "module_sum": wheel_sums(component.go_mod)}
    if recipe.package:
        sums = [f"sha256:{toolchain.program(command)[1]}" for _, command in recipe.files]
        return {"module": recipe.package, "module_sum": " ".join(sums)}
    version, checksum = module_sum(component.go_mod, component.go_sum, recipe.module)
    origin: dict[str, t.Any] = {"module": f"{recipe.module}@{version}", "module_sum": checksum}
    if not made:
        return origin
    flags = (go_flags if recipe.packages else c_flags)(recipe, component.version)
    compiler = f"CGO_ENABLED={int(recipe.cgo)}" if recipe.packages else toolchain.cc
    return {**origin, "go": toolchain.go if recipe.packages else "", "flags": (compiler, *flags)}


def _drop_older(cache: Path, component: Component, toolchain: Toolchain) -> None:
    """Remove the same component built from other inputs; bundles that use it keep it by their own links."""
    prefix = f"{component.recipe.name}-{component.version}-{toolchain.architecture}-"
    for path in cache.glob(f"{prefix}*"):
        if len(path.name) == len(prefix) + _KEY_LENGTH:
            shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def exclusive(cache: Path, say: t.Callable[[str], None]) -> t.Iterator[None]:
    """One build at a time in this cache: waits for another to end, then clears away what a killed one left."""
    with disk_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        stream = (cache / "lock").open("a+", encoding="utf-8")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            started = time.monotonic()
            say(f"waiting for another build of {cache} (process {stream.read().strip() or 'unknown'})")
            fcntl.flock(stream, fcntl.LOCK_EX)
            say(f"waited {time.monotonic() - started:.0f} s")
        stream.seek(0)
        stream.truncate()
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        remove_leftovers(cache)
        yield
