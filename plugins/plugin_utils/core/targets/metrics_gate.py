# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate through which a Prometheus reads what a node has on loopback only; see module_utils/host/metrics_gate.py.

It is on the network, so it has a user that exists while it runs, sees no key but that of its own certificate, which is
the kubelet's, and asks the API server about each token.
"""

from __future__ import annotations

from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    Absent,
    File,
    HostState,
    Unit,
    digest_of,
)

from ..addons.ingress import METRICS_PORT as TRAEFIK_PORT
from ..layout import INGRESS_LABEL, Layout, Node
from ..spec.model import ENDPOINTS_PORT
from . import control_plane, etcd, keeper, paths
from .network import KUBE_PROXY_METRICS
from .text import SANDBOX, Service

UNIT = "slipway-metrics.service"
PROGRAM = f"{paths.SLIPWAY_VAR}/metrics_gate.py"
SERVING = "/var/lib/kubelet/pki/kubelet-server-current.pem"


def metrics_gate_target(layout: Layout, node: Node, *, program: str) -> HostState:
    """``program`` (base64) and its unit; where the gate is not wanted, neither is what an earlier run left."""
    if not layout.metrics_endpoints:
        return HostState(
            absent=(Absent(PROGRAM), Absent(paths.unit(UNIT))), units=(Unit(UNIT, enabled=False, running=False),)
        )
    service = Service(
        description="Slipway's gate to this node's metrics",
        command=(
            *("/usr/bin/python3", "-I", PROGRAM, f"--address={node.address}", f"--port={ENDPOINTS_PORT}"),
            f"--api={layout.proxy_url}",
            *(f"--source={name}={where}" for name, where in sources(layout, node).items()),
        ),
        after=("network-online.target", "kubelet.service"),
        lines=(
            "DynamicUser=yes",
            *SANDBOX,
            f"LoadCredential=serving.pem:{SERVING}",
            f"LoadCredential=ca.crt:{paths.CA}",
            "MemoryMax=256M",
            "RestartSec=5",  # a new node waits for its certificate
        ),
        inputs=(digest_of(program),),
    )
    return HostState(
        files=(File(PROGRAM, program, encoding="base64"), File(paths.unit(UNIT), service.text())),
        units=(Unit(UNIT, service.digest),),
    )


def sources(layout: Layout, node: Node) -> dict[str, str]:
    """What there is on the node: name to URL or file."""
    found = {"kube-proxy": f"http://{layout.kube_proxy.get('metricsBindAddress') or KUBE_PROXY_METRICS}/metrics"}
    if node.etcd:
        found["etcd"] = f"http://127.0.0.1:{etcd.METRICS_PORT}/metrics"
    if node.control_plane:
        found["keeper"] = keeper.METRICS
        found["kube-controller-manager"] = f"https://127.0.0.1:{control_plane.CONTROLLER_MANAGER_PORT}/metrics"
        found["kube-scheduler"] = f"https://127.0.0.1:{control_plane.SCHEDULER_PORT}/metrics"
    if layout.ingress_on_hosts and INGRESS_LABEL in node.labels:
        found["traefik"] = f"http://127.0.0.1:{TRAEFIK_PORT}/metrics"
    return found
