# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The gate through which a Prometheus reads what a host has on loopback only; see module_utils/host/metrics_gate.py.

It is on the network, so it has a user that exists while it runs, sees no key but that of its own certificate, and asks
the API server about each token. On a node the certificate is the kubelet's, and the API server is asked through the
node's own proxy. A host for etcd alone has neither: there the leader signs one, and the API servers are asked directly.
"""

from __future__ import annotations

from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import Certificate
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    Absent,
    Directory,
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
ETC = "/etc/slipway-metrics"
CERTIFICATE = f"{ETC}/tls.crt"
KEY = f"{ETC}/tls.key"
AUTHORITY = f"{ETC}/ca.crt"


def metrics_gate_target(layout: Layout, node: Node, *, program: str) -> HostState:
    """A node's ``program`` (base64) and its unit; where it is not wanted, neither is what an earlier run left."""
    if not layout.metrics_endpoints:
        return _nothing()
    service = _service(layout, node, program, (layout.proxy_url,), {"serving.pem": SERVING, "ca.crt": paths.CA})
    return _gate(program, service)


def wants_own_gate(layout: Layout, node: Node) -> bool:
    """Whether the host has a gate with a certificate of its own: a member of etcd without a kubelet."""
    return layout.metrics_endpoints and node.etcd and not node.is_node


def own_gate_directory(layout: Layout, node: Node) -> HostState:
    """Where that certificate lies; elsewhere, what an earlier run left of such a gate goes."""
    if wants_own_gate(layout, node):
        return HostState(directories=(Directory(ETC, "0700"),))
    # A node's gate is in order with its network.
    return HostState(absent=(Absent(ETC),)) + (HostState() if node.is_node else _nothing())


def own_gate_certificate(layout: Layout, node: Node) -> Certificate:
    """That certificate, of the CA that everything else which is scraped has its certificates of."""
    return Certificate(
        name="metrics",
        certificate=CERTIFICATE,
        key=KEY,
        authority="kubernetes",
        common_name=node.node_name,
        dns=(node.node_name,),
        addresses=(node.address,),
        usages=("server",),
        days=layout.certificate_days,
    )


def own_gate_target(layout: Layout, node: Node, *, program: str) -> HostState:
    """Program and unit on a host for etcd alone, and the CA of the API servers, which it does not have otherwise."""
    apis = tuple(f"https://{member.address}:{layout.api_port}" for member in layout.control_plane)
    given = {"serving.pem": CERTIFICATE, "serving.key": KEY, "ca.crt": AUTHORITY}
    service = _service(layout, node, program, apis, given)
    return HostState(files=(File(AUTHORITY, "@@kubernetes-ca@@", "0600"),)) + _gate(program, service)


def _service(layout: Layout, node: Node, program: str, apis: tuple[str, ...], credentials: dict[str, str]) -> Service:
    return Service(
        description="Slipway's gate to this node's metrics",
        command=(
            *("/usr/bin/python3", "-I", PROGRAM, f"--address={node.address}", f"--port={ENDPOINTS_PORT}"),
            *(f"--api={api}" for api in apis),
            *(f"--source={name}={where}" for name, where in sources(layout, node).items()),
        ),
        after=("network-online.target", "kubelet.service"),
        lines=(
            "DynamicUser=yes",
            *SANDBOX,
            *(f"LoadCredential={name}:{path}" for name, path in credentials.items()),
            "MemoryMax=256M",
            "RestartSec=5",  # a new node waits for its certificate
        ),
        inputs=(digest_of(program),),
    )


def _gate(program: str, service: Service) -> HostState:
    return HostState(
        files=(File(PROGRAM, program, encoding="base64"), File(paths.unit(UNIT), service.text())),
        units=(Unit(UNIT, service.digest),),
    )


def _nothing() -> HostState:
    return HostState(
        absent=(Absent(PROGRAM), Absent(paths.unit(UNIT))), units=(Unit(UNIT, enabled=False, running=False),)
    )


def sources(layout: Layout, node: Node) -> dict[str, str]:
    """What there is on the host: name to URL or file."""
    found = {}
    if node.is_node:
        address = layout.kube_proxy.get("metricsBindAddress") or KUBE_PROXY_METRICS
        found["kube-proxy"] = f"http://{address}/metrics"
    if node.etcd:
        found["etcd"] = f"http://127.0.0.1:{etcd.METRICS_PORT}/metrics"
    if node.etcd or node.control_plane:
        found["keeper"] = keeper.METRICS
    if node.control_plane:
        found["kube-controller-manager"] = f"https://127.0.0.1:{control_plane.CONTROLLER_MANAGER_PORT}/metrics"
        found["kube-scheduler"] = f"https://127.0.0.1:{control_plane.SCHEDULER_PORT}/metrics"
    if layout.ingress_on_hosts and INGRESS_LABEL in node.labels:
        found["traefik"] = f"http://127.0.0.1:{TRAEFIK_PORT}/metrics"
    return found
