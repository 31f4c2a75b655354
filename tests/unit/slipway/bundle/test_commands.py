# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of slipway bundle."""

from __future__ import annotations

import argparse
import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway.bundle import commands, upstream
from slipway.bundle.build import build_bundle
from slipway.bundle.places import load_set

from .conftest import Project


def run(*argv: str) -> int:
    """Run ``slipway bundle ...``."""
    parser = argparse.ArgumentParser()
    commands.register(parser.add_subparsers())
    args = parser.parse_args(["bundle", *argv])
    return t.cast("int", args.run(args))


def test_verify_says_what_it_checked(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    build_bundle(load_set("1.99", project.artifacts), project.output, project.cache, print, project.artifacts)
    capsys.readouterr()
    assert run("verify", str(project.output)) == 0
    assert "3 artefacts of 1.99" in capsys.readouterr().out


def test_a_patch_that_is_not_pinned_is_not_built() -> None:
    with pytest.raises(SlipwayError, match="slipway bundle lock"):
        run("build", "--kubernetes", "1.37.99")


@pytest.mark.parametrize(("asked", "kubernetes"), [("1.36", "1.36.4"), ("1.36.4", "1.36.4"), ("v1.36.2", "1.36.2")])
def test_with_kubernetes(asked: str, kubernetes: str) -> None:
    assert commands.with_kubernetes(load_set("1.36"), asked).kubernetes == kubernetes


def test_lock_writes_a_file_or_standard_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(upstream, "_fetch", lambda url, text: "ab" * 32)
    assert run("lock", "--kubernetes", "1.36.2") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["source"], printed["versions"]["kubernetes"]) == ("upstream", "1.36.2")
    path = tmp_path / "a.lock.json"
    assert run("lock", "--kubernetes", "1.36.2", "--architecture", "arm64", "--output", str(path)) == 0
    assert {row["architecture"] for row in json.loads(path.read_text())["artifacts"]} == {"arm64"}


@pytest.mark.parametrize(
    "argv",
    [
        ("--mirror", "ftp://x"),
        ("--base-url", "http://x"),
        ("--base-url", "etcd=ftp://x"),
        ("--architecture", "riscv64"),
    ],
)
def test_refuses_malformed_options(argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("lock", "--kubernetes", "1.37", *argv)
    assert repr(argv[1].removeprefix("etcd=")) in capsys.readouterr().err
