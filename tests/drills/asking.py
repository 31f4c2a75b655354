# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of a web address on this machine, outside the cluster: a new connection for each request, all the time."""

from __future__ import annotations

import collections
import collections.abc
import contextlib
import dataclasses
import ssl
import threading
import time

from ansible_collections.slipway.cluster.plugins.module_utils.host.verify_addons import fetch

# Two of each kind, so that one that waits for an answer does not make a pause.
CLIENTS = 2
PERIOD = 0.2
NOT_YET = ("status 404", "EOF occurred in violation of protocol")
"""What a Traefik does that accepts and has no configuration yet: it knows no route, or ends a TLS handshake."""


@dataclasses.dataclass(frozen=True)
class Told:
    """One request: when it began, in seconds of the monotonic clock, and the trouble; empty for an answer."""

    at: float
    trouble: str


@dataclasses.dataclass
class Asked:
    """All requests by port, in the order in which they ended."""

    told: dict[int, list[Told]] = dataclasses.field(default_factory=lambda: collections.defaultdict(list))

    def troubles(self) -> dict[str, int]:
        """How often there was which trouble, of all ports."""
        return dict(collections.Counter(each.trouble for told in self.told.values() for each in told if each.trouble))

    def longest(self, port: int) -> float:
        """Seconds from the first to the last trouble at a port."""
        moments = [each.at for each in self.told[port] if each.trouble]
        return max(moments) - min(moments) if moments else 0.0

    def text(self) -> str:
        """The numbers."""
        counts = ", ".join(f"{len(told)} at port {port}" for port, told in sorted(self.told.items()))
        spans = ", ".join(f"{self.longest(port):.2f} s at port {port}" for port in sorted(self.told))
        return f"requests: {counts}; failed: {self.troubles() or 'none'}, from the first to the last: {spans}"


@contextlib.contextmanager
def asking(address: str, host: str, context: ssl.SSLContext) -> collections.abc.Iterator[Asked]:
    """Ask an address by a host's name over HTTP and HTTPS, 20 times a second in all, for as long as this is open."""
    asked, over = Asked(), threading.Event()

    def ask(port: int, trusting: ssl.SSLContext | None) -> None:
        while not over.is_set():
            started = time.monotonic()
            reply = fetch(address, port, host, "/hostname", context=trusting)
            asked.told[port].append(Told(started, reply.trouble))
            over.wait(max(0.0, PERIOD - (time.monotonic() - started)))

    ways: tuple[tuple[int, ssl.SSLContext | None], ...] = ((80, None), (443, context))
    clients = [threading.Thread(target=ask, args=way, daemon=True) for way in ways for _each in range(CLIENTS)]
    for client in clients:
        client.start()
    try:
        yield asked
    finally:
        over.set()
        for client in clients:
            client.join(timeout=30)


def trusting(certificate: str) -> ssl.SSLContext:
    """Trusts one certificate (PEM), whatever names stand in it."""
    context = ssl.create_default_context(cadata=certificate)
    context.check_hostname = False
    return context


def require_no_connection_lost(asked: Asked, *, at_most: float) -> None:
    """Nothing but what is ``NOT_YET``, and that for a moment, as docs/addons.md says: AssertionError with the numbers.

    ``at_most`` seconds may lie between the first and the last trouble at a port.
    """
    assert all(any(sign in trouble for sign in NOT_YET) for trouble in asked.troubles()), asked.text()
    for port, told in asked.told.items():
        assert any(not each.trouble for each in told), asked.text()
        assert not told[-1].trouble, asked.text()
        assert asked.longest(port) <= at_most, asked.text()
