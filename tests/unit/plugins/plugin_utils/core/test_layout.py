# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The spec put together with what the probes saw."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.plugin_utils.core.layout import Member, unaddressed
from tests.unit.plugins.cluster import Cluster, bare, one_and_two


def test_addresses_of_the_service_network() -> None:
    layout, _nodes = one_and_two(slipway_network={"service_cidr": "10.112.0.0/16"}).layout()
    assert (layout.kubernetes_address, layout.dns_address) == ("10.112.0.1", "10.112.0.10")
    assert layout.proxy_url == "https://127.0.0.1:6444"
    assert one_and_two(slipway_endpoint="api.example.org").layout()[0].endpoint.startswith("api.example.org")
    assert layout.endpoint == ""


def test_a_node_is_what_the_spec_wants_on_what_the_host_is() -> None:
    cluster = one_and_two(slipway_node_taints=["a=b:NoSchedule"])
    cluster.own["w1"] = {"slipway_node_name": "node-1", "slipway_node_labels": {"zone": "a"}}
    cluster.probes["w1"]["resolv_conf"] = "/run/systemd/resolve/resolv.conf"
    cluster.probes["w1"]["addresses"][1]["mtu"] = 9000
    node = cluster.layout()[1]["w1"]
    assert (node.node_name, node.hostname, node.address) == ("node-1", "w1", "10.0.0.51")
    assert (node.resolv_conf, node.interface_mtu, node.architecture) == (
        "/run/systemd/resolve/resolv.conf",
        9000,
        "amd64",
    )
    assert node.taints == ("a=b:NoSchedule",)
    assert node.labels["zone"] == "a"
    assert node.member == Member("w1", "node-1", "10.0.0.51")


def test_a_silent_host_is_a_member_as_far_as_the_inventory_tells() -> None:
    groups = {"cp1": "control_plane", "cp2": "control_plane", "cp3": "control_plane", "w1": "workers"}
    cluster = Cluster(groups, probes={"cp1": bare("cp1")}, own={"w1": {"ansible_host": "w1.example.org"}})
    layout, nodes = cluster.layout()
    assert [member.address for member in layout.control_plane] == ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
    assert [member.host for member in layout.etcd] == ["cp1", "cp2", "cp3"]
    assert (nodes["cp2"].resolv_conf, nodes["cp2"].interface_mtu) == ("/etc/resolv.conf", 1500)
    assert "w1" not in nodes


@pytest.mark.parametrize(
    ("groups", "variables", "expected"),
    [
        ({"w1": "workers ingress", "w2": "workers"}, {}, ["cp1", "e1", "r1", "w1"]),
        ({"w1": "workers ingress", "w2": "workers ingress"}, {}, ["cp1", "e1", "r1"]),
        ({"w1": "workers ingress"}, {"slipway_ingress": {"enabled": False}}, ["cp1", "e1", "r1"]),
        ({"w1": "workers"}, {}, ["cp1", "e1", "r1"]),
    ],
)
def test_who_others_are_configured_with(
    groups: dict[str, str], variables: dict[str, t.Any], expected: list[str]
) -> None:
    groups = {"cp1": "control_plane", "cp2": "control_plane", "e1": "etcd", "r1": "registry", **groups}
    own: dict[str, dict[str, t.Any]] = {name: {"ansible_host": f"{name}.example.org"} for name in groups}
    cluster = Cluster(groups, {"slipway_secret_registry_password": "hunter2hunter2", **variables}, own)
    cluster.probes = {"cp2": bare("cp2")}
    assert [problem.where for problem in unaddressed(cluster.spec(), cluster.probes)] == expected


def test_an_address_that_no_interface_has_is_taken_for_an_ordinary_one() -> None:
    cluster = one_and_two()
    cluster.own["w1"] = {"slipway_node_address": "10.0.1.1"}
    assert cluster.layout()[1]["w1"].interface_mtu == 1500


def test_etcd_flags_are_joined_and_an_empty_one_takes_a_default_away() -> None:
    arguments = {"log-level": "debug", "snapshot-count": 5000, "cipher-suites": [], "log-outputs": ["stderr", "/x"]}
    layout, _nodes = one_and_two(slipway_etcd_args=arguments).layout()
    assert layout.args["etcd"] == {
        "heartbeat-interval": 100,
        "election-timeout": 1000,
        "log-level": "debug",
        "snapshot-count": "5000",
        "cipher-suites": None,
        "log-outputs": "stderr,/x",
    }
