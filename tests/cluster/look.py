# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host, from standard input: prints as JSON what the host is, name by name.

What moves on a host by itself is left out, and each of those lines says why. Arguments are the trees of files to look
at, by default all in which software has its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

TREES = ("/etc", "/usr/local", "/opt", "/var/lib", "/root", "/srv")
# Programs and images: theirs would be a gigabyte to read; size and time of change tell as well.
LARGE = 4 << 20
LEFT_OUT = (
    "/etc/.pwd.lock",  # useradd's lock: an empty file that nobody removes
    "/etc/passwd-",  # what useradd and userdel keep of the last version; passwd and its like themselves are compared
    "/etc/group-",
    "/etc/shadow-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
    "/root/.ansible",  # Ansible's own temporary directory
    "/var/lib/systemd",  # stamps of timers, the random seed, the clock
    "/var/lib/private",  # systemd's directories for dynamic users
)
# Scopes and users of SSH connections, what systemd starts by itself from time to time, and a milestone of the boot that
# counts as reached as soon as anything asks for it, until the next one.
MOVING_UNITS = re.compile(
    r"^(network-online\.target|"
    r"session-|user@|user-|user\.slice|run-|init\.scope|systemd-(tmpfiles|hostnamed|timedated|localed|logind)|"
    r"(apt|dpkg|e2scrub|fstrim|logrotate|man-db|ssh@)|dev-|sys-|proc-|-\.mount|var-|opt|etc-|tmp)"
)
# Whoever is logged in, systemd's short-lived helpers, and the looking itself.
MOVING_PROCESSES = re.compile(
    r"^(sshd.*|\(.*\)|systemd.*|sd-.*|python3?.*|ps|sh|sftp-server|ssh-.*|agetty|dbus-daemon)$"
)


def main() -> int:
    """Print everything; 0."""
    found = {}
    for tree in sys.argv[1:] or TREES:
        found.update(files(tree))
    found.update(units())
    found.update(network())
    found.update({f"mount {target}": "mounted" for target in mounts()})
    found.update({f"process {name}": "running" for name in processes()})
    json.dump(found, sys.stdout)
    return 0


def files(tree: str) -> dict[str, str]:
    """Every path below the tree with type, mode, owner, group, and the hash or target of its content."""
    found = {}
    for directory, folders, entries in os.walk(tree):
        here = Path(directory)
        folders[:] = [name for name in folders if str(here / name) not in LEFT_OUT]
        for path in (here, *(here / name for name in (*folders, *entries))):
            if str(path) not in LEFT_OUT:
                found[str(path)] = describe(path)
    return found


def describe(path: Path) -> str:
    """One path in a line."""
    status = path.lstat()
    shown = f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid}"
    if stat.S_ISLNK(status.st_mode):
        return f"{shown} -> {path.readlink()}"
    if not stat.S_ISREG(status.st_mode):
        return shown
    if status.st_size > LARGE:
        return f"{shown} {status.st_size} bytes of {status.st_mtime_ns}"
    return f"{shown} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def output(*command: str) -> str:
    """What a command says; empty if it fails or is not there."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return ""


def units() -> dict[str, str]:
    """Unit files with their state, and what is active or failed.

    A service that ran once and ended well counts by its file alone: some do so at a system's first boot only, such as
    systemd-sysusers, and are inactive from the second on.
    """
    plain = ("--no-legend", "--plain", "--no-pager")
    found = {}
    for line in output("systemctl", "list-unit-files", *plain).splitlines():
        name, state = line.split()[:2]
        found[f"unit file {name}"] = state
    ended = once()
    states = "--state=active,activating,reloading,failed"
    for line in output("systemctl", "list-units", "--all", states, *plain).splitlines():
        name, _load, active, _sub = line.split()[:4]
        if not MOVING_UNITS.match(name) and not (name in ended and active == "active"):
            found[f"unit {name}"] = active
    return {name: state for name, state in found.items() if not MOVING_UNITS.match(name.rpartition(" ")[2])}


def once() -> set[str]:
    """The services that do something and end, rather than run."""
    blocks = output("systemctl", "show", "--property=Id,Type", "*.service").split("\n\n")
    shown = [dict(line.split("=", 1) for line in block.splitlines()) for block in blocks]
    return {unit["Id"] for unit in shown if unit.get("Type") == "oneshot"}


def network() -> dict[str, str]:
    """Interfaces with addresses, routes, rules of nftables, and settings of the network stack."""
    found = {}
    for link in json.loads(output("ip", "-j", "address") or "[]"):
        addresses = [f"{entry['local']}/{entry['prefixlen']}" for entry in link["addr_info"]]
        found[f"interface {link['ifname']}"] = " ".join([link["operstate"], *sorted(addresses)])
    for line in output("ip", "route", "show", "table", "all").splitlines():
        found[f"route {line.strip()}"] = "there"
    for line in output("nft", "list", "tables").splitlines():
        found[f"nft {line}"] = output("nft", "-s", "list", *line.split())
    settings = ("net.ipv4.ip_forward", "net.ipv4.conf.all", "net.ipv4.conf.default", "net.bridge", "net.ipv6.conf.all")
    for line in output("sysctl", *settings).splitlines():
        name, _, value = line.partition("=")
        found[f"sysctl {name.strip()}"] = value.strip()
    return found


def mounts() -> list[str]:
    """Where something is mounted, but for the directories of users who are logged in."""
    lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    targets = {line.split()[1] for line in lines}
    return sorted(target for target in targets if not target.startswith(("/run/user/", "/run/credentials/")))


def processes() -> list[str]:
    """The names of what runs."""
    found = {line.strip() for line in output("ps", "-eo", "comm=").splitlines()}
    return sorted(name for name in found if name and not MOVING_PROCESSES.match(name))


if __name__ == "__main__":
    sys.exit(main())
