# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets brought about with real files, and with a systemctl that only remembers."""

from __future__ import annotations

import base64
import getpass
import grp
import hashlib
import os
import pathlib
import pwd
import shutil
import socket
import stat
import subprocess
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    Absent,
    Directory,
    File,
    HostState,
    Link,
    SeenPath,
    Unit,
    User,
    plan_state,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host import state as module
from ansible_collections.slipway.cluster.plugins.module_utils.host import systemd
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.module_utils.host.state import (
    apply_state,
    observe_path,
    observe_paths,
    observe_state,
)

ME = getpass.getuser()
MINE = grp.getgrgid(os.getgid()).gr_name


class Systemd(Machine):
    """A machine whose units are in a table and whose commands are remembered."""

    def __init__(self, units: dict[str, dict[str, str]] | None = None, fails: t.Container[str] = ()) -> None:
        self.units = units or {}
        self.fails = fails
        self.commands: list[str] = []

    def run(self, argv: t.Sequence[str], **_: t.Any) -> Output:
        words = list(argv)
        if words[:2] == ["systemctl", "show"]:
            return Output(0, "\n\n".join(self._show(name) for name in words[words.index("--") + 1 :]), "")
        self.commands.append(" ".join(words))
        if words[0] == "journalctl":
            return Output(0, "line one\nline two\n", "")
        return Output(1 if words[1] in self.fails else 0, "", "")

    def _show(self, name: str) -> str:
        found = {"LoadState": "not-found", "ActiveState": "inactive", **self.units.get(name, {})}
        return "\n".join(f"{key}={value}" for key, value in {"Id": name, **found}.items())


def run(target: HostState, machine: Machine | None = None) -> list[str]:
    """Observe, plan and apply; the names of what was done."""
    host = machine or Systemd()
    changes = plan_state(target, observe_state(host, target))
    for change in changes:
        apply_state(host, change)
    return [change.name for change in changes]


# --- observing --------------------------------------------------------------------------------------------------------
def test_every_kind_of_path_is_seen_as_what_it_is(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_text("hello\n")
    (tmp_path / "f").chmod(0o644)
    (tmp_path / "d").mkdir(mode=0o750)
    (tmp_path / "l").symlink_to("f")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        names = {str(tmp_path / name): name for name in ("f", "d", "l", "s", "none", "f/below")}
        found = {names[path]: seen for path, seen in observe_paths(Machine(), names).items()}
    digest = hashlib.sha256(b"hello\n").hexdigest()
    assert found["f"] == SeenPath("file", "0644", ME, MINE, digest, text="hello\n")
    assert found["d"] == SeenPath("directory", "0750", ME, MINE)
    assert found["l"] == SeenPath("link", target="f")
    assert found["s"].kind == "other"
    assert set(found) == {"f", "d", "l", "s"}


@pytest.mark.parametrize(
    ("content", "mode", "hide", "shown"),
    [
        (b"text", 0o644, False, True),
        (b"text", 0o600, False, False),
        (b"text", 0o640, False, False),
        (b"text", 0o644, True, False),
        (b"a\0b", 0o644, False, False),
        (b"x" * 70000, 0o644, False, False),
    ],
)
def test_the_text_is_shown_only_where_everybody_may_read_it(
    tmp_path: pathlib.Path, content: bytes, mode: int, *, hide: bool, shown: bool
) -> None:
    path = tmp_path / "f"
    path.write_bytes(content)
    path.chmod(mode)
    found = observe_path(Machine(), str(path), hide=hide)
    assert found is not None
    assert bool(found.text) == shown
    assert found.sha256 == hashlib.sha256(content).hexdigest()


def test_owners_without_a_name_are_numbers(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_number: int) -> t.NoReturn:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(grp, "getgrgid", unknown)
    found = observe_path(Machine(), str(tmp_path))
    assert found is not None
    assert (found.owner, found.group) == (str(os.getuid()), str(os.getgid()))


# --- files ------------------------------------------------------------------------------------------------------------
def target(directory: pathlib.Path) -> HostState:
    return HostState(
        directories=(Directory(f"{directory}/d", "0700", ME, MINE),),
        files=(
            File(f"{directory}/d/text", "hello\n", "0600", ME, MINE),
            File(f"{directory}/d/bytes", base64.b64encode(b"\0\xff").decode(), "0755", ME, MINE, encoding="base64"),
            File(f"{directory}/new/once", "first\n", "0644", ME, MINE, create_only=True),
        ),
        links=(Link(f"{directory}/links/l", f"{directory}/d/text"),),
        absent=(Absent(f"{directory}/old"),),
    )


def test_a_target_is_brought_about_and_then_there_is_nothing_to_do(tmp_path: pathlib.Path) -> None:
    (tmp_path / "old/below").mkdir(parents=True)
    assert len(run(target(tmp_path))) == 6
    assert run(target(tmp_path)) == []
    assert (tmp_path / "d/text").read_text() == "hello\n"
    assert (tmp_path / "d/bytes").read_bytes() == b"\0\xff"
    assert (tmp_path / "links/l").read_text() == "hello\n"
    assert not (tmp_path / "old").exists()
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o700


def test_drift_is_mended_and_what_is_made_once_is_left(tmp_path: pathlib.Path) -> None:
    run(target(tmp_path))
    (tmp_path / "d/text").write_text("changed")
    (tmp_path / "d/bytes").chmod(0o700)
    (tmp_path / "new/once").write_text("the user's")
    (tmp_path / "links/l").unlink()
    (tmp_path / "links/l").symlink_to("/elsewhere")
    assert run(target(tmp_path)) == [
        f"write {tmp_path}/d/text",
        f"set owner and mode of {tmp_path}/d/bytes",
        f"link {tmp_path}/links/l",
    ]
    assert run(target(tmp_path)) == []
    assert (tmp_path / "new/once").read_text() == "the user's"


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["text", "mode", "gone", "link"]), max_size=3))
def test_whatever_happened_to_a_file_the_next_run_mends_it(tmp_path: pathlib.Path, events: list[str]) -> None:
    wanted = HostState(files=(File(f"{tmp_path}/f", "hello\n", "0640", ME, MINE),))
    run(wanted)
    path = tmp_path / "f"
    for event in events:
        if event == "text" and path.exists():
            path.write_text("x")
        elif event == "mode" and path.exists():
            path.chmod(0o777)
        else:
            path.unlink(missing_ok=True)
        if event == "link" and not path.is_symlink():
            path.symlink_to("/elsewhere")
    run(wanted)
    assert run(wanted) == []
    assert not path.is_symlink()


def test_a_file_with_a_value_missing_is_not_written(tmp_path: pathlib.Path) -> None:
    with pytest.raises(SlipwayError, match="no value for a, b"):
        run(HostState(files=(File(f"{tmp_path}/f", "@@b@@ @@a@@", "0644", ME, MINE),)))
    assert list(tmp_path.iterdir()) == []


# --- users ------------------------------------------------------------------------------------------------------------
def test_a_user_is_made_with_a_group_of_its_name_and_without_a_home() -> None:
    machine = Systemd()
    assert run(HostState(users=(User("slipway-nobody"), User(ME))), machine) == ["create user slipway-nobody"]
    assert machine.commands == [
        "groupadd --system slipway-nobody",
        (
            "useradd --system --gid slipway-nobody --home-dir /nonexistent --no-create-home "
            "--shell /usr/sbin/nologin slipway-nobody"
        ),
    ]


def test_a_group_that_a_kill_left_behind_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Systemd()
    monkeypatch.setattr(module, "_group_exists", lambda _name: True)
    apply_state(machine, Change("create user x", data=User("x")))
    assert [command.split()[0] for command in machine.commands] == ["useradd"]


# --- units ------------------------------------------------------------------------------------------------------------
UP = {"LoadState": "loaded", "ActiveState": "active", "UnitFileState": "enabled", "MainPID": "0"}


def test_a_unit_is_enabled_and_started_after_systemd_has_read_it() -> None:
    machine = Systemd()
    assert run(HostState(units=(Unit("x.service"),)), machine) == ["enable x.service", "start x.service"]
    assert machine.commands == [
        "systemctl daemon-reload",
        "systemctl enable --quiet x.service",
        "systemctl daemon-reload",
        "systemctl start x.service",
    ]


def test_a_unit_whose_file_changed_is_read_again_before_it_restarts() -> None:
    machine = Systemd({"x.service": {**UP, "NeedDaemonReload": "yes"}})
    assert run(HostState(units=(Unit("x.service", "d1", no_block=True),)), machine) == ["restart x.service"]
    assert machine.commands == [
        "systemctl daemon-reload",
        "systemctl restart --no-block x.service",
    ]


def test_a_unit_that_shall_not_be_is_stopped_and_disabled() -> None:
    machine = Systemd({"x.service": UP})
    run(HostState(units=(Unit("x.service", enabled=False, running=False),)), machine)
    assert machine.commands == ["systemctl disable --quiet x.service", "systemctl stop x.service"]


def test_a_unit_that_does_not_start_says_what_it_logged() -> None:
    machine = Systemd({"x.service": {**UP, "ActiveState": "failed"}}, fails={"start"})
    with pytest.raises(SlipwayError) as caught:
        run(HostState(units=(Unit("x.service"),)), machine)
    (problem,) = caught.value.problems
    assert problem.where == "x.service"
    assert machine.commands[0] == "systemctl reset-failed x.service"
    assert problem.found.startswith("did not start: ")
    assert "line one | line two" in problem.found


def test_units_are_seen_with_the_digest_their_process_runs_with(tmp_path: pathlib.Path) -> None:
    class Proc(Systemd):
        def read(self, path: str) -> bytes | None:
            return {"/proc/7/environ": b"A=1\0SLIPWAY_DIGEST=d1\0B=2", "/proc/8/environ": b"A=1"}.get(path)

    machine = Proc(
        {
            "a.service": {**UP, "MainPID": "7"},
            "b.service": {**UP, "MainPID": "8", "UnitFileState": "disabled", "NeedDaemonReload": "yes"},
            "c.service": {**UP, "ActiveState": "failed", "UnitFileState": "static"},
        }
    )
    found = systemd.show_units(machine, ["c.service", "a.service", "b.service", "none.service", "a.service"])
    assert set(found) == {"a.service", "b.service", "c.service"}
    assert [found[name].digest for name in sorted(found)] == ["d1", "", ""]
    assert [found[name].enabled for name in sorted(found)] == [True, False, True]
    assert [found[name].active for name in sorted(found)] == ["active", "active", "failed"]
    assert found["b.service"].needs_reload
    assert systemd.show_units(machine, []) == {}


@pytest.fixture
def versions(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """The root of artefacts, below a link, with a program in two versions, of which 1 is in use."""
    real = tmp_path / "disk"
    for version in ("1", "2"):
        (real / "sleep" / version).mkdir(parents=True)
        shutil.copy(shutil.which("sleep") or "", real / "sleep" / version / "sleep")
    (real / "sleep" / "current").symlink_to("1")
    (tmp_path / "opt").symlink_to(real)
    monkeypatch.setattr(systemd, "ROOT", str(tmp_path / "opt"))
    return tmp_path / "opt"


def _replace(directory: pathlib.Path) -> None:
    directory.rename(directory.with_suffix(".old"))
    shutil.copytree(directory.with_suffix(".old"), directory)
    shutil.rmtree(directory.with_suffix(".old"))


@pytest.mark.parametrize(
    ("by", "happens", "runs", "starts"),
    [
        ("sleep/current/sleep", lambda _: None, "sleep/1/sleep", "sleep/1/sleep"),
        ("sleep/current/sleep", lambda own: Machine().link(f"{own}/current", "2"), "sleep/1/sleep", "sleep/2/sleep"),
        ("sleep/current/sleep", lambda own: shutil.rmtree(own / "1"), "sleep/1/sleep", "sleep/1/sleep"),
        ("sleep/current/sleep", lambda own: _replace(own / "1"), "sleep/1.old/sleep (deleted)", "sleep/1/sleep"),
        ("sleep/1/sleep", lambda own: Machine().link(f"{own}/current", "2"), None, None),
        (None, lambda _: None, None, None),
    ],
    ids=["as it should be", "switched", "gone", "replaced", "by its version", "not below the root"],
)
def test_a_process_is_seen_with_its_program(
    versions: pathlib.Path,
    by: str | None,
    happens: t.Callable[[pathlib.Path], None],
    runs: str | None,
    starts: str | None,
) -> None:
    program = str(versions / by) if by else "/bin/sleep"
    with subprocess.Popen([program, "60"]) as process:
        try:
            # The new program runs a moment before it has its words.
            Machine().wait(
                "words", lambda: None if Machine().read(f"/proc/{process.pid}/cmdline") else "none", timeout=30
            )
            happens(versions / "sleep")
            machine = Systemd({"a.service": {**UP, "MainPID": str(process.pid)}})
            seen = systemd.show_units(machine, ["a.service"])["a.service"]
        finally:
            process.kill()
    assert seen.program == (program if runs else "")
    assert seen.runs == (str(versions / runs) if runs else "")
    assert seen.starts == (str(versions / starts) if starts else "")


def test_of_drop_ins_those_are_seen_that_somebody_made_for_the_unit() -> None:
    own = ("/etc/systemd/system/a.service.d/override.conf", "/run/systemd/system.control/a.service.d/50-CPUWeight.conf")
    others = "/usr/lib/systemd/system/a.service.d/x.conf /etc/systemd/system/service.d/10-all.conf"
    machine = Systemd({"a.service": {**UP, "DropInPaths": f"{others} {' '.join(own)}"}, "b.service": UP})
    found = systemd.show_units(machine, ["a.service", "b.service"])
    assert found["a.service"].drop_ins == own
    assert found["b.service"].drop_ins == ()


def test_a_process_that_just_ended_has_no_digest() -> None:
    class Gone(Systemd):
        def read(self, path: str) -> bytes | None:
            raise ProcessLookupError

    found = systemd.show_units(Gone({"a.service": {**UP, "MainPID": "7"}}), ["a.service"])
    assert found["a.service"].digest == ""
