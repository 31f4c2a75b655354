# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small project to bundle: two Go components and one in C, and a Go command that writes tiny executables."""

from __future__ import annotations

import dataclasses
import os
import stat
import struct
import sys
import typing as t
from pathlib import Path

import pytest
import yaml

COMPONENTS: dict[str, t.Any] = {
    "tool": {
        "module": "example.test/tool",
        "packages": {"tool": "example.test/tool/v2", "toolctl": "example.test/tool/cmd/toolctl"},
        "define": {"main.version": "v{version}"},
        "archives": {"tool": {"programs": ["tool"]}, "toolctl": {"programs": ["toolctl"], "purpose": "test"}},
    },
    "web": {
        "module": "example.test/web",
        "packages": {"web": "example.test/web"},
        "image": {"entrypoint": ["/web"], "user": "1000:1000"},
    },
}
VERSIONS: dict[str, t.Any] = {
    "set": "1.99",
    "versions": {"kubernetes": "1.99.1", "web": "0.5.0"},
    "images": {"web": {"bundle": "slipway.local/web:0.5.0", "upstream": "registry.test/web:0.5.0"}},
}
FAKE_GO = """#!{python}
import json, os, pathlib, struct, sys, time
arguments = sys.argv[1:]
control = pathlib.Path("{control}")
if arguments[0] == "env":
    print(json.dumps({{"GOVERSION": os.environ.get("FAKE_GO_VERSION", "go1.0"), "GOFLAGS": "", "CC": "cc"}}))
    sys.exit()
with (control / "calls").open("a") as calls:
    calls.write(os.getcwd() + " " + " ".join(arguments) + "\\n")
name = pathlib.Path(os.getcwd()).parent.name
answer = control / ("fail-" + name)
if answer.exists():
    sys.exit(answer.read_text())
target = pathlib.Path(arguments[arguments.index("-o") + 1])
header = b"\\x7fELF\\x02\\x01" + bytes(26) + struct.pack("<Q", 64) + bytes(14) + struct.pack("<HH", 56, 0) + bytes(6)
packages = [a for a in arguments if a.startswith("example.test/")]
for package in packages:
    parts = [part for part in package.split("/") if part != "v2"]
    (target / parts[-1]).write_bytes(header + package.encode() * 1000)
    while (control / ("hang-" + name)).exists():
        time.sleep(0.05)
"""


def elf(interpreter: bool) -> bytes:
    """The smallest thing that reads as an ELF executable, with or without a request for a dynamic loader."""
    header = b"\x7fELF\x02\x01" + bytes(26) + struct.pack("<Q", 64) + bytes(14) + struct.pack("<HH", 56, 1) + bytes(6)
    return header + struct.pack("<I", 3 if interpreter else 1) + bytes(52)


@dataclasses.dataclass(frozen=True)
class Project:
    """The directories of a small project, and what its fake Go was asked to build."""

    artifacts: Path
    cache: Path
    output: Path
    control: Path

    def calls(self) -> list[str]:
        """One line for each build so far."""
        path = self.control / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def fail(self, component: str, said: str) -> None:
        """Make the builds of a component fail with these last words."""
        (self.control / f"fail-{component}").write_text(said)

    def mend(self) -> None:
        """Let all builds work again."""
        for path in self.control.glob("fail-*"):
            path.unlink()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in an empty directory, with its fake Go first on PATH."""
    control = tmp_path / "control"
    control.mkdir()
    artifacts = tmp_path / "artifacts"
    (artifacts / "sets").mkdir(parents=True)
    components = {"kubernetes": COMPONENTS["tool"], "web": COMPONENTS["web"]}
    (artifacts / "components.yml").write_text(yaml.safe_dump(components, sort_keys=False))
    (artifacts / "sets" / "1.99.yml").write_text(yaml.safe_dump(VERSIONS))
    for name, version in VERSIONS["versions"].items():
        directory = artifacts / "go" / name / version
        directory.mkdir(parents=True)
        module = components[name]["module"]
        (directory / "go.mod").write_text(f"module bundle/{name}\n\nrequire {module} v{version}\n")
        (directory / "go.sum").write_text(f"{module} v{version} h1:{name}=\n{module} v{version}/go.mod h1:no=\n")
    program = control / "go"
    program.write_text(FAKE_GO.format(python=sys.executable, control=control))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{control}{os.pathsep}{os.environ['PATH']}")
    return Project(artifacts, tmp_path / "cache", tmp_path / "bundle", control)
