# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host needs before a cluster's components run on it: packages, kernel settings, no swap, users, directories."""

from __future__ import annotations

import dataclasses
import typing as t

from .change import Change
from .state import HostState, SeenState, plan_state

# Which kernel module brings a setting that is not there without it.
SYSCTL_MODULES = {"net.bridge.": "br_netfilter"}


@dataclasses.dataclass(frozen=True)
class HostWant:
    """What the host should be.

    ``packages`` maps a program to the package that brings it; ``modules`` and ``sysctls`` are set now, their files for
    the next boot are part of ``state``; a setting's numbers are separated by one space, as they are observed.
    ``swap`` is ``disable`` or ``keep``.
    """

    state: HostState = HostState()
    packages: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    modules: tuple[str, ...] = ()
    sysctls: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    swap: str = "disable"

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> HostWant:
        """The target the module's parameters describe."""
        return cls(
            HostState.from_data(data.get("state") or {}),
            dict(data.get("packages") or {}),
            tuple(data.get("modules") or ()),
            {key: " ".join(str(value).split()) for key, value in (data.get("sysctls") or {}).items()},
            data.get("swap") or "disable",
        )

    def to_data(self) -> dict[str, t.Any]:
        """Parameters from which ``from_data`` makes the same target."""
        return {
            "state": self.state.to_data(),
            "packages": dict(self.packages),
            "modules": list(self.modules),
            "sysctls": dict(self.sysctls),
            "swap": self.swap,
        }


@dataclasses.dataclass(frozen=True)
class HostSeen:
    """What the host is.

    ``modules`` is None on a kernel that loads none; a setting that does not exist is missing from ``sysctls``;
    ``swaps`` are the areas in use and ``swap_entries`` what would bring them back at boot.
    """

    state: SeenState = SeenState()
    programs: frozenset[str] = frozenset()
    modules: t.Optional[frozenset[str]] = None
    sysctls: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    swaps: tuple[str, ...] = ()
    swap_entries: tuple[str, ...] = ()


def plan_host(want: HostWant, seen: HostSeen) -> list[Change]:
    """The steps, in the order in which they can be carried out."""
    packages = sorted({want.packages[program] for program in want.packages if program not in seen.programs})
    changes = [Change(f"install packages {', '.join(packages)}", data=("packages", packages))] if packages else []
    changes += plan_state(want.state, seen.state)
    loaded = seen.modules if seen.modules is not None else frozenset(want.modules)
    missing = [name for name in want.modules if name not in loaded]
    changes += [Change(f"load kernel module {name}", data=("module", name)) for name in missing]
    changes += [
        Change(
            f"set {key}",
            before=f"{seen.sysctls.get(key, '')}\n",
            after=f"{value}\n",
            data=("sysctl", (key, value)),
        )
        for key, value in want.sysctls.items()
        if seen.sysctls.get(key) != value and (key in seen.sysctls or _brought_by(key, missing))
    ]
    if want.swap == "disable" and (seen.swaps or seen.swap_entries):
        areas = ", ".join(dict.fromkeys([*seen.swaps, *seen.swap_entries]))
        changes.append(Change("switch swap off", before=f"{areas}\n", data=("swap", seen.swap_entries)))
    return changes


def _brought_by(key: str, modules: t.Sequence[str]) -> bool:
    return any(key.startswith(prefix) and module in modules for prefix, module in SYSCTL_MODULES.items())


def swap_entries(fstab: str) -> tuple[str, ...]:
    """The devices of fstab's active swap lines (fstab(5): the third field is the type)."""
    lines = (line.split() for line in fstab.splitlines() if not line.lstrip().startswith("#"))
    return tuple(fields[0] for fields in lines if len(fields) >= 3 and fields[2] == "swap")


def without_swap(fstab: str) -> str:
    """fstab with its swap lines commented out."""

    def line_without(line: str) -> str:
        return f"# switched off by Slipway: {line}" if swap_entries(line) else line

    return "".join(line_without(line) for line in fstab.splitlines(keepends=True))


def active_swaps(proc_swaps: str) -> tuple[str, ...]:
    """The areas in use, from /proc/swaps (its first line is a heading)."""
    return tuple(line.split()[0] for line in proc_swaps.splitlines()[1:] if line.strip())
