# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the cluster work? How the answers of a cluster are judged, and how the findings read."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import ipaddress
import itertools
import re
import textwrap
import typing as t

from .nodes import NodesSeen, parse_time, unready
from .verify_workload import PAYLOAD

_LONGEST = 200
_COLUMNS, _DONE_COLUMNS = 120, 36
# How Go's HTTP client ends where packets are dropped or refused.
_CUT_OFF = ("deadline exceeded", "timeout", "refused", "no route", "unreachable", "not permitted")
# What fails because something else does, the most basic first.
_CAUSES = {
    "kubelets": ("nodes",),
    "pods start": ("nodes", "controllers"),
    "pod to pod": ("nodes",),
    "registry": ("nodes",),
    "service": ("nodes", "pod to pod", "kube-proxy"),
    "DNS inside": ("nodes", "pod to pod", "kube-proxy", "service"),
    "DNS outside": ("nodes", "pod to pod", "kube-proxy", "service", "DNS inside"),
    "exec and logs": ("nodes", "kubelets"),
    "events": ("nodes", "kubelets"),
    "unready pod": ("nodes", "controllers", "kubelets", "kube-proxy", "service"),
    "metrics": ("nodes", "kubelets"),
    "job and mounts": ("nodes", "controllers"),
    "ingress": ("nodes", "pod to pod"),
    "gateway": ("nodes", "pod to pod", "ingress"),
    "load balancer": ("nodes", "pod to pod", "kube-proxy", "service"),
    "volume": ("nodes", "controllers", "pod to pod", "kube-proxy"),
    "rolling update": ("nodes", "controllers", "service", "DNS inside"),
    "bad version": ("nodes", "controllers", "service", "DNS inside"),
    # A namespace goes only once every API has said what it holds there.
    "removal": ("metrics",),
    "autoscaler": ("metrics", "controllers", "DNS inside"),
    "replacement": ("nodes", "controllers", "pod to pod", "kube-proxy", "service", "unready pod"),
}


@dataclasses.dataclass(frozen=True)
class Check:
    """One finding: what was done, what was seen (with counts), whether that is as it should be, and a hint if not."""

    aspect: str
    ok: bool
    done: str
    seen: str
    hint: str = ""
    seconds: float = 0.0
    skipped: bool = False

    def as_dict(self) -> dict[str, t.Any]:
        """The finding as JSON data."""
        return {**dataclasses.asdict(self), "seconds": round(self.seconds, 2)}


@dataclasses.dataclass(frozen=True)
class Answer:
    """What one pod was told by another: texts that came back, and errors."""

    responses: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def trouble(self) -> str:
        """The first error, shortened, or that nothing came back; empty if all went well."""
        if self.errors:
            text = self.errors[0].replace(PAYLOAD, "...")
            # What Go's HTTP client says when the five seconds that a pod waits are over.
            text = re.sub(r"context deadline exceeded \(Client\.Timeout.*", "no answer within 5 s", text)
            return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
        return "" if self.responses else "an empty answer"


def table(checks: t.Sequence[Check]) -> str:
    """The findings for a person: mark, aspect, seconds, what was done, what was seen; a failed one with its hint."""
    width = max((len(check.aspect) for check in checks), default=0)
    lines = []
    for check in checks:
        mark = "skip" if check.skipped else "ok" if check.ok else "FAIL"
        start = f"{mark:<4}  {check.aspect:<{width}}  {check.seconds:5.1f} s  "
        done = _wrapped(check.done, _DONE_COLUMNS)
        seen = _wrapped(check.seen, _COLUMNS - len(start) - _DONE_COLUMNS - 2)
        rows = [f"{one:<{_DONE_COLUMNS}}  {other}" for one, other in itertools.zip_longest(done, seen, fillvalue="")]
        if not check.ok and check.hint:
            rows += _wrapped(f"-> {check.hint}", _COLUMNS - len(start))
        lines += [f"{start if number == 0 else ' ' * len(start)}{row}".rstrip() for number, row in enumerate(rows)]
    return "".join(f"{line}\n" for line in lines)


def _wrapped(text: str, columns: int) -> list[str]:
    """Lines of no more than so many columns, unless a word is longer: a URL or an option stays whole."""
    return textwrap.wrap(text, columns, break_long_words=False, break_on_hyphens=False) or [""]


def judge_readyz(answers: t.Mapping[str, t.Union[str, None]], bodies: t.Mapping[str, str]) -> Check:
    """The API servers: ``answers`` has an error, or None, for each; ``bodies`` what /readyz?verbose said."""
    bad = {name: error for name, error in answers.items() if error}
    counts = sorted({body.count("[+]") for name, body in bodies.items() if name not in bad})
    passed = f"{len(answers) - len(bad)} of {len(answers)} ready ({'/'.join(map(str, counts)) or 0} inner checks each)"
    return Check(
        "API servers",
        not bad and bool(answers),
        "asked /readyz of each API server",
        "; ".join([passed, *(f"{name}: {error}" for name, error in sorted(bad.items()))]),
        hint="on that host see: systemctl status kube-apiserver, journalctl -u kube-apiserver",
    )


def judge_etcd(
    health: t.Sequence[t.Mapping[str, t.Any]],
    status: t.Sequence[t.Mapping[str, t.Any]],
    absent: t.Collection[str] = (),
) -> Check:
    """The members, from ``etcdctl endpoint health`` and ``endpoint status``, both for the whole cluster as JSON.

    ``absent`` are the client URLs of members that are down on purpose.
    """
    down = sorted(str(each.get("endpoint")) for each in health if each.get("endpoint") in absent)
    health = [each for each in health if each.get("endpoint") not in absent]
    status = [each for each in status if each.get("Endpoint") not in absent]
    bad = [f"{each.get('endpoint')}: {each.get('error') or 'unhealthy'}" for each in health if not each.get("health")]
    leaders = {str((each.get("Status") or {}).get("leader", 0)) for each in status}
    if not bad and (len(leaders) != 1 or leaders == {"0"}):
        bad.append(f"members name {len(leaders)} leaders")
    for each in status:
        errors = (each.get("Status") or {}).get("errors") or ()
        bad.extend(f"{each.get('Endpoint')}: {error}" for error in errors)
    sizes = [int((each.get("Status") or {}).get("dbSize", 0)) for each in status]
    size = f", database {max(sizes) / 2**20:.1f} MiB" if sizes else ""
    good = sum(1 for each in health if each.get("health"))
    return Check(
        "etcd",
        bool(health) and not bad,
        "asked each member for a write, its leader and its alarms",
        "; ".join([f"{good} of {len(health)} members healthy{size}", *bad, *_declared(down)]),
        hint="on that host see: systemctl status etcd, journalctl -u etcd",
    )


def judge_leases(listing: t.Mapping[str, t.Any], now: datetime.datetime) -> Check:
    """Controller manager and scheduler: each holds a lease and renews it."""
    leases = {item["metadata"]["name"]: item.get("spec") or {} for item in listing.get("items") or ()}
    good: list[str] = []
    bad: list[str] = []
    for name in ("kube-controller-manager", "kube-scheduler"):
        renewed = parse_time(leases.get(name, {}).get("renewTime"))
        limit = leases.get(name, {}).get("leaseDurationSeconds", 15)
        if renewed is None:
            bad.append(f"{name} never took its lease")
            continue
        age = (now - renewed).total_seconds()
        holder = str(leases[name].get("holderIdentity", "")).partition("_")[0]
        text = f"{name} on {holder} renewed {max(age, 0):.0f} s ago"
        (bad if age > limit else good).append(text)
    return Check(
        "controllers",
        not bad,
        "read the leases of controller manager and scheduler",
        "; ".join([*bad, *good]),
        hint="on a control-plane host see: systemctl status kube-controller-manager kube-scheduler",
    )


def judge_nodes(every: NodesSeen, expected: t.Mapping[str, str], absent: t.Collection[str] = ()) -> Check:
    """All Nodes Ready, none missing, each with its expected version (empty: any); ``absent`` are down on purpose."""
    seen = without(every, absent)
    names = sorted({*expected, *seen.nodes})
    bad = [f"{name}: {reason}" for name, reason in sorted(unready(names, seen).items())]
    pressed = {name: node.pressure for name, node in seen.nodes.items() if node.pressure}
    bad.extend(f"{name}: {pressure}" for name, pressure in sorted(pressed.items()))
    for name, version in sorted(expected.items()):
        node = seen.nodes.get(name)
        if node and version and node.kubelet_version.lstrip("v") != version.lstrip("v"):
            bad.append(f"{name}: kubelet {node.kubelet_version}, expected v{version.lstrip('v')}")
    bad.extend(f"{name}: nobody expects this Node" for name in names if expected and name not in expected)
    versions = collections.Counter(node.kubelet_version for node in seen.nodes.values())
    ready = len(seen.ready)
    return Check(
        "nodes",
        bool(names) and not bad,
        "read every Node's condition, taints and version",
        "; ".join(
            [f"{ready} of {len(names)} Ready ({_counted(versions)})", *bad, *_declared(set(absent) & set(every.nodes))]
        ),
        hint=_nodes_hint(pressed),
    )


def without(seen: NodesSeen, absent: t.Collection[str]) -> NodesSeen:
    """The Nodes but for these."""
    return dataclasses.replace(seen, nodes={name: node for name, node in seen.nodes.items() if name not in absent})


def _declared(names: t.Collection[str]) -> list[str]:
    return [f"not asked, for down on purpose: {', '.join(sorted(names))}"] if names else []


def _nodes_hint(pressed: t.Mapping[str, str]) -> str:
    if any("DiskPressure" in text for text in pressed.values()):
        where = " and ".join(sorted(pressed))
        return (
            f"a disk of {where} is nearly full: df -h /var/lib/kubelet /var/lib/containerd /var/log, df -i for inodes"
        )
    return "on that node see: systemctl status kubelet containerd, journalctl -u kubelet"


def judge_health(aspect: str, what: str, trouble: t.Mapping[str, str], hint: str) -> Check:
    """One health endpoint asked on every node; ``trouble`` is empty for those that answered well."""
    bad = {node: text for node, text in trouble.items() if text}
    return Check(
        aspect,
        bool(trouble) and not bad,
        what,
        "; ".join([f"{len(trouble) - len(bad)} of {len(trouble)} healthy", *_each(bad)]),
        hint=hint,
    )


def judge_pairs(trouble: t.Mapping[tuple[str, str], str]) -> Check:
    """Pod to pod: ``trouble`` for each ordered pair of nodes, empty where TCP and UDP went well."""
    bad = {f"{one} -> {other}": text for (one, other), text in trouble.items() if text}
    nodes = len({node for pair in trouble for node in pair})
    seen = f"{len(trouble) - len(bad)} of {len(trouble)} directed pairs of {nodes} nodes"
    if not trouble:
        seen = "one node: no pairs"
    return Check(
        "pod to pod",
        not bad,
        f"TCP with {len(PAYLOAD)} bytes each way and UDP, from a pod on each node to a pod on each other node",
        "; ".join([seen, *_each(bad)]),
        hint=_pairs_hint(trouble),
    )


def _pairs_hint(trouble: t.Mapping[tuple[str, str], str]) -> str:
    """Name the node that all failing pairs share, if there is one, and whether only full packets are lost."""
    bad = {pair: text for pair, text in trouble.items() if text}
    common = set.intersection(*map(set, bad)) if bad else set()
    where = f"on {' or '.join(sorted(common))}" if common else "on the nodes named"
    if bad and all(text.startswith("TCP:") for text in bad.values()):
        return f"small packets pass and full ones do not: {where} the pod network's MTU is larger than the path's"
    return f"{where} see: systemctl status flanneld, and whether UDP port 8472 is open between the nodes"


def judge_service(answers: t.Mapping[str, Answer], endpoints: t.Collection[str]) -> Check:
    """A Service's requests, by the node they came from: all answered, and every endpoint hit from every node."""
    total = collections.Counter(dict.fromkeys(endpoints, 0))
    for answer in answers.values():
        total.update(answer.responses)
    trouble = {node: service_trouble(answer, endpoints) for node, answer in answers.items()}
    bad = {node: text for node, text in trouble.items() if text}
    hits = "/".join(str(total[name]) for name in sorted(total))
    seen = f"{sum(total.values())} requests from {len(answers)} nodes hit {len(endpoints)} endpoints {hits} times"
    return Check(
        "service",
        bool(answers) and not bad,
        "requests to a ClusterIP from a pod on each node",
        "; ".join([seen, *_each(bad)]),
        hint="on that node see: systemctl status kube-proxy, journalctl -u kube-proxy, nft list table ip kube-proxy",
    )


def judge_unready(pod: str, alone: str, without: t.Mapping[str, str], again: t.Mapping[str, str]) -> Check:
    """A pod of a Service that was not ready and then was again: what went wrong, empty where nothing did.

    ``alone`` is the pod's own trouble while it was not ready; the others are by the node from which the Service was
    asked, while the pod was not ready and afterwards.
    """
    parts = [
        *([f"{pod} itself did not answer while not ready: {alone}"] if alone else []),
        *_each({f"while it was not ready, from {node}": text for node, text in without.items() if text}),
        *_each({f"when it was ready again, from {node}": text for node, text in again.items() if text}),
    ]
    seen = f"{pod} served by itself but not through the Service, and through it again, as seen from {len(again)} nodes"
    return Check(
        "unready pod",
        bool(without) and bool(again) and not parts,
        "made a Service's pod unready, though it runs, and ready again",
        "; ".join(parts or [seen]),
        hint="see: systemctl status kube-controller-manager, on the nodes kubelet kube-proxy",
    )


def service_trouble(answer: Answer, endpoints: t.Collection[str]) -> str:
    """Why one node's requests to a Service did not meet exactly these endpoints; empty if they did."""
    missed, strange = sorted(set(endpoints) - set(answer.responses)), sorted(set(answer.responses) - set(endpoints))
    if answer.trouble:
        return answer.trouble
    if missed:
        return f"never reached {', '.join(missed)} in {len(answer.responses)} requests"
    return f"led to {', '.join(strange)}" if strange else ""


def judge_names(aspect: str, what: str, trouble: t.Mapping[tuple[str, str], str]) -> Check:
    """Names asked from pods: ``trouble`` by node and name, empty where the name led to its pod."""
    bad = {f"{name} from {node}": text for (node, name), text in trouble.items() if text}
    names = len({name for _node, name in trouble})
    nodes = len({node for node, _name in trouble})
    return Check(
        aspect,
        bool(trouble) and not bad,
        what,
        "; ".join(
            [f"{len(trouble) - len(bad)} of {len(trouble)} answers: {names} names from {nodes} nodes", *_each(bad)]
        ),
        hint="see: kubectl --namespace kube-system get pods -l k8s-app=kube-dns -o wide, and their logs",
    )


def unresolved(answer: Answer) -> str:
    """Why an answer does not prove that the pod found the name's address; empty if it does.

    Nobody need listen there: agnhost names the address it has found in the error of a failed connection, too. Any
    other error, such as a pod that cannot be asked, proves nothing.
    """
    dialled = re.search(r'"http://\[?([0-9A-Fa-f:.]+)\]?:\d+/', answer.errors[0]) if answer.errors else None
    return "" if dialled and _is_address(dialled.group(1)) else answer.trouble


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def judge_streams(trouble: t.Mapping[str, str], execs: int) -> Check:
    """Logs of a pod on each node, and a command in some; ``trouble`` by node."""
    bad = {node: text for node, text in trouble.items() if text}
    return Check(
        "exec and logs",
        bool(trouble) and not bad,
        "read a pod's log and ran a command in it",
        "; ".join([f"logs from {len(trouble)} nodes, exec on {execs}", *_each(bad)]),
        hint="is a kubelet's serving certificate approved? kubectl get csr, systemctl status slipway-keeper.timer",
    )


def judge_registries(
    answers: t.Mapping[tuple[str, str], str], nodes: t.Collection[str], registries: t.Collection[str]
) -> Check:
    """What each node was told by each registry, by both, empty where it is well; what is not known is not."""
    bad = {
        f"{registry} from {node}": answers.get((node, registry), "no answer yet")
        for node in nodes
        for registry in registries
        if answers.get((node, registry), "no answer yet")
    }
    total = len(nodes) * len(registries)
    seen = f"{total - len(bad)} of {total} answers: {len(registries)} registries from {len(nodes)} nodes"
    return Check(
        "registry",
        bool(total) and not bad,
        "had containerd on every node look into each registry, with its CA and login",
        "; ".join([seen, *_each(bad)]),
        hint="on the registry's host see: systemctl status slipway-registry; on that node the files below "
        "/etc/containerd/certs.d, which apply puts back",
    )


def judge_events(listing: t.Mapping[str, t.Any], pods: t.Mapping[str, str]) -> Check:
    """What is told of ``pods``, each with its node: that the scheduler has placed and its kubelet started them."""
    told: dict[str, set[str]] = collections.defaultdict(set)
    count = 0
    for item in listing.get("items") or ():
        name = (item.get("involvedObject") or {}).get("name", "")
        if name in pods:
            count += 1
            told[item.get("reason", "")].add(name)
    nodes = set(pods.values())
    silent = nodes - {pods[name] for name in told["Started"]}
    bad = {f"kubelet of {node}": "told nothing" for node in silent}
    if not told["Scheduled"]:
        bad["scheduler"] = "told nothing"
    seen = f"{count} events of {len(pods)} pods: {len(told['Scheduled'])} scheduled, {len(told['Started'])} started"
    return Check(
        "events",
        bool(pods) and not bad,
        "read what scheduler and kubelets tell of the pods",
        "; ".join([f"{seen}, as told by {len(nodes) - len(silent)} of {len(nodes)} kubelets", *_each(bad)]),
        hint="why they are not taken: journalctl -u kubelet on that node, -u kube-scheduler on control-plane hosts",
    )


def judge_policy(control: Answer, answer: Answer) -> Check:
    """Whether a NetworkPolicy has any effect: a fact to know, not a failure.

    ``control`` is what the pod that asks was told by one without a wall, ``answer`` what by one behind it.
    """
    aspect = "network policy"
    if control.trouble:
        return skipped(aspect, f"a pod that no policy walls off was not reached either: {control.trouble}")
    if answer.trouble and not is_cut_off(answer):
        return skipped(aspect, f"the pod could not be asked: {answer.trouble}")
    return Check(
        aspect,
        ok=True,
        done="connected to a pod that a NetworkPolicy walls off",
        seen="enforced" if answer.trouble else "not enforced: this pod network ignores NetworkPolicy objects",
    )


def is_cut_off(answer: Answer) -> bool:
    """Whether the pod itself tells that its connection to an address was let wait or refused.

    What the API server says of a pod that it cannot ask names no such connection.
    """
    text = answer.errors[0] if answer.errors else ""
    return re.search(rf'"http://[^"]+": .*({"|".join(_CUT_OFF)})', text) is not None


def with_causes(checks: t.Sequence[Check]) -> list[Check]:
    """The findings, a failed one that another failed one explains with that as its hint."""
    failed = {check.aspect for check in checks if not check.ok}

    def told(check: Check) -> Check:
        cause = _cause(check.aspect, failed)
        if check.ok or not cause:
            return check
        return dataclasses.replace(check, hint=f"most likely a consequence: mend {cause} first")

    return [told(check) for check in checks]


def _cause(aspect: str, failed: t.Container[str]) -> str:
    """The failed aspect at the root of this one, which no other failed one explains; empty if there is none."""
    cause = next((cause for cause in _CAUSES.get(aspect, ()) if cause in failed), "")
    return cause and (_cause(cause, failed) or cause)


def skipped(aspect: str, reason: str) -> Check:
    """A check that makes no sense here."""
    return Check(aspect, ok=True, done="", seen=f"skipped: {reason}", skipped=True)


def _each(bad: t.Mapping[str, str], most: int = 5) -> list[str]:
    """The first troubles and how many more there are."""
    texts = [f"{where}: {text}" for where, text in sorted(bad.items())]
    return texts[:most] + ([f"and {len(texts) - most} more"] if len(texts) > most else [])


def _counted(counts: t.Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in sorted(counts.items()))
