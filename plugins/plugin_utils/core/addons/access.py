# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what in every cluster, before the first node can join."""

from __future__ import annotations

from .objects import KubernetesObject, cluster_role, cluster_role_binding, group, rule, user

ADMIN_GROUP = "slipway:admins"
BOOTSTRAP_GROUP = "system:bootstrappers:slipway"
NODE_GROUP = "system:nodes"
KUBELET_CLIENT_USER = "kube-apiserver-kubelet-client"


def bootstrap_objects() -> list[KubernetesObject]:
    """Who may do what before the first node can join.

    The roles themselves are the API server's own defaults (kubernetes.io/docs/reference/access-authn-authz/rbac and
    .../kubelet-tls-bootstrapping); kube-proxy shares the kubelet's rotating certificate, hence the nodes' group.
    """
    nodes, joining = group(NODE_GROUP), group(BOOTSTRAP_GROUP)
    requests = "system:certificates.k8s.io:certificatesigningrequests"
    return [
        cluster_role_binding("slipway:admins", "cluster-admin", group(ADMIN_GROUP)),
        cluster_role_binding("slipway:node-bootstrapper", "system:node-bootstrapper", joining),
        cluster_role_binding("slipway:approve-first-node-certificate", f"{requests}:nodeclient", joining),
        cluster_role_binding("slipway:approve-renewed-node-certificate", f"{requests}:selfnodeclient", nodes),
        cluster_role_binding("slipway:kubelet-api", "system:kubelet-api-admin", user(KUBELET_CLIENT_USER)),
        cluster_role_binding("slipway:kube-proxy", "system:node-proxier", nodes),
    ]


def monitoring_objects() -> list[KubernetesObject]:
    """The role that a user's Prometheus is bound to: metrics of every component, and finding them."""
    urls = {"nonResourceURLs": ["/metrics", "/metrics/slis"], "verbs": ["get"]}
    found = [
        rule("", "nodes/metrics", "get"),
        rule("", "nodes services endpoints pods", "get list watch"),
        rule("discovery.k8s.io", "endpointslices", "get list watch"),
    ]
    return [cluster_role("slipway:metrics-scraper", [urls, *found])]


def flannel_objects() -> list[KubernetesObject]:
    """What flanneld may do as a unit on each node: read all nodes, write its own lease into its node's annotations.

    It reads no pods because its unit sets NODE_NAME. That a node writes to itself alone is NodeRestriction's work.
    """
    rules = [
        {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
    ]
    return [
        cluster_role("slipway:flannel", rules),
        cluster_role_binding("slipway:flannel", "slipway:flannel", group(NODE_GROUP)),
    ]
