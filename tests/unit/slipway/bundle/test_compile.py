# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a compiler's failure means, what a static program is, and what is missing on a machine."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway.bundle.compile import explain_failure, is_static, make_programs
from slipway.bundle.recipes import load_recipes, parse_recipe
from slipway.bundle.toolchain import build_environment, find_toolchain

from .conftest import COMPONENTS, Project, elf


@pytest.mark.parametrize(
    ("content", "expected"),
    [(elf(interpreter=False), True), (elf(interpreter=True), False), (b"#!/bin/sh\n", False), (b"", False)],
)
def test_is_static(tmp_path: Path, content: bytes, expected: bool) -> None:
    (tmp_path / "program").write_bytes(content)
    assert is_static(tmp_path / "program") is expected


def test_the_python_that_runs_this_is_not_static() -> None:
    assert not is_static(Path(sys.executable).resolve())


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("dial tcp 10.0.0.1:443: connect: connection refused", "GOPROXY"),
        ("module lookup disabled by GOPROXY=off", "GOPROXY"),
        ("mkdir /x: No space left on device", "no space left on the device"),
        ("go: downloading a v1\nx.go:1: syntax error", "the build failed:\n  x.go:1: syntax error"),
        ("", "no output"),
    ],
)
def test_explain_failure(output: str, said: str) -> None:
    assert said in str(explain_failure("etcd 3.7.0", output))


def test_a_dynamic_program_is_refused(project: Project) -> None:
    recipe = parse_recipe("web", COMPONENTS["web"])
    toolchain = find_toolchain([recipe], project.artifacts)
    program = project.control / "go"
    program.write_text(program.read_text().replace('struct.pack("<HH", 56, 0) + bytes(6)', "INTERPRETED"))
    text = program.read_text().replace("header = ", f"INTERPRETED = {elf(interpreter=True)[54:]!r}\nheader = ")
    program.write_text(text)
    target = project.control / "programs"
    target.mkdir()
    with pytest.raises(SlipwayError, match="web linked dynamically"):
        make_programs(recipe, "0.5.0", project.artifacts / "go" / "web" / "0.5.0", toolchain, target)


def test_everything_missing_is_named_at_once_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(SlipwayError) as caught:
        find_toolchain(load_recipes().values(), tmp_path)
    said = str(caught.value)
    for package in ("golang-go", "gcc", "pkg-config"):
        assert f"apt-get install {package}" in said


def test_a_missing_library_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("go", 0), ("cc", 0), ("pkg-config", 1)):
        (tmp_path / name).write_text(f"#!{shutil.which('sh')}\nexit {code}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SlipwayError, match="apt-get install libseccomp-dev"):
        find_toolchain(load_recipes().values(), tmp_path)


def test_a_go_that_is_too_old_speaks_for_itself(project: Project) -> None:
    (project.control / "go").write_text("#!/bin/sh\necho 'go.mod requires go >= 1.26' >&2\nexit 1\n")
    with pytest.raises(SlipwayError, match=r"go.mod requires go >= 1\.26"):
        find_toolchain([parse_recipe("web", COMPONENTS["web"])], project.artifacts)


def test_the_callers_environment_is_kept(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "https://proxy.test")
    monkeypatch.setenv("GOFLAGS", "-p=1")
    recipe = parse_recipe("web", COMPONENTS["web"])
    environment = build_environment(find_toolchain([recipe], project.artifacts), recipe)
    assert (environment["GOPROXY"], environment["GOFLAGS"]) == ("https://proxy.test", "-p=1")
    assert (environment["CGO_ENABLED"], environment["GOOS"]) == ("0", "linux")
    assert environment["PATH"] == os.environ["PATH"]
