# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The file of a hold: taken, renewed by whatever changes the host, released, expired, broken."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import time
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.slipway.cluster.plugins.module_utils.core.hold import SILENCE_SECONDS, Hold
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host import engine, hold
from ansible_collections.slipway.cluster.plugins.modules import gate
from ansible_collections.slipway.cluster.plugins.modules import hold as module

ANN, BOB = Hold("m 7 1", "ann@desk", "apply"), Hold("n 8 2", "bob@lap", "remove")


@pytest.fixture(autouse=True)
def path(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(engine, "RUN_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(engine, "LOCK_PATH", str(tmp_path / "run/lock"))
    monkeypatch.setattr(engine, "HOLD_PATH", str(tmp_path / "run/hold"))
    return tmp_path / "run/hold"


def idle(path: pathlib.Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def test_the_second_run_is_refused_until_the_first_lets_go() -> None:
    assert hold.look() is None
    hold.take(ANN, seen="")
    with pytest.raises(SlipwayError, match="apply of ann@desk"):
        hold.take(BOB)
    met = hold.release(BOB.run)
    assert met is not None
    assert met.hold.by == "ann@desk"
    assert hold.release(ANN.run) is None
    assert hold.take(BOB).by == "bob@lap"


def test_taking_it_again_keeps_since_when(path: pathlib.Path) -> None:
    path.parent.mkdir()
    path.write_text(json.dumps({**ANN.to_data(), "since": 5}))
    assert hold.take(ANN).since == 5
    hold.release(ANN.run)
    assert hold.take(ANN).since > 5


def test_a_dead_run_and_one_that_expired_hold_nothing(path: pathlib.Path) -> None:
    hold.take(ANN)
    assert hold.take(BOB, dead=[ANN.run]).run == BOB.run
    idle(path, SILENCE_SECONDS + 1)
    assert hold.take(ANN).run == ANN.run


def test_a_hold_lasts_as_long_as_it_says_and_beside_a_living_run_for_ever(path: pathlib.Path) -> None:
    hold.take(dataclasses.replace(ANN, silence=SILENCE_SECONDS + 600))
    idle(path, SILENCE_SECONDS + 1)
    with pytest.raises(SlipwayError, match="ends in 59"):
        hold.take(BOB)
    idle(path, 10**6)
    with pytest.raises(SlipwayError, match="process 7 of this machine"):
        hold.take(Hold("m 9 3"))
    assert hold.take(BOB).run == BOB.run


def test_whatever_changes_the_host_renews_it(path: pathlib.Path) -> None:
    hold.take(ANN)
    idle(path, SILENCE_SECONDS + 1)
    with engine.host_lock("component"):
        held = hold.look()
        assert held is not None
        assert held.idle < 60
        idle(path, SILENCE_SECONDS + 1)
    held = hold.look()
    assert held is not None
    assert held.idle < 60, "a module may take long"


def test_it_is_renewed_while_a_module_is_at_work(path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "RENEW_SECONDS", 0.01)
    hold.take(ANN)
    with engine.renewed_hold():
        idle(path, SILENCE_SECONDS)
        end = time.monotonic() + 10
        while time.time() - path.stat().st_mtime > 60 and time.monotonic() < end:
            time.sleep(0.01)
        assert time.time() - path.stat().st_mtime < 60
    idle(path, SILENCE_SECONDS)
    time.sleep(0.1)
    assert time.time() - path.stat().st_mtime > 60, "only while it is at work"


@pytest.mark.parametrize(("check", "renewed"), [(False, True), (True, False)])
def test_a_gate_renews_it_too(path: pathlib.Path, check: bool, renewed: bool) -> None:
    hold.take(ANN)
    idle(path, SILENCE_SECONDS)
    with patch_module_args({"timeout": 0, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        gate.main()
    assert (time.time() - path.stat().st_mtime < 60) is renewed


@pytest.mark.parametrize("content", ["", "{}", "[1]", "no json"])
def test_a_file_that_says_nothing_is_no_hold(path: pathlib.Path, content: str) -> None:
    path.parent.mkdir()
    path.write_text(content)
    assert hold.look() is None
    assert hold.take(ANN, seen="").run == ANN.run


def test_where_nothing_is_held_nothing_is_released(path: pathlib.Path) -> None:
    assert hold.release(ANN.run) is None
    assert not path.exists()


def call(capsys: pytest.CaptureFixture[str], *, check: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
    with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        module.main()
    return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))


def test_the_module_says_whom_it_met(capsys: pytest.CaptureFixture[str], path: pathlib.Path) -> None:
    assert "holds" not in call(capsys, check=True, run="m 7 1")
    assert not path.exists()
    assert call(capsys, run="m 7 1", by="ann@desk", seen="", silence=7200)["holds"] is True
    assert json.loads(path.read_text())["silence"] == 7200
    refused = call(capsys, run="m 8 2", by="bob@desk")
    assert refused["failed"] is True
    assert refused["held"]["hold"]["by"] == "ann@desk"
    assert "another run holds the cluster" in refused["problems"][0]["found"]
    assert call(capsys, run="m 8 2", state="absent")["held"]["hold"]["run"] == "m 7 1"
    assert call(capsys, run="m 7 1", state="absent")["holds"] is False
