# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Scrapes: what each endpoint answers, asked from where this runs, which may be a host.

The only argument is a list in JSON of ``{url, token, ca, name, telling}``: an empty ``token`` is not shown, an empty
``ca`` is not checked against, ``name`` is whom the certificate has to be for if not the URL's host. Prints for each a
pair: the status (0 if there was no answer), and the first line that begins with ``telling``, else the beginning of the
answer.
"""

from __future__ import annotations

import http.client
import json
import ssl
import sys
import urllib.parse


class Named(http.client.HTTPSConnection):
    """HTTPS to an address whose certificate is for a name."""

    def __init__(self, host: str, port: int | None, context: ssl.SSLContext, name: str) -> None:
        super().__init__(host, port, timeout=20)
        self.trust, self.name = context, name

    def connect(self) -> None:
        """By the address, checked by the name."""
        http.client.HTTPConnection.connect(self)
        self.sock = self.trust.wrap_socket(self.sock, server_hostname=self.name)


def connection_to(target: dict[str, str]) -> http.client.HTTPConnection:
    """The connection that the target asks for, not open yet."""
    url = urllib.parse.urlsplit(target["url"])
    host = url.hostname or ""
    if url.scheme == "http":
        return http.client.HTTPConnection(host, url.port, timeout=20)
    context = ssl.create_default_context(cafile=target["ca"] or None)
    if not target["ca"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return Named(host, url.port, context, target["name"] or host)


def scrape(target: dict[str, str]) -> tuple[int, str]:
    """Status and the line."""
    connection = connection_to(target)
    headers = {"Authorization": f"Bearer {target['token']}"} if target["token"] else {}
    try:
        connection.request("GET", urllib.parse.urlsplit(target["url"]).path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except OSError as error:
        return 0, str(error)
    finally:
        connection.close()
    return answer.status, next((line for line in text.splitlines() if line.startswith(target["telling"])), text[:200])


if __name__ == "__main__":
    print(json.dumps([scrape(each) for each in json.loads(sys.argv[1])]))
