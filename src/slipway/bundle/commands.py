# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb ``slipway bundle`` and its subcommands."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from slipway.bundle.build import build_bundle
from slipway.bundle.places import load_set, workspace
from slipway.bundle.verify import verify_bundle


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``bundle`` to the command line; each subcommand sets ``run``, from arguments to exit code."""
    bundle = subparsers.add_parser("bundle", help="build, verify or lock the artefacts of a cluster")
    verbs = bundle.add_subparsers(title="bundle verbs", metavar="VERB", required=True)

    build = verbs.add_parser("build", help="build every component of a version set from source")
    build.add_argument("--kubernetes", required=True, metavar="VERSION", help="the version set, such as 1.37")
    build.add_argument("--output", type=Path, metavar="DIR", help="the bundle (default: .bundle/MINOR)")
    build.set_defaults(run=run_build)

    verify = verbs.add_parser("verify", help="check every file of a bundle against its lock")
    verify.add_argument("directory", type=Path, metavar="DIR", help="the bundle")
    verify.set_defaults(run=run_verify)


def run_build(args: argparse.Namespace) -> int:
    """Build a bundle and say where it is; exit code 0."""
    started = time.monotonic()
    versions = load_set(args.kubernetes)
    output = args.output or workspace() / ".bundle" / versions.name
    built = build_bundle(versions, output, workspace() / ".cache" / "bundle", _say)
    size = sum(artifact.size or 0 for artifact in built.lock.artifacts) / 1e6
    done = "complete, nothing to do" if not built.changed else f"{built.compiled} components built"
    _say(f"{output}: {done}; {len(built.lock.artifacts)} artefacts, {size:.0f} MB, {time.monotonic() - started:.1f} s")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Check a bundle; exit code 0 if every byte is right."""
    lock = verify_bundle(args.directory)
    size = sum(artifact.size or 0 for artifact in lock.artifacts) / 1e6
    _say(f"{args.directory}: {len(lock.artifacts)} artefacts of {lock.set_name}, {size:.0f} MB, all as recorded")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)
