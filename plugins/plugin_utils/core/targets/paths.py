# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where things stand on a host; people and tools expect the well-known ones."""

from __future__ import annotations

ETC = "/etc/kubernetes"
PKI = ETC + "/pki"
CA = PKI + "/ca.crt"
ETCD_PKI = "/etc/etcd/pki"
APISERVER = ETC + "/kube-apiserver"
CONTROLLER_MANAGER = ETC + "/kube-controller-manager"
SCHEDULER = ETC + "/kube-scheduler"
METRICS = ETC + "/metrics-server"
ADMIN = ETC + "/admin"
ADMIN_CONF = ETC + "/admin.conf"
KUBELET_CONF = ETC + "/kubelet.conf"
KUBELET_CERTIFICATE = "/var/lib/kubelet/pki/kubelet-client-current.pem"
BOOTSTRAP_CONF = "/run/slipway/bootstrap-kubelet.conf"
UNITS = "/etc/systemd/system"
SLIPWAY_ETC = "/etc/slipway"
SLIPWAY_VAR = "/var/lib/slipway"
AUDIT = "/var/log/kubernetes/audit"
OPT = "/opt/slipway"


def program(component: str, name: str | None = None) -> str:
    """Where a component's program of the active version lies."""
    return f"{OPT}/{component}/current/{name or component}"


def unit(name: str) -> str:
    """Where a unit file lies."""
    return f"{UNITS}/{name}"
