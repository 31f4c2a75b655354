# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans of whole clusters: from bare hosts to nothing left to do, and what changes after that."""

from __future__ import annotations

import copy
import dataclasses
import json
import typing as t

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.artifacts import ArtifactsSeen, ArtifactsWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.containerd import ContainerdWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import EtcdWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import PkiWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.preparation import HostWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.readiness import parse_waits
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import HostState, SeenPath, SeenState
from ansible_collections.slipway.cluster.plugins.plugin_utils.core import evidence, planner
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.targets import paths
from tests.unit.plugins.cluster import DAY, NOW, Cluster, Made, bare, copied, lock, one_and_two, three_and_one

HOSTS = ("cp1", "w1", "w2")
NODE_PHASES = ["host", "artifacts", "containerd", "node", "network"]


@pytest.fixture(scope="module")
def first() -> tuple[Cluster, Made]:
    """One and two bare hosts, and their plan."""
    cluster = one_and_two()
    return cluster, cluster.plan()


@pytest.fixture(scope="module")
def running(first: tuple[Cluster, Made]) -> Cluster:
    """The cluster after that plan was carried out."""
    cluster = copied(first[0])
    cluster.carry_out(first[1])
    return cluster


def as_json(data: t.Any) -> t.Any:
    return json.loads(json.dumps(data))


def nothing(made: Made) -> bool:
    return made.blueprint.pending == () and made.blueprint.joining == () and made.blueprint.seed == ""


# --- from bare hosts --------------------------------------------------------------------------------------------------
def test_every_bare_host_has_steps_and_every_step_a_name_of_its_own(first: tuple[Cluster, Made]) -> None:
    made = first[1]
    assert made.blueprint.pending == HOSTS
    for host in HOSTS:
        steps = [(step.phase, step.module, step.change.name) for step in made.blueprint.steps[host]]
        assert len(steps) == len(set(steps))


def test_phases_come_in_the_order_of_the_playbook(first: tuple[Cluster, Made]) -> None:
    blueprint = first[1].blueprint

    def phases(host: str) -> list[str]:
        return list(dict.fromkeys(step.phase for step in blueprint.steps[host]))

    assert phases("w1") == NODE_PHASES
    assert list(blueprint.hosts["w1"]) == NODE_PHASES
    once = ["seed", *NODE_PHASES[:3], "pki", "etcd", "control_plane", "node", "network", "addons"]
    assert phases("cp1") == once
    assert list(blueprint.hosts["cp1"]) == once[1:-1]


def test_what_was_carried_out_leaves_nothing_to_do(running: Cluster) -> None:
    assert nothing(running.plan())


def test_no_name_holds_anything_of_this_run(first: tuple[Cluster, Made]) -> None:
    """The announced list must be the one that is carried out, with another id, time and token."""
    later = one_and_two()
    for data in later.probes.values():
        data["time"] += 1000
        data["boot_id"] = "another"
    again = later.plan()
    for host in HOSTS:
        assert again.names(host) == first[1].names(host)
        assert not any(first[1].layout.id in name for name in again.names(host))


def test_the_order_of_hosts_means_nothing(first: tuple[Cluster, Made]) -> None:
    turned = one_and_two()
    turned.groups = dict(reversed(turned.groups.items()))
    turned.probes = dict(reversed(turned.probes.items()))
    again = turned.plan()
    assert again.blueprint.leader == first[1].blueprint.leader
    assert {host: again.names(host) for host in HOSTS} == {host: first[1].names(host) for host in HOSTS}


def test_all_nodes_join_with_one_token(first: tuple[Cluster, Made]) -> None:
    blueprint = first[1].blueprint
    assert blueprint.joining == HOSTS
    made = {host: "create bootstrap token" in first[1].names(host) for host in HOSTS}
    assert made == {"cp1": True, "w1": False, "w2": False}


def test_parameters_are_what_the_modules_take_and_survive_the_way_there(first: tuple[Cluster, Made]) -> None:
    """Each module makes the same target of what it is handed as the planner planned with."""
    for params in as_json(first[1].blueprint.hosts).values():
        assert as_json(HostWant.from_data(params["host"]).to_data()) == params["host"]
        assert ArtifactsWant.from_data(params["artifacts"]).to_data() == params["artifacts"]
        runtime = {**params["containerd"], "credentials": {}}
        assert ContainerdWant.from_data(runtime).to_data() == runtime
        for phase in ("control_plane", "node", "network"):
            if phase in params:
                assert set(params[phase]) == {"state", "values", "wait"}
                assert HostState.from_data(params[phase]["state"]).units
                assert parse_waits(params[phase]["wait"])
        if "pki" in params:
            assert PkiWant.from_data(params["pki"]).generate
        if "etcd" in params:
            member = EtcdWant(**{**params["etcd"], "state": HostState.from_data(params["etcd"]["state"])})
            assert member.bootstrap
            assert member.token == first[1].layout.id


def test_the_seed_gets_what_any_host_lacks_and_serves_it(first: tuple[Cluster, Made]) -> None:
    blueprint = first[1].blueprint
    assert blueprint.seed == "cp1"
    names = {artifact.name for artifact in blueprint.seeded}
    assert {"etcd", "kubelet", "coredns", "pause"} <= names
    assert "agnhost" not in names
    assert "serve artefacts to other hosts" in first[1].names("cp1")
    assert not any(name.startswith("fetch ") for name in first[1].names("cp1"))
    assert "fetch kubelet 1.37.0" in first[1].names("w1")
    assert not any("etcd" in name for name in first[1].names("w1") if name.startswith("fetch"))


def test_a_cluster_of_one_serves_nobody() -> None:
    cluster = Cluster({"cp1": "control_plane workers"}, probes={"cp1": bare("cp1")})
    made = cluster.plan()
    assert "serve artefacts to other hosts" not in made.names("cp1")
    cluster.carry_out(made)
    assert nothing(cluster.plan())


def test_from_upstream_every_host_fetches_for_itself_and_images_are_pulled() -> None:
    cluster = one_and_two()
    cluster.lock = lock(source="upstream")
    made = cluster.plan()
    assert (made.blueprint.seed, made.blueprint.seeded) == ("", ())
    assert "fetch etcd 3.7.0" in made.names("cp1")
    assert not any("image" in name for host in HOSTS for name in made.names(host))
    cluster.carry_out(made)
    assert nothing(cluster.plan())


def test_without_a_pod_network_there_is_no_flannel() -> None:
    cluster = one_and_two(slipway_network={"plugin": "none"})
    made = cluster.plan()
    assert not any("flannel" in name or "cni-conflist" in name for host in HOSTS for name in made.names(host))
    cluster.carry_out(made)
    assert nothing(cluster.plan())


def test_what_a_host_fetches_follows_from_its_roles() -> None:
    groups = {"cp1": "control_plane", "e1": "etcd", "w1": "workers"}
    cluster = Cluster(groups, probes={name: bare(name) for name in groups})
    layout, nodes = cluster.layout()
    verdict = evidence.Evidence("cp1", "cp1", bootstrap=True)
    context = planner.Context(cluster.spec(), layout, nodes, {}, cluster.lock, verdict, "")
    wants = {name: planner.artifacts_want(context, nodes[name]) for name in groups}
    names = {name: {artifact.name for artifact in want.artifacts} for name, want in wants.items()}
    assert names["e1"] == {"etcd"}
    assert set(wants["e1"].links) == {"/usr/local/bin/etcdctl", "/usr/local/bin/etcdutl"}
    assert names["cp1"] - names["w1"] == {"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl"}
    assert {"flannel", "coredns", "pause"} < names["w1"] < names["cp1"]


# --- an existing cluster ----------------------------------------------------------------------------------------------
def test_one_who_comes_later_joins_and_the_others_stay_as_they_are(running: Cluster) -> None:
    cluster = copied(running)
    cluster.groups["w3"] = "workers"
    cluster.probes["w3"] = bare("w3")
    made = cluster.plan()
    assert made.blueprint.joining == ("w3",)
    assert made.blueprint.pending == ("cp1", "w3")
    assert made.names("cp1") == [
        *(name for name in made.names("cp1") if name.startswith("seed ")),
        "serve artefacts to other hosts",
        "write /etc/slipway/nodes.json",
        "create bootstrap token",
        "label node w3",
    ]
    assert "write /etc/kubernetes/pki/ca.crt" in made.names("w3")
    cluster.carry_out(made)
    assert nothing(cluster.plan())


def test_a_silent_worker_is_left_out_and_the_rest_is_planned(running: Cluster) -> None:
    cluster = copied(running)
    del cluster.probes["w2"]
    made = cluster.plan()
    assert set(made.blueprint.steps) == {"cp1", "w1"}
    assert made.blueprint.pending == ()
    assert [node["name"] for node in made.blueprint.nodes] == ["cp1", "w1"]


def test_a_silent_worker_does_not_lose_its_place_in_the_keepers_list(running: Cluster) -> None:
    cluster = copied(running)
    del cluster.probes["w2"]
    files = cluster.plan().blueprint.hosts["cp1"]["control_plane"]["state"]["files"]
    (allowed,) = [json.loads(file["content"]) for file in files if file["path"] == "/etc/slipway/nodes.json"]
    assert set(allowed) == set(HOSTS)


DRIFT: list[tuple[str, str, t.Callable[[dict[str, t.Any]], None], list[str]]] = [
    (
        "a file was changed",
        "w1",
        lambda data: data["state"]["paths"]["/etc/kubernetes/kubelet.yaml"].update(sha256="x"),
        ["write /etc/kubernetes/kubelet.yaml"],
    ),
    (
        "a key may be read by others",
        "cp1",
        lambda data: data["pki"]["files"]["/etc/kubernetes/pki/ca.key"].update(mode="0644"),
        ["set owner and mode of /etc/kubernetes/pki/ca.key"],
    ),
    (
        "a unit was stopped",
        "w2",
        lambda data: data["state"]["units"]["kube-proxy.service"].update(active="inactive", digest=""),
        ["start kube-proxy.service"],
    ),
    (
        "a unit runs with old input",
        "cp1",
        lambda data: data["state"]["units"]["kube-apiserver.service"].update(digest="old"),
        ["restart kube-apiserver.service"],
    ),
    (
        "a worker has another authority's certificate in place of ours",
        "w1",
        lambda data: data["state"]["paths"]["/etc/kubernetes/pki/ca.crt"].update(sha256="x"),
        ["write /etc/kubernetes/pki/ca.crt"],
    ),
    (
        "a kernel setting",
        "w1",
        lambda data: data["kernel_state"]["sysctls"].update({"net.ipv4.ip_forward": "0"}),
        ["set net.ipv4.ip_forward"],
    ),
    (
        "swap came back",
        "w1",
        lambda data: data["kernel_state"].update(swaps=["/dev/sda2"]),
        ["switch swap off"],
    ),
    (
        "a registry that is no longer wanted",
        "w1",
        lambda data: data.update(registries=["old.example"]),
        ["remove registry old.example"],
    ),
    (
        "an intent that a kill left behind",
        "cp1",
        lambda data: data["etcd"].update(initial="ETCD_INITIAL_CLUSTER_STATE=new\n"),
        ["remove /etc/etcd/initial.env"],
    ),
    (
        "a certificate near its end",
        "cp1",
        lambda data: data["pki"]["files"]["/etc/kubernetes/admin/client.crt"]["certificate"].update(
            not_before=NOW - 300 * DAY, not_after=NOW + 3 * DAY
        ),
        ["issue certificate emergency-admin"],
    ),
]


@pytest.mark.parametrize(("host", "change", "expected"), [row[1:] for row in DRIFT], ids=[row[0] for row in DRIFT])
def test_drift_is_found_and_mended_alone(
    running: Cluster, host: str, change: t.Callable[[dict[str, t.Any]], None], expected: list[str]
) -> None:
    cluster = copied(running)
    change(cluster.probes[host])
    made = cluster.plan()
    assert {name: made.names(name) for name in HOSTS if made.names(name)} == {host: expected}


def test_a_new_version_switches_and_restarts_what_it_is_a_version_of(running: Cluster) -> None:
    cluster = copied(running)
    cluster.lock = lock(versions={**cluster.lock.versions, "etcd": "3.7.1"})
    made = cluster.plan()
    assert made.blueprint.pending == ("cp1",)
    assert made.names("cp1") == [
        "seed etcd 3.7.1",
        "serve artefacts to other hosts",
        "unpack etcd 3.7.1",
        "activate etcd 3.7.1",
        "write /etc/systemd/system/etcd.service",
        "restart etcd.service",
    ]
    cluster.carry_out(made)
    assert nothing(cluster.plan())


def test_a_users_own_setting_is_announced_when_the_probe_saw_it() -> None:
    cluster = one_and_two(slipway_host={"sysctls": {"net.core.somaxconn": "4096", "net.no.such": "1"}})
    for data in cluster.probes.values():
        data["kernel_state"]["sysctls"]["net.core.somaxconn"] = "128"
    made = cluster.plan()
    assert all("set net.core.somaxconn" in made.names(host) for host in HOSTS)
    assert not any("set net.no.such" in made.names(host) for host in HOSTS)


# --- a Node that somebody deleted ------------------------------------------------------------------------------------
def conflist(cidr: str) -> dict[str, t.Any]:
    """The configuration of the pods' network as containerd has made it, as a probe sees it."""
    plugins = [{"type": "bridge", "ipam": {"type": "host-local", "ranges": [[{"subnet": cidr}]]}}, {"type": "portmap"}]
    return dataclasses.asdict(SeenPath("file", "0644", "root", "root", text=json.dumps({"plugins": plugins})))


def losing(running: Cluster, host: str, **changed: t.Any) -> Cluster:
    """The cluster without the Node of a host, or with that Node ``changed``."""
    cluster = copied(running)
    data = cluster.probes["cp1"]["nodes"]
    data["nodes"] = [
        {**node, **(changed if node["name"] == host else {"pod_cidrs": ["10.244.9.0/24"]})}
        for node in data["nodes"]
        if changed or node["name"] != host
    ]
    cluster.probes[host]["state"]["paths"]["/etc/cni/net.d/10-containerd-net.conflist"] = conflist("10.244.3.0/24")
    return cluster


def test_a_node_that_was_deleted_is_made_again_with_its_network(running: Cluster) -> None:
    cluster = losing(running, "w1")
    made = cluster.plan()
    assert {host: made.names(host) for host in HOSTS} == {
        "cp1": ["create node w1", "label node w1"],
        "w1": ["restart kubelet.service", "restart flanneld.service"],
        "w2": [],
    }
    assert made.blueprint.rolling == made.blueprint.joining == ()
    spec = {"podCIDR": "10.244.3.0/24", "podCIDRs": ["10.244.3.0/24"], "taints": []}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "w1"}, "spec": spec}
    assert as_json(made.blueprint.remade) == {"w1": node}
    limited = cluster.plan(outside=frozenset({"cp1", "w2"}))
    assert limited.names("w1") == made.names("w1")
    assert limited.names("cp1") == made.names("cp1")
    assert cluster.plan(outside=frozenset({"w1", "w2"})).blueprint.pending == ()
    cluster.carry_out(made)
    assert nothing(cluster.plan())


def test_a_node_of_the_control_plane_takes_no_pods_from_the_beginning(running: Cluster) -> None:
    cluster = losing(running, "cp1")
    made = cluster.plan()
    (node,) = made.blueprint.remade.values()
    assert node["spec"]["taints"] == [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}]
    assert made.blueprint.rolling == ()
    cluster.probes["cp1"]["state"]["units"]["kube-apiserver.service"]["digest"] = "old"
    assert cluster.plan().blueprint.rolling == ("cp1",)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"registered": False, "routed": False}, ["restart kubelet.service", "restart flanneld.service"]),
        ({"routed": False}, ["restart flanneld.service"]),
        ({"ready": False}, []),
    ],
)
def test_what_a_run_that_was_cut_after_the_node_was_made_left_is_done(
    running: Cluster, changed: dict[str, t.Any], expected: list[str]
) -> None:
    made = losing(running, "w1", **changed).plan()
    assert made.names("w1") == expected
    assert made.blueprint.remade == {}
    assert made.blueprint.rolling == ()


@pytest.mark.parametrize("text", ["", "{", "{}", '{"plugins": []}', '{"plugins": [{"ipam": {"ranges": [[null]]}}]}'])
def test_a_host_without_a_network_of_its_own_registers_and_gets_one(running: Cluster, text: str) -> None:
    cluster = losing(running, "w1")
    cluster.probes["w1"]["state"]["paths"]["/etc/cni/net.d/10-containerd-net.conflist"]["text"] = text
    made = cluster.plan()
    assert made.blueprint.remade == {}
    assert made.names("w1") == ["restart kubelet.service", "restart flanneld.service"]
    assert made.names("cp1") == ["label node w1"]


def test_two_hosts_do_not_get_one_network(running: Cluster) -> None:
    cluster = losing(running, "w1")
    cluster.probes["cp1"]["nodes"]["nodes"][-1]["pod_cidrs"] = ["10.244.3.0/24"]
    (problem,) = refused(cluster)
    assert problem.startswith("w1: node w1: is gone, and w2 has 10.244.3.0/24 now")


def test_who_is_to_be_taken_out_for_it_keeps_nobody_from_that(running: Cluster) -> None:
    """Also the leader, which has steps all the same: what it does for others."""
    cluster = losing(running, "cp1")
    cluster.probes["cp1"]["nodes"]["nodes"][-1]["pod_cidrs"] = ["10.244.3.0/24"]
    blueprint = cluster.plan(whole=False).blueprint
    assert [problem.where for problem in blueprint.refused] == ["cp1: node cp1"]
    assert blueprint.remade == {}


def test_where_no_api_answers_no_node_is_lost(running: Cluster) -> None:
    cluster = losing(running, "w1")
    cluster.probes["cp1"]["nodes"] = None
    made = cluster.plan()
    assert made.names("w1") == []
    assert made.blueprint.remade == {}


# --- interrupted ------------------------------------------------------------------------------------------------------
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({host: st.floats(0, 1) for host in HOSTS}))
def test_a_first_run_cut_off_anywhere_is_finished_by_the_next(
    first: tuple[Cluster, Made], shares: dict[str, float]
) -> None:
    cluster, made = copied(first[0]), first[1]
    done = {host: int(share * (len(made.blueprint.steps[host]) + 1)) for host, share in shares.items()}
    kept = {host: {id(step) for step in made.blueprint.steps[host][: done[host]]} for host in HOSTS}
    cluster.carry_out(made, only=lambda host, step: id(step) in kept[host])
    second = cluster.plan()
    if done["cp1"] < len(made.blueprint.steps["cp1"]):
        assert second.blueprint.pending
    formed = cluster.probes["cp1"]["etcd"]["formed"]
    assert second.verdict.generator == (None if formed else "cp1")
    cluster.carry_out(second)
    assert nothing(cluster.plan())


def test_a_token_left_from_a_run_that_was_cut_off_is_written_anew(first: tuple[Cluster, Made]) -> None:
    cluster = copied(first[0])
    cluster.carry_out(first[1], only=lambda host, step: step.phase != "network" and "kubelet.service" not in
                      step.change.name)  # fmt: skip
    again = cluster.plan()
    assert "write /run/slipway/bootstrap-kubelet.conf" in again.names("w1")
    assert again.blueprint.joining == HOSTS


# --- seeds ------------------------------------------------------------------------------------------------------------
def test_the_leader_is_the_seed_and_without_it_the_host_that_needs_least(first: tuple[Cluster, Made]) -> None:
    cluster, made = first
    seen = {name: planner.observation(cluster.probes[name]) for name in ("w1", "w2")}
    held = {entry.sha256 for entry in made.blueprint.seeded if entry.name in ("kubelet", "containerd")}
    data = {**cluster.probes["w2"], "artifact_state": ArtifactsSeen(blobs=frozenset(held)).to_data()}
    seen["w2"] = planner.observation(data)
    verdict = evidence.Evidence("cp1", None, bootstrap=False)
    context = planner.Context(made.spec, made.layout, made.nodes, seen, cluster.lock, verdict, "")
    blueprint = planner.build(context)
    assert blueprint.seed == "w2"
    assert set(blueprint.steps) == {"w1", "w2"}
    assert "create bootstrap token" not in {step.change.name for steps in blueprint.steps.values() for step in steps}


# --- problems ---------------------------------------------------------------------------------------------------------
def refused(cluster: Cluster) -> list[str]:
    with pytest.raises(SlipwayError) as caught:
        cluster.plan()
    return [f"{problem.where}: {problem.found}" for problem in caught.value.problems]


def test_an_architecture_that_the_bundle_does_not_have() -> None:
    cluster = one_and_two()
    cluster.probes["w1"]["architecture"] = "arm64"
    (problem,) = refused(cluster)
    assert problem.startswith("w1: artefacts: the bundle has no kubelet, kube-proxy, containerd")
    assert problem.endswith("for arm64")
    cluster.lock = lock(["amd64", "arm64"])
    assert {name for name in cluster.plan().names("cp1") if "kubelet" in name and "seed" in name} == {
        "seed kubelet 1.37.0 (amd64)",
        "seed kubelet 1.37.0 (arm64)",
    }


def test_the_problems_of_all_hosts_are_told_at_once() -> None:
    cluster = one_and_two()
    cluster.probes["cp1"]["etcd"]["data"] = True
    cluster.probes["w1"]["architecture"] = "arm64"
    cluster.probes["w2"]["state"] = SeenState(paths={
        "/etc/kubernetes": SeenPath("file"), "/var/lib/slipway": SeenPath("link"),
    }).to_data()  # fmt: skip
    assert [problem.split(" ")[0] for problem in refused(cluster)] == ["w1:", "cp1:", "w2:", "w2:"]


# --- secrets ----------------------------------------------------------------------------------------------------------
def test_passwords_of_registries_are_in_no_parameter_and_no_text() -> None:
    cluster = one_and_two(
        slipway_containerd={"registries": [{"host": "registry.example", "username": "puller"}]},
        slipway_secret_registry_passwords={"registry.example": "hunter2"},
    )
    made = cluster.plan()
    assert made.blueprint.hosts["w1"]["containerd"]["credentials"] == {"registry.example": "puller"}
    told = [
        (step.change.before, step.change.after, step.change.name, step.change.sentence)
        for steps in made.blueprint.steps.values()
        for step in steps
    ]
    text = json.dumps([made.blueprint.hosts, told])
    # As containerd wants it: base64 of user name and password.
    assert "hunter2" not in text
    assert "cHVsbGVyOmh1bnRlcjI=" not in text
    assert "write /etc/containerd/certs.d/registry.example/hosts.toml" in made.names("w1")
    cluster.carry_out(made)
    assert nothing(cluster.plan())


# --- several control-plane hosts --------------------------------------------------------------------------------------
def settled(cluster: Cluster) -> Cluster:
    """The cluster once its plan was carried out; no second plan has anything to do."""
    done = copied(cluster)
    done.carry_out(done.plan())
    assert nothing(done.plan())
    return done


@pytest.fixture(scope="module")
def three() -> Cluster:
    """Three control-plane hosts and a worker that run."""
    return settled(three_and_one())


def test_three_bare_hosts_form_etcd_together_and_two_receive_the_keys_of_the_third() -> None:
    made = three_and_one().plan()
    assert made.blueprint.receiving == ("cp2", "cp3")
    assert made.blueprint.members == made.blueprint.rolling == ()
    for host in ("cp1", "cp2", "cp3"):
        assert "record the intent to form etcd" in made.names(host)
    assert "make authority kubernetes" in made.names("cp1")
    assert made.names("cp2")[made.names("cp2").index("make receiver key") + 1] == "install authority kubernetes"


def grown(**variables: t.Any) -> Cluster:
    """One control-plane host and a worker that run, and two more that are to join them."""
    cluster = three_and_one(**variables)
    bare_ones = {name: cluster.probes.pop(name) for name in ("cp2", "cp3")}
    groups = {name: cluster.groups.pop(name) for name in ("cp2", "cp3")}
    done = settled(cluster)
    done.groups |= groups
    done.probes |= bare_ones
    return done


def test_growing_from_one_to_three_restarts_no_kubelet_and_no_server() -> None:
    cluster = grown()
    made = cluster.plan()
    assert made.blueprint.members == made.blueprint.receiving == made.blueprint.joining == ("cp2", "cp3")
    assert made.blueprint.rolling == ()
    assert made.names("w1") == ["write /etc/slipway/proxy.cfg", "write /etc/systemd/system/slipway-proxy.service",
                                "restart slipway-proxy.service"]  # fmt: skip
    assert [name for name in made.names("cp1") if name.startswith("restart ")] == ["restart slipway-proxy.service"]
    assert "add the member as a learner" in made.names("cp2")
    assert nothing(settled(cluster).plan())


def test_a_replaced_first_host_gets_the_keys_of_another(three: Cluster) -> None:
    cluster = copied(three)
    cluster.probes["cp1"] = bare("cp1")
    for name in ("cp2", "cp3"):
        for member in cluster.probes[name]["etcd"]["members"]:
            member["healthy"] = member["name"] != "cp1"
    made = cluster.plan()
    assert (made.blueprint.leader, made.blueprint.receiving, made.blueprint.members) == ("cp2", ("cp1",), ("cp1",))
    assert "remove the member that has lost its data" in made.names("cp1")
    assert not any(name.startswith("make authority") for name in made.names("cp1"))
    assert {name.split()[0] for name in made.names("cp2")} <= {"seed", "serve", "label", "create"}
    assert made.names("cp3") == []


def test_a_worker_becomes_a_control_plane_host_in_its_turn(three: Cluster) -> None:
    cluster = copied(three)
    cluster.groups["w2"] = "workers"
    cluster.probes["w2"] = bare("w2")
    cluster = settled(cluster)
    cluster.groups["w1"] = "control_plane"
    # The probe sees the certificate of the authority, which every worker has, among the keys.
    authority = cluster.probes["cp1"]["pki"]["files"][paths.CA]
    cluster.probes["w1"]["pki"]["files"][paths.CA] = copy.deepcopy(authority)
    made = cluster.plan()
    blueprint = made.blueprint
    assert (blueprint.receiving, blueprint.members, blueprint.rolling) == (("w1",), ("w1",), ("w1",))
    assert "install authority kubernetes" in made.names("w1")
    assert "restart kubelet.service" in made.names("w1")
    assert nothing(settled(cluster).plan())


def with_a_new_machine(cluster: Cluster) -> Cluster:
    """The cluster with a bare machine under the name of cp1, at another address."""
    changed = copied(cluster)
    address = "10.0.0.77"
    changed.own["cp1"] = {"ansible_host": address}
    addresses = [{**each, "address": address} for each in bare("cp1")["addresses"]]
    route = {**bare("cp1")["default_route"], "source": address}
    changed.probes["cp1"] = bare("cp1", addresses=addresses, default_route=route)
    return changed


def test_a_machine_of_the_same_name_and_another_address_takes_the_dead_ones_place(three: Cluster) -> None:
    cluster = with_a_new_machine(three)
    for name in ("cp2", "cp3"):
        for member in cluster.probes[name]["etcd"]["members"]:
            member["healthy"] = member["name"] != "cp1"
    made = cluster.plan()
    assert (made.blueprint.receiving, made.blueprint.members, made.blueprint.rolling) == (("cp1",), ("cp1",), ())
    replaced = made.names("cp1").index("remove the member that this host replaces, https://10.0.0.11:2380")
    assert made.names("cp1")[replaced + 1] == "add the member as a learner"


def test_what_cannot_be_planned_is_left_out_where_nothing_of_it_is_carried_out(three: Cluster) -> None:
    cluster = with_a_new_machine(three)
    with pytest.raises(SlipwayError, match="is to take its place, but it is healthy"):
        cluster.plan()
    blueprint = cluster.plan(whole=False).blueprint
    assert [problem.where for problem in blueprint.refused] == ["cp1: etcd member cp1"]
    assert set(blueprint.hosts) == {"cp2", "cp3", "w1"}


@pytest.mark.parametrize("declared", [False, True])
@pytest.mark.parametrize(
    ("groups", "away"),
    [
        ({"cp1": "control_plane", "cp2": "control_plane", "cp3": "control_plane", "w1": "workers"}, "cp1"),
        ({"cp1": "control_plane", "w1": "workers"}, "w1"),
        ({"cp1": "control_plane", "e1": "etcd", "w1": "workers"}, "e1"),
        ({"cp1": "control_plane", "e1": "etcd", "e2": "etcd", "e3": "etcd"}, "e2"),
        ({"cp1": "control_plane", "w1": "workers", "r1": "registry"}, "r1"),
    ],
)
def test_a_host_that_is_away_changes_nothing_for_the_others(groups: dict[str, str], away: str, declared: bool) -> None:
    cluster = Cluster(groups, {"slipway_secret_registry_password": "hunter2hunter2"})
    cluster.probes = {name: bare(name) for name in groups}
    cluster = settled(cluster)
    layout = cluster.plan().layout
    del cluster.probes[away]
    if declared:
        cluster.own[away] = {"slipway_node_absent": True}
    made = cluster.plan()
    assert nothing(made)
    assert made.layout == layout
    assert not made.verdict.bootstrap


@pytest.mark.parametrize(
    ("runs", "current", "stamp", "expected"),
    [
        ("1.37.0", "1.37.0", True, []),
        ("1.37.0", "0.0.1", True, ["activate kubelet 1.37.0"]),
        ("0.0.1", "1.37.0", True, ["restart kubelet.service"]),
        ("0.0.1", "0.0.1", True, ["activate kubelet 1.37.0", "restart kubelet.service"]),
        ("1.37.0", "1.37.0", False, ["unpack kubelet 1.37.0", "restart kubelet.service"]),
        ("1.37.0.old", "1.37.0", True, ["restart kubelet.service"]),
        ("", "0.0.1", True, ["activate kubelet 1.37.0"]),
    ],
)
def test_what_runs_another_program_is_restarted_in_its_turn(
    running: Cluster, runs: str, current: str, stamp: bool, expected: list[str]
) -> None:
    cluster = copied(running)
    data = cluster.probes["w1"]
    component = data["artifact_state"]["components"]["kubelet"]
    component["current"] = current
    if not stamp:
        component["stamps"] = {}
        data["artifact_state"]["blobs"] = [entry.sha256 for entry in cluster.lock.artifacts if entry.name == "kubelet"]
    if runs:
        paths = {"program": "current", "starts": current, "runs": runs}
        data["state"]["units"]["kubelet.service"].update(
            {key: f"/opt/slipway/kubelet/{version}/kubelet" for key, version in paths.items()}
        )
    made = cluster.plan()
    assert made.names("w1") == expected
    assert made.blueprint.rolling == (("w1",) if "restart kubelet.service" in expected else ())
    cluster.carry_out(made)
    assert nothing(cluster.plan())


def test_restarts_of_what_runs_take_turns(three: Cluster) -> None:
    cluster = copied(three)
    cluster.variables["slipway_apiserver_args"] = {"v": "4"}
    made = cluster.plan()
    assert made.blueprint.rolling == ("cp1", "cp2", "cp3")
    cluster.variables = {"slipway_kubelet": {"maxPods": 90}}
    assert cluster.plan().blueprint.rolling == ("cp1", "cp2", "cp3", "w1")


def test_a_turn_ends_when_the_node_is_ready_again_if_it_was(three: Cluster) -> None:
    cluster = copied(three)
    cluster.variables = {"slipway_node_profiles": [{"groups": ["slipway_workers"], "kubelet": {"maxPods": 90}}]}
    for ready in (True, False):
        for probe in cluster.probes.values():
            for node in (probe["nodes"] or {}).get("nodes", ()):
                node["ready"] = ready
        made = cluster.plan()
        assert made.blueprint.rolling == ("w1",)
        waits = {
            host: [wait["url"] for wait in params["network"]["wait"] if wait.get("since") == "kubelet.service"]
            for host, params in made.blueprint.hosts.items()
        }
        own = ["https://127.0.0.1:6444/api/v1/nodes/w1"] if ready else []
        assert waits == {"cp1": [], "cp2": [], "cp3": [], "w1": own}
        assert parse_waits(made.blueprint.hosts["w1"]["network"]["wait"])


def test_hosts_outside_the_limit_are_looked_at_and_left_alone(three: Cluster) -> None:
    cluster = copied(three)
    cluster.groups["w2"] = "workers"
    cluster.probes = {"cp2": cluster.probes["cp2"], "w2": bare("w2")}
    made = cluster.plan(outside={"cp2"})
    assert made.blueprint.joining == ("w2",)
    assert (made.blueprint.leader, made.names("cp2")) == (
        "cp2",
        ["create bootstrap token", "allow a serving certificate for w2", "label node w2"],
    )
    assert set(made.blueprint.hosts) == {"w2"}


def test_the_keeper_of_a_host_for_etcd_alone_renews_its_certificates_and_approves_nothing() -> None:
    groups = {"cp1": "control_plane", "e1": "etcd", "w1": "workers"}
    cluster = Cluster(groups, {}, probes={name: bare(name) for name in groups})
    made = cluster.plan()
    assert {host for host in groups if "keeper" in made.blueprint.hosts[host]} == {"e1"}
    files = {file["path"]: file["content"] for file in made.blueprint.hosts["e1"]["keeper"]["state"]["files"]}
    assert json.loads(files["/etc/slipway/nodes.json"]) == {}
    renewed = {leaf["name"] for leaf in json.loads(files["/etc/slipway/certificates.json"])["certificates"]}
    assert {"etcd-server", "etcd-peer"} <= renewed
    assert "start slipway-keeper.timer" in made.names("e1")
    cluster.carry_out(made)
    assert nothing(cluster.plan())
