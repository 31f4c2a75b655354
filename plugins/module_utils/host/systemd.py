# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units as systemctl shows them."""

from __future__ import annotations

import os
import time
import typing as t

from ..core.artifacts import CURRENT, ROOT
from ..core.state import DIGEST_VARIABLE, SeenUnit
from .machine import Machine

_PROPERTIES = (
    "Id",
    "LoadState",
    "ActiveState",
    "UnitFileState",
    "MainPID",
    "NeedDaemonReload",
    "SubState",
    "NRestarts",
    "DropInPaths",
)
_DELETED = " (deleted)"


def show_units(machine: Machine, names: t.Iterable[str]) -> dict[str, SeenUnit]:
    """What systemd knows of the units; one that is not loaded is left out."""
    wanted = sorted(set(names))
    if not wanted:
        return {}
    output = machine.run(["systemctl", "show", "--property", ",".join(_PROPERTIES), "--", *wanted], check=False)
    seen = {}
    for name, block in zip(wanted, output.stdout.strip().split("\n\n")):
        properties = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if properties.get("LoadState") == "loaded":
            pid = properties.get("MainPID", "0")
            program, starts, runs = _running_program(machine, pid)
            seen[name] = SeenUnit(
                loaded=True,
                active=properties.get("ActiveState", ""),
                enabled=properties.get("UnitFileState", "") in ("enabled", "enabled-runtime", "alias", "static"),
                digest=_running_digest(machine, pid),
                needs_reload=properties.get("NeedDaemonReload") == "yes",
                program=program,
                starts=starts,
                runs=runs,
                drop_ins=own_drop_ins(properties.get("DropInPaths", "").split()),
            )
    return seen


def own_drop_ins(paths: t.Iterable[str]) -> tuple[str, ...]:
    """Those that somebody on this host made for the unit: not a package's, nor those of every unit of a type."""
    return tuple(
        path
        for path in paths
        if path.startswith(("/etc/systemd/system", "/run/systemd/system"))
        and os.path.basename(os.path.dirname(path)) not in ("service.d", "timer.d")
    )


def _running_program(machine: Machine, pid: str) -> tuple[str, str, str]:
    """``program``, ``starts`` and ``runs`` of SeenUnit. systemd calls a process by the path that its unit names."""
    nothing = ("", "", "")
    if pid in ("", "0"):
        return nothing
    try:
        program = (machine.read(f"/proc/{pid}/cmdline") or b"").split(b"\0")[0].decode("utf-8", "replace")
        if not program.startswith(f"{ROOT}/") or f"/{CURRENT}/" not in program:
            return nothing
        runs = os.readlink(f"/proc/{pid}/exe")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return nothing
    starts = os.path.realpath(program)
    # A restart helps only where another file has taken the place of the one that is gone.
    if runs.endswith(_DELETED) and not os.path.exists(starts):
        runs = runs[: -len(_DELETED)]
    return program, _below_root(starts), _below_root(runs)


def _below_root(path: str) -> str:
    """The path by its usual name where ROOT is a link, or lies below one."""
    root = os.path.realpath(ROOT)
    return ROOT + path[len(root) :] if path.startswith(root + "/") else path


def _running_digest(machine: Machine, pid: str) -> str:
    if pid in ("", "0"):
        return ""
    prefix = (DIGEST_VARIABLE + "=").encode()
    try:
        environment = machine.read(f"/proc/{pid}/environ") or b""
    except (ProcessLookupError, PermissionError):
        return ""
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix):
            return entry[len(prefix) :].decode()
    return ""


def started(machine: Machine, name: str) -> t.Optional[float]:
    """When the unit's process that runs now was started, in Unix seconds of this host's clock; None if none runs."""
    show = ["systemctl", "show", "--property", "MainPID,ExecMainStartTimestampMonotonic", "--", name]
    output = machine.run(show, check=False).stdout
    properties = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    if properties.get("MainPID", "0") == "0":
        return None
    # Whoever sets the clock does not change the answer.
    age = time.clock_gettime(time.CLOCK_MONOTONIC) - int(properties["ExecMainStartTimestampMonotonic"]) / 1e6
    return time.time() - age


def unit_failure(machine: Machine, name: str) -> str:
    """Why the unit is not up: its state and the last lines it logged."""
    state = machine.run(["systemctl", "show", "--property", "ActiveState,SubState,Result", "--", name], check=False)
    lines = machine.run(["journalctl", "--no-pager", "-n", "12", "-o", "cat", "-u", name], check=False)
    return " ".join(state.stdout.split()) + "; log: " + " | ".join(lines.stdout.strip().splitlines()[-8:])
