# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes through an API server and to an etcd beside it, in turns, until the host loses its power.

Runs on a host beside client.py. Called with the directory and the server's URL that client.py takes, and the client URL
of the other etcd. Every acknowledged write is a line at once, where it was written and its name: a reader elsewhere
knows what must have outlasted the host.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import sys
import urllib.parse

from tests.drills.client import NAME, PATH, PATIENCE, Api, document


def put(etcd: str, key: str) -> bool:
    """Whether etcd's gateway acknowledged the key, whose value is empty."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(etcd).netloc, timeout=PATIENCE)
    try:
        connection.request("POST", "/v3/kv/put", json.dumps({"key": base64.b64encode(key.encode()).decode()}))
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def main(directory: str, server: str, etcd: str) -> None:
    """Write for ever."""
    api = Api(directory, server)
    for number in itertools.count(1):
        name = f"{NAME}-{number}"
        if api.ask("POST", PATH, document(number)) is not None:
            print("api", name, flush=True)
        if put(etcd, name):
            print("etcd", name, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
