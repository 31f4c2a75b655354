# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Listens for a minute on ports that nobody uses yet, and tries those of other hosts.

The listener is a process of its own that ends when everybody has called, and by an alarm in any case. Nothing is
written.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import glob
import ipaddress
import os
import selectors
import signal
import socket
import struct
import tempfile
import time
import typing as t

from ..core.problems import Problem
from ..core.reach import PROCESS, TUNNEL, Listen, Port, Target, blocked, percentile, too_large

AT_ONCE = 256
CONNECT_SECONDS = 3.0
UDP_TRIES = 4
UDP_SECONDS = 0.7
LINGER_SECONDS = 2.0
"""An answer can be lost, so the last caller may call again."""
FSYNC_BYTES = 2300
"""About what etcd writes to its log at a time; its documentation measures disks with this size."""
FSYNC_COUNT = 200
FSYNC_SECONDS = 2.0
RESOLVER_SECONDS = 2.0
_HEADERS = 28  # IPv4 and UDP
_PR_SET_NAME = 15  # linux/prctl.h
_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE = 10, 3  # linux/in.h: send whole or not at all, whatever was learnt before
_IP_RECVERR = 11  # linux/in.h: keep the errors that others report, with who does
_BY_ICMP = 2  # linux/errqueue.h
_DISCARD_PORT = 9
_QUERY = struct.pack(">HHHHHH", 0x5157, 0x0100, 1, 0, 0, 0) + b"\0" + struct.pack(">HH", 2, 1)


def listen(wanted: t.Sequence[Listen], seconds: int) -> None:
    """Leave a process behind that answers on these ports for at most so many seconds; a port in use is left out."""
    end_listeners()
    opened = [(sock, each) for each in wanted for sock in _open(each)]
    told, named = os.pipe()
    if opened and os.fork() == 0:
        # An alarm that nobody handles ends the process.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(seconds)
        ctypes.CDLL(None).prctl(_PR_SET_NAME, PROCESS.encode(), 0, 0, 0)
        os.close(named)
        try:
            os.setsid()
            with open(os.devnull, "r+b") as nothing:
                for number in range(3):
                    os.dup2(nothing.fileno(), number)
            _serve(opened)
        finally:
            os._exit(0)  # not the module's own end, which would answer Ansible a second time
    for sock, _each in opened:
        sock.close()
    os.close(named)
    os.read(told, 1)  # ends once the process has its name, without which the next run would not find it
    os.close(told)


def end_listeners() -> None:
    """End what an earlier run, which was refused or cut off, has left behind for its last seconds."""
    end = time.monotonic() + LINGER_SECONDS
    while time.monotonic() < end:
        left = listeners()
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def listeners() -> list[int]:
    """The processes that listen for this check on this host."""
    found = []
    for path in glob.glob("/proc/[0-9]*/stat"):
        with contextlib.suppress(OSError):
            with open(path, encoding="utf-8", errors="replace") as stream:
                pid, _unused, rest = stream.read().partition(" ")
            # proc(5): the program's name in brackets, then its state, which is Z once it has ended.
            if rest.startswith(f"({PROCESS}) ") and not rest.startswith(f"({PROCESS}) Z"):
                found.append(int(pid))
    return found


def _open(each: Listen) -> t.Iterator[socket.socket]:
    kind = socket.SOCK_STREAM if each.protocol == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(socket.AF_INET, kind)
    try:
        if each.protocol == "tcp":
            # After connections that have just ended; for UDP it would share a port in use.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", each.port))
        if each.protocol == "tcp":
            sock.listen(128)
    except OSError:
        sock.close()
        return
    yield sock


def _serve(opened: t.Sequence[tuple[socket.socket, Listen]]) -> None:
    waiting = {(name, each.port, each.protocol) for _sock, each in opened for name in each.callers}
    selector = selectors.DefaultSelector()
    for sock, each in opened:
        selector.register(sock, selectors.EVENT_READ, each)
    end = float("inf")
    while time.monotonic() < end:
        for key, _events in selector.select(timeout=0.5):
            with contextlib.suppress(OSError):
                name = _answer(selector, t.cast("socket.socket", key.fileobj), key.data)
                waiting.discard((name, key.data.port, key.data.protocol))
        if not waiting:
            end = min(end, time.monotonic() + LINGER_SECONDS)


def _answer(selector: selectors.BaseSelector, sock: socket.socket, each: Listen) -> str:
    """Answer one call; who called, empty until its word or a packet of full size has come. Nobody waits for another."""
    if each.protocol == "tcp":
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            connection, _address = sock.accept()
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ, each)
            return ""
        selector.unregister(sock)
        with sock:
            return sock.recv(256).decode("utf-8", "replace").strip()
    data, address = sock.recvfrom(65535)
    sock.sendto(data[:64], address)
    size, _unused, name = data.rstrip(b"\0").decode("utf-8", "replace").partition(" ")
    return name if size == "large" else ""


def try_all(me: str, targets: t.Sequence[Target]) -> list[Problem]:
    """Try every port of every target, all at the same time; a problem for each that cannot be reached."""
    calls = [(target, port) for target in targets for port in target.ports]
    with concurrent.futures.ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        found = pool.map(lambda call: _try(me, *call), calls)
        return [problem for problem in found if problem is not None]


def _try(me: str, target: Target, port: Port) -> t.Optional[Problem]:
    if port.protocol == "tcp":
        why = _connect(me, target.address, port)
        return blocked(me, target, port, why) if why else None
    if port.through:
        return None if _crosses(port.through) else blocked(me, target, port, "nothing comes back through the tunnel")
    if not _echo(target.address, port.port, f"small {me}".encode(), 0):
        return blocked(me, target, port, "no answer")
    large = _echo(target.address, port.port, f"large {me}".encode(), target.size - _HEADERS)
    return None if large else too_large(me, target)


def _connect(me: str, address: str, port: Port) -> str:
    """Why there is no connection, empty if there is one; tried twice in this time."""
    why, end = "", time.monotonic() + CONNECT_SECONDS
    for _attempt in range(2):
        try:
            left = max(end - time.monotonic(), 0.1)
            with socket.create_connection((address, port.port), timeout=left) as connection:
                if port.answers:
                    connection.sendall(me.encode())
            return ""
        except OSError as error:
            timed_out = isinstance(error, socket.timeout)
            why = f"no answer within {CONNECT_SECONDS:g} s" if timed_out else error.strerror or str(error)
    return why


def _echo(address: str, port: int, text: bytes, size: int) -> bool:
    """Whether a packet filled up to ``size`` bytes arrives undivided and is answered."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
        sock.settimeout(UDP_SECONDS)
        for _attempt in range(UDP_TRIES):
            # A refusal, or a packet too large for this host's own interface, is an error and no answer.
            with contextlib.suppress(OSError):
                sock.sendto(text.ljust(size, b"\0"), (address, port))
                if sock.recvfrom(256)[0].startswith(text[:64]):
                    return True
    return False


def _crosses(address: str) -> bool:
    """Whether a packet gets through the tunnel to the host that has this address there, and an answer back.

    It is for the first address that a pod of that host may have, and may go no step further than the host, which says
    so. Thus it reaches no pod, and that host may filter what is meant for itself.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(UDP_SECONDS)
        # Without the tunnel, or a way through it, there is no answer either.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, TUNNEL.encode())
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)
            sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            sock.connect((str(ipaddress.ip_address(address) + 2), _DISCARD_PORT))
        for _attempt in range(UDP_TRIES):
            with contextlib.suppress(OSError):
                sock.send(b"")
                _data, details, _flags, _to = sock.recvmsg(1, 128, socket.MSG_ERRQUEUE)
                # This host itself says so where it knows no way.
                own = sock.getsockname()[0]
                if any(_reporter(error) not in ("", own) for _level, _type, error in details):
                    return True
    return False


def _reporter(error: bytes) -> str:
    """Who reported an error by ICMP, empty for another one (linux/errqueue.h: 16 bytes and a socket address)."""
    return socket.inet_ntoa(error[20:24]) if error[4] == _BY_ICMP else ""


def fsync_seconds(path: str) -> float:
    """How long 99 % of small writes take at most until they are on the disk of this path, in seconds.

    The slower the disk, the fewer writes there is time for; of few, and of one, it is the longest.
    """
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    taken: list[float] = []
    end = time.monotonic() + FSYNC_SECONDS
    with tempfile.TemporaryFile(dir=path) as stream:  # without a name where the file system can
        while not taken or (len(taken) < FSYNC_COUNT and time.monotonic() < end):
            os.write(stream.fileno(), b"\0" * FSYNC_BYTES)
            begin = time.monotonic()
            os.fdatasync(stream.fileno())
            taken.append(time.monotonic() - begin)
    return percentile(taken, 0.99)


def silent(resolvers: t.Sequence[str]) -> list[str]:
    """Which of these answer no question at all (for the root's name servers), if none does; else nobody."""
    for address in resolvers:
        with contextlib.suppress(OSError):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.settimeout(RESOLVER_SECONDS)
                sock.sendto(_QUERY, (address, 53))
                sock.recvfrom(4096)
                return []
    return list(resolvers)
