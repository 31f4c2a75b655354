# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's command line."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway.lab import control
from slipway.lab.commands import extra_vars_from, register, spec_from, table
from slipway.lab.control import HostStatus
from slipway.lab.model import Lab, LabSpec
from slipway.lab.store import save_lab


def parse(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    register(parser.add_subparsers())
    return parser.parse_args(["lab", *words])


def test_up_without_options_is_the_default_spec() -> None:
    assert spec_from(parse("up")) == LabSpec()


def test_every_option_of_up_reaches_the_spec() -> None:
    words = (
        "--name n --control-plane 3 --workers 4 --etcd 5 --os debian-12 --host-os w1=debian-13 --isolated "
        "--bare-packages --subnet 10.1.2.0/24 --docker 1 --registry 2 --driver vm"
    )
    args = parse("up", *words.split())
    expected = LabSpec("n", 3, 4, 5, "debian-12", (("w1", "debian-13"),), True, True, "10.1.2.0/24", 1, 2, "vm")
    assert spec_from(args) == expected


def test_extra_variables_are_yaml_and_absent_ones_are_none() -> None:
    assert extra_vars_from(None) is None
    assert extra_vars_from(["a=1", 'b={"c": [true]}', "d=e=f", "g="]) == {
        "a": 1,
        "b": {"c": [True]},
        "d": "e=f",
        "g": None,
    }


@pytest.mark.parametrize("value", ["novalue", "=x", "a={"])
def test_a_bad_variable_is_refused(value: str) -> None:
    with pytest.raises(SlipwayError, match="--extra-vars"):
        extra_vars_from([value])


def test_a_command_after_two_dashes_belongs_to_the_host() -> None:
    args = parse("ssh", "--name", "n", "cp1", "--", "ls", "-l", "--all")
    assert (args.name, args.host, args.command) == ("n", "cp1", ["ls", "-l", "--all"])


def test_a_missing_lab_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = parse("status", "--name", "nope")
    with pytest.raises(SlipwayError, match=r"lab nope: not in .*slipway lab up --name nope"):
        args.run(args)


@pytest.mark.parametrize(("power", "state", "code"), [("on", "running", 0), ("on", "degraded: x", 1), ("off", "", 1)])
def test_status_tells_by_its_exit_code(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    power: str,
    state: str,
    code: int,
) -> None:
    monkeypatch.chdir(tmp_path)
    lab = Lab(LabSpec(workers=0), tmp_path / ".lab" / "lab", "172.28.7.0/24", {})
    save_lab(lab)
    monkeypatch.setattr(control, "status", lambda lab: [HostStatus(lab.hosts[0], power, state)])
    args = parse("status")
    assert args.run(args) == code
    assert "172.28.7.11" in capsys.readouterr().out


def test_a_bad_spec_is_refused_before_the_machine_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    args = parse("up", "--workers", "-1")
    with pytest.raises(SlipwayError, match="--workers"):
        args.run(args)
    assert list(tmp_path.iterdir()) == []


def test_columns_are_aligned() -> None:
    assert table(("A", "LONG"), [("x", ""), ("yyy", "z")]) == "A    LONG\nx\nyyy  z"
