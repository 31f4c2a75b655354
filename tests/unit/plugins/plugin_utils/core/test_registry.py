# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's registry in plans: a host of its own or one of the cluster's, and everybody who pulls from it."""

from __future__ import annotations

import json
import typing as t

import pytest
import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core import places
from ansible_collections.slipway.cluster.plugins.module_utils.core.leaf import certificate_from, issuer_from
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import HostState
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.targets import registry
from ansible_collections.slipway.cluster.plugins.plugin_utils.passwords import bcrypt_salt, htpasswd
from tests.unit.plugins.cluster import DAY, Cluster, Made, bare

PASSWORD = "correct-horse"
LEAF_STEPS = ["request certificate registry", "issue certificate registry"]


def cluster(groups: t.Mapping[str, str] | None = None, **variables: t.Any) -> Cluster:
    groups = groups or {"cp1": "control_plane", "w1": "workers", "r1": "registry"}
    variables = {"slipway_secret_registry_password": PASSWORD, **variables}
    return Cluster(dict(groups), variables, probes={name: bare(name) for name in groups})


def applied(found: Cluster) -> Made:
    made = found.plan()
    found.carry_out(made)
    return made


def of_registry(made: Made, host: str) -> list[tuple[str, str]]:
    return [(step.module, step.change.name) for step in made.blueprint.steps[host] if step.phase == "registry"]


def problems(found: Cluster) -> str:
    with pytest.raises(SlipwayError) as refused:
        found.spec()
    return str(refused.value)


@pytest.mark.parametrize(
    "groups",
    [
        {"cp1": "control_plane", "w1": "workers", "r1": "registry"},
        {"cp1": "control_plane registry", "w1": "workers"},
        {"cp1": "control_plane", "w1": "workers registry"},
    ],
)
def test_a_registry_is_made_once_wherever_it_is(groups: dict[str, str]) -> None:
    found = cluster(groups)
    made = applied(found)
    (host,) = [name for name, roles in groups.items() if "registry" in roles]
    steps = of_registry(made, host)
    assert [name for module, name in steps if module == "certificate"] == LEAF_STEPS
    assert ("component", "start slipway-registry.service") in steps
    assert "activate registry 3.1.2" in made.names(host)
    assert made.names(host).count("create directory /etc/slipway-registry") == 1
    again = found.plan()
    assert again.blueprint.pending == ()


def test_a_host_that_is_only_a_registry_runs_nothing_else() -> None:
    made = cluster().plan()
    assert list(made.blueprint.hosts["r1"]) == ["host", "artifacts", "registry"]
    assert made.blueprint.joining == ("cp1", "w1")


def test_everybody_s_containerd_knows_the_registry_and_no_password_is_in_the_plan() -> None:
    made = cluster(slipway_registry={"names": ["registry.example.org"]}).plan()
    for host in ("cp1", "w1"):
        runtime = made.blueprint.hosts[host]["containerd"]
        hosts = [(each["host"], each["ca"]) for each in runtime["registries"]]
        assert hosts == [
            ("10.0.0.71:5000", "/etc/kubernetes/pki/ca.crt"),
            ("registry.example.org:5000", "/etc/kubernetes/pki/ca.crt"),
        ]
        assert runtime["credentials"] == dict.fromkeys([name for name, _ca in hosts], "slipway")
    told = json.dumps({name: dict(params) for name, params in made.blueprint.hosts.items()}, default=str)
    assert PASSWORD not in told
    assert "$2b$" not in told


def test_the_user_s_own_word_on_the_registry_counts() -> None:
    own = {"registries": [{"host": "10.0.0.71:5000", "skip_verify": True}]}
    runtime = cluster(slipway_containerd=own).plan().blueprint.hosts["w1"]["containerd"]
    assert [each["skip_verify"] for each in runtime["registries"]] == [True]


def test_a_certificate_near_its_end_is_made_anew_and_read_by_a_restart() -> None:
    found = cluster()
    applied(found)
    for data in found.probes.values():
        data["time"] += 310 * DAY
    steps = of_registry(found.plan(), "r1")
    assert steps == [("certificate", name) for name in (*LEAF_STEPS, "restart slipway-registry.service")]
    applied(found)
    for data in found.probes.values():
        data["time"] -= 310 * DAY
    serving = found.probes["r1"]["state"]["paths"][registry.SERVING]
    serving["sha256"] = "what an interrupted run left"
    assert of_registry(found.plan(), "r1") == [("certificate", "restart slipway-registry.service")]


def test_a_host_that_is_no_registry_any_more_keeps_its_images_and_nothing_else_of_it() -> None:
    found = cluster({"cp1": "control_plane registry", "w1": "workers"})
    applied(found)
    found.groups["cp1"] = "control_plane"
    made = found.plan()
    assert made.names("cp1")[:4] == [
        "disable slipway-registry.service",
        "stop slipway-registry.service",
        "remove /etc/slipway-registry",
        "remove /etc/systemd/system/slipway-registry.service",
    ]
    assert made.blueprint.rolling == ()
    assert "registry" not in made.blueprint.hosts["cp1"]
    found.carry_out(made)
    assert registry.DATA in found.probes["cp1"]["state"]["paths"]
    assert found.plan().blueprint.pending == ()
    found.groups["cp1"] = "control_plane registry"
    assert ("component", "start slipway-registry.service") in of_registry(found.plan(), "cp1")


def test_another_name_is_another_certificate_and_no_other_unit() -> None:
    found = cluster()
    applied(found)
    found.variables["slipway_registry"] = {"names": ["registry.example.org"]}
    names = [name for _module, name in of_registry(found.plan(), "r1")]
    assert names == [*LEAF_STEPS, "restart slipway-registry.service"]


def test_the_configuration_names_every_file_it_needs() -> None:
    layout, _nodes = cluster(slipway_registry={"port": 5443}).layout()
    target = registry.registry_target(layout)
    content = {file.path: file.content for file in target.files}
    config = yaml.safe_load(content[registry.CONFIG])
    assert config["http"]["addr"] == ":5443"
    assert config["http"]["tls"]["certificate"] == registry.CERTIFICATE
    assert config["auth"]["htpasswd"]["path"] == registry.HTPASSWD
    assert HostState.from_data(target.to_data()) == target
    paths = [file.path for file in target.files] + [directory.path for directory in target.directories]
    assert all(places.is_observed(path) for path in paths)
    assert registry.registry_waits(layout)[0]["url"] == "https://127.0.0.1:5443/"


@pytest.mark.parametrize(
    ("groups", "variables", "words"),
    [
        ({}, {"slipway_secret_registry_password": None}, "the registry on r1 has a user"),
        ({}, {"slipway_secret_registry_password": "short"}, "8 to 72 bytes"),
        ({}, {"slipway_secret_registry_password": "ü" * 37}, "8 to 72 bytes"),
        ({}, {"slipway_registry": {"port": 6443}}, "6443 is the port of kube-apiserver"),
        ({"w1": "workers docker"}, {}, "a host without a kubelet for Docker"),
        (
            {"d1": "docker"},
            {"slipway_docker": {"address_pools": [{"base": "10.244.8.0/21", "size": 24}]}},
            "the address pool 10.244.8.0/21 overlaps slipway_network.pod_cidr 10.244.0.0/16",
        ),
        ({"d1": "docker"}, {"slipway_docker": {"settings": {"hosts": []}}}, "a context over SSH"),
    ],
)
def test_what_cannot_be_is_refused(groups: dict[str, str], variables: dict[str, t.Any], words: str) -> None:
    found = cluster({"cp1": "control_plane", "r1": "registry", **groups}, **variables)
    assert words in problems(found)
    assert "short" not in problems(found)


def test_a_docker_host_stands_beside_the_cluster() -> None:
    found = cluster({"cp1": "control_plane", "w1": "workers", "d1": "docker"})
    assert [node.name for node in found.spec().present] == ["cp1", "w1"]
    del found.probes["d1"]
    assert set(found.plan().blueprint.hosts) == {"cp1", "w1"}


def test_a_hash_is_the_same_for_the_same_and_another_for_another_cluster() -> None:
    line = htpasswd(PASSWORD, "slipway", "a")
    assert line.startswith("slipway:$2b$10$")
    assert len(line) == len("slipway:") + 60
    assert line == htpasswd(PASSWORD, "slipway", "a")
    assert len({line, htpasswd(PASSWORD, "slipway", "b"), htpasswd("another-one", "slipway", "a")}) == 3
    assert all(bcrypt_salt(str(number))[-1] in ".Oeu" for number in range(40))


def test_what_is_signed_must_make_sense() -> None:
    good = {"name": "x", "certificate": "/c", "key": "/k", "authority": "kubernetes", "common_name": "x"}
    assert certificate_from(good).usages == ("server", "client")
    with pytest.raises(SlipwayError, match="not an address"):
        certificate_from({**good, "addresses": ["x.example"]})
    assert issuer_from("") is None
    for text in ("nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"):
        with pytest.raises(SlipwayError, match="is no certificate"):
            issuer_from(text)
