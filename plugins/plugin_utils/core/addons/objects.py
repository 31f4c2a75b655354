# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kubernetes objects that more than one part of a cluster is made of, as plain dicts in the shape of their API."""

from __future__ import annotations

import hashlib
import typing as t

KubernetesObject = dict[str, t.Any]

CONFIG_HASH_ANNOTATION = "slipway.cluster/config-sha256"
# The user that images of the bundle run as, and the one many others do.
NOBODY = 65532
CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"

_RBAC = "rbac.authorization.k8s.io"
_CRITICAL: tuple[KubernetesObject, ...] = (
    {"key": "CriticalAddonsOnly", "operator": "Exists"},
    {"key": CONTROL_PLANE_LABEL, "operator": "Exists", "effect": "NoSchedule"},
)


def cluster_role(name: str, rules: t.Sequence[t.Mapping[str, t.Any]]) -> KubernetesObject:
    """A ClusterRole."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRole",
        "metadata": {"name": name},
        "rules": [dict(rule) for rule in rules],
    }


def cluster_role_binding(name: str, role: str, subject: KubernetesObject) -> KubernetesObject:
    """A ClusterRoleBinding of one subject."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    }


def group(name: str) -> KubernetesObject:
    """A group as a binding's subject."""
    return {"apiGroup": _RBAC, "kind": "Group", "name": name}


def user(name: str) -> KubernetesObject:
    """A user as a binding's subject."""
    return {"apiGroup": _RBAC, "kind": "User", "name": name}


def service_account(name: str, namespace: str) -> KubernetesObject:
    """A ServiceAccount as a binding's subject."""
    return {"kind": "ServiceAccount", "name": name, "namespace": namespace}


def role_binding(name: str, namespace: str, role: str, subject: KubernetesObject) -> KubernetesObject:
    """A RoleBinding of one subject to a Role of the namespace."""
    return {
        "apiVersion": f"{_RBAC}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": namespace},
        "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": role},
        "subjects": [subject],
    }


def role(name: str, namespace: str, rules: t.Sequence[t.Mapping[str, t.Any]]) -> KubernetesObject:
    """A Role."""
    return {**cluster_role(name, rules), "kind": "Role", "metadata": {"name": name, "namespace": namespace}}


def rule(group_name: str, resources: str, verbs: str, *names: str) -> KubernetesObject:
    """A rule of a role: words for resources and verbs, separated by spaces; ``names`` narrow it."""
    narrow = {"resourceNames": list(names)} if names else {}
    return {"apiGroups": [group_name], "resources": resources.split(), "verbs": verbs.split(), **narrow}


def namespace(name: str, level: str) -> KubernetesObject:
    """A Namespace with a Pod Security ``level``."""
    labels = {f"pod-security.kubernetes.io/{mode}": level for mode in ("enforce", "audit", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def namespaced(
    api_version: str, kind: str, name: str, space: str, labels: t.Mapping[str, str] | None = None, **fields: t.Any
) -> KubernetesObject:
    """An object in a namespace."""
    metadata: KubernetesObject = {"name": name, "namespace": space}
    if labels:
        metadata["labels"] = dict(labels)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}


def config_hash(*texts: str) -> dict[str, str]:
    """The annotation of a pod that makes a new one when its configuration changes."""
    return {CONFIG_HASH_ANNOTATION: hashlib.sha256("\0".join(texts).encode()).hexdigest()}


def critical_tolerations() -> list[KubernetesObject]:
    """What lets a pod run on control-plane nodes as well, and go elsewhere soon from a node that is silent.

    Kubernetes' own default is five minutes, for which a run would wait while a host is down.
    """
    silent = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
    gone = [{"key": f"node.kubernetes.io/{state}", **silent} for state in ("not-ready", "unreachable")]
    return [*(dict(each) for each in _CRITICAL), *gone]


def one_at_a_time() -> KubernetesObject:
    """The strategy of a Deployment of one pod, which goes before the next one comes.

    ``Recreate`` would wait until it is gone, which it never is on a host that is down.
    """
    return {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}


def locked_down(**extra: t.Any) -> KubernetesObject:
    """A container's security context that meets the ``restricted`` standard."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        **extra,
    }


def as_nobody(**extra: t.Any) -> KubernetesObject:
    """A pod's security context without root."""
    return {
        "runAsGroup": NOBODY,
        "runAsNonRoot": True,
        "runAsUser": NOBODY,
        "seccompProfile": {"type": "RuntimeDefault"},
        **extra,
    }


def probe(path: str, port: int | str, *, scheme: str = "HTTP", host: str = "", **fields: int) -> KubernetesObject:
    """A probe by HTTP."""
    where = {"host": host} if host else {}
    return {"httpGet": {"path": path, "port": port, "scheme": scheme, **where}, **fields}
