# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts of a cluster that run in it, and the objects it gets from Slipway.

``ADDONS`` is the list: to add one, write a module with an ``Addon`` beside the others and name it here, its versions
and images in ``artifacts/sets``, how it is built in ``artifacts/components.yml``.
"""

from __future__ import annotations

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import pack
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem

from ..spec import ClusterSpec, NodeSpec
from . import ingress, load_balancer, storage
from .access import bootstrap_objects, flannel_objects, monitoring_objects
from .dns import DNS, dns_corefile, dns_objects
from .gateway import GATEWAY_API, gateway_wanted
from .ingress import INGRESS
from .load_balancer import LOAD_BALANCER
from .metrics import METRICS
from .model import Addon, Scene
from .objects import CONFIG_HASH_ANNOTATION, KubernetesObject
from .storage import STORAGE

__all__ = [
    "ADDONS",
    "CONFIG_HASH_ANNOTATION",
    "Addon",
    "Scene",
    "bootstrap_objects",
    "dns_corefile",
    "dns_objects",
    "expectations",
    "flannel_objects",
    "images_for",
    "lacks",
    "manifest_sets",
    "monitoring_objects",
]

# In this order they are applied: metrics-server takes longest to be ready, so everything else starts while it does.
ADDONS: tuple[Addon, ...] = (METRICS, DNS, STORAGE, LOAD_BALANCER, GATEWAY_API, INGRESS)
# Sets of more text than this travel packed.
_LARGE = 100_000
# On every node whatever is on: what pods are made with, and what verify runs.
_EVERYWHERE = frozenset({"pause", "agnhost"})


def manifest_sets(scene: Scene) -> list[dict[str, t.Any]]:
    """All add-ons as the manifests module takes them, those that are not wanted as absent and after the others.

    One that the bundle cannot give and nobody asked for is left out, and so left as it is.
    """
    sets: list[dict[str, t.Any]] = []
    for addon in ADDONS:
        if not addon.wanted(scene.spec):
            sets.append({"name": addon.name, "absent": True})
        elif not _missing(addon, scene.images, scene.definitions):
            sets.append({"name": addon.name, **_travelling(addon.objects(scene))})
    return sorted(sets, key=lambda entry: "absent" in entry)


def _travelling(objects: list[KubernetesObject]) -> dict[str, t.Any]:
    large = sum(len(str(item)) for item in objects) > _LARGE
    return {"packed": pack(objects)} if large else {"objects": objects}


def lacks(spec: ClusterSpec, images: t.Container[str], definitions: t.Container[str], where: str) -> list[Problem]:
    """What the bundle or lock at ``where`` has not, for the add-ons that are wanted."""
    problems = []
    for addon in ADDONS:
        missing = _missing(addon, images, definitions) if addon.wanted(spec) else []
        if missing:
            problems.append(
                Problem(
                    where,
                    f"has no {', '.join(missing)} for {addon.name}, which is left as it is",
                    "all parts of the version set",
                    "build it again: slipway bundle build",
                    warning=addon.by_default,
                )
            )
    return problems


def _missing(addon: Addon, images: t.Container[str], definitions: t.Container[str]) -> list[str]:
    lacking = [f"image {name}" for name in addon.images if name not in images]
    return lacking + [f"artefact {name}" for name in addon.definitions if name not in definitions]


def expectations(spec: ClusterSpec, addresses: t.Mapping[str, str]) -> dict[str, t.Any]:
    """What the verify module is told of the add-ons; ``addresses`` are those of the hosts."""
    expected: dict[str, t.Any] = {
        "dns": spec.dns.enabled,
        "metrics": spec.metrics.enabled,
        "pod_security": spec.pod_security.enforce,
    }
    if spec.has_ingress and spec.ingress.expose == "host":
        serving = [node for node in spec.ingress_nodes if not node.absent]
        expected["ingress"] = [addresses[node.name] for node in serving if node.name in addresses]
    elif spec.has_ingress:
        expected["ingress_service"] = [ingress.SPACE, ingress.CLASS]
    # Where all that take traffic are down on purpose, nobody answers.
    if gateway_wanted(spec) and (expected.get("ingress") or "ingress_service" in expected):
        expected["gateway"] = [ingress.SPACE, ingress.GATEWAY]
    if spec.load_balancer.pools:
        expected["load_balancer"] = load_balancer.SPACE
    if spec.storage.enabled:
        expected["storage"] = [storage.SPACE, storage.CLASS]
    return expected


def images_for(spec: ClusterSpec, node: NodeSpec) -> frozenset[str]:
    """The images that a node must hold: those of the add-ons that are wanted and may run there."""
    chosen = (addon.images for addon in ADDONS if addon.wanted(spec) and addon.hosts(spec, node))
    return _EVERYWHERE.union(*chosen)
