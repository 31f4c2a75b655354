# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys and certificates a control-plane or etcd host has, and who reads them."""

from __future__ import annotations

import dataclasses

from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import (
    Authority,
    Certificate,
    Copy,
    KeyPair,
    PkiWant,
    Secret,
)

from ..addons.objects import NOBODY
from ..layout import Layout, Node
from . import paths

AUTHORITIES = {
    "kubernetes": Authority("kubernetes", paths.CA, f"{paths.PKI}/ca.key", "kubernetes-ca"),
    "front-proxy": Authority(
        "front-proxy", f"{paths.PKI}/front-proxy-ca.crt", f"{paths.PKI}/front-proxy-ca.key", "front-proxy-ca"
    ),
    "etcd": Authority("etcd", f"{paths.PKI}/etcd/ca.crt", f"{paths.PKI}/etcd/ca.key", "etcd-ca"),
}
ROOT_ETCD_CERTIFICATE = f"{paths.PKI}/etcd/root-client.crt"
ROOT_ETCD_KEY = f"{paths.PKI}/etcd/root-client.key"
ENCRYPTION = f"{paths.PKI}/encryption.yaml"
SHARED_KEYPAIRS = (KeyPair("service-account", f"{paths.PKI}/sa.key", f"{paths.PKI}/sa.pub"),)
SHARED_SECRETS = (Secret("encryption-config", ENCRYPTION),)


def pki_want(layout: Layout, node: Node, *, generate: bool) -> PkiWant:
    """Everything of this host; ``generate`` is true on the one host that makes what all share."""
    certificates: list[Certificate] = []
    copies: list[Copy] = []
    if node.control_plane:
        certificates += _control_plane_certificates(layout, node)
        certificates += _metrics_certificates(layout)
        copies += _control_plane_copies()
    if node.etcd:
        certificates += _etcd_certificates(node)
        copies.append(Copy(f"{paths.PKI}/etcd/ca.crt", f"{paths.ETCD_PKI}/ca.crt", "etcd", "etcd", "0644"))
    certificates.append(
        Certificate("etcd-root-client", ROOT_ETCD_CERTIFICATE, ROOT_ETCD_KEY, "etcd", "root", usages=("client",))
    )
    authorities = AUTHORITIES.values() if node.control_plane else (AUTHORITIES["etcd"],)
    return PkiWant(
        authorities=tuple(dataclasses.replace(authority, days=layout.authority_days) for authority in authorities),
        keypairs=SHARED_KEYPAIRS if node.control_plane else (),
        secrets=SHARED_SECRETS if node.control_plane else (),
        certificates=tuple(
            dataclasses.replace(certificate, days=layout.certificate_days) for certificate in certificates
        ),
        copies=tuple(copies),
        generate=generate,
        renew_fraction=min(layout.renew_before_days / layout.certificate_days, 1.0),
    )


def _leaf(name: str, directory: str, file: str, owner: str, **fields: object) -> Certificate:
    return Certificate(
        name,
        f"{directory}/{file}.crt",
        f"{directory}/{file}.key",
        owner=owner,
        group=owner,
        **fields,  # type: ignore[arg-type]
    )


def _control_plane_certificates(layout: Layout, node: Node) -> list[Certificate]:
    api, kcm, scheduler = "kube-apiserver", "kube-controller-manager", "kube-scheduler"
    domain = layout.domain
    dns = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        f"kubernetes.default.svc.{domain}",
        "localhost",
    ]
    extra = [*layout.apiserver_sans, *([_host_of(layout.endpoint)] if layout.endpoint else [])]
    names = [name for name in (*dict.fromkeys([node.node_name, *dns, *extra]),) if not _is_address(name)]
    addresses = dict.fromkeys(
        [node.address, "127.0.0.1", layout.kubernetes_address, *(name for name in extra if _is_address(name))]
    )
    loopback = {"dns": ("localhost",), "addresses": ("127.0.0.1",), "usages": ("server",)}
    client = {"usages": ("client",)}
    return [
        _leaf(
            "kube-apiserver-serving", paths.APISERVER, "serving", api, authority="kubernetes", common_name=api,
            dns=tuple(names), addresses=tuple(addresses), usages=("server",),
        ),
        _leaf(
            "kube-apiserver-etcd-client", paths.APISERVER, "etcd-client", api, authority="etcd",
            common_name=api, **client,
        ),
        _leaf(
            "kube-apiserver-kubelet-client", paths.APISERVER, "kubelet-client", api, authority="kubernetes",
            common_name="kube-apiserver-kubelet-client", **client,
        ),
        _leaf(
            "front-proxy-client", paths.APISERVER, "front-proxy-client", api, authority="front-proxy",
            common_name="front-proxy-client", **client,
        ),
        _leaf(
            "kube-controller-manager-client", paths.CONTROLLER_MANAGER, "client", kcm, authority="kubernetes",
            common_name=f"system:{kcm}", **client,
        ),
        _leaf(
            "kube-controller-manager-serving", paths.CONTROLLER_MANAGER, "serving", kcm, authority="kubernetes",
            common_name=kcm, **loopback,
        ),
        _leaf(
            "kube-scheduler-client", paths.SCHEDULER, "client", scheduler, authority="kubernetes",
            common_name=f"system:{scheduler}", **client,
        ),
        _leaf(
            "kube-scheduler-serving", paths.SCHEDULER, "serving", scheduler, authority="kubernetes",
            common_name=scheduler, **loopback,
        ),
        _leaf(
            "emergency-admin", paths.ADMIN, "client", "root", authority="kubernetes", common_name="emergency-admin",
            organizations=("system:masters",), **client,
        ),
    ]  # fmt: skip


def _metrics_certificates(layout: Layout) -> list[Certificate]:
    """metrics-server's own, read by a pod, so the owner is a number; the API server asks for the first name."""
    name, reader = "metrics-server", str(NOBODY)
    names = (f"{name}.kube-system.svc", f"{name}.kube-system.svc.{layout.domain}")
    leaf = _leaf(
        f"{name}-serving", paths.METRICS, "serving", reader, authority="kubernetes", common_name=name, dns=names,
        usages=("server",),
    )  # fmt: skip
    return [leaf] if layout.metrics else []


def _etcd_certificates(node: Node) -> list[Certificate]:
    names = {"dns": (node.node_name, "localhost"), "addresses": (node.address, "127.0.0.1")}
    return [
        _leaf("etcd-server", paths.ETCD_PKI, "server", "etcd", authority="etcd", common_name=node.node_name, **names),
        _leaf("etcd-peer", paths.ETCD_PKI, "peer", "etcd", authority="etcd", common_name=node.node_name, **names),
    ]


def _control_plane_copies() -> list[Copy]:
    api, kcm, scheduler = "kube-apiserver", "kube-controller-manager", "kube-scheduler"
    table = [
        (f"{paths.PKI}/sa.key", paths.APISERVER, "sa.key", api, "0600"),
        (f"{paths.PKI}/sa.pub", paths.APISERVER, "sa.pub", api, "0644"),
        (paths.CA, paths.APISERVER, "ca.crt", api, "0644"),
        (f"{paths.PKI}/etcd/ca.crt", paths.APISERVER, "etcd-ca.crt", api, "0644"),
        (f"{paths.PKI}/front-proxy-ca.crt", paths.APISERVER, "front-proxy-ca.crt", api, "0644"),
        (ENCRYPTION, paths.APISERVER, "encryption.yaml", api, "0600"),
        (paths.CA, paths.CONTROLLER_MANAGER, "ca.crt", kcm, "0644"),
        (f"{paths.PKI}/ca.key", paths.CONTROLLER_MANAGER, "ca.key", kcm, "0600"),
        (f"{paths.PKI}/sa.key", paths.CONTROLLER_MANAGER, "sa.key", kcm, "0600"),
        (f"{paths.PKI}/front-proxy-ca.crt", paths.CONTROLLER_MANAGER, "front-proxy-ca.crt", kcm, "0644"),
        (paths.CA, paths.SCHEDULER, "ca.crt", scheduler, "0644"),
        (f"{paths.PKI}/front-proxy-ca.crt", paths.SCHEDULER, "front-proxy-ca.crt", scheduler, "0644"),
    ]
    return [Copy(source, f"{directory}/{name}", owner, owner, mode) for source, directory, name, owner, mode in table]


def _host_of(endpoint: str) -> str:
    return endpoint.rsplit(":", 1)[0] if ":" in endpoint else endpoint


def _is_address(name: str) -> bool:
    return name.replace(".", "").isdigit() or ":" in name
