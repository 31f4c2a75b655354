# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the inventory's variables to the spec, or to everything that is wrong with them."""

from __future__ import annotations

import dataclasses
import typing as t

from ....module_utils.core.problems import Problem, SlipwayError
from ..findings import Finding, grouped, names
from . import model, texts
from .definitions import VARIABLES, Scope, Variable, is_internal
from .kinds import Fault, Items, Kind, Parsed, Table, nearest, plain, shown
from .merging import Layer, merge_layers
from .model import CONTROL_PLANE, ETCD, WORKER, ClusterSpec, HostInput, NodeSpec, Setting
from .rules import Draft, judge
from .texts import Taint
from .versions import VersionSets, resolve_version

CONTROL_PLANE_LABEL = "node-role.kubernetes.io/control-plane"
WORKER_LABEL = "node-role.kubernetes.io/worker"
NOT_FOR_LOAD_BALANCERS = "node.kubernetes.io/exclude-from-external-load-balancers"


@dataclasses.dataclass(frozen=True)
class _Host:
    """A host of the cluster whose variables have been parsed; faulty ones stand at their defaults."""

    given: HostInput
    values: t.Mapping[str, t.Any]
    faulty: frozenset[str]
    findings: tuple[Finding, ...]

    @property
    def name(self) -> str:
        return self.given.name

    @property
    def roles(self) -> frozenset[str]:
        groups: model.Groups = self.values["slipway_groups"]
        return frozenset(role for role in map(groups.role, self.given.groups) if role is not None)


def load(hosts: t.Mapping[str, HostInput], sets: VersionSets | None = None) -> ClusterSpec:
    """The spec of the one cluster these hosts are of.

    Hosts outside ``slipway_target`` or without a role are left out. ``sets`` are the known version sets; without
    them the version is only checked for its form and ``versions`` stays empty. Raises SlipwayError with every
    problem found; warnings end up in the spec.
    """
    members = _members(hosts)
    if not members:
        raise SlipwayError(_no_hosts(hosts))
    findings = [finding for host in members for finding in host.findings]
    findings.extend(_differences(members))
    versions = _versions(members[0], sets, findings)
    faulty = frozenset().union(*(host.faulty for host in members))
    draft = Draft(_cluster(members, versions), faulty, _groups_seen(hosts))
    problems = grouped([*findings, *judge(draft)])
    errors = [problem for problem in problems if not problem.warning]
    if errors:
        raise SlipwayError(problems)
    return dataclasses.replace(draft.spec, warnings=tuple(problems))


@dataclasses.dataclass(frozen=True)
class Place:
    """What a host is in the cluster, as far as its groups tell."""

    name: str
    roles: frozenset[str]
    absent: bool


def roles(hosts: t.Mapping[str, HostInput]) -> list[Place]:
    """The hosts of the cluster, by name, also where the spec has problems. Stacked etcd is no role here."""
    return [Place(host.name, host.roles, bool(host.values["slipway_node_absent"])) for host in _members(hosts)]


def explain(spec: ClusterSpec, host: str) -> list[Setting]:
    """Every value that holds for a host and where it came from, the host's own first. Secrets are not shown."""
    return [*spec.nodes[host].settings, *spec.settings]


def _parse(host: HostInput) -> _Host:
    values: dict[str, t.Any] = {}
    findings = [_unknown(name, host.name) for name in sorted(host.variables) if _is_unknown(name)]
    faulty: set[str] = set()
    for variable in VARIABLES.values():
        parsed = parse_variable(variable, host.variables.get(variable.name))
        if parsed.faults:
            faulty.add(variable.name)
            findings.extend(_finding(variable, fault, host.name) for fault in parsed.faults)
            parsed = parse_variable(variable, None)
        values[variable.name] = parsed.value
    return _Host(host, values, frozenset(faulty), tuple(findings))


def parse_variable(variable: Variable, given: t.Any) -> Parsed:
    """A variable's typed value; null or absent means its default."""
    value = variable.default if given is None else given
    return Parsed(None) if value is None else variable.kind.parse(value, variable.name)


def _is_unknown(name: str) -> bool:
    return name.startswith("slipway_") and name not in VARIABLES and not is_internal(name)


def _unknown(name: str, host: str) -> Finding:
    remedy = nearest(name, VARIABLES) or "docs/spec.md lists all variables"
    return Finding("no such variable", "a variable Slipway knows", remedy, host, name)


def _finding(variable: Variable, fault: Fault, host: str) -> Finding:
    found = "is wrong (the value is not shown, it is a secret)" if variable.scope is Scope.SECRET else fault.found
    return Finding(found, fault.expected, fault.remedy, host, fault.path)


def _members(hosts: t.Mapping[str, HostInput]) -> list[_Host]:
    return [host for host in (_parse(hosts[name]) for name in sorted(hosts)) if _is_member(host)]


def _is_member(host: _Host) -> bool:
    target = host.values["slipway_target"]
    return bool(host.roles) and (target is None or target in host.given.groups)


def _no_hosts(hosts: t.Mapping[str, HostInput]) -> Problem:
    group = VARIABLES["slipway_groups"].kind.parse({}, "").value.control_plane
    seen = {group for host in hosts.values() for group in host.groups}
    hint = nearest(group, seen)
    return Problem(
        "inventory",
        f"none of {len(hosts)} host(s) has a role in the cluster",
        f"at least one host in the group {group}",
        f"{hint} Set slipway_groups or rename the group" if hint else "put hosts into the groups that give roles",
    )


def _differences(members: t.Sequence[_Host]) -> t.Iterator[Finding]:
    """Variables that speak of the whole cluster and are not equal on all hosts: one finding each, with two of them."""
    for variable in VARIABLES.values():
        sound = [host for host in members if variable.name not in host.faulty]
        if variable.scope is Scope.NODE or not sound:
            continue
        first = sound[0]
        other = next((host for host in sound if host.values[variable.name] != first.values[variable.name]), None)
        if other is not None:
            with_first = [host.name for host in sound if host.values[variable.name] == first.values[variable.name]]
            with_other = [host.name for host in sound if host.values[variable.name] == other.values[variable.name]]
            yield Finding(
                f"differs between hosts: {_said(variable, first)} on {names(with_first)}, "
                f"{_said(variable, other)} on {names(with_other)}",
                "one value for the whole cluster",
                "set it once, for a group that holds all hosts of the cluster",
                subject=variable.name,
            )


def _said(variable: Variable, host: _Host) -> str:
    if variable.scope is Scope.SECRET:
        return "one value (not shown)"
    given = host.given.variables.get(variable.name)
    return f"the default {shown(variable.default)}" if given is None else shown(given)


def _versions(host: _Host, sets: VersionSets | None, findings: list[Finding]) -> dict[str, str]:
    if sets is None or "slipway_kubernetes_version" in host.faulty:
        return {}
    try:
        return resolve_version(host.values["slipway_kubernetes_version"], sets)
    except SlipwayError as error:
        findings.extend(Finding(each.found, each.expected, each.remedy, subject=each.where) for each in error.problems)
        return {}


def _groups_seen(hosts: t.Mapping[str, HostInput]) -> frozenset[str]:
    return frozenset(group for host in hosts.values() for group in host.groups)


def _cluster(members: t.Sequence[_Host], versions: t.Mapping[str, str]) -> ClusterSpec:
    values = members[0].values
    own = {f"slipway_{f.name}": f.name for f in dataclasses.fields(ClusterSpec)}
    own["slipway_cluster_name"] = "name"
    secrets = ("registry_passwords", "registry_password", "ingress_tls")
    own.update({f"slipway_secret_{name}": name for name in secrets})
    fields = {own[name]: value for name, value in values.items() if name in own}
    fields["ignore_preflight"] = frozenset(fields["ignore_preflight"])
    shape = _Shape(
        separate_etcd=any(ETCD in host.roles for host in members),
        workers=any(WORKER in host.roles for host in members),
    )
    return ClusterSpec(
        **fields,
        versions=versions,
        nodes={host.name: _node(host, shape) for host in members},
        settings=tuple(_settings(members[0], lambda variable: variable.scope is not Scope.NODE)),
        warnings=(),
    )


@dataclasses.dataclass(frozen=True)
class _Shape:
    """What a host's own spec needs to know of the others."""

    separate_etcd: bool
    workers: bool


def _node(host: _Host, shape: _Shape) -> NodeSpec:
    values = host.values
    roles = host.roles if shape.separate_etcd or CONTROL_PLANE not in host.roles else host.roles | {ETCD}
    merged = merge_layers(_layers(host, roles, shape))
    addresses, address_origin = _address(host)
    node_name, name_origin = _node_name(host)
    settings = (
        Setting("roles", ", ".join(sorted(roles)), "inventory groups"),
        Setting("node name", node_name, name_origin),
        Setting("address", ", ".join(map(str, addresses)) or None, address_origin),
        *merged.settings,
        *_settings(host, lambda variable: variable.scope is Scope.NODE and variable.name not in _MERGED),
    )
    return NodeSpec(
        name=host.name,
        roles=roles,
        groups=host.given.groups,
        node_name=node_name,
        addresses=addresses,
        labels=merged.labels,
        taints=merged.taints,
        kubelet=merged.kubelet,
        runtime_handlers=merged.runtime_handlers,
        host=values["slipway_host"],
        docker=values["slipway_docker"],
        absent=values["slipway_node_absent"],
        tasks={
            name.removeprefix("slipway_tasks_"): values[name] for name in VARIABLES if name.startswith("slipway_tasks_")
        },
        settings=settings,
    )


_MERGED = frozenset(
    {"slipway_node_address", "slipway_node_name", "slipway_node_labels", "slipway_node_taints", "slipway_kubelet"}
)


def _layers(host: _Host, roles: frozenset[str], shape: _Shape) -> list[Layer]:
    """What a role gives, then the cluster, then the profiles in their order, then the host's own."""
    values = host.values
    layers = [_role_layer(roles, shape)]
    layers.append(Layer("slipway_containerd", runtime_handlers=values["slipway_containerd"].runtime_handlers))
    for index, profile in enumerate(values["slipway_node_profiles"]):
        matching = sorted(host.given.groups & set(profile.groups))
        if matching:
            layers.append(
                Layer(
                    f"slipway_node_profiles[{index}] (group {', '.join(matching)})",
                    profile.labels,
                    profile.taints,
                    profile.kubelet,
                    profile.runtime_handlers,
                )
            )
    layers.append(Layer(_origin(host, "slipway_node_labels"), labels=values["slipway_node_labels"]))
    layers.append(Layer(_origin(host, "slipway_node_taints"), taints=values["slipway_node_taints"]))
    layers.append(Layer(_origin(host, "slipway_kubelet"), kubelet=values["slipway_kubelet"]))
    return layers


def _role_layer(roles: frozenset[str], shape: _Shape) -> Layer:
    """Labels by role; a control-plane host takes no users' pods unless it is also a worker, or there is no worker."""
    labels: dict[str, str | None] = {}
    taints: tuple[Taint, ...] = ()
    if WORKER in roles:
        labels[WORKER_LABEL] = ""
    if CONTROL_PLANE in roles:
        labels[CONTROL_PLANE_LABEL] = ""
        if WORKER not in roles and shape.workers:
            labels[NOT_FOR_LOAD_BALANCERS] = ""
            taints = (Taint(CONTROL_PLANE_LABEL, "NoSchedule"),)
    return Layer("role", labels, taints)


def _address(host: _Host) -> tuple[tuple[texts.IPAddress, ...], str]:
    own = host.values["slipway_node_address"]
    if own is not None:
        return (own,), _origin(host, "slipway_node_address")
    for origin, text in (("ansible_host", host.given.variables.get("ansible_host")), ("inventory name", host.name)):
        if isinstance(text, str) and texts.valid(texts.address, text):
            return (texts.address(plain(text)),), origin
    return (), "the source of the default route"


def _node_name(host: _Host) -> tuple[str | None, str]:
    own = host.values["slipway_node_name"]
    if own is not None:
        return own, _origin(host, "slipway_node_name")
    if texts.is_node_name(host.name):
        return host.name, "inventory name"
    return None, "the host's own name"


def _origin(host: _Host, variable: str, written: str = "inventory") -> str:
    place = host.given.origins.get(variable, "")
    return f"{variable} ({place})" if place else f"{variable} ({written})"


def _settings(host: _Host, wanted: t.Callable[[Variable], bool]) -> t.Iterator[Setting]:
    for variable in filter(wanted, VARIABLES.values()):
        given = host.given.variables.get(variable.name)
        place = host.given.origins.get(variable.name, "inventory")
        if variable.scope is Scope.SECRET:
            yield Setting(variable.name, "(secret)" if given else None, place if given else "default")
        else:
            yield from _setting(variable.name, variable.kind, variable.default, given, place)


def _setting(name: str, kind: Kind, default: t.Any, given: t.Any, place: str) -> t.Iterator[Setting]:
    """One setting, or one for each sub-key; a sub-key that is not given is a default."""
    if isinstance(kind, Table) and (given is None or isinstance(given, t.Mapping)):
        for field in kind.fields:
            below = (given or {}).get(field.name)
            yield from _setting(f"{name}.{field.name}", field.kind, field.default, below, place)
    elif given is None:
        yield Setting(name, default, "default")
    else:
        yield Setting(name, plain([given] if isinstance(kind, Items) and isinstance(given, str) else given), place)
