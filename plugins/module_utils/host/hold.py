# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hold of a run on this host, a file in memory; see ``module_utils/core/hold.py``."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import time
import typing as t

from ..core.hold import Held, Hold, taken
from . import engine


def look(dead: t.Container[str] = ()) -> t.Optional[Held]:
    """The hold that lies on this host, also one that ended; ``dead`` are runs known to be gone."""
    try:
        with open(engine.HOLD_PATH, encoding="utf-8") as stream:
            return _read(stream, dead)
    except FileNotFoundError:
        return None


def take(want: Hold, *, seen: t.Optional[str] = None, dead: t.Container[str] = ()) -> Hold:
    """Hold this host for a run; SlipwayError as ``taken`` says. ``since`` and ``origin`` of ``want`` are filled in."""
    want = dataclasses.replace(want, since=int(time.time()), origin=engine.origin())
    with _locked() as stream:
        held = _read(stream, dead)
        hold = taken(want, held, seen)
        if held is not None and held.hold.run == want.run and not held.hold.released:
            hold = held.hold
        _write(stream, hold)
    return hold


def release(run: str, dead: t.Container[str] = ()) -> t.Optional[Held]:
    """End this run's hold, or that of a run known to be gone; returns another's, which stays."""
    if not os.path.exists(engine.HOLD_PATH):
        return None
    with _locked() as stream:
        held = _read(stream, dead)
        if held is None or held.stops(run):
            return held
        _write(stream, dataclasses.replace(held.hold, released=True))
    return None


@contextlib.contextmanager
def _locked() -> t.Iterator[t.IO[str]]:
    os.makedirs(engine.RUN_DIRECTORY, mode=0o700, exist_ok=True)
    with open(engine.HOLD_PATH, "a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def _read(stream: t.IO[str], dead: t.Container[str]) -> t.Optional[Held]:
    """A file that says nothing, as a power cut or a full disk may leave it, is no hold."""
    stream.seek(0)
    try:
        hold = Hold.from_data(json.loads(stream.read()))
    except (ValueError, KeyError, TypeError):
        return None
    idle = int(max(0.0, time.time() - os.fstat(stream.fileno()).st_mtime))
    return Held(hold, idle, hold.run in dead)


def _write(stream: t.IO[str], hold: Hold) -> None:
    stream.truncate(0)
    stream.write(json.dumps(hold.to_data()))
    stream.flush()
