# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every module the same way: observe, plan, and apply unless in check mode."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import threading
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ..core import hold
from ..core.change import Change, diffs
from ..core.problems import Problem, SlipwayError
from .machine import Machine

Want = t.TypeVar("Want")
Seen = t.TypeVar("Seen")

RUN_DIRECTORY = "/run/slipway"
LOCK_PATH = RUN_DIRECTORY + "/lock"
HOLD_PATH = hold.PATH
FAULT_PATH = RUN_DIRECTORY + "/fault"
LOCK_TIMEOUT_SECONDS = 120.0
RENEW_SECONDS = 60.0


def run_module(  # noqa: PLR0913  # the verbs of a module, by keyword only
    *,
    argument_spec: dict[str, t.Any],
    parse: t.Callable[[dict[str, t.Any]], Want],
    observe: t.Callable[[Machine, Want], Seen],
    plan: t.Callable[[Want, Seen], t.Sequence[Change]],
    apply: t.Callable[[Machine, Want, Change], None],
    settle: t.Optional[t.Callable[[Machine, Want], None]] = None,
    result: t.Optional[t.Callable[[Machine, Want], dict[str, t.Any]]] = None,
    notices: t.Optional[t.Callable[[Want, Seen], t.Sequence[Problem]]] = None,
    exclusive: bool = True,
    **module_options: t.Any,
) -> None:
    """Run one module and leave the process.

    ``settle`` waits for what was started, also when nothing changed: an earlier run may have been killed before it did.
    Returns to Ansible ``changed`` (the plan is not empty), ``actions`` (a sentence for each change), ``diff``, and what
    ``result`` adds; the warnings that ``notices`` has about what was seen are ``problems``. A SlipwayError from any
    verb fails the module with all its problems, and with what was done before.
    """
    module = AnsibleModule(argument_spec=argument_spec, supports_check_mode=True, **module_options)
    machine = Machine()
    os.umask(0o022)  # who may pass a directory that is made on the way is not up to the login's umask
    name = str(module._name).rsplit(".", 1)[-1]  # noqa: SLF001  # AnsibleModule has no public name
    done: list[str] = []

    def fail(problems: t.Sequence[Problem]) -> t.NoReturn:
        told = [problem.as_dict() for problem in problems]
        text = "\n".join(problem.text() for problem in problems)
        module.fail_json(msg=text, problems=told, changed=bool(done), actions=done)
        raise AssertionError("fail_json does not return")

    try:
        want = parse(module.params)
        with contextlib.nullcontext() if module.check_mode else host_lock(name) if exclusive else renewed_hold():
            seen = observe(machine, want)
            changes = plan(want, seen)
            warnings = notices(want, seen) if notices else ()
            if not module.check_mode:
                for change in changes:
                    _fault(name, change, "before")
                    apply(machine, want, change)
                    done.append(change.text())
                    _fault(name, change, "after")
                if settle:
                    settle(machine, want)
            extra = result(machine, want) if result else {}
            if warnings:
                extra["problems"] = [warning.as_dict() for warning in warnings]
    except SlipwayError as error:
        fail(error.problems)
    except OSError as error:
        fail([Problem(str(error.filename or name), error.strerror or str(error), remedy=_remedy(error))])
    module.exit_json(
        changed=bool(changes),
        actions=[change.text() for change in changes],
        diff=diffs(changes) if module._diff else [],  # noqa: SLF001
        **extra,
    )


def _remedy(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "free space on this file system and run again" if full else ""


@contextlib.contextmanager
def host_lock(name: str) -> t.Iterator[None]:
    """Hold the host for one module; a module can outlive the controller that started it."""
    os.makedirs(RUN_DIRECTORY, mode=0o700, exist_ok=True)
    with open(LOCK_PATH, "a+", encoding="utf-8") as stream:
        _wait_for_lock(stream)
        stream.truncate(0)
        stream.write(json.dumps({"pid": os.getpid(), "module": name, "since": int(time.time()), "from": origin()}))
        stream.flush()
        with renewed_hold():
            yield
        stream.truncate(0)


@contextlib.contextmanager
def renewed_hold() -> t.Iterator[None]:
    """Keep the hold of this host alive for as long as a module is at work; see core/hold.py.

    Whoever is at work here is the run that holds the cluster, if one does.
    """
    ended = threading.Event()

    def renew() -> None:
        with contextlib.suppress(OSError):
            os.utime(HOLD_PATH)

    def keep() -> None:
        while not ended.wait(RENEW_SECONDS):
            renew()

    keeper = threading.Thread(target=keep, daemon=True)
    renew()
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()
        renew()


def _wait_for_lock(stream: t.IO[str]) -> None:
    end = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() >= end:
            stream.seek(0)
            raise SlipwayError(
                Problem(
                    LOCK_PATH,
                    f"held for {LOCK_TIMEOUT_SECONDS:g} s by {stream.read() or 'a process that did not name itself'}",
                    "one Slipway module at a time on a host",
                    "wait for it to end, or end that process",
                )
            )
        time.sleep(0.2)


def origin() -> str:
    """The address that the controller came from."""
    return os.environ.get("SSH_CONNECTION", "this host").split(" ", 1)[0]


def _fault(module: str, change: Change, when: str) -> None:
    """Die here if a test asked for it: the file lists faults, each of a module, a change's text, and before or after.

    The one that is met is taken off the list first, so that the next run gets further.
    """
    try:
        with open(FAULT_PATH, encoding="utf-8") as stream:
            faults = json.load(stream)
    except (OSError, ValueError):
        return
    faults = faults if isinstance(faults, list) else [faults]
    met = {"module": module, "change": change.text(), "when": when}
    if met not in faults:
        return
    faults.remove(met)
    if faults:
        with open(FAULT_PATH, "w", encoding="utf-8") as stream:
            json.dump(faults, stream)
    else:
        os.unlink(FAULT_PATH)
    os.kill(os.getpid(), signal.SIGKILL)
