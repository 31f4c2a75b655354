# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads, writes and watches through an API address until a file appears; runs on a host with nothing but Python.

Called with a directory that has ca.crt, client.crt, client.key, the server's URL, and the file that ends it. Every
tenth of a second it writes the next number into a ConfigMap of its own and reads it; a watch is held open all the time.
At the end it prints JSON: how often each was answered, the longest time without an answer in seconds and when that
began (seconds since the start), the last number that was acknowledged, and the last that was read.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import threading
import time
import typing as t
import urllib.parse
from pathlib import Path

NAME = "slipway-client"
PATH = "/api/v1/namespaces/default/configmaps"
PERIOD = 0.1
PATIENCE = 10.0


class Gaps:
    """The answers of one kind, and the longest time between two of them."""

    def __init__(self) -> None:
        """Begin to wait for the first one."""
        self.answers = 0
        self.longest = 0.0
        self.at = 0.0
        self.begin = self.last = time.monotonic()

    def answer(self) -> None:
        """There was one."""
        now = time.monotonic()
        if self.answers and now - self.last > self.longest:
            self.longest, self.at = now - self.last, self.last - self.begin
        self.answers, self.last = self.answers + 1, now

    def told(self) -> dict[str, t.Any]:
        """The numbers."""
        self.answer()
        return {"answers": self.answers - 1, "longest": round(self.longest, 2), "at": round(self.at, 1)}


class Api:
    """One connection, made anew when it broke."""

    def __init__(self, directory: str, server: str) -> None:
        """Nothing is connected yet."""
        self.context = ssl.create_default_context(cafile=f"{directory}/ca.crt")
        self.context.load_cert_chain(f"{directory}/client.crt", f"{directory}/client.key")
        self.place = urllib.parse.urlsplit(server).netloc
        self.connection: http.client.HTTPSConnection | None = None

    def open(self, method: str, path: str, body: t.Any = None, kind: str = "json") -> http.client.HTTPResponse:
        """The answer to a request, its body not yet read."""
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(self.place, context=self.context, timeout=PATIENCE)
        headers = {"Content-Type": f"application/{kind}", "Accept": "application/json"}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        return self.connection.getresponse()

    def ask(self, method: str, path: str, body: t.Any = None, kind: str = "json") -> t.Any:
        """The answer's JSON, or None if there was no good one."""
        try:
            response = self.open(method, path, body, kind)
            content = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            return None
        return json.loads(content) if response.status in (200, 201) else None

    def close(self) -> None:
        """Forget the connection."""
        if self.connection is not None:
            self.connection.close()
        self.connection = None


def document(number: int) -> dict[str, t.Any]:
    """The ConfigMap with a number."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": NAME}, "data": {"number": str(number)}}


def watch(api: Api, gaps: Gaps, over: threading.Event) -> None:
    """Hold a watch open; each line of it is an answer."""
    query = f"{PATH}?watch=1&fieldSelector=metadata.name%3D{NAME}"
    while not over.is_set():
        try:
            response = api.open("GET", query)
            while not over.is_set() and response.status == 200 and response.readline():
                gaps.answer()
        except (OSError, http.client.HTTPException):
            pass
        api.close()
        over.wait(PERIOD)


def main(directory: str, server: str, end: str) -> None:
    """Use the API until the file ``end`` is there."""
    reader, writer = Api(directory, server), Api(directory, server)
    acknowledged, seen, lost = 0, 0, 0
    while writer.ask("POST", f"{PATH}?fieldManager=client", document(0)) is None and not Path(end).exists():
        time.sleep(PERIOD)
    reads, writes, events, over = Gaps(), Gaps(), Gaps(), threading.Event()
    watcher = threading.Thread(target=watch, args=(Api(directory, server), events, over), daemon=True)
    watcher.start()
    number = 0
    while not Path(end).exists():
        started = time.monotonic()
        number += 1
        if writer.ask("PATCH", f"{PATH}/{NAME}", document(number), "merge-patch+json") is not None:
            writes.answer()
            acknowledged = number
        found = reader.ask("GET", f"{PATH}/{NAME}")
        if found is not None:
            reads.answer()
            seen = int(found["data"]["number"])
            # What was acknowledged may only be followed by a later number, never by an earlier one.
            lost += max(acknowledged - seen, 0)
        time.sleep(max(PERIOD - (time.monotonic() - started), 0))
    over.set()
    numbers = {"reads": reads.told(), "writes": writes.told(), "watch": events.told()}
    print(json.dumps({**numbers, "acknowledged": acknowledged, "seen": seen, "lost": lost}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
