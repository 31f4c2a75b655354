# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host looks like after changes were carried out, without a host: for tests that plan, apply and plan again."""

from __future__ import annotations

import dataclasses
import hashlib
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    Absent,
    Directory,
    File,
    HostState,
    Link,
    SeenPath,
    SeenState,
    SeenUnit,
    Unit,
    User,
    content_bytes,
    plan_state,
    resolve,
)


def sha256(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def seen_file(file: File) -> SeenPath:
    """The file as an observation shows it; the text only where everybody may read it."""
    content = content_bytes(file)
    shown = file.mode[-1] in "4567" and not file.secret and file.encoding == "utf-8"
    return SeenPath("file", file.mode, file.owner, file.group, sha256(content), text=file.content if shown else "")


def carry_out(changes: t.Iterable[Change], seen: SeenState, values: t.Mapping[str, str] | None = None) -> SeenState:
    """The observation after the changes of plan_state, ``values`` filling placeholders; others are left out."""
    users, paths, units = set(seen.users), dict(seen.paths), dict(seen.units)
    for change in changes:
        item = change.data
        if isinstance(item, User):
            users.add(item.name)
        elif isinstance(item, Directory):
            paths[item.path] = SeenPath("directory", item.mode, item.owner, item.group)
        elif isinstance(item, File):
            paths[item.path] = _file_after(change, item, paths, values or {})
        elif isinstance(item, Link):
            paths[item.path] = SeenPath("link", target=item.target)
        elif isinstance(item, Absent):
            for path in [path for path in paths if path == item.path or path.startswith(item.path + "/")]:
                del paths[path]
        elif isinstance(item, tuple) and isinstance(item[-1], Unit):
            verb, unit = item
            units[unit.name] = _unit_after(verb, unit, units.get(unit.name, SeenUnit()))
    return SeenState(frozenset(users), paths, units)


def _file_after(change: Change, file: File, paths: t.Mapping[str, SeenPath], values: t.Mapping[str, str]) -> SeenPath:
    if change.name.startswith("set owner"):
        return dataclasses.replace(paths[file.path], mode=file.mode, owner=file.owner, group=file.group)
    return seen_file(resolve(HostState(files=(file,)), values).files[0])


def _unit_after(verb: str, unit: Unit, before: SeenUnit) -> SeenUnit:
    now = dataclasses.replace(before, loaded=True, needs_reload=False)
    if verb in ("enable", "disable"):
        return dataclasses.replace(now, enabled=verb == "enable")
    up = verb in ("start", "restart")
    return dataclasses.replace(
        now,
        active="active" if up else "inactive",
        digest=(unit.digest or before.digest) if up else "",
        runs=before.starts if up else "",
        starts=before.starts if up else "",
    )


def names(changes: t.Iterable[Change]) -> list[str]:
    return [change.name for change in changes]


def steps(target: HostState, seen: SeenState | None = None) -> list[str]:
    """The names of the steps, from nothing unless told otherwise."""
    return names(plan_state(target, seen or SeenState()))
