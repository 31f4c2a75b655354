# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A verification of a cluster in memory: what it asks, what it finds, and that nothing of it stays."""

from __future__ import annotations

import collections
import contextlib
import datetime
import json
import os
import signal
import time
import typing as t
import urllib.parse

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify import Check
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_workload import Stage
from ansible_collections.slipway.cluster.plugins.module_utils.host import verify
from ansible_collections.slipway.cluster.plugins.module_utils.host.etcdctl import Etcdctl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.module_utils.host.verify_addons import Addons
from ansible_collections.slipway.cluster.plugins.module_utils.host.verify_full import FullChecks
from ansible_collections.slipway.cluster.plugins.module_utils.host.verify_talk import Talk, soon

Json = dict[str, t.Any]


class Cluster:
    """Three nodes that work, unless ``broken`` says what does not."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.nodes = ["cp1", "w1", "w2"]
        self.namespaces: dict[str, str] = {}
        self.leaving: set[str] = set()
        self.pods: dict[str, Json] = {}
        self.proxies = 0
        self.made = 0
        self.unready = ""
        self.asked: collections.Counter[str] = collections.Counter()

    def put_up(self, objects: t.Sequence[Json]) -> None:
        if "apply" in self.broken:
            raise SlipwayError(Problem("kubectl apply", "refused"))
        if "full" in self.broken and any(item["metadata"]["name"] == "rolled" for item in objects):
            raise SlipwayError(Problem("kubectl apply", "quota exceeded"))
        for item in objects:
            if item["kind"] == "Namespace":
                self.namespaces[item["metadata"]["name"]] = "now"
            nodes = self.nodes_for(item)
            for number in range(item["spec"].get("replicas", 3) if item["kind"] in ("DaemonSet", "Deployment") else 0):
                self.add_pod(item["metadata"]["name"], nodes[number % len(nodes)])

    def nodes_for(self, item: Json) -> list[str]:
        """Where the scheduler puts pods that tolerate whatever forbids it, the last Node first."""
        pod = item.get("spec", {}).get("template", {}).get("spec", {})
        affinity = pod.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution")
        fields = affinity["nodeSelectorTerms"][0]["matchFields"] if affinity else []
        kept_off = [name for field in fields for name in field["values"]]
        return [name for name in reversed(self.nodes) if name not in kept_off]

    def end_namespaces(self) -> None:
        """Pods whose kubelet says nothing stay, and their namespace with them."""
        if "w2" not in self.broken or not [pod for pod in self.pods.values() if pod["spec"]["nodeName"] == "w2"]:
            for name in self.leaving:
                self.namespaces.pop(name, None)

    def add_pod(self, app: str, node: str) -> None:
        self.made += 1
        name = f"{app}-{self.made}"
        ready = str(not (node == "w2" and "w2" in self.broken) and "image" not in self.broken)
        waiting = {"waiting": {"reason": "ErrImageNeverPull"}} if "image" in self.broken else {}
        if app == "puller":
            waiting = {"waiting": {"reason": "ErrImagePull", "message": f'"{PULLED}": {self.pull_error(node)}'}}
        self.pods[name] = {
            "metadata": {"name": name, "labels": {"app": app}},
            "spec": {"nodeName": node, "containers": [{"name": "it", "image": PULLED}]},
            "status": {
                "podIP": f"10.244.0.{self.made}",
                "conditions": [{"type": "Ready", "status": ready}],
                "containerStatuses": [{"name": "it", "restartCount": 0, "state": waiting}],
            },
        }

    def told(self) -> list[str]:
        """The pods whose kubelets tell of them."""
        silent = "w1" if "events" in self.broken else ""
        return [name for name, pod in self.pods.items() if pod["spec"]["nodeName"] != silent]

    def pull_error(self, node: str) -> str:
        return "connection refused" if "registry" in self.broken and node == "w1" else f"{PULLED}: not found"

    def node_list(self) -> Json:
        def node(name: str) -> Json:
            status = str(not (name == "w2" and "w2" in self.broken))
            return {
                "metadata": {"name": name},
                "status": {
                    "conditions": [{"type": "Ready", "status": status}],
                    "nodeInfo": {"kubeletVersion": "v1.37.0"},
                },
            }

        return {"items": [node(name) for name in self.nodes]}

    def answer(self, path: str) -> tuple[int, str]:
        """What the proxy says to a GET."""
        url = urllib.parse.urlsplit(path)
        query = dict(urllib.parse.parse_qsl(url.query))
        if url.path.startswith("/api/v1/nodes/"):
            down = "kube-proxy" in self.broken and "10256/proxy/livez" in path and "w1" in path
            return (503, '{"message": "connection refused"}') if down else (200, "ok")
        name = url.path.split("/pods/")[1].partition("/")[0].partition(":")[0]
        if "make-" in url.path:
            deaf = "deaf" in self.broken
            self.unready = name if url.path.endswith("make-not-serving") and "sent to" not in self.broken else ""
            return (503, "refused") if deaf else (200, "1s")
        if url.path.endswith("/log"):
            return 200, "Started HTTP server on port 8080"
        if url.path.endswith("/exit"):
            self.pods[name]["status"]["containerStatuses"][0]["restartCount"] += 1
            return 502, "EOF"
        return 200, json.dumps(self.dial(self.pods[name], query))

    def dial(self, source: Json, query: Json) -> Json:
        host, tries = query["host"], int(query["tries"])
        if "dns" in self.broken and "backend" in host:
            return {"errors": [f"lookup {host}: no such host"]}
        backends = [name for name, pod in self.pods.items() if pod["metadata"]["labels"]["app"] == "backend"]
        if host == "10.96.1.1" or "backend" in host:
            if "endpoint" in self.broken and "each" not in host:
                backends = backends[:-1]
            backends = [name for name in backends if name != self.unready]
            if "each" in host:
                self.asked[source["metadata"]["name"]] += "headless" not in self.broken
                backends = backends[self.asked[source["metadata"]["name"]] % len(backends) :][:1]
            return {"responses": [backends[(number + tries) % len(backends)] for number in range(max(tries, 1))]}
        target = next(pod for pod in self.pods.values() if pod["status"]["podIP"] == host)
        if "alone" in self.broken and target is not source:
            return {"errors": [f'Get "http://{host}:8080/hostname": dial tcp {host}:8080: i/o timeout']}
        crossing = target["spec"]["nodeName"] != source["spec"]["nodeName"]
        if "w1" in (target["spec"]["nodeName"], source["spec"]["nodeName"]) and crossing and "pods" in self.broken:
            return {"errors": ["read udp: i/o timeout"]}
        request = query["request"]
        return {"responses": [request.partition("msg=")[2] if "echo" in request else target["metadata"]["name"]]}


PULLED = "10.0.0.9:5000/slipway-verify/nothing:x"
ADDONS = ("metrics", "pod security", "ingress", "gateway", "load balancer", "volume")


EVENT = {"type": "Warning", "reason": "Failed", "message": "no such image", "involvedObject": {"name": "probe-1"}}
FIXED: dict[str, Json] = {
    "service": {"spec": {"clusterIP": "10.96.1.1"}},
    "job": {"status": {"succeeded": 1}},
}


class FakeKubectl:
    """kubectl over that cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def nodes(self) -> Json:
        return self.cluster.node_list()

    def apply(self, objects: t.Sequence[Json]) -> None:
        self.cluster.put_up(objects)

    def json(self, arguments: t.Sequence[str]) -> t.Any:
        cluster, what = self.cluster, arguments[1]
        if what == "pods":
            return {"items": list(cluster.pods.values())}
        if what == "events":
            told = {"Scheduled": list(cluster.pods), "Started": cluster.told()}
            events = [
                {"reason": reason, "involvedObject": {"name": name}} for reason, names in told.items() for name in names
            ]
            return {"items": [EVENT, *events]}
        if what in FIXED:
            return FIXED[what]
        if what == "leases":
            stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            names = ("kube-controller-manager", "kube-scheduler")
            return {"items": [{"metadata": {"name": name}, "spec": {"renewTime": stamp}} for name in names]}
        if what == "namespaces":
            items = [
                {"metadata": {"name": name, "creationTimestamp": made}}
                for name, made in cluster.namespaces.items()
                if made != "now"
            ]
            return {"items": items}
        return {"metadata": {}} if arguments[2] in cluster.namespaces else None

    def run(self, arguments: t.Sequence[str], **_options: t.Any) -> Output:
        cluster = self.cluster
        if arguments[0] == "get" and arguments[1] == "endpointslices":
            if "api" in cluster.broken:
                return Output(1, "", "connection refused")
            slices = [{"ports": [{"port": 6443}], "endpoints": [{"addresses": ["10.0.0.1"]}]}]
            return Output(0, json.dumps({"items": slices}), "")
        if arguments[0] == "logs":
            return Output(0, f"written in a {'Secret' if 'secret' in arguments[-1] else 'ConfigMap'}", "")
        if arguments[0] == "exec":
            return Output(0, arguments[-1], "")
        if "--force" in arguments:
            for name in [each for each in arguments[2:] if each in cluster.pods]:
                del cluster.pods[name]
        elif arguments[:2] == ["delete", "pod"]:
            app, node = (
                cluster.pods[arguments[2]]["metadata"]["labels"]["app"],
                cluster.pods[arguments[2]]["spec"]["nodeName"],
            )
            cluster.add_pod(app, node)
            del cluster.pods[arguments[2]]
        if arguments[:2] == ["delete", "namespace"]:
            cluster.leaving.update(each for each in arguments[2:] if each in cluster.namespaces)
        cluster.end_namespaces()
        return Output(0, "[+]ping ok", "")


class Impatient(Machine):
    """Asks once."""

    def exists(self, path: str) -> bool:
        return False

    def wait(self, what: str, predicate: t.Callable[[], str | None], **_options: t.Any) -> None:
        seen = predicate()
        if seen is not None:
            raise SlipwayError(Problem(what, f"last seen: {seen}"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., dict[str, Check]]:
    def go(cluster: Cluster, **options: t.Any) -> dict[str, Check]:
        @contextlib.contextmanager
        def proxy(_kubectl: str, _kubeconfig: str) -> t.Iterator[t.Any]:
            class Proxy:
                def get(self, path: str, *, timeout: float = 15) -> tuple[int, str]:
                    return cluster.answer(path)

            cluster.proxies += 1
            try:
                yield Proxy()
            finally:
                cluster.proxies -= 1

        monkeypatch.setattr(verify, "Kubectl", lambda *_arguments, **_options: FakeKubectl(cluster))
        monkeypatch.setattr(verify, "open_proxy", proxy)
        want = verify.VerifyWant(
            kubectl="kubectl",
            kubeconfig="admin.conf",
            image="agnhost",
            domain="cluster.local",
            outside_name="",
            nodes=options.get("nodes", {}),
            etcd=Etcdctl(Machine(), "", (), "", "", ""),
            timeout=1,
            registries=options.get("registries", ()),
            no_registries=options.get("no_registries", ""),
            absent=options.get("absent", ()),
            full=options.get("full", False),
            addons=options.get("addons", Addons()),
        )
        return {check.aspect: check for check in verify.verify_cluster(Impatient(), want)}

    return go


def failed(checks: dict[str, Check]) -> set[str]:
    return {aspect for aspect, check in checks.items() if not check.ok}


def test_a_cluster_that_works(run: t.Callable[..., dict[str, Check]]) -> None:
    cluster = Cluster()
    checks = run(cluster, nodes={"cp1": "v1.37.0", "w1": "", "w2": ""})
    assert failed(checks) == set()
    assert {aspect for aspect, check in checks.items() if check.skipped} == {"etcd", "registry", "DNS outside", *ADDONS}
    assert "6 of 6 directed pairs of 3 nodes" in checks["pod to pod"].seen
    assert "9 of 9 answers" in checks["DNS inside"].seen
    assert (cluster.namespaces, cluster.proxies) == ({}, 0)


def test_without_dns_no_names_are_asked_for(run: t.Callable[..., dict[str, Check]]) -> None:
    checks = run(Cluster("dns"), addons=Addons(dns=False))
    assert failed(checks) == set()
    told = {aspect: check.seen for aspect, check in checks.items() if aspect.startswith("DNS")}
    assert told == dict.fromkeys(("DNS inside", "DNS outside"), "skipped: slipway_dns is off")


@pytest.mark.parametrize("dns", [True, False])
def test_load_goes_to_names_where_there_is_dns(dns: bool) -> None:
    class Proxy:
        def get(self, path: str, **_options: t.Any) -> tuple[int, str]:
            return cluster.answer(path)

    cluster = Cluster(*([] if dns else ["dns"]))
    dialled = set()
    dial = cluster.dial

    def told(source: Json, query: Json) -> Json:
        # A proxy that has not heard of the Service yet refuses.
        known = query["host"] in dialled
        dialled.add(query["host"])
        return dial(source, query) if known else {"errors": ["connection refused"]}

    cluster.dial = told  # type: ignore[method-assign]
    for app in ("backend", "probe", "walled"):
        cluster.add_pod(app, "w1")
    kubectl = t.cast("t.Any", FakeKubectl(cluster))
    talk = Talk(kubectl, t.cast("t.Any", Proxy()), "x", kubectl.json(["get", "pods"]))
    with FullChecks(Impatient(), kubectl, talk, Stage("x", "agnhost"), dns=dns)._under_load(
        "backend", "hostname"
    ) as seen:
        pass
    assert seen.load().errors == ()
    assert dialled == {"backend" if dns else "10.96.1.1"}


@pytest.mark.parametrize(
    ("broken", "aspects", "said"),
    [
        ("api", {"API servers"}, "no API"),
        ("apply", {"workload"}, "refused"),
        ("image", {"pods start"}, "; probe-1: Failed: no such image"),
        ("pods", {"pod to pod"}, "cp1 -> w1: UDP: read udp: i/o timeout"),
        ("kube-proxy", {"kube-proxy"}, "w1: connection refused (status 503)"),
        ("endpoint", {"service", "unready pod", "replacement"}, "never reached backend-"),
        ("dns", {"DNS inside"}, "no such host"),
        ("events", {"events"}, "as told by 2 of 3 kubelets; kubelet of w1: told nothing"),
        ("headless", {"DNS inside"}, "from cp1: never reached backend-"),
        ("sent to", {"unready pod"}, "while it was not ready, from cp1: led to backend-"),
        ("deaf", {"unready pod"}, "did not take make-not-serving: refused (status 503)"),
        ("w2", {"nodes"}, "w2: Ready=False"),
    ],
)
def test_what_is_broken_is_found_and_all_is_removed(
    run: t.Callable[..., dict[str, Check]], broken: str, aspects: set[str], said: str
) -> None:
    cluster = Cluster(broken)
    checks = run(cluster)
    assert failed(checks) == aspects
    assert any(said in checks[aspect].seen for aspect in aspects)
    assert (cluster.namespaces, cluster.proxies) == ({}, 0)


@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        ((), "3 of 3 answers: 1 registries from 3 nodes"),
        (("registry",), "2 of 3 answers: 1 registries from 3 nodes; 10.0.0.9:5000 from w1: connection refused"),
    ],
)
def test_every_node_asks_every_registry(
    run: t.Callable[..., dict[str, Check]], broken: tuple[str, ...], seen: str
) -> None:
    checks = run(Cluster(*broken), registries=("10.0.0.9:5000",))
    assert checks["registry"].seen == seen
    assert failed(checks) == set(broken)


def test_where_no_registry_is_asked_it_is_said_why(run: t.Callable[..., dict[str, Check]]) -> None:
    assert run(Cluster(), no_registries="all are down")["registry"].seen == "skipped: all are down"


def test_a_node_that_is_down_on_purpose_is_no_failure_but_told(run: t.Callable[..., dict[str, Check]]) -> None:
    cluster = Cluster("w2")
    checks = run(cluster, nodes={"cp1": "", "w1": ""}, absent=("w2",))
    assert failed(checks) == set()
    assert "2 of 2 directed pairs of 2 nodes" in checks["pod to pod"].seen
    assert "2 of 2 Ready (2 x v1.37.0); not asked, for down on purpose: w2" in checks["nodes"].seen
    assert "2 of 2 healthy" in checks["kubelets"].seen
    assert cluster.namespaces == {}


def test_what_the_longer_questions_lack_is_a_finding_of_its_own(run: t.Callable[..., dict[str, Check]]) -> None:
    cluster = Cluster("full")
    quick, checks = run(Cluster()), run(cluster, full=True)
    assert failed(checks) == {"longer questions"}
    assert "quota exceeded" in checks["longer questions"].seen
    assert set(checks) == {*quick, "longer questions"}
    assert (cluster.namespaces, cluster.proxies) == ({}, 0)


def test_what_needs_no_pods_is_asked_though_none_can_be_made(run: t.Callable[..., dict[str, Check]]) -> None:
    assert {"nodes", "etcd", "controllers", "kubelets", "kube-proxy"} < set(run(Cluster("apply")))


def test_an_error_on_the_way_keeps_what_was_found_before(
    run: t.Callable[..., dict[str, Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_arguments: t.Any) -> t.Any:
        raise SlipwayError(Problem("kubectl get", "the API is gone"))

    cluster = Cluster()
    monkeypatch.setattr(verify, "Talk", gone)
    checks = run(cluster)
    assert failed(checks) == {"verification"}
    assert "the API is gone" in checks["verification"].seen
    assert {"nodes", "kube-proxy", "pods start", "removal"} < set(checks)
    assert (cluster.namespaces, cluster.proxies) == ({}, 0)


@pytest.mark.parametrize("broken", ["api", "kube-proxy", "dns", "w2"])
def test_what_passes_by_itself_is_no_failure_but_told(
    run: t.Callable[..., dict[str, Check]], monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    cluster = Cluster(broken)
    pauses: list[float] = []

    def mend(seconds: float) -> None:
        pauses.append(seconds)
        cluster.broken.clear()

    monkeypatch.setattr(time, "sleep", mend)
    checks = run(cluster)
    assert failed(checks) == set()
    assert len(pauses) == 1
    assert len([check for check in checks.values() if "(at first: " in check.seen]) == 1


def test_a_pod_that_reaches_nobody_proves_no_policy(
    run: t.Callable[..., dict[str, Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    found = run(Cluster("alone"))["network policy"]
    assert found.skipped
    assert "a pod that no policy walls off was not reached either" in found.seen


def test_patience_is_shared_by_all_findings(
    run: t.Callable[..., dict[str, Check]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    assert failed(run(Cluster("kube-proxy", "pods", "dns"))) == {"kube-proxy", "pod to pod", "DNS inside"}
    assert clock[0] == 1.0


@pytest.mark.parametrize(
    ("enough", "seconds", "found", "asked"), [(1, 9.0, 1, 2), (5, 2.0, 4, 5), (0, 0.0, 0, 1), (9, 0.0, 0, 1)]
)
def test_what_comes_soon_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, enough: int, seconds: float, found: int, asked: int
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "sleep", lambda pause: clock.__setitem__(0, clock[0] + pause))
    answers: list[int] = []

    def look() -> int:
        answers.append(len(answers))
        return answers[-1]

    assert soon(look, lambda number: number >= enough, seconds=seconds) == found
    assert len(answers) == asked


def test_a_termination_takes_everything_down(run: t.Callable[..., dict[str, Check]]) -> None:
    cluster = Cluster()
    answer = cluster.answer

    def killed(path: str) -> tuple[int, str]:
        if path.endswith("/proxy/healthz"):
            os.kill(os.getpid(), signal.SIGTERM)
        return answer(path)

    cluster.answer = killed  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit):
        run(cluster)
    assert cluster.namespaces == {}
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_killed_run_left_is_removed_and_what_runs_is_not(run: t.Callable[..., dict[str, Check]]) -> None:
    cluster = Cluster()
    now = datetime.datetime.now(datetime.UTC)
    ages = {"slipway-verify-old": 3600, "slipway-verify-other": 30}
    for name, age in ages.items():
        cluster.namespaces[name] = (now - datetime.timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")
    run(cluster)
    assert set(cluster.namespaces) == {"slipway-verify-other"}
