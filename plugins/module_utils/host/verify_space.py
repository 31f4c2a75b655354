# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespace of a verification: it goes when the run ends, or a later run finds it by its label."""

from __future__ import annotations

import contextlib
import datetime
import secrets
import signal
import time
import typing as t

from ..core import verify_workload
from ..core.nodes import summarize_nodes
from ..core.problems import SlipwayError
from ..core.verify import Check
from .kubectl import Kubectl

# A namespace with pods takes half a minute even where nothing is slow.
REMOVAL_SECONDS = 90.0
_LOOK_AGAIN_SECONDS = 15.0


def new_space() -> str:
    """The name of a namespace that no other run has."""
    return verify_workload.NAMESPACE_PREFIX + secrets.token_hex(3)


def remove_stale(kubectl: Kubectl) -> None:
    """Have the cluster remove what runs that were killed have left, without waiting for it."""
    listing = kubectl.json(["get", "namespaces", f"--selector={verify_workload.VERIFY_LABEL}=true"])
    _remove(kubectl, verify_workload.stale_namespaces(listing, now()))


def check_removal(kubectl: Kubectl, namespace: str, timeout: float) -> Check:
    """Take down what was put up, and see that it is gone within ``timeout`` seconds."""
    done = "removed everything this check has made"
    try:
        _remove(kubectl, [namespace])
        left = _left(kubectl, namespace, timeout)
    except SlipwayError as error:
        left = str(error)
    hint = f"see: kubectl get namespace {namespace} --output=yaml; the next run removes it if it can"
    if left:
        return Check("removal", ok=False, done=done, seen=f"namespace {namespace} is still there", hint=hint)
    return Check("removal", ok=True, done=done, seen=f"namespace {namespace} is gone")


def _remove(kubectl: Kubectl, namespaces: t.Sequence[str]) -> None:
    """Have the cluster remove these namespaces, with their pods on Nodes that are down."""
    if namespaces:
        kubectl.run(["delete", "namespace", "--ignore-not-found", "--wait=false", *namespaces])
        _let_go(kubectl, namespaces)


def _left(kubectl: Kubectl, namespace: str, timeout: float) -> t.Any:
    """The namespace, if it is still there after that many seconds."""
    end = time.monotonic() + timeout
    while True:
        left = kubectl.json(["get", "namespace", namespace, "--ignore-not-found"])
        seconds = end - time.monotonic()
        if not left or seconds <= 0:
            return left
        # In parts: most of a minute goes by until a Node that is down is said to be.
        wait = f"--timeout={min(seconds, _LOOK_AGAIN_SECONDS):.0f}s"
        kubectl.run(["wait", "--for=delete", f"namespace/{namespace}", wait], check=False)
        _let_go(kubectl, [namespace])


def _let_go(kubectl: Kubectl, namespaces: t.Sequence[str]) -> None:
    """Delete the pods on Nodes that are not Ready, which the namespaces would wait for."""
    nodes = summarize_nodes(kubectl.nodes())
    for namespace in namespaces if nodes.down else ():
        pods = verify_workload.stranded(kubectl.json(["get", "pods", f"--namespace={namespace}"]), nodes.ready)
        if pods:
            kubectl.run(
                ["delete", "pod", *pods, f"--namespace={namespace}", "--ignore-not-found", "--force", "--wait=false"]
            )


@contextlib.contextmanager
def termination_as_exit() -> t.Iterator[None]:
    """Let a SIGTERM unwind the stack, so that what was put up is taken down."""

    def leave(number: int, _frame: t.Any) -> None:
        raise SystemExit(128 + number)

    previous = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def now() -> datetime.datetime:
    """The time, as the API gives it."""
    return datetime.datetime.now(datetime.timezone.utc)
