# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks etcd, API servers and Nodes, again and again, until all of them are well."""

from __future__ import annotations

import time
import typing as t

from ..core.gate import GateSeen, GateWant, faults
from ..core.nodes import NodesSeen, summarize_nodes
from ..core.problems import Problem, SlipwayError
from ..core.quorum import Member
from ..core.readiness import Wait
from .etcdctl import Etcdctl
from .kubectl import Kubectl
from .readiness import get
from .verify_talk import parallel

_INTERVAL_SECONDS = 0.5


class Gate:
    """One gate, and what was last seen at it."""

    def __init__(self, kubectl: Kubectl, etcdctl: Etcdctl, ca: str, want: GateWant) -> None:
        self._kubectl = kubectl
        self._etcdctl = etcdctl
        self._ca = ca
        self._want = want

    def wait(self, *, timeout: float) -> None:
        """Until all is well; SlipwayError names everything that is not after ``timeout`` seconds.

        What would cost etcd its quorum is one at once.
        """
        end = time.monotonic() + timeout
        while True:
            found = self.look()
            if not found:
                return
            if time.monotonic() >= end:
                raise SlipwayError([_late(problem, timeout) for problem in found])
            time.sleep(_INTERVAL_SECONDS)

    def look(self) -> list[Problem]:
        """Everything that is not well at this moment."""
        first, second, error = self._members()
        nodes = self._nodes()
        # Whom the API does not call ready is not asked: a kubelet that is down would take its time.
        asked = [name for name in self._want.nodes if name in nodes.nodes and nodes.nodes[name].ready]
        seen = GateSeen(
            first,
            second,
            error,
            answers=parallel(self._readyz, self._want.api_servers),
            nodes=nodes,
            probes=parallel(self._probe, [(name, path) for name in asked for path in self._want.node_paths]),
        )
        return faults(self._want, seen)

    def _members(self) -> tuple[tuple[Member, ...], tuple[Member, ...], str]:
        if not self._want.etcd:
            return (), (), ""
        try:
            return self._etcdctl.members(), self._etcdctl.members(), ""
        except SlipwayError as error:
            return (), (), error.problems[0].found

    def _nodes(self) -> NodesSeen:
        if not self._want.nodes:
            return NodesSeen()
        try:
            return summarize_nodes(self._kubectl.nodes())
        except SlipwayError:
            return NodesSeen()

    def _readyz(self, url: str) -> str:
        return get(Wait(url, url=f"{url}/readyz", ca=self._ca)) or ""

    def _probe(self, key: tuple[str, str]) -> str:
        name, path = key
        arguments = ["get", f"--raw=/api/v1/nodes/{name}{path}", "--request-timeout=5s"]
        output = self._kubectl.run(arguments, check=False, timeout=20)
        return "" if output.rc == 0 else (output.stderr.strip().splitlines() or ["no answer"])[-1]


def _late(problem: Problem, timeout: float) -> Problem:
    return Problem(
        problem.where,
        f"after {timeout:g} s: {problem.found}" if timeout > 0 else problem.found,
        problem.expected,
        problem.remedy,
    )


def parse_gate(params: t.Mapping[str, t.Any]) -> GateWant:
    """What the module's parameters ask for."""
    return GateWant(
        etcd=bool(params["etcd_endpoints"] or params["etcd_stops"]),
        etcd_down=tuple(params["etcd_down"]),
        etcd_stops=params["etcd_stops"],
        api_servers=tuple(url.rstrip("/") for url in params["api_servers"]),
        nodes=tuple(params["nodes"]),
        node_paths=tuple(params["node_paths"]),
    )
