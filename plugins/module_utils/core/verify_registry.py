# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether every node can pull from every registry, and the tags of what Docker hosts push there.

A node is made to look for an image that nobody has ever pushed. So containerd itself asks, with its own CA and login,
and nothing need be in the registry: one that knows the node says that there is no such image. Anything else that is
said is why the node could not have pulled.
"""

from __future__ import annotations

import re
import typing as t

from .verify_workload import EVERYWHERE, KubernetesObject, workload

PULLER = "puller"
# No run takes so long.
_STALE_SECONDS = 3600
_STARTING = (None, "ContainerCreating", "PodInitializing")


def pulling_object(namespace: str, registries: t.Sequence[str]) -> KubernetesObject:
    """A pod on each node, with a container for each registry (HOST:PORT), whose image is not there."""
    item = workload("DaemonSet", PULLER, namespace, "", tolerations=EVERYWHERE)
    pod = item["spec"]["template"]["spec"]
    container = {**pod["containers"][0], "imagePullPolicy": "Always"}
    pod["containers"] = [
        {**container, "name": f"registry-{number}", "image": f"{registry}/slipway-verify/nothing:{namespace}"}
        for number, registry in enumerate(registries)
    ]
    return item


def pull_answers(listing: t.Mapping[str, t.Any]) -> dict[tuple[str, str], str]:
    """What each node was told by each registry, by node and registry; empty where it is what one wants to hear."""
    answers = {}
    for pod in listing.get("items") or ():
        if (pod["metadata"].get("labels") or {}).get("app") != PULLER:
            continue
        images = {each["name"]: each["image"] for each in pod["spec"]["containers"]}
        for status in (pod.get("status") or {}).get("containerStatuses") or ():
            waiting = (status.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") not in _STARTING:
                image = images[status["name"]]
                said = str(waiting.get("message") or waiting["reason"])
                key = (pod["spec"].get("nodeName", ""), image.partition("/")[0])
                answers[key] = "" if f"{image}: not found" in said else _last_words(said)
    return answers


def _last_words(said: str) -> str:
    """The cause at the end of an error: what is before it names image and URL in quotes, several times."""
    return said.rpartition('": ')[2].strip() or said


def new_tag(now: float, token: str) -> str:
    """The tag of what one run pushes: when (seconds since 1970) and a token of its own."""
    return f"hello-{int(now)}-{token}"


def stale_tags(tags: t.Iterable[str], now: float) -> list[str]:
    """Those that runs which were killed have left behind."""
    made = {tag: re.fullmatch(r"hello-(\d+)-\w+", tag) for tag in tags}
    return sorted(tag for tag, match in made.items() if match and now - int(match.group(1)) > _STALE_SECONDS)
