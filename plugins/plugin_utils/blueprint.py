# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what a plan needs on the controller (version sets, lock, keeper) and turns the plan into data for plays."""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import json
import typing as t
import uuid
from pathlib import Path

import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import UNIT as ETCD_UNIT
from ansible_collections.slipway.cluster.plugins.module_utils.core.hold import Held, refusals, silence
from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import ref_of, unpack
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError

from .core import addons, evidence, planner, preflight, reach
from .core.foreign import foreign
from .core.layout import Layout, Node, resolve, unaddressed
from .core.lock import Lock, minor_of, parse_lock_text, parse_version_set
from .core.probe import Probe
from .core.record import newer_release, unrecorded
from .core.spec import (
    CONTROL_PLANE,
    ETCD,
    ClusterSpec,
    HostInput,
    NodeSpec,
    explain,
    load,
    roles,
    with_cluster,
    with_probes,
)
from .core.spec.model import DOCKER
from .core.targets import control_plane, paths, pki, registry
from .core.targets.etcd import client_url, peer_url
from .core.targets.node import ready_waits
from .given_files import missing_tasks, placed, with_authorities
from .manifest_files import Loader, read_manifests
from .passwords import htpasswd
from .release import release
from .zipapp import build_keeper, read_metrics_gate

COLLECTION = Path(__file__).resolve().parents[2]
SETS = COLLECTION / "artifacts" / "sets"


_SETTLED: dict[str, t.Any] = {"key": "slipway_settled", "parents": ["all"]}
# Where nothing is to do but the record of a run that was cut before it could leave one.
_UNRECORDED: dict[str, t.Any] = {"key": "slipway_settled_unrecorded", "parents": ["slipway_changed"]}
# Images without which there is no cluster; agnhost is only for verify, others are those of add-ons.
_IMAGES = ("pause",)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the plan action hands over: the inventory's word on each host, the probes' answers, why some are silent.

    ``asked`` are the hosts of this run; there may be probes of others, which are only looked at. Empty means all.
    ``verb`` is what this run is going to do, empty if it only looks; ``run`` is its identity. ``lenient`` is a run that
    only asks how the cluster is: hosts that nothing could be done on are no reason not to. ``directory`` is the
    inventory's, where relative paths on the controller begin.
    """

    hosts: t.Mapping[str, HostInput]
    probes: t.Mapping[str, t.Mapping[str, t.Any]]
    clocks: t.Mapping[str, t.Mapping[str, float]]
    silent: t.Mapping[str, str]
    asked: t.AbstractSet[str] = frozenset()
    verb: str = ""
    run: str = ""
    lenient: bool = False
    directory: str = ""

    @property
    def applies(self) -> bool:
        """Whether the plan is what is carried out, or shown: what stands in its way is no reason to do nothing else."""
        return self.verb in ("", "apply") and not self.lenient

    def outside(self, spec: ClusterSpec) -> frozenset[str]:
        """The hosts of the cluster that are not of this run."""
        return frozenset(spec.nodes) - self.asked if self.asked else frozenset()


def version_sets(directory: Path = SETS) -> dict[str, dict[str, str]]:
    """Every known version set by Kubernetes minor."""
    found = {}
    for path in sorted(directory.glob("*.yml")):
        version_set = parse_version_set(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))
        found[version_set.name] = dict(version_set.versions)
    return found


def read_lock(spec: ClusterSpec, directory: str = "") -> tuple[Lock, str]:
    """The bundle or lock the spec names; and the directory, if it is a bundle."""
    version = spec.kubernetes_version
    expected = "a bundle's directory, or a lock file"
    remedy = (
        f"make one and name it in slipway_bundle: slipway bundle build --kubernetes {minor_of(version)}, or "
        f"slipway bundle lock --kubernetes {version} --output FILE"
    )
    if not spec.bundle:
        raise SlipwayError(Problem("slipway_bundle", "is not set, so there is nothing to install", expected, remedy))
    place = placed(spec.bundle, directory)
    path = place / "bundle.json" if place.is_dir() else place
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SlipwayError(Problem("slipway_bundle", f"{path}: {error.strerror}", expected, remedy)) from error
    lock = parse_lock_text(text, str(path))
    _check_versions(spec, lock, path)
    return lock, str(place) if lock.source == "bundle" else ""


def _check_versions(spec: ClusterSpec, lock: Lock, path: Path) -> None:
    wanted, found = spec.versions["kubernetes"], lock.versions.get("kubernetes")
    if wanted != found:
        raise SlipwayError(
            Problem(
                "slipway_kubernetes_version",
                f"{wanted} is asked for, and {path} has {found}",
                "the same version in both",
                "build or lock that version, or ask for the one that is there",
            )
        )
    missing = set(_IMAGES) - _names(lock, "image")
    if missing:
        raise SlipwayError(
            Problem(str(path), f"has no image {', '.join(sorted(missing))}", "all images of the set", "build it again")
        )


def _names(lock: Lock, kind: str) -> set[str]:
    return {entry.name for entry in lock.artifacts if entry.kind == kind}


def make(inputs: Inputs, loader: Loader | None = None) -> dict[str, t.Any]:
    """Everything the plays need, as data; SlipwayError with all problems. ``loader`` reads files that may be vaults."""
    spec = load(inputs.hosts, version_sets())
    problems: list[Problem] = []
    lock, bundle = _attempt(functools.partial(read_lock, spec, inputs.directory), problems) or (None, "")
    answers = {
        name: _attempt(functools.partial(Probe.from_data, data, name), problems) for name, data in inputs.probes.items()
    }
    probes = {
        name: probe for name, probe in answers.items() if probe and name in spec.nodes and not spec.nodes[name].absent
    }
    spec = with_probes(spec, probes, problems)
    observed = {name: planner.observation(inputs.probes[name]) for name in probes}
    spec = _with_cluster(spec, observed)
    warnings = _preflight(spec, probes, inputs, lock, problems)
    spec, own = _given(spec, inputs, loader, problems)
    warnings += _gaps(spec, probes, inputs, lock, problems)
    versions = {**spec.versions, **(lock.versions if lock else {})}
    layout, nodes = resolve(dataclasses.replace(spec, versions=versions), probes, _cluster_id(probes))
    known = {name: own for name, own in observed.items() if name in nodes}
    marks = {name: planner.marks(layout, nodes[name], known[name]) for name in known}
    outside = inputs.outside(spec)
    verdict = evidence.judge(spec, {name: probes[name] for name in known}, marks, outside)
    problems += [*verdict.problems, *newer_release(_recorded(inputs), release())]
    held = {name: Held.from_data(data.get("hold")) for name, data in inputs.probes.items()}
    (problems if inputs.verb else warnings).extend(refusals(held, inputs.run, warning=not inputs.verb))
    if problems or lock is None:
        raise SlipwayError([*problems, *spec.warnings, *warnings])
    zipapp, gate = (base64.b64encode(content).decode() for content in (build_keeper(), read_metrics_gate()))
    seen = {name: own for name, own in known.items() if name not in outside}
    others = {name: own for name, own in known.items() if name in outside}
    secrets = {registry.PASSWORD_FILE: _htpasswd(spec, layout)} if spec.registries else {}
    context = planner.Context(spec, layout, nodes, seen, lock, verdict, zipapp, others, secrets, gate)
    plan = planner.build(context, whole=inputs.applies)
    leader = known.get(verdict.leader)
    warnings += [dataclasses.replace(problem, warning=True) for problem in plan.refused]
    states = {name: own.state for name, own in known.items()}
    warnings += foreign(spec, layout, verdict.members, leader.nodes if leader else None, states)
    data = _data(spec, layout, nodes, plan, lock, bundle)
    able = _helpers(context, plan.leader)
    data |= {"registry": _registry(layout, context), "members": _members(verdict)}
    data |= {"roster": _roster(context, plan.leader, able), "helpers": able}
    data["seed_params"]["held"] = sorted(seen[plan.seed].artifacts.blobs) if plan.seed else []
    data["gate"] = _gate(context, frozenset(spec.nodes) - outside - frozenset(known))
    data |= {"sealing": _sealing(context, plan), "allowed": planner.allowed_nodes(context, plan.joining)}
    data |= {"holders": _holders(spec, held), "silence": _silence(spec, inputs.verb)}
    recorded = inputs.probes[verdict.leader].get("record") if leader else None
    data["unrecorded"] = bool(leader and leader.nodes) and unrecorded(recorded, data["record"])
    if data["unrecorded"] and not plan.pending:
        data["groups"][verdict.leader] = _UNRECORDED
    data["groups"] = _holding(data["groups"], holds=inputs.verb not in ("", "apply" if not plan.pending else ""))
    data |= _reach(context, probes, outside, inputs.verb, plan.seed)
    data["groups"] = _reaching(data["groups"], data["reach"])
    return data | {
        "manifests": _manifests(scene(spec, layout, nodes, lock, bundle, probes), own),
        "warnings": [problem.as_dict() for problem in (*spec.warnings, *warnings)],
        "notices": [problem.as_dict() for problem in (*_left_out(spec, inputs), *_told_later(context, outside))],
        "explain": {name: [list(map(str, row)) for row in explain(spec, name)] for name in spec.nodes},
    }


def _with_cluster(spec: ClusterSpec, seen: t.Mapping[str, planner.Observation]) -> ClusterSpec:
    """The spec with what all API servers and members of etcd that answered know of hosts that did not."""
    answers = [own.nodes for own in seen.values() if own.nodes]
    members = [member for own in seen.values() for member in own.etcd.members or ()]
    return with_cluster(spec, seen, answers, members)


def _members(verdict: evidence.Evidence) -> list[dict[str, t.Any]]:
    """The members of etcd as the module etcd_member shows them."""
    return [dataclasses.asdict(member) for member in verdict.members]


def _left_out(spec: ClusterSpec, inputs: Inputs) -> list[Problem]:
    """Who of this run's hosts is not maintained because it is down on purpose, as a warning."""
    names = sorted(name for name in frozenset(spec.nodes) - inputs.outside(spec) if spec.nodes[name].absent)
    if inputs.verb != "maintain" or not names:
        return []
    found = "down on purpose (slipway_node_absent), so not contacted and not maintained"
    return [Problem(", ".join(names), found, warning=True)]


def _told_later(context: planner.Context, outside: t.AbstractSet[str]) -> list[Problem]:
    """Who outside ``--limit`` does not learn in this run of a host that gets a new part, as warnings.

    A part is new as long as the host has not got its unit.
    """
    spec, units = context.spec, context.units
    later = [spec.nodes[name] for name in sorted(outside) if not spec.nodes[name].absent]
    asked = [node for node in spec.present if node.name in context.seen]

    def told(unit: str, having: t.Iterable[NodeSpec], learning: t.Iterable[NodeSpec], unknown: str) -> list[Problem]:
        new = ", ".join(node.name for node in having if unit not in units[node.name])
        names = ", ".join(node.name for node in learning)
        found = f"outside --limit, so {unknown.format(new)} yet"
        remedy = "run apply without --limit when it suits"
        return [Problem(names, found, remedy=remedy, warning=True)] if new and names else []

    return [
        *told(
            control_plane.APISERVER_UNIT,
            (node for node in asked if node.control_plane),
            (node for node in later if node.is_node or (node.etcd and spec.metrics.endpoints)),
            f"the proxies {'and metrics gates ' if spec.metrics.endpoints else ''}there do not know {{}}",
        ),
        # Where an API server has a member of etcd beside it, it asks that one alone.
        *told(
            ETCD_UNIT,
            (node for node in asked if node.etcd),
            (node for node in later if node.control_plane and not node.etcd),
            "the API servers there do not know etcd on {}",
        ),
        *told(
            registry.UNIT,
            (node for node in asked if node.registry),
            (node for node in later if node.is_node or DOCKER in node.roles),
            "the registry on {} is not configured there",
        ),
    ]


def _holders(spec: ClusterSpec, held: t.Mapping[str, Held | None]) -> list[dict[str, str]]:
    """The control-plane hosts that answered, on which two runs meet, and the marks of the holds that lie there."""
    return [
        {"host": node.name, "seen": own.hold.mark if own else ""}
        for node, own in ((node, held[node.name]) for node in spec.control_plane if node.name in held)
    ]


def _silence(spec: ClusterSpec, verb: str) -> int:
    """How long the run may leave a host that it holds alone: what it takes until it takes the hold again."""
    # A host that leaves is waited for twice: until its pods are gone, and until its volumes are detached.
    drains = {"maintain": 1, "remove": 2 * len(spec.remove)}.get(verb, 0)
    tasks = verb == "maintain" or (verb == "apply" and any(any(node.tasks.values()) for node in spec.nodes.values()))
    return silence(tasks=tasks, waits=[spec.drain.timeout] * drains)


def _holding(groups: t.Mapping[str, t.Mapping[str, t.Any]], *, holds: bool) -> dict[str, dict[str, t.Any]]:
    """With the group by which plays know that this run holds the cluster, if it does."""
    more = ["slipway_holding"] if holds else []
    return {name: {**own, "parents": [*own["parents"], *more]} for name, own in groups.items()}


def _reach(
    context: planner.Context, probes: t.Mapping[str, Probe], outside: t.AbstractSet[str], verb: str, seed: str
) -> dict[str, dict[str, t.Any]]:
    """What is tried between hosts: by apply where one is new, by who only looks where none is.

    What is in the way between hosts in the cluster is told, and is not for apply to remove.
    """
    if reach.CHECK in context.spec.ignore_preflight:
        return {"reach": {}, "ways": {}}
    hosts = {
        name: reach.Host(
            node=context.nodes[name],
            new=not probes[name].installed and name not in outside,
            kubelet=context.spec.nodes[name].is_node,
            listening=reach.served(probes[name]),
            asked=name not in outside,
            tunnel=reach.tunnel_end(probes[name]),
            forwards=own.kernel.sysctls.get("net.ipv4.ip_forward") == "1",
            seed=name == seed,
        )
        for name, own in context.known.items()
    }
    return {
        "reach": reach.plan_reach(context.layout, hosts, probes) if verb == "apply" else {},
        "ways": {} if verb else reach.plan_ways(context.layout, hosts),
    }


def _reaching(groups: t.Mapping[str, t.Mapping[str, t.Any]], tried: t.Container[str]) -> dict[str, dict[str, t.Any]]:
    """With the group of hosts that try each other; a key belongs to one set of parents."""
    return {
        name: {"key": f"{own['key']}_reaching", "parents": [*own["parents"], "slipway_reaching"]}
        if name in tried
        else dict(own)
        for name, own in groups.items()
    }


def outside(inputs: Inputs) -> list[dict[str, str]]:
    """Control-plane and etcd hosts outside ``--limit``, each with ``name`` and ``role``.

    One of each role has to be looked at, whoever answers first, also where the spec is wrong: a reset needs none.
    """
    places = roles(inputs.hosts)
    control_plane, etcd = ([each for each in places if role in each.roles] for role in (CONTROL_PLANE, ETCD))
    apart = any(CONTROL_PLANE not in each.roles for each in etcd)
    return [
        {"name": each.name, "role": role}
        for role, hosts in ((CONTROL_PLANE, control_plane), (ETCD, etcd if apart else []))
        for each in hosts
        if each.name not in inputs.asked and not each.absent
    ]


def _attempt[T](work: t.Callable[[], T], problems: list[Problem]) -> T | None:
    try:
        return work()
    except SlipwayError as error:
        problems.extend(error.problems)
        return None


def _recorded(inputs: Inputs) -> dict[str, str]:
    """The release that the cluster's record names, by the host that told it."""
    records = {name: data.get("record") or {} for name, data in inputs.probes.items()}
    return {name: str(record["slipway"]) for name, record in records.items() if "slipway" in record}


def _given(
    spec: ClusterSpec, inputs: Inputs, loader: Loader | None, problems: list[Problem]
) -> tuple[ClusterSpec, list[dict[str, t.Any]]]:
    """What the user's own files hold: the spec with the text of CAs, and the objects of ``slipway_manifests``."""
    directory = inputs.directory
    # Your own tasks are a matter of apply.
    problems += missing_tasks(spec, directory) if inputs.applies else []
    spec = _attempt(functools.partial(with_authorities, spec, directory), problems) or spec
    return spec, _attempt(functools.partial(read_manifests, spec.manifests, loader, directory), problems) or []


def _preflight(
    spec: ClusterSpec, probes: t.Mapping[str, Probe], inputs: Inputs, lock: Lock | None, problems: list[Problem]
) -> list[Problem]:
    """What stands in the way goes to ``problems``; returned is what does not."""
    clocks = {name: preflight.Clock(clock["before"], clock["after"]) for name, clock in inputs.clocks.items()}
    architectures = {artifact.architecture for artifact in lock.artifacts} if lock else preflight.ARCHITECTURES
    found = preflight.check(
        spec, probes, silent=inputs.silent, clocks=clocks, architectures=architectures, outside=inputs.outside(spec)
    )
    silent = {node.name for node in spec.present if node.name not in probes}
    # A host that is down does not stop the others; whether they can go on without it is the evidence's question.
    errors = [problem for problem in found if not problem.warning and not _only_silent(problem, silent)]
    if inputs.lenient:
        return [dataclasses.replace(each, warning=True) if each in errors else each for each in found]
    problems += errors
    return [problem for problem in found if problem not in errors]


def _gaps(
    spec: ClusterSpec, probes: t.Mapping[str, Probe], inputs: Inputs, lock: Lock | None, problems: list[Problem]
) -> list[Problem]:
    """What the bundle has not and whose address nobody knows, as ``_preflight`` tells it."""
    lacks = addons.lacks(spec, _names(lock, "image"), _names(lock, "objects"), spec.bundle or "lock") if lock else []
    found = [*lacks, *(dataclasses.replace(each, warning=not inputs.applies) for each in unaddressed(spec, probes))]
    problems += [problem for problem in found if not problem.warning]
    return [problem for problem in found if problem.warning]


def _only_silent(problem: Problem, silent: t.AbstractSet[str]) -> bool:
    return bool(silent) and set(problem.where.split(", ")) <= silent


def _cluster_id(probes: t.Mapping[str, Probe]) -> str:
    known = sorted({probe.cluster.id for probe in probes.values() if probe.cluster})
    return known[0] if known else uuid.uuid4().hex


def _data(
    spec: ClusterSpec, layout: Layout, nodes: t.Mapping[str, Node], plan: planner.Blueprint, lock: Lock, bundle: str
) -> dict[str, t.Any]:
    seed_address = nodes[plan.seed].address if plan.seed else ""
    return {
        "cluster": spec.name,
        "docker": _docker(spec),
        "endpoint": str(spec.endpoint) if spec.endpoint else f"{nodes[plan.leader].address}:{layout.api_port}",
        "leader": plan.leader,
        "seed": plan.seed,
        "seed_params": {
            "bundle": bundle,
            "artifacts": [artifact.to_data() for artifact in plan.seeded],
            "serve": len(plan.hosts) > 1,
            "address": seed_address,
        },
        "joining": list(plan.joining),
        "remade": dict(plan.remade),
        "pending": list(plan.pending),
        # Without a pod network of Slipway's, nodes stay NotReady until the user's comes; that is no failure.
        "wait": 240 if layout.network != "none" else 0,
        "hosts": {name: dict(params) for name, params in plan.hosts.items()},
        "groups": {name: _groups(nodes[name], spec, plan) if name in plan.hosts else _SETTLED for name in spec.nodes},
        "actions": {
            name: [{"phase": step.phase, "module": step.module, "action": step.change.text()} for step in steps]
            for name, steps in plan.steps.items()
        },
        "diff": {
            name: [
                {"before": step.change.before, "after": step.change.after, "name": step.change.name}
                for step in steps
                if not step.change.secret and step.change.before != step.change.after
            ]
            for name, steps in plan.steps.items()
        },
        "nodes": list(plan.nodes),
        "node_names": {name: nodes[name].node_name for name in plan.hosts},
        "record": {"spec": spec.digest(), "versions": dict(layout.versions)},
        "verify": _verify(spec, layout, nodes, lock),
        "kubeconfig": {"days": spec.certificates.kubeconfig_days},
        "drain": dataclasses.asdict(spec.drain),
        "remove": {"hosts": list(spec.remove), "dead": spec.remove_dead, "confirm": spec.remove_confirm or ""},
        "batch": spec.batch,
        "maintain": {
            "tasks": spec.maintain_tasks or "",
            "again": spec.maintain_again,
            "batch": spec.maintain_batch or spec.batch,
            "absent": [name for name, node in sorted(spec.nodes.items()) if node.absent],
        },
    }


def _helpers(context: planner.Context, leader: str) -> dict[str, list[str]]:
    """Who was looked at and may act for others, the best first: one whose API server or etcd member answers.

    Outside --limit as well: none of the run's hosts may have what is needed, such as the programs of etcd.
    """
    spec, known = context.spec, context.known

    def best(names: t.Iterable[str], answering: t.Container[str]) -> list[str]:
        return sorted(names, key=lambda name: (name not in answering, name != leader, name))

    asked = [name for name, own in known.items() if own.etcd.members is not None]
    return {
        "control_plane": best((name for name in known if spec.nodes[name].control_plane), context.serving),
        "etcd": best((name for name in known if spec.nodes[name].etcd), asked),
    }


def _roster(
    context: planner.Context, leader: str, able: t.Mapping[str, t.Sequence[str]]
) -> dict[str, dict[str, t.Any]]:
    """What every host of the inventory is to the cluster, seen or not: its Node and its parts.

    ``helper`` and ``etcd_helper`` act for it in the cluster: others wherever there are any, for it may be going down.
    ``etcd_stops`` is its member of etcd, if that may not go down at the cost of quorum; ``waits`` is what its kubelet
    has to say before it is given back. ``able`` is who may act for others, as ``_helpers`` has them.
    """
    spec = context.spec
    helpers = [name for name in able["control_plane"] if name in context.serving] or [leader]
    members = able["etcd"]
    urls = {member.host: peer_url(member) for member in context.layout.etcd}
    return {
        name: {
            "node": own.known_as,
            "kubelet": own.is_node,
            "control_plane": own.control_plane,
            "etcd": own.etcd,
            "peer_url": urls.get(name, ""),
            "etcd_stops": own.known_as if own.etcd and not spec.accept_quorum_loss else "",
            "helper": next((each for each in helpers if each != name), name),
            "waits": ready_waits(context.layout, own.known_as) if own.is_node else [],
            "etcd_helper": next((each for each in members if each != name), name),
        }
        for name, own in sorted(spec.nodes.items())
    }


def _sealing(context: planner.Context, plan: planner.Blueprint) -> dict[str, t.Any]:
    """Who hands the cluster's keys on, what they are there, and which of them each host gets."""
    holder = context.verdict.holder
    if not plan.receiving or holder not in context.nodes:
        return {"holder": "", "items": {}, "keys": {}}
    keys = pki.pki_want(context.layout, context.nodes[holder], generate=False).to_data()
    wants = {name: pki.pki_want(context.layout, context.nodes[name], generate=False) for name in plan.receiving}
    return {
        "holder": holder,
        "items": {name: [item.name for item in want.shared] for name, want in wants.items()},
        "keys": {part: keys[part] for part in ("authorities", "keypairs", "secrets")},
    }


def _gate(context: planner.Context, silent: t.AbstractSet[str]) -> dict[str, list[str]]:
    """What is well now, and must be before and after each host's turn: a host's own repair is not held up by itself.

    ``silent`` are hosts that were asked and did not answer, or are down on purpose. The API calls a Node Ready for some
    time after its host has gone.
    """
    gone = {context.spec.nodes[name].known_as for name in silent}
    nodes = context.known[context.verdict.leader].nodes if context.verdict.leader in context.known else None
    return {
        "etcd_endpoints": [url for each in context.verdict.members if each.healthy for url in each.client_urls[:1]],
        "etcd_down": [each.text() for each in context.verdict.members if not each.healthy],
        "api_servers": [f"https://{context.nodes[name].address}:{context.layout.api_port}" for name in context.serving],
        "nodes": sorted(each.name for each in nodes.nodes.values() if each.ready and each.name not in gone)
        if nodes
        else [],
    }


def _groups(node: Node, spec: ClusterSpec, plan: planner.Blueprint) -> dict[str, t.Any]:
    """The dynamic groups of a host: which plays have something for it."""
    if not plan.steps[node.host]:
        return _SETTLED
    hooks = sorted(f"slipway_hook_{moment}" for moment, files in spec.nodes[node.host].tasks.items() if files)
    has = {
        "control_plane": node.control_plane,
        "etcd": node.etcd,
        "registry": node.registry,
        "metrics": "metrics" in plan.hosts[node.host],
        "keeper": "keeper" in plan.hosts[node.host],
        "node": spec.nodes[node.host].is_node,
    }
    roles = [role for role in has if has[role]]
    if node.host in plan.rolling:
        # The user's own tasks are part of the turn, but for those of the add-ons.
        hooks = [hook for hook in hooks if hook.endswith("_addons")]
        turns = "control_plane" if node.control_plane or node.etcd else "workers"
        parents = [f"slipway_rolling_{turns}", *hooks]
        return {"key": "_".join(["slipway_rolling_as", *roles, *hooks]), "parents": ["slipway_changing", *parents]}
    keys, member = _key_group(node, plan), _etcd_group(node, plan)
    return {
        "key": "_".join(["slipway_pending_as", *roles, *keys, *member, *hooks]),
        "parents": [
            "slipway_changing",
            "slipway_pending",
            *(f"slipway_pending_{role}" for role in roles),
            *keys,
            *member,
            *hooks,
        ],
    }


def _key_group(node: Node, plan: planner.Blueprint) -> list[str]:
    if node.host in plan.receiving:
        return ["slipway_receiving"]
    return ["slipway_making"] if node.control_plane or node.etcd else []


def _etcd_group(node: Node, plan: planner.Blueprint) -> list[str]:
    if node.host in plan.members:
        return ["slipway_joining_etcd"]
    return ["slipway_forming_etcd"] if node.etcd else []


def scene(
    spec: ClusterSpec,
    layout: Layout,
    nodes: t.Mapping[str, Node],
    lock: Lock,
    bundle: str,
    probes: t.Mapping[str, Probe],
) -> addons.Scene:
    """What add-ons are made from; the bundle's lists of objects are read as far as they are wanted."""
    entries = {entry.name: entry for entry in lock.artifacts}
    wanted = {name for addon in addons.ADDONS if addon.wanted(spec) for name in addon.definitions}
    return addons.Scene(
        spec=spec,
        layout=layout,
        nodes=nodes,
        images={name: entry.reference for name, entry in entries.items() if entry.kind == "image"},
        definitions={
            name: _objects(Path(bundle) / entry.file, entry.sha256) for name, entry in entries.items() if name in wanted
        },
        resolvers=any(probe.resolvers for probe in probes.values()),
    )


def _objects(path: Path, sha256: str) -> list[dict[str, t.Any]]:
    """A list of objects out of the bundle; SlipwayError if it is not the one that was built."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SlipwayError(
            Problem(str(path), f"{error.strerror}", "a whole bundle", "build or copy it again")
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SlipwayError(Problem(str(path), f"altered: sha256 {found}", f"sha256 {sha256}", "build or copy it again"))
    return t.cast("list[dict[str, t.Any]]", json.loads(content))


def _manifests(made_from: addons.Scene, own: t.Sequence[dict[str, t.Any]]) -> dict[str, list[dict[str, t.Any]]]:
    """Who may do what, and the add-ons. The user's ``own`` objects are not in it; none of them may be one of ours."""
    flannel = addons.flannel_objects() if made_from.layout.network == "flannel" else []
    bootstrap = [*addons.bootstrap_objects(), *addons.monitoring_objects(), *flannel]
    sets = addons.manifest_sets(made_from)
    taken = {
        ref_of(item).key for entry in sets for item in (*entry.get("objects", ()), *unpack(entry.get("packed", "")))
    }
    taken |= {ref_of(item).key for item in bootstrap}
    both = [ref_of(item).text() for item in own if ref_of(item).key in taken]
    if both:
        found = f"{', '.join(both)}: Slipway's own"
        raise SlipwayError(
            Problem("slipway_manifests", found, "objects of yours", "leave them out, or switch the add-on off")
        )
    return {"bootstrap": bootstrap, "addons": sets}


def _htpasswd(spec: ClusterSpec, layout: Layout) -> str:
    return htpasswd(spec.registry_password or "", spec.registry.username, layout.id)


def _registry(layout: Layout, context: planner.Context) -> dict[str, t.Any]:
    """What hosts that use the registry must know; the password is put to it where it is used."""
    own, answering = planner.own_registries(context), _answering(context.spec, layout)
    asked = [name for name in own if name in answering]
    return {
        "names": list(registry.names(layout)),
        "answering": list(answering),
        "own": list(own),
        "asked": asked,
        "unasked": "" if asked else _unasked(context.spec),
        "username": layout.registry.username,
        "salt": layout.id,
        "authority": context.values.get("kubernetes-ca", ""),
    }


def _unasked(spec: ClusterSpec) -> str:
    """Why no node is asked for a registry."""
    if not spec.registries:
        return f"the group {spec.groups.registry} has no host"
    if all(node.absent for node in spec.registries):
        return f"every host of the group {spec.groups.registry} is declared absent (slipway_node_absent)"
    return "slipway_containerd.registries says otherwise how nodes reach it"


def _answering(spec: ClusterSpec, layout: Layout) -> tuple[str, ...]:
    """The names of registries on hosts that are not declared down; nobody knows which host another name is for."""
    present = tuple(member for member in layout.registries if not spec.nodes[member.host].absent)
    named = layout.registry if present == layout.registries else dataclasses.replace(layout.registry, names=())
    return registry.names(dataclasses.replace(layout, registries=present, registry=named))


def _docker(spec: ClusterSpec) -> dict[str, t.Any]:
    """What Docker hosts must know of the cluster."""
    return {"avoid": [str(each) for each in (*spec.network.pod_cidrs, *spec.network.service_cidrs)]}


def _verify(spec: ClusterSpec, layout: Layout, nodes: t.Mapping[str, Node], lock: Lock) -> dict[str, t.Any]:
    references = {entry.name: entry.reference for entry in lock.artifacts if entry.kind == "image"}
    present = [node for name, node in sorted(nodes.items()) if not spec.nodes[name].absent]
    absent = [node for name, node in sorted(nodes.items()) if spec.nodes[name].absent]
    kubelets = [node.known_as for node in spec.present if node.is_node]
    return {
        "image": references.get("agnhost", ""),
        "nodes": dict.fromkeys(kubelets, f"v{layout.versions['kubernetes']}"),
        "etcd_absent": [client_url(node.member) for node in absent if node.etcd],
        "absent": [node.known_as for node in spec.members if node.is_node and node.absent],
        "kubeconfig": paths.ADMIN_CONF,
        "domain": layout.domain,
        "etcd_endpoints": [client_url(node.member) for node in present if node.etcd],
        "addons": addons.expectations(spec, {node.host: node.address for node in nodes.values()}),
    }


def report(data: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What a person or a program wants to know of a plan."""
    return {
        "cluster": data["cluster"],
        "pending": bool(data["pending"]),
        "hosts": data["actions"],
        "diff": data["diff"],
        "warnings": data["warnings"],
    }
