# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which release of Slipway this is, who runs it, and when."""

from __future__ import annotations

import getpass
import json
import socket
import time
from pathlib import Path

import yaml

COLLECTION = Path(__file__).resolve().parents[2]


def release(collection: Path = COLLECTION) -> str:
    """The version of this collection: in its manifest where Ansible installed it, else in galaxy.yml."""
    manifest = collection / "MANIFEST.json"
    if manifest.exists():
        return str(json.loads(manifest.read_text(encoding="utf-8"))["collection_info"]["version"])
    return str(yaml.safe_load((collection / "galaxy.yml").read_text(encoding="utf-8"))["version"])


def person() -> str:
    """The local user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def now() -> str:
    """The time in UTC (RFC 3339)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
