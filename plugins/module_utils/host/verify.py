# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts pods up on every node of a live cluster, lets them talk, judges, and takes everything down again."""

from __future__ import annotations

import dataclasses
import json
import time
import typing as t

from ..core import verify, verify_addons, verify_registry, verify_workload
from ..core.nodes import NodesSeen, summarize_nodes
from ..core.problems import SlipwayError
from ..core.verify import Check
from ..core.verify_workload import APPS, BACKEND, PodSeen
from .api_proxy import ApiProxy, open_proxy
from .etcdctl import Etcdctl
from .kubectl import Kubectl
from .machine import Machine, still_lacking
from .verify_addons import AddonChecks, Addons
from .verify_full import FullChecks
from .verify_space import REMOVAL_SECONDS, check_removal, new_space, now, remove_stale, termination_as_exit
from .verify_talk import Talk, message, parallel, soon

_PAUSE_SECONDS = 1.0
# What one call of kubectl may take at least; more where the caller allows a slow cluster more.
_CALL_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class VerifyWant:
    """What the cluster is expected to be. ``nodes`` is name to version, an empty version for any; none: any nodes.

    ``absent`` are Nodes that are down on purpose, of which nothing is asked, ``etcd_absent`` the client URLs of such
    members of etcd.
    ``outside_name`` is asked from pods only if this host itself resolves it. ``registries`` (HOST:PORT) are asked by
    every node, ``no_registries`` is why there are none. ``timeout`` bounds, in seconds, each wait, and the time of all
    questions that are asked again because the answer was not good.
    """

    kubectl: str
    kubeconfig: str
    image: str
    domain: str
    outside_name: str
    nodes: t.Mapping[str, str]
    etcd: Etcdctl
    timeout: float
    absent: tuple[str, ...] = ()
    etcd_absent: tuple[str, ...] = ()
    addons: Addons = Addons()
    registries: tuple[str, ...] = ()
    no_registries: str = ""
    full: bool = False


def verify_cluster(machine: Machine, want: VerifyWant) -> list[Check]:
    """All findings; what is put up is taken down in any case, and its end is the last finding."""
    kubectl = Kubectl(machine, want.kubectl, want.kubeconfig, timeout=max(_CALL_SECONDS, want.timeout))
    with termination_as_exit():
        patience = _Patience(want.timeout)
        first = patience.find("API servers", lambda: _check_api_servers(kubectl))
        if first.seen.startswith("no API"):
            return [first]
        namespace = new_space()
        run = _Run(machine, kubectl, want, namespace, patience)
        remove_stale(kubectl)
        checks = [first]
        try:
            with open_proxy(want.kubectl, want.kubeconfig) as proxy:
                # One after the other, so that an error keeps what was found before it.
                for check in run.checks(proxy):
                    checks.append(check)  # noqa: PERF402  # extend keeps nothing of a generator that fails
        except SlipwayError as error:
            checks.append(Check("verification", ok=False, done="went on with it", seen=str(error)))
        finally:
            last = _timed("removal", lambda: check_removal(kubectl, namespace, max(REMOVAL_SECONDS, want.timeout)))
        return verify.with_causes([*checks, last])


class _Patience:
    """Asks again what is not as it should be, for what passes by itself is not broken.

    A controller whose host came back waits until its old lease is over (15 s), a kubelet whose connection was cut makes
    another. All repeated questions together may take ``seconds``, so that what is broken is soon told.
    """

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def find(self, aspect: str, step: t.Callable[[], Check]) -> Check:
        """The finding once it is good, with what was seen at first; or as it still is when patience is over."""
        first = check = _timed(aspect, step)
        start = time.monotonic()
        end = start + self._left
        while not check.ok and time.monotonic() < end:
            time.sleep(_PAUSE_SECONDS)
            check = _timed(aspect, step)
        if check is first:
            return first
        spent = time.monotonic() - start
        self._left -= spent
        seen = f"{check.seen} (at first: {first.seen})" if check.ok else check.seen
        return dataclasses.replace(check, seen=seen, seconds=first.seconds + spent)


class _Run:
    """One verification in one namespace."""

    def __init__(
        self, machine: Machine, kubectl: Kubectl, want: VerifyWant, namespace: str, patience: _Patience
    ) -> None:
        self._machine = machine
        self._kubectl = kubectl
        self._want = want
        self._namespace = namespace
        self._patience = patience
        self._stage = verify_workload.Stage(namespace, want.image)

    def checks(self, proxy: ApiProxy) -> t.Iterator[Check]:
        """Put up, ask, judge. Without pods there is nobody to ask, so what needs them is then left out."""
        find = self._patience.find
        want = self._want
        yield find("nodes", lambda: verify.judge_nodes(summarize_nodes(self._kubectl.nodes()), want.nodes, want.absent))
        nodes = verify.without(summarize_nodes(self._kubectl.nodes()), want.absent)
        ready = nodes.ready
        avoid = tuple(sorted({*nodes.down, *want.absent}))
        self._stage = verify_workload.Stage(self._namespace, want.image, avoid)
        addons = AddonChecks(self._machine, self._kubectl, want.addons, self._stage)
        # What pods need to start passes while others are asked.
        unmade = self._put_up(len(ready))
        routeless = [] if unmade else self._put_up_addons(addons)
        yield find("etcd", lambda: _check_etcd(want))
        yield find("controllers", lambda: _check_controllers(self._kubectl))
        yield find("kubelets", lambda: _check_node_health(proxy, nodes, "kubelets", "/proxy/healthz"))
        yield find("kube-proxy", lambda: _check_node_health(proxy, nodes, "kube-proxy", ":10256/proxy/livez"))
        yield find("metrics", lambda: addons.check_metrics(proxy, nodes))
        if unmade:
            yield from unmade
            return
        yield find("pod security", addons.check_refusal)
        started = _timed("pods start", lambda: self._check_started(ready))
        yield started
        if started.ok:
            talk = Talk(self._kubectl, proxy, self._namespace, verify_workload.on_nodes(self._pods(), ready))
            yield find("registry", lambda: self._check_registries(ready))
            yield from self._talked(talk)
            yield from routeless
            yield from self._use_addons(addons)
            yield _timed("unready pod", lambda: talk.check_unready(timeout=self._want.timeout / 3))
            yield _timed("replacement", lambda: self._check_replacement(talk))
            yield from self._full(talk)

    def _talked(self, talk: Talk) -> t.Iterator[Check]:
        """What pods can say of each other."""
        find = self._patience.find
        yield find("pod to pod", talk.check_pairs)
        yield find("service", talk.check_service)
        if self._want.addons.dns:
            yield find("DNS inside", lambda: talk.check_names(self._want.domain))
            yield find("DNS outside", lambda: talk.check_outside(self._want.outside_name))
        else:
            yield from (verify.skipped(f"DNS {where}", "slipway_dns is off") for where in ("inside", "outside"))
        yield find("exec and logs", talk.check_streams)
        yield find("events", talk.check_events)
        yield find("network policy", talk.check_policy)

    def _use_addons(self, addons: AddonChecks) -> t.Iterator[Check]:
        """What add-ons do for pods."""
        find = self._patience.find
        yield find("job and mounts", addons.check_job)
        yield find("ingress", addons.check_ingress)
        yield find("gateway", addons.check_gateway)
        yield find("load balancer", addons.check_balanced)
        yield _timed("volume", lambda: addons.check_volume(timeout=self._want.timeout))

    def _put_up(self, nodes: int) -> list[Check]:
        """The workload in its namespace."""
        where = {"namespace": self._namespace, "image": self._want.image}
        objects = [
            verify_workload.namespace_object(self._namespace),
            *verify_workload.workload_objects(**where, nodes=nodes),
            *verify_addons.job_objects(self._namespace, self._want.image, verify_workload.POD_SECURITY),
        ]
        if self._want.registries:
            objects.append(verify_registry.pulling_object(self._namespace, self._want.registries))
        placed = self._stage.place(objects)
        return _unmade("workload", "put up pods and Services", lambda: self._kubectl.apply(placed))

    def _put_up_addons(self, addons: AddonChecks) -> list[Check]:
        """What the add-ons' questions need: one whose API is missing is a finding, not the end of all others."""
        hint = "apply puts an add-on's definitions back"
        return _unmade("add-ons", "made routes and a Service", lambda: self._kubectl.apply(addons.objects()), hint)

    def _full(self, talk: Talk) -> t.Iterator[Check]:
        """The longer questions, if they are wanted."""
        if not self._want.full:
            return
        full = FullChecks(self._machine, self._kubectl, talk, self._stage, dns=self._want.addons.dns)
        unmade = _unmade("longer questions", "put up what they are asked of", full.put_up)
        yield from unmade
        if unmade:
            return
        metrics = self._want.addons.metrics
        yield _timed("rolling update", full.check_rollout)
        yield _timed("bad version", full.check_bad_version)
        yield _timed("liveness", full.check_liveness)
        yield _timed("autoscaler", lambda: full.check_autoscaler(metrics=metrics))

    def _pods(self) -> dict[str, t.Any]:
        listing = self._kubectl.json(["get", "pods", f"--namespace={self._namespace}"])
        return t.cast("dict[str, t.Any]", listing)

    def _check_started(self, ready: t.Sequence[str]) -> Check:
        def lacking() -> t.Optional[str]:
            return "; ".join(verify_workload.lacking_pods(self._pods(), ready)[:5]) or None

        done = "started a pod on every Ready node, and a Deployment"
        if not ready:
            return Check("pods start", ok=False, done=done, seen="no Node is Ready")
        trouble = still_lacking(self._machine, "the pods", lacking, timeout=self._want.timeout)
        if trouble:
            hint = (
                "see kubectl describe of such a pod while this runs; the kubelet's and containerd's journal on its node"
            )
            events = self._kubectl.json(["get", "events", f"--namespace={self._namespace}"])
            waiting = [pod.name for app in APPS for pod in verify_workload.pods_of(self._pods(), app) if pod.lack]
            seen = "; ".join([trouble, *verify_workload.warned(events, waiting)])
            return Check("pods start", ok=False, done=done, seen=seen, hint=hint)
        count = sum(len(verify_workload.pods_of(self._pods(), app)) for app in APPS)
        return Check("pods start", ok=True, done=done, seen=f"{count} pods ready on {len(ready)} nodes")

    def _check_registries(self, ready: t.Sequence[str]) -> Check:
        """What each node is told by each registry."""
        registries = self._want.registries
        if not registries:
            return verify.skipped("registry", self._want.no_registries)

        def look() -> dict[tuple[str, str], str]:
            return verify_registry.pull_answers(self._pods())

        wanted = {(node, registry) for node in ready for registry in registries}
        answers = soon(look, lambda found: wanted <= set(found), seconds=self._want.timeout)
        return verify.judge_registries(answers, ready, registries)

    def _check_replacement(self, talk: Talk) -> Check:
        """Delete one backend and kill the program of another; both must serve again."""
        before = verify_workload.pods_of(self._pods(), BACKEND)
        deleted, killed = before[0], before[-1]
        self._kubectl.run(["delete", "pod", deleted.name, f"--namespace={self._namespace}", "--wait=false"])
        unkilled = talk.kill(killed)

        def lacking() -> t.Optional[str]:
            after = {pod.name: pod for pod in verify_workload.pods_of(self._pods(), BACKEND)}
            restarted = after.get(killed.name, PodSeen(killed.name))
            lacks = [f"{pod.name}: {pod.lack}" for pod in after.values() if pod.lack]
            if deleted.name in after or len(after) < len(before):
                lacks.append(f"no replacement of {deleted.name}")
            if restarted.restarts <= killed.restarts and not unkilled:
                lacks.append(f"{killed.name} was not restarted")
            return "; ".join(lacks) or None

        done = "deleted a pod of a Deployment and killed the program of another"
        hint = (
            "see: systemctl status kube-controller-manager kube-scheduler on a control-plane host, kubelet on the nodes"
        )
        trouble = still_lacking(self._machine, "the replacement", lacking, timeout=self._want.timeout)
        if trouble:
            return Check("replacement", ok=False, done=done, seen=trouble, hint=hint)
        new = [
            pod
            for pod in verify_workload.pods_of(self._pods(), BACKEND)
            if pod.name not in {each.name for each in before}
        ]
        if unkilled:
            return Check(
                "replacement", ok=False, done=done, seen=f"{killed.name} could not be killed: {unkilled}", hint=hint
            )
        reached = talk.reaches([pod.name for pod in new], timeout=self._want.timeout / 4)
        seen = f"{deleted.name} replaced by {', '.join(pod.name for pod in new)}, {killed.name} restarted"
        return Check(
            "replacement", reached, done, seen if reached else f"{seen}, but the Service never reached it", hint
        )


def _check_api_servers(kubectl: Kubectl) -> Check:
    """Ask each API server the cluster knows of, by the address it announces itself with."""
    output = kubectl.run(
        [
            "get",
            "endpointslices",
            "--namespace=default",
            "--selector=kubernetes.io/service-name=kubernetes",
            "--output=json",
        ],
        check=False,
    )
    if output.rc != 0:
        return Check(
            "API servers",
            ok=False,
            done="asked the API for its own endpoints",
            seen=f"no API: {output.stderr.strip()}",
            hint="on this host see: systemctl status kube-apiserver etcd, journalctl -u kube-apiserver",
        )
    servers = [
        f"https://{_bracketed(address)}:{piece['ports'][0]['port']}"
        for piece in json.loads(output.stdout)["items"]
        for endpoint in piece.get("endpoints") or ()
        for address in endpoint["addresses"]
    ]
    answers, bodies = {}, {}
    for server in servers:
        said = kubectl.run([f"--server={server}", "get", "--raw=/readyz?verbose"], check=False, timeout=20)
        answers[server] = None if said.rc == 0 else said.stderr.strip()
        bodies[server] = said.stdout
    return verify.judge_readyz(answers, bodies)


def _check_etcd(want: VerifyWant) -> Check:
    if want.etcd.missing():
        return verify.skipped(
            "etcd", "no etcdctl or no client certificate on this host; the API servers' /readyz asks it"
        )
    return verify.judge_etcd(*want.etcd.answers(), want.etcd_absent)


def _check_controllers(kubectl: Kubectl) -> Check:
    leases = kubectl.json(["get", "leases", "--namespace=kube-system"])
    return verify.judge_leases(leases, now())


def _check_node_health(proxy: ApiProxy, nodes: NodesSeen, aspect: str, rest: str) -> Check:
    def ask(name: str) -> str:
        status, body = proxy.get(f"/api/v1/nodes/{name}{rest}")
        return "" if status == 200 else message(status, body)

    unit = "kubelet" if aspect == "kubelets" else aspect
    trouble = parallel(ask, list(nodes.nodes))
    return verify.judge_health(
        aspect,
        f"asked {unit}'s health on every node through the API server",
        trouble,
        f"on that node see: systemctl status {unit}, journalctl -u {unit}",
    )


def _unmade(aspect: str, done: str, make: t.Callable[[], None], hint: str = "") -> list[Check]:
    """The red line for what the API refuses to take; nothing if it took it."""
    try:
        make()
    except SlipwayError as error:
        return [Check(aspect, ok=False, done=done, seen=str(error), hint=hint)]
    return []


def _timed(aspect: str, step: t.Callable[[], Check]) -> Check:
    """The finding with its seconds; an error on the way is a finding too."""
    start = time.monotonic()
    try:
        check = step()
    except SlipwayError as error:
        check = Check(aspect, ok=False, done="asked the API", seen=str(error))
    return dataclasses.replace(check, seconds=time.monotonic() - start)


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
