# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe and prepare this host, see core/preparation.py."""

from __future__ import annotations

import os
import typing as t

from ..core.change import Change
from ..core.preparation import HostSeen, HostWant, active_swaps, swap_entries, without_swap
from ..core.problems import Problem, SlipwayError
from ..core.state import SeenState
from .machine import Machine
from .state import apply_state, observe_state

FSTAB = "/etc/fstab"
APT_LOCK_SECONDS = 600


def observe_host(machine: Machine, want: HostWant) -> HostSeen:
    """What the host is, of everything the target names."""
    state = observe_state(machine, want.state)
    return observe_kernel(machine, state, tuple(want.packages), want.modules, tuple(want.sysctls))


def observe_kernel(
    machine: Machine, state: SeenState, programs: t.Sequence[str], modules: t.Sequence[str], sysctls: t.Sequence[str]
) -> HostSeen:
    """The given state together with programs, kernel modules, settings and swap."""
    values = {key: machine.read_text("/proc/sys/" + key.replace(".", "/")) for key in sysctls}
    return HostSeen(
        state=state,
        programs=frozenset(program for program in programs if machine.which(program)),
        modules=loaded_modules(machine, modules),
        sysctls={key: " ".join(value.split()) for key, value in values.items() if value is not None},
        swaps=active_swaps(machine.read_text("/proc/swaps") or ""),
        swap_entries=swap_entries(machine.read_text(FSTAB) or ""),
    )


def loaded_modules(machine: Machine, names: t.Iterable[str]) -> t.Optional[frozenset[str]]:
    """Which of the kernel modules are there, built in or loaded; None on a kernel without modules."""
    if not machine.exists("/proc/modules"):
        return None
    loaded = {line.split(" ", 1)[0] for line in (machine.read_text("/proc/modules") or "").splitlines()}
    builtin = machine.read_text(f"/lib/modules/{os.uname().release}/modules.builtin") or ""
    built = {os.path.basename(line).split(".", 1)[0].replace("-", "_") for line in builtin.splitlines()}
    return frozenset(name for name in names if name in loaded or name in built or machine.exists(f"/sys/module/{name}"))


def apply_host(machine: Machine, change: Change) -> None:
    """Carry out one change of plan_host."""
    if not (isinstance(change.data, tuple) and change.data[0] in _VERBS):
        apply_state(machine, change)
        return
    verb, item = change.data
    _VERBS[verb](machine, item)


def _install(machine: Machine, packages: t.Sequence[str]) -> None:
    lock = f"DPkg::Lock::Timeout={APT_LOCK_SECONDS}"
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    apt = ["apt-get", "-q", "-y", "-o", lock]
    machine.run(["dpkg", "--configure", "-a"], env=env, timeout=APT_LOCK_SECONDS)
    machine.run([*apt, "update"], env=env, timeout=APT_LOCK_SECONDS, check=False)
    call = [*apt, "--no-install-recommends", "install", *packages]
    done = machine.run(call, env=env, timeout=2 * APT_LOCK_SECONDS, check=False)
    if done.rc != 0:
        raise SlipwayError(
            Problem(
                "packages " + ", ".join(packages),
                "apt-get could not install them: " + " ".join(done.stderr.split())[-500:],
                "a package source of the distribution that has them",
                "give the host its package source, or install them by hand",
            )
        )
    if "haproxy" in packages:
        # The package starts a service of its own; Slipway runs the program as a unit of its own.
        machine.run(["systemctl", "disable", "--now", "haproxy.service"], check=False)


def _load_module(machine: Machine, name: str) -> None:
    machine.run(["modprobe", name])


def _set_sysctl(machine: Machine, setting: tuple[str, str]) -> None:
    key, value = setting
    with open("/proc/sys/" + key.replace(".", "/"), "w", encoding="utf-8") as stream:
        stream.write(value)
    del machine


def _switch_swap_off(machine: Machine, entries: t.Sequence[str]) -> None:
    machine.run(["swapoff", "-a"], timeout=600)
    if entries:
        status = os.stat(FSTAB)
        machine.write(FSTAB, without_swap(machine.read_text(FSTAB) or "").encode(), mode=status.st_mode & 0o777)
        machine.run(["systemctl", "daemon-reload"])


_VERBS: dict[str, t.Callable[[Machine, t.Any], None]] = {
    "packages": _install,
    "module": _load_module,
    "sysctl": _set_sysctl,
    "swap": _switch_swap_off,
}
