# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How add-ons are asked: a Gateway by its certificate, and who has a Service's address on the network."""

from __future__ import annotations

import base64
import collections.abc
import contextlib
import http.server
import pathlib
import socket
import ssl
import subprocess
import threading
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_addons import BALANCED, Holder, Reply
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_workload import Stage
from ansible_collections.slipway.cluster.plugins.module_utils.host import verify_addons
from ansible_collections.slipway.cluster.plugins.module_utils.host.verify_addons import (
    AddonChecks,
    Addons,
    announced_here,
)

HELD, HARDWARE = "10.0.0.240", "02:42:0a:00:00:15"


def frame(address: str) -> bytes:
    """An ARP announcement of an address."""
    ethernet = b"\xff" * 6 + bytes.fromhex(HARDWARE.replace(":", "")) + b"\x08\x06"
    sender = bytes.fromhex(HARDWARE.replace(":", "")) + socket.inet_aton(address)
    return ethernet + bytes.fromhex("0001080006040001") + sender + bytes(6) + socket.inet_aton(address)


class Wire:
    """Gives the frames, each with how it passed this host, and then nothing more."""

    def __init__(self, *frames: tuple[bytes, int]) -> None:
        self.frames = list(frames)

    def recvfrom(self, _size: int) -> tuple[bytes, tuple[str, int, int, int, bytes]]:
        if not self.frames:
            raise socket.timeout  # noqa: UP041  # another class before Python 3.10
        content, way = self.frames.pop(0)
        return content, ("eth0", 0x0806, way, 1, bytes(6))


@pytest.mark.parametrize(
    ("frames", "found"),
    [
        ([(frame(HELD), socket.PACKET_OUTGOING)] * 3, Holder(HARDWARE, 2)),
        ([(frame("10.0.0.1"), socket.PACKET_OUTGOING), (frame(HELD), socket.PACKET_OUTGOING)], Holder(HARDWARE, 1)),
        ([(frame(HELD), socket.PACKET_BROADCAST)], Holder()),
        ([(b"no ARP at all", socket.PACKET_OUTGOING)], Holder()),
        ([], Holder()),
    ],
)
def test_only_what_leaves_this_host_for_that_address_counts(
    monkeypatch: pytest.MonkeyPatch, frames: list[tuple[bytes, int]], found: Holder
) -> None:
    monkeypatch.setattr(verify_addons, "_ANNOUNCED_SECONDS", 0.02)
    assert announced_here(t.cast("socket.socket", Wire(*frames)), HELD) == found


class Kubectl:
    """Knows the Service's address and what was done to it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.done: list[str] = []

    def run(self, arguments: t.Sequence[str], **_options: t.Any) -> None:
        self.done.append(" ".join(arguments[:3]))

    def apply(self, objects: t.Sequence[t.Mapping[str, t.Any]]) -> None:
        self.done += [f"apply {item['metadata']['name']}" for item in objects]

    def json(self, arguments: t.Sequence[str]) -> t.Any:
        if arguments[1] == "events":
            return {"items": [ANNOUNCED]}
        return {"status": {"loadBalancer": {"ingress": [{"ip": self.address}] if self.address else []}}}


ANNOUNCED = {
    "involvedObject": {"kind": "Service", "name": BALANCED},
    "reason": "nodeAssigned",
    "message": 'announcing from node "w1" with protocol "layer2"',
}
ON_LINK = [{"dst": HELD, "dev": "eth0"}]
MADE_ANEW = [f"delete service {BALANCED}", f"apply {BALANCED}"]


@pytest.mark.parametrize(
    ("answers", "announced", "seen", "done"),
    [
        ([HARDWARE], Holder(), f"is at {HARDWARE}; 12 requests", []),
        ([""], Holder(HARDWARE, 2), f"is at {HARDWARE}, this host itself", MADE_ANEW),
        (["", HARDWARE], Holder(), f"is at {HARDWARE}; 12 requests", MADE_ANEW),
        (["", ""], Holder(), "nobody on the network answers", MADE_ANEW),
        ([], Holder(), "got no address", []),
    ],
)
def test_nobodys_answer_is_followed_by_a_look_at_this_host(
    monkeypatch: pytest.MonkeyPatch, answers: list[str], announced: Holder, seen: str, done: list[str]
) -> None:
    def asked(look: t.Callable[[], t.Any], *_more: t.Any, **_options: t.Any) -> t.Any:
        return look()

    kubectl = Kubectl(HELD if answers else "")
    told = iter(answers)
    monkeypatch.setattr(verify_addons, "soon", asked)
    monkeypatch.setattr(verify_addons, "ask_ip", lambda _machine, *_arguments: ON_LINK)
    monkeypatch.setattr(verify_addons, "who_has", lambda _address: next(told))
    monkeypatch.setattr(verify_addons, "listening", contextlib.nullcontext)
    monkeypatch.setattr(verify_addons, "announced_here", lambda _wire, _address: announced)
    monkeypatch.setattr(verify_addons, "fetch", lambda *_arguments: Reply(200, "backend-1"))
    nobody: t.Any = None
    checks = AddonChecks(
        nobody, t.cast("t.Any", kubectl), Addons(load_balancer="slipway-load-balancer"), Stage("n", "image")
    )
    check = checks.check_balanced()
    assert seen in check.seen
    assert check.ok == seen.startswith("is at")
    assert kubectl.done == done


@pytest.mark.parametrize(
    ("routes", "seen", "skipped"),
    [
        (
            [{"dst": HELD, "gateway": "10.0.1.1"}],
            "is at w1 by its own word, behind 10.0.1.1; 12 requests, 1 pods",
            False,
        ),
        ([], f"this host has no route to {HELD}", True),
    ],
)
def test_an_address_on_no_network_of_this_host_is_not_asked_for_there(
    monkeypatch: pytest.MonkeyPatch, routes: list[dict[str, t.Any]], seen: str, *, skipped: bool
) -> None:
    monkeypatch.setattr(verify_addons, "ask_ip", lambda _machine, *_arguments: routes)
    monkeypatch.setattr(verify_addons, "who_has", lambda _address: "")
    monkeypatch.setattr(verify_addons, "fetch", lambda *_arguments: Reply(200, "backend-1"))
    nobody: t.Any = None
    kubectl = t.cast("t.Any", Kubectl(HELD))
    check = AddonChecks(nobody, kubectl, Addons(load_balancer="x"), Stage("n", "image")).check_balanced()
    assert (check.ok, check.skipped) == (True, skipped)
    assert seen in check.seen


def certified(directory: pathlib.Path, name: str, issuer: str, *options: str) -> None:
    """NAME.key and NAME.crt of ISSUER's, in the directory; its own where it is its own issuer."""
    call = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    signed_by = [] if name == issuer else ["-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.key"]
    files = ["-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.crt"]
    subprocess.run([*call, *signed_by, *files, *options], cwd=directory, check=True, capture_output=True)


@contextlib.contextmanager
def answering(certificate: pathlib.Path, key: pathlib.Path) -> collections.abc.Iterator[int]:
    """A server with this certificate; its port."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Holding:
    """Knows one Secret."""

    def __init__(self, certificate: bytes) -> None:
        self.certificate = certificate

    def json(self, _arguments: t.Sequence[str]) -> t.Any:
        return {"data": {"tls.crt": base64.b64encode(self.certificate).decode()}}


@pytest.mark.parametrize(("held", "trusted"), [("chain", True), ("server", True), ("other", False)])
def test_a_gateways_certificate_needs_no_root(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path, held: str, *, trusted: bool
) -> None:
    default = ssl.create_default_context

    def older(**options: t.Any) -> ssl.SSLContext:
        """A context as Python before 3.13 makes it: a chain that ends before a root is none."""
        context = default(**options)
        context.verify_flags &= ~0x80000
        return context

    authority = ("-addext", "basicConstraints=critical,CA:TRUE")
    certified(tmp_path, "root", "root")
    certified(tmp_path, "between", "root", *authority)
    certified(tmp_path, "server", "between", "-addext", "basicConstraints=CA:FALSE")
    certified(tmp_path, "other", "between", "-addext", "basicConstraints=CA:FALSE")
    chain = tmp_path / "chain.crt"
    chain.write_bytes((tmp_path / "server.crt").read_bytes() + (tmp_path / "between.crt").read_bytes())
    monkeypatch.setattr(ssl, "create_default_context", older)
    nobody: t.Any = None
    kubectl = t.cast("t.Any", Holding((tmp_path / f"{held}.crt").read_bytes()))
    context = AddonChecks(nobody, kubectl, Addons(gateway=("g", "default")), Stage("n", "image"))._context_of_gateway()
    with answering(chain, tmp_path / "server.key") as port:
        reply = verify_addons.fetch("127.0.0.1", port, "any.test", "/hostname", context=context)
    assert (reply.status == 501) == trusted, reply
