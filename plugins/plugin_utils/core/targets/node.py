# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubelet of one host, and the loopback proxy through which the host reaches the API."""

from __future__ import annotations

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.containerd import SOCKET
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import Directory, File, HostState, Unit

from ..layout import Layout, Node
from . import paths
from .etcd import CIPHERS
from .text import NOTICE, Service, merge, to_yaml, token_kubeconfig

KUBELET_UNIT = "kubelet.service"
KUBELET_CONFIG = f"{paths.ETC}/kubelet.yaml"
PROXY_UNIT = "slipway-proxy.service"
PROXY_CONFIG = f"{paths.SLIPWAY_ETC}/proxy.cfg"
# What is made on a host is put there by the module that writes it.
CA_PLACEHOLDER = "@@kubernetes-ca@@"
TOKEN_PLACEHOLDER = "@@bootstrap-token@@"  # noqa: S105  # the name of a placeholder


def proxy_target(layout: Layout, node: Node) -> HostState:
    """haproxy on loopback in front of all API servers, on every node, with one control-plane host already.

    So growing changes no node's configuration but this one's list. A host that lost its power sends no reset, so a dead
    server's connections are closed as soon as it counts as down: after three connections that were not answered within
    two seconds each, or when what was sent to it stays unacknowledged for four. A server that is only slow accepts
    connections and has five seconds for each answer: it must not lose all its clients at once, which would make it
    slower still.
    """
    config = proxy_configuration(layout)
    service = Service(
        description="Slipway's loopback proxy to the Kubernetes API servers",
        command=("/usr/sbin/haproxy", "-Ws", "-f", PROXY_CONFIG, "-p", "/run/slipway-proxy.pid"),
        type="notify",
        lines=(
            "KillMode=mixed",
            "SuccessExitStatus=143",
            "ProtectSystem=full",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            "NoNewPrivileges=yes",
        ),
        inputs=(config,),
        stop_timeout=5,
    )
    authority = () if node.control_plane else (File(paths.CA, CA_PLACEHOLDER),)
    return HostState(
        files=(
            *authority,
            File(PROXY_CONFIG, config),
            File(paths.unit(PROXY_UNIT), service.text()),
        ),
        units=(Unit(PROXY_UNIT, service.digest),),
    )


def proxy_configuration(layout: Layout) -> str:
    """haproxy.cfg: API servers that answer /readyz, checked with the cluster's CA (haproxy's configuration manual).

    A host that is dead sends no reset. Connections that wait for its acknowledgement end after ``tcp-ut``, idle ones
    when it is marked down: 4 to 6 s, a check's connection that fails taking a second. Checks are closer only while in
    doubt, for each is a TLS handshake, and a thousand proxies ask each API server.
    """
    servers = "".join(
        f"  server {member.node_name} {member.address}:{layout.api_port}\n" for member in layout.control_plane
    )
    check = f"check check-ssl verify required ca-file {paths.CA} inter 2s fastinter 500ms fall 3 rise 1"
    return f"""{NOTICE}global
  maxconn 8192
  user haproxy
  group haproxy
  log stderr format raw local0 notice

defaults
  mode tcp
  log global
  option dontlognull
  option tcpka
  timeout connect 1s
  timeout client 1h
  timeout server 1h
  timeout check 5s

frontend kubernetes-api
  bind 127.0.0.1:{layout.proxy_port}
  default_backend kube-apiservers

backend kube-apiservers
  balance leastconn
  option redispatch 1
  retries 3
  option httpchk GET /readyz
  http-check expect status 200
  default-server {check} tcp-ut 3s on-marked-down shutdown-sessions
{servers}"""


def kubelet_target(layout: Layout, node: Node, *, joined: bool, anew: str = "") -> HostState:
    """The kubelet. A host that has not joined gets a kubeconfig with a token of minutes, below /run.

    ``anew`` is why one that runs as it should is started again, see Unit.
    """
    config = to_yaml(kubelet_configuration(layout, node))
    service = Service(
        description="Kubernetes kubelet",
        command=(
            paths.program("kubelet"),
            f"--config={KUBELET_CONFIG}",
            f"--kubeconfig={paths.KUBELET_CONF}",
            f"--bootstrap-kubeconfig={paths.BOOTSTRAP_CONF}",
            f"--hostname-override={node.node_name}",
            f"--node-ip={node.address}",
        ),
        after=("network-online.target", "containerd.service", PROXY_UNIT),
        wants=("network-online.target", "containerd.service", PROXY_UNIT),
        lines=("KillMode=process", "Delegate=yes", "OOMScoreAdjust=-999")[: 3 if node.manage_kernel else 2],
        inputs=(config, layout.versions["kubernetes"]),
    )
    bootstrap = token_kubeconfig(cluster=layout.name, server=layout.proxy_url, ca=paths.CA, token=TOKEN_PLACEHOLDER)
    files = [
        File(KUBELET_CONFIG, config, "0600"),
        File(f"{paths.SLIPWAY_ETC}/node-name", node.node_name + "\n"),
        File(paths.unit(KUBELET_UNIT), service.text(), "0600"),
    ]
    if not joined:
        files.append(File(paths.BOOTSTRAP_CONF, bootstrap, "0600", secret=True))
    return HostState(
        directories=(Directory("/var/lib/kubelet", "0750"),),
        files=tuple(files),
        units=(Unit(KUBELET_UNIT, service.digest, anew=anew),),
    )


def kubelet_waits() -> list[dict[str, t.Any]]:
    """The kubelet answers, and has its client certificate, which kube-proxy and flanneld use too."""
    return [
        {"what": "kubelet", "url": "http://127.0.0.1:10248/healthz"},
        {"what": "the kubelet's client certificate", "path": paths.KUBELET_CONF},
    ]


def ready_waits(layout: Layout, name: str) -> list[dict[str, t.Any]]:
    """The kubelet that runs now has told the API that its Node is Ready: it came up for good, and reaches the API."""
    return [
        {
            "what": f"node {name} Ready",
            "url": f"{layout.proxy_url}/api/v1/nodes/{name}",
            "ca": paths.CA,
            "certificate": paths.KUBELET_CERTIFICATE,
            "key": paths.KUBELET_CERTIFICATE,
            "since": KUBELET_UNIT,
        }
    ]


def kubelet_configuration(layout: Layout, node: Node) -> dict[str, t.Any]:
    """KubeletConfiguration: our defaults, then the user's verbatim fields."""
    defaults: dict[str, t.Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": paths.CA},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "systemd",
        "clusterDNS": [layout.dns_address],
        "clusterDomain": layout.domain,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
        "enforceNodeAllocatable": ["pods"],
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "10%",
            "nodefs.inodesFree": "5%",
            "imagefs.available": "15%",
        },
        "failSwapOn": node.swap != "keep",
        "kubeReserved": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "1Gi"},
        "systemReserved": {"cpu": "100m", "memory": "256Mi"},
        "makeIPTablesUtilChains": False,
        "podPidsLimit": 4096,
        "protectKernelDefaults": node.manage_kernel,
        "readOnlyPort": 0,
        "resolvConf": node.resolv_conf,
        "rotateCertificates": True,
        "seccompDefault": True,
        "serializeImagePulls": False,
        "serverTLSBootstrap": True,
        "shutdownGracePeriod": "30s",
        "shutdownGracePeriodCriticalPods": "10s",
        "streamingConnectionIdleTimeout": "4h0m0s",
        "tlsCipherSuites": list(CIPHERS),
        "tlsMinVersion": "VersionTLS12",
    }
    if node.taints:
        defaults["registerWithTaints"] = [taint(text) for text in node.taints]
    return merge(defaults, node.kubelet)


def taint(text: str) -> dict[str, str]:
    """``key=value:Effect`` or ``key:Effect`` as the API has it."""
    key, _unused, effect = text.rpartition(":")
    key, _unused, value = key.partition("=")
    return {"key": key, "effect": effect, **({"value": value} if value else {})}
