# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units as systemctl shows them."""

from __future__ import annotations

import typing as t

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
)


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
            seen[name] = SeenUnit(
                loaded=True,
                active=properties.get("ActiveState", ""),
                enabled=properties.get("UnitFileState", "") in ("enabled", "enabled-runtime", "alias", "static"),
                digest=_running_digest(machine, properties.get("MainPID", "0")),
                needs_reload=properties.get("NeedDaemonReload") == "yes",
            )
    return seen


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


def unit_failure(machine: Machine, name: str) -> str:
    """Why the unit is not up: its state and the last lines it logged."""
    state = machine.run(["systemctl", "show", "--property", "ActiveState,SubState,Result", "--", name], check=False)
    lines = machine.run(["journalctl", "--no-pager", "-n", "12", "-o", "cat", "-u", name], check=False)
    return " ".join(state.stdout.split()) + "; log: " + " | ".join(lines.stdout.strip().splitlines()[-8:])
