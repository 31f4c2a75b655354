# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spec: what the inventory's ``slipway_*`` variables say, typed and checked.

``load`` turns hosts' variables into a ``ClusterSpec`` or raises SlipwayError with every problem; ``with_probes``
fills in what only the hosts know, ``with_cluster`` what the cluster knows of those that said nothing; ``explain`` says
where values came from.
"""

from __future__ import annotations

from .loading import explain, load, roles
from .model import (
    CONTROL_PLANE,
    ETCD,
    PHASES,
    WORKER,
    ClusterSpec,
    HostInput,
    Ingress,
    LoadBalancer,
    NodeSpec,
    Setting,
    Storage,
)
from .resolving import with_cluster, with_probes
from .texts import Endpoint, Taint
from .versions import resolve_version

__all__ = [
    "CONTROL_PLANE",
    "ETCD",
    "PHASES",
    "WORKER",
    "ClusterSpec",
    "Endpoint",
    "HostInput",
    "Ingress",
    "LoadBalancer",
    "NodeSpec",
    "Setting",
    "Storage",
    "Taint",
    "explain",
    "load",
    "resolve_version",
    "roles",
    "with_cluster",
    "with_probes",
]
