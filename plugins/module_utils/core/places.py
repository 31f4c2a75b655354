# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where Slipway's things are on a host: what a probe looks at, what a target may name, and what a reset removes."""

from __future__ import annotations

# Trees and single paths. A directory is observed with everything below it, except where it is listed as SHALLOW.
TREES = (
    "/etc/kubernetes",
    "/etc/etcd",
    "/etc/slipway",
    "/etc/slipway-registry",
    "/etc/slipway-metrics",
    "/etc/containerd",
    "/etc/cni/net.d",
)
SHALLOW = (
    "/etc/crictl.yaml",
    "/etc/systemd/system/cri-containerd-.scope.d",
    "/etc/systemd/system/cri-containerd-.scope.d/50-slipway.conf",
    "/etc/sysctl.d/90-slipway.conf",
    "/etc/modules-load.d/slipway.conf",
    "/opt/slipway",
    "/run/slipway-registry/serving.crt",
    "/run/slipway/bootstrap-kubelet.conf",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/kubelet/pki/kubelet-client-current.pem",
    "/var/lib/slipway",
    "/var/lib/slipway-registry",
    "/var/lib/slipway/keeper.pyz",
    "/var/lib/slipway/metrics_gate.py",
    "/var/log/kubernetes/audit",
)
UNITS = (
    "containerd.service",
    "etcd.service",
    "flanneld.service",
    "kube-apiserver.service",
    "kube-controller-manager.service",
    "kube-proxy.service",
    "kube-scheduler.service",
    "kubelet.service",
    "slipway-keeper.service",
    "slipway-keeper.timer",
    "slipway-metrics.service",
    "slipway-proxy.service",
    "slipway-registry.service",
    "slipway-service-route.service",
)
UNIT_DIRECTORY = "/etc/systemd/system"
PODS = "kubepods.slice"
"""The cgroup of all pods."""
USERS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "slipway-registry")
CERTIFICATES = (
    "/etc/kubernetes/pki/*",
    "/etc/kubernetes/pki/etcd/*",
    "/etc/kubernetes/kube-apiserver/*",
    "/etc/kubernetes/kube-controller-manager/*",
    "/etc/kubernetes/kube-scheduler/*",
    "/etc/kubernetes/metrics-server/*",
    "/etc/kubernetes/admin/*",
    "/etc/etcd/pki/*",
    "/run/slipway/receiver.*",
    "/etc/slipway-registry/tls.*",
    "/etc/slipway-metrics/tls.*",
)
AUTHORITIES = {
    "kubernetes": "/etc/kubernetes/pki/ca.crt",
    "front-proxy": "/etc/kubernetes/pki/front-proxy-ca.crt",
    "etcd": "/etc/kubernetes/pki/etcd/ca.crt",
}
CLUSTER = "/etc/slipway/cluster.json"
NODE_NAME = "/etc/slipway/node-name"
ADMIN_CONF = "/etc/kubernetes/admin.conf"
RECORD = ("kube-system", "slipway-record")
"""Namespace and name of the ConfigMap that tells of the last run that changed something."""
KUBECTL = "/opt/slipway/kubectl/current/kubectl"
# Disk space is looked at where the components write.
MOUNTS = (
    "/",
    "/opt/slipway",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/slipway",
    "/var/log",
)
KERNEL_MODULES = ("overlay", "br_netfilter", "vxlan")
# These belong to a network namespace; the others change the whole machine, also below a container.
NETWORK_SYSCTLS = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
}
KERNEL_SYSCTLS = {
    "fs.inotify.max_user_instances": "8192",
    "fs.inotify.max_user_watches": "524288",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    "vm.overcommit_memory": "1",
}
# Debian's package of each program that a host needs.
PACKAGES = {
    "haproxy": "haproxy",
    "ip": "iproute2",
    "iptables": "iptables",  # flannel 0.28 clears its old rules with it, also where it uses nftables
    "mount": "mount",
    "nft": "nftables",
    "openssl": "openssl",
    "ss": "iproute2",
}
STATIC_PODS = "/etc/kubernetes/manifests"
"""Where people and kubeadm put static pods."""
KUBEADM_LEFTOVERS = (
    f"{STATIC_PODS}/etcd.yaml",
    f"{STATIC_PODS}/kube-apiserver.yaml",
    f"{STATIC_PODS}/kube-controller-manager.yaml",
    f"{STATIC_PODS}/kube-scheduler.yaml",
    "/var/lib/kubelet/kubeadm-flags.env",
)


def is_observed(path: str) -> bool:
    """Whether a probe looks at the path."""
    unit = path.rsplit("/", 1)
    return (
        path in SHALLOW
        or any(path == tree or path.startswith(tree + "/") for tree in TREES)
        or (unit[0] == UNIT_DIRECTORY and unit[1] in UNITS)
    )
