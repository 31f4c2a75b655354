# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A storage driver that is none: a test plays its external-attacher, so that Kubernetes attaches and detaches volumes.

There is no storage, so the pod that claims the volume waits for its mount for ever; it is on a node all the same, and
its kubelet says that the volume is in use.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

from slipway.lab import Lab
from tests.cluster import support

DRIVER = "drill.example"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
FINALIZER = "external-attacher/drill-example"
CLAIMING, OFFERING = "statefulset,persistentvolumeclaim", "persistentvolume,storageclass,csidriver"
INTERVAL_SECONDS, DETACHING_SECONDS = 0.5, 10.0
OBJECTS = """
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {{name: {driver}, labels: {{drill: attaching}}}}
spec: {{attachRequired: true, podInfoOnMount: false}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {{name: drill, labels: {{drill: attaching}}}}
provisioner: {driver}
---
apiVersion: v1
kind: PersistentVolume
metadata: {{name: drill, labels: {{drill: attaching}}}}
spec:
  capacity: {{storage: 1Gi}}
  accessModes: [ReadWriteOnce]
  storageClassName: drill
  persistentVolumeReclaimPolicy: Retain
  csi: {{driver: {driver}, volumeHandle: one}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: drill, namespace: default, labels: {{drill: attaching}}}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: drill
  volumeName: drill
  resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: drill, namespace: default, labels: {{drill: attaching}}}}
spec:
  replicas: 1
  serviceName: drill
  selector: {{matchLabels: {{app: drill}}}}
  template:
    metadata: {{labels: {{app: drill}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - {{name: pause, image: "{image}", args: [pause], volumeMounts: [{{name: data, mountPath: /data}}]}}
      volumes:
        - {{name: data, persistentVolumeClaim: {{claimName: drill}}}}
"""


@dataclasses.dataclass(frozen=True)
class Pod:
    """The pod that claims the volume: which one it is, where, and whether it is to go."""

    uid: str = ""
    node: str = ""
    leaving: bool = False


class Driver:
    """Attaches at once and takes its time to detach; ``detached`` says whether each Node was there when it was done."""

    def __init__(self, lab: Lab, host: str) -> None:
        self.detached: dict[str, bool] = {}
        self._lab, self._host = lab, host
        self._asked: dict[str, float] = {}

    def pod(self) -> Pod:
        """As it is now; an empty one between two."""
        found = support.objects(self._lab, "pods", "-n", "default", "-l", "app=drill", host=self._host)
        return next((_pod(item) for item in found), Pod())

    def attached(self) -> dict[str, bool]:
        """The Nodes with a VolumeAttachment, and whether it is attached and to stay so."""
        return {
            item["spec"]["nodeName"]: _is_attached(item) and "deletionTimestamp" not in item["metadata"]
            for item in self._attachments()
        }

    def unused(self) -> str | None:
        """None once the volume is attached to the pod's node, and the kubelet there says that it is in use."""
        pod, attached = self.pod(), self.attached()
        if not pod.node or attached != {pod.node: True}:
            return f"{pod}, {attached}"
        nodes = support.objects(self._lab, "nodes", host=self._host)
        (status,) = [each["status"] for each in nodes if each["metadata"]["name"] == pod.node]
        return None if any(DRIVER in name for name in status.get("volumesInUse", ())) else f"{pod.node} does not use it"

    def idle(self) -> str | None:
        """None once nothing is attached."""
        left = [item["metadata"]["name"] for item in self._attachments()]
        return ", ".join(left) or None

    def serve(self, end: threading.Event) -> None:
        """Do what there is to do until the event."""
        while not end.wait(INTERVAL_SECONDS):
            for item in self._attachments():
                self._attend(item)

    def _attachments(self) -> list[dict[str, t.Any]]:
        found = support.objects(self._lab, "volumeattachments", host=self._host)
        return [item for item in found if item["spec"]["attacher"] == DRIVER]

    def _attend(self, item: t.Mapping[str, t.Any]) -> None:
        metadata, node = item["metadata"], item["spec"]["nodeName"]
        if "deletionTimestamp" in metadata:
            if time.monotonic() - self._asked.setdefault(metadata["uid"], time.monotonic()) >= DETACHING_SECONDS:
                nodes = support.objects(self._lab, "nodes", host=self._host)
                self.detached[node] = node in {each["metadata"]["name"] for each in nodes}
                self._patch(metadata["name"], {"metadata": {"finalizers": None}})
        elif not _is_attached(item):
            self._patch(metadata["name"], {"metadata": {"finalizers": [FINALIZER]}})
            self._patch(metadata["name"], {"status": {"attached": True}}, "--subresource=status")

    def _patch(self, name: str, patch: t.Mapping[str, t.Any], *options: str) -> None:
        """What fails, because it is gone or changed meanwhile, is looked at again in the next round."""
        words = ("patch", "volumeattachment", name, "--type=merge", "-p", json.dumps(patch), *options)
        support.ask(self._lab, self._host, *support.KUBECTL, *words)


def _pod(item: t.Mapping[str, t.Any]) -> Pod:
    metadata = item["metadata"]
    return Pod(metadata["uid"], item["spec"].get("nodeName", ""), "deletionTimestamp" in metadata)


def _is_attached(item: t.Mapping[str, t.Any]) -> bool:
    return bool((item.get("status") or {}).get("attached"))


def pods_of(lab: Lab, host: str, node: str) -> list[str]:
    """The pods that the API has on a node."""
    return [
        item["metadata"]["name"]
        for item in support.objects(lab, "pods", "-A", f"--field-selector=spec.nodeName={node}", host=host)
    ]


@contextlib.contextmanager
def driver(lab: Lab, host: str) -> collections.abc.Iterator[Driver]:
    """The driver with a volume of its own and a pod that claims it; the API is asked on ``host``."""
    image = support.artifact("agnhost")["reference"]
    end, made = threading.Event(), Driver(lab, host)
    support.kubectl(lab, "apply", "-f", "-", stdin=OBJECTS.format(driver=DRIVER, image=image), host=host)
    with ThreadPoolExecutor(max_workers=1) as pool:
        serving = pool.submit(made.serve, end)
        try:
            yield made
            own = ("-n", "default", "-l", "drill=attaching")
            support.kubectl(lab, "delete", CLAIMING, *own, host=host, timeout=120)
            support.wait_for("nothing is attached", made.idle, timeout=120)
            support.kubectl(lab, "delete", OFFERING, *own, host=host)
        finally:
            end.set()
        serving.result()
