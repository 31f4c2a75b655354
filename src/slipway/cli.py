# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The slipway command: parses arguments, runs one verb, and turns what went wrong into words and an exit code."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway import verbs
from slipway.bundle import commands as bundle
from slipway.lab import commands as lab
from slipway.report import problem_lines
from slipway.verbs import EXIT_FAILED, EXIT_INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """The whole command line; every verb's parser sets ``run``, a callable from arguments to exit code."""
    parser = argparse.ArgumentParser(
        prog="slipway",
        description="Turns an inventory of bare machines into a production Kubernetes cluster, and keeps it that way.",
    )
    parser.add_argument("--version", action="version", version=f"slipway {importlib.metadata.version('slipway')}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    verbs.register(subparsers)
    bundle.register(subparsers)
    lab.register(subparsers)
    return parser


def main(argv: t.Sequence[str] | None = None) -> int:
    """Run the command with ``argv`` (default: the process's own); returns the exit code."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.run(args))
    except SlipwayError as error:
        print("\n".join(problem_lines(dict.fromkeys(error.problems, ()))), file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        # Whoever read our output has enough of it; Python would complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
