# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What gives a node its part of the cluster's network: kube-proxy, and with flannel a route to every pod."""

from __future__ import annotations

import json
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    Directory,
    File,
    HostState,
    SeenState,
    Unit,
)

from ..layout import Layout, Node
from . import paths
from .text import NOTICE, Service, merge, to_yaml

KUBE_PROXY_UNIT = "kube-proxy.service"
KUBE_PROXY_CONFIG = f"{paths.ETC}/kube-proxy.yaml"
KUBE_PROXY_METRICS = "127.0.0.1:10249"
SERVICE_ROUTE_UNIT = "slipway-service-route.service"
FLANNEL_UNIT = "flanneld.service"
FLANNEL_CONFIG = f"{paths.ETC}/flannel/net-conf.json"
FLANNEL_SUBNET = "/run/flannel/subnet.env"
CNI_TEMPLATE = f"{paths.SLIPWAY_ETC}/cni-conflist.template"
CNI_CONFIG = "/etc/cni/net.d/10-containerd-net.conflist"
VXLAN_OVERHEAD_BYTES = 50


def network_target(layout: Layout, node: Node, *, anew: str = "") -> HostState:
    """kube-proxy and a route to Services always; flanneld where flannel is the network.

    ``anew`` is why a flanneld that runs as it should is started again, see Unit.
    """
    proxy = kube_proxy_target(layout, node) + service_route_target(layout, node)
    return proxy + flannel_target(layout, node, anew=anew) if layout.network == "flannel" else proxy


def network_waits(layout: Layout) -> list[dict[str, t.Any]]:
    """kube-proxy has programmed its first rules; flannel has its lease."""
    waits: list[dict[str, t.Any]] = [
        {"what": "kube-proxy", "url": "http://127.0.0.1:10256/livez"},
        {"what": "kube-proxy", "unit": KUBE_PROXY_UNIT},
    ]
    if layout.network == "flannel":
        waits.append({"what": "flannel's lease of a pod subnet", "path": FLANNEL_SUBNET})
    return waits


def kube_proxy_target(layout: Layout, node: Node) -> HostState:
    """kube-proxy, its mode written explicitly; it uses the kubelet's rotating certificate."""
    config = to_yaml(
        merge(
            {
                "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
                "kind": "KubeProxyConfiguration",
                "bindAddress": "0.0.0.0",  # noqa: S104  # where Services listen
                "clientConnection": {"kubeconfig": paths.KUBELET_CONF},
                "clusterCIDR": layout.pod_cidr,
                "healthzBindAddress": "0.0.0.0:10256",
                "hostnameOverride": node.node_name,
                "metricsBindAddress": KUBE_PROXY_METRICS,
                "mode": "nftables",
            },
            layout.kube_proxy,
        )
    )
    service = Service(
        description="Kubernetes network proxy",
        command=(paths.program("kube-proxy"), f"--config={KUBE_PROXY_CONFIG}"),
        after=("network-online.target", "kubelet.service"),
        inputs=(config, layout.versions["kubernetes"]),
    )
    return HostState(
        files=(File(KUBE_PROXY_CONFIG, config), File(paths.unit(KUBE_PROXY_UNIT), service.text())),
        units=(Unit(KUBE_PROXY_UNIT, service.digest),),
    )


def service_route_target(layout: Layout, node: Node) -> HostState:
    """A route by which a packet to a Service begins on a host without a default route.

    kube-proxy puts an endpoint in the Service's place, and the packet is routed anew, before it would leave by it.
    """
    route = f"{layout.service_cidr} dev lo src {node.address}"
    unit = f"""{NOTICE}[Unit]
Description=Route to the addresses of Services
After=network-online.target
Wants=network-online.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/ip route replace {route}
ExecStop=-/usr/sbin/ip route delete {route}
Restart=on-failure
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
    return HostState(files=(File(paths.unit(SERVICE_ROUTE_UNIT), unit),), units=(Unit(SERVICE_ROUTE_UNIT),))


def flannel_target(layout: Layout, node: Node, *, anew: str = "") -> HostState:
    """flanneld over VXLAN on the interface that has the node's address."""
    config = json.dumps(
        {
            "Network": layout.pod_cidr,
            "EnableNFTables": True,
            "Backend": {"Type": "vxlan", "MTU": pod_mtu(layout, node) + VXLAN_OVERHEAD_BYTES},
        },
        indent=2,
    )
    service = Service(
        description="flannel, the pod network between nodes",
        command=(
            paths.program("flannel", "flanneld"),
            "--kube-subnet-mgr",
            f"--kubeconfig-file={paths.KUBELET_CONF}",
            f"--net-config-path={FLANNEL_CONFIG}",
            f"--subnet-file={FLANNEL_SUBNET}",
            f"--iface={node.address}",
            "--ip-masq",
        ),
        after=("network-online.target", "kubelet.service"),
        lines=(f"Environment=NODE_NAME={node.node_name}",),
        inputs=(config, layout.versions["flannel"]),
    )
    return HostState(
        directories=(Directory(f"{paths.ETC}/flannel"),),
        files=(File(FLANNEL_CONFIG, config + "\n"), File(paths.unit(FLANNEL_UNIT), service.text())),
        units=(Unit(FLANNEL_UNIT, service.digest, anew=anew),),
    )


def cni_target(layout: Layout, node: Node) -> HostState:
    """The template from which containerd makes the node's CNI configuration once the kubelet knows the pod CIDR."""
    if layout.network != "flannel":
        return HostState()
    conflist = {
        "cniVersion": "1.0.0",
        "name": layout.name,
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "mtu": pod_mtu(layout, node),
                "isDefaultGateway": True,
                "hairpinMode": True,
                "ipMasq": False,
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "{{.PodCIDR}}"}]]},
            },
            {"type": "portmap", "capabilities": {"portMappings": True}, "backend": "nftables"},
        ],
    }
    return HostState(files=(File(CNI_TEMPLATE, json.dumps(conflist, indent=2) + "\n"),))


def pod_cidr(layout: Layout, state: SeenState) -> str:
    """The network of which the host gives its pods addresses, empty if it has given none.

    containerd has made its configuration once, of the template above, and keeps it whatever the Node says later.
    """
    found = state.paths.get(CNI_CONFIG)
    if layout.network != "flannel" or found is None:
        return ""
    try:
        return str(json.loads(found.text)["plugins"][0]["ipam"]["ranges"][0][0]["subnet"])
    except (ValueError, LookupError, TypeError):
        return ""


def pod_mtu(layout: Layout, node: Node) -> int:
    """The user's pod MTU, or what the node's interface leaves after VXLAN's header."""
    return layout.network_mtu or node.interface_mtu - VXLAN_OVERHEAD_BYTES
