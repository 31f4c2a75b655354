# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host should hold — users, directories, files, links, units — and the steps from what it holds to that.

A target is data: it is computed on the controller, travels to the host as JSON, and is compared with an observation
of the same shape. A unit's restart is decided by a digest that stands in the unit's own environment: a process whose
environment shows another digest runs with old input, whatever happened to the run that should have restarted it. A
process that runs another file than its unit would start now is restarted too.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import typing as t

from .change import Change
from .problems import Problem, SlipwayError

DIGEST_VARIABLE = "SLIPWAY_DIGEST"
UNIT_DIRECTORY = "/etc/systemd/system"
_PLACEHOLDER = re.compile(r"@@([a-z0-9_.-]+)@@")
_MODE = re.compile(r"[0-7]{4}")


@dataclasses.dataclass(frozen=True)
class User:
    """A system user with a group of its own name."""

    name: str
    home: str = "/nonexistent"


@dataclasses.dataclass(frozen=True)
class Directory:
    """A directory; ``mode`` is octal text such as ``0755``."""

    path: str
    mode: str = "0755"
    owner: str = "root"
    group: str = "root"


@dataclasses.dataclass(frozen=True)
class File:
    """A file with all of its content.

    ``@@name@@`` in the content is replaced by the value of that name when the target is resolved, for what is only
    known on the way (a CA's certificate, a token). ``create_only`` leaves an existing file's content alone.
    """

    path: str
    content: str
    mode: str = "0644"
    owner: str = "root"
    group: str = "root"
    secret: bool = False
    encoding: str = "utf-8"
    create_only: bool = False


@dataclasses.dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


@dataclasses.dataclass(frozen=True)
class Unit:
    """A systemd unit that is enabled and running (or neither), started with the input ``digest`` stands for.

    ``anew`` is why a process that runs is not the one that is wanted though its input is; empty if it is.
    """

    name: str
    digest: str = ""
    enabled: bool = True
    running: bool = True
    no_block: bool = False
    anew: str = ""


@dataclasses.dataclass(frozen=True)
class Absent:
    """A path that must not exist."""

    path: str


@dataclasses.dataclass(frozen=True)
class HostState:
    """A target, in the order in which its parts are brought about."""

    users: tuple[User, ...] = ()
    directories: tuple[Directory, ...] = ()
    files: tuple[File, ...] = ()
    links: tuple[Link, ...] = ()
    absent: tuple[Absent, ...] = ()
    units: tuple[Unit, ...] = ()

    def to_data(self) -> dict[str, t.Any]:
        """JSON data from which ``from_data`` makes the same target."""
        return dataclasses.asdict(self)

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> HostState:
        """The target described by ``to_data``'s result; an unknown key raises SlipwayError."""
        kinds: dict[str, t.Any] = {
            "users": User,
            "directories": Directory,
            "files": File,
            "links": Link,
            "absent": Absent,
            "units": Unit,
        }
        unknown = sorted(set(data) - set(kinds))
        if unknown:
            raise SlipwayError(Problem("target", "unknown part " + ", ".join(unknown), "one of " + ", ".join(kinds)))
        try:
            state = cls(**{key: tuple(kinds[key](**item) for item in data.get(key) or ()) for key in kinds})
        except TypeError as error:
            raise SlipwayError(Problem("target", str(error), "the fields of core/state.py")) from error
        problems = _contradictions(state)
        if problems:
            raise SlipwayError(problems)
        return state

    def __add__(self, other: HostState) -> HostState:
        """Both targets as one, this one's parts first; what stands in both, stands once."""
        names = [field.name for field in dataclasses.fields(self)]
        return HostState(**{name: tuple(dict.fromkeys(getattr(self, name) + getattr(other, name))) for name in names})


def _contradictions(state: HostState) -> list[Problem]:
    """What cannot be meant: paths that are relative or stand twice, modes that are no octal text, unknown encodings."""
    parts: tuple[t.Any, ...] = (*state.directories, *state.files, *state.links, *state.absent)
    paths = [str(part.path) for part in parts]
    problems = [Problem(path, "is relative", "an absolute path") for path in paths if not path.startswith("/")]
    problems += [
        Problem(path, "stands in the target more than once", "each path once")
        for path in dict.fromkeys(paths)
        if paths.count(path) > 1
    ]
    moded: tuple[t.Any, ...] = (*state.directories, *state.files)
    problems += [
        Problem(str(part.path), f"mode {part.mode!r}", "four octal digits as a text, such as '0640'")
        for part in moded
        if not (isinstance(part.mode, str) and _MODE.fullmatch(part.mode))
    ]
    file: t.Any  # what came as JSON may be of any type
    for file in state.files:
        if file.encoding not in ("utf-8", "base64"):
            problems.append(Problem(file.path, f"encoding {file.encoding!r}", "utf-8 or base64"))
        if not isinstance(file.content, str):
            problems.append(Problem(file.path, f"content is a {type(file.content).__name__}", "a text"))
    return problems


@dataclasses.dataclass(frozen=True)
class SeenPath:
    """A path as it is: ``kind`` is file, directory, link or other; ``sha256`` and ``text`` only for files."""

    kind: str
    mode: str = ""
    owner: str = ""
    group: str = ""
    sha256: str = ""
    target: str = ""
    text: str = ""


@dataclasses.dataclass(frozen=True)
class SeenUnit:
    """A unit as systemd shows it; ``digest`` is what the running process has in its environment.

    Of a process that was started by a link to the version in use, ``program`` is that path, ``starts`` the file to
    which it leads now, and ``runs`` the file that the process runs; they are empty for all others. ``drop_ins`` are
    the files by which somebody on this host has changed the unit.
    """

    loaded: bool = False
    active: str = "inactive"
    enabled: bool = False
    digest: str = ""
    needs_reload: bool = False
    program: str = ""
    starts: str = ""
    runs: str = ""
    drop_ins: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class SeenState:
    """The observed counterpart of HostState; what is missing from a mapping does not exist on the host."""

    users: frozenset[str] = frozenset()
    paths: t.Mapping[str, SeenPath] = dataclasses.field(default_factory=dict)
    units: t.Mapping[str, SeenUnit] = dataclasses.field(default_factory=dict)

    def to_data(self) -> dict[str, t.Any]:
        """JSON data from which ``from_data`` makes the same observation."""
        return {
            "users": sorted(self.users),
            "paths": {path: dataclasses.asdict(seen) for path, seen in self.paths.items()},
            "units": {name: dataclasses.asdict(seen) for name, seen in self.units.items()},
        }

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> SeenState:
        """The observation described by ``to_data``'s result."""
        return cls(
            frozenset(data.get("users", ())),
            {path: SeenPath(**seen) for path, seen in data.get("paths", {}).items()},
            {
                name: SeenUnit(**{**seen, "drop_ins": tuple(seen.get("drop_ins", ()))})
                for name, seen in data.get("units", {}).items()
            },
        )


def content_bytes(file: File) -> bytes:
    """The bytes the file should have."""
    if file.encoding == "base64":
        return base64.b64decode(file.content)
    return file.content.encode(file.encoding)


def digest_of(*parts: str) -> str:
    """A short digest of everything whose change needs a restart."""
    return hashlib.sha256("\0".join(parts).encode("utf-8")).hexdigest()[:16]


def resolve(target: HostState, values: t.Mapping[str, str]) -> HostState:
    """The target with the placeholders of its files filled from ``values``; unknown ones stay."""
    return dataclasses.replace(
        target, files=tuple(dataclasses.replace(file, content=fill(file.content, values)) for file in target.files)
    )


def fill(text: str, values: t.Mapping[str, str]) -> str:
    """The text with every ``@@name@@`` replaced; unknown names stay."""
    return _PLACEHOLDER.sub(lambda match: values.get(match.group(1), match.group(0)), text)


def open_placeholders(file: File) -> list[str]:
    """The names in the file's content that nothing has filled."""
    return [] if file.encoding == "base64" else sorted(set(_PLACEHOLDER.findall(file.content)))


def plan_state(target: HostState, seen: SeenState) -> list[Change]:
    """The steps from ``seen`` to ``target``, in the order in which they can be carried out.

    SlipwayError names every path that holds something which is not replaced.
    """
    problems = [problem for want in target.directories for problem in _in_the_way(want, seen, ("directory",))]
    problems += [problem for want in target.files for problem in _in_the_way(want, seen, ("file", "link", "other"))]
    problems += [problem for want in target.links for problem in _in_the_way(want, seen, ("link",))]
    if problems:
        raise SlipwayError(problems)
    changes: list[Change] = []
    changes += [Change(f"create user {user.name}", data=user) for user in target.users if user.name not in seen.users]
    changes += [change for each in target.directories for change in _plan_directory(each, seen.paths.get(each.path))]
    changes += [change for file in target.files for change in _plan_file(file, seen.paths.get(file.path))]
    changes += [change for link in target.links for change in _plan_link(link, seen.paths.get(link.path))]
    ending = [unit for unit in target.units if not (unit.enabled or unit.running)]
    for unit in ending:  # as long as systemd still has its file
        changes += _plan_unit(unit, seen.units.get(unit.name, SeenUnit()), stale=False)
    changes += [Change(f"remove {absent.path}", data=absent) for absent in target.absent if absent.path in seen.paths]
    written = {change.data.path for change in changes if isinstance(change.data, File)}
    for unit in target.units:
        if unit in ending:
            continue
        found = seen.units.get(unit.name, SeenUnit())
        stale = found.needs_reload or f"{UNIT_DIRECTORY}/{unit.name}" in written
        changes += _plan_unit(unit, found, stale=stale)
    return changes


def _in_the_way(want: t.Union[Directory, File, Link], seen: SeenState, kinds: t.Container[str]) -> t.Iterator[Problem]:
    found = seen.paths.get(want.path)
    if found is not None and found.kind not in kinds:
        expected = f"a {type(want).__name__.lower()}"
        yield Problem(want.path, f"is a {found.kind}", expected, "move it away; Slipway does not replace it")


def _plan_directory(want: Directory, seen: t.Optional[SeenPath]) -> list[Change]:
    if seen is None:
        return [Change(f"create directory {want.path}", data=want)]
    return _plan_attributes(want, seen)


def _plan_attributes(want: t.Union[Directory, File], seen: SeenPath) -> list[Change]:
    found = f"{seen.owner}:{seen.group} {seen.mode}\n"
    wanted = f"{want.owner}:{want.group} {want.mode}\n"
    if found == wanted:
        return []
    return [Change(f"set owner and mode of {want.path}", before=found, after=wanted, data=want)]


def _plan_file(want: File, seen: t.Optional[SeenPath]) -> list[Change]:
    if seen is not None and seen.kind == "file":
        unknown = bool(open_placeholders(want)) and not want.secret
        if want.create_only or unknown or seen.sha256 == hashlib.sha256(content_bytes(want)).hexdigest():
            return _plan_attributes(want, seen)
    hidden = want.secret or want.encoding == "base64"
    before = "" if hidden or seen is None else seen.text
    after = "" if hidden else want.content
    return [Change(f"write {want.path}", before=before, after=after, secret=want.secret, data=want)]


def _plan_link(want: Link, seen: t.Optional[SeenPath]) -> list[Change]:
    if seen is not None and seen.target == want.target:
        return []
    before = f"{seen.target}\n" if seen else ""
    return [Change(f"link {want.path}", before=before, after=f"{want.target}\n", data=want)]


def _plan_unit(want: Unit, seen: SeenUnit, *, stale: bool) -> list[Change]:
    changes = []
    if want.enabled and not seen.enabled:
        changes.append(Change(f"enable {want.name}", data=("enable", want)))
    if not want.enabled and seen.enabled:
        changes.append(Change(f"disable {want.name}", data=("disable", want)))
    changes += _plan_activity(want, seen, stale=stale)
    return changes


def _plan_activity(want: Unit, seen: SeenUnit, *, stale: bool) -> list[Change]:
    """``stale``: the unit's file is not the one systemd has loaded, which decides where no digest can be read."""
    up = seen.active in ("active", "activating", "reloading")
    if not want.running:
        return [Change(f"stop {want.name}", data=("stop", want))] if up else []
    if not up:
        return [Change(f"start {want.name}", data=("start", want))]
    before = after = ""
    if want.digest and seen.digest != want.digest:
        before, after = f"running with {seen.digest or 'unknown input'}\n", f"running with {want.digest}\n"
    elif seen.runs != seen.starts:
        before, after = f"running {seen.runs}\n", f"running {seen.starts}\n"
    elif want.anew:
        before, after = f"running {want.anew}\n", "started anew\n"
    elif want.digest or not stale:
        return []
    return [Change(f"restart {want.name}", before=before, after=after, data=("restart", want))]
