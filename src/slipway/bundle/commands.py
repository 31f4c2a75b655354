# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb ``slipway bundle`` and its subcommands."""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import VersionSet, minor_of
from slipway.bundle.build import build_bundle
from slipway.bundle.files import write_atomically
from slipway.bundle.places import load_set, workspace
from slipway.bundle.upstream import ARCHITECTURES, Where, lock_upstream
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

    lock = verbs.add_parser("lock", help="find the checksums of upstream's downloads, or a mirror's")
    lock.add_argument("--kubernetes", required=True, metavar="VERSION", help="1.37.0, or 1.37 for its set's own")
    lock.add_argument("--architecture", action="append", choices=ARCHITECTURES, help="repeatable (default: amd64)")
    lock.add_argument(
        "--mirror", type=_address, metavar="URL", help="where upstream's layout is mirrored, by host name"
    )
    lock.add_argument("--base-url", action="append", default=[], type=_pair, metavar="COMPONENT=URL", help="repeatable")
    lock.add_argument("--output", type=Path, metavar="FILE", help="the lock (default: standard output)")
    lock.set_defaults(run=run_lock)


def run_build(args: argparse.Namespace) -> int:
    """Build a bundle and say where it is; exit code 0."""
    started = time.monotonic()
    versions = load_set(args.kubernetes)
    if with_kubernetes(versions, args.kubernetes) != versions:
        raise SlipwayError(
            Problem(
                where=f"--kubernetes {args.kubernetes}",
                found="its modules are not pinned, so it cannot be built from source",
                expected=f"{versions.name} or {versions.kubernetes}",
                remedy="any other patch can be used from upstream's downloads: slipway bundle lock",
            )
        )
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


def run_lock(args: argparse.Namespace) -> int:
    """Write a lock of upstream's or a mirror's downloads; exit code 0 if every checksum was found."""
    versions = with_kubernetes(load_set(args.kubernetes), args.kubernetes)
    where = Where(args.mirror or "", dict(args.base_url))
    lock = lock_upstream(versions, list(dict.fromkeys(args.architecture or ["amd64"])), where)
    if args.output is None:
        print(lock.as_text(), end="")
        return 0
    write_atomically(args.output, lock.as_text())
    _say(f"{args.output}: {len(lock.artifacts)} artefacts of Kubernetes {versions.kubernetes} from {lock.source}")
    return 0


def with_kubernetes(versions: VersionSet, version: str) -> VersionSet:
    """The set with another patch of its Kubernetes minor; a minor alone (1.37) leaves the set as it is."""
    if minor_of(version) == version.removeprefix("v"):
        return versions
    return dataclasses.replace(versions, versions={**versions.versions, "kubernetes": version.removeprefix("v")})


def _address(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError(f"{text!r} is not an http or https address")
    return text


def _pair(text: str) -> tuple[str, str]:
    name, equals, url = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not COMPONENT=URL")
    return name, _address(url)


def _say(line: str) -> None:
    print(line, flush=True)
