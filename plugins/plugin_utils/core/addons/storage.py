# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""local-path-provisioner: a claim gets a directory on the disk of the node where its first pod is going to run.

For each directory it starts a helper pod on that node, which makes or removes it. The volumes are of the kind
``local``: a directory that is missing, because its disk is not mounted, keeps a pod from starting, where ``hostPath``
would give it an empty one.
"""

from __future__ import annotations

import json

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import HELD_BY_VOLUMES

from ..spec import Storage
from .model import Addon, Scene
from .objects import (
    KubernetesObject,
    as_nobody,
    cluster_role,
    cluster_role_binding,
    config_hash,
    critical_tolerations,
    locked_down,
    namespace,
    namespaced,
    one_at_a_time,
    role,
    role_binding,
    rule,
    service_account,
)

SPACE = "slipway-storage"
CLASS = "local-path"
PROVISIONER = "slipway.cluster/local-path"
_NAME = "local-path-provisioner"
_HELPER = "volume-helper"
_ROLE = "slipway:storage"
_CONFIG = "/etc/local-path"
_LABELS = {"app.kubernetes.io/name": _NAME}
# Any user of a pod may write into its volume, so nobody but root may come near it on the host. The parent is closed
# first; both are done again where a helper was cut.
_SETUP = """#!/bin/sh
set -eu
chmod 0700 "${VOL_DIR%/*}"
mkdir -m 0777 -p "$VOL_DIR"
"""
_TEARDOWN = """#!/bin/sh
set -eu
rm -rf "$VOL_DIR"
"""


def storage_objects(*, image: str, helper: str, settings: Storage) -> list[KubernetesObject]:
    """The objects; ``image`` is the provisioner's, ``helper`` has a shell, mkdir, chmod and rm."""
    every_node = {"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [settings.path]}
    data = {
        "config.json": _json({"nodePathMap": [every_node]}),
        "helperPod.yaml": _json(_helper_pod(helper)),
        "setup": _SETUP,
        "teardown": _TEARDOWN,
    }
    return [
        # Helper pods mount the node's directory.
        namespace(SPACE, "privileged"),
        *_permissions(),
        namespaced("v1", "ConfigMap", _NAME, SPACE, _LABELS, data=data),
        _deployment(image, helper, config_hash(*data.values())),
        _storage_class(default=settings.default_class),
    ]


def _json(value: object) -> str:
    """JSON, which is YAML too."""
    return json.dumps(value, indent=2, sort_keys=True) + "\n"


def _permissions() -> list[KubernetesObject]:
    """Volumes of the whole cluster, helper pods in its own namespace; the helpers themselves may do nothing.

    A claim is updated only to have the scheduler choose again when the chosen node is gone.
    """
    account = service_account(_NAME, SPACE)
    return [
        namespaced("v1", "ServiceAccount", _NAME, SPACE, _LABELS, automountServiceAccountToken=False),
        namespaced("v1", "ServiceAccount", _HELPER, SPACE, _LABELS, automountServiceAccountToken=False),
        cluster_role(
            _ROLE,
            [
                rule("", "nodes", "get list watch"),
                rule("", "persistentvolumeclaims", "get list watch update"),
                rule("", "persistentvolumes", "get list watch create patch delete"),
                rule("", "events", "create patch"),
                rule("storage.k8s.io", "storageclasses", "get list watch"),
            ],
        ),
        cluster_role_binding(_ROLE, _ROLE, account),
        role(_NAME, SPACE, [rule("", "pods", "get create delete"), rule("", "pods/log", "get")]),
        role_binding(_NAME, SPACE, _NAME, account),
    ]


def _helper_pod(image: str) -> KubernetesObject:
    """What the provisioner completes; it looks for a container of this name.

    Root, because directories of a volume may belong to anybody, with what it takes to empty them and nothing else.
    """
    security = locked_down()
    security["capabilities"]["add"] = ["DAC_OVERRIDE", "FOWNER"]
    container = {
        "name": "helper-pod",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": security,
    }
    spec = {
        "automountServiceAccountToken": False,
        "containers": [container],
        "enableServiceLinks": False,
        "priorityClassName": "system-node-critical",
        "securityContext": {"runAsUser": 0, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 1,
    }
    labels = {"app.kubernetes.io/name": _HELPER}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": _HELPER, "labels": labels}, "spec": spec}


def _deployment(image: str, helper: str, annotations: dict[str, str]) -> KubernetesObject:
    """One pod and never two, for it asks for no lease."""
    container = {
        "name": _NAME,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        # Upstream's image has no entrypoint.
        "command": [_NAME],
        "args": [
            "start",
            f"--config={_CONFIG}/config.json",
            f"--helper-pod-file={_CONFIG}/helperPod.yaml",
            f"--configmap-name={_NAME}",
            f"--helper-image={helper}",
            f"--namespace={SPACE}",
            f"--provisioner-name={PROVISIONER}",
            f"--service-account-name={_HELPER}",
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        "securityContext": locked_down(),
        "volumeMounts": [{"name": "config", "mountPath": _CONFIG, "readOnly": True}],
    }
    pod = {
        "automountServiceAccountToken": True,
        "containers": [container],
        "priorityClassName": "system-cluster-critical",
        "securityContext": as_nobody(),
        "serviceAccountName": _NAME,
        "tolerations": critical_tolerations(),
        "volumes": [{"name": "config", "configMap": {"name": _NAME}}],
    }
    return namespaced(
        "apps/v1",
        "Deployment",
        _NAME,
        SPACE,
        _LABELS,
        spec={
            "replicas": 1,
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": dict(_LABELS)},
            "strategy": one_at_a_time(),
            "template": {"metadata": {"labels": dict(_LABELS), "annotations": annotations}, "spec": pod},
        },
    )


def _storage_class(*, default: bool) -> KubernetesObject:
    annotations = {
        HELD_BY_VOLUMES: "true",
        # Read by the provisioner: the kind of volume it makes.
        "defaultVolumeType": "local",
        "storageclass.kubernetes.io/is-default-class": str(default).lower(),
    }
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": CLASS, "annotations": annotations},
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def _objects(scene: Scene) -> list[KubernetesObject]:
    return storage_objects(image=scene.images[_NAME], helper=scene.images[_HELPER], settings=scene.spec.storage)


STORAGE = Addon(
    "storage",
    wanted=lambda spec: spec.storage.enabled,
    objects=_objects,
    images=(_NAME, _HELPER),
)
