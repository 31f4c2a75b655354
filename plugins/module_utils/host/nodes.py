# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Node objects on a live API: look, patch, wait."""

from __future__ import annotations

import time
import typing as t

from ..core.change import Change
from ..core.nodes import (
    SERVING_SIGNER,
    NodeSeen,
    NodesSeen,
    NodeStep,
    patch_of,
    summarize_nodes,
    unready,
    unready_problems,
    unserved,
)
from ..core.problems import Problem, SlipwayError
from .kubectl import Kubectl
from .machine import Machine

_ATTEMPTS = 5
_SERVING_SECONDS = 30.0


class Nodes:
    """The Nodes of one API; ``seen`` is the last listing, so that steps for many Nodes cost a call each and no more."""

    def __init__(self, machine: Machine, kubectl: Kubectl) -> None:
        self._machine = machine
        self._kubectl = kubectl
        self._called = False
        self.seen = NodesSeen()

    def observe(self) -> NodesSeen:
        """All Nodes, or nothing known where no API answers."""
        self.seen = summarize_nodes(self._kubectl.nodes())
        return self.seen

    def apply(self, change: Change, *, timeout: float, approver: str = "") -> None:
        """Carry out one step, after waiting up to ``timeout`` seconds for the Node to register.

        The first one starts the unit ``approver``, so that it works meanwhile; ``wait_served`` sees what it has left.
        """
        step: NodeStep = change.data
        name = step.want.name
        if name not in self.seen.nodes:
            self._wait_registered(name, timeout)
        if approver and not self._called:
            self._called = True
            self._machine.run(["systemctl", "start", "--no-block", approver], check=False, timeout=60)
        said = ""
        for _attempt in range(_ATTEMPTS):
            patch = patch_of(step, self.seen.nodes.get(name) or NodeSeen(name))
            if not patch:
                return
            said = self._kubectl.patch_node(name, patch)
            if not said:
                return
            self._wait_registered(name, timeout)
        raise SlipwayError(Problem(f"node {name}", f"{change.name} was refused {_ATTEMPTS} times: {said}"))

    def wait_ready(self, names: t.Sequence[str], *, timeout: float) -> None:
        """Wait until the Nodes are Ready; SlipwayError has a problem for each that is not, with what it last said."""
        end = time.monotonic() + timeout
        while True:
            reasons = unready(names, self.observe())
            if not reasons:
                return
            if time.monotonic() >= end:
                raise SlipwayError(unready_problems(reasons, timeout))
            time.sleep(0.5)

    def wait_served(self, names: t.Sequence[str], approver: str) -> None:
        """Start the unit ``approver`` as long as a Node waits for its serving certificate, and half a minute at most.

        No error afterwards: a request that the approver refuses stays pending, and it says why.
        """
        end = time.monotonic() + _SERVING_SECONDS
        while time.monotonic() < end:
            arguments = ["get", "csr", f"--field-selector=spec.signerName={SERVING_SIGNER}"]
            if not unserved(names, self._kubectl.json(arguments) or {}):
                return
            self._machine.run(["systemctl", "start", approver], check=False, timeout=60)
            time.sleep(0.5)

    def _wait_registered(self, name: str, timeout: float) -> None:
        def missing() -> t.Optional[str]:
            if name in self.observe().nodes:
                return None
            return "no such Node" if self.seen.known else "the API server does not answer"

        self._machine.wait(
            f"node {name}",
            missing,
            timeout=timeout,
            interval=0.5,
            remedy=f"see on {name}: systemctl status kubelet, journalctl -u kubelet",
        )
