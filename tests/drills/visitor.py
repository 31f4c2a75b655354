# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to a Service until a file appears; runs in a pod's network, on a host with nothing but Python.

Called with the Service's address and the file that ends it. Twenty times a second a request takes a connection of its
own; as often, one goes over connections that are kept all the time. At the end it prints JSON, for either kind: which
pods have answered how often, which failures there were, and in seconds the time from the first to the last of them and
the longest that a request took.
"""

from __future__ import annotations

import collections
import http.client
import itertools
import json
import sys
import threading
import time
import typing as t
from pathlib import Path

PERIOD = 0.05
PATIENCE = 10.0
KEPT = 12


class Requests:
    """The requests of one kind."""

    def __init__(self, address: str) -> None:
        """There were none yet."""
        self.address = address
        self.pods: collections.Counter[str] = collections.Counter()
        self.failures: collections.Counter[str] = collections.Counter()
        self.failed_at: list[float] = []
        self.longest = 0.0

    def connection(self) -> http.client.HTTPConnection:
        """One that is made with the first request."""
        return http.client.HTTPConnection(self.address, timeout=PATIENCE)

    def ask(self, connection: http.client.HTTPConnection) -> None:
        """One request; after a failure the connection is made anew by the next."""
        started = time.monotonic()
        try:
            connection.request("GET", "/hostname")
            response = connection.getresponse()
            self.pods[response.read().decode()] += 1
        except (OSError, http.client.HTTPException) as error:
            self.failures[f"{type(error).__name__}: {error}"] += 1
            self.failed_at.append(started)
            connection.close()
        self.longest = max(self.longest, time.monotonic() - started)

    def told(self) -> dict[str, t.Any]:
        """The numbers."""
        span = self.failed_at[-1] - self.failed_at[0] if self.failed_at else 0.0
        seconds = {"span": round(span, 2), "longest": round(self.longest, 2)}
        return {"pods": self.pods, "failures": self.failures, **seconds}


def keep_asking(requests: Requests, kept: bool, end: Path) -> None:
    """Ask until the end, on new connections or on some that are kept."""
    connections = [requests.connection() for _each in range(KEPT)]
    for connection in itertools.cycle(connections):
        if end.exists():
            return
        requests.ask(connection)
        if not kept:
            connection.close()
        time.sleep(PERIOD)


def main(address: str, end: str) -> None:
    """Ask until the file ``end`` is there."""
    kinds = {"new": Requests(address), "kept": Requests(address)}
    threads = [
        threading.Thread(target=keep_asking, args=(requests, kind == "kept", Path(end)))
        for kind, requests in kinds.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({kind: requests.told() for kind, requests in kinds.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:3])
