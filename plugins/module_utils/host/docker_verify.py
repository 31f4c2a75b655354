# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Use a Docker host, its registry, and what the cluster pulls from that; what is made for it is taken away again.

The image is made of this host's own shell and what that is linked with, so that nothing comes from outside.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import shutil
import signal
import ssl
import time
import typing as t
import urllib.error
import urllib.request

from ..core import docker
from ..core.problems import Problem, SlipwayError
from ..core.verify import Check
from .kubectl import Kubectl
from .machine import Machine

NAME = "slipway-verify"
NAMESPACE = "slipway-verify-image"
CONTEXT = "/run/slipway/docker-verify"
PROGRAMS = ("/bin/sh", "/bin/sleep")
_DOCKERFILE = 'FROM scratch\nCOPY root/ /\nCMD ["/bin/sh", "-c", "echo {word}; exec /bin/sleep 3600"]\n'
_WAIT_SECONDS = 60.0
_Seen = t.Callable[[], str]


def use_docker(machine: Machine, registry: str, word: str) -> tuple[list[Check], str]:
    """Build, run, read, kill, and with a ``registry`` (HOST:PORT) push; the findings, and what was pushed.

    ``word`` is what the container says. The image stays where it was pushed, and only there.
    """
    image = f"{registry}/{NAME}/hello:{word}" if registry else f"{NAME}:{word}"
    checks: list[Check] = []
    pushed: list[str] = []
    steps = [
        ("docker build", "an image built from a Dockerfile", lambda: _build(machine, image, word), "docker info"),
        ("docker run", "a container run, its log read", lambda: _run(machine, image, word), f"docker logs {NAME}"),
        (
            "docker restart policy",
            "its first process killed",
            lambda: _kill(machine, word),
            f"docker inspect {NAME}; journalctl -u {docker.UNIT}",
        ),
    ]
    if registry:
        steps.append(
            (
                "docker push",
                "the image pushed to the registry",
                lambda: _push(machine, image, pushed),
                f"curl -v https://{registry}/; systemctl status slipway-registry on its host; root's docker login",
            )
        )
    try:
        for aspect, done, act, hint in steps:
            checks.append(_check(aspect, done, act, hint))
            if not checks[-1].ok:
                break
    finally:
        machine.run(["docker", "rm", "--force", NAME], check=False)
        machine.run(["docker", "image", "rm", "--force", image], check=False)
        machine.remove(CONTEXT)
    return checks, pushed[0] if pushed else ""


def _check(aspect: str, done: str, act: _Seen, hint: str) -> Check:
    started = time.monotonic()
    try:
        seen, ok = act(), True
    except SlipwayError as error:
        seen, ok = "; ".join(problem.text() for problem in error.problems), False
    return Check(aspect, ok, done, seen, "" if ok else hint, time.monotonic() - started)


def _build(machine: Machine, image: str, word: str) -> str:
    files = _context(machine, word)
    machine.run(["docker", "build", "--tag", image, CONTEXT], timeout=300)
    size = machine.run(["docker", "image", "inspect", "--format", "{{.Size}}", image]).stdout.strip()
    return f"an image of {files} files, {int(size) / 1e6:.1f} MB"


def _context(machine: Machine, word: str) -> int:
    """A directory with a Dockerfile and the programs; how many files go into the image."""
    machine.remove(CONTEXT)
    paths = {program: os.path.realpath(program) for program in PROGRAMS}
    for program in PROGRAMS:
        linked = machine.run(["ldd", program], check=False).stdout
        paths.update({path: os.path.realpath(path) for path in re.findall(r"(/[^\s)]+)", linked)})
    for path, source in paths.items():
        target = f"{CONTEXT}/root{path}"
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        shutil.copy(source, target)
        # The same bytes give the same layer in the registry, however often this is done.
        os.utime(target, (0, 0))
    machine.write(f"{CONTEXT}/Dockerfile", _DOCKERFILE.format(word=word).encode(), mode=0o644)
    return len(paths)


def _run(machine: Machine, image: str, word: str) -> str:
    machine.run(["docker", "rm", "--force", NAME], check=False)
    machine.run(["docker", "run", "--detach", "--restart", "always", "--name", NAME, image])
    machine.wait("the container's log", lambda: _said(machine, word, 1), timeout=_WAIT_SECONDS)
    return f"it runs, and its log says {word}"


def _said(machine: Machine, word: str, times: int) -> t.Optional[str]:
    log = machine.run(["docker", "logs", NAME], check=False).stdout
    return None if log.split().count(word) >= times else f"{log!r}"


def _state(machine: Machine) -> tuple[int, int]:
    """The container's process, 0 if it does not run, and how often it was started again."""
    template = "{{.State.Pid}} {{.RestartCount}}"
    pid, count = machine.run(["docker", "inspect", "--format", template, NAME]).stdout.split()
    return int(pid), int(count)


def _kill(machine: Machine, word: str) -> str:
    before, _count = _state(machine)
    os.kill(before, signal.SIGKILL)

    def trouble() -> t.Optional[str]:
        pid, count = _state(machine)
        return None if pid not in (0, before) and count else f"process {pid}, {count} restarts"

    machine.wait("another process", trouble, timeout=_WAIT_SECONDS)
    machine.wait("the container's log", lambda: _said(machine, word, 2), timeout=_WAIT_SECONDS)
    return f"process {before} killed, {_state(machine)[0]} in its place, after {_state(machine)[1]} restart"


def _push(machine: Machine, image: str, pushed: list[str]) -> str:
    said = machine.run(["docker", "push", image], timeout=300).stdout
    match = re.search(r"digest: (sha256:[0-9a-f]{64})", said)
    if match is None:
        raise SlipwayError(Problem("docker push", " ".join(said.split())[-300:], "a digest"))
    pushed.append(f"{image.rpartition(':')[0]}@{match.group(1)}")
    return f"pushed as {match.group(1)[:19]}…"


def run_on_cluster(machine: Machine, kubectl: Kubectl, image: str) -> list[Check]:
    """Have the cluster pull the image, run it, and read its log; the namespace is removed again."""
    started = time.monotonic()
    try:
        return [
            _check(
                "image from the registry",
                "a pod of the image that was pushed",
                lambda: _run_pod(machine, kubectl, image),
                "crictl pull IMAGE on that node; /etc/containerd/certs.d",
            )
        ]
    finally:
        left = max(10.0, 90.0 - (time.monotonic() - started))
        remove = ["delete", "namespace", NAMESPACE, "--ignore-not-found", f"--timeout={left:.0f}s"]
        kubectl.run(remove, check=False, timeout=left + 10)


def _run_pod(machine: Machine, kubectl: Kubectl, image: str) -> str:
    word = f"from-{image.rpartition(':')[2][:12]}"
    # Always: the pull is what is to be seen.
    container = {
        "name": "hello",
        "image": image,
        "imagePullPolicy": "Always",
        "command": ["/bin/sh", "-c", f"echo {word}"],
    }
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 0, "containers": [container]}
    documents = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello", "namespace": NAMESPACE}, "spec": pod},
    ]
    for document in documents:
        kubectl.apply([document])
    where = f"--namespace={NAMESPACE}"
    found: dict[str, t.Any] = {}

    def trouble() -> t.Optional[str]:
        found.update(kubectl.json(["get", "pod", "hello", where]))
        state = found.get("status", {})
        return None if state.get("phase") == "Succeeded" else _why(state)

    machine.wait("the pod", trouble, timeout=_WAIT_SECONDS, interval=0.5)
    log = kubectl.run(["logs", "hello", where]).stdout.strip()
    if log != word:
        raise SlipwayError(Problem("the pod's log", repr(log), word))
    status = found["status"]["containerStatuses"][0]
    return f"{found['spec']['nodeName']} pulled {status['imageID'].rpartition('@')[2][:19]}…, its log says {log}"


def _why(state: t.Mapping[str, t.Any]) -> str:
    waiting = [each.get("state", {}).get("waiting") or {} for each in state.get("containerStatuses", ())]
    reasons = [f"{each.get('reason', '')}: {each.get('message', '')}" for each in waiting if each]
    return "; ".join(reasons) or str(state.get("phase", "no status"))


def forget(machine: Machine, image: str) -> None:
    """Take the image out of the registry; its layers go at the registry's next garbage collection."""
    host, _slash, rest = image.partition("/")
    name, _at, digest = rest.partition("@")
    auth = docker.parse_auths(machine.read_text(docker.LOGIN)).get(host, "")
    request = urllib.request.Request(f"https://{host}/v2/{name}/manifests/{digest}", method="DELETE")
    request.add_header("Authorization", "Basic " + (auth or base64.b64encode(b":").decode("ascii")))
    authority = f"{docker.CERTIFICATES}/{host}/ca.crt"
    context = ssl.create_default_context(cafile=authority if machine.exists(authority) else None)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with contextlib.suppress(urllib.error.URLError, OSError), opener.open(request, timeout=20):
        pass
