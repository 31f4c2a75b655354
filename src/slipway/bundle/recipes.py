# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How each component is built: the recipes of artifacts/components.yml, and the pure rules that follow from them."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from slipway.bundle.places import ARTIFACTS, read_yaml

_KEYS = {
    *("module", "packages", "source", "define", "cgo", "needs", "tags", "archives", "image", "images"),
    *("wheel", "programs", "definitions", "package"),
}
# Fields that came later: left out of the recipe's text where they say nothing, so that what was built stays known.
_LATER = ("wheel", "files", "definitions", "package", "links")


@dataclasses.dataclass(frozen=True)
class Output:
    """One artefact that a component's build gives: an archive of programs, an image, or Kubernetes objects."""

    name: str
    kind: str
    programs: tuple[str, ...]
    purpose: str = "node"
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    user: str = ""
    links: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How one component is built; the fields are explained at the top of artifacts/components.yml."""

    name: str
    module: str
    packages: tuple[tuple[str, str], ...]
    source: tuple[tuple[str, str], ...]
    define: tuple[tuple[str, str], ...]
    cgo: bool
    needs: tuple[str, ...]
    tags: tuple[str, ...]
    outputs: tuple[Output, ...]
    wheel: str = ""
    files: tuple[tuple[str, str], ...] = ()
    definitions: tuple[str, ...] = ()
    package: str = ""

    @property
    def needs_c(self) -> bool:
        """Whether a C compiler and static C libraries take part."""
        return self.cgo or bool(self.source)


def load_recipes(artifacts: Path = ARTIFACTS) -> dict[str, Recipe]:
    """Every recipe by its component's name; raises SlipwayError for malformed data."""
    path = artifacts / "components.yml"
    data = read_yaml(path)
    if not isinstance(data, dict):
        raise SlipwayError(Problem(str(path), "not a mapping", "a mapping from component to its recipe"))
    return {name: parse_recipe(name, row) for name, row in data.items()}


def parse_recipe(name: str, row: t.Any) -> Recipe:
    """One component's recipe from its YAML data; raises SlipwayError naming what is missing or unknown."""
    where = f"components.yml: {name}"
    if not isinstance(row, dict) or not _has_one_origin(row):
        raise SlipwayError(
            Problem(
                where,
                "no recipe",
                "a module with packages, source or definitions, or programs of a wheel or an OS package",
            )
        )
    unknown = sorted(set(row) - _KEYS)
    if unknown:
        raise SlipwayError(Problem(where, f"unknown {', '.join(unknown)}", f"only {', '.join(sorted(_KEYS))}"))
    packages = _pairs(row.get("packages"))
    source = _pairs(row.get("source"))
    files = _pairs(row.get("programs"))
    programs = tuple(program for program, _ in packages + source + files)
    outputs = _outputs(name, row, programs)
    stray = sorted({program for output in outputs for program in output.programs} ^ set(programs))
    if stray:
        raise SlipwayError(Problem(where, f"{', '.join(stray)} built or shipped, not both", "each program in one"))
    return Recipe(
        name=name,
        module=row.get("module", ""),
        packages=packages,
        source=source,
        define=_pairs(row.get("define")),
        cgo=bool(row.get("cgo")),
        needs=tuple(row.get("needs", ())),
        tags=tuple(row.get("tags", ())),
        outputs=outputs,
        wheel=row.get("wheel", ""),
        files=files,
        definitions=tuple(row.get("definitions", ())),
        package=row.get("package", ""),
    )


def _has_one_origin(row: t.Mapping[str, t.Any]) -> bool:
    """Whether the bytes come from one place: a Go or C module's programs, a wheel's, a package's, or objects alone."""
    if row.get("wheel") or row.get("package"):
        others = [key for key in ("wheel", "package", "module") if row.get(key)]
        return bool(row.get("programs")) and len(others) == 1
    programs = [key for key in ("packages", "source") if row.get(key)]
    return bool(row.get("module")) and (len(programs) == 1 or (not programs and bool(row.get("definitions"))))


def _pairs(mapping: t.Mapping[str, str] | None) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((mapping or {}).items()))


def _outputs(name: str, row: t.Mapping[str, t.Any], programs: tuple[str, ...]) -> tuple[Output, ...]:
    definitions = (Output(f"{name}-definitions", "objects", ()),) if row.get("definitions") else ()
    images = {name: {"programs": programs, **row["image"]}} if row.get("image") else row.get("images") or {}
    if images or not programs:
        return (*(_image(image, spec) for image, spec in images.items()), *definitions)
    archives = row.get("archives") or {name: {"programs": programs}}
    return tuple(
        Output(archive, "archive", tuple(spec["programs"]), spec.get("purpose", "node"))
        for archive, spec in archives.items()
    )


def _image(name: str, spec: t.Mapping[str, t.Any]) -> Output:
    return Output(
        name=name,
        kind="image",
        programs=tuple(spec["programs"]),
        entrypoint=tuple(spec["entrypoint"]),
        command=tuple(spec.get("command", ())),
        user=spec.get("user", ""),
        links=tuple(spec.get("links", ())),
    )


def definitions(recipe: Recipe, version: str) -> tuple[tuple[str, str], ...]:
    """The variables set at link time with the version filled in."""
    major, minor = version.split(".")[:2]
    return tuple((name, text.format(version=version, major=major, minor=minor)) for name, text in recipe.define)


def go_flags(recipe: Recipe, version: str) -> tuple[str, ...]:
    """The flags of `go build`: nothing of the machine (paths, version control, build id) ends up in the program."""
    linker = ["-s", "-w", "-buildid="]
    if recipe.cgo:
        linker += ["-extldflags", "-static"]
    for name, value in definitions(recipe, version):
        linker += ["-X", f"{name}={value}"]
    flags = ["-trimpath", "-buildvcs=false", "-mod=readonly"]
    if recipe.tags:
        flags.append(f"-tags={','.join(recipe.tags)}")
    return (*flags, f"-ldflags={shlex.join(linker)}")


def c_flags(recipe: Recipe, version: str) -> tuple[str, ...]:
    """The flags of the C compiler: static, small, and without a build id or the source's path."""
    values = tuple(f"-D{name}={value}" for name, value in definitions(recipe, version))
    return ("-Os", "-Wall", "-static", "-s", "-Wl,--build-id=none", *values)


def executable_name(package: str) -> str:
    """What `go build` calls the program of a package: the last part of its path that is not a major version."""
    parts = package.split("/")
    last = parts[-1]
    is_major = len(parts) > 1 and last[:1] == "v" and last[1:].isdigit()
    return parts[-2] if is_major else last


def module_sum(go_mod: str, go_sum: str, module: str) -> tuple[str, str]:
    """The module's version that go.mod requires and its `h1:` hash in go.sum; raises SlipwayError if absent."""
    required = [line.split() for line in go_mod.splitlines() if module in line.split()]
    versions = [words[words.index(module) + 1] for words in required if words.index(module) + 1 < len(words)]
    for line in go_sum.splitlines():
        words = line.split()
        if len(words) == 3 and words[0] == module and words[1] in versions:
            return words[1], words[2]
    raise SlipwayError(
        Problem(f"go.sum of {module}", "no checksum of the required version", "go.mod and go.sum that belong together")
    )


def wheel_sums(requirements: str) -> str:
    """The sha256 sums of a requirements.txt, one for each architecture; raises SlipwayError if there is none."""
    found = re.findall(r"--hash=(sha256:[0-9a-f]{64})", requirements)
    if not found:
        raise SlipwayError(Problem("requirements.txt", "no sha256", "one for each architecture"))
    return " ".join(found)


def recipe_text(recipe: Recipe) -> str:
    """The recipe as text that changes if and only if the recipe does."""
    fields = dataclasses.asdict(recipe)
    fields["outputs"] = [_said(output) for output in fields["outputs"]]
    return json.dumps(_said(fields), sort_keys=True)


def _said(fields: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {key: value for key, value in fields.items() if value or key not in _LATER}
