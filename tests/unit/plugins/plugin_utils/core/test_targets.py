# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the targets of all roles promise together, and the important lines of each."""

from __future__ import annotations

import fnmatch
import json
import re
import shlex
import typing as t

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core import places
from ansible_collections.slipway.cluster.plugins.module_utils.core.containerd import ContainerdWant, containerd_target
from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import PkiWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import HostState
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.layout import Layout, Node
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.targets import (
    control_plane,
    etcd,
    host,
    keeper,
    metrics_gate,
    network,
    node,
    pki,
    registry,
    text,
)
from tests.unit.plugins.cluster import Cluster, bare, lock

SIZES = {
    "one": {"cp1": "control_plane", "w1": "workers"},
    "three": {"cp1": "control_plane", "cp2": "control_plane", "cp3": "control_plane", "w1": "workers"},
    "etcd of its own": {"cp1": "control_plane", "e1": "etcd", "w1": "workers"},
    "everything on one": {"cp1": "control_plane workers"},
}
REGISTRIES = [{"host": "registry.example", "mirrors": ["https://mirror.example"], "username": "puller"}]


def cluster(size: str = "one", **variables: t.Any) -> Cluster:
    own = variables.pop("own", {})
    versions = variables.pop("versions", {})
    found = Cluster(dict(SIZES[size]), variables, own, {name: bare(name) for name in SIZES[size]})
    if versions:
        found.lock = lock(versions={**found.lock.versions, **versions})
    return found


def phases(layout: Layout, own: Node) -> dict[str, HostState]:
    """A host's targets by phase, as the planner puts them together."""
    found = {"host": host.host_want(layout, own).state}
    if own.control_plane or not own.etcd:
        runtime = ContainerdWant(version=f"{layout.versions['containerd']} {layout.versions['runc']}")
        found["containerd"] = containerd_target(runtime)
        found["node"] = node.proxy_target(layout, own) + node.kubelet_target(layout, own, joined=False)
        gate = metrics_gate.metrics_gate_target(layout, own, program="Z2F0ZQ==")
        found["network"] = network.network_target(layout, own) + gate
    if own.etcd:
        found["etcd"] = etcd.etcd_target(layout, own)
    if own.control_plane:
        kept = keeper.keeper_target(zipapp="a2VlcGVy", nodes=[own], certificates={})
        found["control_plane"] = control_plane.control_plane_target(layout, own) + kept
    return found


def all_of(layout: Layout, own: Node) -> HostState:
    return sum(phases(layout, own).values(), HostState())


def paths_of(state: HostState) -> list[str]:
    parts = (*state.directories, *state.files, *state.links, *state.absent)
    return [t.cast("str", part.path) for part in parts]  # type: ignore[attr-defined]


def keys_of(want: PkiWant) -> list[str]:
    shared = [path for item in want.keypairs for path in (item.private, item.public)]
    shared += [path for item in want.authorities for path in (item.certificate, item.key)]
    shared += [path for item in want.certificates for path in (item.certificate, item.key)]
    return [*shared, *(item.path for item in want.secrets), *(copy.path for copy in want.copies)]


def content(state: HostState, path: str) -> str:
    (found,) = [file.content for file in state.files if file.path == path]
    return found


def digests(layout: Layout, own: Node) -> dict[str, str]:
    return {unit.name: unit.digest for unit in all_of(layout, own).units}


EVERY = [(size, plugin) for size in SIZES for plugin in ("flannel", "none")]


@pytest.mark.parametrize(("size", "plugin"), EVERY)
def test_a_probe_looks_at_every_path_unit_and_user(size: str, plugin: str) -> None:
    layout, nodes = cluster(size, slipway_network={"plugin": plugin}).layout()
    for own in nodes.values():
        state = all_of(layout, own)
        assert [path for path in paths_of(state) if not places.is_observed(path)] == []
        assert {unit.name for unit in state.units} <= set(places.UNITS)
        assert {user.name for user in state.users} <= set(places.USERS)
        assert set(host.sysctls(own)) <= {*places.NETWORK_SYSCTLS, *places.KERNEL_SYSCTLS}
        if own.control_plane or own.etcd:
            keys = keys_of(pki.pki_want(layout, own, generate=True))
            unseen = [key for key in keys if not any(fnmatch.fnmatch(key, each) for each in places.CERTIFICATES)]
            assert unseen == []
            assert all(places.is_observed(key) for key in keys)


@pytest.mark.parametrize(("size", "plugin"), EVERY)
def test_nothing_belongs_to_two_phases(size: str, plugin: str) -> None:
    """Check mode on a bare host compares every phase with a host that has none of the others."""
    layout, nodes = cluster(size, slipway_network={"plugin": plugin}).layout()
    for own in nodes.values():
        found = [name for state in phases(layout, own).values() for name in paths_of(state)]
        found += [unit.name for state in phases(layout, own).values() for unit in state.units]
        found += [user.name for state in phases(layout, own).values() for user in state.users]
        if own.control_plane or own.etcd:
            found += keys_of(pki.pki_want(layout, own, generate=True))
        assert sorted({each for each in found if found.count(each) > 1}) == []


@pytest.mark.parametrize(("size", "plugin"), EVERY)
def test_every_directory_is_there_before_what_lies_in_it(size: str, plugin: str) -> None:
    """Else its mode would be whatever is made on the way; /var/lib, /run and the like are the system's."""
    order = ("host", "containerd", "pki", "etcd", "control_plane", "node", "network")
    layout, nodes = cluster(size, slipway_network={"plugin": plugin}).layout()
    for own in nodes.values():
        states = phases(layout, own)
        made = {"/etc/systemd/system", "/etc/sysctl.d", "/etc/modules-load.d", "/etc", "/run/slipway"}
        for phase in order:
            state = states.get(phase, HostState())
            made |= {directory.path for directory in state.directories}
            assert [file.path for file in state.files if file.path.rpartition("/")[0] not in made] == []
            if phase == "pki" and (own.control_plane or own.etcd):
                keys = keys_of(pki.pki_want(layout, own, generate=True))
                assert [key for key in keys if key.rpartition("/")[0] not in made] == []


@pytest.mark.parametrize("size", SIZES)
def test_owners_are_users_that_the_host_phase_makes(size: str) -> None:
    layout, nodes = cluster(size).layout()
    for own in nodes.values():
        # A number is a container's user, which no host knows by name.
        users = {"root", "65532", *(user.name for user in phases(layout, own)["host"].users)}
        state = all_of(layout, own)
        owned: list[t.Any] = [*state.files, *state.directories]
        assert {part.owner for part in owned} | {part.group for part in owned} <= users
        if own.control_plane or own.etcd:
            want = pki.pki_want(layout, own, generate=True)
            assert {leaf.owner for leaf in want.certificates} | {each.owner for each in want.copies} <= users


@pytest.mark.parametrize("size", SIZES)
def test_secrets_are_for_one_reader(size: str) -> None:
    layout, nodes = cluster(size).layout()
    for own in nodes.values():
        secret = [file for file in all_of(layout, own).files if file.secret]
        assert [file.path for file in secret if int(file.mode, 8) & 0o077] == []
        assert all("@@bootstrap-token@@" not in file.content for file in all_of(layout, own).files if not file.secret)
        if own.control_plane or own.etcd:
            want = pki.pki_want(layout, own, generate=True)
            copies = {copy.path: copy.mode for copy in want.copies}
            assert {mode for path, mode in copies.items() if path.endswith((".key", "encryption.yaml"))} <= {"0600"}
            assert {certificate.mode for certificate in want.certificates} == {"0600"}


# --- restarts ---------------------------------------------------------------------------------------------------------
CONTROL_PLANE = {"kube-apiserver.service", "kube-controller-manager.service", "kube-scheduler.service"}
NODE = {"kubelet.service", "kube-proxy.service"}
RESTARTS: list[tuple[str, dict[str, t.Any], set[str]]] = [
    ("nothing", {}, set()),
    ("kubernetes", {"versions": {"kubernetes": "1.37.1"}}, CONTROL_PLANE | NODE),
    ("etcd", {"versions": {"etcd": "3.7.1"}}, {"etcd.service"}),
    ("containerd", {"versions": {"containerd": "2.3.5"}}, {"containerd.service"}),
    ("runc", {"versions": {"runc": "1.4.4"}}, {"containerd.service"}),
    ("flannel", {"versions": {"flannel": "0.28.11"}}, {"flanneld.service"}),
    ("dns", {"versions": {"coredns": "1.14.7", "pause": "3.10.3", "crictl": "1.37.0", "cni-plugins": "2.0.0"}}, set()),
    ("a flag of the API server", {"slipway_apiserver_args": {"v": 4}}, {"kube-apiserver.service"}),
    ("a flag of the scheduler", {"slipway_scheduler_args": {"v": 4}}, {"kube-scheduler.service"}),
    ("a flag of the controllers", {"slipway_controller_manager_args": {"v": 4}}, {"kube-controller-manager.service"}),
    ("a flag of etcd", {"slipway_etcd_args": {"log-level": "warn"}}, {"etcd.service"}),
    ("the audit policy", {"slipway_audit": {"policy": [{"level": "None"}]}}, {"kube-apiserver.service"}),
    ("pod security", {"slipway_pod_security": {"enforce": "restricted"}}, {"kube-apiserver.service"}),
    ("the kubelet", {"slipway_kubelet": {"maxPods": 50}}, {"kubelet.service"}),
    ("kube-proxy", {"slipway_kube_proxy": {"mode": "iptables"}}, {"kube-proxy.service"}),
    ("the pods' MTU", {"slipway_network": {"mtu": 1400}}, {"flanneld.service"}),
    ("a label", {"slipway_node_labels": {"a": "b"}}, set()),
    ("a kernel setting", {"slipway_host": {"sysctls": {"vm.swappiness": "1"}}}, set()),
    ("life of certificates", {"slipway_certificates": {"days": 90, "renew_before_days": 20}}, set()),
    ("a name outside", {"slipway_endpoint": "api.example.org", "slipway_apiserver_sans": ["x.example.org"]}, set()),
    ("a DNS of one's own", {"slipway_dns": {"enabled": False}}, set()),
    ("DNS replicas", {"slipway_dns": {"replicas": 3, "upstream": ["10.9.9.9"]}}, set()),
]


@pytest.mark.parametrize(("variables", "expected"), [row[1:] for row in RESTARTS], ids=[row[0] for row in RESTARTS])
def test_what_changes_restarts_what_reads_it(variables: dict[str, t.Any], expected: set[str]) -> None:
    before_layout, before_nodes = cluster().layout()
    layout, nodes = cluster(**variables).layout()
    for name in ("cp1", "w1"):
        before, now = digests(before_layout, before_nodes[name]), digests(layout, nodes[name])
        assert {unit for unit in before if before[unit] != now[unit]} == expected & set(before)


def test_growing_the_control_plane_restarts_no_kubelet() -> None:
    before = digests(*_own(cluster("one"), "w1"))
    now = digests(*_own(cluster("three"), "w1"))
    assert {unit for unit in before if before[unit] != now[unit]} == {"slipway-proxy.service"}


def _own(found: Cluster, name: str) -> tuple[Layout, Node]:
    layout, nodes = found.layout()
    return layout, nodes[name]


def test_every_service_shows_the_digest_it_was_started_with() -> None:
    layout, node = _own(cluster(slipway_metrics={"endpoints": True}), "cp1")
    state = all_of(layout, node) + registry.registry_target(layout)
    units = {unit.name: unit for unit in state.units}
    assert set(units) == set(places.UNITS) - {"slipway-keeper.service"}
    for name, unit in units.items():
        shown = f"Environment=SLIPWAY_DIGEST={unit.digest}" in content(state, f"/etc/systemd/system/{name}")
        has_process = name not in ("slipway-keeper.timer", "slipway-service-route.service")
        assert shown == has_process
        assert bool(unit.digest) == has_process


def test_the_keepers_timer_changes_with_its_service(monkeypatch: pytest.MonkeyPatch) -> None:
    def timer() -> str:
        state = keeper.keeper_target(zipapp="", nodes=[], certificates={})
        return content(state, "/etc/systemd/system/slipway-keeper.timer")

    before = timer()
    assert before == timer()
    monkeypatch.setattr(keeper, "PROGRAM", "/elsewhere/keeper.pyz")
    assert timer() != before


# --- metrics gate -----------------------------------------------------------------------------------------------------
GATE = "slipway-metrics.service"


@pytest.mark.parametrize(
    ("host", "variables", "expected"),
    [
        ("w1", {}, {"kube-proxy"}),
        ("w1", {"slipway_ingress": {"enabled": True}}, {"kube-proxy", "traefik"}),
        (
            "w1",
            {
                "slipway_ingress": {"enabled": True, "expose": "load_balancer"},
                "slipway_load_balancer": {"pools": [{"name": "lab", "addresses": ["192.0.2.240-192.0.2.243"]}]},
            },
            {"kube-proxy"},
        ),
        ("cp1", {}, {"kube-proxy", "etcd", "keeper", "kube-controller-manager", "kube-scheduler"}),
    ],
)
def test_the_gate_gives_what_is_on_the_node(host: str, variables: dict[str, t.Any], expected: set[str]) -> None:
    layout, own = _own(cluster(slipway_metrics={"endpoints": True}, **variables), host)
    words = command(all_of(layout, own), GATE)
    given = dict(word.removeprefix("--source=").split("=", 1) for word in words if word.startswith("--source="))
    assert set(given) == expected
    assert all(where.startswith(("http://127.0.0.1:", "https://127.0.0.1:", "/var/lib/")) for where in given.values())
    assert f"--address={own.address}" in words


def test_the_gate_asks_kube_proxy_where_the_user_has_it_listen() -> None:
    moved = {"metricsBindAddress": "127.0.0.2:9999"}
    layout, own = _own(cluster(slipway_metrics={"endpoints": True}, slipway_kube_proxy=moved), "w1")
    assert "--source=kube-proxy=http://127.0.0.2:9999/metrics" in command(all_of(layout, own), GATE)


def test_another_gate_is_started_anew() -> None:
    layout, own = _own(cluster(slipway_metrics={"endpoints": True}), "w1")
    one, other = (metrics_gate.metrics_gate_target(layout, own, program=text).units[0] for text in ("YQ==", "Yg=="))
    assert one.digest != other.digest


def test_without_the_gate_nothing_is_left_of_it() -> None:
    layout, own = _own(cluster(), "w1")
    off = metrics_gate.metrics_gate_target(layout, own, program="YQ==")
    layout, own = _own(cluster(slipway_metrics={"endpoints": True}), "w1")
    on = metrics_gate.metrics_gate_target(layout, own, program="YQ==")
    assert [each.path for each in off.absent] == [each.path for each in on.files]
    assert [(each.name, each.enabled, each.running) for each in off.units] == [(on.units[0].name, False, False)]


# --- command lines ----------------------------------------------------------------------------------------------------
def command(state: HostState, unit: str) -> list[str]:
    """ExecStart's words, read as systemd does, as far as shlex and systemd agree."""
    text_ = content(state, f"/etc/systemd/system/{unit}")
    start = text_.index("ExecStart=") + len("ExecStart=")
    line = text_[start : text_.index("\n", text_.rindex(" \\\n") + 3)] if " \\\n" in text_ else text_[start:]
    words = shlex.split(line.partition("\nRestart=")[0].partition("\nUser=")[0].replace("\\\n", ""))
    return [word.replace("%%", "%").replace("$$", "$") for word in words]


def api_flags(arguments: t.Mapping[str, t.Any] | None = None) -> dict[str, list[str]]:
    state = control_plane.control_plane_target(*_own(cluster(slipway_apiserver_args=dict(arguments or {})), "cp1"))
    found: dict[str, list[str]] = {}
    for word in command(state, "kube-apiserver.service")[1:]:
        name, _, value = word.removeprefix("--").partition("=")
        found.setdefault(name, []).append(value)
    return found


def test_the_users_flags_win_repeat_and_take_away() -> None:
    default = api_flags()
    assert default["profiling"] == ["false"]
    assert default["service-account-issuer"] == ["https://kubernetes.default.svc.cluster.local"]
    issuers = ["https://new.example", "https://old.example"]
    arguments = {"profiling": True, "service-account-issuer": issuers, "enable-aggregator-routing": None}
    changed = api_flags(arguments)
    assert changed["profiling"] == ["true"]
    assert changed["service-account-issuer"] == issuers
    assert "enable-aggregator-routing" not in changed
    assert {name for name in default if name not in changed} == {"enable-aggregator-routing"}


def test_flags_reach_the_program_as_they_were_written() -> None:
    assert api_flags({"v": "50% of $HOME; \"a\\b\" 'c'"})["v"] == ["50% of $HOME; \"a\\b\" 'c'"]


@pytest.mark.parametrize(
    ("argument", "word"),
    [
        ("--a=b", "--a=b"),
        ("--a=*,b", "--a=*,b"),
        ("100%", "100%%"),
        ("$HOME", "$$HOME"),
        ("a b", '"a b"'),
        ('say "x"', '"say \\"x\\""'),
        ("a\\b", '"a\\\\b"'),
        ("a;b", '"a;b"'),
        ("a\nb", '"a\\nb"'),
        ("", '""'),
    ],
)
def test_a_word_is_quoted_for_systemd(argument: str, word: str) -> None:
    assert text.word(argument) == word


def unquoted(word: str) -> str:
    """A word as systemd.syntax(7) and systemd.unit(5) read it, specifiers and variables last."""
    if word.startswith('"'):
        assert word.endswith('"')
        word = re.sub(r"\\(.)", lambda match: {"n": "\n"}.get(match[1], match[1]), word[1:-1])
    return word.replace("%%", "%").replace("$$", "$")


@given(st.text(st.characters(codec="ascii", exclude_characters="\0")))
def test_any_word_is_read_as_it_was_written(argument: str) -> None:
    word = text.word(argument)
    assert unquoted(word) == argument
    assert word.startswith('"') or not set(word) & set(" \t\n\"'\\;")
    assert "\n" not in word


def test_merging_goes_into_mappings_and_none_takes_away() -> None:
    defaults = {"a": 1, "b": {"c": 1, "d": 2}, "e": [1]}
    assert text.merge(defaults, {"b": {"c": 3, "d": None, "x": 4}, "e": [2], "a": None, "none": None}) == {
        "b": {"c": 3, "x": 4},
        "e": [2],
    }
    assert text.merge(defaults, {"b": 1, "a": {"z": 1}}) == {"a": {"z": 1}, "b": 1, "e": [1]}
    assert defaults == {"a": 1, "b": {"c": 1, "d": 2}, "e": [1]}


# --- the important lines ----------------------------------------------------------------------------------------------
def test_the_api_server_is_closed_by_default() -> None:
    flags = api_flags()
    state = control_plane.control_plane_target(*_own(cluster(), "cp1"))
    assert flags["authorization-mode"] == ["Node,RBAC"]
    assert flags["enable-admission-plugins"] == ["NodeRestriction"]
    assert flags["tls-min-version"] == ["VersionTLS12"]
    assert flags["encryption-provider-config"] == ["/etc/kubernetes/kube-apiserver/encryption.yaml"]
    authentication = yaml.safe_load(content(state, "/etc/kubernetes/kube-apiserver/authentication.yaml"))
    assert authentication["anonymous"] == {"enabled": True, "conditions": [{"path": "/livez"}, {"path": "/readyz"}]}
    admission = yaml.safe_load(content(state, "/etc/kubernetes/kube-apiserver/admission.yaml"))
    configuration = admission["plugins"][0]["configuration"]
    assert configuration["defaults"]["enforce"] == "baseline"
    assert configuration["exemptions"]["namespaces"] == ["kube-system"]
    policy = yaml.safe_load(content(state, "/etc/kubernetes/kube-apiserver/audit-policy.yaml"))
    assert {rule["level"] for rule in policy["rules"]} == {"None", "Metadata"}
    assert "User=kube-apiserver" in content(state, "/etc/systemd/system/kube-apiserver.service")


def test_audit_can_be_sized_and_switched_off() -> None:
    def flags(**audit: t.Any) -> str:
        state = control_plane.apiserver_target(*_own(cluster(slipway_audit=audit), "cp1"))
        return content(state, "/etc/systemd/system/kube-apiserver.service")

    assert "--audit-log-maxsize=7 " in flags(max_size_mib=7)
    assert "--audit-log" not in flags(enabled=False)
    assert "--audit-policy-file" not in flags(enabled=False)


def test_a_stacked_api_server_uses_its_own_member_and_another_all() -> None:
    def servers(size: str) -> str:
        state = control_plane.apiserver_target(*_own(cluster(size), "cp1"))
        return next(word for word in command(state, "kube-apiserver.service") if word.startswith("--etcd-servers="))

    assert servers("three") == "--etcd-servers=https://127.0.0.1:2379"
    assert servers("etcd of its own") == "--etcd-servers=https://10.0.0.31:2379"


def test_controllers_talk_to_their_own_hosts_api_server() -> None:
    state = control_plane.control_plane_target(*_own(cluster("three"), "cp2"))
    for component in ("kube-controller-manager", "kube-scheduler"):
        config = yaml.safe_load(content(state, f"/etc/kubernetes/{component}/kubeconfig"))
        assert config["clusters"][0]["cluster"]["server"] == "https://10.0.0.12:6443"
        assert config["users"][0]["user"]["client-key"] == f"/etc/kubernetes/{component}/client.key"
    assert "--controllers=*,tokencleaner" in command(state, "kube-controller-manager.service")
    admin = yaml.safe_load(content(state, "/etc/kubernetes/admin.conf"))
    assert admin["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6443"


def test_what_is_waited_for() -> None:
    layout, own = _own(cluster(slipway_apiserver_port=7443), "cp1")
    assert [wait["url"] for wait in control_plane.waits(layout, own)] == [
        "https://10.0.0.11:7443/readyz",
        "https://127.0.0.1:10257/healthz",
        "https://127.0.0.1:10259/healthz",
    ]
    assert len(node.kubelet_waits()) == 2
    assert len(network.network_waits(layout)) == 3
    assert len(network.network_waits(_own(cluster(slipway_network={"plugin": "none"}), "cp1")[0])) == 2


def environment(**arguments: t.Any) -> dict[str, str]:
    state = etcd.etcd_target(*_own(cluster("three", **arguments), "cp2"))
    lines = content(state, "/etc/etcd/etcd.env").splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def test_an_etcd_member_never_starts_a_cluster_by_itself() -> None:
    found = environment()
    assert found["ETCD_INITIAL_CLUSTER_STATE"] == "existing"
    assert "ETCD_INITIAL_CLUSTER" not in found
    unit = content(etcd.etcd_target(*_own(cluster(), "cp1")), "/etc/systemd/system/etcd.service")
    assert unit.index("EnvironmentFile=/etc/etcd/etcd.env") < unit.index("EnvironmentFile=-/etc/etcd/initial.env")


def test_an_etcd_member_listens_where_it_should_and_asks_for_certificates() -> None:
    found = environment()
    assert found["ETCD_NAME"] == "cp2"
    assert found["ETCD_LISTEN_CLIENT_URLS"] == "https://127.0.0.1:2379,https://10.0.0.12:2379"
    assert found["ETCD_LISTEN_PEER_URLS"] == "https://10.0.0.12:2380"
    assert found["ETCD_CLIENT_CERT_AUTH"] == found["ETCD_PEER_CLIENT_CERT_AUTH"] == "true"


def test_etcds_flags_are_the_users_to_change_and_take_away() -> None:
    found = environment(slipway_etcd_args={"log-level": "debug", "cipher-suites": [], "max-snapshots": 3})
    assert found["ETCD_LOG_LEVEL"] == "debug"
    assert found["ETCD_MAX_SNAPSHOTS"] == "3"
    assert "ETCD_CIPHER_SUITES" not in found


def kubelet(**variables: t.Any) -> dict[str, t.Any]:
    state = node.kubelet_target(*_own(cluster(**variables), "w1"), joined=True)
    return t.cast("dict[str, t.Any]", yaml.safe_load(content(state, "/etc/kubernetes/kubelet.yaml")))


def test_the_kubelet_takes_the_users_fields_verbatim() -> None:
    default = kubelet()
    assert default["authentication"]["anonymous"] == {"enabled": False}
    assert (default["readOnlyPort"], default["serverTLSBootstrap"], default["failSwapOn"]) == (0, True, True)
    assert default["clusterDNS"] == ["10.96.0.10"]
    assert "registerWithTaints" not in default
    changed = kubelet(
        slipway_kubelet={"evictionHard": {"memory.available": "1Gi", "imagefs.available": None}, "podPidsLimit": None},
        slipway_node_taints=["dedicated=gpu:NoSchedule", "lonely:NoExecute"],
        slipway_host={"swap": "keep", "manage_kernel": False},
    )
    assert changed["evictionHard"] == {
        "memory.available": "1Gi",
        "nodefs.available": "10%",
        "nodefs.inodesFree": "5%",
    }
    assert "podPidsLimit" not in changed
    assert (changed["failSwapOn"], changed["protectKernelDefaults"]) == (False, False)
    assert changed["registerWithTaints"] == [
        {"key": "dedicated", "effect": "NoSchedule", "value": "gpu"},
        {"key": "lonely", "effect": "NoExecute"},
    ]


def test_a_node_that_joined_has_no_token() -> None:
    layout, own = _own(cluster(), "w1")
    path = "/run/slipway/bootstrap-kubelet.conf"
    before, after = (node.kubelet_target(layout, own, joined=joined) for joined in (False, True))
    assert path in paths_of(before)
    assert path not in paths_of(after)
    assert before.units == after.units
    config = yaml.safe_load(content(before, path))
    assert config["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:6444"
    assert config["users"][0]["user"] == {"token": "@@bootstrap-token@@"}


def test_the_proxy_stands_before_all_api_servers_on_every_host() -> None:
    for name in ("cp1", "w1"):
        state = node.proxy_target(*_own(cluster("three"), name))
        config = content(state, "/etc/slipway/proxy.cfg")
        servers = [line.split()[1:] for line in config.splitlines() if line.startswith("  server ")]
        assert servers == [["cp1", "10.0.0.11:6443"], ["cp2", "10.0.0.12:6443"], ["cp3", "10.0.0.13:6443"]]
        assert "bind 127.0.0.1:6444" in config
        # On a control-plane host the authority is made there; a worker is given its certificate.
        assert ("/etc/kubernetes/pki/ca.crt" in paths_of(state)) == (name == "w1")


def test_the_pod_network_fits_into_the_interface() -> None:
    found = cluster()
    found.probes["w1"]["addresses"][1]["mtu"] = 9000
    layout, own = _own(found, "w1")
    config = json.loads(content(network.flannel_target(layout, own), "/etc/kubernetes/flannel/net-conf.json"))
    assert config["Backend"] == {"Type": "vxlan", "MTU": 9000}
    cni = json.loads(content(network.cni_target(layout, own), "/etc/slipway/cni-conflist.template"))
    assert cni["plugins"][0]["mtu"] == 8950
    asked = network.pod_mtu(*_own(cluster(slipway_network={"mtu": 1400}), "w1"))
    assert asked == 1400


def test_kube_proxys_mode_is_explicit_and_the_users_fields_win() -> None:
    state = network.kube_proxy_target(*_own(cluster(slipway_kube_proxy={"conntrack": {"min": 0}}), "w1"))
    config = yaml.safe_load(content(state, "/etc/kubernetes/kube-proxy.yaml"))
    assert (config["mode"], config["conntrack"], config["hostnameOverride"]) == ("nftables", {"min": 0}, "w1")
    assert config["clientConnection"] == {"kubeconfig": "/etc/kubernetes/kubelet.conf"}


def test_the_hosts_kernel_is_touched_only_where_it_may_be() -> None:
    own = {"w1": {"slipway_host": {"manage_kernel": False, "packages": False, "sysctls": {"net.core.rmem": "1  2"}}}}
    layout, nodes = cluster(own=own).layout()
    ours, theirs = host.host_want(layout, nodes["cp1"]), host.host_want(layout, nodes["w1"])
    assert ours.modules == places.KERNEL_MODULES
    assert ours.packages == places.PACKAGES
    assert "kernel.panic" in ours.sysctls
    assert (theirs.modules, theirs.packages) == ((), {})
    assert dict(theirs.sysctls) == {**places.NETWORK_SYSCTLS, "net.core.rmem": "1 2"}
    assert "/etc/modules-load.d/slipway.conf" not in paths_of(theirs.state)
    assert "net.core.rmem = 1 2\n" in content(theirs.state, "/etc/sysctl.d/90-slipway.conf")


def test_a_host_says_which_cluster_it_belongs_to() -> None:
    layout, own = _own(cluster(slipway_cluster_name="prod"), "w1")
    mark = json.loads(content(host.host_target(layout, own), "/etc/slipway/cluster.json"))
    assert mark == {"name": "prod", "id": layout.id}


def test_certificates_name_their_user_their_hosts_and_their_life() -> None:
    found = cluster(
        "three",
        slipway_endpoint="api.example.org:8443",
        slipway_apiserver_sans=["10.9.9.9", "alias.example.org"],
        slipway_certificates={"days": 90, "ca_days": 1000, "renew_before_days": 30},
    )
    want = pki.pki_want(*_own(found, "cp2"), generate=False)
    leaves = {leaf.name: leaf for leaf in want.certificates}
    serving = leaves["kube-apiserver-serving"]
    assert set(serving.addresses) == {"10.0.0.12", "127.0.0.1", "10.96.0.1", "10.9.9.9"}
    assert {"cp2", "kubernetes.default.svc.cluster.local", "api.example.org", "alias.example.org"} <= set(serving.dns)
    masters = [leaf.name for leaf in want.certificates if "system:masters" in leaf.organizations]
    assert masters == ["emergency-admin"]
    assert {leaf.days for leaf in want.certificates} == {90}
    assert {authority.days for authority in want.authorities} == {1000}
    assert leaves["kube-scheduler-client"].common_name == "system:kube-scheduler"
    assert not want.generate
    assert PkiWant.from_data(json.loads(json.dumps(want.to_data()))) == want


def test_an_etcd_host_has_etcds_authority_alone() -> None:
    found = cluster("etcd of its own", slipway_certificates={"days": 90, "ca_days": 1000})
    want = pki.pki_want(*_own(found, "e1"), generate=True)
    assert [(authority.name, authority.days) for authority in want.authorities] == [("etcd", 1000)]
    assert {leaf.name: leaf.days for leaf in want.certificates} == dict.fromkeys(
        ("etcd-server", "etcd-peer", "etcd-root-client"), 90
    )
    assert (want.keypairs, want.secrets) == ((), ())
    external = pki.pki_want(*_own(found, "cp1"), generate=True)
    assert "etcd-server" not in {leaf.name for leaf in external.certificates}
    assert "etcd-root-client" in {leaf.name for leaf in external.certificates}


def test_the_keeper_approves_the_names_and_addresses_of_this_list() -> None:
    _layout, nodes = cluster().layout()
    state = keeper.keeper_target(zipapp="", nodes=list(nodes.values()), certificates={"certificates": []})
    assert json.loads(content(state, "/etc/slipway/nodes.json")) == {
        "cp1": ["10.0.0.11", "cp1"],
        "w1": ["10.0.0.51", "w1"],
    }


def test_flags_as_any_caller_may_write_them() -> None:
    defaults = {"a": 1, "b": True, "c": "x"}
    assert text.flags(defaults, {"--a": 2, "b": None, "d": [], "e": ["1", "2"]}) == ("--a=2", "--c=x", "--e=1", "--e=2")
