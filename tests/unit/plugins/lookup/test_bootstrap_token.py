# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One token for one run, whoever asks first."""

from __future__ import annotations

import concurrent.futures
import pathlib
import re

import pytest
from ansible import constants

from ansible_collections.slipway.cluster.plugins.lookup import bootstrap_token
from ansible_collections.slipway.cluster.plugins.lookup.bootstrap_token import LookupModule


@pytest.fixture(autouse=True)
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    return tmp_path


def ask(_number: int = 0) -> str:
    (token,) = LookupModule().run([])
    return token


def test_a_token_has_the_form_kubernetes_wants_and_stays_for_the_run(run: pathlib.Path) -> None:
    token = ask()
    assert re.fullmatch(r"[a-z0-9]{6}\.[a-z0-9]{16}", token)
    assert ask() == token
    (file,) = run.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_another_run_has_another_token(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ask()
    (tmp_path / "next").mkdir()
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path / "next"))
    assert ask() != first


def test_workers_that_ask_at_once_agree(run: pathlib.Path) -> None:
    with concurrent.futures.ProcessPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(16)))) == 1
    assert len(list(run.iterdir())) == 1


def test_who_comes_second_takes_the_firsts(run: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other worker's link appears between looking and making one's own."""
    make = bootstrap_token._random

    def late(length: int) -> str:
        (run / "slipway-bootstrap-token").write_text("abcdef.0123456789abcdef")
        return make(length)

    monkeypatch.setattr(bootstrap_token, "_random", late)
    assert ask() == "abcdef.0123456789abcdef"
    assert [path.name for path in run.iterdir()] == ["slipway-bootstrap-token"]
