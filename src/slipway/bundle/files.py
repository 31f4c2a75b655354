# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that appear whole or not at all, and their checksums."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError

TEMPORARY = ".tmp-"
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def sha256_of(path: Path) -> str:
    """The file's sha256 in lower-case hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Write a text file: a reader, also after a power cut, sees the old content or the new one."""
    with disk_errors(path), temporary_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
        publish(temporary, path)


@contextlib.contextmanager
def temporary_file(path: Path) -> t.Iterator[Path]:
    """A new empty file beside ``path``, removed at the end unless it was published under another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f"{TEMPORARY}{path.name}-", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def publish(temporary: Path, path: Path, mode: int = 0o644) -> None:
    """Give a finished file or directory its final name, after its bytes are on the disk."""
    if not temporary.is_dir():
        temporary.chmod(mode)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's or directory's content is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_leftovers(directory: Path) -> None:
    """Remove what a killed run left half done in a directory: everything under a temporary name."""
    for path in directory.glob(f"{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def disk_errors(path: Path) -> t.Iterator[None]:
    """Turn the operating system's refusals while writing below ``path`` into words (SlipwayError)."""
    try:
        yield
    except OSError as error:
        where = str(error.filename or path)
        if error.errno in _DISK_FULL:
            raise disk_full(where) from error
        raise SlipwayError(
            Problem(where, f"cannot be written: {error.strerror or error}", "a writable directory")
        ) from error


def disk_full(where: str) -> SlipwayError:
    """The error for a full disk."""
    return SlipwayError(
        Problem(
            where=where,
            found="no space left on the device",
            expected="about 1 GiB for a bundle with its cache and 6 GiB for Go's caches",
            remedy="free some space and run it again: finished components are kept",
        )
    )
