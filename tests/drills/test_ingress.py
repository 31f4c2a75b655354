# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ingress on one host of its own group: where it answers, and what a client sees while Traefik is replaced."""

from __future__ import annotations

import base64
import collections.abc
import functools
import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.host.verify_addons import fetch
from slipway.lab import Lab
from tests.cluster import support
from tests.drills.asking import Asked, asking, require_no_connection_lost, trusting

HOST, ENTRANCE = "drill.test", "w1"
SPACE = "slipway-ingress"
RESTARTS = 2
# The two processes accept side by side, and the new one has routes after about a second; the hosts share processors.
MOMENT = 5.0
BACKEND = """
apiVersion: v1
kind: Namespace
metadata: {{name: drill}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: drill}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
        - name: web
          image: "{image}"
          args: [netexec, --http-port=8080]
          readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: drill}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
"""


@pytest.fixture(scope="module")
def lab() -> collections.abc.Iterator[Lab]:
    with support.lab_of(support.lab_name("in")) as made:
        yield made


@pytest.fixture(scope="module")
def inventory(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the lab, with a group for the one host that takes HTTP."""
    return support.inventory_with(lab, {"slipway_ingress": [ENTRANCE]}, tmp_path_factory.mktemp("i") / "inventory.yml")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, t.Any]:
    image = support.artifact("agnhost")["reference"]
    file = tmp_path_factory.mktemp("own") / "web.yml"
    file.write_text(BACKEND.format(image=image) + support.web_ingress("drill", HOST))
    return {"slipway_manifests": [str(file)]}


@pytest.fixture(scope="module")
def applied(lab: Lab, inventory: Path, variables: dict[str, t.Any]) -> support.Run:
    run = support.ansible_run(inventory, "apply", extra_vars=variables).require()
    support.wait_for("an answer at the entrance", lambda: answer(lab, ENTRANCE, 80) or None, timeout=60)
    return run


@pytest.fixture(scope="module")
def certificate(lab: Lab, applied: support.Run) -> str:
    """The default one, which Slipway has made."""
    del applied
    (secret,) = support.objects(lab, "secret", "default-certificate", "-n", SPACE)
    return base64.b64decode(secret["data"]["tls.crt"]).decode()


def answer(lab: Lab, host: str, port: int) -> str:
    """The trouble of a request from this machine; empty for an answer."""
    return fetch(lab.host(host).address, port, HOST, "/hostname").trouble


def pods(lab: Lab) -> list[tuple[str, str]]:
    """Name and node of each of Traefik's pods, also of those that are ending."""
    found = support.objects(lab, "pods", "-n", SPACE, "-l", "app.kubernetes.io/name=traefik")
    return [(item["metadata"]["name"], item["spec"]["nodeName"]) for item in found]


def replaced(lab: Lab, before: list[tuple[str, str]]) -> str | None:
    """Whether one other pod is all there is, so that the old process has accepted its last and ended."""
    now = pods(lab)
    return None if len(now) == 1 and now != before else f"pods {now}"


def test_only_the_group_s_host_takes_http(lab: Lab, applied: support.Run, certificate: str) -> None:
    del applied
    assert [node for _name, node in pods(lab)] == [ENTRANCE]
    assert answer(lab, ENTRANCE, 80) == ""
    secure = fetch(lab.host(ENTRANCE).address, 443, HOST, "/hostname", context=trusting(certificate))
    assert secure.text.startswith("web-"), secure
    for host in ("cp1", "w2"):
        for port in (80, 443):
            assert "refused" in answer(lab, host, port), (host, port)
    assert fetch(lab.host(ENTRANCE).address, 80, "other.test", "/hostname").status == 404


def test_a_second_apply_and_verify_are_content(lab: Lab, inventory: Path, variables: dict[str, t.Any]) -> None:
    again = support.ansible_run(inventory, "apply", extra_vars=variables).require()
    assert {host: stats.changed for host, stats in again.stats.items()} == dict.fromkeys(support.names(lab), 0)
    said = support.slipway("verify", "--json", "-i", str(inventory), "-e", json.dumps(variables)).require()
    checks = {check["aspect"]: check for check in json.loads(said.out)["checks"]}
    assert "12 of 12 requests at 1 addresses" in checks["ingress"]["seen"]
    assert "24 of 24 requests at 1 addresses" in checks["gateway"]["seen"]


def test_a_client_over_restarts_of_the_one_traefik(lab: Lab, applied: support.Run, certificate: str) -> None:
    del applied
    restart = ("rollout", "restart", "daemonset/traefik", "-n", SPACE)
    for number in range(RESTARTS):
        before = pods(lab)
        with client(lab, certificate) as asked:
            support.kubectl(lab, *restart)
            spent = support.wait_for("another Traefik", functools.partial(replaced, lab, before), timeout=180)
        print(f"restart {number + 1}: {spent:.0f} s; {asked.text()}", flush=True)
        require_no_connection_lost(asked, at_most=MOMENT)


def test_a_client_over_a_change_by_apply(
    lab: Lab, inventory: Path, variables: dict[str, t.Any], applied: support.Run, certificate: str
) -> None:
    del applied
    before = pods(lab)
    changed = {**variables, "slipway_ingress": {"access_log": False}}
    with client(lab, certificate) as asked:
        run = support.ansible_run(inventory, "apply", extra_vars=changed).require()
        support.wait_for("another Traefik", functools.partial(replaced, lab, before), timeout=180)
    assert any("DaemonSet slipway-ingress/traefik" in text for _module, text in run.of("cp1")), run.actions
    print(f"apply: {run.seconds:.0f} s; {asked.text()}", flush=True)
    require_no_connection_lost(asked, at_most=MOMENT)
    log = support.kubectl(lab, "logs", "-n", SPACE, "daemonset/traefik")
    assert "RequestPath" not in log, "requests are no longer logged"


def client(lab: Lab, certificate: str) -> t.ContextManager[Asked]:
    """Asks at the entrance."""
    return asking(lab.host(ENTRANCE).address, HOST, trusting(certificate))
