# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command asks of Ansible, what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import pathlib
import typing as t

import pytest

from slipway import cli
from slipway.run import Outcome, Run
from slipway.verbs import Console, execute

PENDING = {"pending": True, "hosts": {"cp1": [{"module": "m", "action": "write x"}]}, "warnings": []}
SETTLED = {"pending": False, "hosts": {"cp1": []}, "warnings": []}


class FakeRunner:
    """Stands in for ansible-runner: says these events, ends with this code, remembers what was asked."""

    def __init__(self, code: int = 0, *results: dict[str, t.Any], interrupted: bool = False) -> None:
        self.outcome = Outcome(code=code, interrupted=interrupted)
        self.results = results or ({},)
        self.run: Run | None = None

    def __call__(self, run: Run, handler: t.Callable[[t.Mapping[str, t.Any]], None]) -> Outcome:
        self.run = run
        handler({"event": "playbook_on_play_start", "event_data": {"play": "Observe"}})
        for res in self.results:
            kind = "runner_on_failed" if res.get("failed") else "runner_on_ok"
            handler({"event": kind, "event_data": {"host": "cp1", "task": "Plan", "res": res}})
        return self.outcome


@pytest.fixture
def inventory(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "inventory.yml"
    path.touch()
    return str(path)


def use(monkeypatch: pytest.MonkeyPatch, runner: FakeRunner) -> FakeRunner:
    monkeypatch.setattr(execute, "__defaults__", (runner,))
    return runner


def test_apply_passes_everything_on(monkeypatch: pytest.MonkeyPatch, inventory: str) -> None:
    runner = use(monkeypatch, FakeRunner())
    words = ["--limit", "w1", "-e", "a=1", "-e", "@f", "--check", "--diff", "--forks", "7", "-vv", "--tags", "node"]
    assert cli.main(["apply", "-i", inventory, *words, "--user", "me"]) == 0
    assert runner.run == Run(
        playbook="slipway.cluster.apply",
        inventories=(inventory,),
        limit="w1",
        tags="node",
        forks=7,
        verbosity=1,
        check=True,
        diff=True,
        extra_vars=("a=1", "@f"),
        options=("--user", "me"),
    )


@pytest.mark.parametrize(
    ("code", "res", "expected"),
    [
        (0, {"slipway_report": PENDING}, 2),
        (0, {"slipway_report": SETTLED}, 0),
        (2, {"slipway_report": PENDING, "failed": True, "msg": "no"}, 1),
        (4, {"slipway_report": SETTLED}, 1),
    ],
)
def test_plan_exit_codes(
    monkeypatch: pytest.MonkeyPatch, inventory: str, code: int, res: dict[str, t.Any], expected: int
) -> None:
    use(monkeypatch, FakeRunner(code, res))
    assert cli.main(["plan", "-i", inventory]) == expected


def test_plan_json_is_json_only(
    monkeypatch: pytest.MonkeyPatch, inventory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, FakeRunner(0, {"slipway_report": PENDING}))
    assert cli.main(["plan", "-i", inventory, "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {**PENDING, "problems": [], "unreachable": []}


def test_plan_json_carries_problems(
    monkeypatch: pytest.MonkeyPatch, inventory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, FakeRunner(2, {"failed": True, "problems": [{"where": "slipway_netwrok", "found": "unknown"}]}))
    assert cli.main(["plan", "-i", inventory, "--json"]) == 1
    captured = capsys.readouterr()
    (problem,) = json.loads(captured.out)["problems"]
    assert (problem["where"], problem["hosts"]) == ("slipway_netwrok", ["cp1"])
    assert "error: slipway_netwrok: unknown" in captured.err


def test_plan_for_people(monkeypatch: pytest.MonkeyPatch, inventory: str, capsys: pytest.CaptureFixture[str]) -> None:
    use(monkeypatch, FakeRunner(0, {"slipway_report": PENDING}))
    cli.main(["plan", "-i", inventory])
    assert "cp1  + 1 change: m 1\n       m: write x\n" in capsys.readouterr().out


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (2, 1)])
def test_verify_shows_the_findings(
    monkeypatch: pytest.MonkeyPatch, inventory: str, capsys: pytest.CaptureFixture[str], code: int, expected: int
) -> None:
    report = {"ok": code == 0, "checks": [{"aspect": "nodes", "ok": code == 0}], "table": "nodes  3 of 3 Ready\n"}
    use(monkeypatch, FakeRunner(code, {"slipway_report": report, "failed": code != 0, "msg": "nodes"}))
    assert cli.main(["verify", "-i", inventory]) == expected
    assert "\nnodes  3 of 3 Ready\n" in capsys.readouterr().out
    assert cli.main(["verify", "-i", inventory, "--json"]) == expected
    assert json.loads(capsys.readouterr().out)["checks"] == report["checks"]


@pytest.mark.parametrize(("verb", "code", "said"), [("apply", 2, True), ("apply", 0, False), ("plan", 2, False)])
def test_an_apply_that_fails_names_who_is_not_done(
    monkeypatch: pytest.MonkeyPatch,
    inventory: str,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    code: int,
    said: bool,
) -> None:
    change = {"phase": "node", "module": "m", "action": "a"}
    hosts = {"w1": [change], "w2": [], "w3": [change]}
    use(monkeypatch, FakeRunner(code, {"slipway_report": {**PENDING, "hosts": hosts}}))
    cli.main([verb, "-i", inventory])
    assert ("\nnot done: w1, w3\n" in capsys.readouterr().out) is said


def test_missing_inventory_is_said_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["apply", "-i", "/nowhere/inventory.yml"]) == 1
    assert capsys.readouterr().err.startswith("error: --inventory /nowhere/inventory.yml: no such file or directory\n")


def test_reset_needs_the_name(
    monkeypatch: pytest.MonkeyPatch, inventory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = use(monkeypatch, FakeRunner())
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli.main(["reset", "-i", inventory]) == 1
    assert "not confirmed" in capsys.readouterr().err
    assert runner.run is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("words", "typed", "name"), [(["--confirm", "lab"], "", "lab"), ([], "prod\n", "prod")], ids=["given", "asked"]
)
def test_reset_passes_the_name_on(
    monkeypatch: pytest.MonkeyPatch, inventory: str, words: list[str], typed: str, name: str
) -> None:
    runner = use(monkeypatch, FakeRunner())
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert cli.main(["reset", "-i", inventory, *words]) == 0
    assert runner.run is not None
    assert [json.loads(text) for text in runner.run.extra_vars] == [{"slipway_reset_confirm": name}]


def test_interrupted_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(out=io.StringIO())
    assert execute(Run(playbook="p", inventories=()), console, FakeRunner(254, interrupted=True)) == 130
    assert "Run it again" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("results", "runs"),
    [
        ([{"holds": True}, {"failed": True, "msg": "no"}], ["apply", "release"]),
        ([{"results": [{"holds": True}, "odd"]}, {"failed": True, "msg": "no"}], ["apply", "release"]),
        ([{"holds": True}, {"results": [{"holds": False}]}], ["apply"]),
        ([{}], ["apply"]),
    ],
)
def test_a_run_that_ends_while_it_holds_the_cluster_lets_go(results: list[dict[str, t.Any]], runs: list[str]) -> None:
    seen: list[Run] = []
    fake = FakeRunner(2, *results)

    def runner(run: Run, handler: t.Callable[[t.Mapping[str, t.Any]], None]) -> Outcome:
        seen.append(run)
        return fake(run, handler)

    execute(Run(playbook="slipway.cluster.apply", inventories=("i",), limit="w1"), Console(out=io.StringIO()), runner)
    assert [run.playbook.rpartition(".")[2] for run in seen] == runs
    assert all(run.inventories == ("i",) for run in seen)
    assert [run.limit for run in seen[1:]] == [None] * (len(runs) - 1)


def test_a_failure_that_nothing_explains_is_told_with_ansibles_words() -> None:
    def runner(run: Run, handler: t.Callable[[t.Mapping[str, t.Any]], None]) -> Outcome:
        handler({"event": "verbose", "stdout": "[ERROR]: the playbook could not be found\n"})
        return Outcome(code=1, interrupted=False)

    out = io.StringIO()
    assert execute(Run(playbook="p", inventories=()), Console(out=out), runner) == 1
    assert "[ERROR]: the playbook could not be found" in out.getvalue()


def test_no_host_is_a_failure() -> None:
    def runner(run: Run, handler: t.Callable[[t.Mapping[str, t.Any]], None]) -> Outcome:
        return Outcome(code=0, interrupted=False)

    out = io.StringIO()
    assert execute(Run(playbook="p", inventories=()), Console(out=out), runner) == 1
    assert "no host took part" in out.getvalue()


def test_raw_output_is_ansibles_own() -> None:
    out = io.StringIO()
    Console(out=out, raw=True).handle({"event": "playbook_on_play_start", "stdout": "PLAY [x] ***", "event_data": {}})
    assert out.getvalue() == "PLAY [x] ***\n"


def test_a_terminal_sees_the_task_that_runs() -> None:
    out = Terminal()
    console = Console(out=out)
    console.handle({"event": "playbook_on_task_start", "event_data": {"task": "Write units"}})
    assert "… Write units" in out.getvalue()
    console.clear()
    assert out.getvalue().endswith("\r\x1b[2K")


@pytest.mark.parametrize("verb", ["apply", "plan", "verify", "remove", "maintain", "reset", "kubeconfig"])
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([verb, "--help"])
    assert caught.value.code == 0
    assert "--inventory" in capsys.readouterr().out


def test_kubeconfig_writes_where_it_is_told(
    monkeypatch: pytest.MonkeyPatch, inventory: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = use(monkeypatch, FakeRunner(0, {"slipway_report": {"kubeconfig": "/x/kc"}}))
    assert cli.main(["kubeconfig", "-i", inventory, "--output", str(tmp_path / "kc")]) == 0
    assert runner.run is not None
    assert [json.loads(text) for text in runner.run.extra_vars] == [{"slipway_kubeconfig_output": str(tmp_path / "kc")}]
    assert "kubeconfig: /x/kc\n" in capsys.readouterr().out


@pytest.mark.parametrize(("words", "dead"), [([], False), (["--dead"], True)])
def test_remove_passes_on_who_leaves(
    monkeypatch: pytest.MonkeyPatch, inventory: str, words: list[str], dead: bool
) -> None:
    runner = use(monkeypatch, FakeRunner())
    assert cli.main(["remove", "w1", "w2", "-i", inventory, "--confirm", "lab", *words]) == 0
    assert runner.run is not None
    assert runner.run.playbook == "slipway.cluster.remove_node"
    assert [json.loads(text) for text in runner.run.extra_vars] == [
        {"slipway_remove": ["w1", "w2"], "slipway_remove_dead": dead, "slipway_remove_confirm": "lab"}
    ]


def test_remove_wants_to_be_confirmed_and_says_what_it_would_do(
    monkeypatch: pytest.MonkeyPatch, inventory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = use(monkeypatch, FakeRunner(0, {"actions": ["delete node w1"]}))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cli.main(["remove", "w1", "-i", inventory]) == 1
    assert "not confirmed" in capsys.readouterr().err
    assert runner.run is None
    assert cli.main(["remove", "w1", "-i", inventory, "--check"]) == 0
    assert "delete node w1" in capsys.readouterr().out


def test_maintain_finds_its_tasks_and_says_who_was_maintained(
    monkeypatch: pytest.MonkeyPatch, inventory: str, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = {"maintenance": {"before": ["cp1"], "done": ["w1"], "open": ["w2", "w3"]}}
    runner = use(monkeypatch, FakeRunner(2, {"slipway_report": told}))
    (tmp_path / "firmware.yml").write_text("[]")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["maintain", "-i", inventory, "--tasks", "firmware.yml", "--batch", "2", "--again"]) == 1
    assert runner.run is not None
    assert [json.loads(text) for text in runner.run.extra_vars] == [
        {
            "slipway_maintain_tasks": str(tmp_path / "firmware.yml"),
            "slipway_maintain_again": True,
            "slipway_maintain_batch": "2",
        }
    ]
    out = capsys.readouterr().out
    assert "maintained: w1\nmaintained before: cp1\n" in out
    assert "not maintained: w2, w3; run it again" in out


def test_maintain_takes_the_ready_made_tasks_and_no_file_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, inventory: str, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = use(monkeypatch, FakeRunner())
    assert cli.main(["maintain", "-i", inventory, "--tasks", "no-such-file.yml"]) == 1
    assert "--tasks no-such-file.yml: no such file" in capsys.readouterr().err
    assert runner.run is None
    assert cli.main(["maintain", "-i", inventory, "--tasks", "os_updates"]) == 0
    assert runner.run is not None
    assert json.loads(runner.run.extra_vars[0])["slipway_maintain_tasks"] == "os_updates"
