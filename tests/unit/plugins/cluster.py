# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A small cluster without machines: what its hosts' probes say, before and after a plan was carried out."""

from __future__ import annotations

import copy
import dataclasses
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core import artifacts, containerd, nodes, pki, places
from ansible_collections.slipway.cluster.plugins.module_utils.core.artifacts import ArtifactsSeen, SeenComponent
from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import PkiSeen, SeenFile
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import SeenPath, SeenState
from ansible_collections.slipway.cluster.plugins.module_utils.core.x509 import CertificateFacts, Names
from ansible_collections.slipway.cluster.plugins.plugin_utils.core import evidence, planner
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.layout import Layout, Node, resolve
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import Artifact, Lock
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.probe import Probe
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec import ClusterSpec, HostInput, load, with_probes
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.targets import paths, registry
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.targets import pki as targets_pki
from tests.unit.plugins.simulate import carry_out, sha256

NOW = 1_790_000_000
DAY = 86400
GIB = 1 << 30
ID = "0123456789abcdef0123456789abcdef"
VERSIONS = {
    "kubernetes": "1.37.0",
    "etcd": "3.7.0",
    "containerd": "2.3.4",
    "runc": "1.4.3",
    "cni-plugins": "1.9.1",
    "crictl": "1.36.0",
    "registry": "3.1.2",
    "flannel": "0.28.10",
    "coredns": "1.14.6",
    "pause": "3.10.2",
    "agnhost": "2.66.1",
}
PROGRAMS = {
    "etcd": ("etcd", "etcdctl", "etcdutl"),
    "containerd": ("containerd", "ctr"),
    "runc": ("runc",),
    "cni-plugins": ("bridge", "portmap"),
    "crictl": ("crictl",),
    "registry": ("registry",),
    "flannel": ("flanneld",),
    **{name: (name,) for name in ("kubectl", "kubelet", "kube-proxy")},
    **{name: (name,) for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler")},
}
SECRETS = {registry.PASSWORD_FILE: "slipway:$2b$10$a-hash"}
SETTINGS = {**places.NETWORK_SYSCTLS, **places.KERNEL_SYSCTLS}


def lock(
    architectures: t.Iterable[str] = ("amd64",), source: str = "bundle", versions: t.Mapping[str, str] = VERSIONS
) -> Lock:
    """A bundle of everything, or with another source a lock whose images have no bytes."""
    entries = []
    for architecture in architectures:
        for name, programs in PROGRAMS.items():
            version = versions.get(name, versions["kubernetes"])
            entries.append(_entry(name, "archive", version, architecture, programs=programs))
        for name in ("coredns", "pause", "agnhost"):
            entry = _entry(
                name, "image", versions[name], architecture,
                reference=f"slipway.local/{name}:{versions[name]}",
                purpose="test" if name == "agnhost" else "node",
            )  # fmt: skip
            entries.append(entry if source == "bundle" else dataclasses.replace(entry, sha256="", size=None))
    return Lock("1.37", source, dict(versions), tuple(entries))


def _entry(name: str, kind: str, version: str, architecture: str, **fields: t.Any) -> Artifact:
    content = f"{name} {version} {architecture}"
    return Artifact(name, kind, version, architecture, sha256(content), f"artifacts/{name}", size=100, **fields)


def address_of(name: str) -> str:
    """cp1 → 10.0.0.11, e2 → 10.0.0.32, w3 → 10.0.0.53, r1 → 10.0.0.71."""
    return f"10.0.0.{ {'cp': 10, 'e': 30, 'w': 50, 'r': 70, 'd': 80}[name.rstrip('0123456789')] + int(name[-1]) }"


def bare(name: str, **changes: t.Any) -> dict[str, t.Any]:
    """What the probe module says of a fit host that has nothing of Slipway's."""
    addresses = [
        {"interface": "lo", "address": "127.0.0.1", "prefix": 8, "mtu": 65536},
        {"interface": "eth0", "address": address_of(name), "prefix": 24, "mtu": 1500},
    ]
    mounts = {path: {"mount": "/", "filesystem": "ext4", "free_bytes": 50 * GIB, "total_bytes": 60 * GIB}
              for path in places.MOUNTS}  # fmt: skip
    data = {
        "hostname": name, "machine_id": f"id-of-{name}", "boot_id": "b", "architecture": "amd64",
        "os": {"id": "debian", "version_id": "13"}, "kernel": "6.12.48", "python": "3.13.5", "systemd": 257,
        "cgroup": 2, "memory_bytes": 4 * GIB, "cpus": 2, "swaps": [], "mounts": mounts, "addresses": addresses,
        "default_route": {"interface": "eth0", "source": address_of(name)}, "time": NOW + 0.5,
        "ntp_synchronized": True, "resolv_conf": "/etc/resolv.conf", "resolvers": ["10.0.0.53"],
        "programs": {program: f"/usr/bin/{program}" for program in places.PACKAGES}, "proxy_environment": {},
        "listening": [], "kernel_modules": True, "cluster": None, "node_name": None, "kubeadm_leftovers": [],
        "authorities": dict.fromkeys(places.AUTHORITIES), "authority_certificates": {}, "registries": [],
        "pki": PkiSeen().to_data(), "artifacts": {}, "artifact_state": ArtifactsSeen().to_data(), "nodes": None,
        "record": None, "etcd_data": False, "etcd": {"data": False, "formed": False, "initial": ""},
        "state": SeenState(paths={"/etc/cni/net.d": SeenPath("directory", "0755", "root", "root")}).to_data(),
        "kernel_state": {
            "programs": sorted(places.PACKAGES), "modules": ["overlay"], "swaps": [], "swap_entries": [],
            "sysctls": {key: "0" for key in SETTINGS if not key.startswith("net.bridge")},
        },
    }  # fmt: skip
    return {**data, **changes}


@dataclasses.dataclass(frozen=True)
class Made:
    """A plan with everything it was made of."""

    spec: ClusterSpec
    layout: Layout
    nodes: t.Mapping[str, Node]
    verdict: evidence.Evidence
    blueprint: planner.Blueprint

    def names(self, host: str) -> list[str]:
        """The names of a host's steps."""
        return [step.change.name for step in self.blueprint.steps[host]]


@dataclasses.dataclass
class Cluster:
    """An inventory with variables, and the probes of its hosts."""

    groups: dict[str, str]
    variables: dict[str, t.Any] = dataclasses.field(default_factory=dict)
    own: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    probes: dict[str, dict[str, t.Any]] = dataclasses.field(default_factory=dict)
    lock: Lock = dataclasses.field(default_factory=lock)

    def inputs(self) -> dict[str, HostInput]:
        """What the inventory says of each host."""
        return {
            name: HostInput(
                name,
                frozenset(f"slipway_{role}" for role in roles.split()),
                {"ansible_host": address_of(name), **self.variables, **self.own.get(name, {})},
            )
            for name, roles in self.groups.items()
        }

    def spec(self) -> ClusterSpec:
        """The spec with what the probes know."""
        return with_probes(load(self.inputs(), {"1.37": VERSIONS}), self.typed())

    def typed(self) -> dict[str, Probe]:
        """The probes as the spec and the evidence want them."""
        return {name: Probe.from_data(data, name) for name, data in self.probes.items()}

    def layout(self) -> tuple[Layout, dict[str, Node]]:
        """The layout and its nodes."""
        spec = self.spec()
        versions = {**spec.versions, **self.lock.versions}
        return resolve(dataclasses.replace(spec, versions=versions), self.typed(), ID)

    def plan(self, outside: t.AbstractSet[str] = frozenset(), *, whole: bool = True) -> Made:
        """The plan of the hosts that answered; those ``outside`` the limit are only looked at."""
        spec, probes = self.spec(), self.typed()
        layout, all_nodes = self.layout()
        seen = {name: planner.observation(data) for name, data in self.probes.items()}
        marks = {name: planner.marks(layout, all_nodes[name], seen[name]) for name in seen}
        verdict = evidence.judge(spec, probes, marks, outside)
        assert verdict.problems == ()
        others = {name: seen.pop(name) for name in outside}
        context = planner.Context(spec, layout, all_nodes, seen, self.lock, verdict, "a2VlcGVy", others, SECRETS)
        blueprint = planner.build(context, whole=whole)
        return Made(spec, layout, all_nodes, verdict, blueprint)

    def carry_out(self, made: Made, *, only: t.Callable[[str, planner.Step], bool] = lambda _host, _step: True) -> None:
        """Change the probes as if the plan, or some of its steps, had been carried out."""
        leader = made.blueprint.leader
        for name, steps in made.blueprint.steps.items():
            host = Host(self.probes[name], made.layout)
            for step in steps:
                if only(name, step):
                    host.carry_out(step, made.layout)
        certificates = self.probes[leader]["authority_certificates"]
        members = [dataclasses.asdict(self._member(name)) for name in sorted(self.probes) if self._formed(name)]
        for data in self.probes.values():
            Host(data, made.layout).settle(made, certificates)
            if data["etcd"]["formed"]:
                data["etcd"]["members"] = members
                data["nodes"] = self.probes[leader]["nodes"]

    def _formed(self, name: str) -> bool:
        return bool(self.probes[name]["etcd"]["formed"])

    def _member(self, name: str) -> Member:
        urls = [f"https://{address_of(name)}:{port}" for port in (2380, 2379)]
        return Member(f"id-of-{name}", name, (urls[0],), (urls[1],), healthy=True)


def one_and_two(**variables: t.Any) -> Cluster:
    """One control-plane host and two workers, bare."""
    groups = {"cp1": "control_plane", "w1": "workers", "w2": "workers"}
    return Cluster(groups, variables, probes={name: bare(name) for name in groups})


def three_and_one(**variables: t.Any) -> Cluster:
    """Three control-plane hosts and a worker, bare."""
    groups = {"cp1": "control_plane", "cp2": "control_plane", "cp3": "control_plane", "w1": "workers"}
    return Cluster(groups, variables, probes={name: bare(name) for name in groups})


class Host:
    """One host's probe, changed step by step as the modules would change the host."""

    def __init__(self, data: dict[str, t.Any], layout: Layout) -> None:
        self.data = data
        self.layout = layout
        self.values = {"bootstrap-token": "a secret of this run", **SECRETS}

    def carry_out(self, step: planner.Step, layout: Layout) -> None:
        """One step of one of the modules."""
        item = step.change.data
        verb = item[0] if isinstance(item, tuple) else ""
        if step.module == "pki" or isinstance(item, pki.Step):
            self._keys(item)
        elif step.module == "artifacts":
            self._artifacts(item)
        elif step.module == "seed":
            self._blob(item, add=True)
        elif isinstance(item, containerd.Image):
            self.data["artifact_state"]["images"][item.reference] = item.sha256
            self.data["artifact_state"]["blobs"].remove(item.sha256)
        elif isinstance(item, nodes.NodeStep):
            self._node(item)
        elif verb in ("packages", "module", "sysctl", "swap"):
            self._kernel(verb, item[1])
        elif verb == "intent":
            self.data["etcd"]["initial"] = item[1]
        elif verb == "formed":
            self.data["etcd"] = {"data": True, "formed": True, "initial": ""}
        elif step.module != "bootstrap_token" and verb not in ("add", "promote", "remove"):
            self._state(step.change)

    def settle(self, made: Made, certificates: t.Mapping[str, str]) -> None:
        """What the components do by themselves, once they run, and what the probe makes of it all."""
        state = SeenState.from_data(self.data["state"])
        found = dict(state.paths)
        if state.units.get("kubelet.service") and paths.CA in found and made.layout.name:
            found[paths.KUBELET_CONF] = SeenPath("file", "0600", "root", "root", "x")
            found[paths.KUBELET_CERTIFICATE] = SeenPath("link", target="x.pem")
        self.data["state"] = SeenState(state.users, found, state.units).to_data()
        keys = PkiSeen.from_data(self.data["pki"])
        if registry.UNIT in state.units and registry.CERTIFICATE in keys.files:
            found[registry.SERVING] = SeenPath("file", sha256=keys.files[registry.CERTIFICATE].digest)
            self.data["state"] = SeenState(state.users, found, state.units).to_data()
        for name, path in places.AUTHORITIES.items():
            file = keys.files.get(path)
            self.data["authorities"][name] = file.certificate.fingerprint if file and file.certificate else None
        if places.CLUSTER in found:
            self.data["cluster"] = {"name": made.layout.name, "id": made.layout.id}
        if paths.CA in found and "kubernetes" in certificates and not self.data["authorities"]["kubernetes"]:
            self.data["authorities"]["kubernetes"] = "fingerprint of kubernetes"
            self.data["authority_certificates"]["kubernetes"] = certificates["kubernetes"]

    def _state(self, change: Change) -> None:
        values = {**self.values, "kubernetes-ca": "PEM of kubernetes\n"}
        self.data["state"] = carry_out([change], SeenState.from_data(self.data["state"]), values).to_data()

    def _kernel(self, verb: str, value: t.Any) -> None:
        kernel = self.data["kernel_state"]
        if verb == "packages":
            kernel["programs"] = sorted(places.PACKAGES)
        elif verb == "module":
            kernel["modules"].append(value)
        elif verb == "sysctl":
            kernel["sysctls"][value[0]] = value[1]
        else:
            kernel["swaps"] = kernel["swap_entries"] = []

    def _blob(self, artifact: artifacts.Artifact | None, *, add: bool) -> None:
        blobs = set(self.data["artifact_state"]["blobs"])
        if artifact:
            blobs = blobs | {artifact.sha256} if add else blobs - {artifact.sha256}
        self.data["artifact_state"]["blobs"] = sorted(blobs)

    def _artifacts(self, item: tuple[t.Any, ...]) -> None:
        seen = ArtifactsSeen.from_data(self.data["artifact_state"])
        components, links = dict(seen.components), dict(seen.links)
        if item[0] == artifacts.LINK:
            links[item[1]] = item[2]
        elif item[0] in (artifacts.UNPACK, artifacts.ACTIVATE):
            own = components.get(item[1].name, SeenComponent())
            stamps = {**own.stamps, item[1].version: item[1].sha256}
            current = item[1].version if item[0] == artifacts.ACTIVATE else own.current
            components[item[1].name] = SeenComponent(current, stamps)
            self._programs(item[0], item[1])
        self.data["artifact_state"] = dataclasses.replace(seen, components=components, links=links).to_data()
        if item[0] in (artifacts.FETCH, artifacts.UNPACK):
            self._blob(item[1], add=item[0] == artifacts.FETCH)

    def _programs(self, verb: str, artifact: artifacts.Artifact) -> None:
        for unit in self.data["state"]["units"].values():
            if not unit["program"].startswith(f"{artifacts.ROOT}/{artifact.name}/"):
                continue
            if verb == artifacts.ACTIVATE:
                unit["starts"] = unit["program"].replace("/current/", f"/{artifact.version}/")
            elif unit["runs"].startswith(artifact.directory):
                unit["runs"] += " (deleted)"

    def _keys(self, step: pki.Step) -> None:
        files = dict(PkiSeen.from_data(self.data["pki"]).files)
        item = step.item
        if step.verb == "copy":
            files[item.path] = dataclasses.replace(
                files[item.source], owner=item.owner, group=item.group, mode=item.mode
            )
        elif step.verb == "request":
            return
        elif step.verb == "issue":
            issuers = [
                file.certificate
                for file in files.values()
                if file.certificate and file.certificate.subject_id == item.authority
            ]
            # On a host without an authority, another host signs.
            issuer = issuers[0] if issuers else _authority(targets_pki.AUTHORITIES[item.authority])
            files |= _pair(item.key, item.certificate, _leaf(item, issuer), item.owner)
        elif step.verb == "receiver":
            files |= _pair(item.key, item.certificate, _authority(pki.Authority("receiver", "", "")), "root")
        elif isinstance(item, pki.Authority):
            files |= _pair(item.key, item.certificate, _authority(item), "root")
            self.data["authority_certificates"][item.name] = f"PEM of {item.name}\n"
        elif isinstance(item, pki.KeyPair):
            files[item.private] = SeenFile("private-key", "root", "root", "0600", "sa", "public sa")
            files[item.public] = SeenFile("public-key", "root", "root", "0644", "sap", "public sa")
        else:
            files[item.path] = SeenFile("other", "root", "root", "0600", "encryption")
        self.data["pki"] = PkiSeen(files).to_data()
        state = SeenState.from_data(self.data["state"])
        found = {
            **state.paths,
            **{path: SeenPath("file", file.mode, file.owner, file.group, file.digest) for path, file in files.items()},
        }
        self.data["state"] = SeenState(state.users, found, state.units).to_data()

    def _node(self, step: nodes.NodeStep) -> None:
        seen = nodes.NodesSeen.from_data(self.data["nodes"] or {})
        node = seen.nodes.get(step.want.name, _node_seen(step.want.name))
        if step.kind == "label":
            node = dataclasses.replace(node, labels=dict(step.want.labels), managed_labels=tuple(step.want.labels))
        else:
            managed = tuple(taint.identity for taint in step.want.taints)
            node = dataclasses.replace(node, taints=step.want.taints, managed_taints=managed)
        self.data["nodes"] = nodes.NodesSeen(True, {**seen.nodes, node.name: node}).to_data()


def _node_seen(name: str) -> nodes.NodeSeen:
    return nodes.NodeSeen(name, ready=True, addresses=(address_of(name),))


def _pair(key: str, certificate: str, facts: CertificateFacts, owner: str) -> dict[str, SeenFile]:
    public = facts.public_key
    return {
        key: SeenFile("private-key", owner, owner, "0600", f"digest of {public}", public),
        certificate: SeenFile("certificate", owner, owner, "0644", facts.fingerprint, public, facts),
    }


def _authority(item: pki.Authority) -> CertificateFacts:
    return CertificateFacts(
        Names(item.subject), (), True, item.name, item.name, f"id of {item.name}", "", NOW, NOW + item.days * DAY,
        "1", f"fingerprint of {item.name}", f"public {item.name}",
    )  # fmt: skip


def _leaf(item: pki.Certificate, issuer: CertificateFacts) -> CertificateFacts:
    return CertificateFacts(
        Names(item.common_name, item.organizations, item.dns, item.addresses), item.usages, False, item.name,
        issuer.subject_id, f"id of {item.name}", issuer.key_id, NOW, NOW + item.days * DAY, "2",
        f"fingerprint of {item.name}", f"public {item.name}",
    )  # fmt: skip


def copied(cluster: Cluster) -> Cluster:
    """The same cluster, to be changed without changing the first."""
    return copy.deepcopy(cluster)
