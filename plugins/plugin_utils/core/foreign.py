# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is in the cluster and is not ours: apply leaves it alone, and the plan says it."""

from __future__ import annotations

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import NodesSeen
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member

from .layout import Layout, Node
from .targets.etcd import peer_url


def foreign(
    layout: Layout, nodes: t.Mapping[str, Node], members: t.Iterable[Member], seen: NodesSeen | None
) -> list[Problem]:
    """Warnings about etcd members and Nodes that no host of the inventory stands for, and about closed Nodes.

    ``members`` and ``seen`` are what a living etcd and API said, empty and None where there is none.
    """
    return [*_members(layout, members), *(_nodes(nodes, seen) if seen else ())]


def _members(layout: Layout, members: t.Iterable[Member]) -> t.Iterator[Problem]:
    ours = {peer_url(member) for member in layout.etcd}
    names = {member.node_name: member for member in layout.etcd}
    for member in members:
        urls = ", ".join(member.peer_urls)
        if not ours & set(member.peer_urls) and member.name in names:
            yield Problem(
                f"etcd member {member.name}",
                f"is listed at {urls}, and the inventory has {names[member.name].host} at "
                f"{peer_url(names[member.name])}; {'it is healthy' if member.healthy else 'it does not answer'}",
                "members at the addresses of their hosts",
                "switch the old machine off for good: a bare one of that name takes the place of a member that is down",
                warning=True,
            )
        elif not ours & set(member.peer_urls):
            yield Problem(
                f"etcd member {member.text()}",
                f"is no host of this inventory ({urls}); {'it is healthy' if member.healthy else 'it does not answer'}",
                "members that are hosts of the inventory",
                "put its host back into the inventory, or take it out of the cluster: slipway remove HOST",
                warning=True,
            )
        elif not (member.healthy or member.learner):
            yield Problem(
                f"etcd member {member.text()}", "is not healthy", "a member that answers", "bring it back", warning=True
            )


def _nodes(nodes: t.Mapping[str, Node], seen: NodesSeen) -> t.Iterator[Problem]:
    ours = {node.node_name for node in nodes.values()}
    for name, node in sorted(seen.nodes.items()):
        if name not in ours:
            yield Problem(
                f"node {name}",
                "is no host of this inventory",
                "Nodes that are hosts of the inventory",
                "put its host into the inventory, or take it out of the cluster: slipway remove HOST",
                warning=True,
            )
        elif node.unschedulable:
            yield Problem(
                f"node {name}",
                "is cordoned: no new pod runs there",
                "a Node that takes pods",
                f"kubectl uncordon {name}, if nobody works on it",
                warning=True,
            )
