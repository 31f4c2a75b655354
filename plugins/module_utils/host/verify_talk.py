# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions from the pods of a verification to each other."""

from __future__ import annotations

import concurrent.futures
import json
import socket
import time
import typing as t
import urllib.parse

from ..core import verify, verify_workload
from ..core.problems import Problem, SlipwayError
from ..core.verify import Answer, Check
from ..core.verify_workload import BACKEND, HEADLESS, HTTP_PORT, PAYLOAD, PROBE, SWITCH_PORT, UDP_PORT, WALLED, PodSeen
from .api_proxy import ApiProxy
from .kubectl import Kubectl

_THREADS = 16
_EXECS = 10
# A pod waits 5 s for each answer, and longer for a name; a broken one must not take the time of all other findings.
_ASK_SECONDS = 12.0
_ROUND = 10
# Where nothing is proved either way, because a question did not get through.
_DOUBT_SECONDS = 5.0
# A proxy learns of a new route, and a speaker of a new address, a moment after the API does.
SOON_SECONDS = 20.0
_Key = t.TypeVar("_Key")
_Found = t.TypeVar("_Found")


class Talk:
    """Questions to the pods that run on every node."""

    def __init__(self, kubectl: Kubectl, proxy: ApiProxy, namespace: str, listing: t.Mapping[str, t.Any]) -> None:
        self._kubectl = kubectl
        self._proxy = proxy
        self._namespace = namespace
        # A pod on a node that is not Ready does not serve; the finding on nodes has named it.
        self._probes = [pod for pod in verify_workload.pods_of(listing, PROBE) if not pod.lack]
        self._backends = verify_workload.pods_of(listing, BACKEND)
        self._walled = verify_workload.pods_of(listing, WALLED)

    def check_pairs(self) -> Check:
        """Each pod to each pod on another node."""
        pairs = [(one, other) for one in self._probes for other in self._probes if one.node != other.node]
        trouble = parallel(lambda pair: self._pair_trouble(*pair), pairs)
        return verify.judge_pairs({(one.node, other.node): text for (one, other), text in trouble.items()})

    def check_service(self) -> Check:
        """The ClusterIP from each node, often enough to meet every endpoint."""
        return verify.judge_service(self._service_answers(), [pod.name for pod in self._backends])

    def check_unready(self, *, timeout: float) -> Check:
        """A pod that is not ready is left out while it serves on, and taken in again, each within ``timeout``."""
        pod = self._backends[0]
        every = {each.name for each in self._backends}
        self._switch(pod, "make-not-serving")
        without = self._until_met(every - {pod.name}, timeout)
        alone = self._dial(self._probes[0], pod.ip, HTTP_PORT, "hostname").trouble
        self._switch(pod, "make-serving")
        return verify.judge_unready(pod.name, alone, without, self._until_met(every, timeout))

    def check_names(self, domain: str) -> Check:
        """A Service by its short and its full name, a headless one by its full name, from each node.

        A headless name stands for the addresses of all pods, in a new order each time it is asked for.
        """
        suffix = f"{self._namespace}.svc.{domain}"
        headless = f"{HEADLESS}.{suffix}"
        names = [(BACKEND, 80), (f"{BACKEND}.{suffix}", 80), (headless, HTTP_PORT)]
        backends = {pod.name for pod in self._backends}

        def all_met(answer: Answer) -> bool:
            return backends <= set(answer.responses)

        def ask(question: tuple[PodSeen, tuple[str, int]]) -> str:
            pod, (name, port) = question
            if name == headless:
                # A name is looked up once a call.
                met = self._ask_on(pod, name, port, endpoints=len(backends), at_once=1, enough=all_met)
                return verify.service_trouble(met, backends)
            answer = self._dial(pod, name, port, "hostname")
            return verify.service_trouble(answer, backends & set(answer.responses))

        trouble = parallel(ask, [(pod, name) for pod in self._probes for name in names])
        return verify.judge_names(
            "DNS inside",
            "connected to a Service by short and full name and to every pod of a headless one, from a pod on each node",
            {(pod.node, name): text for (pod, (name, _port)), text in trouble.items()},
        )

    def check_outside(self, name: str) -> Check:
        """A name outside, from each node's pod, if this host knows it."""
        if not name:
            return verify.skipped("DNS outside", "no name given")
        try:
            socket.getaddrinfo(name, 443)
        except OSError:
            return verify.skipped("DNS outside", f"this host does not resolve {name} either")

        def ask(pod: PodSeen) -> str:
            return verify.unresolved(self._dial(pod, name, 9, "hostname"))

        trouble = parallel(ask, self._probes)
        return verify.judge_names(
            "DNS outside",
            "looked up a name outside the cluster from a pod on each node",
            {(pod.node, name): text for pod, text in trouble.items()},
        )

    def check_streams(self) -> Check:
        """Logs of each node's pod, and a command in the first few."""
        chosen = {pod.name for pod in self._probes[:_EXECS]}

        def ask(pod: PodSeen) -> str:
            path = f"/api/v1/namespaces/{self._namespace}/pods/{pod.name}/log?limitBytes=4096"
            status, body = self._proxy.get(path)
            if status != 200 or "Started HTTP server" not in body:
                return f"logs: {message(status, body)}"
            return self._exec(pod) if pod.name in chosen else ""

        trouble = parallel(ask, self._probes)
        return verify.judge_streams({pod.node: text for pod, text in trouble.items()}, len(chosen))

    def check_events(self) -> Check:
        """What is told of the pods on every node."""
        listing = self._kubectl.json(["get", "events", f"--namespace={self._namespace}"])
        pods = [*self._probes, *self._backends, *self._walled]
        return verify.judge_events(listing, {pod.name: pod.node for pod in pods})

    def check_policy(self) -> Check:
        """Whether a walled pod can be reached from a pod on its node, which does reach another one."""
        walled = self._walled[0]
        near = next((pod for pod in self._probes if pod.node == walled.node), self._probes[0])
        other = next((pod for pod in self._backends if pod.node == near.node), self._backends[0])

        def ask() -> Check:
            control = self._dial(near, other.ip, HTTP_PORT, "hostname")
            return verify.judge_policy(control, self._dial(near, walled.ip, HTTP_PORT, "hostname"))

        return soon(ask, lambda check: not check.skipped, seconds=_DOUBT_SECONDS)

    def kill(self, pod: PodSeen) -> str:
        """Make the pod's program end with an error; why that was not possible, or an empty text.

        A program that ends does not answer, so an answer that breaks off is what one wants to see.
        """
        status, body = self._proxy.get(self._path(pod, "exit?code=3"), timeout=5)
        return body if status == 0 and "no answer" in body else ""

    def reaches(self, names: t.Sequence[str], *, timeout: float) -> bool:
        """Whether the Service comes to lead to all the pods, asked from one node."""
        end = time.monotonic() + timeout
        missing = set(names)
        address = self.service_address(BACKEND)
        while missing and time.monotonic() < end:
            missing -= set(self._dial(self._probes[0], address, 80, "hostname", tries=_ROUND).responses)
        return not missing

    def ask_service(self, host: str, request: str) -> Answer:
        """A few requests in a row to a Service by its name or address, from one node."""
        return self._dial(self._probes[0], host, 80, request, tries=_ROUND)

    def service_address(self, name: str) -> str:
        """The address of a Service of the namespace."""
        service = self._kubectl.json(["get", "service", name, f"--namespace={self._namespace}"])
        return str(service["spec"]["clusterIP"])

    def _ask_on(
        self,
        pod: PodSeen,
        host: str,
        port: int,
        *,
        endpoints: int,
        at_once: int,
        enough: t.Callable[[Answer], bool] = lambda _answer: False,
    ) -> Answer:
        """Ask ``host``, ``at_once`` times a call, until it is enough or every endpoint must have been met."""
        tries = verify_workload.tries_for(endpoints)
        answer = self._dial(pod, host, port, "hostname")
        while not answer.trouble and len(answer.responses) < tries and not enough(answer):
            more = self._dial(pod, host, port, "hostname", tries=at_once)
            answer = Answer(answer.responses + more.responses, more.errors)
        return answer

    def _switch(self, pod: PodSeen, path: str) -> None:
        status, body = self._proxy.get(self._path(pod, path, SWITCH_PORT))
        if status != 200:
            raise SlipwayError(Problem(pod.name, f"did not take {path}: {message(status, body)}"))

    def _until_met(self, names: t.Collection[str], timeout: float) -> dict[str, str]:
        """Each node's trouble with the Service once exactly these pods answer there, or when time is over."""

        def look() -> dict[str, str]:
            return {node: verify.service_trouble(each, names) for node, each in self._service_answers().items()}

        return soon(look, lambda trouble: not any(trouble.values()), seconds=timeout)

    def _service_answers(self) -> dict[str, Answer]:
        """What each node is told by the Service's address, asked often enough to meet every endpoint."""
        address = self.service_address(BACKEND)

        def ask(pod: PodSeen) -> Answer:
            return self._ask_on(pod, address, 80, endpoints=len(self._backends), at_once=_ROUND)

        return {pod.node: answer for pod, answer in parallel(ask, self._probes).items()}

    def _pair_trouble(self, one: PodSeen, other: PodSeen) -> str:
        """Empty if ``one`` reaches ``other`` by a small UDP packet, and by TCP with full ones each way."""
        udp = self._dial(one, other.ip, UDP_PORT, "hostname", protocol="udp")
        if udp.trouble or udp.responses[0] != other.name:
            return f"UDP: {udp.trouble or f'{udp.responses[0]} answered'}"
        tcp = self._dial(one, other.ip, HTTP_PORT, f"echo?msg={PAYLOAD}")
        if tcp.trouble or tcp.responses[0] != PAYLOAD:
            return f"TCP: {tcp.trouble or 'the answer is not what was sent'}"
        return ""

    def _dial(
        self, pod: PodSeen, host: str, port: int, request: str, *, protocol: str = "http", tries: int = 1
    ) -> Answer:
        """Let the pod ask ``host``; it waits 5 s for each try."""
        query = {"host": host, "port": port, "protocol": protocol, "request": request, "tries": tries}
        path = self._path(pod, f"dial?{urllib.parse.urlencode(query)}")
        status, body = self._proxy.get(path, timeout=_ASK_SECONDS)
        try:
            data = json.loads(body) if status == 200 else None
        except ValueError:
            data = None
        if not isinstance(data, dict):
            return Answer(errors=(message(status, body),))
        return Answer(tuple(data.get("responses") or ()), tuple(data.get("errors") or ()))

    def _exec(self, pod: PodSeen) -> str:
        mark = f"hello-{pod.name}"
        command = ["exec", pod.name, f"--namespace={self._namespace}", "--", "/agnhost", "entrypoint-tester", mark]
        output = self._kubectl.run(command, check=False, timeout=20)
        if output.rc == 0 and mark in output.stdout:
            return ""
        return f"exec: {(output.stderr or output.stdout).strip() or 'no output'}"

    def _path(self, pod: PodSeen, rest: str, port: int = HTTP_PORT) -> str:
        return f"/api/v1/namespaces/{self._namespace}/pods/{pod.name}:{port}/proxy/{rest}"


def parallel(ask: t.Callable[[_Key], t.Any], keys: t.Sequence[_Key]) -> dict[_Key, t.Any]:
    """Each key with its answer."""
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        return dict(zip(keys, pool.map(ask, keys)))


def soon(
    look: t.Callable[[], _Found],
    enough: t.Callable[[_Found], t.Any] = bool,
    *,
    seconds: float = SOON_SECONDS,
    interval: float = 0.5,
) -> _Found:
    """What ``look`` finds, asked until that is enough, or as it is when the seconds are over."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if enough(found) or time.monotonic() >= end:
            return found
        time.sleep(interval)


def message(status: int, body: str) -> str:
    """What a failed request says: the message of a Status object, or the text."""
    try:
        data = json.loads(body)
    except ValueError:
        data = None
    text = data["message"] if isinstance(data, dict) and "message" in data else body.strip()
    return f"{text} (status {status})" if status else f"{text} when asked through the API server"
