# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The timer that keeps a cluster alive without Ansible: serving certificates approved, leaves renewed."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.state import File, HostState, Unit, digest_of

from ..layout import Node
from . import paths
from .text import NOTICE

TIMER_UNIT = "slipway-keeper.timer"
SERVICE_UNIT = "slipway-keeper.service"
PROGRAM = f"{paths.SLIPWAY_VAR}/keeper.pyz"
NODES = f"{paths.SLIPWAY_ETC}/nodes.json"
CERTIFICATES = f"{paths.SLIPWAY_ETC}/certificates.json"
METRICS = f"{paths.SLIPWAY_VAR}/keeper.prom"


def keeper_target(*, zipapp: str, nodes: t.Sequence[Node], certificates: t.Mapping[str, t.Any]) -> HostState:
    """Program (``zipapp``, base64), what it may approve and renew, and the timer; on control-plane and etcd hosts.

    ``nodes`` are empty on a host without an API server, which approves nothing.
    """
    names = {node.node_name: names_of(node) for node in nodes}
    service = f"""{NOTICE}[Unit]
Description=Slipway keeps this host's certificates in order
After=network-online.target kube-apiserver.service

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 {PROGRAM} run
TimeoutStartSec=600
"""
    # A timer has no process that could show its input; with this line it changes when its service does.
    timer = f"""{NOTICE}# {digest_of(service)}
[Unit]
Description=Slipway's keeper, twice a minute

[Timer]
OnActiveSec=10
OnUnitInactiveSec=30
AccuracySec=1

[Install]
WantedBy=timers.target
"""
    return HostState(
        files=(
            File(NODES, json.dumps(names, indent=2, sort_keys=True) + "\n"),
            File(CERTIFICATES, json.dumps(certificates, indent=2) + "\n"),
            File(PROGRAM, zipapp, "0755", encoding="base64"),
            File(paths.unit(SERVICE_UNIT), service),
            File(paths.unit(TIMER_UNIT), timer),
        ),
        units=(Unit(TIMER_UNIT),),
    )


def names_of(node: Node) -> list[str]:
    """The names and addresses that a node's serving certificate may have."""
    return sorted({node.address, node.node_name})
