# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every add-on: on, off, where its images go, and what of its objects must be so."""

from __future__ import annotations

import json
import os
import pathlib
import re
import stat
import subprocess
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import (
    generated_fields,
    is_held_by_volumes,
    parse_set,
    ref_of,
    unpack,
)
from ansible_collections.slipway.cluster.plugins.plugin_utils.core import addons
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.layout import INGRESS_LABEL
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec import load
from tests.unit.plugins.cluster import Cluster, one_and_two

POOLS = {"pools": [{"name": "office", "addresses": ["10.0.0.240-10.0.0.250"]}]}
EVERYTHING: dict[str, t.Any] = {
    "slipway_ingress": {"enabled": True},
    "slipway_load_balancer": POOLS,
    "slipway_storage": {"enabled": True},
}
NO_METRICS = {"slipway_metrics": {"enabled": False}}
NO_DNS = {"slipway_dns": {"enabled": False}}
IMAGES = (
    *("coredns", "metrics-server", "traefik", "metallb-controller", "metallb-speaker"),
    *("local-path-provisioner", "volume-helper"),
)
DEFINITION = {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "d"}}


def scene(cluster: Cluster, images: t.Iterable[str] = IMAGES) -> addons.Scene:
    layout, nodes = cluster.layout()
    definitions = {name: [DEFINITION] for addon in addons.ADDONS for name in addon.definitions}
    references = {name: f"slipway.local/{name}:1" for name in images}
    return addons.Scene(cluster.spec(), layout, nodes, references, definitions)


def sets(cluster: Cluster, **more: t.Any) -> dict[str, dict[str, t.Any]]:
    return {entry["name"]: entry for entry in addons.manifest_sets(scene(cluster, **more))}


def objects(entry: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    found = [*entry.get("objects", ()), *unpack(entry.get("packed", ""))]
    return {ref_of(item).text(): item for item in found}


def everything(**variables: t.Any) -> dict[str, dict[str, t.Any]]:
    return sets(one_and_two(**{**EVERYTHING, **variables}))


def test_what_is_on_without_a_word_and_what_is_gone() -> None:
    found = sets(one_and_two())
    assert [name for name, entry in found.items() if not entry.get("absent")] == ["metrics", "dns"]
    assert all("objects" not in entry for entry in found.values() if entry.get("absent"))


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({}, "metrics"),
        (EVERYTHING, "metrics"),
        (NO_METRICS, "dns"),
        ({**NO_METRICS, **NO_DNS, **EVERYTHING}, "storage"),
        ({**NO_METRICS, **NO_DNS}, "metrics"),
    ],
)
def test_what_is_wanted_is_applied_before_anything_is_removed(variables: dict[str, t.Any], first: str) -> None:
    found = addons.manifest_sets(scene(one_and_two(**variables)))
    assert found[0]["name"] == first
    assert [entry.get("absent", False) for entry in found] == sorted(entry.get("absent", False) for entry in found)


def test_every_set_is_one_the_module_takes() -> None:
    for name, entry in everything().items():
        parsed = parse_set(name=name, objects=list(objects(entry).values()), absent=entry.get("absent", False))
        assert parsed.name == name
    names = [addon.name for addon in addons.ADDONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("variables", "gone"),
    [
        (NO_METRICS, {"metrics"}),
        (NO_DNS, {"dns"}),
        ({"slipway_ingress": {"enabled": False}}, {"ingress", "gateway-api"}),
        ({"slipway_ingress": {"enabled": True, "gateway": False}}, {"gateway-api"}),
        ({"slipway_load_balancer": {"pools": []}}, {"load-balancer"}),
        ({"slipway_storage": {"enabled": False}}, {"storage"}),
    ],
)
def test_each_can_be_switched_off(variables: dict[str, t.Any], gone: set[str]) -> None:
    found = everything(**variables)
    off = {name for name, entry in found.items() if entry.get("absent")}
    assert off - {name for name, entry in everything().items() if entry.get("absent")} == gone


def test_a_host_of_the_group_switches_ingress_on_and_has_it_alone() -> None:
    cluster = one_and_two()
    spec = cluster.spec()
    assert not spec.has_ingress
    assert [node.name for node in spec.ingress_nodes] == ["w1", "w2"]
    given = cluster.inputs()
    given["w2"] = type(given["w2"])("w2", given["w2"].groups | {"slipway_ingress"}, given["w2"].variables)
    spec = load(given)
    assert spec.has_ingress
    assert [node.name for node in spec.ingress_nodes] == ["w2"]


def test_images_go_where_they_can_run() -> None:
    spec = one_and_two(**EVERYTHING).spec()
    held = {name: addons.images_for(spec, spec.nodes[name]) for name in ("cp1", "w1")}
    assert "traefik" in held["w1"] - held["cp1"]
    assert "metrics-server" in held["cp1"] - held["w1"]
    assert {"coredns", "pause", "agnhost", "metallb-speaker", "volume-helper"} <= held["cp1"] & held["w1"]
    plain = one_and_two(**NO_DNS).spec()
    assert not {"traefik", "volume-helper", "coredns"} & addons.images_for(plain, plain.nodes["w1"])


def test_nodes_that_take_traffic_are_labelled() -> None:
    _layout, nodes = one_and_two(**EVERYTHING).layout()
    assert {name for name, node in nodes.items() if INGRESS_LABEL in node.labels} == {"w1", "w2"}
    _layout, nodes = one_and_two().layout()
    assert not any(INGRESS_LABEL in node.labels for node in nodes.values())


def test_a_bundle_without_an_addon_is_an_error_only_where_it_was_asked_for() -> None:
    spec = one_and_two(**EVERYTHING).spec()
    problems = addons.lacks(spec, {"coredns"}, set(), "bundle")
    told = {problem.found.split(" for ")[1].split(",")[0]: problem.warning for problem in problems}
    assert told == {"metrics": True, "storage": False, "load-balancer": False, "gateway-api": False, "ingress": False}
    assert addons.lacks(one_and_two().spec(), set(IMAGES), set(), "bundle") == []
    left = sets(one_and_two(), images=["coredns"])
    assert "metrics" not in left, "what the bundle cannot give is neither applied nor removed"


# --- metrics ----------------------------------------------------------------------------------------------------------
def test_metrics_trust_nobody_unseen() -> None:
    found = objects(everything()["metrics"])
    args = found["Deployment kube-system/metrics-server"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert not [arg for arg in args if "insecure" in arg]
    assert any(arg.startswith("--kubelet-certificate-authority=") for arg in args)
    service = found["APIService v1beta1.metrics.k8s.io"]["spec"]
    assert "insecureSkipTLSVerify" not in service
    assert service["caBundle"] == "@@kubernetes-ca@@"


def test_metrics_run_where_their_certificate_is() -> None:
    pod = objects(everything()["metrics"])["Deployment kube-system/metrics-server"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"node-role.kubernetes.io/control-plane": ""}
    assert pod["volumes"][0]["hostPath"]["path"] == "/etc/kubernetes/metrics-server"


# --- ingress ----------------------------------------------------------------------------------------------------------
def template(found: dict[str, dict[str, t.Any]]) -> dict[str, t.Any]:
    made: dict[str, t.Any] = found["DaemonSet slipway-ingress/traefik"]["spec"]["template"]
    return made


def pod_of(found: dict[str, dict[str, t.Any]]) -> dict[str, t.Any]:
    spec: dict[str, t.Any] = template(found)["spec"]
    return spec


def static(found: dict[str, dict[str, t.Any]]) -> str:
    return str(found["ConfigMap slipway-ingress/traefik"]["data"]["traefik.yaml"])


def test_on_its_hosts_two_pods_can_share_the_ports() -> None:
    found = objects(everything()["ingress"])
    pod = pod_of(found)
    container = pod["containers"][0]
    assert pod["hostNetwork"]
    assert "ports" not in container, "a declared port keeps the scheduler from starting the second pod"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}
    assert found["DaemonSet slipway-ingress/traefik"]["spec"]["updateStrategy"]["rollingUpdate"] == {
        "maxSurge": "51%",
        "maxUnavailable": 0,
    }
    assert static(found).count("reusePort: true") == 4
    assert "address: 127.0.0.1:9180" in static(found), "metrics know no credentials"
    template = found["DaemonSet slipway-ingress/traefik"]["spec"]["template"]["metadata"]
    assert "prometheus.io/scrape" not in template["annotations"]
    assert {"name": "KUBERNETES_SERVICE_HOST", "value": "127.0.0.1"} in container["env"]


def test_a_pod_on_a_host_that_is_down_keeps_no_other_from_being_renewed() -> None:
    for entry in everything().values():
        for name, item in objects(entry).items():
            if item["kind"] == "Deployment":
                assert item["spec"].get("strategy", {}).get("type") != "Recreate", name
            if item["kind"] == "DaemonSet":
                limits = item["spec"]["updateStrategy"]["rollingUpdate"]
                # Both count hosts that are down. A number would be less than half of many.
                share, sign, _ = str(limits.get("maxSurge") or limits["maxUnavailable"]).partition("%")
                assert (int(share) > 50, sign) == (True, "%"), name


def test_each_configuration_has_a_place_of_its_own_to_be_asked_at() -> None:
    probes = []
    for log in (True, False):
        found = objects(everything(slipway_ingress={"enabled": True, "access_log": log})["ingress"])
        probe = pod_of(found)["containers"][0]["readinessProbe"]["httpGet"]
        assert f"{probe['host']}:{probe['port']}" in static(found)
        assert probe["host"].startswith("127.")
        assert ("accessLog" in static(found)) == log
        probes.append(probe["host"])
    assert probes[0] != probes[1]


def test_behind_an_address_it_is_a_pod_like_any_other() -> None:
    found = objects(everything(slipway_ingress={"enabled": True, "expose": "load_balancer"})["ingress"])
    pod = pod_of(found)
    assert "hostNetwork" not in pod
    assert pod["securityContext"]["runAsNonRoot"]
    assert {port["containerPort"] for port in pod["containers"][0]["ports"]} == {80, 443, 9180}
    assert found["Service slipway-ingress/traefik"]["spec"]["type"] == "LoadBalancer"
    assert "reusePort: true" not in static(found)
    assert "address: :9180" in static(found)


def test_no_dashboard_and_no_news_to_outside() -> None:
    text = static(objects(everything()["ingress"]))
    assert "api:" not in text
    assert "checkNewVersion: false" in text
    assert "sendAnonymousUsage: false" in text


def test_the_default_certificate_is_made_or_given() -> None:
    name = "Secret slipway-ingress/default-certificate"
    made = objects(everything()["ingress"])[name]
    assert generated_fields(made) == ("tls.crt", "tls.key")
    assert "data" not in made
    pem = {"certificate": "-----BEGIN C-----\nx\n-----END C-----", "key": "-----BEGIN K-----\nx\n-----END K-----"}
    given = objects(everything(slipway_secret_ingress_tls=pem)["ingress"])
    assert generated_fields(given[name]) == ()
    assert given[name]["data"] == {"tls.crt": "@@ingress-certificate@@", "tls.key": "@@ingress-key@@"}
    other = objects(everything(slipway_secret_ingress_tls={**pem, "certificate": pem["certificate"] + "\n"})["ingress"])
    assert template(other) == template(given), "white space is no other certificate"
    pem["certificate"] = pem["certificate"].replace("x", "y")
    renewed = objects(everything(slipway_secret_ingress_tls=pem)["ingress"])
    assert template(renewed) != template(given), "Traefik reads it at its start, so another one makes new pods"


def test_the_gateway_listens_where_traefik_does() -> None:
    gateway = objects(everything()["ingress"])["Gateway slipway-ingress/default"]["spec"]
    assert [listener["port"] for listener in gateway["listeners"]] == [80, 443]
    without = objects(everything(slipway_ingress={"enabled": True, "gateway": False})["ingress"])
    assert not [name for name in without if name.startswith("Gateway")]


def test_a_lone_host_is_named_in_the_status() -> None:
    assert "ip: " not in static(objects(everything()["ingress"])), "which of two hosts is the users' business"
    one = Cluster({"cp1": "control_plane", "w1": "workers"}, EVERYTHING)
    told = static(objects(sets(one)["ingress"]))
    assert re.findall("ip: (.+)", told) == ["10.0.0.51"] * 2, "of Ingresses and of Gateways"


# --- load balancer ----------------------------------------------------------------------------------------------------
def test_addresses_come_from_the_pools() -> None:
    found = objects(everything()["load-balancer"])
    assert found["IPAddressPool slipway-load-balancer/office"]["spec"] == {
        "addresses": ["10.0.0.240-10.0.0.250"],
        "autoAssign": True,
    }
    assert found["L2Advertisement slipway-load-balancer/default"]["spec"] == {"ipAddressPools": ["office"]}
    assert generated_fields(found["Secret slipway-load-balancer/memberlist"]) == ("secretkey",)


# --- storage ----------------------------------------------------------------------------------------------------------
def config_map(**settings: t.Any) -> dict[str, str]:
    found = objects(everything(slipway_storage={"enabled": True, **settings})["storage"])
    data: dict[str, str] = found["ConfigMap slipway-storage/local-path-provisioner"]["data"]
    return data


def test_volumes_lie_where_the_spec_says() -> None:
    (listed,) = json.loads(config_map(path="/srv/volumes")["config.json"])["nodePathMap"]
    assert listed == {"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": ["/srv/volumes"]}


def test_another_place_for_volumes_makes_another_provisioner() -> None:
    name = "Deployment slipway-storage/local-path-provisioner"
    made = [
        objects(everything(slipway_storage={"enabled": True, "path": path})["storage"])[name]["spec"]["template"]
        for path in ("/srv/volumes", "/srv/volumes", "/srv/other")
    ]
    assert made[0] == made[1] != made[2]


def test_a_helper_is_root_with_two_capabilities_and_no_token() -> None:
    pod = json.loads(config_map()["helperPod.yaml"])["spec"]
    (container,) = pod["containers"]
    assert container["name"] == "helper-pod", "the provisioner reads the log of a container of this name"
    assert container["image"] == "slipway.local/volume-helper:1"
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["DAC_OVERRIDE", "FOWNER"]}
    assert pod["automountServiceAccountToken"] is False


@pytest.mark.parametrize("default", [True, False])
def test_the_class_waits_for_a_pod_and_is_the_default_one_if_wanted(default: bool) -> None:
    found = objects(everything(slipway_storage={"enabled": True, "default_class": default})["storage"])
    made = found["StorageClass local-path"]
    assert made["metadata"]["annotations"]["storageclass.kubernetes.io/is-default-class"] == str(default).lower()
    assert made["volumeBindingMode"] == "WaitForFirstConsumer"
    assert is_held_by_volumes(made)
    pod = found["Deployment slipway-storage/local-path-provisioner"]["spec"]["template"]["spec"]
    args = pod["containers"][0]["args"]
    assert f"--provisioner-name={made['provisioner']}" in args


def test_the_scripts_close_the_directory_and_remove_the_volume(tmp_path: pathlib.Path) -> None:
    """They are run by a real shell."""
    (tmp_path / "volumes").mkdir(mode=0o755)
    volume = tmp_path / "volumes" / "pvc-1_shop_data"
    data = config_map()

    def run(script: str) -> None:
        subprocess.run(["sh", "-c", data[script]], check=True, env={**os.environ, "VOL_DIR": str(volume)})

    for _again in range(2):
        run("setup")
    assert stat.S_IMODE(volume.stat().st_mode) == 0o777
    assert stat.S_IMODE(volume.parent.stat().st_mode) == 0o700
    (volume / "below").mkdir()
    (volume / "below" / "file").write_text("x")
    for _again in range(2):
        run("teardown")
    assert list(volume.parent.iterdir()) == []


def test_what_is_expected_of_the_cluster() -> None:
    spec = one_and_two(**EVERYTHING).spec()
    expected = addons.expectations(spec, {"w1": "10.0.0.21", "w2": "10.0.0.22"})
    assert expected == {
        "dns": True,
        "metrics": True,
        "pod_security": "baseline",
        "ingress": ["10.0.0.21", "10.0.0.22"],
        "gateway": ["slipway-ingress", "default"],
        "load_balancer": "slipway-load-balancer",
        "storage": ["slipway-storage", "local-path"],
    }
    behind = one_and_two(**{**EVERYTHING, "slipway_ingress": {"enabled": True, "expose": "load_balancer"}}).spec()
    assert addons.expectations(behind, {})["ingress_service"] == ["slipway-ingress", "traefik"]
    assert addons.expectations(one_and_two(**NO_DNS).spec(), {})["dns"] is False


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"slipway_ingress": {"enabled": True, "expose": "load_balancer"}}, "load_balancer without an address"),
        ({"slipway_load_balancer": {"pools": [{"name": "a", "addresses": ["10.0.0.5-10.0.0.30"]}]}}, "its address"),
        (
            {
                "slipway_load_balancer": {
                    "pools": [
                        {"name": "a", "addresses": ["10.9.0.0/24"]},
                        {"name": "b", "addresses": ["10.9.0.9-10.9.1.9"]},
                    ]
                }
            },
            "overlap",
        ),
        ({"slipway_load_balancer": {"pools": [{"name": "a", "addresses": ["10.9.0.9-10.9.0.1"]}]}}, "FIRST-LAST"),
        ({"slipway_secret_ingress_tls": {"certificate": "hunter2", "key": "hunter3"}}, "is a secret"),
    ],
)
def test_what_cannot_be_meant(variables: dict[str, t.Any], part: str) -> None:
    with pytest.raises(Exception, match=part) as caught:
        one_and_two(**variables).spec()
    assert "hunter" not in str(caught.value)
