# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""This run as others see it: the controller's process that it is, and whether another one still lives."""

from __future__ import annotations

import functools
import os
import socket
from pathlib import Path


@functools.cache
def machine() -> str:
    """A name for this boot of this machine and its table of processes; a container has one of its own."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        table = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return socket.gethostname()
    return f"{boot}/{table}"


def run_id(pid: int | None = None) -> str:
    """The run of which this is a worker: machine, process and when that began. Action plugins run in children of it."""
    number = os.getppid() if pid is None else pid
    return f"{machine()} {number} {_began(number)}"


def is_dead(run: str) -> bool:
    """Whether a run was one of this machine and its process is no more; of other machines nothing can be said."""
    where, _unused, rest = run.partition(" ")
    pid, _unused, began = rest.partition(" ")
    return where == machine() and pid.isdigit() and not _lives(int(pid), began)


def _lives(pid: int, began: str) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    state, since = _seen(pid)
    # One that ended and that nobody asked after still has its number; one that /proc does not show may be any.
    return state not in ("Z", "X") and since in ("", began)


def _began(pid: int) -> str:
    """When the process began, in the kernel's ticks; empty where there is no such process, or no /proc."""
    return _seen(pid)[1]


def _seen(pid: int) -> tuple[str, str]:
    """The process's state and when it began."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return "", ""
    # The second field is the program's name in brackets, which may hold blanks; proc(5) counts from one.
    fields = text.rpartition(")")[2].split()
    return fields[0], fields[19]
