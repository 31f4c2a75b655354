# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the inventory and the probes to the data that the plays read, and every problem on the way."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import typing as t

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.slipway.cluster.plugins.module_utils.core.hold import SILENCE_SECONDS, TASKS_SECONDS
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.modules import seed
from ansible_collections.slipway.cluster.plugins.plugin_utils import blueprint
from ansible_collections.slipway.cluster.plugins.plugin_utils.blueprint import (
    Inputs,
    make,
    outside,
    read_lock,
    report,
    version_sets,
)
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.record import record_object
from tests.unit.plugins.cluster import NOW, Cluster, bare, copied, lock, one_and_two, three_and_one


@pytest.fixture
def bundle(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "bundle.json").write_text(lock().as_text())
    return tmp_path


def inputs(cluster: Cluster, bundle: pathlib.Path | None = None, **silent: str) -> Inputs:
    if bundle:
        cluster.variables["slipway_bundle"] = str(bundle)
    clocks = {name: {"before": NOW, "after": NOW + 1} for name in cluster.probes}
    return Inputs(cluster.inputs(), cluster.probes, clocks, silent, directory=str(bundle or ""))


def problems(given: Inputs) -> list[Problem]:
    with pytest.raises(SlipwayError) as caught:
        make(given)
    return list(caught.value.problems)


def told(given: Inputs) -> str:
    return "\n".join(problem.text() for problem in problems(given))


# --- what there is to plan with ---------------------------------------------------------------------------------------
def test_the_shipped_version_sets_are_read() -> None:
    sets = version_sets()
    assert {"1.36", "1.37"} <= set(sets)
    assert all(versions["kubernetes"].startswith(minor) for minor, versions in sets.items())


def test_a_set_that_is_malformed_names_its_file(tmp_path: pathlib.Path) -> None:
    (tmp_path / "1.37.yml").write_text("set: 1.37\n")
    with pytest.raises(SlipwayError, match=r"1\.37\.yml"):
        version_sets(tmp_path)
    assert version_sets(tmp_path / "none") == {}


def test_a_bundle_is_a_directory_and_a_lock_a_file(bundle: pathlib.Path) -> None:
    cluster = one_and_two(slipway_bundle=str(bundle))
    found, directory = read_lock(cluster.spec())
    assert (found.source, directory) == ("bundle", str(bundle))
    upstream = bundle / "upstream.json"
    rows = [
        dataclasses.replace(entry, file="", url="https://example.test/x") if entry.kind != "image" else entry
        for entry in lock(source="upstream").artifacts
    ]
    upstream.write_text(dataclasses.replace(lock(source="upstream"), artifacts=tuple(rows)).as_text())
    found, directory = read_lock(one_and_two(slipway_bundle=str(upstream)).spec())
    assert (found.source, directory) == ("upstream", "")


def test_without_a_bundle_it_is_said_how_to_get_one() -> None:
    with pytest.raises(SlipwayError) as caught:
        read_lock(one_and_two().spec())
    (problem,) = caught.value.problems
    assert (problem.where, problem.found) == ("slipway_bundle", "is not set, so there is nothing to install")
    assert "slipway bundle build --kubernetes 1.37" in problem.remedy
    assert "slipway bundle lock --kubernetes 1.37 --output" in problem.remedy


def test_a_bundle_that_is_not_there_names_the_path(tmp_path: pathlib.Path) -> None:
    missing = tmp_path / "none"
    with pytest.raises(SlipwayError) as caught:
        read_lock(one_and_two(slipway_bundle=str(missing)).spec())
    (problem,) = caught.value.problems
    assert (problem.where, problem.found) == ("slipway_bundle", f"{missing}: No such file or directory")


def test_a_bundle_of_another_version_is_refused(bundle: pathlib.Path) -> None:
    (bundle / "bundle.json").write_text(lock(versions={**lock().versions, "kubernetes": "1.37.5"}).as_text())
    text = told(inputs(one_and_two(), bundle))
    assert f"1.37.0 is asked for, and {bundle}/bundle.json has 1.37.5" in text
    cluster = one_and_two(slipway_kubernetes_version="1.37.5")
    assert make(inputs(cluster, bundle))["record"]["versions"]["kubernetes"] == "1.37.5"


def test_a_bundle_without_the_images_of_a_cluster_is_refused(bundle: pathlib.Path) -> None:
    without = dataclasses.replace(lock(), artifacts=tuple(a for a in lock().artifacts if a.name != "coredns"))
    (bundle / "bundle.json").write_text(without.as_text())
    assert "has no image coredns" in told(inputs(one_and_two(), bundle))
    assert make(inputs(one_and_two(slipway_dns={"enabled": False}), bundle))["verify"]["addons"]["dns"] is False


# --- data -------------------------------------------------------------------------------------------------------------
def test_the_data_is_json_and_has_what_the_plays_read(bundle: pathlib.Path) -> None:
    data = make(inputs(one_and_two(), bundle))
    assert set(json.loads(json.dumps(data))["hosts"]) == {"cp1", "w1", "w2"}
    assert (data["leader"], data["seed"], data["endpoint"]) == ("cp1", "cp1", "10.0.0.11:6443")
    assert data["pending"] == data["joining"] == ["cp1", "w1", "w2"]
    assert data["seed_params"]["bundle"] == str(bundle)
    assert data["seed_params"]["serve"] is True
    assert data["seed_params"]["address"] == "10.0.0.11"
    assert data["manifests"]["bootstrap"]
    assert data["manifests"]["addons"][0]["name"] == "dns"
    assert data["verify"]["nodes"] == dict.fromkeys(("cp1", "w1", "w2"), "v1.37.0")
    assert data["verify"]["etcd_endpoints"] == ["https://10.0.0.11:2379"]


def test_a_pending_host_takes_part_in_the_plays_of_its_roles(bundle: pathlib.Path) -> None:
    groups = make(inputs(one_and_two(), bundle))["groups"]
    assert groups["cp1"]["parents"] == [
        "slipway_changing",
        "slipway_pending",
        "slipway_pending_control_plane",
        "slipway_pending_etcd",
        "slipway_pending_node",
        "slipway_making",
        "slipway_forming_etcd",
    ]
    assert groups["w1"]["parents"] == ["slipway_changing", "slipway_pending", "slipway_pending_node"]
    assert groups["w1"]["key"] == groups["w2"]["key"] != groups["cp1"]["key"]


def test_a_host_on_which_nothing_changes_takes_part_in_none(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    cluster.carry_out(cluster.plan())
    # The keeper that was built is not the one the simulation wrote.
    data = make(inputs(cluster, bundle))
    assert data["pending"] == ["cp1"]
    assert {step["action"] for step in data["actions"]["cp1"]} == {"write /var/lib/slipway/keeper.pyz"}
    assert data["groups"]["w1"] == {"key": "slipway_settled", "parents": ["all"]}
    assert report(data)["pending"] is True
    assert report(data)["hosts"]["w1"] == []


def test_a_run_that_was_cut_before_its_record_leaves_it_to_the_next(
    bundle: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blueprint, "build_keeper", lambda: b"keeper")
    cluster = one_and_two()
    cluster.carry_out(cluster.plan())
    data = make(inputs(cluster, bundle))
    assert data["pending"] == []
    assert data["unrecorded"] is True
    assert data["groups"]["cp1"] == {"key": "slipway_settled_unrecorded", "parents": ["slipway_changed"]}
    record = record_object(data["record"], time="now", by="me", release="0.1.0")
    cluster.probes["cp1"]["record"] = record["data"]
    data = make(inputs(cluster, bundle))
    assert data["unrecorded"] is False
    assert data["groups"]["cp1"] == data["groups"]["w1"]


def test_what_a_person_is_shown(bundle: pathlib.Path) -> None:
    data = make(inputs(one_and_two(), bundle))
    shown = report(data)
    assert set(shown) >= {"cluster", "pending", "hosts", "diff", "warnings"}
    first = shown["hosts"]["w1"][0]
    assert set(first) == {"phase", "module", "action"}
    assert {"name", "before", "after"} == set(shown["diff"]["w1"][0])
    assert not any("bootstrap-kubelet" in diff["name"] for diff in shown["diff"]["w1"])


def test_no_password_and_no_token_is_in_the_plan(bundle: pathlib.Path) -> None:
    cluster = one_and_two(
        slipway_containerd={"registries": [{"host": "registry.example", "username": "puller"}]},
        slipway_secret_registry_passwords={"registry.example": "hunter2"},
    )
    text = json.dumps(make(inputs(cluster, bundle)))
    assert "registry.example" in text
    assert "hunter2" not in text
    assert "cHVsbGVyOmh1bnRlcjI=" not in text


def test_a_new_cluster_gets_an_id_of_its_own_and_keeps_it(bundle: pathlib.Path) -> None:
    def ids(cluster: Cluster) -> set[str]:
        hosts = make(inputs(cluster, bundle))["hosts"]
        files = [file for host in hosts.values() for file in host["host"]["state"]["files"]]
        return {json.loads(file["content"])["id"] for file in files if file["path"] == "/etc/slipway/cluster.json"}

    first, second = ids(one_and_two()), ids(one_and_two())
    assert len(first) == len(second) == 1
    assert first != second
    begun = one_and_two()
    begun.probes["w1"]["cluster"] = {"name": "slipway", "id": "begun"}
    assert ids(begun) == {"begun"}


def test_explain_says_where_values_come_from(bundle: pathlib.Path) -> None:
    rows = make(inputs(one_and_two(), bundle))["explain"]["w1"]
    assert all(len(row) == 3 for row in rows)
    assert any(row[0] == "address" and row[1] == "10.0.0.51" for row in rows)


ROLES = pathlib.Path(__file__).parents[4] / "roles"
# What a play decides, as it depends on other hosts: the seed's blobs, and what is sealed.
ELSEWHERE = {"keep_blobs", "awaits", "receive", "receiver", "seal_items", "seal_to", "sealed"}


@pytest.mark.parametrize(
    ("part", "role", "variable"),
    [
        *((part, part, f"{part}_target") for part in ("host", "pki", "etcd", "control_plane", "node", "network")),
        *((part, "runtime", f"runtime_{part}") for part in ("artifacts", "containerd")),
    ],
)
def test_a_role_hands_on_all_that_the_plan_says(part: str, role: str, variable: str, bundle: pathlib.Path) -> None:
    """A parameter that a role forgets is planned with and never carried out."""
    tasks = "".join(path.read_text(encoding="utf-8") for path in sorted((ROLES / role / "tasks").glob("*.yml")))
    handed = {name for pair in re.findall(rf"\b{variable}(?:\.(\w+)|\['(\w+)'\])", tasks) for name in pair if name}
    planned = make(inputs(three_and_one(), bundle))["hosts"]["cp1"][part]
    assert set(planned) - ELSEWHERE == handed


# --- hosts that do not take part --------------------------------------------------------------------------------------
def test_a_silent_worker_is_said_and_the_others_go_on(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    del cluster.probes["w2"]
    data = make(inputs(cluster, bundle, w2="Connection timed out"))
    (warning,) = [each for each in data["warnings"] if each["where"] == "w2"]
    assert "Connection timed out" in warning["found"]
    assert data["pending"] == ["cp1", "w1"]
    assert data["groups"]["w2"]["key"] == "slipway_settled"


def test_all_silent_workers_are_one_sentence_and_stop_nobody(bundle: pathlib.Path) -> None:
    names = [f"w{number}" for number in range(1, 9)]
    groups = {"cp1": "control_plane", **dict.fromkeys(names, "workers")}
    cluster = Cluster(groups, probes={"cp1": bare("cp1")})
    data = make(inputs(cluster, bundle, **dict.fromkeys(names, "Connection timed out")))
    assert [each["where"] for each in data["warnings"] if "timed out" in each["found"]] == [", ".join(names)]
    assert data["pending"] == ["cp1"]


def test_a_host_that_leaves_takes_no_part(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    cluster.own["w2"] = {"slipway_node_absent": True}
    data = make(inputs(cluster, bundle))
    assert "w2" not in data["hosts"]
    assert data["groups"]["w2"]["key"] == "slipway_settled"
    assert data["joining"] == ["cp1", "w1"]


def running() -> Cluster:
    """Three and one, and all is well."""
    cluster = three_and_one()
    cluster.carry_out(cluster.plan())
    for data in cluster.probes.values():
        for node in (data["nodes"] or {"nodes": []})["nodes"]:
            node["ready"] = True
    return cluster


def lose(cluster: Cluster, name: str) -> None:
    """A control-plane host is off."""
    del cluster.probes[name]
    for data in cluster.probes.values():
        for member in data["etcd"].get("members", ()):
            member["healthy"] = member["name"] != name


def test_a_turn_waits_for_what_was_well_and_not_for_a_host_that_is_down(bundle: pathlib.Path) -> None:
    """The API calls the Node of a host Ready for some time after its power was cut."""
    cluster = running()
    whole = make(inputs(cluster, bundle))["gate"]
    assert (whole["etcd_down"], whole["nodes"]) == ([], ["cp1", "cp2", "cp3", "w1"])

    lose(cluster, "cp1")
    gate = make(inputs(cluster, bundle, cp1="No route to host"))["gate"]
    assert (gate["etcd_down"], gate["nodes"]) == (["cp1"], ["cp2", "cp3", "w1"])
    assert gate["etcd_endpoints"] == [f"https://10.0.0.{number}:2379" for number in (12, 13)]
    assert gate["api_servers"] == [f"https://10.0.0.{number}:6443" for number in (12, 13)]


def maintained(data: dict[str, t.Any], host: str) -> dict[str, t.Any]:
    """What the role maintain has for a host when nothing is given but the plan."""
    text = (ROLES / "maintain/defaults/main.yml").read_text(encoding="utf-8")
    defaults = {
        name: trust_as_template(value) if isinstance(value, str) else value
        for name, value in yaml.safe_load(text).items()
    }
    variables = {**defaults, "slipway_plan": {"plan": data}, "inventory_hostname": host}
    templar = Templar(loader=DataLoader(), variables=variables)
    return {name: templar.template(value) for name, value in defaults.items()}


def without_node(cluster: Cluster, name: str) -> None:
    """Somebody has deleted its Node."""
    nodes = cluster.probes["cp1"]["nodes"]
    nodes["nodes"] = [node for node in nodes["nodes"] if node["name"] != name]
    ranges = {"plugins": [{"ipam": {"ranges": [[{"subnet": "10.244.3.0/24"}]]}}]}
    paths = cluster.probes[name]["state"]["paths"]
    paths["/etc/cni/net.d/10-containerd-net.conflist"] = {"kind": "file", "text": json.dumps(ranges)}


@pytest.mark.parametrize(
    ("verb", "lenient", "refuses"),
    [
        ("apply", False, True),
        ("", False, True),
        ("", True, False),
        ("maintain", False, False),
        ("remove", False, False),
    ],
)
def test_a_node_that_cannot_be_made_again_stops_only_apply(
    bundle: pathlib.Path, verb: str, lenient: bool, refuses: bool
) -> None:
    cluster = one_and_two()
    cluster.carry_out(cluster.plan())
    without_node(cluster, "w1")
    cluster.probes["cp1"]["nodes"]["nodes"][-1]["pod_cidrs"] = ["10.244.3.0/24"]
    given = dataclasses.replace(inputs(cluster, bundle), verb=verb, lenient=lenient)
    expected = "w1: node w1: is gone, and w2 has 10.244.3.0/24 now"
    if refuses:
        assert expected in told(given)
        return
    data = make(given)
    assert [each["where"] for each in data["warnings"] if each["found"].startswith("is gone")] == ["w1: node w1"]
    assert set(data["verify"]["nodes"]) == set(data["roster"]) == set(cluster.groups)


def test_a_node_that_is_made_again_in_a_turn_is_there_before_new_ones_join(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    cluster.carry_out(cluster.plan())
    without_node(cluster, "w1")
    cluster.probes["w1"]["state"]["units"]["containerd.service"]["digest"] = "old"
    cluster.groups["w3"], cluster.probes["w3"] = "workers", bare("w3")
    data = make(inputs(cluster, bundle))
    assert "slipway_rolling_workers" in data["groups"]["w1"]["parents"]
    assert "slipway_pending_node" in data["groups"]["w3"]["parents"]
    plays = yaml.safe_load((blueprint.COLLECTION / "playbooks/apply.yml").read_text())
    (joining,) = (play for play in plays if "slipway_pending_node" in play.get("hosts", ""))
    text = trust_as_template(joining["tasks"][0]["vars"]["node_missing"])
    variables = {"slipway_plan": {"plan": data}, "ansible_play_batch": ["w3"]}
    made = Templar(loader=DataLoader(), variables=variables).template(text)
    assert [node["metadata"]["name"] for node in made] == ["w1"]


def test_etcd_is_asked_where_it_runs_and_answers(bundle: pathlib.Path) -> None:
    cluster = Cluster({"cp1": "control_plane", "e1": "etcd", "e2": "etcd", "w1": "workers"})
    cluster.probes = {name: bare(name) for name in cluster.groups}
    cluster.carry_out(cluster.plan())
    helpers = {name: own["etcd_helper"] for name, own in make(inputs(cluster, bundle))["roster"].items()}
    assert helpers == {"cp1": "e1", "e1": "e2", "e2": "e1", "w1": "e1"}
    limited = dataclasses.replace(inputs(cluster, bundle), asked=frozenset({"w1"}))
    assert make(limited)["roster"]["w1"]["etcd_helper"] == "e1"
    cluster.probes["e1"]["etcd"]["members"] = None
    data = make(inputs(cluster, bundle))
    assert data["roster"]["w1"]["etcd_helper"] == "e2"
    assert data["helpers"] == {"control_plane": ["cp1"], "etcd": ["e2", "e1"]}


@pytest.mark.parametrize("away", ["absent", "silent"])
def test_maintenance_asks_for_what_was_well_like_a_turn(bundle: pathlib.Path, away: str) -> None:
    cluster = running()
    lose(cluster, "cp1")
    if away == "absent":
        cluster.own["cp1"] = {"slipway_node_absent": True}
    data = make(inputs(cluster, bundle, **({} if away == "absent" else {"cp1": "No route to host"})))
    for host in ("cp2", "w1"):
        role = maintained(data, host)
        assert {name: role[f"maintain_{name}"] for name in ("etcd_endpoints", "etcd_down", "api_servers")} == {
            name: found for name, found in data["gate"].items() if name != "nodes"
        }
        assert role["maintain_etcd_down"] == ["cp1"]
    assert maintained(data, "cp2")["maintain_etcd_helper"] == "cp3"
    assert maintained(data, "w1")["maintain_helper"] == "cp2"
    assert data["maintain"]["absent"] == (["cp1"] if away == "absent" else [])


@pytest.mark.parametrize(
    ("own", "accept", "host", "stops"),
    [
        ({}, False, "cp2", "cp2"),
        ({"slipway_node_name": "two.example.org"}, False, "cp2", "two.example.org"),
        ({}, True, "cp2", ""),
        ({}, False, "w1", ""),
    ],
)
def test_the_member_that_maintenance_stops(
    bundle: pathlib.Path, own: dict[str, str], accept: bool, host: str, stops: str
) -> None:
    cluster = three_and_one(slipway_accept_quorum_loss=accept)
    cluster.own["cp2"] = own
    assert maintained(make(inputs(cluster, bundle)), host)["maintain_etcd_stops"] == stops


@pytest.mark.parametrize(
    ("network", "own", "url"),
    [
        ({}, {}, "https://127.0.0.1:6444/api/v1/nodes/w1"),
        ({}, {"slipway_node_name": "one.example.org"}, "https://127.0.0.1:6444/api/v1/nodes/one.example.org"),
        ({"plugin": "none"}, {}, None),
    ],
)
def test_maintenance_hears_the_kubelet_itself(
    bundle: pathlib.Path, network: dict[str, str], own: dict[str, str], url: str | None
) -> None:
    cluster = three_and_one(slipway_network=network)
    cluster.own["w1"] = own
    waits = maintained(make(inputs(cluster, bundle)), "w1")["maintain_waits"]
    assert [(wait["url"], wait["since"]) for wait in waits] == ([(url, "kubelet.service")] if url else [])


def test_who_helps_has_an_api_server_that_answers(bundle: pathlib.Path) -> None:
    cluster = running()
    assert make(inputs(cluster, bundle))["roster"]["cp1"]["helper"] == "cp2"
    cluster.probes["cp2"]["nodes"] = None
    data = make(inputs(cluster, bundle))
    assert data["roster"]["cp1"]["helper"] == "cp3"
    assert data["helpers"] == {"control_plane": ["cp1", "cp3", "cp2"], "etcd": ["cp1", "cp2", "cp3"]}
    assert data["gate"]["api_servers"] == [f"https://10.0.0.{number}:6443" for number in (11, 13)]


@pytest.mark.parametrize("away", ["cp2", "e1", "r1"])
@pytest.mark.parametrize(
    ("given", "verb", "lenient", "refuses"),
    [
        ({"ansible_host": "host.example.org"}, "apply", False, True),
        ({"ansible_host": "host.example.org"}, "", True, False),
        ({"ansible_host": "host.example.org"}, "remove", False, False),
        ({"ansible_host": "host.example.org"}, "maintain", False, False),
        ({"ansible_host": "host.example.org", "slipway_node_address": "10.0.0.99"}, "apply", False, False),
    ],
)
def test_others_would_lose_a_host_whose_address_nobody_knows(
    bundle: pathlib.Path, away: str, given: dict[str, str], verb: str, lenient: bool, refuses: bool
) -> None:
    groups = {f"cp{n}": "control_plane" for n in (1, 2, 3)} | {"w1": "workers", "e1": "etcd", "r1": "registry"}
    cluster = Cluster(groups, {"slipway_secret_registry_password": "hunter2hunter2"})
    cluster.probes = {name: bare(name) for name in groups}
    cluster.carry_out(cluster.plan())
    del cluster.probes[away]
    cluster.own[away] = {**given, "slipway_node_absent": True}
    for node in cluster.probes["cp1"]["nodes"]["nodes"]:
        node["addresses"] = ()
    data = dataclasses.replace(inputs(cluster, bundle), verb=verb, lenient=lenient)
    if refuses:
        with pytest.raises(SlipwayError, match=f"{away}: its address is not known.*set slipway_node_address"):
            make(data)
        return
    told = [warning["where"] for warning in make(data)["warnings"] if "address is not known" in warning["found"]]
    assert told == ([] if "slipway_node_address" in given else [away])


@pytest.mark.parametrize("away", ["cp3", "w1", "w2"])
@pytest.mark.parametrize(("verb", "absent"), [("apply", False), ("apply", True), ("maintain", False), ("", True)])
def test_a_host_named_by_dns_that_says_nothing_is_who_the_cluster_knows(
    bundle: pathlib.Path, away: str, verb: str, absent: bool
) -> None:
    groups = {f"cp{n}": "control_plane" for n in (1, 2, 3)} | {"w1": "workers", "w2": "workers ingress"}
    traefik = dataclasses.replace(lock().artifacts[-1], name="traefik", purpose="node")
    cluster = Cluster(groups, {"slipway_ingress": {"gateway": False}}, probes={name: bare(name) for name in groups})
    cluster.lock = dataclasses.replace(lock(), artifacts=(*lock().artifacts, traefik))
    (bundle / "bundle.json").write_text(cluster.lock.as_text())
    cluster.carry_out(cluster.plan())
    cluster.own = {name: {"ansible_host": f"{name}.example.org"} for name in groups}
    answering = make(inputs(cluster, bundle))
    del cluster.probes[away]
    cluster.own[away]["slipway_node_absent"] = absent
    data = make(dataclasses.replace(inputs(cluster), asked=frozenset(cluster.probes), verb=verb))
    # Also the keeper's list of Nodes, and who is in the proxies.
    assert {name: data["actions"][name] for name in cluster.probes} == {
        name: answering["actions"][name] for name in cluster.probes
    }
    assert [warning for warning in data["warnings"] if "inventory" in warning["found"]] == []
    assert set(data["verify"]["nodes"]) == set(groups) - ({away} if absent else set())
    assert data["verify"]["absent"] == ([away] if absent else [])
    assert data["verify"]["etcd_absent"] == (["https://10.0.0.13:2379"] if absent and away == "cp3" else [])
    assert data["verify"]["addons"]["ingress"] == ([] if absent and away == "w2" else ["10.0.0.52"])


@pytest.mark.parametrize(
    ("hosts", "absent", "given", "asked", "unasked"),
    [
        ("", "", {}, [], "the group hubs has no host"),
        ("r1", "", {}, ["10.0.0.71:5000"], ""),
        ("r1", "r1", {}, [], "every host of the group hubs is declared absent (slipway_node_absent)"),
        ("r1 r2", "r1", {}, ["10.0.0.72:5000"], ""),
        (
            "r1 r2",
            "r1",
            {"registries": [{"host": "10.0.0.72:5000"}]},
            [],
            "slipway_containerd.registries says otherwise how nodes reach it",
        ),
    ],
)
def test_which_registries_nodes_are_asked_for_or_why_none(
    bundle: pathlib.Path, hosts: str, absent: str, given: dict[str, t.Any], asked: list[str], unasked: str
) -> None:
    groups = {"cp1": "control_plane", **dict.fromkeys(hosts.split(), "registry")}
    variables = {"slipway_secret_registry_password": "hunter2hunter2", "slipway_containerd": given}
    cluster = Cluster(groups, variables, probes={name: bare(name) for name in groups})
    cluster.carry_out(cluster.plan())
    cluster.variables["slipway_groups"] = {"registry": "hubs"}
    for name in absent.split():
        cluster.own[name] = {"slipway_node_absent": True}
        del cluster.probes[name]
    renamed = {
        name: dataclasses.replace(
            host, groups=frozenset(group.replace("slipway_registry", "hubs") for group in host.groups)
        )
        for name, host in inputs(cluster, bundle).hosts.items()
    }
    registry = make(dataclasses.replace(inputs(cluster), hosts=renamed, lenient=True))["registry"]
    assert (registry["asked"], registry["unasked"]) == (asked, unasked)


def test_verify_expects_a_node_whose_address_nobody_knows(bundle: pathlib.Path) -> None:
    cluster = running()
    cluster.groups["w9"] = "workers"
    cluster.own["w9"] = {"ansible_host": "w9.example.org"}
    data = make(dataclasses.replace(inputs(cluster, bundle, w9="no route"), lenient=True))
    assert set(data["verify"]["nodes"]) == set(cluster.groups)


@pytest.mark.parametrize("wrong", [{}, {"slipway_tyop": 1}, {"slipway_kubernetes_version": "1.2"}])
@pytest.mark.parametrize(
    ("groups", "asked", "expected"),
    [
        ({"cp1": "control_plane", "cp2": "control_plane", "w1": "workers"}, "w1", ["cp1 control_plane"]),
        ({"cp1": "control_plane", "w1": "workers"}, "cp1 w1", []),
        ({"cp1": "control_plane", "e1": "etcd", "w1": "workers"}, "w1", ["cp1 control_plane", "e1 etcd"]),
        ({"cp1": "control_plane etcd", "w1": "workers"}, "w1", ["cp1 control_plane"]),
        (
            {"cp1": "control_plane etcd", "cp2": "etcd", "w1": "workers"},
            "w1",
            ["cp1 control_plane", "cp1 etcd"],
        ),
    ],
)
def test_who_is_looked_at_outside_the_limit_whatever_else_is_wrong(
    groups: dict[str, str], asked: str, expected: list[str], wrong: dict[str, t.Any]
) -> None:
    cluster = Cluster(groups, wrong, {"cp2": {"slipway_node_absent": True}})
    given = dataclasses.replace(inputs(cluster), asked=frozenset(asked.split()))
    assert [f"{each['name']} {each['role']}" for each in outside(given)] == expected


def test_who_helps_may_be_the_one_outside_the_limit(bundle: pathlib.Path) -> None:
    cluster = running()
    cluster.probes = {name: cluster.probes[name] for name in ("cp1", "cp3")}
    data = make(dataclasses.replace(inputs(cluster, bundle), asked=frozenset({"cp1"})))
    assert data["leader"] == "cp1"
    assert data["helpers"] == {"control_plane": ["cp1", "cp3"], "etcd": ["cp1", "cp3"]}
    assert (data["roster"]["cp1"]["helper"], data["roster"]["cp1"]["etcd_helper"]) == ("cp3", "cp3")


@pytest.mark.parametrize(
    ("verb", "asked", "named"),
    [("maintain", (), ["w1"]), ("maintain", ("cp1", "w1"), ["w1"]), ("maintain", ("cp1",), []), ("apply", (), [])],
)
def test_maintenance_names_who_is_down_on_purpose(
    bundle: pathlib.Path, verb: str, asked: tuple[str, ...], named: list[str]
) -> None:
    cluster = running()
    del cluster.probes["w1"]
    cluster.own["w1"] = {"slipway_node_absent": True}
    data = make(dataclasses.replace(inputs(cluster, bundle), verb=verb, asked=frozenset(asked)))
    assert [notice["where"] for notice in data["notices"]] == named
    assert all(notice["warning"] for notice in data["notices"])


@pytest.mark.parametrize(
    ("fresh", "asked", "later"),
    [
        ("cp3", ("cp3",), ["cp1, cp2, w1"]),
        ("cp3", ("cp1", "cp2", "cp3"), ["w1"]),
        ("cp3", (), []),
        ("w1", ("w1",), []),
        ("", ("cp3",), []),
    ],
)
def test_who_learns_later_of_a_new_control_plane_host_is_named(
    bundle: pathlib.Path, fresh: str, asked: tuple[str, ...], later: list[str]
) -> None:
    cluster = running()
    if fresh:
        lose(cluster, fresh)
        cluster.probes[fresh] = bare(fresh)
    data = make(dataclasses.replace(inputs(cluster, bundle), verb="apply", asked=frozenset(asked)))
    assert [notice["where"] for notice in data["notices"]] == later


@pytest.mark.parametrize(
    ("before", "after", "limit", "later"),
    [
        (
            "cp1=control_plane e1=etcd w1=workers",
            "cp1=control_plane cp2=control_plane e1=etcd w1=workers",
            "cp2",
            ["cp1, e1, w1: outside --limit, so the proxies and metrics gates there do not know cp2 yet"],
        ),
        (
            "cp1=control_plane w1=workers w2=workers",
            "cp1=control_plane w1=control_plane w2=workers",
            "w1",
            ["cp1, w2: outside --limit, so the proxies and metrics gates there do not know w1 yet"],
        ),
        (
            "cp1=control_plane e1=etcd w1=workers",
            "cp1=control_plane e1=etcd e2=etcd w1=workers",
            "e2",
            ["cp1: outside --limit, so the API servers there do not know etcd on e2 yet"],
        ),
        ("cp1=control_plane e1=etcd w1=workers", "cp1=control_plane e1=etcd e2=etcd w1=workers", "cp1 e2", []),
        (
            "cp1=control_plane w1=workers",
            "cp1=control_plane w1=workers w2=workers+registry d1=docker",
            "w2",
            ["cp1, d1, w1: outside --limit, so the registry on w2 is not configured there yet"],
        ),
        ("cp1=control_plane w1=workers", "cp1=control_plane w1=workers w2=workers", "w2", []),
    ],
)
def test_who_learns_later_of_a_new_part_is_named(
    bundle: pathlib.Path, before: str, after: str, limit: str, later: list[str]
) -> None:
    def groups(text: str) -> dict[str, str]:
        return dict(word.replace("+", " ").split("=") for word in text.split())

    variables = {"slipway_secret_registry_password": "a long password", "slipway_metrics": {"endpoints": True}}
    cluster = Cluster(groups(before), variables)
    cluster.probes = {name: bare(name) for name in cluster.groups}
    cluster.carry_out(cluster.plan())
    cluster.groups = groups(after)
    cluster.probes |= {name: bare(name) for name in cluster.groups if name not in cluster.probes}
    data = make(dataclasses.replace(inputs(cluster, bundle), verb="apply", asked=frozenset(limit.split())))
    assert [f"{notice['where']}: {notice['found']}" for notice in data["notices"]] == later


# --- problems ---------------------------------------------------------------------------------------------------------
def test_a_silent_control_plane_forms_no_cluster(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    del cluster.probes["cp1"]
    text = told(inputs(cluster, bundle, cp1="No route to host"))
    assert "not provably new" in text
    assert "No route to host" in text


def test_everything_that_is_wrong_comes_at_once(tmp_path: pathlib.Path) -> None:
    """The lock, an answer that cannot be read, addresses, preflight and evidence."""
    groups = {"cp1": "control_plane", "cp2": "control_plane", "cp3": "control_plane"}
    groups |= dict.fromkeys(("w1", "w2", "w3", "w4"), "workers")
    cluster = Cluster(groups, probes={name: bare(name) for name in groups if name != "cp3"})
    cluster.probes["w1"] = {"hostname": "w1"}
    cluster.own["w2"] = {"ansible_host": "w2.example.org"}
    cluster.probes["w2"]["default_route"] = None
    cluster.probes["w3"]["cgroup"] = 1
    cluster.probes["w4"]["authorities"]["kubernetes"] = "f" * 64
    text = told(inputs(cluster, tmp_path / "none", cp3="Connection timed out"))
    for part in (
        "none: No such file or directory",
        "w1: the probe's answer cannot be read",
        "w2: no address for the cluster",
        "cgroup",
        "cp3: cannot be reached: Connection timed out",
        "cp3: did not answer, so the cluster is not provably new",
    ):
        assert part in text


def test_two_hosts_with_one_address_are_named(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    cluster.own["w1"] = {"ansible_host": "10.0.0.52"}
    found = problems(inputs(cluster, bundle))
    assert any("w1" in problem.text() and "w2" in problem.text() for problem in found)


def test_warnings_do_not_stop_a_plan(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    cluster.probes["w1"]["os"] = {"id": "unknown", "version_id": "1"}
    data = make(inputs(cluster, bundle))
    assert any(each["warning"] and "has not been tested" in each["found"] for each in data["warnings"])


def test_what_would_stop_a_change_does_not_stop_who_asks_how_the_cluster_is(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    cluster.probes["w1"]["cgroup"] = 1
    assert "cgroup" in told(inputs(cluster, bundle))
    data = make(dataclasses.replace(inputs(cluster, bundle), lenient=True))
    assert [each["warning"] for each in data["warnings"] if "cgroup" in each["found"]] == [True]


def test_planning_changes_no_input(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    before = copied(cluster)
    make(inputs(cluster, bundle))
    assert cluster.probes == before.probes


# --- one run at a time ------------------------------------------------------------------------------------------------
HELD = {"hold": {"run": "elsewhere 7 9", "by": "ann@desk", "verb": "apply", "since": NOW}, "idle": 5}


def holding(given: Inputs, verb: str) -> Inputs:
    return dataclasses.replace(given, verb=verb, run="here 1 2")


def test_another_runs_hold_stops_what_changes_and_warns_what_looks(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    cluster.probes["cp1"]["hold"] = HELD
    (found,) = [each for each in problems(holding(inputs(cluster, bundle), "apply")) if not each.warning]
    assert found.where == "cp1"
    assert "apply of ann@desk" in found.found
    data = make(holding(inputs(cluster, bundle), ""))
    assert any("ann@desk" in warning["found"] for warning in data["warnings"])
    cluster.probes["cp1"]["hold"] = {**HELD, "dead": True}
    assert make(holding(inputs(cluster, bundle), "apply"))["holders"] == [
        {"host": "cp1", "seen": f"elsewhere 7 9 {NOW}"}
    ]


@pytest.mark.parametrize(("verb", "holds"), [("apply", True), ("maintain", True), ("", False)])
def test_who_has_something_to_do_holds_the_control_plane(bundle: pathlib.Path, verb: str, holds: bool) -> None:
    data = make(holding(inputs(one_and_two(), bundle), verb))
    assert data["holders"] == [{"host": "cp1", "seen": ""}]
    assert {"slipway_holding" in own["parents"] for own in data["groups"].values()} == {holds}


@pytest.mark.parametrize(("took", "moments"), [(False, ["after_addons", "before_node"]), (True, ["after_addons"])])
def test_own_tasks_are_plays_of_their_own_or_part_of_a_turn(
    bundle: pathlib.Path, took: bool, moments: list[str]
) -> None:
    cluster = running() if took else three_and_one()
    (bundle / "site.yml").write_text("[]\n")
    own = {"slipway_tasks_before_node": "site.yml", "slipway_tasks_after_addons": "site.yml"}
    cluster.own["w1"] = {**own, "slipway_kubelet": {"maxPods": 50}}
    groups = make(inputs(cluster, bundle))["groups"]["w1"]
    assert ("slipway_rolling_workers" in groups["parents"]) is took
    hooks = [each.removeprefix("slipway_hook_") for each in groups["parents"] if each.startswith("slipway_hook_")]
    assert hooks == moments


@pytest.mark.parametrize(("verb", "lenient", "refused"), [("apply", False, 1), ("", False, 1), ("", True, 0)])
def test_tasks_that_are_not_there_stand_in_the_way_of_apply_only(
    bundle: pathlib.Path, verb: str, lenient: bool, refused: int
) -> None:
    cluster = one_and_two(slipway_tasks_before_node="site.yml")
    given = dataclasses.replace(holding(inputs(cluster, bundle), verb), lenient=lenient)
    if refused:
        assert "slipway_tasks_before_node" in {problem.where for problem in problems(given)}
    else:
        make(given)


@pytest.mark.parametrize(
    ("verb", "given", "seconds"),
    [
        ("apply", {}, SILENCE_SECONDS),
        ("apply", {"slipway_drain": {"timeout": 1800}}, SILENCE_SECONDS),
        ("apply", {"slipway_tasks_before_node": "site.yml"}, SILENCE_SECONDS + TASKS_SECONDS),
        ("maintain", {}, SILENCE_SECONDS + TASKS_SECONDS + 600),
        ("maintain", {"slipway_drain": {"timeout": 86400}}, SILENCE_SECONDS + TASKS_SECONDS + 86400),
        ("remove", {"slipway_drain": {"timeout": 1800}, "slipway_remove": ["w1", "w2"]}, SILENCE_SECONDS + 7200),
    ],
)
def test_a_hold_says_how_long_its_run_may_be_silent(
    bundle: pathlib.Path, verb: str, given: dict[str, t.Any], seconds: int
) -> None:
    (bundle / "site.yml").write_text("[]\n")
    assert make(holding(inputs(one_and_two(**given), bundle), verb))["silence"] == seconds


@pytest.mark.parametrize(
    ("given", "rolling", "maintenance"),
    [
        ({}, "10%", "10%"),
        ({"slipway_batch": "25%"}, "25%", "25%"),
        ({"slipway_maintain_batch": "1"}, "10%", "1"),
        ({"slipway_batch": "25%", "slipway_maintain_batch": "1"}, "25%", "1"),
    ],
)
def test_maintenance_takes_as_many_at_a_time_as_apply_unless_told(
    bundle: pathlib.Path, given: dict[str, str], rolling: str, maintenance: str
) -> None:
    data = make(inputs(one_and_two(**given), bundle))
    assert (data["batch"], data["maintain"]["batch"]) == (rolling, maintenance)


def test_new_hosts_try_the_others_before_anything_is_changed(bundle: pathlib.Path) -> None:
    data = make(holding(inputs(one_and_two(), bundle), "apply"))
    assert set(data["reach"]) == {"cp1", "w1", "w2"}
    fetching = {"port": seed.ARGUMENT_SPEC["port"]["default"], "protocol": "tcp", "callers": ["w1", "w2"]}
    assert fetching in data["reach"][data["seed"]]["listen"]
    assert all("slipway_reaching" in own["parents"] for own in data["groups"].values())
    assert make(inputs(one_and_two(), bundle))["reach"] == {}, "who only looks opens no port"
    ignoring = one_and_two(slipway_ignore_preflight=["reach"])
    data = make(holding(inputs(ignoring, bundle), "apply"))
    assert data["reach"] == {}
    assert not any("slipway_reaching" in own["parents"] for own in data["groups"].values())


def test_where_no_host_is_new_none_is_tried(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    for probe in cluster.probes.values():
        probe["artifacts"] = {"kubelet": {"current": "1.37.0"}}
    assert make(holding(inputs(cluster, bundle), "apply"))["reach"] == {}


def test_who_looks_tries_the_ways_between_hosts_that_are_settled(bundle: pathlib.Path) -> None:
    cluster = one_and_two()
    assert make(inputs(cluster, bundle))["ways"] == {}, "bare hosts are left alone"
    for number, name in enumerate(("cp1", "w1")):
        cluster.probes[name]["artifacts"] = {"kubelet": {"current": "1.37.0"}}
        own = {"protocol": "tcp", "address": "*", "port": 10250, "process": "kubelet", "unit": "kubelet.service"}
        cluster.probes[name]["listening"] = [own]
        tunnel = {"interface": "flannel.1", "address": f"10.244.{number}.0", "prefix": 32, "mtu": 1450}
        cluster.probes[name]["addresses"].append(tunnel)
        cluster.probes[name]["kernel_state"]["sysctls"]["net.ipv4.ip_forward"] = "1"
    data = make(inputs(cluster, bundle))
    assert set(data["ways"]) == {"cp1", "w1"}
    (target,) = data["ways"]["cp1"]
    assert (target["host"], [port["through"] for port in target["ports"]]) == ("w1", ["", "10.244.1.0"])
    assert not any("slipway_reaching" in own["parents"] for own in data["groups"].values())
    cluster.probes["w1"]["kernel_state"]["sysctls"]["net.ipv4.ip_forward"] = "0"
    data = make(inputs(cluster, bundle))
    assert [len(data["ways"][name][0]["ports"]) for name in ("cp1", "w1")] == [1, 1], "that is another finding"
    assert make(holding(inputs(cluster, bundle), "apply"))["ways"] == {}
    cluster.variables["slipway_ignore_preflight"] = ["reach"]
    assert make(inputs(cluster, bundle))["ways"] == {}
