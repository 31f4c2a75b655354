# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a playbook of the collection through ansible-runner: environment, command line, signals, a private directory."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import importlib
import os
import pathlib
import shlex
import signal
import sys
import tempfile
import time
import types
import typing as t

import ansible_runner.interface
from ansible import constants

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError

MAX_FORKS = 50
# How long ansible-playbook may take to stop by itself after Ctrl-C before it is killed.
STOP_SECONDS = 10.0
# Settings that make runs quick; each gives way to the user's own ansible.cfg or environment. Persistent SSH connections
# are Ansible's default already.
PREFERRED = {
    "ANSIBLE_PIPELINING": ("ANSIBLE_PIPELINING", "1"),
}
Handler = collections.abc.Callable[[t.Mapping[str, t.Any]], None]


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a playbook (a collection's or a path); ``options`` are further words for ansible-playbook."""

    playbook: str
    inventories: tuple[str, ...]
    limit: str | None = None
    tags: str | None = None
    forks: int = MAX_FORKS
    verbosity: int = 0
    check: bool = False
    diff: bool = False
    colour: bool = False
    extra_vars: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: ansible-playbook's exit code, and whether it was stopped by a signal."""

    code: int
    interrupted: bool


def inventory_paths(given: t.Sequence[str]) -> tuple[str, ...]:
    """Absolute paths of the inventories; a list of hosts (with a comma) stays as it is.

    Raises SlipwayError naming every path that does not exist.
    """
    problems = [
        Problem(
            where=f"--inventory {path}",
            found="no such file or directory",
            expected="an inventory file, a directory of them, or hosts separated by commas",
            remedy="check the path; `slipway lab up` prints the one it writes",
        )
        for path in given
        if "," not in path and not pathlib.Path(path).exists()
    ]
    if problems:
        raise SlipwayError(problems)
    return tuple(path if "," in path else str(pathlib.Path(path).absolute()) for path in given)


def command_line(run: Run) -> str:
    """The words between ``ansible-playbook`` and the playbook, quoted as a shell would read them."""
    words = [*run.options]
    for value in run.extra_vars:
        words += ["--extra-vars", value]
    words += ["--check"] if run.check else []
    words += ["--diff"] if run.diff else []
    return shlex.join(words)


def collections_root() -> str:
    """The directory that holds ``ansible_collections/slipway/cluster``, of an installed wheel or a linked checkout."""
    package = importlib.import_module("ansible_collections.slipway.cluster")
    return str(pathlib.Path(next(iter(package.__path__))).parents[2])


def environment(settings: t.Any, current: t.Mapping[str, str]) -> dict[str, str]:
    """Environment variables for ansible-playbook on top of ``current``.

    ``settings`` is the module ``ansible.constants``: what the user has set in ansible.cfg or the environment stays.
    """
    env = {"PATH": os.pathsep.join([str(pathlib.Path(sys.executable).parent), current.get("PATH", os.defpath)])}
    for setting, (variable, value) in PREFERRED.items():
        if settings.config.get_config_value_and_origin(setting)[1] == "default":
            env[variable] = value
    # ansible-runner switches host key checking off unless this is set.
    env["ANSIBLE_HOST_KEY_CHECKING"] = str(settings.HOST_KEY_CHECKING)
    paths = [collections_root(), *settings.COLLECTIONS_PATHS]
    env["ANSIBLE_COLLECTIONS_PATH"] = os.pathsep.join(dict.fromkeys(str(path) for path in paths))
    # ansible-runner drops results longer than 700,000 characters, and the plan of many hosts is.
    env["MAX_EVENT_RES"] = str(1 << 26)
    # Ansible refuses to start in the C locale.
    if current.get("LC_ALL") in {"C", "POSIX"}:
        env["LC_ALL"] = "C.UTF-8"
    return env


def _child_pids() -> list[int]:
    # Linux only; elsewhere the run is killed instead of asked.
    pids: list[int] = []
    for children in pathlib.Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            pids += [int(word) for word in children.read_text(encoding="ascii").split()]
    return pids


class Stopper:
    """Turns SIGINT and SIGTERM into a clean stop: the first asks ansible-playbook to end, the second kills it.

    Used as a context manager around the run; as a callable it is ansible-runner's cancel callback, which kills when
    it answers true.
    """

    def __init__(self, clock: collections.abc.Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._before: dict[signal.Signals, t.Any] = {}
        self.asked_at: float | None = None
        self.times = 0

    def __enter__(self) -> t.Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self.stop)
        return self

    def __exit__(self, *_unused: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def stop(self, _number: int = 0, _frame: types.FrameType | None = None) -> None:
        """Ask the running ansible-playbook to stop."""
        self.times += 1
        if self.asked_at is None:
            self.asked_at = self._clock()
            for pid in _child_pids():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)

    def __call__(self) -> bool:
        """Whether to kill now: asked twice, or asked long ago."""
        return self.asked_at is not None and (self.times > 1 or self._clock() - self.asked_at > STOP_SECONDS)


def run_playbook(run: Run, handler: Handler) -> Outcome:
    """Run the playbook and pass every event to ``handler``; nothing of ansible-runner's stays on disk."""

    def on_event(event: dict[str, t.Any]) -> bool:
        handler(event)
        return False  # not to be written to disk: results are the handler's business

    with tempfile.TemporaryDirectory(prefix="slipway-") as directory, Stopper() as stopper:
        result = ansible_runner.interface.run(
            private_data_dir=directory,
            project_dir=str(pathlib.Path.cwd()),
            playbook=run.playbook,
            inventory=list(run.inventories),
            limit=run.limit,
            tags=run.tags,
            forks=run.forks,
            verbosity=run.verbosity or None,
            cmdline=command_line(run) or None,
            envvars=environment(constants, os.environ) | ({} if run.colour else {"ANSIBLE_NOCOLOR": "1"}),
            settings={"suppress_output_file": True, "pexpect_timeout": 1},
            suppress_env_files=True,
            fact_cache_type=None,
            quiet=True,
            event_handler=on_event,
            cancel_callback=stopper,
        )
        # A run that was killed has no exit code of its own.
        code = 1 if result.rc is None else int(result.rc)
        return Outcome(code=code, interrupted=stopper.asked_at is not None)
