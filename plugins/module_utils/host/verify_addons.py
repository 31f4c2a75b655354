# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Uses add-ons and policies of a live cluster as its users do, from this host."""

from __future__ import annotations

import base64
import contextlib
import ctypes
import dataclasses
import fcntl
import functools
import http.client
import json
import socket
import ssl
import struct
import time
import typing as t

from ..core import verify, verify_addons, verify_workload
from ..core.nodes import NodesSeen
from ..core.verify import Check
from ..core.verify_addons import KEPT, READER, REQUESTS, WRITER, Asked, Holder, Kept, Reply, Way
from .api_proxy import ApiProxy
from .facts import ask_ip
from .generate import self_signed
from .kubectl import Kubectl
from .machine import Machine, still_lacking
from .verify_talk import SOON_SECONDS, message, parallel, soon

_ASK_SECONDS = 5.0
_ARP_TRIES = 5
# A speaker repeats what it has begun to answer for, for five seconds.
_ANNOUNCED_SECONDS = 8.0
_ANNOUNCEMENTS = 2
_EVERY_PROTOCOL = 0x0003
_ATTACH_FILTER = 26
# X509_V_FLAG_PARTIAL_CHAIN (openssl/x509_vfy.h), which has a name in Python from 3.10: what one trusts need be no root.
_PARTIAL_CHAIN = 0x80000
# struct sock_filter: load the protocol, compare, take 256 bytes, take nothing (linux/filter.h).
_ONLY_ARP = ((0x28, 0, 0, 12), (0x15, 0, 1, 0x0806), (0x06, 0, 0, 256), (0x06, 0, 0, 0))


@dataclasses.dataclass(frozen=True)
class Addons:
    """Which add-ons the cluster is expected to have, and where they answer.

    ``ingress`` are the hosts' addresses with ports 80 and 443; ``ingress_service`` (namespace, name) is the Service
    whose address it is instead. ``gateway`` is the default Gateway (namespace, name), ``pod_security`` the level of
    namespaces without labels, ``storage`` the namespace of what makes volumes and its StorageClass. Empty for what
    there is not.
    """

    dns: bool = True
    metrics: bool = False
    ingress: tuple[str, ...] = ()
    ingress_service: tuple[str, ...] = ()
    gateway: tuple[str, ...] = ()
    load_balancer: str = ""
    storage: tuple[str, ...] = ()
    pod_security: str = ""

    @property
    def has_ingress(self) -> bool:
        """Whether there is a way in for HTTP."""
        return bool(self.ingress or self.ingress_service)


class AddonChecks:
    """The questions of one verification."""

    def __init__(self, machine: Machine, kubectl: Kubectl, want: Addons, stage: verify_workload.Stage) -> None:
        self._machine = machine
        self._kubectl = kubectl
        self._want = want
        self._stage = stage
        self._namespace = stage.namespace
        self._image = stage.image
        self._tls: dict[str, bytes] = {}

    def objects(self) -> list[dict[str, t.Any]]:
        """What these questions need beside the workloads: routes, a Service with an address."""
        objects: list[dict[str, t.Any]] = []
        if self._want.has_ingress:
            host = verify_addons.host_name(self._namespace, verify_addons.INGRESS)
            self._tls = self_signed(self._machine, host)
            objects += verify_addons.ingress_objects(self._namespace, self._tls)
        if self._want.gateway:
            objects.append(verify_addons.route_object(self._namespace, (self._want.gateway[0], self._want.gateway[1])))
        if self._want.load_balancer:
            objects.append(verify_addons.balanced_service(self._namespace))
        if self._want.storage:
            objects.append(verify_addons.claim_object(self._namespace, self._want.storage[1]))
            objects.append(verify_addons.kept_job(self._namespace, self._image, WRITER))
        return self._stage.place(objects)

    def check_metrics(self, proxy: ApiProxy, nodes: NodesSeen) -> Check:
        """The metrics API, through the API server's aggregation layer."""
        if not self._want.metrics:
            return verify.skipped("metrics", "slipway_metrics is off")
        ready = nodes.ready
        status, body = proxy.get("/apis/metrics.k8s.io/v1beta1/nodes")
        listing = json.loads(body) if status == 200 else None
        pods_status, pods = proxy.get("/apis/metrics.k8s.io/v1beta1/pods")
        count = len(json.loads(pods)["items"]) if pods_status == 200 else 0
        return verify_addons.judge_metrics(ready, listing, message(status, body) if listing is None else "", count)

    def check_ingress(self) -> Check:
        """By host name and path over TLS, with a certificate of the route's own that is verified."""
        if not self._want.has_ingress:
            return verify.skipped(
                "ingress", "nothing of Slipway's takes HTTP from outside, or its hosts are down on purpose"
            )
        host = verify_addons.host_name(self._namespace, verify_addons.INGRESS)
        context = ssl.create_default_context(cadata=self._tls["tls.crt"].decode())
        asked = self._ask_routes(host, (443, context), (80, None))
        done = f"{REQUESTS} requests by host name and path over verified TLS, and others that must not be answered"
        return verify_addons.judge_routes("ingress", done, asked, self._space())

    def check_gateway(self) -> Check:
        """The same through the default Gateway, over HTTP and with its own certificate over HTTPS."""
        if not self._want.gateway:
            return verify.skipped("gateway", "there is no Gateway of Slipway's, or its hosts are down on purpose")
        host = verify_addons.host_name(self._namespace, verify_addons.ROUTE)
        context = self._context_of_gateway()
        asked = self._ask_routes(host, (443, context), (80, None), both=True)
        done = f"{REQUESTS} requests by host name and path to each port, and others that must not be answered"
        return verify_addons.judge_routes("gateway", done, asked, self._space())

    def check_balanced(self) -> Check:
        """An address for a Service: asked for on the network itself, then over HTTP.

        Where nobody answers it may be this very host that would: then it is seen to announce the address. No network of
        this host's can be asked for an address behind a router: then a node has to say that it announces it.
        """
        if not self._want.load_balancer:
            return verify.skipped("load balancer", "slipway_load_balancer has no pools")
        address = self._address_of(self._namespace, verify_addons.BALANCED)
        way = verify_addons.way_of(ask_ip(self._machine, "-4", "route", "get", address)) if address else Way()
        if not way.reachable:
            return verify.skipped("load balancer", f"this host has no route to {address}, which a Service was given")
        if way.router:
            holder = Holder(router=way.router, nodes=soon(self._announcers))
        else:
            address, holder = self._holder(address)
        get = functools.partial(fetch, address, 80, address, "/hostname")
        # A Service that was just made is on the network before the proxies know of it.
        first = [] if holder.trouble else [soon(get, lambda reply: not reply.trouble)]
        replies = [*first, *(get() for _each in range(REQUESTS - 1))] if first else []
        return verify_addons.judge_balanced(address, holder, replies, self._want.load_balancer)

    def _holder(self, address: str) -> tuple[str, Holder]:
        """Who has the Service's address on a network of this host, and the address, which may have become another."""
        if not address:
            return "", Holder()
        holder = Holder(who_has(address))
        if not holder.hardware:
            address, holder = self._announced()
        if address and not holder.hardware:
            holder = Holder(soon(lambda: who_has(address)))
        return address, holder

    def _announcers(self) -> tuple[str, ...]:
        """The nodes that say they announce the Service."""
        return verify_addons.announcers(self._kubectl.json(["get", "events", self._where]))

    def _announced(self) -> tuple[str, Holder]:
        """The Service's address when it is made anew, and what this host itself then says of it on the network."""
        self._kubectl.run(["delete", "service", verify_addons.BALANCED, self._where, "--ignore-not-found"])
        with listening() as wire:
            self._kubectl.apply([verify_addons.balanced_service(self._namespace)])
            address = self._address_of(self._namespace, verify_addons.BALANCED)
            return address, announced_here(wire, address) if address else Holder()

    def check_job(self) -> Check:
        """A Job that reads what was mounted into it."""
        job = self._ended_job(verify_addons.JOB)
        logs = {name: self._logs(verify_addons.JOB, f"--container={name}") for name in ("config", "secret")}
        return verify_addons.judge_job(job, logs)

    def check_refusal(self) -> Check:
        """A privileged pod in a namespace of a user."""
        if self._want.pod_security not in ("baseline", "restricted"):
            return verify.skipped("pod security", f"the cluster's level is {self._want.pod_security or 'unknown'}")
        pod = json.dumps(verify_addons.privileged_pod(self._namespace, self._image))
        output = self._kubectl.run(["create", "--dry-run=server", "--filename=-"], stdin=pod, check=False)
        return verify_addons.judge_refusal(self._want.pod_security, output.rc, output.stderr)

    def check_volume(self, *, timeout: float) -> Check:
        """What one pod writes, another one reads, and nothing stays; ``timeout`` bounds each wait, in seconds."""
        if not self._want.storage:
            return verify.skipped("volume", "slipway_storage is off")
        kept = self._keep(timeout)
        if not kept.waits:
            kept = dataclasses.replace(kept, left=self._let_go(kept.volume, timeout))
        return verify_addons.judge_volume(kept, self._want.storage[0])

    def _keep(self, timeout: float) -> Kept:
        """Wait for the writer, take it away, have the reader read."""
        trouble = self._job_trouble(WRITER, timeout)
        claim = self._kubectl.json(["get", "pvc", KEPT, self._where, "--ignore-not-found"])
        volume = str(((claim or {}).get("spec") or {}).get("volumeName", ""))
        if trouble:
            events = self._kubectl.json(["get", "events", self._where])
            return Kept(volume, waits=verify_addons.claim_words(claim, events), trouble=trouble)
        self._kubectl.run(["delete", "job", WRITER, self._where, "--cascade=foreground"])
        reader = verify_addons.kept_job(self._namespace, self._image, READER)
        self._kubectl.apply(self._stage.place([reader]))
        trouble = self._job_trouble(READER, timeout)
        text = self._logs(READER)
        pods = self._kubectl.json(["get", "pods", self._where, f"--selector=app={READER}"])["items"]
        node = str(pods[0]["spec"].get("nodeName", "")) if pods else ""
        return Kept(volume, node=node, text=text, trouble=trouble)

    def _let_go(self, volume: str, timeout: float) -> str:
        """Delete the claim; what removes volumes has then to remove this one. Returns what is left."""
        jobs = ["delete", "job", WRITER, READER, self._where, "--ignore-not-found", "--cascade=foreground"]
        self._kubectl.run(jobs)
        self._kubectl.run(["delete", "pvc", KEPT, self._where, "--ignore-not-found", "--wait=false"])

        def still() -> t.Optional[str]:
            found = self._kubectl.json(["get", "pv", volume, "--ignore-not-found"])
            return f"volume {volume} is {found['status'].get('phase')} and not removed" if found else None

        return still_lacking(self._machine, "the volume's end", still, timeout=timeout) if volume else ""

    def _job_trouble(self, name: str, timeout: float) -> str:
        """Why a Job has not ended well; empty once it has."""
        status = self._ended_job(name, timeout)["status"]
        if status.get("succeeded"):
            return ""
        if not status.get("failed"):
            return f"the Job {name} has not ended within {timeout:g} s"
        return f"the Job {name} failed: {self._logs(name).strip()[-160:]}"

    def _ended_job(self, name: str, timeout: float = SOON_SECONDS) -> t.Any:
        """The Job once it has ended in any way, or as it is when ``timeout`` seconds are over."""
        return soon(
            lambda: self._kubectl.json(["get", "job", name, self._where]),
            lambda job: job["status"].get("succeeded") or job["status"].get("failed"),
            seconds=timeout,
        )

    def _logs(self, job: str, *more: str) -> str:
        said = self._kubectl.run(["logs", f"job/{job}", self._where, *more], check=False)
        return said.stdout or said.stderr

    @property
    def _where(self) -> str:
        return f"--namespace={self._namespace}"

    def _space(self) -> str:
        return "slipway-ingress" if not self._want.ingress_service else self._want.ingress_service[0]

    def _addresses(self) -> list[str]:
        """Where HTTP is taken, as far as it is known."""
        if not self._want.ingress_service:
            return list(self._want.ingress)
        return [self._address_of(*self._want.ingress_service)]

    def _address_of(self, namespace: str, name: str) -> str:
        def given() -> str:
            found = self._kubectl.json(["get", "service", name, f"--namespace={namespace}", "--ignore-not-found"])
            entries = ((found or {}).get("status") or {}).get("loadBalancer", {}).get("ingress") or [{}]
            return str(entries[0].get("ip", ""))

        return soon(given)

    def _ask_routes(
        self,
        host: str,
        secure: tuple[int, t.Optional[ssl.SSLContext]],
        plain: tuple[int, t.Optional[ssl.SSLContext]],
        *,
        both: bool = False,
    ) -> dict[str, Asked]:
        """Ask every address often enough, once the first answer has come."""

        def ask(address: str) -> Asked:
            if not address:
                return Asked(good=(Reply(error="no address"),))
            get = functools.partial(fetch, address, secure[0], context=secure[1])
            first = soon(lambda: get(host, "/hostname"), lambda reply: not reply.trouble)
            if first.trouble:
                return Asked(good=(first,))
            good = [first, *(get(host, "/hostname") for _each in range(REQUESTS - 1))]
            if both:
                good += [fetch(address, plain[0], host, "/hostname") for _each in range(REQUESTS)]
            stray = [get(host, "/clientip"), fetch(address, plain[0], f"other.{host}", "/hostname")]
            return Asked(tuple(good), tuple(stray))

        return t.cast("dict[str, Asked]", parallel(ask, self._addresses()))

    def _context_of_gateway(self) -> ssl.SSLContext:
        """Trusts what the Gateway's Secret holds, whatever names stand in it, and without the root it leads to."""
        where = [f"--namespace={self._want.gateway[0]}", "--ignore-not-found"]
        secret = self._kubectl.json(["get", "secret", "default-certificate", *where])
        encoded = ((secret or {}).get("data") or {}).get("tls.crt", "")
        context = ssl.create_default_context(cadata=base64.b64decode(encoded).decode() or None)
        context.check_hostname = False
        # Not Python's defaults: before 3.13 they demand a root, from 3.13 extensions that many authorities leave out.
        context.verify_flags = ssl.VERIFY_X509_TRUSTED_FIRST | _PARTIAL_CHAIN
        return context


def fetch(address: str, port: int, host: str, path: str, *, context: t.Optional[ssl.SSLContext] = None) -> Reply:
    """One GET for ``host`` at an address, over TLS with a context."""
    try:
        with socket.create_connection((address, port), _ASK_SECONDS) as plain:
            connection = http.client.HTTPConnection(host, timeout=_ASK_SECONDS)
            connection.sock = context.wrap_socket(plain, server_hostname=host) if context else plain
            connection.request("GET", path, headers={"Host": host, "Connection": "close"})
            response = connection.getresponse()
            text = response.read(4096).decode("utf-8", "replace").strip()
            connection.close()
            return Reply(response.status, text)
    except socket.timeout:
        return Reply(error=f"no answer at port {port} within {_ASK_SECONDS:g} s")
    except (OSError, http.client.HTTPException) as error:
        return Reply(error=f"port {port}: {error}")


def who_has(address: str) -> str:
    """The hardware address that answers an ARP request for an IPv4 address; empty if none does, or none is asked."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
            own = probe.getsockname()[0]
        except OSError:
            return ""
    interface = _interface_of(own)
    if not interface:
        return ""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as wire:
        wire.bind((interface, 0))
        wire.settimeout(0.5)
        source = wire.getsockname()[4]
        request = b"\xff" * 6 + source + struct.pack("!HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
        request += source + socket.inet_aton(own) + bytes(6) + socket.inet_aton(address)
        for _each in range(_ARP_TRIES):
            wire.send(request)
            found = _arp_reply(wire, address)
            if found:
                return found
    return ""


def _arp_reply(wire: socket.socket, wanted: str) -> str:
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        try:
            frame = wire.recv(256)
        except socket.timeout:
            return ""
        sender, hardware = verify_addons.arp_sender(frame)
        if frame[20:22] == b"\x00\x02" and sender == wanted:  # a reply
            return hardware
    return ""


@contextlib.contextmanager
def listening() -> t.Iterator[socket.socket]:
    """A socket that gets each frame with ARP that this host sends or receives."""
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in _ONLY_ARP))
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_EVERY_PROTOCOL)) as wire:
        attached = struct.pack("HL", len(_ONLY_ARP), ctypes.addressof(program))
        wire.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, attached)
        wire.settimeout(0.5)
        yield wire


def announced_here(wire: socket.socket, address: str) -> Holder:
    """What this host is seen to say of the address, within the time in which that is repeated."""
    end = time.monotonic() + _ANNOUNCED_SECONDS
    found = Holder()
    while found.announced < _ANNOUNCEMENTS and time.monotonic() < end:
        try:
            frame, origin = wire.recvfrom(256)
        except socket.timeout:
            continue
        sender, hardware = verify_addons.arp_sender(frame)
        if sender == address and origin[2] == socket.PACKET_OUTGOING:
            found = Holder(hardware, found.announced + 1)
    return found


def _interface_of(own: str) -> str:
    """The interface with this address of the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _index, name in socket.if_nameindex():
            try:
                packed = struct.pack("256s", name.encode()[:15])
                answer = fcntl.ioctl(any_socket.fileno(), 0x8915, packed)  # SIOCGIFADDR
            except OSError:
                continue
            if socket.inet_ntoa(answer[20:24]) == own:
                return name
    return ""
