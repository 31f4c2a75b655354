# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The longer questions of a full verification, asked of a live cluster."""

from __future__ import annotations

import collections
import contextlib
import threading
import time
import typing as t

from ..core import verify, verify_full, verify_workload
from ..core.manifests import unsettled
from ..core.verify import Answer, Check
from ..core.verify_full import FAILING, ROLLED, SCALED, Load
from .kubectl import Kubectl
from .machine import Machine, still_lacking
from .verify_talk import Talk, soon

# A version that never becomes ready is given this long to do harm.
_HARM_SECONDS = 8.0
# An autoscaler looks every 15 s at figures that are made every 15 s, of pods that must have run a while.
_SCALING_SECONDS = 150.0


class FullChecks:
    """The longer questions of one verification. Without ``dns`` pods use addresses."""

    def __init__(
        self, machine: Machine, kubectl: Kubectl, talk: Talk, stage: verify_workload.Stage, *, dns: bool
    ) -> None:
        self._machine = machine
        self._kubectl = kubectl
        self._talk = talk
        self._stage = stage
        self._namespace = stage.namespace
        self._image = stage.image
        self._dns = dns

    def put_up(self) -> None:
        """What takes its time is started first."""
        objects = [
            *verify_full.rolled_objects(self._namespace, self._image, "1"),
            *verify_full.scaled_objects(self._namespace, self._image),
            verify_full.failing_object(self._namespace, self._image),
        ]
        self._kubectl.apply(self._stage.place(objects))

    def _roll(self, version: str, *, ready: bool = True) -> None:
        objects = verify_full.rolled_objects(self._namespace, self._image, version, ready=ready)
        self._kubectl.apply(self._stage.place(objects))

    def check_rollout(self) -> Check:
        """To version 2 while requests come; none may fail."""
        lacking = self._settled(ROLLED)
        with self._under_load(ROLLED, "envvar?var=VERSION") as seen:
            self._roll("2")
            lacking = lacking or self._settled(ROLLED)
            time.sleep(2)
        return verify_full.judge_rollout(seen.load(), lacking, "2")

    def check_bad_version(self) -> Check:
        """To a version 3 that never becomes ready, and back."""
        held = undone = ""
        with self._under_load(ROLLED, "envvar?var=VERSION") as seen:
            self._roll("3", ready=False)
            time.sleep(_HARM_SECONDS)
            if not self._settled(ROLLED, timeout=0):
                held = "it counts as ready"
            where = f"--namespace={self._namespace}"
            self._kubectl.run(["rollout", "undo", f"deployment/{ROLLED}", where])
            undone = self._settled(ROLLED)
        return verify_full.judge_bad_version(seen.load(), held, undone)

    def check_liveness(self) -> Check:
        """A pod whose program stops being well is restarted."""

        def restarts() -> int:
            listing = self._kubectl.json(["get", "pods", f"--namespace={self._namespace}", f"--selector=app={FAILING}"])
            return sum(pod.restarts for pod in verify_workload.pods_of(listing, FAILING))

        return verify_full.judge_liveness(soon(restarts, seconds=45, interval=1))

    def check_autoscaler(self, *, metrics: bool) -> Check:
        """More pods under load, and fewer without."""
        if not metrics:
            return verify.skipped("autoscaler", "it needs metrics, which are off")
        start = time.monotonic()
        with self._under_load(SCALED, f"echo?msg={'x' * 2000}"):
            most = self._pods_until(lambda count: count > 1)
        middle = time.monotonic()
        least = self._pods_until(lambda count: count <= 1) if most > 1 else most
        said = self._kubectl.json(["get", "hpa", SCALED, f"--namespace={self._namespace}"])
        conditions = (said.get("status") or {}).get("conditions") or ()
        words = "; ".join(str(each.get("message", "")) for each in conditions if each.get("status") != "True")
        return verify_full.judge_autoscaler(most, least, (middle - start, time.monotonic() - middle), words)

    def _pods_until(self, enough: t.Callable[[int], bool]) -> int:
        """How many pods the scaled Deployment has once that is enough, or at the end of patience."""

        def ready() -> int:
            found = self._kubectl.json(["get", "deployment", SCALED, f"--namespace={self._namespace}"])
            return int(found["status"].get("readyReplicas", 0))

        return soon(ready, enough, seconds=_SCALING_SECONDS, interval=2)

    def _settled(self, name: str, timeout: float = 60) -> str:
        """Why a Deployment is not there in full, once it is or patience is over; empty if it is."""

        def lacking() -> t.Optional[str]:
            return unsettled(self._kubectl.json(["get", "deployment", name, f"--namespace={self._namespace}"]))

        return still_lacking(self._machine, f"Deployment {name}", lacking, timeout=timeout)

    @contextlib.contextmanager
    def _under_load(self, service: str, request: str) -> t.Iterator[_Requests]:
        """Requests to a Service from a pod, one after the other, until the block ends."""
        host = service if self._dns else self._talk.service_address(service)
        requests = _Requests(self._talk, host, request)
        requests.start()
        try:
            yield requests
        finally:
            requests.end()


class _Requests:
    """A thread that asks and counts."""

    def __init__(self, talk: Talk, host: str, request: str) -> None:
        self._talk = talk
        self._host = host
        self._request = request
        self._stop = threading.Event()
        self._answers: collections.Counter[str] = collections.Counter()
        self._errors: list[str] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin once the Service answers, of which proxies learn after the API; wait for the first that count."""
        soon(self._ask, lambda answer: not answer.trouble)
        self._thread.start()
        soon(lambda: self._answers, seconds=10, interval=0.1)

    def end(self) -> None:
        """Stop after the requests that are on their way."""
        self._stop.set()
        self._thread.join(30)

    def load(self) -> Load:
        """What was answered so far."""
        return Load(dict(self._answers), tuple(self._errors))

    def _ask(self) -> Answer:
        return self._talk.ask_service(self._host, self._request)

    def _run(self) -> None:
        while not self._stop.is_set():
            answer = self._ask()
            self._answers.update(answer.responses)
            self._errors.extend(answer.errors)
