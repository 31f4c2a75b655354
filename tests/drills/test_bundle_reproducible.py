# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd built twice with nothing in common but its inputs gives the same bytes, and they are those of the bundle."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from slipway.bundle.components import build_component, plan_components
from slipway.bundle.places import ARTIFACTS, load_set, workspace
from slipway.bundle.recipes import load_recipes
from slipway.bundle.toolchain import find_toolchain
from slipway.bundle.verify import load_bundle


def build_etcd(place: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Build etcd with its own copy of the inputs, Go caches, temporary directory and result; returns the sha256."""
    for name in ("go-cache", "go-modules", "tmp", "cache"):
        (place / name).mkdir(parents=True)
    monkeypatch.setenv("GOCACHE", str(place / "go-cache"))
    monkeypatch.setenv("GOMODCACHE", str(place / "go-modules"))
    monkeypatch.setenv("GOTMPDIR", str(place / "tmp"))
    # Modules are read-only otherwise, and could not be removed after the test.
    monkeypatch.setenv("GOFLAGS", "-modcacherw")
    shutil.copytree(ARTIFACTS, place / "artifacts")
    components = plan_components(load_set("1.37"), load_recipes(), place / "artifacts")
    (etcd,) = [component for component in components if component.recipe.name == "etcd"]
    toolchain = find_toolchain([etcd.recipe], etcd.directory)
    try:
        (artifact,) = build_component(etcd, toolchain, place / "cache")
    finally:
        # A gigabyte that nobody reads again; pytest would keep it for three runs.
        shutil.rmtree(place)
    return artifact.sha256


def test_etcd_is_reproducible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_etcd(tmp_path / "one", monkeypatch)
    second = build_etcd(tmp_path / "another" / "and-longer", monkeypatch)
    assert first == second
    bundle = load_bundle(workspace() / ".bundle" / "1.37")
    assert bundle.artifact("etcd", bundle.artifacts[0].architecture).sha256 == first
