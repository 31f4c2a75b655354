# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an add-on is: the one way to declare a part of the cluster that runs in it."""

from __future__ import annotations

import dataclasses
import typing as t

from ..layout import Layout, Node
from ..spec import ClusterSpec, NodeSpec
from .objects import KubernetesObject


@dataclasses.dataclass(frozen=True)
class Scene:
    """What an add-on's objects are made from.

    ``images`` are references by the version set's names, ``definitions`` the bundle's lists of objects by theirs;
    ``resolvers``: whether any host has a DNS resolver.
    """

    spec: ClusterSpec
    layout: Layout
    nodes: t.Mapping[str, Node]
    images: t.Mapping[str, str]
    definitions: t.Mapping[str, t.Sequence[KubernetesObject]]
    resolvers: bool = True


def on_every_node(_spec: ClusterSpec, _node: NodeSpec) -> bool:
    """For images that may run anywhere."""
    return True


def on_control_plane(_spec: ClusterSpec, node: NodeSpec) -> bool:
    """For images that run on control-plane nodes only."""
    return node.control_plane


@dataclasses.dataclass(frozen=True)
class Addon:
    """One add-on, which is one set of objects: applied, pruned and, when it is not wanted, removed as a whole.

    ``images`` and ``definitions`` are names of the version set and of the bundle; ``hosts`` says which nodes the images
    are put on. It is ready when each Deployment, DaemonSet, definition and APIService of it is there in full.
    ``by_default`` says that nobody asked for it: then a bundle that is older than it is no error.
    """

    name: str
    wanted: t.Callable[[ClusterSpec], bool]
    objects: t.Callable[[Scene], list[KubernetesObject]]
    images: tuple[str, ...] = ()
    definitions: tuple[str, ...] = ()
    hosts: t.Callable[[ClusterSpec, NodeSpec], bool] = on_every_node
    by_default: bool = False
