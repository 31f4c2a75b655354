# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks a bundle: every file that its lock names is there, whole and unaltered."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import (
    LOCK_NAME,
    Artifact,
    Lock,
    parse_lock_text,
)
from slipway.bundle.files import sha256_of

_REMEDY = "build the bundle again, or copy it again from where it came"


def load_bundle(directory: Path) -> Lock:
    """The lock of a bundle; raises SlipwayError if the directory is not one."""
    index = directory / LOCK_NAME
    try:
        text = index.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SlipwayError(
            Problem(str(directory), f"no {LOCK_NAME} in it", "a bundle", "make one with: slipway bundle build")
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise SlipwayError(Problem(str(index), f"cannot be read: {error}", "a bundle's lock", _REMEDY)) from error
    lock = parse_lock_text(text, str(index))
    if lock.source != "bundle":
        raise SlipwayError(Problem(str(index), f"a lock of source {lock.source}", "a bundle's lock", _REMEDY))
    return lock


def verify_bundle(directory: Path) -> Lock:
    """Read every artefact and compare it with the lock; raises SlipwayError naming all that is missing or altered."""
    lock = load_bundle(directory)
    with ThreadPoolExecutor(max_workers=2) as pool:
        problems = [found for found in pool.map(lambda a: _check(directory, a), lock.artifacts) if found]
    if problems:
        raise SlipwayError(problems)
    return lock


def _check(directory: Path, artifact: Artifact) -> Problem | None:
    path = directory / artifact.file
    try:
        size = path.stat().st_size
        if size != artifact.size:
            return Problem(artifact.file, f"altered: {size} bytes", f"{artifact.size} bytes", _REMEDY)
        checksum = sha256_of(path)
    except FileNotFoundError:
        return Problem(artifact.file, "missing", f"{artifact.name} {artifact.version}", _REMEDY)
    except OSError as error:
        return Problem(artifact.file, f"cannot be read: {error.strerror}", "a readable file", _REMEDY)
    if checksum != artifact.sha256:
        return Problem(artifact.file, f"altered: sha256 {checksum}", f"sha256 {artifact.sha256}", _REMEDY)
    return None
