# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads, writes and watches through an API address until a file appears; runs on a host with nothing but Python.

Called with a directory that has ca.crt, client.crt, client.key, the server's URL, and the file that ends it. Every
tenth of a second it makes an object and reads it; a watch of all of them is held open all the time. At the end it reads
which objects there are, removes them, and prints JSON: how often each was answered, the longest time without an answer
in seconds and when that began (seconds since the start), how many writes were acknowledged, and how many of those are
lost.
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
SELECTOR = f"app%3D{NAME}"
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

    def open(self, method: str, path: str, body: t.Any = None) -> http.client.HTTPResponse:
        """The answer to a request, its body not yet read."""
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(self.place, context=self.context, timeout=PATIENCE)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        return self.connection.getresponse()

    def ask(self, method: str, path: str, body: t.Any = None) -> t.Any:
        """The answer's JSON, or None if there was no good one."""
        try:
            response = self.open(method, path, body)
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
    """The ConfigMap that one write makes: nothing that is written later can hide that it is gone."""
    metadata = {"name": f"{NAME}-{number}", "labels": {"app": NAME}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}


def watch(api: Api, gaps: Gaps, over: threading.Event) -> None:
    """Hold a watch open; each line of it is an answer."""
    query = f"{PATH}?watch=1&labelSelector={SELECTOR}"
    while not over.is_set():
        try:
            response = api.open("GET", query)
            while not over.is_set() and response.status == 200 and response.readline():
                gaps.answer()
        except (OSError, http.client.HTTPException):
            pass
        api.close()
        over.wait(PERIOD)


def kept(api: Api) -> set[str]:
    """The names of the objects that are there, as soon as somebody answers."""
    while True:
        found = api.ask("GET", f"{PATH}?labelSelector={SELECTOR}")
        if found is not None:
            return {item["metadata"]["name"] for item in found["items"]}
        time.sleep(PERIOD)


def main(directory: str, server: str, end: str) -> None:
    """Use the API until the file ``end`` is there."""
    reader, writer = Api(directory, server), Api(directory, server)
    reads, writes, events, over = Gaps(), Gaps(), Gaps(), threading.Event()
    watcher = threading.Thread(target=watch, args=(Api(directory, server), events, over), daemon=True)
    watcher.start()
    acknowledged: list[str] = []
    number = 0
    while not Path(end).exists():
        started = time.monotonic()
        number += 1
        if writer.ask("POST", PATH, document(number)) is not None:
            writes.answer()
            acknowledged.append(f"{NAME}-{number}")
        if acknowledged and reader.ask("GET", f"{PATH}/{acknowledged[-1]}") is not None:
            reads.answer()
        time.sleep(max(PERIOD - (time.monotonic() - started), 0))
    over.set()
    numbers = {"reads": reads.told(), "writes": writes.told(), "watch": events.told()}
    lost = set(acknowledged) - kept(reader)
    writer.ask("DELETE", f"{PATH}?labelSelector={SELECTOR}")
    print(json.dumps({**numbers, "acknowledged": len(acknowledged), "lost": len(lost)}))


if __name__ == "__main__":
    main(*sys.argv[1:4])
