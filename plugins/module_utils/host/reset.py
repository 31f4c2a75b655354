# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe and remove what Slipway made on this host, see core/reset.py."""

from __future__ import annotations

import contextlib
import errno
import glob
import grp
import json
import os
import pwd
import re
import signal
import typing as t

from ..core import places
from ..core.change import Change
from ..core.problems import Problem, SlipwayError
from ..core.reset import (
    BRIDGE,
    CONTAINERD_CONFIG,
    EMPTY_DIRECTORIES,
    INTERFACES,
    MARK_DIRECTORY,
    MOUNT_ROOTS,
    NAMESPACES,
    PATHS,
    PODS_SLICE,
    RUN_DIRECTORY,
    RUN_KEPT,
    RUNTIME_PATHS,
    STOP_ORDER,
    SYSCTL_ASIDE,
    SYSCTL_FILE,
    TABLES,
    OwnUnit,
    ResetSeen,
    ResetWant,
)
from ..core.state import SeenUnit
from .facts import ask_ip
from .machine import Machine
from .systemd import show_units

_TRACES = (MARK_DIRECTORY, "/opt/slipway", "/var/lib/slipway")
_OWN_TEXT = re.compile(r"Slipway|SLIPWAY_DIGEST")
# As Machine.write and Machine.link name what they have not finished.
_TEMPORARY = ".slipway-" + "[a-z0-9_]" * 8
_HALF_WRITTEN = (
    *(
        f"{directory}/{_TEMPORARY}"
        for directory in (
            "/etc",
            "/etc/cni/net.d",
            "/etc/containerd",
            "/etc/modules-load.d",
            "/etc/sysctl.d",
            places.UNIT_DIRECTORY,
            f"{places.UNIT_DIRECTORY}/cri-containerd-.scope.d",
        )
    ),
    "/usr/local/bin/*.slipway-[0-9]*",
)
_HOME = "/nonexistent"
_STOP_SECONDS = 180.0


def observe_reset(machine: Machine, want: ResetWant) -> ResetSeen:
    """What there is to remove; nothing is looked at further where Slipway never was."""
    units, mounted = observe_units(machine), mount_points(machine)
    if not any(_holds(path, mounted) for path in _TRACES) and not any(unit.file for unit in units.values()):
        return ResetSeen()
    return ResetSeen(
        ours=True,
        mark=_mark(machine),
        units=units,
        containers=bool(container_pids(machine)) or _is_up(show_units(machine, [PODS_SLICE]).get(PODS_SLICE)),
        mounts=tuple(root for root in MOUNT_ROOTS if below(root, mounted)),
        namespaces=tuple(sorted(glob.glob(NAMESPACES))),
        interfaces=interfaces(machine),
        tables=tables(machine),
        runtime_ours=_runtime_is_ours(machine, units),
        paths=frozenset(path for path in (*PATHS, *RUNTIME_PATHS) if _holds(path, mounted)),
        links=_links(),
        addresses=_addresses(want.confirm),
        leftovers=tuple(sorted(path for pattern in _HALF_WRITTEN for path in glob.glob(pattern))),
        settings=machine.exists(SYSCTL_FILE) or machine.exists(SYSCTL_ASIDE),
        run_files=tuple(f"{RUN_DIRECTORY}/{name}" for name in sorted(set(_entries(RUN_DIRECTORY)) - set(RUN_KEPT))),
        users=tuple(name for name in places.USERS if _is_own_user(name)),
        entries={path: frozenset(_entries(path)) for path in EMPTY_DIRECTORIES if os.path.isdir(path)},
    )


def apply_reset(machine: Machine, want: ResetWant, change: Change) -> None:
    """Carry out one change of plan_reset; safe to repeat and safe to be killed in."""
    del want
    verb, argument = change.data
    # Whatever is cut off: the host says until the end that it is ours.
    os.makedirs(MARK_DIRECTORY, exist_ok=True)
    _VERBS[verb](machine, argument)


# --- observing -------------------------------------------------------------------------------------------------------


def observe_units(machine: Machine) -> dict[str, OwnUnit]:
    """Units of ours by name. A unit of that name that another has put there is left out."""
    shown = show_units(machine, STOP_ORDER)
    found = {}
    for name in STOP_ORDER:
        text = machine.read_text(f"{places.UNIT_DIRECTORY}/{name}")
        ours = bool(_OWN_TEXT.search(text)) if text is not None else False
        seen = shown.get(name, SeenUnit())
        links = unit_links(name)
        orphaned = text is None and any(not os.path.exists(link) for link in links)
        if ours or orphaned or seen.digest or (seen.loaded and name.startswith("slipway-")) or seen.needs_reload:
            found[name] = OwnUnit(_is_up(seen), text is not None and ours, bool(links), seen.needs_reload)
    return found


def unit_links(name: str) -> list[str]:
    """The links by which targets want the unit."""
    return sorted(glob.glob(f"{places.UNIT_DIRECTORY}/*.wants/{name}"))


def _is_up(seen: t.Optional[SeenUnit]) -> bool:
    return seen is not None and seen.active in ("active", "activating", "reloading", "deactivating")


def _mark(machine: Machine) -> str:
    try:
        return str(json.loads(machine.read_text(places.CLUSTER) or "{}").get("name") or "")
    except (ValueError, AttributeError):
        return ""


def _runtime_is_ours(machine: Machine, units: t.Mapping[str, OwnUnit]) -> bool:
    config = machine.read_text(CONTAINERD_CONFIG)
    unit = units.get("containerd.service", OwnUnit())
    return bool(_OWN_TEXT.search(config)) if config is not None else unit.file


def mount_points(machine: Machine) -> list[str]:
    """Every mount point of the host, as often as something is mounted there."""
    lines = (machine.read_text("/proc/self/mounts") or "").splitlines()
    return [re.sub(r"\\([0-7]{3})", lambda code: chr(int(code.group(1), 8)), line.split(" ")[1]) for line in lines]


def below(root: str, mounted: t.Iterable[str]) -> list[str]:
    """The mount points below the path, the innermost first."""
    return sorted((path for path in mounted if path.startswith(root + "/")), key=lambda path: -path.count("/"))


def container_pids(machine: Machine) -> set[int]:
    """Processes in pods, and the shims that started them with all they started."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                parents[int(entry)] = _parent(machine, entry)
                if _is_container(machine, entry):
                    found.add(int(entry))
    while True:
        children = {pid for pid, parent in parents.items() if parent in found} - found
        if not children:
            return found
        found |= children


def _parent(machine: Machine, pid: str) -> int:
    # The second field is the command in brackets, which may itself hold brackets and blanks.
    return int((machine.read_text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()[1])


def _is_container(machine: Machine, pid: str) -> bool:
    if "/kubepods" in (machine.read_text(f"/proc/{pid}/cgroup") or ""):
        return True
    return os.readlink(f"/proc/{pid}/exe").startswith("/opt/slipway/containerd/") and "-shim-" in (
        machine.read_text(f"/proc/{pid}/cmdline") or ""
    )


def interfaces(machine: Machine) -> tuple[str, ...]:
    """The bridge of the pods, what hangs on it, and flannel's tunnel."""
    links = [link for link in ask_ip(machine, "link", "show") if link]
    hanging = sorted(link["ifname"] for link in links if link.get("master") == BRIDGE)
    return (*hanging, *(name for name in INTERFACES if any(link["ifname"] == name for link in links)))


def tables(machine: Machine) -> tuple[str, ...]:
    """Family and name of each nftables table of ours."""
    words = [line.split() for line in machine.run(["nft", "list", "tables"], check=False).stdout.splitlines()]
    return tuple(f"{word[1]} {word[2]}" for word in words if len(word) == 3 and word[2] in TABLES)


def _holds(path: str, mounted: t.Container[str]) -> bool:
    return bool(_entries(path)) if path in mounted else os.path.lexists(path)


def _entries(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _links() -> tuple[str, ...]:
    paths = sorted(glob.glob("/usr/local/bin/*"))
    return tuple(path for path in paths if os.path.islink(path) and os.readlink(path).startswith("/opt/slipway/"))


def _addresses(cluster: str) -> tuple[str, ...]:
    """host-local's and the runtime's notes on the cluster's network, which has the cluster's name."""
    patterns = (f"networks/{cluster}", f"results/{cluster}-*", "results/cni-loopback-*")
    return tuple(sorted(path for pattern in patterns for path in glob.glob(f"/var/lib/cni/{pattern}")))


def _is_own_user(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_dir == _HOME
    except KeyError:
        return _is_bare_group(name)


def _is_bare_group(name: str) -> bool:
    try:
        group = grp.getgrnam(name)
    except KeyError:
        return False
    return not group.gr_mem and all(user.pw_gid != group.gr_gid for user in pwd.getpwall())


# --- removing --------------------------------------------------------------------------------------------------------


def _stop(machine: Machine, name: str) -> None:
    machine.run(["systemctl", "stop", name], timeout=_STOP_SECONDS)


def _end_containers(machine: Machine, _argument: None) -> None:
    def running() -> t.Optional[str]:
        pids = container_pids(machine)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return f"processes {', '.join(map(str, sorted(pids)[:8]))}" if pids else None

    machine.wait("containers", running, timeout=30, remedy="see what they wait for with ps -o pid,stat,wchan,args")
    machine.run(["systemctl", "stop", PODS_SLICE], check=False, timeout=_STOP_SECONDS)
    _remove_cgroups()


def _remove_cgroups() -> None:
    """Take away what systemd leaves of the pods in hierarchies that it does not manage (cgroup version 1)."""
    for root in (*glob.glob(f"/sys/fs/cgroup/*/{PODS_SLICE}"), f"/sys/fs/cgroup/{PODS_SLICE}"):
        for directory, _names, _files in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _unmount(machine: Machine, root: str) -> None:
    for path in below(root, mount_points(machine)):
        if machine.run(["umount", path], check=False).rc != 0:
            # Somebody is in it: it leaves the tree now and ends when they do.
            machine.run(["umount", "--lazy", path], check=False)
    rest = below(root, mount_points(machine))
    if rest:
        raise SlipwayError(Problem(rest[0], "is still mounted", "no mount", f"see what uses it: fuser -vm {rest[0]}"))


def _remove_namespaces(machine: Machine, paths: t.Sequence[str]) -> None:
    for path in paths:
        machine.run(["umount", "--lazy", path], check=False)
        machine.remove(path)


def _remove_interface(machine: Machine, name: str) -> None:
    if os.path.exists(f"/sys/class/net/{name}"):
        done = machine.run(["ip", "link", "delete", name], check=False)
        # One end of a pair goes with the other, also while we ask.
        if done.rc != 0 and os.path.exists(f"/sys/class/net/{name}"):
            raise SlipwayError(Problem(f"interface {name}", " ".join(done.stderr.split()), "to be removed"))


def _remove_table(machine: Machine, name: str) -> None:
    if name in tables(machine):
        machine.run(["nft", "delete", "table", *name.split()])


def _remove_paths(machine: Machine, paths: t.Sequence[str]) -> None:
    """Remove each path; a mount point is emptied. Never reaches into what is mounted below."""
    mounted = mount_points(machine)
    for path in paths:
        inner = below(path, mounted)
        if inner:
            raise SlipwayError(
                Problem(inner[0], "is mounted there", "nothing of others in it", f"unmount it: umount {inner[0]}")
            )
        if path in mounted:
            for name in _entries(path):
                machine.remove(f"{path}/{name}")
        else:
            machine.remove(path)
            if path == "/etc/systemd/logind.conf.d/99-kubelet.conf":
                machine.run(["systemctl", "kill", "--signal=HUP", "systemd-logind.service"], check=False)


def _set_back(machine: Machine, _argument: None) -> None:
    """The settings as the system's other files have them; one that they do not name keeps its value until boot."""
    if machine.exists(SYSCTL_FILE):
        os.replace(SYSCTL_FILE, SYSCTL_ASIDE)
    keys = re.findall(r"^([\w./-]+)\s*=", machine.read_text(SYSCTL_ASIDE) or "", re.MULTILINE)
    prefixes = [f"--prefix=/{key.replace('.', '/')}" for key in keys]
    if prefixes:
        machine.run(["/usr/lib/systemd/systemd-sysctl", *prefixes], check=False)
    machine.remove(SYSCTL_ASIDE)


def _remove_unit(machine: Machine, name: str) -> None:
    for path in (*unit_links(name), f"{places.UNIT_DIRECTORY}/{name}"):
        machine.remove(path)


def _reload(machine: Machine, _argument: None) -> None:
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "reset-failed", *STOP_ORDER], check=False)


def _remove_user(machine: Machine, name: str) -> None:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        machine.run(["userdel", name])
    if _is_bare_group(name):
        machine.run(["groupdel", name])


def _remove_directory(machine: Machine, path: str) -> None:
    del machine
    try:
        os.rmdir(path)
    except OSError as error:
        # Something came into it meanwhile, or it is a mount point: it stays.
        if error.errno not in (errno.ENOTEMPTY, errno.EBUSY, errno.ENOENT):
            raise


_VERBS: dict[str, t.Callable[[Machine, t.Any], None]] = {
    "stop": _stop,
    "containers": _end_containers,
    "unmount": _unmount,
    "namespaces": _remove_namespaces,
    "interface": _remove_interface,
    "table": _remove_table,
    "remove": _remove_paths,
    "settings": _set_back,
    "unit": _remove_unit,
    "reload": _reload,
    "user": _remove_user,
    "directory": _remove_directory,
}
