# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host a module runs on: commands, files and waiting, with errors that say what was found."""

from __future__ import annotations

import contextlib
import dataclasses
import grp
import os
import pwd
import shutil
import subprocess
import tempfile
import time
import typing as t

from ..core.problems import Problem, SlipwayError

# How long a unit may take to restart: an API server 75 s to stop and 240 s to start.
UNIT_TIMEOUT_SECONDS = 320.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True)
class Output:
    """What a command left: exit code and both streams as text."""

    rc: int
    stdout: str
    stderr: str


class Machine:
    """This host. Every command is an argv list, runs with ``LC_ALL=C``, and is bounded in time (seconds)."""

    def run(
        self,
        argv: t.Sequence[str],
        *,
        stdin: t.Optional[str] = None,
        check: bool = True,
        timeout: float = 60,
        env: t.Optional[t.Mapping[str, str]] = None,
    ) -> Output:
        """Run a command; with ``check`` an exit code other than 0 raises SlipwayError with the last lines it said."""
        environment = {"PATH": _PATH, "LC_ALL": "C", "HOME": "/root", **(env or {})}
        try:
            done = subprocess.run(  # pylint: disable=ansible-bad-function  # the keeper has no module
                list(argv),
                input=stdin,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
                env=environment,
                check=False,
            )
        except FileNotFoundError as error:
            if not check:
                return Output(127, "", str(error))
            raise SlipwayError(
                Problem(argv[0], "is not on this host", "the program", "run apply again, it installs what is ours")
            ) from error
        except subprocess.TimeoutExpired as error:
            if not check:
                return Output(124, "", f"no answer within {timeout:g} s")
            raise SlipwayError(Problem(" ".join(argv), f"did not end within {timeout:g} s")) from error
        if check and done.returncode != 0:
            said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-8:])
            raise SlipwayError(Problem(" ".join(argv), f"ended with {done.returncode}: {said}", "exit code 0"))
        return Output(done.returncode, done.stdout, done.stderr)

    def which(self, program: str) -> t.Optional[str]:
        """Where the program lies on the system's path, or None."""
        return shutil.which(program, path=_PATH)

    def exists(self, path: str) -> bool:
        """Whether the path exists; a dangling link does."""
        return os.path.lexists(path)

    def read(self, path: str) -> t.Optional[bytes]:
        """The file's bytes, or None where there is no such file."""
        try:
            with open(path, "rb") as stream:
                return stream.read()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None

    def read_text(self, path: str) -> t.Optional[str]:
        """The file's text, or None where there is no such file."""
        content = self.read(path)
        return None if content is None else content.decode("utf-8", "replace")

    def write(self, path: str, content: bytes, *, mode: int, owner: str = "root", group: str = "root") -> None:
        """Put the content at the path in one step: readers see the old file or the new one, also after a power cut."""
        directory = os.path.dirname(path)
        handle, temporary = tempfile.mkstemp(prefix=".slipway-", dir=directory)
        try:
            with os.fdopen(handle, "wb") as stream:
                os.fchown(stream.fileno(), _uid(owner), _gid(group))
                os.fchmod(stream.fileno(), mode)
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        self.sync_directory(directory)

    def link(self, path: str, target: str) -> None:
        """Make or move a symbolic link in one step."""
        temporary = f"{path}.slipway-{os.getpid()}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        os.symlink(target, temporary)
        os.replace(temporary, path)
        self.sync_directory(os.path.dirname(path))

    def set_attributes(self, path: str, *, mode: int, owner: str, group: str) -> None:
        """Give the path its owner and mode."""
        os.chown(path, _uid(owner), _gid(group))
        os.chmod(path, mode)

    def make_directory(self, path: str, *, mode: int, owner: str = "root", group: str = "root") -> None:
        """Make the directory and, with mode 0755, whatever is missing above it."""
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)
        self.set_attributes(path, mode=mode, owner=owner, group=group)

    def remove(self, path: str) -> None:
        """Remove a file, a link or a whole directory; what is not there is no error."""
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def sync_directory(self, path: str) -> None:
        """Make the directory's entries survive a power cut."""
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def wait(
        self,
        what: str,
        predicate: t.Callable[[], t.Optional[str]],
        *,
        timeout: float,
        interval: float = 0.25,
        remedy: str = "",
    ) -> None:
        """Ask until ``predicate`` returns None; what it returns otherwise is told when ``timeout`` seconds are over."""
        end = time.monotonic() + timeout
        while True:
            seen = predicate()
            if seen is None:
                return
            if time.monotonic() >= end:
                raise SlipwayError(Problem(what, f"not within {timeout:g} s; last seen: {seen}", remedy=remedy))
            time.sleep(interval)


def still_lacking(
    machine: Machine, what: str, lacking: t.Callable[[], t.Optional[str]], *, timeout: float, interval: float = 0.5
) -> str:
    """Machine.wait for who wants to tell and not to fail: what it would have said, empty once nothing is lacking."""
    try:
        machine.wait(what, lacking, timeout=timeout, interval=interval)
    except SlipwayError as error:
        return error.problems[0].found
    return ""


def user_name(number: int) -> str:
    """The name of a user, its number when it has none."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def group_name(number: int) -> str:
    """The name of a group, its number when it has none."""
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _uid(name: str) -> int:
    """The number of a user; a number may stand for one without a name, such as a container's."""
    if name.isdigit():
        return int(name)
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError as error:
        raise SlipwayError(Problem(f"user {name}", "does not exist", "a user made earlier in the run")) from error


def _gid(name: str) -> int:
    if name.isdigit():
        return int(name)
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise SlipwayError(Problem(f"group {name}", "does not exist", "a group made earlier in the run")) from error
