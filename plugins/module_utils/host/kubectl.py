# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""kubectl on a control-plane host: the one way our modules talk to the API."""

from __future__ import annotations

import json
import typing as t

from ..core import places
from ..core.manifests import (
    FIELD_MANAGER,
    Key,
    KubernetesObject,
    ObjectRef,
    index,
    is_silent,
    ref_of,
    unknown_kinds,
)
from ..core.problems import Problem, SlipwayError
from .machine import Machine, Output

ARGUMENTS: dict[str, t.Any] = {
    "kubectl": {"type": "path", "default": places.KUBECTL},
    "kubeconfig": {"type": "path", "default": places.ADMIN_CONF},
}

# Discovery is remembered in memory, not in root's home.
_CACHE = "/run/slipway/kubectl"
# An API server that starts or has much to do accepts a connection and lets it wait for 10 s; kubectl waits 32 s for the
# schema by which it checks objects before it sends any.
_NOT_BEGUN = ("TLS handshake timeout", 'error validating data: Get "')
_ATTEMPTS = 3


class Kubectl:
    """One kubectl with one kubeconfig. Each call costs 0.1 to 0.2 s whatever it does, so callers make few.

    ``timeout`` is how many seconds a call may take that is not given a time of its own.
    """

    def __init__(
        self,
        machine: Machine,
        kubectl: str = places.KUBECTL,
        kubeconfig: str = places.ADMIN_CONF,
        *,
        timeout: float = 60,
    ) -> None:
        self._machine = machine
        self._kubectl = kubectl
        self._kubeconfig = kubeconfig
        self._timeout = timeout

    def is_installed(self) -> bool:
        """Whether there are a kubectl and a kubeconfig at all."""
        return self._machine.exists(self._kubectl) and self._machine.exists(self._kubeconfig)

    def run(
        self,
        arguments: t.Sequence[str],
        *,
        stdin: t.Optional[str] = None,
        check: bool = True,
        timeout: t.Optional[float] = None,
    ) -> Output:
        """Run kubectl; with ``check`` a failure raises SlipwayError in kubectl's words.

        What never reached the API is tried again, twice.
        """
        for _attempt in range(_ATTEMPTS):
            output = self._machine.run(
                [self._kubectl, *arguments],
                stdin=stdin,
                check=False,
                timeout=self._timeout if timeout is None else timeout,
                env={"KUBECONFIG": self._kubeconfig, "KUBECACHEDIR": _CACHE},
            )
            if output.rc == 0 or not any(words in output.stderr for words in _NOT_BEGUN):
                break
        if check and output.rc != 0:
            raise failure(arguments, output)
        return output

    def json(
        self, arguments: t.Sequence[str], *, stdin: t.Optional[str] = None, timeout: t.Optional[float] = None
    ) -> t.Any:
        """What kubectl answers as JSON; None where it answers nothing."""
        text = self.run([*arguments, "--output=json"], stdin=stdin, timeout=timeout).stdout
        return json.loads(text) if text.strip() else None

    def nodes(self) -> t.Optional[dict[str, t.Any]]:
        """The list of Nodes; None where there is no kubectl, no kubeconfig or no API that answers."""
        return self.listed("nodes")

    def listed(self, kinds: str, *options: str) -> t.Optional[dict[str, t.Any]]:
        """The list of all objects of one kind, or several with commas between; None as of ``nodes``.

        ``options`` of kubectl narrow it.
        """
        if not self.is_installed():
            return None
        output = self.run(["get", kinds, *options, "--output=json", "--request-timeout=10s"], check=False)
        if output.rc == 0:
            return t.cast("dict[str, t.Any]", json.loads(output.stdout))
        if is_silent(output.stderr):
            return None
        raise failure(["get", kinds], output)

    def find(self, refs: t.Iterable[ObjectRef], *, owners: bool = False) -> t.Optional[dict[Key, KubernetesObject]]:
        """Those of the objects that are there, by key; None where no API answers. An unknown kind counts as absent.

        With ``owners`` they have their managed fields.
        """
        wanted = list(refs)
        if not self.is_installed():
            return None
        while wanted:
            arguments = ["get", "--ignore-not-found", "--output=json", "--filename=-"]
            arguments += ["--show-managed-fields"] if owners else []
            output = self.run(arguments, stdin=_listing(ref.to_object() for ref in wanted), check=False)
            if output.rc == 0:
                return index(_items(output.stdout))
            unknown = unknown_kinds(output.stderr)
            known = [ref for ref in wanted if (ref.api_version, ref.kind) not in unknown]
            if len(known) == len(wanted):
                if is_silent(output.stderr):
                    return None
                raise failure(arguments, output)
            wanted = known
        return {}

    def predict(self, objects: t.Sequence[KubernetesObject]) -> dict[Key, KubernetesObject]:
        """What the API would hold after an apply of the objects, from its own dry-run; all of them must be there."""
        if not objects:
            return {}
        arguments = [*_APPLY, "--dry-run=server", "--output=json"]
        return index(_items(self.run(arguments, stdin=_listing(objects)).stdout))

    def apply(self, objects: t.Sequence[KubernetesObject]) -> None:
        """Server-side apply as our field manager, in the order given."""
        if objects:
            self.run(_APPLY, stdin=_listing(objects))

    def patch_node(self, name: str, patch: t.Sequence[t.Mapping[str, t.Any]]) -> str:
        """Change a Node by a JSON patch (RFC 6902); returns why that was refused, empty if it was not."""
        output = self.run(["patch", "node", name, "--type=json", f"--patch={json.dumps(patch)}"], check=False)
        return "" if output.rc == 0 else output.stderr.strip() or f"ended with {output.rc}"

    def delete(self, refs: t.Sequence[ObjectRef], *, timeout: float = 60) -> None:
        """Delete the objects and wait until they are gone; what is not there is no error."""
        if not refs:
            return
        arguments = ["delete", "--ignore-not-found", "--wait=true", f"--timeout={timeout:g}s", "--filename=-"]
        output = self.run(
            arguments, stdin=_listing(ref.to_object() for ref in refs), check=False, timeout=timeout * len(refs) + 10
        )
        # An API that is gone took its objects with it.
        if output.rc != 0 and not unknown_kinds(output.stderr):
            raise failure(arguments, output)

    def wait_established(self, objects: t.Sequence[KubernetesObject], *, timeout: float = 30) -> None:
        """Wait until the CustomResourceDefinitions among the objects serve their kinds."""
        names = [
            f"customresourcedefinition/{ref_of(item).name}"
            for item in objects
            if item["kind"] == "CustomResourceDefinition"
        ]
        if names:
            self.run(["wait", "--for=condition=Established", f"--timeout={timeout:g}s", *names], timeout=timeout + 10)


def failure(arguments: t.Sequence[str], output: Output) -> SlipwayError:
    """The error for a kubectl that failed, with what it said and what to do."""
    said = "\n".join((output.stderr or output.stdout).strip().splitlines()[-8:])
    remedy = ""
    if is_silent(said):
        remedy = "see on this host: systemctl status kube-apiserver"
    elif "immutable" in said or "cannot change roleRef" in said:
        remedy = "delete that object and run again; it is made anew"
    return SlipwayError(Problem(f"kubectl {' '.join(arguments)}", f"ended with {output.rc}: {said}", remedy=remedy))


_APPLY = ("apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "--filename=-")


def _listing(objects: t.Iterable[KubernetesObject]) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def _items(text: str) -> list[KubernetesObject]:
    if not text.strip():
        return []
    data = json.loads(text)
    items = data["items"] if data.get("kind") == "List" else [data]
    return t.cast("list[KubernetesObject]", items)
