# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The longer questions of a full verification: rollouts under load, health checks, scaling."""

from __future__ import annotations

import dataclasses
import typing as t

from .verify import Check
from .verify_workload import HTTP_PORT, KubernetesObject, pod_template

ROLLED = "rolled"
SCALED = "scaled"
FAILING = "failing"
REPLICAS = 2
MOST = 3


@dataclasses.dataclass(frozen=True)
class Load:
    """What requests in a row were answered: texts by count, and the errors."""

    answers: t.Mapping[str, int]
    errors: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many were answered."""
        return sum(self.answers.values())

    @property
    def trouble(self) -> str:
        """How many failed, and the first; empty if none did and there were any."""
        if self.errors:
            return f"{len(self.errors)} of {self.count + len(self.errors)} requests failed: {self.errors[0][:160]}"
        return "" if self.count else "no request was made"


def rolled_objects(namespace: str, image: str, version: str, *, ready: bool = True) -> list[KubernetesObject]:
    """A Deployment that answers with its version, behind a Service; without ``ready`` its pods never become it.

    A pod that goes waits until nobody is sent to it any more, as every well-behaved program does.
    """
    template = pod_template(ROLLED, image)
    container = template["spec"]["containers"][0]
    container["env"] = [{"name": "VERSION", "value": version}]
    container["lifecycle"] = {"preStop": {"sleep": {"seconds": 5}}}
    if not ready:
        container["readinessProbe"]["httpGet"]["path"] = "/no-such-path"
        container["readinessProbe"]["httpGet"]["port"] = HTTP_PORT + 9
    template["spec"]["terminationGracePeriodSeconds"] = 10
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return [_deployment(ROLLED, namespace, template, REPLICAS, strategy=strategy), _service(ROLLED, namespace)]


def scaled_objects(namespace: str, image: str) -> list[KubernetesObject]:
    """A Deployment with little CPU to its name, behind a Service, and what scales it with no delay of its own."""
    template = pod_template(SCALED, image)
    template["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "10m"
    at_once = {"stabilizationWindowSeconds": 0, "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}]}
    half = {"type": "Utilization", "averageUtilization": 50}
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": SCALED, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": SCALED},
            "minReplicas": 1,
            "maxReplicas": MOST,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": half}}],
            "behavior": {"scaleUp": at_once, "scaleDown": at_once},
        },
    }
    deployment = _deployment(SCALED, namespace, template, 1)
    # The autoscaler owns the number.
    del deployment["spec"]["replicas"]
    return [deployment, _service(SCALED, namespace), scaler]


def failing_object(namespace: str, image: str) -> KubernetesObject:
    """A Deployment whose program stops being well after ten seconds."""
    template = pod_template(FAILING, image)
    container = template["spec"]["containers"][0]
    container["args"] = ["liveness"]
    container.pop("readinessProbe")
    check = {"httpGet": {"path": "/healthz", "port": HTTP_PORT}}
    container["livenessProbe"] = {**check, "periodSeconds": 1, "failureThreshold": 1}
    return _deployment(FAILING, namespace, template, 1)


def judge_rollout(load: Load, finished: str, version: str) -> Check:
    """A new version under load; ``finished`` says why it is not there in full, empty if it is."""
    bad = [text for text in (finished, load.trouble) if text]
    if not bad and version not in load.answers:
        bad.append(f"the new version {version} never answered")
    counts = ", ".join(f"{count} by version {name}" for name, count in sorted(load.answers.items()))
    return Check(
        "rolling update",
        not bad,
        f"rolled {REPLICAS} pods to a new version while requests came",
        "; ".join([f"{load.count} requests answered ({counts or 'none'}), {len(load.errors)} failed", *bad]),
        hint="see: systemctl status kube-proxy on the nodes, kubectl get events while this runs",
    )


def judge_bad_version(load: Load, held: str, undone: str) -> Check:
    """A version that never becomes ready: ``held`` and ``undone`` say what went wrong, empty if nothing did."""
    bad = [text for text in (held, undone, load.trouble) if text]
    strange = sorted(set(load.answers) - {"2"})
    if not bad and strange:
        bad.append(f"version {', '.join(strange)} answered too")
    seen = f"{load.count} requests answered by the old version, {len(load.errors)} failed; held back and rolled back"
    return Check(
        "bad version",
        not bad,
        "rolled out a version that never becomes ready, and rolled it back",
        "; ".join(bad or [seen]),
        hint="see: systemctl status kube-controller-manager on a control-plane host, kubelet on the nodes",
    )


def judge_autoscaler(most: int, least: int, seconds: tuple[float, float], said: str) -> Check:
    """How many pods there were under load and after it; ``seconds`` until each; ``said`` is the autoscaler's word."""
    bad = []
    if most < 2:
        bad.append(f"no pod was added: {said or 'the autoscaler says nothing'}")
    elif least > 1:
        bad.append(f"{least} pods are still there after the load")
    seen = f"1 -> {most} pods under load after {seconds[0]:.0f} s, {least} without after {seconds[1]:.0f} s more"
    return Check(
        "autoscaler",
        not bad,
        "put load on a Deployment with a HorizontalPodAutoscaler and took it away",
        "; ".join([seen, *bad]),
        hint="see: kubectl describe hpa while this runs; the line metrics; journalctl -u kube-controller-manager",
    )


def judge_liveness(restarts: int) -> Check:
    """A program that stopped being well."""
    return Check(
        "liveness",
        restarts > 0,
        "ran a program that stops being well after ten seconds, with a liveness probe",
        f"restarted {restarts} times",
        hint="see: journalctl -u kubelet on that pod's node",
    )


def _deployment(
    name: str, namespace: str, template: KubernetesObject, replicas: int, **fields: t.Any
) -> KubernetesObject:
    labels = template["metadata"]["labels"]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template, **fields},
    }


def _service(name: str, namespace: str) -> KubernetesObject:
    ports = [{"name": "http", "port": 80, "targetPort": HTTP_PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"app": name}, "ports": ports},
    }
