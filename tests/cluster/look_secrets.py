# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host, from standard input: prints as JSON every file that holds a secret, found by its content.

Each with its mode, owner and group, the modes of the directories above it, and the secret parts themselves.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import stat
import sys
import typing as t
from pathlib import Path

TREES = ("/etc", "/var/lib", "/var/log", "/run", "/opt", "/usr/local", "/root", "/tmp", "/srv", "/home")
LEFT_OUT = (
    "/var/lib/kubelet/pods",  # what the kubelet gives to each pod: the pod's own business
    "/run/containerd/io.containerd.runtime.v2.task",  # the same, seen through the pods' root directories
    "/run/containerd/io.containerd.grpc.v1.cri",
)
# Programs and databases are larger; the largest secret file is a few thousand bytes.
LARGEST = 1 << 20
SECRETS = (
    re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]{40,}?)-----END"),
    re.compile(rb"client-key-data: *(\S{40,})"),
    re.compile(rb"^ +secret: *[\"']?([A-Za-z0-9+/]{42,44}={0,2})[\"']? *$", re.MULTILINE),
    re.compile(rb"\"secret\": *\"([A-Za-z0-9+/]{42,44}={0,2})\""),
    re.compile(rb"\btoken[\"']?: *[\"']?([a-z0-9]{6}\.[a-z0-9]{16})\b"),
    re.compile(rb"\b(eyJ[A-Za-z0-9_-]{20,}\.eyJ[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,})"),
)


def main() -> int:
    """Print all of them; 0."""
    found = {}
    for tree in TREES:
        for directory, folders, entries in os.walk(tree):
            here = Path(directory)
            folders[:] = [name for name in folders if str(here / name) not in LEFT_OUT]
            for name in entries:
                parts = secrets_of(here / name)
                if parts:
                    found[str(here / name)] = describe(here / name) | {"secrets": parts}
    json.dump(found, sys.stdout)
    return 0


def secrets_of(path: Path) -> list[str]:
    """The secret parts of a file, lines and blanks joined."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or not 0 < status.st_size <= LARGEST:
            return []
        content = path.read_bytes()
    except OSError:  # gone meanwhile
        return []
    return [b"".join(match.split()).decode() for pattern in SECRETS for match in pattern.findall(content)]


def describe(path: Path) -> dict[str, object]:
    """Who may read it."""
    status = path.stat()
    return {
        "mode": f"{stat.S_IMODE(status.st_mode):04o}",
        "owner": name_of(pwd.getpwuid, status.st_uid),
        "group": name_of(grp.getgrgid, status.st_gid),
    }


def name_of(database: t.Callable[[int], t.Sequence[t.Any]], number: int) -> str:
    """The user's or group's name; its number if it has none on this host, as a pod's has not."""
    try:
        return str(database(number)[0])
    except KeyError:
        return str(number)


if __name__ == "__main__":
    sys.exit(main())
