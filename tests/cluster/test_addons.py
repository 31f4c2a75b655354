# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All add-ons on one small cluster: on, used from outside, with a certificate of one's own, and off without a trace."""

from __future__ import annotations

import collections.abc
import json
import re
import ssl
import subprocess
import typing as t
from pathlib import Path, PurePosixPath

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.host.verify_addons import fetch
from slipway.lab import Lab
from tests.cluster import look_metrics, scraping, support

FIRST_RESULTS = {"cp1": 25, "w1": 15}
SETTLED_RESULTS = 6
ALL_OFF = {"slipway_metrics": {"enabled": False}, "slipway_dns": {"enabled": False}}
SETS = ("metrics", "dns", "storage", "load-balancer", "gateway-api", "ingress", "user")
VOLUMES = "/srv/volumes"
HOST = "shop.test"
METRICS = Path(look_metrics.__file__)
LOOK_UP = support.ROOT / "scripts/bench_look.py"
DNS_ADDRESS = "10.96.0.10"
# A line that each job of docs/monitoring.md has to find.
TELLING = {
    "kubelet": "kubelet_running_pods",
    "cadvisor": "container_cpu_usage_seconds_total",
    "kube-apiserver": "apiserver_request_total{",
    "kube-proxy": "kubeproxy_sync_proxy_rules_duration_seconds_count",
    "etcd": "etcd_server_has_leader 1",
    "kube-controller-manager": "workqueue_adds_total{",
    "kube-scheduler": 'scheduler_cache_size{type="nodes"} 2',
    "keeper": "slipway_certificate_days_left{name=",
    "traefik": "traefik_config_reloads_total",
    "traefik-behind-an-address": "traefik_config_reloads_total",
    "coredns": "coredns_build_info{",
    "metrics-server": "metrics_server_kubelet_request_total{",
    "metallb": "metallb_k8s_client_config_loaded_bool",
}
# Of the user: a program, its Service with an address of its own, and a way in by name.
OWN = """
apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
        - {{name: web, image: "{image}", args: [netexec, --http-port=8080], ports: [{{containerPort: 8080}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{type: LoadBalancer, selector: {{app: web}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
"""
# A DNS of the user's own that knows one name, at the address that kubelets give to pods.
OWN_DNS = """
apiVersion: v1
kind: Namespace
metadata: {{name: names}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: names, namespace: names}}
data:
  Corefile: |
    .:5353 {{
        ready
        template IN A kubernetes.default.svc.cluster.local {{
            answer "{{{{ .Name }}}} 60 IN A 10.96.0.1"
        }}
    }}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: names, namespace: names}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: names}}}}
  template:
    metadata: {{labels: {{app: names}}}}
    spec:
      containers:
        - name: names
          image: "{image}"
          args: [-conf, /etc/names/Corefile]
          readinessProbe: {{httpGet: {{path: /ready, port: 8181}}, periodSeconds: 1}}
          volumeMounts: [{{name: names, mountPath: /etc/names}}]
      volumes: [{{name: names, configMap: {{name: names}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: names, namespace: names}}
spec:
  clusterIP: {address}
  selector: {{app: names}}
  ports: [{{port: 53, protocol: UDP, targetPort: 5353}}]
"""
# A claim that names no class, and a pod that writes as a user of its own.
KEEPING = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: data, namespace: default}}
spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: keeper, namespace: default}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  securityContext: {{runAsUser: 4711, runAsNonRoot: true}}
  containers:
    - name: write
      image: "{image}"
      args: [mounttest, --new_file_0666=/data/text]
      volumeMounts: [{{name: data, mountPath: /data}}]
  volumes: [{{name: data, persistentVolumeClaim: {{claimName: data}}}}]
"""


@pytest.fixture(scope="module")
def lab() -> collections.abc.Iterator[Lab]:
    with support.lab_of(workers=1) as made:
        yield made


@pytest.fixture(scope="module")
def image() -> str:
    """What the bundle calls agnhost."""
    return str(support.artifact("agnhost")["reference"])


@pytest.fixture(scope="module")
def everything(lab: Lab, image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, t.Any]:
    """The variables that switch everything on."""
    own = tmp_path_factory.mktemp("manifests")
    (own / "shop.yml").write_text(OWN.format(image=image) + support.web_ingress("shop", HOST))
    return {
        "slipway_metrics": {"endpoints": True},
        "slipway_ingress": {"enabled": True},
        "slipway_load_balancer": {"pools": [support.address_pool(lab)]},
        "slipway_storage": {"enabled": True, "path": VOLUMES},
        "slipway_manifests": [str(own)],
    }


@pytest.fixture(scope="module")
def applied(lab: Lab, everything: dict[str, t.Any]) -> support.Run:
    return support.ansible_run(lab.inventory, "apply", extra_vars=everything).require()


def asked(lab: Lab, verb: str, variables: t.Mapping[str, t.Any], *, code: int = 0) -> dict[str, t.Any]:
    """The command's report."""
    said = support.slipway(verb, "--json", "-i", str(lab.inventory), "-e", json.dumps(variables)).require(code)
    return t.cast("dict[str, t.Any]", json.loads(said.out))


def held(lab: Lab) -> dict[str, list[dict[str, str]]]:
    """What the cluster remembers of each set."""
    maps = support.objects(lab, "configmaps", "-n", "kube-system", "-l", "slipway.cluster/inventory=true")
    found = {item["metadata"]["name"].removeprefix("slipway-manifests-"): item["data"]["objects"] for item in maps}
    return {name: json.loads(text) for name, text in found.items()}


def shown(ref: t.Mapping[str, str]) -> str:
    """An object as a plan names it."""
    return f"{ref['kind']} {ref['namespace']}/{ref['name']}" if ref["namespace"] else f"{ref['kind']} {ref['name']}"


def deleted(report: t.Mapping[str, t.Any]) -> set[str]:
    """The objects that a plan's report would delete."""
    texts = [
        text.removesuffix(" and every object of these kinds") for text in deletions(support.announced(report, "cp1"))
    ]
    return {each for text in texts for each in text.removeprefix("delete ").split(", ")}


def deletions(actions: t.Iterable[tuple[str, str]]) -> set[str]:
    """What the manifests module deletes, step by step."""
    return {text for module, text in actions if module == "manifests" and text.startswith("delete ")}


def answer(address: str, port: int, *, context: ssl.SSLContext | None = None) -> str:
    """What this machine, which is no part of the cluster, is told there; the trouble if there is some."""
    reply = fetch(address, port, HOST, "/hostname", context=context)
    return reply.trouble or reply.text


def test_all_of_it_costs_no_more_tasks(applied: support.Run) -> None:
    many = {
        host: applied.stats[host].results for host, most in FIRST_RESULTS.items() if applied.stats[host].results > most
    }
    assert not many


def test_a_second_apply_changes_nothing(lab: Lab, applied: support.Run, everything: dict[str, t.Any]) -> None:
    del applied
    again = support.ansible_run(lab.inventory, "apply", extra_vars=everything).require()
    assert {host: stats.changed for host, stats in again.stats.items()} == {"cp1": 0, "w1": 0}, again.actions
    assert all(stats.results <= SETTLED_RESULTS for stats in again.stats.values()), again.stats


def test_verify_uses_every_one(lab: Lab, applied: support.Run, everything: dict[str, t.Any]) -> None:
    del applied
    report = asked(lab, "verify", everything)
    print(f"verify with every add-on: {report['seconds']:.1f} s")
    checks = {check["aspect"]: check for check in report["checks"]}
    assert {name for name, check in checks.items() if check["skipped"]} == {"DNS outside", "registry"}
    assert re.search(r"2 of 2 nodes and \d+ pods have figures", checks["metrics"]["seen"])
    assert "12 of 12 requests at 1 addresses" in checks["ingress"]["seen"]
    assert "24 of 24 requests at 1 addresses" in checks["gateway"]["seen"]
    assert "12 requests, 2 pods" in checks["load balancer"]["seen"]
    assert re.search(r"1 of 1 files read by a second pod on (cp1|w1); volume pvc-", checks["volume"]["seen"])
    assert support.objects(lab, "persistentvolumes") == []
    assert set(volumes(lab).values()) <= {None, ()}


def test_this_machine_is_answered_at_a_services_address(lab: Lab, applied: support.Run) -> None:
    del applied
    service = support.objects(lab, "service", "web", "-n", "shop")[0]
    address = service["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert address.endswith((".240", ".241", ".242", ".243"))
    assert answer(address, 80).startswith("web-")


def test_this_machine_is_answered_at_the_hosts_port_by_name(lab: Lab, applied: support.Run) -> None:
    del applied
    assert answer(lab.host("w1").address, 80).startswith("web-")
    assert "refused" in answer(lab.host("cp1").address, 80), "no worker, no ingress"


@pytest.fixture(scope="module")
def credentials(lab: Lab, applied: support.Run, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The documented token, and the path of the documented CA on this machine."""
    del applied
    files = scraping.run_commands(lab)
    path = tmp_path_factory.mktemp("scraping") / "ca.crt"
    path.write_text(files["ca.crt"])
    return {"token": files["token"], "ca": str(path)}


def request(target: scraping.Target, token: str, ca: str) -> dict[str, str]:
    """As look_metrics takes it."""
    shown = token if target.token else ""
    trusted = ca if target.verified else ""
    return {"url": target.url, "token": shown, "ca": trusted, "name": target.name, "telling": TELLING[target.job]}


def scraped(lab: Lab, targets: t.Sequence[scraping.Target], token: str) -> list[tuple[str, str, int, str]]:
    """Job, URL, status and line of each target, asked from a host, which like a pod reaches all of them."""
    told = json.dumps([request(target, token, "/etc/kubernetes/pki/ca.crt") for target in targets])
    answers = json.loads(support.on(lab, "cp1", "python3", "-", told, stdin=METRICS.read_text(encoding="utf-8")))
    return [(target.job, target.url, *answer) for target, answer in zip(targets, answers, strict=True)]


def test_every_component_gives_its_metrics_to_the_documented_credentials(lab: Lab, credentials: dict[str, str]) -> None:
    targets = scraping.targets(lab)
    assert set(scraping.jobs()) - {target.job for target in targets} == {"traefik-behind-an-address"}
    per_node = [target.url for target in targets if target.job in ("kubelet", "kube-proxy", "metallb")]
    assert len(per_node) == 2 + 2 + 3, per_node
    found = scraped(lab, targets, credentials["token"])
    assert [each for each in found if each[2] != 200 or not each[3].startswith(TELLING[each[0]])] == []


def test_a_prometheus_outside_reaches_what_has_the_address_of_a_node(lab: Lab, credentials: dict[str, str]) -> None:
    hosts = tuple(f"//{host.address}:" for host in lab.hosts)
    targets = [target for target in scraping.targets(lab) if any(host in target.url for host in hosts)]
    assert {target.job for target in targets} == set(TELLING) - {
        "traefik-behind-an-address", "coredns", "metrics-server",
    }  # fmt: skip
    for target in targets:
        status, line = look_metrics.scrape(request(target, credentials["token"], credentials["ca"]))
        assert (target.url, status) == (target.url, 200)
        assert line.startswith(TELLING[target.job])


def test_nobody_else_is_given_any(lab: Lab, credentials: dict[str, str]) -> None:
    del credentials
    guarded = [target for target in scraping.targets(lab) if target.token]
    other = support.kubectl(lab, "create", "token", "default", "-n", "default").strip()
    # What MetalLB says to a token that cannot be read is 500, "Authentication failed".
    for token, refusals in (("", (401, 403)), ("x.y.z", (401, 403, 500)), (other, (403,))):
        found = scraped(lab, guarded, token)
        assert [each for each in found if each[2] not in refusals or each[3].startswith(TELLING[each[0]])] == [], token
    for port in (2381, 9180, 10249, 10257, 10259):
        assert "refused" in answer(lab.host("w1" if port == 9180 else "cp1").address, port), port


def test_nothing_was_pulled_from_outside(lab: Lab, applied: support.Run) -> None:
    del applied
    assert support.kubectl(lab, "get", "events", "-A", "--field-selector=reason=Pulling", "-o", "name") == ""
    told = support.objects(lab, "events", "-A", "--field-selector=reason=Pulled")
    assert told
    assert [each["message"] for each in told if "already present on machine" not in each["message"]] == []


def test_a_certificate_of_ones_own(
    lab: Lab, applied: support.Run, everything: dict[str, t.Any], tmp_path: Path
) -> None:
    del applied
    files = ("-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "certificate"))
    new = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    subject = ("-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}")
    subprocess.run(["openssl", "req", *new, *files, *subject], check=True, capture_output=True)
    pem = {name: (tmp_path / name).read_text() for name in ("certificate", "key")}
    trusting = ssl.create_default_context(cadata=pem["certificate"])
    address = lab.host("w1").address
    assert "CERTIFICATE_VERIFY_FAILED" in answer(address, 443, context=trusting), "it is not there yet"
    run = support.ansible_run(
        lab.inventory, "apply", verbosity=3, extra_vars={**everything, "slipway_secret_ingress_tls": pem}
    ).require()
    secret = pem["key"].splitlines()[1]
    assert secret not in json.dumps([e for e in run.events if e.get("event") in support.RESULTS], default=str)

    def refused() -> str | None:
        text = answer(address, 443, context=trusting)
        return None if text.startswith("web-") else text

    # The pod before it goes on accepting for some seconds.
    support.wait_for("the certificate", refused, timeout=30)


def test_volumes_are_closed_to_others_and_keep_their_class(
    lab: Lab, applied: support.Run, everything: dict[str, t.Any], image: str
) -> None:
    del applied
    support.kubectl(lab, "apply", "--filename=-", stdin=KEEPING.format(image=image))
    done = ("--for=jsonpath={.status.phase}=Succeeded", "--timeout=90s", "pod/keeper", "--namespace=default")
    support.kubectl(lab, "wait", *done)
    (volume,) = support.objects(lab, "persistentvolumes")
    host = str(support.objects(lab, "pod", "keeper", "-n", "default")[0]["spec"]["nodeName"])
    path = str(volume["spec"]["local"]["path"])
    assert PurePosixPath(path).parent == PurePosixPath(VOLUMES)
    assert support.on(lab, host, "stat", "--format=%u %a", VOLUMES).split() == ["0", "700"]
    assert support.on(lab, host, "stat", "--format=%u", f"{path}/text").split() == ["4711"]
    off = json.dumps({**everything, "slipway_storage": {"enabled": False}})
    for verb in ("plan", "apply"):
        said = support.slipway(verb, "-i", str(lab.inventory), "-e", off)
        assert said.code not in (0, 2)
        assert f"{volume['metadata']['name']} (default/data)" in said.out + said.err
    assert support.objects(lab, "storageclasses")[0]["metadata"]["name"] == "local-path"
    support.kubectl(lab, "delete", "pod/keeper", "persistentvolumeclaim/data", "--namespace=default")
    support.wait_for("the volume's end", lambda: support.kubectl(lab, "get", "pv", "--output=name") or None, timeout=60)
    assert set(volumes(lab).values()) <= {None, ()}


def test_behind_an_address_of_its_own(
    lab: Lab, applied: support.Run, everything: dict[str, t.Any], credentials: dict[str, str]
) -> None:
    del applied
    behind = {**everything, "slipway_ingress": {"enabled": True, "expose": "load_balancer"}}
    support.ansible_run(lab.inventory, "apply", extra_vars=behind).require()
    again = support.ansible_run(lab.inventory, "apply", extra_vars=behind).require()
    assert {host: stats.changed for host, stats in again.stats.items()} == {"cp1": 0, "w1": 0}, again.actions
    checks = {check["aspect"]: check for check in asked(lab, "verify", behind)["checks"]}
    for aspect, seen in (("ingress", "12 of 12 requests"), ("gateway", "24 of 24 requests")):
        assert f"{seen} at 1 addresses" in checks[aspect]["seen"]
        assert not checks[aspect]["skipped"]
    service = support.objects(lab, "service", "traefik", "-n", "slipway-ingress")[0]
    address = service["status"]["loadBalancer"]["ingress"][0]["ip"]
    assert answer(address, 80).startswith("web-")
    assert "refused" in answer(lab.host("w1").address, 80), "the host's ports are its own again"
    targets = [target for target in scraping.targets(lab) if target.job == "traefik-behind-an-address"]
    assert [each[2] for each in scraped(lab, targets, credentials["token"])] == [200]


def test_off_is_announced_and_removes_all_of_it(lab: Lab, applied: support.Run) -> None:
    del applied
    before = held(lab)
    assert set(SETS) <= set(before)
    for name in SETS:
        assert before[name], f"{name} has objects"
    announced = asked(lab, "plan", ALL_OFF, code=2)
    assert deleted(announced) == {shown(ref) for name in SETS for ref in before[name]}
    run = support.ansible_run(lab.inventory, "apply", extra_vars=ALL_OFF).require()
    assert deletions(run.of("cp1")) == deletions(support.announced(announced, "cp1"))
    assert not set(SETS) & set(held(lab))
    spaces = {"shop", "slipway-ingress", "slipway-load-balancer", "slipway-storage"}
    # A namespace goes when all that it holds has gone, pods with their time to finish.
    support.wait_for("the namespaces' end", lambda: left(lab, spaces), timeout=90)
    kinds = support.kubectl(lab, "api-resources", "-o", "name")
    assert not re.search(r"metallb|gateway\.networking|metrics\.k8s\.io", kinds), kinds
    assert support.ask(lab, "cp1", "ls", "/etc/kubernetes/metrics-server").returncode != 0
    assert "refused" in answer(lab.host("w1").address, 80)
    assert support.objects(lab, "storageclasses") == []
    for host in support.names(lab):
        assert "refused" in answer(lab.host(host).address, 6446), "the metrics gate"
        assert support.ask(lab, host, "systemctl", "cat", "slipway-metrics.service").returncode != 0
    assert asked(lab, "plan", ALL_OFF)["pending"] is False


def test_a_dns_of_ones_own_takes_the_address(lab: Lab, applied: support.Run, tmp_path: Path) -> None:
    del applied
    support.ansible_run(lab.inventory, "apply", extra_vars=ALL_OFF).require()
    checks = {check["aspect"]: check for check in asked(lab, "verify", ALL_OFF)["checks"]}
    assert {checks[f"DNS {where}"]["seen"] for where in ("inside", "outside")} == {"skipped: slipway_dns is off"}
    image = support.artifact("coredns")["reference"]
    (tmp_path / "dns.yml").write_text(OWN_DNS.format(image=image, address=DNS_ADDRESS))
    own = {**ALL_OFF, "slipway_manifests": [str(tmp_path)]}
    run = support.ansible_run(lab.inventory, "apply", extra_vars=own).require()
    assert {action.module for action in run.actions} == {"manifests"}, "nothing is restarted for it"
    look_up = LOOK_UP.read_text(encoding="utf-8")
    support.everywhere(lab, lambda host: support.on(lab, host, "python3", "-", "30", "dns", DNS_ADDRESS, stdin=look_up))


def left(lab: Lab, spaces: set[str]) -> str | None:
    """Which of the namespaces are still there."""
    names = {item["metadata"]["name"] for item in support.objects(lab, "namespaces")}
    return ", ".join(sorted(names & spaces)) or None


def volumes(lab: Lab) -> dict[str, tuple[str, ...] | None]:
    """What lies where the volumes do, by host; None where there is no such directory."""

    def look(host: str) -> tuple[str, ...] | None:
        listed = support.ask(lab, host, "ls", "-A", VOLUMES)
        return tuple(listed.stdout.split()) if listed.returncode == 0 else None

    return support.everywhere(lab, look)
