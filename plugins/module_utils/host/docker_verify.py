# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Use a Docker host, its registry, and what the cluster pulls from that; what is made for it is taken away again.

The image is made of this host's own shell and what that is linked with, so that nothing comes from outside.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import time
import typing as t
import urllib.error
import urllib.request

from ..core import docker, verify_workload
from ..core.nodes import summarize_nodes
from ..core.problems import Problem, SlipwayError
from ..core.verify import Check
from ..core.verify_registry import stale_tags
from .kubectl import Kubectl
from .machine import Machine
from .verify_space import REMOVAL_SECONDS, check_removal, new_space, remove_stale

NAME = "slipway-verify"
LABEL = "slipway.cluster.verify"
REPOSITORY = f"{NAME}/hello"
CONTEXT = "/run/slipway/docker-verify"
PROGRAMS = ("/bin/sh", "/bin/sleep")
_DOCKERFILE = """\
FROM scratch
LABEL {label}=true
COPY root/ /
CMD ["/bin/sh", "-c", "echo {word}; exec /bin/sleep 3600"]
"""
_MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
_WAIT_SECONDS = 60.0
_Seen = t.Callable[[], str]


def use_docker(machine: Machine, registries: t.Sequence[str], word: str) -> tuple[list[Check], list[str]]:
    """Build, run, read, kill, and push to each of the ``registries`` (HOST:PORT); the findings, and what was pushed.

    ``word`` is what the container says, and the image's tag. The image stays where it was pushed, and only there.
    """
    image = f"{NAME}:{word}"
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
    if registries:
        steps.append(
            (
                "docker push",
                "the image pushed to each registry",
                lambda: _push(machine, image, registries, pushed),
                "systemctl status slipway-registry on that host; /etc/docker/certs.d; root's docker login",
            )
        )
    try:
        # What a run that was killed has left, too.
        _clear(machine)
        for aspect, done, act, hint in steps:
            checks.append(_check(aspect, done, act, hint))
            if not checks[-1].ok:
                break
    finally:
        _clear(machine)
    return checks, pushed


def _clear(machine: Machine) -> None:
    """Remove container and images of a verification."""
    machine.run(["docker", "rm", "--force", NAME], check=False)
    machine.run(["docker", "image", "prune", "--all", "--force", f"--filter=label={LABEL}"], check=False)
    machine.remove(CONTEXT)


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
    # Whatever root's own is: the cluster runs it as another user.
    before = os.umask(0o022)
    for path, source in paths.items():
        target = f"{CONTEXT}/root{path}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copy(source, target)
        # The same bytes give the same layer in the registry, however often this is done.
        os.utime(target, (0, 0))
    os.umask(before)
    machine.write(f"{CONTEXT}/Dockerfile", _DOCKERFILE.format(label=LABEL, word=word).encode(), mode=0o644)
    return len(paths)


def _run(machine: Machine, image: str, word: str) -> str:
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


def _push(machine: Machine, image: str, registries: t.Sequence[str], pushed: list[str]) -> str:
    """Push to each; what was pushed is in ``pushed`` also where another registry has not taken it."""
    problems = []
    for registry in registries:
        try:
            pushed.append(_push_to(machine, image, registry))
        except SlipwayError as error:
            problems += [Problem(registry, problem.text()) for problem in error.problems]
    if problems:
        raise SlipwayError(problems)
    return f"{len(pushed)} of {len(registries)} registries took it, {pushed[0].rpartition('@')[2][:19]}…"


def _push_to(machine: Machine, image: str, registry: str) -> str:
    """The image's name in this registry, by its digest."""
    name = f"{registry}/{REPOSITORY}"
    target = f"{name}:{image.rpartition(':')[2]}"
    machine.run(["docker", "tag", image, target])
    said = machine.run(["docker", "push", target], timeout=300).stdout
    match = re.search(r"digest: (sha256:[0-9a-f]{64})", said)
    if match is None:
        raise SlipwayError(Problem("docker push", " ".join(said.split())[-300:], "a digest"))
    return f"{name}@{match.group(1)}"


def run_on_cluster(machine: Machine, kubectl: Kubectl, images: t.Sequence[str]) -> list[Check]:
    """Have the cluster pull the images, run them, and read their logs; the namespace is removed again."""
    remove_stale(kubectl)
    space = new_space()
    try:
        check = _check(
            "image from the registry",
            "a pod of the images that were pushed",
            lambda: _run_pod(machine, kubectl, images, space),
            "crictl pull IMAGE on that node; /etc/containerd/certs.d",
        )
    finally:
        last = check_removal(kubectl, space, REMOVAL_SECONDS)
    return [check, last]


def _run_pod(machine: Machine, kubectl: Kubectl, images: t.Sequence[str], space: str) -> str:
    word = f"from-{images[0].rpartition(':')[2][:12]}"
    kubectl.apply([verify_workload.namespace_object(space)])
    down = summarize_nodes(kubectl.nodes()).down
    kubectl.apply(verify_workload.kept_off([_pod(images, space, word)], down))
    where = f"--namespace={space}"
    found: dict[str, t.Any] = {}

    def trouble() -> t.Optional[str]:
        found.update(kubectl.json(["get", "pod", "hello", where]))
        state = found.get("status", {})
        return None if state.get("phase") == "Succeeded" else _why(state)

    machine.wait("the pod", trouble, timeout=_WAIT_SECONDS, interval=0.5)
    logs = kubectl.run(["logs", "hello", where, "--all-containers"]).stdout.split()
    if logs != [word] * len(images):
        raise SlipwayError(Problem("the pod's log", repr(logs), " ".join([word] * len(images))))
    status = found["status"]["containerStatuses"][0]
    digest = status["imageID"].rpartition("@")[2][:19]
    return f"{found['spec']['nodeName']} pulled {digest}… from {len(images)} registries, its log says {word}"


def _pod(images: t.Sequence[str], space: str, word: str) -> dict[str, t.Any]:
    """A pod that says the word once with each image, whatever Pod Security standard the cluster has."""
    spec = verify_workload.pod_template("hello", "")["spec"]
    container = {key: value for key, value in spec["containers"][0].items() if key not in ("args", "readinessProbe")}
    # Always: the pull is what is to be seen.
    container.update(imagePullPolicy="Always", command=["/bin/sh", "-c", f"echo {word}"])
    containers = [{**container, "name": f"hello-{number}", "image": image} for number, image in enumerate(images)]
    spec.update(restartPolicy="Never", terminationGracePeriodSeconds=0, containers=containers)
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "hello", "namespace": space}, "spec": spec}


def _why(state: t.Mapping[str, t.Any]) -> str:
    waiting = [each.get("state", {}).get("waiting") or {} for each in state.get("containerStatuses", ())]
    reasons = [f"{each.get('reason', '')}: {each.get('message', '')}" for each in waiting if each]
    return "; ".join(reasons) or str(state.get("phase", "no status"))


def forget(machine: Machine, images: t.Sequence[str]) -> Check:
    """Take the images out of their registries, and what runs that were killed have left there.

    Layers go at the registry's next garbage collection.
    """
    return _check(
        "registry afterwards",
        "what was pushed taken out of each registry",
        lambda: _forget(machine, images),
        "systemctl status slipway-registry on that host; a run that comes an hour later takes out what is left",
    )


def _forget(machine: Machine, images: t.Sequence[str]) -> str:
    problems, old = [], 0
    for image in images:
        host, _slash, rest = image.partition("/")
        digest = rest.partition("@")[2]
        try:
            ask = _registry_of(machine, host)
            left = [_digest_of(ask, tag) for tag in stale_tags(_tags(ask), time.time())]
            for each in (digest, *left):
                ask("DELETE", f"manifests/{each}")
            old += len(left)
        except (OSError, http.client.HTTPException, ValueError) as error:
            problems.append(Problem(image, str(error), "taken out"))
    if problems:
        raise SlipwayError(problems)
    return f"{len(images)} of {len(images)} registries, {old} images of earlier runs"


_Ask = t.Callable[[str, str], tuple[t.Mapping[str, str], bytes]]


def _registry_of(machine: Machine, host: str) -> _Ask:
    """How this host's root asks a registry for something of the repository; what is not there is an empty answer."""
    auth = docker.parse_auths(machine.read_text(docker.LOGIN)).get(host, "")
    headers = {"Authorization": "Basic " + (auth or base64.b64encode(b":").decode("ascii")), "Accept": _MANIFESTS}
    authority = f"{docker.CERTIFICATES}/{host}/ca.crt"
    context = ssl.create_default_context(cafile=authority if machine.exists(authority) else None)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))

    def ask(method: str, path: str) -> tuple[t.Mapping[str, str], bytes]:
        url = f"https://{host}/v2/{REPOSITORY}/{path}"
        request = urllib.request.Request(url, method=method, headers=headers)
        try:
            with opener.open(request, timeout=20) as response:
                return response.headers, response.read()
        except urllib.error.HTTPError as error:
            if error.code == http.client.NOT_FOUND:
                return {}, b""
            raise

    return ask


def _tags(ask: _Ask) -> list[str]:
    return list(json.loads(ask("GET", "tags/list")[1] or b"{}").get("tags") or ())


def _digest_of(ask: _Ask, tag: str) -> str:
    """The digest of the manifest a tag leads to; the tag itself where that has just gone, which nobody can delete."""
    return ask("HEAD", f"manifests/{tag}")[0].get("Docker-Content-Digest", tag)
