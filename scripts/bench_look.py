# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs on a host, from standard input: waits until the cluster is of use there. Standard library, Python 3.9.

``SECONDS nodes COUNT KUBECTL...`` waits for so many Ready Nodes and prints the address of the cluster's DNS;
``SECONDS dns ADDRESS`` waits until that answers with the address of the API's Service. Exit code 1 with what lacks.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import typing as t

NAME = "kubernetes.default.svc.cluster.local"
PAUSE_SECONDS = 0.2


def main(arguments: list[str]) -> int:
    """Wait; 0 when all is well."""
    seconds, what, *rest = arguments
    end = time.monotonic() + float(seconds)
    while True:
        found, lack = nodes(int(rest[0]), rest[1:]) if what == "nodes" else dns(rest[0])
        if not lack:
            print(found)
            return 0
        if time.monotonic() > end:
            print(lack, file=sys.stderr)
            return 1
        time.sleep(PAUSE_SECONDS)


def nodes(count: int, kubectl: list[str]) -> tuple[str, str]:
    """The address of DNS, and what lacks."""
    seen, error = ask(kubectl, "nodes")
    ready = [node for node in seen if condition(node, "Ready").get("status") == "True"]
    if len(ready) < count:
        return "", error or f"{len(ready)} of {count} Nodes are Ready"
    services, error = ask(kubectl, "services", "--namespace=kube-system", "--selector=k8s-app=kube-dns")
    return (services[0]["spec"]["clusterIP"], "") if services else ("", error or "no Service of DNS")


def condition(node: dict[str, t.Any], name: str) -> dict[str, t.Any]:
    """One of a Node's conditions."""
    return next((each for each in node["status"].get("conditions", ()) if each["type"] == name), {})


def ask(kubectl: list[str], *words: str) -> tuple[list[dict[str, t.Any]], str]:
    """Objects, and what kubectl said if it failed."""
    done = subprocess.run([*kubectl, "get", *words, "-o", "json"], capture_output=True, text=True, check=False)
    return (json.loads(done.stdout)["items"], "") if done.returncode == 0 else ([], done.stderr)


def dns(address: str) -> tuple[str, str]:
    """Nothing, and what lacks; the question is one of RFC 1035 for an A record."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in NAME.split("."))
    question = b"\x51\x1b\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00" + labels + b"\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(1)
        try:
            asking.sendto(question, (address, 53))
            answer = asking.recv(512)
        except OSError as error:
            return "", f"DNS at {address}: {error}"
    good = answer[:2] == question[:2] and answer[3] & 15 == 0 and answer[6:8] != b"\x00\x00"
    return "", "" if good else f"DNS at {address} answered without the name"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
