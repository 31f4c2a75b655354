# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definitions of the Gateway API: a part of its own, because other controllers may use them too.

They come from the API's own module by way of the bundle. Newer ones that somebody put there are left alone.
"""

from __future__ import annotations

from ..spec import ClusterSpec
from .model import Addon, Scene
from .objects import KubernetesObject

NAME = "gateway-api"
_DEFINITIONS = "gateway-api-definitions"


def gateway_wanted(spec: ClusterSpec) -> bool:
    """Whether there is a Gateway API."""
    return spec.has_ingress and spec.ingress.gateway


def _objects(scene: Scene) -> list[KubernetesObject]:
    return [dict(item) for item in scene.definitions[_DEFINITIONS]]


GATEWAY_API = Addon(NAME, wanted=gateway_wanted, objects=_objects, definitions=(_DEFINITIONS,))
