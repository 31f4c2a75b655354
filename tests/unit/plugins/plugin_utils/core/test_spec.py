# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spec: what a good inventory becomes, and what is said of a bad one."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import NodeSeen, NodesSeen
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec import (
    ClusterSpec,
    Endpoint,
    HostInput,
    Setting,
    Taint,
    explain,
    load,
    resolve_version,
    with_cluster,
)
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec.definitions import VARIABLES, Scope

SETS = {"1.37": {"kubernetes": "1.37.0", "etcd": "3.7.0"}, "1.36": {"kubernetes": "1.36.4", "etcd": "3.6.14"}}
CP = ("slipway_control_plane",)
WORKER = ("slipway_workers",)


def host(name: str, groups: t.Iterable[str], **variables: t.Any) -> HostInput:
    return HostInput(name, frozenset({"all", *groups}), variables)


def cluster(control_plane: int = 1, workers: int = 1, **variables: t.Any) -> dict[str, HostInput]:
    """Hosts cp1…, w1…, all with the same variables."""
    hosts = [host(f"cp{n}", CP, ansible_host=f"10.0.0.{10 + n}", **variables) for n in range(1, control_plane + 1)]
    hosts += [
        host(f"w{n}", WORKER, ansible_host=f"10.0.{1 + n // 200}.{n % 200}", **variables) for n in range(1, workers + 1)
    ]
    return {each.name: each for each in hosts}


def replaced(hosts: dict[str, HostInput], name: str, **variables: t.Any) -> dict[str, HostInput]:
    """The same hosts, one of them with more variables."""
    return {**hosts, name: dataclasses.replace(hosts[name], variables={**hosts[name].variables, **variables})}


def problems(hosts: t.Mapping[str, HostInput]) -> list[str]:
    with pytest.raises(SlipwayError) as caught:
        load(hosts, SETS)
    return [problem.text() for problem in caught.value.problems]


def errors(hosts: t.Mapping[str, HostInput]) -> list[str]:
    with pytest.raises(SlipwayError) as caught:
        load(hosts, SETS)
    return [problem.text() for problem in caught.value.problems if not problem.warning]


def warnings(spec: ClusterSpec) -> list[str]:
    return [problem.text() for problem in spec.warnings]


# --- a good inventory -------------------------------------------------------------------------------------------------


def test_six_lines_are_enough() -> None:
    spec = load(cluster(1, 2), SETS)
    assert spec.name == "slipway"
    assert spec.versions == SETS["1.37"]
    assert [node.name for node in spec.control_plane] == ["cp1"]
    assert [node.name for node in spec.workers] == ["w1", "w2"]
    assert [node.name for node in spec.etcd_members] == ["cp1"]
    assert spec.nodes["w2"].address == "10.0.1.2"
    assert spec.nodes["w2"].node_name == "w2"
    assert spec.warnings == ()


def test_defaults_are_the_documented_ones() -> None:
    spec = load(cluster(), SETS)
    assert (spec.network.plugin, spec.network.pod_cidr, spec.network.service_cidr) == (
        "flannel",
        "10.244.0.0/16",
        "10.96.0.0/12",
    )
    assert spec.network.dns_address == "10.96.0.10"
    assert spec.network.node_networks == 256
    assert (spec.proxy.port, spec.apiserver_port, spec.endpoint) == (6444, 6443, None)
    assert spec.pod_security.enforce == "baseline"


def test_given_values_are_typed() -> None:
    spec = load(
        cluster(
            slipway_endpoint="api.example.org",
            slipway_network={"pod_cidr": "10.128.0.0/14", "mtu": "1400"},
            slipway_apiserver_args={
                "profiling": False,
                "v": 2,
                "feature-gates": ["A=true", "B=true"],
                "event-ttl": None,
            },
            slipway_audit={"enabled": "no", "max_backups": None},
            slipway_kubernetes_version="v1.37.2",
            slipway_secret_registry_passwords={"docker.io": "s3cret"},
            slipway_containerd={"registries": [{"host": "docker.io", "username": "me"}]},
        ),
        SETS,
    )
    assert spec.endpoint == Endpoint("api.example.org", 6443)
    assert spec.network.pod_cidrs == (ipaddress.ip_network("10.128.0.0/14"),)
    assert spec.network.mtu == 1400
    assert spec.apiserver_args == {
        "profiling": ("false",),
        "v": ("2",),
        "feature-gates": ("A=true", "B=true"),
        "event-ttl": (),
    }
    assert (spec.audit.enabled, spec.audit.max_backups) == (False, 10)
    assert spec.kubernetes_version == "1.37.2"
    assert spec.versions == {"kubernetes": "1.37.2", "etcd": "3.7.0"}
    assert spec.registry_passwords == {"docker.io": "s3cret"}


def test_without_version_sets_only_the_form_is_checked() -> None:
    assert load(cluster(slipway_kubernetes_version="1.99")).versions == {}


def test_every_example_of_the_documentation_loads() -> None:
    """One at a time: examples are not meant to fit together."""
    for variable in VARIABLES.values():
        hosts = cluster(1, 1, **{variable.name: variable.example})
        if variable.name == "slipway_groups":
            hosts = {name: dataclasses.replace(each, groups=frozenset({"masters"})) for name, each in hosts.items()}
        elif variable.name == "slipway_target":
            hosts = {name: dataclasses.replace(each, groups=each.groups | {"prod"}) for name, each in hosts.items()}
        elif variable.name in {"slipway_containerd", "slipway_secret_registry_passwords"}:
            both = ("slipway_containerd", "slipway_secret_registry_passwords")
            hosts = cluster(1, 1, **{name: VARIABLES[name].example for name in both})
        elif variable.name in {"slipway_node_address", "slipway_node_name", "slipway_node_absent"}:
            hosts = replaced(cluster(), "w1", **{variable.name: variable.example})
        assert load(hosts, SETS).name, variable.name


def test_a_dictionarys_null_keeps_the_default() -> None:
    assert load(cluster(slipway_dns={"domain": None}, slipway_endpoint=None), SETS).dns.domain == "cluster.local"


# --- roles, names and addresses ---------------------------------------------------------------------------------------


def test_a_control_plane_host_is_tainted_when_there_are_workers() -> None:
    spec = load(cluster(1, 1), SETS)
    assert spec.nodes["cp1"].taints == (Taint("node-role.kubernetes.io/control-plane", "NoSchedule"),)
    assert "node.kubernetes.io/exclude-from-external-load-balancers" in spec.nodes["cp1"].labels
    assert spec.nodes["w1"].taints == ()
    assert spec.nodes["w1"].labels == {"node-role.kubernetes.io/worker": ""}


def test_a_host_in_both_groups_takes_pods() -> None:
    hosts = {**cluster(1, 1), "cp1": host("cp1", (*CP, *WORKER), ansible_host="10.0.0.11")}
    spec = load(hosts, SETS)
    assert spec.nodes["cp1"].taints == ()
    assert spec.nodes["cp1"].roles == {"control_plane", "worker", "etcd"}
    assert [node.name for node in spec.workers] == ["w1"]


def test_without_any_worker_the_control_plane_takes_pods_and_says_so() -> None:
    spec = load(cluster(1, 0), SETS)
    assert spec.nodes["cp1"].taints == ()
    assert any("no worker" in text for text in warnings(spec))


def test_an_etcd_group_takes_etcd_from_the_control_plane() -> None:
    hosts = {**cluster(2, 1), **{f"e{n}": host(f"e{n}", ["slipway_etcd"]) for n in (1, 2, 3)}}
    spec = load(hosts, SETS)
    assert [node.name for node in spec.etcd_members] == ["e1", "e2", "e3"]
    assert not spec.nodes["e1"].is_node
    assert not spec.nodes["cp1"].etcd


def test_an_even_number_of_etcd_members_is_a_warning_with_the_numbers() -> None:
    (text,) = warnings(load(cluster(2, 1), SETS))
    assert "2 etcd members survive the loss of 0" in text


def test_an_etcd_member_that_takes_pods_is_a_warning() -> None:
    hosts = {**cluster(1, 1), "w1": host("w1", (*WORKER, "slipway_etcd"), ansible_host="10.0.1.1")}
    assert any("compete for its disk" in text for text in warnings(load(hosts, SETS)))


@pytest.mark.parametrize(
    ("name", "variables", "address", "node_name"),
    [
        ("w9", {"ansible_host": "10.0.9.1"}, "10.0.9.1", "w9"),
        ("w9", {"ansible_host": "w9.example.org"}, None, "w9"),
        ("w9", {"ansible_host": "127.0.0.1"}, None, "w9"),
        ("w9", {}, None, "w9"),
        ("w9", {"ansible_host": "10.0.9.1", "slipway_node_address": "192.168.7.1"}, "192.168.7.1", "w9"),
        ("10.0.9.2", {}, "10.0.9.2", None),
        ("Rack_9", {}, None, None),
        ("Rack_9", {"slipway_node_name": "rack9"}, None, "rack9"),
    ],
)
def test_address_and_node_name(
    name: str, variables: dict[str, t.Any], address: str | None, node_name: str | None
) -> None:
    spec = load({**cluster(), name: host(name, WORKER, **variables)}, SETS)
    assert spec.nodes[name].address == address
    assert spec.nodes[name].node_name == node_name


def test_groups_can_be_renamed() -> None:
    groups = {"control_plane": "masters", "workers": "nodes"}
    hosts = {
        "a": host("a", ["masters"], slipway_groups=groups),
        "b": host("b", ["nodes"], slipway_groups=groups),
        "c": host("c", ["slipway_workers"], slipway_groups=groups),
    }
    spec = load(hosts, SETS)
    assert set(spec.nodes) == {"a", "b"}


def test_only_hosts_of_the_target_are_in_the_cluster() -> None:
    hosts = {
        "a": host("a", [*CP, "prod"], slipway_target="prod", slipway_cluster_name="prod"),
        "b": host("b", [*CP, "staging"], slipway_target="prod", slipway_cluster_name="staging"),
    }
    spec = load(hosts, SETS)
    assert set(spec.nodes) == {"a"}
    assert spec.name == "prod"


def test_hosts_without_a_role_are_not_looked_at() -> None:
    spec = load({**cluster(), "localhost": host("localhost", [], slipway_cluster_name="other")}, SETS)
    assert "localhost" not in spec.nodes


def test_an_absent_host_is_a_member_and_is_not_present() -> None:
    spec = load(replaced(cluster(1, 2), "w2", slipway_node_absent=True), SETS)
    assert spec.nodes["w2"].absent
    assert [node.name for node in spec.members] == ["cp1", "w1", "w2"]
    assert [node.name for node in spec.present] == ["cp1", "w1"]


@pytest.mark.parametrize("enabled", [None, True])
def test_the_only_host_for_traffic_keeps_its_part_while_it_is_absent(enabled: bool | None) -> None:
    hosts = {
        **cluster(1, 2, slipway_ingress={"enabled": enabled}),
        "w1": host("w1", ["slipway_workers", "slipway_ingress"], slipway_ingress={"enabled": enabled}),
    }
    spec = load(replaced(hosts, "w1", slipway_node_absent=True), SETS)
    assert spec.has_ingress
    assert [node.name for node in spec.ingress_nodes] == ["w1"]


@pytest.mark.parametrize(("variable", "said"), [("slipway_node_address", "10.0.0.12"), ("slipway_node_name", "node-2")])
def test_nobody_takes_the_place_of_a_host_that_is_declared_down(variable: str, said: str) -> None:
    hosts = replaced(cluster(3, 1), "cp2", **{variable: said, "slipway_node_absent": True})
    assert any("cp2" in error and "w1" in error for error in errors(replaced(hosts, "w1", **{variable: said})))


def test_all_control_plane_hosts_declared_down_leave_nobody_to_ask() -> None:
    (problem,) = errors(replaced(cluster(1, 1), "cp1", slipway_node_absent=True))
    assert "there is no control-plane host that is not declared down" in problem


# --- merging ----------------------------------------------------------------------------------------------------------


def test_profiles_merge_in_order_and_the_hosts_own_come_last() -> None:
    profiles = [
        {
            "groups": ["gpu"],
            "labels": {"accelerator": "gpu", "tier": "b"},
            "taints": ["dedicated=gpu:NoSchedule"],
            "kubelet": {"maxPods": 50, "evictionHard": {"memory.available": "1Gi", "nodefs.available": "5%"}},
            "runtime_handlers": {"nvidia": {"runtime_type": "io.containerd.runc.v2"}},
        },
        {"groups": "rack1", "labels": {"tier": "a", "rack": "1"}, "taints": ["dedicated=rack:NoSchedule"]},
        {"groups": ["slipway_control_plane"], "labels": {"never": "here"}},
    ]
    hosts = {
        **cluster(1, 0, slipway_node_profiles=profiles),
        "g1": host(
            "g1",
            [*WORKER, "gpu", "rack1"],
            slipway_node_profiles=profiles,
            slipway_node_labels={"zone": "z", "rack": None},
            slipway_node_taints=["mine:NoExecute"],
            slipway_kubelet={"evictionHard": {"memory.available": "2Gi"}, "maxPods": None},
        ),
    }
    spec = load(hosts, SETS)
    node = spec.nodes["g1"]
    assert node.labels == {
        "accelerator": "gpu",
        "tier": "a",
        "zone": "z",
        "node-role.kubernetes.io/worker": "",
    }
    assert {str(taint) for taint in node.taints} == {"dedicated=rack:NoSchedule", "mine:NoExecute"}
    assert node.kubelet == {
        "maxPods": None,
        "evictionHard": {"memory.available": "2Gi", "nodefs.available": "5%"},
    }
    assert set(node.runtime_handlers) == {"nvidia"}
    found = {setting.key: setting for setting in explain(spec, "g1")}
    assert found["label tier"].origin == "slipway_node_profiles[1] (group rack1)"
    assert found["label zone"].origin == "slipway_node_labels (inventory)"
    assert found["kubelet evictionHard.nodefs.available"].origin == "slipway_node_profiles[0] (group gpu)"
    assert found["kubelet evictionHard.memory.available"].origin == "slipway_kubelet (inventory)"


def _of(name: str, address: str) -> NodesSeen:
    return NodesSeen(True, {name: NodeSeen(name, addresses=(address,) if address else ())})


@pytest.mark.parametrize(
    ("probed", "nodes", "url", "expected"),
    [
        (set(), _of("w9", "10.0.9.1"), "", ("10.0.9.1", "its Node")),
        (set(), _of("w9", "10.0.9.1"), "https://10.0.9.2:2380", ("10.0.9.1", "its Node")),
        (set(), _of("w9", ""), "https://10.0.9.2:2380", ("10.0.9.2", "its member of etcd")),
        (set(), _of("w9", ""), "https://e9.example.org:2380", (None, "the source of the default route")),
        (set(), _of("other", "10.0.9.1"), "", (None, "the source of the default route")),
        (set(), _of("w9", "10.0.0.11"), "", (None, "the source of the default route")),
        ({"w9"}, _of("w9", "10.0.9.1"), "", (None, "the source of the default route")),
    ],
    ids=["node", "both", "member", "a name", "no Node", "the address of another host", "it can say it itself"],
)
def test_a_cluster_knows_the_address_of_a_host_that_says_nothing(
    probed: set[str], nodes: NodesSeen, url: str, expected: tuple[str | None, str]
) -> None:
    hosts = {**cluster(1, 0), "w9": host("w9", (*WORKER, "slipway_etcd"), ansible_host="w9.example.org")}
    spec = with_cluster(load(hosts, SETS), probed, [nodes], [Member("1", "w9", (url,) if url else ())])
    origin = next(setting.origin for setting in explain(spec, "w9") if setting.key == "address")
    assert (spec.nodes["w9"].address, origin) == expected
    assert spec.nodes["cp1"].address == "10.0.0.11", "what the inventory says is not asked of the cluster"


def test_explain_names_every_value_and_where_it_came_from() -> None:
    hosts = {
        "cp1": HostInput(
            "cp1",
            frozenset(CP),
            {
                "slipway_network": {"mtu": 1400},
                "slipway_secret_registry_passwords": {},
                "slipway_tasks_before_host": "a.yml",
                "slipway_node_address": "10.0.0.1",
                "slipway_node_name": "one",
            },
            {"slipway_network": "group_vars/all.yml:3"},
        )
    }
    spec = load(hosts, SETS)
    found = explain(spec, "cp1")
    assert Setting("slipway_network.mtu", 1400, "group_vars/all.yml:3") in found
    assert Setting("slipway_network.pod_cidr", "10.244.0.0/16", "default") in found
    assert Setting("slipway_tasks_before_host", ["a.yml"], "inventory") in found
    assert Setting("address", "10.0.0.1", "slipway_node_address (inventory)") in found
    assert Setting("node name", "one", "slipway_node_name (inventory)") in found
    assert Setting("roles", "control_plane, etcd", "inventory groups") in found


def test_secrets_show_up_nowhere() -> None:
    hosts = cluster(
        slipway_containerd={"registries": [{"host": "docker.io", "username": "me"}]},
        slipway_secret_registry_passwords={"docker.io": "s3cret"},
    )
    spec = load(hosts, SETS)
    shown = repr(spec) + json.dumps(spec.to_data()) + repr(explain(spec, "cp1"))
    assert "s3cret" not in shown
    assert Setting("slipway_secret_registry_passwords", "(secret)", "inventory") in explain(spec, "cp1")


def test_the_digest_is_of_what_is_wanted_only() -> None:
    spec = load(cluster(), SETS)
    assert spec.digest() == load(cluster(slipway_ignore_preflight="os"), SETS).digest()
    assert spec.digest() == load(cluster(slipway_accept_quorum_loss=True), SETS).digest()
    assert spec.digest() != load(cluster(slipway_dns={"replicas": 3}), SETS).digest()
    assert spec.digest() != load(cluster(1, 2), SETS).digest()
    assert json.loads(json.dumps(spec.to_data()))["nodes"]["cp1"]["addresses"] == ["10.0.0.11"]


# --- a bad inventory --------------------------------------------------------------------------------------------------


def test_all_problems_come_at_once() -> None:
    hosts = cluster(
        slipway_kubernetes_version=1.37,
        slipway_netwrk={},
        slipway_dns={"replicas": 0},
        slipway_etcd={"heartbeat_ms": 999},
    )
    hosts = replaced(hosts, "w1", slipway_node_taints=["a:b"])
    text = "\n".join(errors(hosts))
    for part in (
        "slipway_kubernetes_version",
        "slipway_netwrk",
        "slipway_dns.replicas",
        "election",
        "slipway_node_taints",
    ):
        assert part in text, text


def test_the_same_problem_of_many_hosts_is_said_once_and_names_them() -> None:
    (text,) = errors(cluster(1, 9, slipway_netwrk={}))
    assert text == (
        "slipway_netwrk on cp1, w1, w2, w3, w4 and 5 more: no such variable; "
        "expected a variable Slipway knows; did you mean slipway_network?"
    )


def test_a_variable_like_no_other_points_at_the_documentation() -> None:
    (text,) = errors(cluster(slipway_zzzzzzzz=1))
    assert "docs/spec.md" in text


@pytest.mark.parametrize("name", ["slipway_plan", "slipway__seed", "other", "ansible_port"])
def test_internal_and_foreign_variables_are_left_alone(name: str) -> None:
    assert load(cluster(1, 1, **{name: object()}), SETS).name == "slipway"


def test_a_cluster_wide_difference_names_both_hosts_and_values() -> None:
    (text,) = errors(replaced(cluster(1, 2), "w2", slipway_cluster_name="other"))
    assert text == (
        'slipway_cluster_name: differs between hosts: the default "slipway" on cp1, w1, "other" on w2; '
        "expected one value for the whole cluster; set it once, for a group that holds all hosts of the cluster"
    )


def test_writing_out_a_default_is_no_difference() -> None:
    assert load(replaced(cluster(), "w1", slipway_network={"pod_cidr": "10.244.0.0/16"}), SETS).name == "slipway"


def test_a_difference_in_a_secret_shows_no_value() -> None:
    hosts = cluster(
        slipway_containerd={"registries": [{"host": "docker.io", "username": "me"}]},
        slipway_secret_registry_passwords={"docker.io": "s3cret"},
    )
    text = "\n".join(problems(replaced(hosts, "w1", slipway_secret_registry_passwords={"docker.io": "0ther"})))
    assert "slipway_secret_registry_passwords: differs" in text
    assert "s3cret" not in text
    assert "0ther" not in text


def test_node_variables_may_differ() -> None:
    hosts = replaced(cluster(), "w1", slipway_kubelet={"maxPods": 20}, slipway_host={"packages": False})
    spec = load(hosts, SETS)
    assert spec.nodes["w1"].kubelet == {"maxPods": 20}
    assert not spec.nodes["w1"].host.packages
    assert spec.nodes["cp1"].host.packages


BAD: list[tuple[dict[str, t.Any], str]] = [
    ({"slipway_kubernetes_version": 1.37}, "put the value in quotes"),
    ({"slipway_kubernetes_version": "1.99"}, '"1.99" is not known'),
    ({"slipway_kubernetes_version": "1.3"}, "a minor or a patch of 1.36, 1.37"),
    ({"slipway_kubernetes_version": "latest"}, "neither a minor nor a patch"),
    ({"slipway_cluster_name": "My Cluster"}, "not a DNS label"),
    ({"slipway_endpoint": "https://api"}, "not HOST or HOST:PORT"),
    ({"slipway_network": "flannel"}, "a dictionary of plugin"),
    ({"slipway_network": {"pod_cdr": "10.0.0.0/8"}}, "did you mean pod_cidr?"),
    ({"slipway_network": {"plugin": "calico"}}, "one of flannel, none"),
    ({"slipway_network": {"pod_cidr": "10.244.0.1/16"}}, "the network is 10.244.0.0/16"),
    ({"slipway_network": {"pod_cidr": "10.244.0.0/33"}}, "not a network in CIDR notation"),
    ({"slipway_network": {"pod_cidr": "fd00::/48"}}, "IPv6 is not supported yet"),
    ({"slipway_network": {"pod_cidr": "10.100.0.0/16"}}, "overlap"),
    ({"slipway_network": {"service_cidr": "10.0.0.0/11"}}, "kube-apiserver takes no larger one"),
    ({"slipway_network": {"pod_cidr": "10.244.0.0/25"}}, "does not divide"),
    ({"slipway_network": {"pod_cidr": "10.0.0.0/16"}}, "the host's address 10.0.0.11 is inside pod_cidr"),
    ({"slipway_network": {"service_cidr": "10.0.0.0/20"}}, "the host's address 10.0.0.11 is inside service_cidr"),
    ({"slipway_network": {"mtu": 100}}, "1280 to 9216 bytes"),
    ({"slipway_network": {"mtu": True}}, "1280 to 9216 bytes"),
    ({"slipway_audit": {"enabled": "perhaps"}}, "true or false"),
    ({"slipway_audit": {"policy": {"level": "None"}}}, "a list"),
    ({"slipway_audit": {"policy": ["None"]}}, "a rule of an audit Policy"),
    ({"slipway_dns": {"upstream": ["127.0.0.53"]}}, "the pod itself"),
    ({"slipway_proxy": {"port": 6443}}, "6443 is the port of kube-apiserver"),
    ({"slipway_apiserver_port": 10250}, "10250 is the port of kubelet"),
    ({"slipway_etcd": {"heartbeat_ms": 500}}, "five heartbeats"),
    ({"slipway_certificates": {"days": 30}}, "set renew_before_days to 10"),
    ({"slipway_certificates": {"ca_days": 90}}, "certificates that end before their CA"),
    ({"slipway_containerd": {"registries": [{"mirrors": []}]}}, "slipway_containerd.registries[0].host"),
    ({"slipway_containerd": {"registries": [{"host": "a.b"}, {"host": "a.b"}]}}, "a.b stands there 2 times"),
    (
        {"slipway_containerd": {"registries": [{"host": "a", "ca": "x", "skip_verify": True}]}},
        "both ca and skip_verify",
    ),
    ({"slipway_containerd": {"registries": [{"host": "a", "username": "u"}]}}, "a has a username and no password"),
    ({"slipway_secret_registry_passwords": {"a": "x"}}, "a password for a, which has no username"),
    ({"slipway_containerd": {"registries": [{"host": "a", "password": "x"}]}}, "slipway_secret_*"),
    (
        {"slipway_containerd": {"registries": [{"host": "a", "mirrors": ["https://me:pw@example.org"]}]}},
        "credentials (not shown)",
    ),
    (
        {"slipway_containerd": {"registries": [{"host": "a", "mirrors": ["ftp://example.org"]}]}},
        "not an http:// or https:// address",
    ),
    ({"slipway_kube_proxy": {"mode": "ipvs"}}, "ipvs is leaving Kubernetes"),
    ({"slipway_kube_proxy": {"mode": "userspace"}}, "nftables or iptables"),
    ({"slipway_kube_proxy": {"clusterCIDR": "x"}}, "set slipway_network.pod_cidr"),
    ({"slipway_kubelet": {"clusterDomain": "x"}}, "set slipway_dns.domain"),
    ({"slipway_kubelet": []}, "a dictionary of KubeletConfiguration fields"),
    ({"slipway_apiserver_args": {"--v": 1}}, "without dashes"),
    ({"slipway_apiserver_args": {"etcd-servers": "x"}}, "a flag that Slipway decides"),
    ({"slipway_apiserver_args": {"v": {"a": 1}}}, "null or a list of them"),
    ({"slipway_apiserver_args": ["v=1"]}, "a dictionary: flag without dashes"),
    ({"slipway_node_labels": {"a b": "c"}}, "the key"),
    ({"slipway_node_labels": {"a": "b c"}}, "not at most 63"),
    ({"slipway_node_labels": {"a": True}}, "put the value in quotes"),
    ({"slipway_node_labels": ["a"]}, "a dictionary: label"),
    ({"slipway_node_taints": ["a=b:Never"]}, "KEY[=VALUE]:EFFECT"),
    ({"slipway_node_taints": [None]}, "KEY[=VALUE]:EFFECT"),
    ({"slipway_node_taints": "a:NoSchedule"}, "a list"),
    ({"slipway_node_profiles": [{"groups": []}]}, "at least one group"),
    ({"slipway_node_name": "same"}, "cp1, w1 have the same Node name same"),
    ({"slipway_node_address": "10.9.9.9"}, "cp1, w1 have the same address 10.9.9.9"),
    ({"slipway_node_address": "127.0.0.1"}, "not an address other hosts can reach"),
    ({"slipway_host": {"swap": "off"}}, "one of disable, keep"),
    ({"slipway_host": {"swap": False}}, "one of disable, keep"),
    ({"slipway_storage": {"path": "volumes"}}, "not an absolute path in its shortest form"),
    ({"slipway_storage": {"path": "/srv/../etc"}}, "not an absolute path in its shortest form"),
    ({"slipway_storage": {"path": "/srv/volumes/"}}, "not an absolute path in its shortest form"),
    ({"slipway_storage": {"path": "/srv/my volumes"}}, "not an absolute path in its shortest form"),
    ({"slipway_storage": {"path": "/"}}, "not an absolute path in its shortest form"),
    ({"slipway_storage": {"path": "/var/lib/kubelet/volumes"}}, "Slipway's /var/lib/kubelet lie in one another"),
    ({"slipway_storage": {"path": "/var/lib"}}, "lie in one another"),
    ({"slipway_storage": {"path": "/opt/slipway/volumes"}}, "Slipway's /opt/slipway lie in one another"),
    ({"slipway_storage": {"path": "/tmp/volumes"}}, "lies in /tmp, which is the system's"),
    ({"slipway_storage": {"path": "/srv"}}, "is there for others too"),
    ({"slipway_ignore_preflight": ["memry"]}, "did you mean memory?"),
    ({"slipway_secret_registry_passwords": "s3cret"}, "the value is not shown"),
    ({"slipway_groups": {"workers": ""}}, "empty, or more"),
]


@pytest.mark.parametrize(("variables", "said"), BAD, ids=[f"{n}-{next(iter(bad[0]))}" for n, bad in enumerate(BAD)])
def test_bad_values(variables: dict[str, t.Any], said: str) -> None:
    found = "\n".join(errors(cluster(**variables)))
    assert said in found
    assert "s3cret" not in found
    assert "pw@" not in found


def test_a_pod_cidr_too_small_for_the_hosts() -> None:
    assert len(load(cluster(1, 255), SETS).nodes) == 256
    (text,) = errors(cluster(1, 256))
    assert "ends at 256 nodes, there are 257" in text


def test_more_pods_than_addresses_is_a_warning() -> None:
    spec = load(cluster(slipway_kubelet={"maxPods": 300}), SETS)
    assert any("300 pods may run on a node whose /24 has 253 addresses" in text for text in warnings(spec))


@pytest.mark.parametrize("path", ["/var/lib/slipway-volumes", "/srv/volumes", "/data", "/mnt/disk1/k8s_volumes"])
def test_volumes_on_a_nodes_disk_are_a_warning_where_they_are_on(path: str) -> None:
    spec = load(cluster(slipway_storage={"enabled": True, "path": path}), SETS)
    (text,) = warnings(spec)
    assert "a volume stays on the disk of one node" in text
    assert warnings(load(cluster(slipway_storage={"path": path}), SETS)) == []


def test_no_control_plane() -> None:
    (text,) = errors(cluster(0, 1))
    assert "there is no control-plane host" in text


def test_no_host_at_all_suggests_the_group() -> None:
    (text,) = problems({"a": host("a", ["slipway_controlplane"])})
    assert "did you mean slipway_controlplane?" in text
    (text,) = problems({"a": host("a", ["web"])})
    assert "none of 1 host(s)" in text


def test_a_mistyped_group_is_named() -> None:
    hosts = {**cluster(), "w2": host("w2", ["slipway_worker"])}
    assert any("group slipway_worker: gives no role" in text for text in warnings(load(hosts, SETS)))
    hosts = {**cluster(), "w2": host("w2", [*WORKER, "slipway_pending_etcd"])}
    assert load(hosts, SETS).warnings == ()
    text = "\n".join(problems({"a": host("a", ["slipway_controlplane", *WORKER])}))
    assert "did you mean slipway_controlplane?" in text


def test_a_profile_for_nobody_is_a_warning() -> None:
    spec = load(cluster(slipway_node_profiles=[{"groups": ["slipway_worker"], "labels": {}}]), SETS)
    assert any("no host of the cluster is in the group" in text for text in warnings(spec))


def test_ingress_needs_a_node() -> None:
    hosts = {**cluster(), "i1": host("i1", ["slipway_ingress"])}
    (text,) = errors(hosts)
    assert "i1: in the group slipway_ingress, but no node" in text


def test_a_rule_is_silent_where_its_variable_is_wrong_already() -> None:
    found = errors(cluster(slipway_network={"pod_cidr": "10.96.0.0/99"}))
    assert len(found) == 1


def test_variables_with_one_value_are_compared_and_others_not() -> None:
    scopes = {variable.scope for variable in VARIABLES.values()}
    assert scopes == set(Scope)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.37", {"kubernetes": "1.37.0", "etcd": "3.7.0"}), ("1.36.1", {"kubernetes": "1.36.1", "etcd": "3.6.14"})],
)
def test_resolve_version(version: str, expected: dict[str, str]) -> None:
    assert resolve_version(version, SETS) == expected


def test_resolve_version_names_what_is_known() -> None:
    with pytest.raises(SlipwayError, match=r"1\.36, 1\.37"):
        resolve_version("1.30.1", SETS)
