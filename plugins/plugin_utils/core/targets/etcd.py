# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The etcd member: everything but what only matters before the cluster has formed."""

from __future__ import annotations

from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import INITIAL, UNIT
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import Directory, File, HostState, Unit

from ..layout import Layout, Member, Node
from . import paths
from .text import NOTICE, Service

CLIENT_PORT = 2379
PEER_PORT = 2380
METRICS_PORT = 2381
ENVIRONMENT = "/etc/etcd/etcd.env"
DATA = "/var/lib/etcd"
# Strong suites that both etcd and Go offer below TLS 1.3 (CIS benchmark 2.x); TLS 1.3 suites are not configurable.
CIPHERS = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
)


def etcd_target(layout: Layout, node: Node) -> HostState:
    """Files and unit of the member on this host.

    etcd reads its settings from the environment, so that the one-off ``initial.env`` can stand beside them and is no
    drift later.
    """
    settings = "".join(f"ETCD_{key}={value}\n" for key, value in _settings(layout, node).items())
    environment = NOTICE + settings
    service = Service(
        description="etcd, the cluster's key-value store",
        command=(paths.program("etcd"),),
        type="notify",
        user="etcd",
        lines=(
            f"EnvironmentFile={ENVIRONMENT}",
            f"EnvironmentFile=-{INITIAL}",
            f"ReadWritePaths={DATA}",
            "OOMScoreAdjust=0",
            "Nice=-5",
            "IOSchedulingClass=best-effort",
            "IOSchedulingPriority=0",
        ),
        inputs=(environment, layout.versions["etcd"]),
        start_timeout=0,
    )
    return HostState(
        directories=(Directory(DATA, "0700", "etcd", "etcd"),),
        files=(File(ENVIRONMENT, environment), File(paths.unit(UNIT), service.text())),
        units=(Unit(UNIT, service.digest, no_block=True),),
    )


def _settings(layout: Layout, node: Node) -> dict[str, str]:
    own = {
        "NAME": node.node_name,
        "DATA_DIR": DATA,
        "LISTEN_CLIENT_URLS": f"https://127.0.0.1:{CLIENT_PORT},https://{node.address}:{CLIENT_PORT}",
        "ADVERTISE_CLIENT_URLS": client_url(node.member),
        "LISTEN_PEER_URLS": f"https://{node.address}:{PEER_PORT}",
        "LISTEN_METRICS_URLS": f"http://127.0.0.1:{METRICS_PORT}",
        # initial.env says "new" while the cluster is; without it etcd would answer lost data with an empty cluster.
        "INITIAL_CLUSTER_STATE": "existing",
        "CLIENT_CERT_AUTH": "true",
        "TRUSTED_CA_FILE": f"{paths.ETCD_PKI}/ca.crt",
        "CERT_FILE": f"{paths.ETCD_PKI}/server.crt",
        "KEY_FILE": f"{paths.ETCD_PKI}/server.key",
        "PEER_CLIENT_CERT_AUTH": "true",
        "PEER_TRUSTED_CA_FILE": f"{paths.ETCD_PKI}/ca.crt",
        "PEER_CERT_FILE": f"{paths.ETCD_PKI}/peer.crt",
        "PEER_KEY_FILE": f"{paths.ETCD_PKI}/peer.key",
        "TLS_MIN_VERSION": "TLS1.2",
        "CIPHER_SUITES": ",".join(CIPHERS),
        "QUOTA_BACKEND_BYTES": str(layout.etcd_quota_bytes),
        "LOG_LEVEL": "info",
    }
    user = {key.removeprefix("--").replace("-", "_").upper(): value for key, value in layout.args["etcd"].items()}
    return {key: str(value) for key, value in {**own, **user}.items() if value is not None}


def client_url(member: Member) -> str:
    """Where clients reach the member."""
    return f"https://{member.address}:{CLIENT_PORT}"


def peer_url(member: Member) -> str:
    """Where other members reach it."""
    return f"https://{member.address}:{PEER_PORT}"
