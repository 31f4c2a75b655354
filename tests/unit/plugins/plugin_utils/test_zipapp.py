# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper's program: the same bytes every time, nothing superfluous in it, and it runs on what hosts have."""

from __future__ import annotations

import io
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import pytest

from ansible_collections.slipway.cluster.plugins.plugin_utils.zipapp import MODULE_UTILS, build_keeper


def test_the_same_files_give_the_same_bytes(tmp_path: pathlib.Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(MODULE_UTILS, copy)
    for path in copy.rglob("*.py"):
        os.utime(path, (1, 1))
    assert build_keeper(copy) == build_keeper()


def test_it_holds_what_the_keeper_imports_and_no_more() -> None:
    names = set(zipfile.ZipFile(io.BytesIO(build_keeper())).namelist())
    assert {"__main__.py", "slipway/host/keeper.py", "slipway/core/x509.py", "slipway/host/machine.py"} <= names
    assert not [name for name in names if name.endswith(("engine.py", "manifests.py", "host/state.py"))]


def interpreters() -> list[str]:
    found = [sys.executable, *(str(path) for path in pathlib.Path("/usr/bin").glob("python3"))]
    return found + [str(path) for path in pathlib.Path.home().glob(".pyenv/versions/3.9.*/bin/python")]


@pytest.mark.parametrize("python", interpreters())
def test_it_runs_without_anything_installed(tmp_path: pathlib.Path, python: str) -> None:
    program = tmp_path / "keeper.pyz"
    program.write_bytes(build_keeper())
    done = subprocess.run([python, "-I", str(program)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "usage: keeper.pyz approve|run\n")
