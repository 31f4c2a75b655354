# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One module run by the engine, in this process or, where it is killed, in one of its own."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host import engine
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

TWO = (Change("make a", before="", after="a\n"), Change("make b", "make b for real", after="secret\n", secret=True))


@dataclasses.dataclass
class Toy:
    """A module of which every verb notes that it was called."""

    changes: t.Sequence[Change] = TWO
    fails: dict[str, Exception] = dataclasses.field(default_factory=dict)
    called: list[str] = dataclasses.field(default_factory=list)
    warnings: t.Sequence[Problem] = ()

    def verb(self, name: str) -> None:
        self.called.append(name)
        if name in self.fails:
            raise self.fails[name]

    def run(self, **options: t.Any) -> None:
        def parse(params: dict[str, t.Any]) -> dict[str, t.Any]:
            self.verb("parse")
            return params

        def plan(_want: dict[str, t.Any], _seen: None) -> t.Sequence[Change]:
            self.verb("plan")
            return self.changes

        def result(_machine: Machine, want: dict[str, t.Any]) -> dict[str, t.Any]:
            self.verb("result")
            return {"word": want["word"]}

        engine.run_module(
            argument_spec={"word": {"type": "str"}},
            parse=parse,
            observe=lambda _machine, _want: self.verb("observe"),
            plan=plan,
            apply=lambda _machine, _want, change: self.verb(change.name),
            settle=lambda _machine, _want: self.verb("settle"),
            result=result,
            notices=lambda _want, _seen: self.warnings,
            **options,
        )


@pytest.fixture(autouse=True)
def _places(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[None]:
    monkeypatch.setattr(engine, "RUN_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(engine, "LOCK_PATH", str(tmp_path / "run/lock"))
    monkeypatch.setattr(engine, "FAULT_PATH", str(tmp_path / "fault"))
    before = os.umask(0o077)
    yield
    os.umask(before)


def outcome(
    toy: Toy, capsys: pytest.CaptureFixture[str], options: dict[str, t.Any] | None = None, **switches: bool
) -> dict[str, t.Any]:
    """What Ansible gets from the module; ``switches`` are ``check`` and ``diff``."""
    arguments = {
        "word": "w",
        "_ansible_check_mode": switches.get("check", False),
        "_ansible_diff": switches.get("diff", False),
        "_ansible_module_name": "slipway.cluster.toy",
    }
    with patch_module_args(arguments), pytest.raises(SystemExit) as caught:
        toy.run(**(options or {}))
    result: dict[str, t.Any] = json.loads(capsys.readouterr().out)
    assert caught.value.code == (1 if result.get("failed") else 0)
    return result


def test_a_run_plans_applies_settles_and_tells(capsys: pytest.CaptureFixture[str]) -> None:
    toy = Toy()
    result = outcome(toy, capsys)
    assert toy.called == ["parse", "observe", "plan", "make a", "make b", "settle", "result"]
    assert result["changed"] is True
    assert result["actions"] == ["make a", "make b for real"]
    assert result["word"] == "w"
    assert result["diff"] == []


def test_check_mode_stops_before_anything_is_done(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    toy = Toy()
    result = outcome(toy, capsys, check=True, diff=True)
    assert toy.called == ["parse", "observe", "plan", "result"]
    assert result["changed"] is True
    assert result["actions"] == ["make a", "make b for real"]
    assert list(tmp_path.iterdir()) == []


def test_the_difference_is_shown_when_asked_for_and_secrets_never(capsys: pytest.CaptureFixture[str]) -> None:
    result = outcome(Toy(), capsys, diff=True)
    assert result["diff"] == [{"before": "", "after": "a\n", "before_header": "make a", "after_header": "make a"}]
    assert "secret" not in json.dumps(result["diff"])


def test_nothing_to_do_is_no_change_and_still_waits(capsys: pytest.CaptureFixture[str]) -> None:
    """An earlier run may have been killed before it waited."""
    toy = Toy(changes=())
    result = outcome(toy, capsys)
    assert (result["changed"], result["actions"]) == (False, [])
    assert "settle" in toy.called


@pytest.mark.parametrize("check", [True, False])
def test_a_warning_about_what_was_seen_is_told_and_is_no_failure(
    capsys: pytest.CaptureFixture[str], check: bool
) -> None:
    warning = Problem("here", "somebody's", warning=True)
    result = outcome(Toy(changes=(), warnings=[warning]), capsys, check=check)
    assert result["problems"] == [warning.as_dict()]
    assert result["changed"] is False
    assert "problems" not in outcome(Toy(), capsys, check=check)


@pytest.mark.parametrize("verb", ["parse", "observe", "plan", "settle", "result"])
def test_every_problem_of_every_verb_is_told(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    error = SlipwayError([Problem("here", "this", "that", "do so"), Problem("there", "more")])
    result = outcome(Toy(fails={verb: error}), capsys)
    assert result["failed"] is True
    assert result["msg"] == "here: this; expected that; do so\nthere: more"
    assert result["problems"][0]["remedy"] == "do so"
    assert len(result["problems"]) == 2
    assert result["changed"] is (verb in ("settle", "result"))


def test_a_step_that_fails_stops_the_rest_and_what_was_done_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    toy = Toy(fails={"make b": SlipwayError(Problem("b", "broke"))})
    result = outcome(toy, capsys)
    assert toy.called[-1] == "make b"
    assert (result["failed"], result["changed"], result["actions"]) == (True, True, ["make a"])


@pytest.mark.parametrize(
    ("error", "where", "found", "remedy"),
    [
        (OSError(28, "No space left on device", "/opt/x"), "/opt/x", "No space left on device", "free space"),
        (OSError(122, "Disk quota exceeded", "/opt/x"), "/opt/x", "Disk quota exceeded", "free space"),
        (PermissionError(13, "Permission denied", "/x"), "/x", "Permission denied", ""),
        (OSError("odd"), "toy", "odd", ""),
    ],
)
def test_what_the_system_refuses_is_a_problem_too(
    capsys: pytest.CaptureFixture[str], error: OSError, where: str, found: str, remedy: str
) -> None:
    result = outcome(Toy(fails={"make a": error}), capsys)
    (problem,) = result["problems"]
    assert (problem["where"], problem["found"]) == (where, found)
    assert problem["remedy"].startswith(remedy)
    assert bool(problem["remedy"]) == bool(remedy)


def test_the_logins_umask_does_not_decide_who_may_pass(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    class Maker(Toy):
        def verb(self, name: str) -> None:
            if name == "make a":
                (tmp_path / "made").mkdir()

    outcome(Maker(), capsys)
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o755


# --- the lock ---------------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def held(tmp_path: pathlib.Path, text: str = "") -> t.Iterator[None]:
    (tmp_path / "run").mkdir()
    with (tmp_path / "run/lock").open("w+") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.write(text)
        stream.flush()
        yield


def test_a_second_module_stops_and_names_the_holder(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_SECONDS", 0.3)
    toy = Toy()
    with held(tmp_path, '{"pid": 42, "module": "component", "from": "10.0.0.1"}'):
        result = outcome(toy, capsys)
    assert toy.called == ["parse"]
    (problem,) = result["problems"]
    assert '"pid": 42' in problem["found"]
    assert "10.0.0.1" in problem["found"]


def test_a_holder_that_has_not_said_who_it_is(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LOCK_TIMEOUT_SECONDS", 0.0)
    with held(tmp_path):
        result = outcome(Toy(), capsys)
    assert "a process that did not name itself" in result["msg"]


def test_waiting_for_the_lock_ends_when_it_is_free(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(held(tmp_path))
        monkeypatch.setattr(time, "sleep", lambda _seconds: stack.close())
        result = outcome(Toy(), capsys)
    assert result["actions"] == ["make a", "make b for real"]


def test_while_a_module_works_the_lock_says_who_and_from_where(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_CONNECTION", "192.0.2.1 1234 192.0.2.2 22")
    seen: list[dict[str, t.Any]] = []

    class Reader(Toy):
        def verb(self, name: str) -> None:
            if name == "plan":
                seen.append(json.loads((tmp_path / "run/lock").read_text()))

    outcome(Reader(), capsys)
    assert seen[0]["module"] == "toy"
    assert (seen[0]["pid"], seen[0]["from"]) == (os.getpid(), "192.0.2.1")
    assert (tmp_path / "run/lock").read_text() == ""
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(("options", "check"), [({"exclusive": False}, False), ({}, True)])
def test_what_only_looks_does_not_wait(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, options: dict[str, t.Any], *, check: bool
) -> None:
    with held(tmp_path):
        assert outcome(Toy(), capsys, options, check=check)["changed"] is True


# --- faults -----------------------------------------------------------------------------------------------------------
SCRIPT = """
import json, sys
from ansible.module_utils.testing import patch_module_args
from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.host import engine

directory = sys.argv[1]
engine.RUN_DIRECTORY, engine.LOCK_PATH, engine.FAULT_PATH = directory, directory + "/lock", directory + "/fault"

def apply(machine, want, change):
    with open(directory + "/done", "a") as stream:
        stream.write(change.name + "\\n")

with patch_module_args({"_ansible_module_name": "toy"}):
    engine.run_module(
        argument_spec={}, parse=lambda params: None, observe=lambda machine, want: None,
        plan=lambda want, seen: [Change("make a"), Change("make b")], apply=apply,
    )
"""


def run_with_fault(tmp_path: pathlib.Path, fault: str) -> tuple[int, list[str]]:
    (tmp_path / "fault").write_text(fault)
    call = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path)]
    done = subprocess.run(call, check=False, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    log = tmp_path / "done"
    return done.returncode, log.read_text().split("\n")[:-1] if log.exists() else []


@pytest.mark.parametrize(("when", "done"), [("before", ["make a"]), ("after", ["make a", "make b"])])
def test_a_fault_kills_the_module_at_its_change_and_only_once(
    tmp_path: pathlib.Path, when: str, done: list[str]
) -> None:
    fault = json.dumps({"module": "toy", "change": "make b", "when": when})
    assert run_with_fault(tmp_path, fault) == (-signal.SIGKILL, done)
    assert not (tmp_path / "fault").exists()


@pytest.mark.parametrize(
    "fault", ["not json", "[]", json.dumps({"module": "other", "change": "make b", "when": "before"})]
)
def test_another_modules_fault_and_nonsense_do_nothing(tmp_path: pathlib.Path, fault: str) -> None:
    assert run_with_fault(tmp_path, fault) == (0, ["make a", "make b"])
    assert (tmp_path / "fault").exists()


def test_of_a_list_of_faults_each_run_meets_the_next(tmp_path: pathlib.Path) -> None:
    faults = [{"module": "toy", "change": "make a", "when": when} for when in ("before", "after")]
    assert run_with_fault(tmp_path, json.dumps(faults)) == (-signal.SIGKILL, [])
    rest = (tmp_path / "fault").read_text()
    assert json.loads(rest) == faults[1:]
    assert run_with_fault(tmp_path, rest) == (-signal.SIGKILL, ["make a"])
    assert not (tmp_path / "fault").exists()
