# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands, files and waiting on a host, with real processes and files."""

from __future__ import annotations

import getpass
import grp
import os
import pathlib
import stat
import sys
import time
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

ME = getpass.getuser()
MINE = grp.getgrgid(os.getgid()).gr_name


def problem(call: t.Callable[[], object]) -> Problem:
    with pytest.raises(SlipwayError) as caught:
        call()
    (found,) = caught.value.problems
    return found


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def mode(path: pathlib.Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


# --- commands ---------------------------------------------------------------------------------------------------------
def test_a_command_gets_its_input_and_a_plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")
    code = "import os, sys; print(sys.stdin.read(), os.environ['LC_ALL'], os.environ['X'], 'HTTPS_PROXY' in os.environ)"
    done = Machine().run(python(code), stdin="hello", env={"X": "1"})
    assert (done.rc, done.stdout, done.stderr) == (0, "hello C 1 False\n", "")


def test_a_command_that_fails_says_its_last_lines() -> None:
    call = python("import sys; [print(n, file=sys.stderr) for n in range(20)]; sys.exit(3)")
    found = problem(lambda: Machine().run(call))
    assert found.found == "ended with 3: " + "\n".join(map(str, range(12, 20)))
    assert found.where.startswith(sys.executable)
    assert Machine().run(call, check=False).rc == 3


def test_what_a_failing_command_says_on_stdout_counts_where_stderr_is_empty() -> None:
    assert "only here" in problem(lambda: Machine().run(python("print('only here'); exit(1)"))).found


def test_a_program_that_is_missing_is_named() -> None:
    found = problem(lambda: Machine().run(["no-such-program", "x"]))
    assert (found.where, found.found) == ("no-such-program", "is not on this host")
    assert Machine().run(["no-such-program"], check=False).rc == 127


def test_a_command_that_hangs_is_ended() -> None:
    call = python("import time; time.sleep(60)")
    begin = time.monotonic()
    assert problem(lambda: Machine().run(call, timeout=0.2)).found == "did not end within 0.2 s"
    done = Machine().run(call, timeout=0.2, check=False)
    assert (done.rc, done.stderr) == (124, "no answer within 0.2 s")
    assert time.monotonic() - begin < 30


def test_bytes_that_are_no_text_do_not_matter() -> None:
    done = Machine().run(python("import sys; sys.stdout.buffer.write(b'a\\xff')"))
    assert done.stdout == "a\ufffd"


def test_which_looks_where_systems_have_programs() -> None:
    found = Machine().which("sh")
    assert found is not None
    assert found.endswith("bin/sh")
    assert Machine().which("no-such-program") is None


# --- files ------------------------------------------------------------------------------------------------------------
def test_a_file_is_replaced_as_a_whole_with_its_mode(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f"
    Machine().write(str(path), b"one", mode=0o644, owner=ME, group=MINE)
    with path.open("rb") as reader:
        Machine().write(str(path), b"two", mode=0o600, owner=ME, group=MINE)
        assert reader.read() == b"one", "who has the old file open keeps it"
    assert path.read_bytes() == b"two"
    assert mode(path) == 0o600
    assert os.listdir(tmp_path) == ["f"]  # noqa: PTH208


def test_a_file_that_could_not_be_written_leaves_the_old_one_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "f"
    path.write_text("old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Machine().write(str(path), b"new", mode=0o600, owner=ME, group=MINE)
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["f"]


def test_an_owner_that_does_not_exist_is_named(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "f")
    assert problem(lambda: Machine().write(path, b"", mode=0o600, owner="nobody-here")).where == "user nobody-here"
    found = problem(lambda: Machine().write(path, b"", mode=0o600, owner=ME, group="no-group-here"))
    assert found.where == "group no-group-here"
    assert list(tmp_path.iterdir()) == []


def test_reading_what_is_not_a_file_is_nothing(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_bytes(b"a\xff")
    assert Machine().read(str(tmp_path / "f")) == b"a\xff"
    assert Machine().read_text(str(tmp_path / "f")) == "a\ufffd"
    for path in (tmp_path, tmp_path / "none", tmp_path / "f" / "below"):
        assert Machine().read(str(path)) is None
        assert Machine().read_text(str(path)) is None


def test_a_link_is_moved_in_one_step_over_what_a_kill_left(tmp_path: pathlib.Path) -> None:
    link = tmp_path / "current"
    Machine().link(str(link), "1.0")
    (tmp_path / f"current.slipway-{os.getpid()}").symlink_to("left behind")
    Machine().link(str(link), "2.0")
    assert str(link.readlink()) == "2.0"
    assert [each.name for each in tmp_path.iterdir()] == ["current"]
    assert Machine().exists(str(link)), "a dangling link exists"


def test_a_directory_gets_its_mode_and_those_above_it_the_usual_one(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a/b/c"
    before = os.umask(0o022)
    try:
        Machine().make_directory(str(path), mode=0o700, owner=ME, group=MINE)
    finally:
        os.umask(before)
    assert (mode(path), mode(path.parent)) == (0o700, 0o755)
    (path / "f").write_text("x")
    Machine().make_directory(str(path), mode=0o750, owner=ME, group=MINE)
    assert mode(path) == 0o750
    assert (path / "f").read_text() == "x"


def test_attributes_are_set_alone(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "f"
    path.write_text("x")
    Machine().set_attributes(str(path), mode=0o640, owner=ME, group=MINE)
    assert (mode(path), path.read_text()) == (0o640, "x")


def test_removing_takes_the_thing_itself_and_never_what_a_link_points_to(tmp_path: pathlib.Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "tree/below").mkdir(parents=True)
    (tmp_path / "file").write_text("")
    for name in ("link", "tree", "file", "none"):
        Machine().remove(str(tmp_path / name))
    assert [each.name for each in tmp_path.iterdir()] == ["kept"]


# --- waiting ----------------------------------------------------------------------------------------------------------
def test_waiting_ends_when_there_is_nothing_left_to_say() -> None:
    answers = iter(["starting", "starting", None])
    Machine().wait("it", lambda: next(answers), timeout=30, interval=0)
    assert list(answers) == []


def test_waiting_tells_what_was_seen_last_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 1.0, 6.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    answers = iter(["first", "last"])
    found = problem(lambda: Machine().wait("it", lambda: next(answers), timeout=5, interval=0, remedy="look"))
    assert (found.where, found.found, found.remedy) == ("it", "not within 5 s; last seen: last", "look")
