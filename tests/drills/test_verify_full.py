# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that ``slipway verify --full`` promises, on real hosts, and what no verification may do: a worker dies."""

from __future__ import annotations

import collections.abc
import json
import typing as t

import pytest

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import support

WORKERS = ("w1", "w2")
PROMISED = {
    "API servers", "nodes", "etcd", "controllers", "kubelets", "kube-proxy", "metrics", "pod security", "pods start",
    "pod to pod", "service", "DNS inside", "exec and logs", "events", "network policy", "job and mounts", "ingress",
    "gateway", "unready pod", "replacement", "rolling update", "bad version", "liveness", "autoscaler", "removal",
}  # fmt: skip
# The hosts have no way out; what gives addresses and volumes is off, and there is no registry.
SKIPPED = {"DNS outside", "load balancer", "registry", "volume"}
KINDS = "namespaces,pods,services,deployments,horizontalpodautoscalers,ingresses,httproutes,networkpolicies,jobs"
# A node is unreachable after 50 s without a word from its kubelet; then the pod waits 10 s instead of 300.
MOVED_SECONDS = 240
MOVING = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: moving, namespace: default}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: moving}}}}
  template:
    metadata: {{labels: {{app: moving}}}}
    spec:
      tolerations:
        - {{key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: 10}}
        - {{key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: 10}}
      containers: [{{name: web, image: "{image}", args: [netexec, --http-port=8080]}}]
---
apiVersion: v1
kind: Service
metadata: {{name: moving, namespace: default}}
spec: {{selector: {{app: moving}}, ports: [{{port: 80, targetPort: 8080}}]}}
"""


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """A control-plane host and two workers with metrics and a way in."""
    with support.lab_of() as lab:
        support.ansible_run(lab.inventory, "apply", extra_vars=variables()).require()
        yield lab


def variables() -> dict[str, t.Any]:
    """What is switched on; metrics are by themselves."""
    return {"slipway_ingress": {"enabled": True}}


def known(lab: Lab) -> set[str]:
    """Every object that a verification could leave behind, and what it could on the host that it asks from."""
    named = support.kubectl(lab, "get", KINDS, "-A", "--no-headers", "-o", "name").split()
    # Written so that the shell that searches does not find itself.
    proxies = support.shell(lab, "cp1", "find /run/slipway -name 'proxy-*'; pgrep -f '[k]ubectl.* proxy' || true")
    return {*named, *proxies.split()}


def test_every_promise_of_a_full_verification_is_kept(cluster: Lab) -> None:
    before = known(cluster)
    said = support.slipway(
        "verify", "--full", "--json", "-i", str(cluster.inventory), "-e", json.dumps(variables())
    ).require()
    report = json.loads(said.out)
    print(report["table"])
    checks = {check["aspect"]: check for check in report["checks"]}
    assert {name for name, check in checks.items() if check["ok"] and not check["skipped"]} == PROMISED
    assert {name for name, check in checks.items() if check["skipped"]} == SKIPPED
    assert max(len(line) for line in report["table"].splitlines()) <= 120
    assert known(cluster) == before


def pods(lab: Lab) -> dict[str, str]:
    """The ready pods of the Deployment that no one deletes, with their nodes."""
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in support.objects(lab, "pods", "-n", "default", "-l", "app=moving")
        if not pod["metadata"].get("deletionTimestamp")
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions") or ())
    }


def test_a_pod_of_a_dead_worker_runs_on_another(cluster: Lab) -> None:
    image = support.artifact("agnhost")["reference"]
    support.kubectl(cluster, "apply", "-f", "-", stdin=MOVING.format(image=image))
    support.kubectl(cluster, "rollout", "status", "deployment/moving", "-n", "default", "--timeout=90s")
    ((name, node),) = pods(cluster).items()
    (other,) = set(WORKERS) - {node}

    def moved() -> str | None:
        """None once a new pod on the other worker answers through the Service."""
        found = [pod for pod, where in pods(cluster).items() if where == other]
        path = "/api/v1/namespaces/default/services/moving:80/proxy/hostname"
        answer = support.ask(cluster, "cp1", *support.KUBECTL, "get", "--raw", path, timeout=30)
        return None if found and answer.stdout.strip() == found[0] else f"{pods(cluster)}: {answer.stderr.strip()}"

    labs.power(cluster, [node], "off", cut=True)
    try:
        spent = support.wait_for(f"{name} of {node} runs on {other}", moved, timeout=MOVED_SECONDS)
        print(f"{name} of {node} was replaced on {other} {spent:.0f} s after the power cut")
    finally:
        labs.power(cluster, [node], "on")
        support.kubectl(cluster, "delete", "deployment,service", "moving", "-n", "default")
    support.wait_for("all is well again", lambda: support.settled(cluster), timeout=240)
