# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine must have before hosts can run on it."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from slipway.lab.model import GIB

MEMORY_BASE = 1.0 * GIB
DISK_FREE = 15 * GIB
INOTIFY_INSTANCES = 8192
PYTHON = (3, 12)

# Program or helper → Debian package that has it.
PACKAGES = {
    "podman": "podman",
    "runc": "runc",
    "netavark": "netavark",
    "iptables": "iptables",
    "ip": "iproute2",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
IMAGE_PACKAGES = {"mmdebstrap": "mmdebstrap"}

_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_HELPERS = ("/usr/lib/podman", "/usr/libexec/podman", "/usr/local/libexec/podman")


@dataclasses.dataclass(frozen=True)
class Machine:
    """What was found on the machine; memory and disk in bytes, ``python`` as (major, minor)."""

    root: bool
    python: tuple[int, int]
    programs: frozenset[str]
    memory_available: int
    disk_free: int
    storage: str


def look() -> Machine:
    """Look at this machine; reads only."""
    storage = Path("/var/lib/containers")
    while not storage.exists():
        storage = storage.parent
    return Machine(
        root=os.geteuid() == 0,
        python=(sys.version_info[0], sys.version_info[1]),
        programs=frozenset(name for name in {**PACKAGES, **IMAGE_PACKAGES} if _has(name)),
        memory_available=memory_available(Path("/proc/meminfo").read_text(encoding="utf-8")),
        disk_free=shutil.disk_usage(storage).free,
        storage=str(storage),
    )


def _has(program: str) -> bool:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin", *_HELPERS])
    return shutil.which(program, path=path) is not None


def memory_available(meminfo: str) -> int:
    """Bytes of memory that programs can still get, out of /proc/meminfo."""
    fields = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return int(fields["MemAvailable"].split()[0]) * 1024


def machine_problems(machine: Machine, *, new_hosts: int, memory: float, needs_image: bool) -> list[Problem]:
    """Everything that keeps ``new_hosts`` more hosts, each of ``memory`` bytes, from running here; pure."""
    problems = []
    if not machine.root:
        problems.append(
            Problem("user", "not root", "root: hosts are privileged containers", "repeat it with sudo or as root")
        )
    if machine.python < PYTHON:
        found = "{}.{}".format(*machine.python)
        problems.append(Problem("python", found, "3.12 or newer", "make the virtual environment with a newer Python"))
    problems += _package_problems(machine.programs, needs_image=needs_image)
    if new_hosts:
        problems += _room_problems(machine, new_hosts, MEMORY_BASE + memory * new_hosts)
    return problems


def _package_problems(programs: t.Collection[str], *, needs_image: bool) -> list[Problem]:
    needed = {**PACKAGES, **(IMAGE_PACKAGES if needs_image else {})}
    missing = [name for name in needed if name not in programs]
    if not missing:
        return []
    packages = " ".join(dict.fromkeys(needed[name] for name in missing))
    return [Problem("programs", f"missing {', '.join(missing)}", "", f"apt-get install {packages}")]


def _room_problems(machine: Machine, new_hosts: int, memory: float) -> list[Problem]:
    problems = []
    if machine.memory_available < memory:
        problems.append(
            Problem(
                "memory",
                f"{machine.memory_available / GIB:.1f} GiB available",
                f"{memory / GIB:.1f} GiB for {new_hosts} more hosts",
                "use fewer hosts or take another lab down (`slipway lab list`)",
            )
        )
    if machine.disk_free < DISK_FREE:
        problems.append(
            Problem(
                "disk",
                f"{machine.disk_free / GIB:.1f} GiB free in {machine.storage}",
                f"{DISK_FREE / GIB:.0f} GiB",
                "free some: unused images (`podman image prune`), volumes, other labs (`slipway lab list`)",
            )
        )
    return problems


def legacy_cgroups() -> bool:
    """Whether the machine uses version 1 or hybrid cgroups."""
    return not Path("/sys/fs/cgroup/cgroup.controllers").exists()


def raise_inotify_limit() -> str:
    """Raise the machine's limit of inotify instances if it is too low; says what it did, or nothing.

    With the kernel's default of 128 per user, kubelets crash from about the fourth host on.
    """
    now = int(_INOTIFY.read_text(encoding="utf-8"))
    if now >= INOTIFY_INSTANCES:
        return ""
    _INOTIFY.write_text(f"{INOTIFY_INSTANCES}\n", encoding="utf-8")
    return f"machine: fs.inotify.max_user_instances raised from {now} to {INOTIFY_INSTANCES} until the next boot"
