# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe and bring about a target of core/state.py on this host."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
import typing as t

from ..core.change import Change
from ..core.problems import Problem, SlipwayError
from ..core.state import (
    Absent,
    Directory,
    File,
    HostState,
    Link,
    SeenPath,
    SeenState,
    Unit,
    User,
    content_bytes,
    open_placeholders,
)
from .machine import UNIT_TIMEOUT_SECONDS, Machine, group_name, user_name
from .systemd import show_units, unit_failure


def observe_state(machine: Machine, target: HostState) -> SeenState:
    """What the host holds of everything the target names."""
    secret = {file.path for file in target.files if file.secret}
    paths = [directory.path for directory in target.directories]
    paths += [file.path for file in target.files]
    paths += [link.path for link in target.links]
    paths += [absent.path for absent in target.absent]
    return SeenState(
        users=frozenset(user.name for user in target.users if user_exists(user.name)),
        paths=observe_paths(machine, paths, secret=secret),
        units=show_units(machine, [unit.name for unit in target.units]),
    )


def observe_paths(machine: Machine, paths: t.Iterable[str], *, secret: t.Container[str] = ()) -> dict[str, SeenPath]:
    """Each existing path with kind, owner, mode and digest; the text of files that everyone may read."""
    seen = {}
    for path in paths:
        found = observe_path(machine, path, hide=path in secret)
        if found is not None:
            seen[path] = found
    return seen


def observe_path(machine: Machine, path: str, *, hide: bool = False) -> t.Optional[SeenPath]:
    """One path, or None where there is nothing. Text is shown for small files that others may read."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    owner, group, mode = user_name(status.st_uid), group_name(status.st_gid), f"{stat.S_IMODE(status.st_mode):04o}"
    if stat.S_ISLNK(status.st_mode):
        return SeenPath("link", target=os.readlink(path))
    if stat.S_ISDIR(status.st_mode):
        return SeenPath("directory", mode, owner, group)
    if not stat.S_ISREG(status.st_mode):
        return SeenPath("other", mode, owner, group)
    content = machine.read(path) or b""
    shown = not hide and status.st_mode & stat.S_IROTH and len(content) < 65536 and b"\0" not in content
    text = content.decode("utf-8", "replace") if shown else ""
    return SeenPath("file", mode, owner, group, hashlib.sha256(content).hexdigest(), text=text)


def apply_state(machine: Machine, change: Change) -> None:
    """Carry out one change of plan_state; safe to repeat and safe to be killed in."""
    item = change.data
    if isinstance(item, User):
        _create_user(machine, item)
    elif isinstance(item, Directory):
        machine.make_directory(item.path, mode=int(item.mode, 8), owner=item.owner, group=item.group)
    elif isinstance(item, File):
        _apply_file(machine, change, item)
    elif isinstance(item, Link):
        os.makedirs(os.path.dirname(item.path), exist_ok=True)
        machine.link(item.path, item.target)
    elif isinstance(item, Absent):
        machine.remove(item.path)
    else:
        verb, unit = item
        _apply_unit(machine, verb, unit)


def _apply_file(machine: Machine, change: Change, file: File) -> None:
    mode = int(file.mode, 8)
    if change.name.startswith("set owner"):
        machine.set_attributes(file.path, mode=mode, owner=file.owner, group=file.group)
        return
    missing = open_placeholders(file)
    if missing:
        raise SlipwayError(Problem(file.path, f"no value for {', '.join(missing)}", "a value from an earlier step"))
    os.makedirs(os.path.dirname(file.path), exist_ok=True)
    machine.write(file.path, content_bytes(file), mode=mode, owner=file.owner, group=file.group)


def _apply_unit(machine: Machine, verb: str, unit: Unit) -> None:
    seen = show_units(machine, [unit.name]).get(unit.name)
    if seen is None or seen.needs_reload:
        machine.run(["systemctl", "daemon-reload"])
    if verb in ("enable", "disable"):
        machine.run(["systemctl", verb, "--quiet", unit.name])
        return
    if verb in ("start", "restart") and seen is not None and seen.active == "failed":
        machine.run(["systemctl", "reset-failed", unit.name], check=False)
    options = ["--no-block"] if unit.no_block else []
    done = machine.run(["systemctl", verb, *options, unit.name], check=False, timeout=UNIT_TIMEOUT_SECONDS)
    if done.rc != 0:
        raise SlipwayError(
            Problem(
                unit.name,
                f"did not {verb}: {unit_failure(machine, unit.name)}",
                "a unit that is up",
                f"mend the cause and run again; more in journalctl -u {unit.name}",
            )
        )


def _create_user(machine: Machine, user: User) -> None:
    if not _group_exists(user.name):
        machine.run(["groupadd", "--system", user.name])
    options = ["--system", "--gid", user.name, "--home-dir", user.home, "--no-create-home"]
    machine.run(["useradd", *options, "--shell", "/usr/sbin/nologin", user.name])


def user_exists(name: str) -> bool:
    """Whether the system knows the user."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _group_exists(name: str) -> bool:
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
