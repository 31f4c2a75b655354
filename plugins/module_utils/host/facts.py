# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of this host that a plan and its preflight checks need; read-only, and quick enough for every run."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import socket
import time
import typing as t

from ..core import places
from .machine import Machine

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_PROXY_SETTING = re.compile(r'^\s*(?:export\s+)?(\w+_proxy)="?([^"\n]*)', re.IGNORECASE | re.MULTILINE)
_SOCKET_LOOKS = 5
_SOCKET_SECONDS = 0.25
_LISTENING = re.compile(r'users:\(\("(?P<process>[^"]+)",pid=(?P<pid>\d+)')


def system_facts(machine: Machine) -> dict[str, t.Any]:
    """Operating system, kernel, memory, swap and clock."""
    name, version = system_release(machine)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", machine.read_text("/proc/meminfo") or "", re.MULTILINE)
    return {
        "hostname": socket.gethostname(),
        "machine_id": (machine.read_text("/etc/machine-id") or "").strip(),
        "boot_id": (machine.read_text("/proc/sys/kernel/random/boot_id") or "").strip(),
        "os": {"id": name, "version_id": version},
        "architecture": _ARCHITECTURES.get(os.uname().machine, os.uname().machine),
        "kernel": os.uname().release,
        "python": platform.python_version(),
        "cgroup": 2 if machine.exists("/sys/fs/cgroup/cgroup.controllers") else 1,
        "memory_bytes": int(memory.group(1)) * 1024 if memory else 0,
        "cpus": os.cpu_count() or 1,
        "swaps": [line.split()[0] for line in (machine.read_text("/proc/swaps") or "").splitlines()[1:]],
        "time": time.time(),
        "ntp_synchronized": clock_synchronized(),
        "kernel_modules": machine.exists("/proc/modules"),
        "programs": {program: machine.which(program) for program in places.PACKAGES},
        "proxy_environment": proxy_environment(machine),
        **resolver_facts(machine),
    }


def system_release(machine: Machine) -> tuple[str, str]:
    """Name and version of the operating system as os-release(5) has them, ``("debian", "13")``; empty if it has not."""
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', machine.read_text("/etc/os-release") or "", re.MULTILINE))
    return release.get("ID", ""), release.get("VERSION_ID", "")


def clock_synchronized() -> t.Optional[bool]:
    """What the kernel says of the clock (adjtimex(2)), or None where it does not say."""
    try:
        timex = ctypes.create_string_buffer(512)
        return int(ctypes.CDLL(None).adjtimex(timex)) != _TIME_ERROR
    except (OSError, AttributeError):
        return None


def systemd_version(machine: Machine) -> int:
    """The number in the first line of ``systemctl --version``; 0 without systemd."""
    match = re.match(r"systemd (\d+)", machine.run(["systemctl", "--version"], check=False).stdout)
    return int(match.group(1)) if match and os.path.isdir("/run/systemd/system") else 0


def resolver_facts(machine: Machine) -> dict[str, t.Any]:
    """The resolv.conf with real resolvers (not systemd-resolved's stub on 127.0.0.53), and what it names."""
    path = "/etc/resolv.conf"
    resolvers = _resolvers(machine.read_text(path) or "")
    behind = "/run/systemd/resolve/resolv.conf"
    if resolvers and all(address.startswith("127.") for address in resolvers) and machine.exists(behind):
        path, resolvers = behind, _resolvers(machine.read_text(behind) or "")
    return {"resolv_conf": path, "resolvers": resolvers}


def _resolvers(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines() if re.match(r"nameserver\s+\S", line)]


def proxy_environment(machine: Machine) -> dict[str, str]:
    """HTTP proxy settings of the system's environment, by upper-case name."""
    found = dict(_PROXY_SETTING.findall(machine.read_text("/etc/environment") or ""))
    own = {key: value for key, value in os.environ.items() if key.lower().endswith("_proxy")}
    return {key.upper(): value for key, value in {**found, **own}.items()}


def mount_facts(machine: Machine) -> dict[str, dict[str, t.Any]]:
    """Free and total bytes of the file system behind each place we write to."""
    table = [line.split()[1:3] for line in (machine.read_text("/proc/mounts") or "").splitlines()]
    return {path: _mount(path, table) for path in places.MOUNTS}


def _mount(path: str, table: t.Sequence[t.Sequence[str]]) -> dict[str, t.Any]:
    existing = path
    while not os.path.isdir(existing):
        existing = os.path.dirname(existing)
    status = os.statvfs(existing)
    above = [
        (point, kind) for point, kind in table if existing == point or existing.startswith(point.rstrip("/") + "/")
    ]
    point, kind = max(above, key=lambda entry: len(entry[0]), default=("/", ""))
    return {
        "mount": point,
        "filesystem": kind,
        "free_bytes": status.f_bavail * status.f_frsize,
        "total_bytes": status.f_blocks * status.f_frsize,
    }


def address_facts(machine: Machine) -> dict[str, t.Any]:
    """Addresses by interface, and the interface and source of the default route."""
    links = ask_ip(machine, "addr", "show")
    addresses = [
        {"interface": link["ifname"], "address": entry["local"], "prefix": entry["prefixlen"], "mtu": link["mtu"]}
        for link in links
        for entry in link.get("addr_info", ())
        if "local" in entry
    ]
    return {"addresses": addresses, "default_route": _default_route(machine, addresses)}


def _default_route(machine: Machine, addresses: t.Sequence[t.Mapping[str, t.Any]]) -> t.Optional[dict[str, str]]:
    routes = ask_ip(machine, "-4", "route", "show", "default")
    if not routes or "dev" not in routes[0]:
        return None
    device = routes[0]["dev"]
    own = [entry["address"] for entry in addresses if entry["interface"] == device and ":" not in entry["address"]]
    source = routes[0].get("prefsrc") or (own[0] if own else "")
    return {"interface": device, "source": source} if source else None


def _sockets(machine: Machine) -> str:
    """What ``ss`` lists; looked at again where it has no process for a socket, which may just have come or be going.

    ``ss`` reads which process has which socket before it reads the sockets. The kernel's own never have one: what has
    none twice in a row stays so.
    """
    output, before = "", None
    for _attempt in range(_SOCKET_LOOKS):
        output = machine.run(["ss", "-Hltnp"], check=False).stdout
        unknown = [line for line in output.splitlines() if not _LISTENING.search(line)]
        if not unknown or unknown == before:
            break
        before = unknown
        time.sleep(_SOCKET_SECONDS)
    return output


def listening_facts(machine: Machine) -> list[dict[str, t.Any]]:
    """TCP ports in use, each with its process and unit. One whose process has ended meanwhile is not in use."""
    output = _sockets(machine)
    found = []
    for line in output.splitlines():
        fields = line.split()
        if len(fields) < 4:
            continue
        address, _unused, port = fields[3].rpartition(":")
        match = _LISTENING.search(line)
        unit = _unit_of(machine, match.group("pid")) if match else ""
        if unit is None:
            continue
        found.append(
            {
                "protocol": "tcp",
                "address": address,
                "port": int(port),
                "process": match.group("process") if match else "",
                "unit": unit,
            }
        )
    return found


def _unit_of(machine: Machine, pid: str) -> t.Optional[str]:
    """The service of a process, or the slice of pods; empty if it is in neither. None if it is there no more."""
    try:
        groups = machine.read_text(f"/proc/{pid}/cgroup")
    except ProcessLookupError:
        return None
    except OSError:
        return ""
    if groups is None:
        return None
    if re.search(r"/kubepods(\.slice)?/", groups):  # as its driver of cgroups has it
        return places.PODS
    found = re.findall(r"/([^/\n]+\.service)", groups)
    return found[-1] if found else ""


def ask_ip(machine: Machine, *arguments: str) -> list[dict[str, t.Any]]:
    """What ``ip -j`` lists; nothing where it fails."""
    try:
        found = json.loads(machine.run(["ip", "-j", *arguments], check=False).stdout or "[]")
    except ValueError:
        return []
    return found if isinstance(found, list) else []
