# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Cordons, evicts, releases and uncordons on a live API, see core/drain.py."""

from __future__ import annotations

import json
import time
import typing as t
import urllib.parse

from ..core.change import Change
from ..core.drain import (
    Attachment,
    DrainSeen,
    DrainWant,
    Pod,
    Step,
    blocked,
    detaching,
    eviction_of,
    leaving,
    patch_of,
    plan_drain,
    refusal,
    summarize_attachments,
    summarize_node,
    summarize_pod,
)
from ..core.nodes import summarize_nodes
from ..core.problems import Problem, SlipwayError
from .api_proxy import ApiProxy, open_proxy
from .kubectl import Kubectl
from .machine import Machine
from .verify_talk import parallel

_ATTEMPTS = 5
_INTERVAL_SECONDS = 1.0
# One kubectl proxy does not live for ever, and a drain may take its time.
_PROXY_SECONDS = 240.0


class Drain:
    """The Nodes that are asked for, on one API; ``timeout`` bounds each wait for pods to be gone, in seconds."""

    def __init__(self, machine: Machine, paths: tuple[str, str], want: DrainWant, timeout: float) -> None:
        self._machine = machine
        self._paths = paths
        self._kubectl = Kubectl(machine, *paths)
        self._want = want
        self._timeout = timeout
        self.seen = DrainSeen()

    def observe(self) -> DrainSeen:
        """The Nodes, and the pods and volumes on those asked for."""
        listing = self._kubectl.nodes()
        if listing is None:
            self.seen = DrainSeen()
            return self.seen
        nodes = {node.name: node for node in map(summarize_node, listing.get("items") or ())}
        asked = [name for name in self._want.nodes if name in nodes and self._want.state == "drained"]
        pods = parallel(self._listed, asked)
        going = asked if self._want.dead or self._want.detached else ()
        attached = (self._attachments(going) if going else None) or ()
        self.seen = DrainSeen(True, nodes, tuple(pod for name in asked for pod in pods[name]), attached)
        return self.seen

    def plan(self) -> list[Change]:
        """The steps from what was last seen."""
        return plan_drain(self._want, self.seen)

    def apply(self, change: Change) -> None:
        """Carry out one step."""
        step: Step = change.data
        whole = {"evict": self._evict, "detach": self._await_detached, "delete": self._delete}.get(step.kind)
        if whole:
            whole(step.nodes)
            return
        for name in step.nodes:
            if step.kind == "release":
                self._await_silence(name)
            self._patch(step, name)
        if step.kind == "release":
            self._evict(step.nodes)

    def _delete(self, names: t.Sequence[str]) -> None:
        self._kubectl.run(["delete", "node", "--ignore-not-found", "--timeout=60s", *names], timeout=70)

    def _listed(self, name: str) -> list[Pod]:
        arguments = ["get", "pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}"]
        return [summarize_pod(item) for item in (self._kubectl.json(arguments) or {}).get("items") or ()]

    def _attachments(self, names: t.Container[str]) -> t.Optional[tuple[Attachment, ...]]:
        """The volumes that are attached to those Nodes; None where no API answers."""
        listing = self._kubectl.listed("volumeattachments,persistentvolumes")
        if listing is None:
            return None
        return tuple(each for each in summarize_attachments(listing.get("items") or ()) if each.node in names)

    def _await_detached(self, names: t.Sequence[str]) -> None:
        """Wait until no volume that had to go is attached.

        Whoever deletes the Node before leaves Kubernetes without the word that nobody uses it, and the volume attached
        for six minutes (the attach/detach controller's ``maxWaitForUnmountDuration``).
        """
        going = {each.name for each in detaching(self.seen)}

        def lacking() -> t.Optional[str]:
            attached = self._attachments(names)
            if attached is None:
                return "no API server answers"
            left = [f"{each.text()}, VolumeAttachment {each.name}" for each in attached if each.name in going]
            return f"still attached: {'; '.join(left)}" if left else None

        self._machine.wait(
            f"node {', '.join(names)}",
            lacking,
            timeout=self._timeout,
            interval=_INTERVAL_SECONDS,
            remedy="see kubectl describe volumeattachment, and what its driver's controller says; the next run goes on",
        )

    def _patch(self, step: Step, name: str) -> None:
        said = ""
        for _attempt in range(_ATTEMPTS):
            item = self._kubectl.json(["get", "node", name])
            patch = patch_of(step, summarize_node(item), self._want.reason)
            if not patch:
                return
            said = self._kubectl.patch_node(name, patch)
            if not said:
                return
        raise SlipwayError(Problem(f"node {name}", f"{step.kind} was refused {_ATTEMPTS} times: {said}"))

    def _await_silence(self, name: str) -> None:
        """Wait until the Node is not Ready: the taint on a live one would have its pods run twice."""

        def ready() -> t.Optional[str]:
            node = summarize_nodes(self._kubectl.nodes()).nodes.get(name)
            return "its kubelet reports that it is Ready" if node and node.ready else None

        self._machine.wait(
            f"node {name}",
            ready,
            timeout=self._timeout,
            interval=1,
            remedy="a host that is alive is not to be declared dead: switch it off, or leave the option away",
        )

    def _evict(self, names: t.Sequence[str]) -> None:
        """Ask for every pod that has to go to be evicted until none is left."""
        end = time.monotonic() + self._timeout
        refusals: dict[str, str] = {}
        while True:
            with open_proxy(*self._paths) as proxy:
                left = self._evict_until(proxy, names, min(end, time.monotonic() + _PROXY_SECONDS), refusals)
            if not left:
                return
            if time.monotonic() >= end:
                raise SlipwayError(blocked(left, refusals, self._timeout))

    def _evict_until(
        self, proxy: ApiProxy, names: t.Sequence[str], end: float, refusals: dict[str, str]
    ) -> tuple[Pod, ...]:
        while True:
            left = tuple(pod for pods in parallel(lambda name: self._left(proxy, name), names).values() for pod in pods)
            asked = [pod for pod in left if not pod.terminating]
            answers = parallel(lambda pod: self._ask(proxy, pod), asked)
            refusals.update({pod.uid: answer for pod, answer in answers.items()})
            if not left or time.monotonic() >= end:
                return left
            time.sleep(_INTERVAL_SECONDS)

    def _left(self, proxy: ApiProxy, name: str) -> tuple[Pod, ...]:
        selector = urllib.parse.quote(f"spec.nodeName={name}")
        status, body = proxy.get(f"/api/v1/pods?fieldSelector={selector}", timeout=30)
        if status != 200:
            # An API server that is restarted is back soon; what was known is still to be done.
            return leaving(pod for pod in self.seen.pods if pod.node == name)
        return leaving(summarize_pod(item) for item in json.loads(body)["items"])

    def _ask(self, proxy: ApiProxy, pod: Pod) -> str:
        path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
        if self._want.dead:
            # There is nothing left to protect; with the taint the cluster forgets it as soon as it is to be deleted.
            return refusal(*proxy.request("DELETE", path, {"preconditions": {"uid": pod.uid}}))
        return refusal(*proxy.request("POST", f"{path}/eviction", eviction_of(pod)))
