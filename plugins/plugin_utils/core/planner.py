# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the spec and what was seen on all hosts to what each host gets, in which order, and what that changes.

Each host's part is a mapping of phase to the parameters of the module that carries it out. The same pure plan
functions that the modules run on the hosts are run here on the probes, so an empty plan is known before any module
ran, and what is announced is what will be done.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.artifacts import (
    ACTIVATE,
    COMMANDS,
    UNPACK,
    Artifact,
    ArtifactsSeen,
    ArtifactsWant,
    missing_blobs,
    plan_artifacts,
    plan_seed,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.containerd import (
    ContainerdWant,
    Credential,
    Image,
    Registry,
    containerd_target,
    plan_images,
    plan_registries,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import (
    PROMOTE,
    EtcdSeen,
    EtcdWant,
    plan_etcd,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.leaf import (
    LeafSeen,
    LeafWant,
    plan_issue,
    plan_request,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import (
    NodesSeen,
    NodeWant,
    node_object,
    parse_nodes,
    plan_nodes,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import (
    Certificate,
    PkiSeen,
    PkiWant,
    plan_pki,
    shared_fingerprints,
    shared_traces,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.preparation import HostSeen, HostWant, plan_host
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member, member_of
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    HostState,
    SeenState,
    SeenUnit,
    plan_state,
    resolve,
)

from . import addons, evidence
from .layout import Layout, Node
from .lock import Artifact as Entry
from .lock import Lock
from .spec import ClusterSpec
from .targets import control_plane, etcd, host, keeper, metrics_gate, network, node, paths, pki, registry
from .targets.node import taint

CONTROL_PLANE_COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE_COMPONENTS = ("kubelet", "kube-proxy", "containerd", "runc", "cni-plugins", "crictl")
GENTLE_UNITS = frozenset({node.PROXY_UNIT, keeper.TIMER_UNIT, keeper.SERVICE_UNIT, metrics_gate.UNIT, registry.UNIT})
"""Units that are restarted without a gate: who talks through the proxy, pulls an image or scrapes tries again."""


@dataclasses.dataclass(frozen=True)
class Observation:
    """What a host's probe saw, as the plan functions want it."""

    kernel: HostSeen
    artifacts: ArtifactsSeen
    pki: PkiSeen
    etcd: EtcdSeen
    nodes: NodesSeen | None
    registries: tuple[str, ...]
    certificates: t.Mapping[str, str]
    time: int

    @property
    def state(self) -> SeenState:
        """Files, directories, links, units and users."""
        return self.kernel.state

    @property
    def joined(self) -> bool:
        """Whether the kubelet has its own client certificate, so that it needs no token."""
        return paths.KUBELET_CONF in self.state.paths and paths.KUBELET_CERTIFICATE in self.state.paths


@dataclasses.dataclass(frozen=True)
class Step:
    """One change on one host: the phase it belongs to, the module that makes it, and the change."""

    phase: str
    module: str
    change: Change


@dataclasses.dataclass(frozen=True)
class Blueprint:
    """The plan of one run: parameters by host and phase, steps by host, and what is done once.

    ``joining`` get a kubelet that has to register, ``receiving`` the cluster's keys from another host, ``members``
    become etcd members of a cluster that lives, ``rolling`` are hosts on which something that runs is restarted,
    ``remade`` has the Nodes that are made again, by host. ``refused`` is why hosts have no part in it, if the plan goes
    on without them.
    """

    leader: str
    seed: str
    hosts: t.Mapping[str, t.Mapping[str, t.Any]]
    steps: t.Mapping[str, tuple[Step, ...]]
    seeded: tuple[Artifact, ...]
    joining: tuple[str, ...]
    nodes: tuple[dict[str, t.Any], ...]
    receiving: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    rolling: tuple[str, ...] = ()
    remade: t.Mapping[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    refused: tuple[Problem, ...] = ()

    @property
    def pending(self) -> tuple[str, ...]:
        """The hosts on which something would change."""
        return tuple(name for name, steps in self.steps.items() if steps)


def observation(data: t.Mapping[str, t.Any]) -> Observation:
    """The probe module's answer as typed data."""
    kernel = data["kernel_state"]
    state = SeenState.from_data(data["state"])
    return Observation(
        kernel=HostSeen(
            state=state,
            programs=frozenset(kernel["programs"]),
            modules=None if kernel["modules"] is None else frozenset(kernel["modules"]),
            sysctls=kernel["sysctls"],
            swaps=tuple(kernel["swaps"]),
            swap_entries=tuple(kernel["swap_entries"]),
        ),
        artifacts=ArtifactsSeen.from_data(data["artifact_state"]),
        pki=PkiSeen.from_data(data["pki"]),
        etcd=_etcd_seen(state, data["etcd"]),
        nodes=NodesSeen.from_data(data["nodes"]) if data["nodes"] else None,
        registries=tuple(data.get("registries", ())),
        certificates=data["authority_certificates"],
        time=int(data["time"]),
    )


def _etcd_seen(state: SeenState, data: t.Mapping[str, t.Any]) -> EtcdSeen:
    listed = data.get("members")
    members = None if listed is None else tuple(member_of(item) for item in listed)
    return EtcdSeen(state, data["data"], data["formed"], data["initial"], members)


def marks(layout: Layout, node_: Node, seen: Observation) -> evidence.Marks:
    """What the observation tells of the host's past."""
    want = pki.pki_want(layout, node_, generate=False)
    shared = shared_fingerprints(want, seen.pki)
    return evidence.Marks(
        traces=frozenset(shared_traces(want, seen.pki)),
        shared=shared,
        complete=len(shared) == len(want.shared),
        etcd_formed=seen.etcd.formed,
        etcd_intent=bool(seen.etcd.initial),
        members=seen.etcd.members,
        api_answers=seen.nodes is not None,
    )


@dataclasses.dataclass(frozen=True)
class Context:
    """Everything the parts of one plan look at.

    ``seen`` has the hosts that are planned, ``others`` those that were only looked at, because they lie outside
    ``--limit``; ``zipapp`` is the keeper, ``gate`` the metrics gate, both in base64.
    """

    spec: ClusterSpec
    layout: Layout
    nodes: t.Mapping[str, Node]
    seen: t.Mapping[str, Observation]
    lock: Lock
    verdict: evidence.Evidence
    zipapp: str
    others: t.Mapping[str, Observation] = dataclasses.field(default_factory=dict)
    secrets: t.Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    gate: str = ""

    @property
    def known(self) -> dict[str, Observation]:
        """Every host that was looked at."""
        return {**self.others, **self.seen}

    @property
    def units(self) -> dict[str, t.Mapping[str, SeenUnit]]:
        """The units of every host that was looked at."""
        return {name: own.state.units for name, own in self.known.items()}

    @property
    def serving(self) -> tuple[str, ...]:
        """The hosts whose API servers answer, by name."""
        return tuple(name for name, own in sorted(self.known.items()) if own.nodes is not None)

    @property
    def values(self) -> dict[str, str]:
        """What placeholders stand for, as far as it is known before anything is made."""
        leader = self.known.get(self.verdict.leader)
        certificate = leader.certificates.get("kubernetes") if leader else None
        return {"kubernetes-ca": certificate} if certificate else {}


def build(context: Context, *, whole: bool = True) -> Blueprint:
    """The blueprint for the hosts that were seen; SlipwayError with the problems of all of them.

    If it need not be the ``whole`` plan, because nothing of it will be carried out, hosts with problems are left out.
    """
    seen, nodes = context.seen, context.nodes
    wanted, problems = _each(sorted(seen), lambda name: artifacts_want(context, nodes[name]))
    seed, seeded = _choose_seed(context, wanted)

    def planned(name: str) -> tuple[dict[str, t.Any], tuple[Step, ...]]:
        own = dataclasses.replace(wanted[name], seeded=name == seed)
        return _plan_host(context, nodes[name], seen[name], own)

    plans, more = _each(sorted(wanted), planned)
    if whole and (problems or more):
        raise SlipwayError([*problems, *more])
    hosts = {name: params for name, (params, _steps) in plans.items()}
    steps = {name: own for name, (_params, own) in plans.items()}
    # Of hosts that could be planned: another one's lost Node is its problem.
    remade = {name: lost for name in plans if (lost := forgotten(context, name).node)}
    joining = tuple(name for name in sorted(seen) if not seen[name].joined and _runs_kubelet(context, name))
    node_params = _node_params(context)
    rolling = tuple(name for name in sorted(steps) if _is_rolling(seen[name], steps[name]))
    hosts |= {name: _until_ready(context, name, hosts[name]) for name in rolling}
    _add_once(context, steps, _Once(seed, seeded, joining, node_params, remade))
    return Blueprint(
        context.verdict.leader,
        seed,
        hosts,
        steps,
        seeded,
        joining,
        node_params,
        receiving=tuple(name for name in sorted(seen) if name in context.verdict.receiving),
        members=tuple(name for name in sorted(steps) if _becomes_member(steps[name])),
        rolling=rolling,
        remade=remade,
        refused=(*problems, *more),
    )


def _is_rolling(seen: Observation, steps: t.Iterable[Step]) -> bool:
    """Whether a unit that runs on a host of the cluster is restarted: such hosts take turns.

    What is started anew for a Node that is lost disturbs nobody.
    """
    disturbed = {
        step.change.data[1].name
        for step in steps
        if isinstance(step.change.data, tuple) and step.change.data[0] in ("restart", "stop")
        if not step.change.data[1].anew
    }
    return (seen.joined or seen.etcd.formed) and bool(disturbed - GENTLE_UNITS)


def _until_ready(context: Context, name: str, params: dict[str, t.Any]) -> dict[str, t.Any]:
    """The parameters of a host whose turn ends when its Node is Ready again, if it is now."""
    own, leader = context.nodes[name], context.known.get(context.verdict.leader)
    seen = leader.nodes.nodes.get(own.node_name) if leader and leader.nodes else None
    if "network" not in params or seen is None or not seen.ready:
        return params
    network = params["network"]
    return {
        **params,
        "network": {**network, "wait": [*network["wait"], *node.ready_waits(context.layout, own.node_name)]},
    }


def _becomes_member(steps: t.Iterable[Step]) -> bool:
    """Whether the host joins an etcd cluster that lives, or is promoted there: one host at a time."""
    return any(step.phase == "etcd" and step.change.name == PROMOTE for step in steps)


def _each[T](hosts: t.Iterable[str], work: t.Callable[[str], T]) -> tuple[dict[str, T], list[Problem]]:
    """What ``work`` gives for each host, and the problems of those it fails for, each with its host's name."""
    results: dict[str, T] = {}
    problems: list[Problem] = []
    for name in hosts:
        try:
            results[name] = work(name)
        except SlipwayError as error:
            problems += [dataclasses.replace(problem, where=f"{name}: {problem.where}") for problem in error.problems]
    return results, problems


def _runs_kubelet(context: Context, name: str) -> bool:
    return context.spec.nodes[name].is_node


def _plan_host(
    context: Context, own: Node, seen: Observation, artifacts: ArtifactsWant
) -> tuple[dict[str, t.Any], tuple[Step, ...]]:
    """Parameters and steps of one host, phase by phase in the order of the playbook."""
    params: dict[str, t.Any] = {}
    steps: list[Step] = []

    def add(phase: str, module: str, values: t.Any, changes: t.Iterable[Change]) -> None:
        params[phase] = values
        steps.extend(Step(phase, module, change) for change in changes)

    def component(phase: str, target: HostState, waits: list[dict[str, t.Any]]) -> None:
        changes = plan_state(resolve(target, context.values), seen.state)
        add(phase, "component", {"state": target.to_data(), "values": context.values, "wait": waits}, changes)

    prepared: HostWant = host.host_want(context.layout, own)
    add("host", "host", prepared.to_data(), plan_host(prepared, seen.kernel))
    brought = plan_artifacts(artifacts, seen.artifacts)
    add("artifacts", "artifacts", artifacts.to_data(), brought)
    seen = with_programs(seen, brought)
    is_node = _runs_kubelet(context, own.host)
    if is_node:
        runtime = containerd_want(context, own)
        changes = plan_registries(runtime, seen.registries)
        changes += plan_state(containerd_target(runtime), seen.state)
        changes += plan_images(runtime.images, seen.artifacts.images)
        # Passwords stay out of the plan, which is a fact that can be shown.
        users = {item.host: item.username for item in runtime.credentials}
        add("containerd", "containerd", {**runtime.to_data(), "credentials": users}, changes)
    if own.control_plane or own.etcd:
        keys = keys_want(context, own)
        add("pki", "pki", {**keys.to_data(), "receive": False}, plan_pki(keys, seen.pki, now=seen.time))
    if own.etcd:
        member = etcd_want(context, own)
        add("etcd", "etcd_member", _etcd_params(member), plan_etcd(member, seen.etcd))
    if own.etcd and not own.control_plane:
        component("keeper", keeper_target(context, own), [])
    if own.control_plane:
        target = control_plane.control_plane_target(context.layout, own) + keeper_target(context, own)
        component("control_plane", target, control_plane.waits(context.layout, own))
    for phase, values, own_steps in _plan_services(context, own, seen):
        params[phase] = values
        steps += own_steps
    if is_node:
        again = forgotten(context, own.host)
        target = node.proxy_target(context.layout, own)
        target += node.kubelet_target(context.layout, own, joined=seen.joined, anew=again.kubelet)
        component("node", target, node.kubelet_waits())
        target = network.network_target(context.layout, own, anew=again.flannel)
        target += metrics_gate.metrics_gate_target(context.layout, own, program=context.gate)
        component("network", target, network.network_waits(context.layout))
    return params, tuple(steps)


def _plan_services(
    context: Context, own: Node, seen: Observation
) -> t.Iterator[tuple[str, dict[str, t.Any], list[Step]]]:
    """What some hosts run beside their part in the cluster, each by its phase."""
    if own.registry:
        yield ("registry", *_plan_registry(context, own, seen))
    if metrics_gate.wants_own_gate(context.layout, own):
        yield ("metrics", *_plan_own_gate(context, own, seen))


def with_programs(seen: Observation, brought: t.Iterable[Change]) -> Observation:
    """The observation with what its units start, and still run, once artefacts are brought by ``plan_artifacts``."""
    units = dict(seen.state.units)
    for change in brought:
        verb, artifact = change.data[:2]
        if verb not in (UNPACK, ACTIVATE):
            continue
        for name, unit in units.items():
            component, _current, program = ["", "", *unit.program.split("/")][-3:]
            if component != artifact.name:
                continue
            if verb == ACTIVATE:
                units[name] = dataclasses.replace(unit, starts=f"{artifact.directory}/{program}")
            elif unit.runs.startswith(f"{artifact.directory}/"):
                units[name] = dataclasses.replace(unit, runs=f"{unit.runs} (deleted)")
    state = dataclasses.replace(seen.state, units=units)
    return dataclasses.replace(
        seen,
        kernel=dataclasses.replace(seen.kernel, state=state),
        etcd=dataclasses.replace(seen.etcd, state=state),
    )


@dataclasses.dataclass(frozen=True)
class Forgotten:
    """What a host that has joined does again because somebody deleted its Node while its programs ran.

    ``kubelet`` and ``flannel`` say why these are started anew, empty if they are not: each leaves what it has to say in
    the Node when it starts, and never again. ``node`` is the Node as it is made before that, so that the pods keep
    their network; None if there is one, or the host has no network to keep.
    """

    kubelet: str = ""
    flannel: str = ""
    node: dict[str, t.Any] | None = None


def forgotten(context: Context, name: str) -> Forgotten:
    """What the host has to do again; SlipwayError if another Node has its pods' network meanwhile."""
    leader, seen, own = context.known.get(context.verdict.leader), context.seen[name], context.nodes[name]
    if not (leader and leader.nodes and leader.nodes.known and seen.joined and _runs_kubelet(context, name)):
        return Forgotten()
    found = leader.nodes.nodes.get(own.node_name)
    if found:
        why = "since before its Node was made"
        return Forgotten("" if found.registered else why, "" if found.routed else why)
    cidr = network.pod_cidr(context.layout, seen.state)
    others = [each.name for each in leader.nodes.nodes.values() if cidr in each.pod_cidrs]
    if others:
        raise SlipwayError(
            Problem(
                f"node {own.node_name}",
                f"is gone, and {others[0]} has {cidr} now, of which this host gives its pods addresses",
                "a network of its own",
                f"take the host out and in again: slipway remove {name}, then slipway apply",
            )
        )
    made = node_object(own.node_name, cidr, [taint(text) for text in own.taints]) if cidr else None
    return Forgotten(why := "for a Node that is gone", why, made)


def keys_want(context: Context, own: Node) -> PkiWant:
    """The host's keys: made here, or got from the host that has them, and the same as there in any case."""
    want = pki.pki_want(context.layout, own, generate=own.host == context.verdict.generator)
    receives = own.host in context.verdict.receiving
    names = {item.name for item in want.shared}
    expected = {name: found for name, found in context.verdict.shared.items() if name in names}
    return dataclasses.replace(want, awaits=receives, receive=receives, expected=expected)


def _plan_registry(context: Context, own: Node, seen: Observation) -> tuple[dict[str, t.Any], list[Step]]:
    """The registry's certificate and the registry; the user's line stays out of the plan."""
    leaf = _leaf_want(
        context, registry.registry_certificate(context.layout, own), registry.UNIT, serving=registry.SERVING
    )
    target = registry.registry_target(context.layout)
    return _plan_signed(context, "registry", leaf, target, seen, registry.registry_waits(context.layout))


def _plan_own_gate(context: Context, own: Node, seen: Observation) -> tuple[dict[str, t.Any], list[Step]]:
    """The metrics gate of a host for etcd alone, and its certificate, which it reads anew every day in any case."""
    leaf = _leaf_want(context, metrics_gate.own_gate_certificate(context.layout, own), metrics_gate.UNIT)
    target = metrics_gate.own_gate_target(context.layout, own, program=context.gate)
    return _plan_signed(context, "metrics", leaf, target, seen, [])


def _leaf_want(context: Context, certificate: Certificate, unit: str, serving: str = "") -> LeafWant:
    leader = context.known.get(context.verdict.leader)
    authority = leader.pki.files.get(paths.CA) if leader else None
    return LeafWant(
        certificate,
        issuer=authority.certificate if authority else None,
        renew_fraction=min(context.layout.renew_before_days / context.layout.certificate_days, 1.0),
        unit=unit,
        serving=serving,
    )


def _plan_signed(
    context: Context,
    phase: str,
    want: LeafWant,
    target: HostState,
    seen: Observation,
    waits: list[dict[str, t.Any]],
) -> tuple[dict[str, t.Any], list[Step]]:
    """A certificate that is signed on the leader, and the unit that shows it."""
    found = LeafSeen(seen.pki, seen.time, seen.state.units.get(want.unit), seen.state.paths.get(want.serving))
    changes = plan_state(resolve(target, {**context.values, **context.secrets}), seen.state)
    leaf_changes = (*plan_request(want, found), *plan_issue(want, found))
    steps = [Step(phase, "certificate", change) for change in leaf_changes]
    steps += [Step(phase, "component", change) for change in changes]
    values = {"certificate": want.to_data(), "state": target.to_data(), "values": context.values, "wait": waits}
    return values, steps


def keeper_target(context: Context, own: Node) -> HostState:
    """The keeper with the certificates of this host and, on one with an API server to ask, the names of all nodes."""
    want = pki.pki_want(context.layout, own, generate=False)
    kubelets = [
        other for name, other in sorted(context.nodes.items()) if own.control_plane and _runs_kubelet(context, name)
    ]
    return keeper.keeper_target(zipapp=context.zipapp, nodes=kubelets, certificates=want.to_data())


def artifacts_want(context: Context, own: Node) -> ArtifactsWant:
    """What the host must have by role; SlipwayError if the lock has nothing for its architecture."""
    names: list[str] = []
    if own.etcd:
        names.append("etcd")
    if own.control_plane:
        names += CONTROL_PLANE_COMPONENTS
    if own.registry:
        names.append(registry.COMPONENT)
    images = False
    if _runs_kubelet(context, own.host):
        names += [*NODE_COMPONENTS, *(["flannel"] if context.layout.network == "flannel" else [])]
        images = True
    entries = {entry.name: entry for entry in context.lock.artifacts if entry.architecture == own.architecture}
    missing = [name for name in names if name not in entries]
    if missing:
        raise SlipwayError(
            Problem(
                "artefacts",
                f"the bundle has no {', '.join(missing)} for {own.architecture}",
                "every component of the version set",
                "build or lock it for this architecture",
            )
        )
    chosen = [entries[name] for name in dict.fromkeys(names)]
    if images:
        # An image without bytes of its own is pulled by the runtime.
        chosen += [entry for entry in _images(context, own) if entry.sha256]
    artifacts = tuple(Artifact.from_data(entry.as_dict()) for entry in chosen)
    programs = {program for artifact in artifacts for program in artifact.programs}
    return ArtifactsWant(artifacts, {path: name for path, name in COMMANDS.items() if name in programs})


def _images(context: Context, own: Node) -> list[Entry]:
    """The images that this node may have to run."""
    names = addons.images_for(context.spec, context.spec.nodes[own.host])
    return [
        entry
        for entry in context.lock.artifacts
        if (entry.kind, entry.purpose, entry.architecture) == ("image", "node", own.architecture)
        and entry.name in names
    ]


def containerd_want(context: Context, own: Node) -> ContainerdWant:
    """The runtime of this host."""
    settings = context.spec.containerd
    entries = {entry.name: entry for entry in context.lock.artifacts if entry.architecture == own.architecture}
    passwords = context.spec.registry_passwords
    return ContainerdWant(
        version=f"{context.layout.versions['containerd']} {context.layout.versions['runc']}",
        sandbox_image=entries["pause"].reference if "pause" in entries else "",
        restrict_oom_score_adj=settings.restrict_oom_score_adj,
        runtime_handlers={**settings.runtime_handlers, **own.runtime_handlers},
        registries=(
            *(
                Registry(item.host, mirrors=item.mirrors, ca=item.ca or "", skip_verify=item.skip_verify)
                for item in settings.registries
            ),
            *(Registry(name, ca=paths.CA) for name in own_registries(context)),
        ),
        credentials=(
            *(
                Credential(item.host, item.username or "", passwords[item.host])
                for item in settings.registries
                if item.host in passwords
            ),
            *(
                Credential(name, context.layout.registry.username, context.spec.registry_password or "")
                for name in own_registries(context)
            ),
        ),
        images=tuple(Image(entry.reference, entry.sha256) for entry in _images(context, own) if entry.sha256),
        cni_template=network.CNI_TEMPLATE if context.layout.network == "flannel" else "",
    )


def own_registries(context: Context) -> tuple[str, ...]:
    """Names of the cluster's own registry that the user has not configured otherwise.

    Its CA is a path, because on a new cluster there is none yet when containerd starts; it is read for each pull.
    """
    given = {item.host for item in context.spec.containerd.registries}
    return tuple(name for name in registry.names(context.layout) if name not in given)


def etcd_want(context: Context, own: Node) -> EtcdWant:
    """This host's member; its token is the cluster's id."""
    members = context.verdict.members
    peer_url = etcd.peer_url(own.member)
    return EtcdWant(
        state=etcd.etcd_target(context.layout, own),
        name=own.node_name,
        cluster={member.node_name: etcd.peer_url(member) for member in context.layout.etcd},
        token=context.layout.id,
        bootstrap=context.verdict.bootstrap,
        endpoints=_endpoints(members, peer_url),
        members=members,
        accept_quorum_loss=context.spec.accept_quorum_loss,
    )


def _endpoints(members: t.Sequence[Member], peer_url: str) -> tuple[str, ...]:
    """Client URLs of the healthy members other than this one."""
    others = [each for each in members if each.healthy and not each.learner and peer_url not in each.peer_urls]
    return tuple(url for each in others for url in each.client_urls[:1])


def _etcd_params(want: EtcdWant) -> dict[str, t.Any]:
    return {
        "state": want.state.to_data(),
        "name": want.name,
        "cluster": dict(want.cluster),
        "token": want.token,
        "bootstrap": want.bootstrap,
        "endpoints": list(want.endpoints),
        # The health of members changes all the time, and only a host that cannot ask needs to be told.
        "members": [dataclasses.asdict(member) for member in want.members],
        "accept_quorum_loss": want.accept_quorum_loss,
    }


def _choose_seed(context: Context, wanted: t.Mapping[str, ArtifactsWant]) -> tuple[str, tuple[Artifact, ...]]:
    """The host that gets the bundle's bytes from the controller, and which: what any host lacks.

    It is the leader; where that is not planned, the host that must be given least.
    """
    if context.lock.source != "bundle":
        return "", ()
    lacking = {name: missing_blobs(want, context.seen[name].artifacts) for name, want in wanted.items()}
    needed = tuple({entry.sha256: entry for entries in lacking.values() for entry in entries}.values())
    if not needed:
        return "", ()
    held = {name: context.seen[name].artifacts.blobs for name in wanted}

    def bytes_to_send(name: str) -> int:
        return sum(entry.size for entry in needed if entry.sha256 not in held[name])

    seed = min(sorted(wanted), key=lambda name: (name != context.verdict.leader, bytes_to_send(name)))
    return seed, needed


def _node_params(context: Context) -> tuple[dict[str, t.Any], ...]:
    """Labels and taints of the nodes among the probed hosts, as the node module takes them."""
    return tuple(
        {"name": own.node_name, "labels": dict(own.labels), "taints": [taint(text) for text in own.taints]}
        for name, own in sorted(context.nodes.items())
        if name in context.seen and _runs_kubelet(context, name)
    )


def allowed_nodes(context: Context, joining: t.Iterable[str]) -> dict[str, list[str]]:
    """Whom a leader outside the limit has to be told of; a leader in the plan has them all in its own list."""
    if context.verdict.leader not in context.others:
        return {}
    return {own.node_name: keeper.names_of(own) for own in (context.nodes[name] for name in joining)}


@dataclasses.dataclass(frozen=True)
class _Once:
    """What is done once, as in the blueprint: what the seed is given, and what the leader does for others."""

    seed: str
    seeded: tuple[Artifact, ...]
    joining: tuple[str, ...]
    nodes: tuple[dict[str, t.Any], ...]
    remade: t.Mapping[str, t.Mapping[str, t.Any]]


def _add_once(context: Context, steps: dict[str, tuple[Step, ...]], work: _Once) -> None:
    """Append what is done once, on one host, to that host's steps."""
    if work.seed:
        others = [name for name in context.seen if name != work.seed]
        held = context.seen[work.seed].artifacts.blobs
        changes = plan_seed(work.seeded, held, serve=bool(others))
        steps[work.seed] = (*(Step("seed", "seed", change) for change in changes), *steps.get(work.seed, ()))
    leader = context.verdict.leader
    if leader not in context.known:
        return
    once: list[Step] = []
    if work.joining:
        once.append(Step("node", "bootstrap_token", Change("create bootstrap token")))
        allowed = [f"allow a serving certificate for {name}" for name in sorted(allowed_nodes(context, work.joining))]
        once += [Step("node", "bootstrap_token", Change(name)) for name in allowed]
    names = sorted(each["metadata"]["name"] for each in work.remade.values())
    once += [Step("node", "bootstrap_token", Change(f"create node {name}")) for name in names]
    wants: tuple[NodeWant, ...] = parse_nodes(work.nodes)
    seen = context.known[leader].nodes or NodesSeen()
    once += [Step("addons", "node", change) for change in plan_nodes(wants, seen)]
    if once:
        steps[leader] = (*steps.get(leader, ()), *once)
