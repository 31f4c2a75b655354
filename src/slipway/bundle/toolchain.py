# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The compilers and libraries a build uses: found, identified, and named with their package when missing."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import shutil
import subprocess
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from slipway.bundle.files import sha256_of
from slipway.bundle.recipes import Recipe

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_GO_FACTS = ("GOVERSION", "GOFLAGS", "GOEXPERIMENT", "GOFIPS140")
_C_FACTS = ("CC", "CGO_CFLAGS", "CGO_CPPFLAGS", "CGO_LDFLAGS")
_PACKAGES = {"libseccomp": "libseccomp-dev", "go": "golang-go", "cc": "gcc", "pkg-config": "pkg-config"}


@dataclasses.dataclass(frozen=True)
class Toolchain:
    """What turns source into programs here; ``go_facts`` and ``c_facts`` hold all that may change the result.

    ``installed`` are the programs that are taken as they are: command, path and sha256.
    """

    architecture: str
    go: str
    cc: str
    go_facts: tuple[tuple[str, str], ...]
    c_facts: tuple[tuple[str, str], ...]
    installed: tuple[tuple[str, str, str], ...] = ()

    def facts(self, recipe: Recipe) -> tuple[tuple[str, str], ...]:
        """The facts that matter for this recipe."""
        go = self.go_facts if recipe.packages else ()
        taken = {command for _, command in recipe.files} if recipe.package else set()
        found = tuple((command, checksum) for command, _, checksum in self.installed if command in taken)
        return (*go, *(self.c_facts if recipe.needs_c else ()), *found)

    def program(self, command: str) -> tuple[Path, str]:
        """Where an installed program lies, and its sha256."""
        path, checksum = {name: (path, checksum) for name, path, checksum in self.installed}[command]
        return Path(path), checksum


def find_toolchain(recipes: t.Iterable[Recipe], directory: Path) -> Toolchain:
    """The tools for these recipes; ``directory`` holds a go.mod, which may choose Go's version.

    Raises SlipwayError that names everything missing at once.
    """
    recipes = list(recipes)
    needs_c = any(recipe.needs_c for recipe in recipes)
    libraries = sorted({library for recipe in recipes for library in recipe.needs})
    problems = _missing_tools(needs_c, libraries)
    commands = {command: recipe.package for recipe in recipes if recipe.package for _, command in recipe.files}
    places = {command: shutil.which(command) for command in sorted(commands)}
    problems += [_missing(commands[name], f"the program {name}") for name, place in places.items() if place is None]
    if problems:
        raise SlipwayError(problems)
    go = _go_env(directory)
    cc = go["CC"] or "cc"
    c_facts: list[tuple[str, str]] = []
    if needs_c:
        c_facts = [(name, go.get(name, "")) for name in _C_FACTS]
        c_facts.append(("cc", _output([cc, "-dumpfullversion", "-dumpmachine"])))
        c_facts += _static_libraries(cc, ["libc.a", *(f"{library}.a" for library in libraries)])
    return Toolchain(
        architecture=_architecture(),
        go=go["GOVERSION"],
        cc=cc,
        go_facts=tuple((name, go.get(name, "")) for name in _GO_FACTS),
        c_facts=tuple(c_facts),
        installed=tuple((name, place, sha256_of(Path(place))) for name, place in places.items() if place),
    )


def build_environment(toolchain: Toolchain, recipe: Recipe) -> dict[str, str]:
    """The environment of a build: the caller's own (GOFLAGS, GOPROXY, proxies), with the target fixed."""
    return {
        **os.environ,
        "CGO_ENABLED": "1" if recipe.cgo else "0",
        "GOOS": "linux",
        "GOARCH": toolchain.architecture,
        "GOAMD64": "v1",
        "GOARM64": "v8.0",
        "GOWORK": "off",
    }


def _architecture() -> str:
    machine = platform.machine()
    if machine not in ARCHITECTURES:
        raise SlipwayError(
            Problem("this machine", f"architecture {machine}", f"one of {', '.join(sorted(ARCHITECTURES))}")
        )
    return ARCHITECTURES[machine]


def _missing_tools(needs_c: bool, libraries: t.Sequence[str]) -> list[Problem]:
    wanted = ["go"]
    if needs_c and not os.environ.get("CC"):
        wanted.append("cc")
    if libraries:
        wanted.append("pkg-config")
    problems = [_missing(tool, f"the program {tool}") for tool in wanted if shutil.which(tool) is None]
    if libraries and shutil.which("pkg-config"):
        absent = [library for library in libraries if not _is_known(library)]
        problems += [_missing(library, f"the development files of {library}") for library in absent]
    return problems


def _is_known(library: str) -> bool:
    return subprocess.run(["pkg-config", "--exists", library], check=False, capture_output=True).returncode == 0


def _missing(name: str, what: str) -> Problem:
    package = _PACKAGES.get(name, name)
    return Problem("this machine", f"{what} is missing", "what builds a bundle", f"apt-get install {package}")


def _static_libraries(cc: str, names: t.Sequence[str]) -> list[tuple[str, str]]:
    facts = []
    problems = []
    for name in names:
        path = Path(_output([cc, f"-print-file-name={name}"]))
        if path.is_absolute() and path.is_file():
            facts.append((name, sha256_of(path)))
        else:
            package = _PACKAGES.get(name.removesuffix(".a"), "libc6-dev")
            problems.append(
                Problem("this machine", f"{name} is missing", "static C libraries", f"apt-get install {package}")
            )
    if problems:
        raise SlipwayError(problems)
    return facts


def _go_env(directory: Path) -> dict[str, str]:
    found = subprocess.run(
        ["go", "env", "-json", *_GO_FACTS, *_C_FACTS], cwd=directory, capture_output=True, text=True, check=False
    )
    if found.returncode != 0:
        raise SlipwayError(
            Problem(
                where="go",
                found=found.stderr.strip() or f"exit code {found.returncode}",
                expected="a Go that the components' go.mod files accept",
                remedy="install a newer Go, or let it fetch one (GOTOOLCHAIN=auto)",
            )
        )
    return {name: str(value) for name, value in json.loads(found.stdout).items()}


def _output(argv: t.Sequence[str]) -> str:
    try:
        found = subprocess.run(argv, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SlipwayError(Problem(argv[0], f"does not run: {error}", "a C compiler", "apt-get install gcc")) from error
    return found.stdout.strip()
