# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The objects a cluster gets: who may do what, and a DNS that works for every kind of host."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import parse_set
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.addons import (
    CONFIG_HASH_ANNOTATION,
    bootstrap_objects,
    dns_corefile,
    dns_objects,
    flannel_objects,
    monitoring_objects,
)


def dns(**options: t.Any) -> dict[str, dict[str, t.Any]]:
    objects = dns_objects(
        **{"domain": "cluster.local", "service_ip": "10.96.0.10", "image": "slipway.local/coredns:1", **options}
    )
    return {item["kind"]: item for item in objects}


def test_who_gets_which_role() -> None:
    bindings = {(item["subjects"][0]["name"], item["roleRef"]["name"]) for item in bootstrap_objects()}
    requests = "system:certificates.k8s.io:certificatesigningrequests"
    assert bindings == {
        ("slipway:admins", "cluster-admin"),
        ("system:bootstrappers:slipway", "system:node-bootstrapper"),
        ("system:bootstrappers:slipway", f"{requests}:nodeclient"),
        ("system:nodes", f"{requests}:selfnodeclient"),
        ("system:nodes", "system:node-proxier"),
        ("kube-apiserver-kubelet-client", "system:kubelet-api-admin"),
    }


def test_a_user_is_not_bound_as_a_group() -> None:
    kinds = {item["subjects"][0]["name"]: item["subjects"][0]["kind"] for item in bootstrap_objects()}
    assert kinds["kube-apiserver-kubelet-client"] == "User"
    assert {kind for name, kind in kinds.items() if name != "kube-apiserver-kubelet-client"} == {"Group"}


def test_flannel_may_write_nothing_but_node_status() -> None:
    role = flannel_objects()[0]
    writing = [rule for rule in role["rules"] if set(rule["verbs"]) - {"get", "list", "watch"}]
    assert writing == [{"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]}]


def test_who_scrapes_may_read_nothing_but_metrics_and_where_they_are() -> None:
    (role,) = monitoring_objects()
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert [rule["nonResourceURLs"] for rule in role["rules"] if "nonResourceURLs" in rule] == [
        ["/metrics", "/metrics/slis"]
    ]
    resources = {resource for rule in role["rules"] for resource in rule.get("resources", ())}
    assert resources == {"nodes/metrics", "nodes", "services", "endpoints", "pods", "endpointslices"}


@pytest.mark.parametrize(
    ("upstreams", "has", "lacks"),
    [
        (None, "forward . /etc/resolv.conf {", "template"),
        (["10.0.0.1", "10.0.0.2:5353"], "forward . 10.0.0.1 10.0.0.2:5353 {", "/etc/resolv.conf"),
        ([], "rcode REFUSED", "forward"),
    ],
)
def test_outside_names(upstreams: list[str] | None, has: str, lacks: str) -> None:
    corefile = dns_corefile(domain="example.org", upstreams=upstreams)
    assert has in corefile
    assert lacks not in corefile
    assert ("loop" in corefile) == (upstreams != [])
    assert "kubernetes example.org in-addr.arpa ip6.arpa {" in corefile
    assert corefile.count("{") == corefile.count("}")


def test_a_change_of_the_corefile_rolls_the_pods() -> None:
    def annotation(**options: t.Any) -> str:
        template = dns(**options)["Deployment"]["spec"]["template"]
        return t.cast("str", template["metadata"]["annotations"][CONFIG_HASH_ANNOTATION])

    assert annotation() == annotation()
    assert annotation() != annotation(upstreams=["10.0.0.1"])
    assert annotation() != annotation(domain="example.org")


def test_dns_hangs_together() -> None:
    kinds = dns(replicas=3)
    deployment, service = kinds["Deployment"], kinds["Service"]
    template = deployment["spec"]["template"]
    assert deployment["spec"]["replicas"] == 3
    assert service["spec"]["clusterIP"] == "10.96.0.10"
    for selector in (service["spec"]["selector"], deployment["spec"]["selector"]["matchLabels"]):
        assert selector.items() <= template["metadata"]["labels"].items()
    named = {port["name"] for port in template["spec"]["containers"][0]["ports"]}
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= named
    volume = template["spec"]["volumes"][0]["configMap"]["name"]
    assert (kinds["ConfigMap"]["metadata"]["name"], template["spec"]["serviceAccountName"]) == (volume, "coredns")
    assert kinds["ClusterRoleBinding"]["subjects"][0] == {
        "kind": "ServiceAccount",
        "name": kinds["ServiceAccount"]["metadata"]["name"],
        "namespace": "kube-system",
    }


def test_dns_pods_have_no_more_rights_than_they_need() -> None:
    pod = dns()["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }


def test_all_sets_are_sets() -> None:
    for objects in (bootstrap_objects(), monitoring_objects(), flannel_objects(), list(dns().values())):
        assert len(parse_set(name="s", objects=objects).objects) == len(objects)
