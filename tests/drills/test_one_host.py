# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of one host with add-ons: it announces its addresses itself, and somebody had a Gateway API before."""

from __future__ import annotations

import collections.abc
import json
import typing as t

import pytest

from slipway.lab import Lab
from tests.cluster import support

GROUP = "gateway.networking.k8s.io"
RELEASE = f"{GROUP}/bundle-version"
MISSING = f"grpcroutes.{GROUP}"
LABEL = "slipway.cluster/set"
THEIRS = """
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: theirs, namespace: default}
spec: {gatewayClassName: of-somebody-else, listeners: [{name: http, port: 80, protocol: HTTP}]}
"""
NOWHERE = '{"spec":{"template":{"spec":{"nodeSelector":{"nowhere":"true"}}}}}'
ANYWHERE = '[{"op":"remove","path":"/spec/template/spec/nodeSelector/nowhere"}]'
SPEAKER = ("daemonset", "speaker", "-n", "slipway-load-balancer")


@pytest.fixture(scope="module")
def lab() -> collections.abc.Iterator[Lab]:
    with support.lab_of(support.lab_name("one"), workers=0) as made:
        yield made


@pytest.fixture(scope="module")
def variables(lab: Lab) -> dict[str, t.Any]:
    return {"slipway_load_balancer": {"pools": [support.address_pool(lab, 241)]}, "slipway_ingress": {"enabled": True}}


@pytest.fixture(scope="module")
def theirs(lab: Lab) -> set[str]:
    """Definitions of another release that somebody made on a cluster without add-ons, one of them left out."""
    support.ansible_run(lab.inventory, "apply").require()
    file = support.artifact("gateway-api-definitions")["file"]
    listed = json.loads((support.BUNDLE / file).read_text(encoding="utf-8"))
    described = [item for item in listed if item["kind"] == "CustomResourceDefinition"]
    items = [item for item in described if item["metadata"]["name"] != MISSING]
    for item in items:
        item["metadata"]["annotations"][RELEASE] = "v1.0.9"
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    support.kubectl(lab, "apply", "--server-side", "--field-manager=somebody", "--filename=-", stdin=listing)
    names = {item["metadata"]["name"] for item in items}
    established = ("wait", "--for=condition=Established", "--timeout=60s")
    support.kubectl(lab, *established, *(f"crd/{name}" for name in names))
    support.kubectl(lab, "apply", "--filename=-", stdin=THEIRS)
    return names


def definitions(lab: Lab) -> dict[str, tuple[str, str]]:
    """The Gateway API's definitions with their release and the set that they belong to."""
    found = support.objects(lab, "crd")
    return {
        item["metadata"]["name"]: (
            item["metadata"].get("annotations", {}).get(RELEASE, ""),
            item["metadata"].get("labels", {}).get(LABEL, ""),
        )
        for item in found
        if item["spec"]["group"] == GROUP
    }


def policies(lab: Lab) -> list[str]:
    """What keeps other releases of the definitions out."""
    found = support.objects(lab, "validatingadmissionpolicies,validatingadmissionpolicybindings")
    return [item["metadata"]["name"] for item in found if GROUP in item["metadata"]["name"]]


def verified(lab: Lab, variables: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    said = support.slipway("verify", "--json", "-i", str(lab.inventory), "-e", json.dumps(variables))
    return {check["aspect"]: check for check in json.loads(said.out)["checks"]}


def test_definitions_of_somebody_else_are_used_named_and_left_alone(
    lab: Lab, theirs: set[str], variables: dict[str, t.Any]
) -> None:
    planned = support.slipway("plan", "--json", "-i", str(lab.inventory), "-e", json.dumps(variables)).require(2)
    warned = [each for each in json.loads(planned.out)["problems"] if each["where"] == "manifests gateway-api"]
    assert len(warned) == 1
    assert "release v1.0.9; Slipway's would be v1." in warned[0]["found"]
    assert all(name in warned[0]["found"] for name in theirs)
    run = support.ansible_run(lab.inventory, "apply", extra_vars=variables).require()
    assert any(problem.warning and problem.where == "manifests gateway-api" for problem in run.problems)
    found = definitions(lab)
    assert {name: found[name] for name in theirs} == dict.fromkeys(theirs, ("v1.0.9", ""))
    assert found[MISSING][1] == "gateway-api"
    assert policies(lab) == []
    again = support.ansible_run(lab.inventory, "apply", extra_vars=variables).require()
    assert {host: stats.changed for host, stats in again.stats.items()} == {"cp1": 0}, again.actions


def red(checks: dict[str, dict[str, t.Any]]) -> dict[str, str]:
    """What was seen of each aspect that is not as it should be."""
    return {name: str(check["seen"]) for name, check in checks.items() if not check["ok"]}


def test_the_host_that_asks_is_seen_to_announce_the_address(lab: Lab, variables: dict[str, t.Any]) -> None:
    support.ansible_run(lab.inventory, "apply", extra_vars=variables).require()
    checks = verified(lab, variables)
    print(checks["load balancer"], flush=True)
    assert red(checks) == {}
    assert "this host itself, which was seen to say so" in checks["load balancer"]["seen"]
    assert "12 requests, " in checks["load balancer"]["seen"]
    assert "24 of 24 requests at 1 addresses" in checks["gateway"]["seen"]
    support.kubectl(lab, "patch", *SPEAKER, "--patch", NOWHERE)
    support.kubectl(lab, "rollout", "status", *SPEAKER, "--timeout=90s")
    broken = verified(lab, variables)
    print(broken["load balancer"], flush=True)
    assert list(red(broken)) == ["load balancer"]
    assert "nobody on the network answers for it" in broken["load balancer"]["seen"]
    support.kubectl(lab, "patch", *SPEAKER, "--type=json", "--patch", ANYWHERE)
    support.ansible_run(lab.inventory, "apply", extra_vars=variables).require()


def test_an_address_behind_a_router_is_asked_for_by_http(lab: Lab, variables: dict[str, t.Any]) -> None:
    elsewhere = {**variables, "slipway_load_balancer": {"pools": [{"name": "lab", "addresses": ["198.51.100.8/29"]}]}}
    support.ansible_run(lab.inventory, "apply", extra_vars=elsewhere).require()
    router = f"{lab.host('cp1').address.rpartition('.')[0]}.1"
    support.shell(lab, "cp1", f"ip route add 198.51.100.8/29 via {router}")
    checks = verified(lab, elsewhere)
    print(checks["load balancer"], flush=True)
    assert red(checks) == {}
    assert f"is at cp1 by its own word, behind {router}; 12 requests, " in checks["load balancer"]["seen"]
    support.kubectl(lab, "patch", *SPEAKER, "--patch", NOWHERE)
    support.kubectl(lab, "rollout", "status", *SPEAKER, "--timeout=90s")
    broken = verified(lab, elsewhere)
    print(broken["load balancer"], flush=True)
    assert list(red(broken)) == ["load balancer"]
    assert "no node says that it announces it" in broken["load balancer"]["seen"]
    support.kubectl(lab, "patch", *SPEAKER, "--type=json", "--patch", ANYWHERE)
    support.shell(lab, "cp1", "ip route del 198.51.100.8/29")


def test_off_deletes_only_what_slipway_made(lab: Lab, theirs: set[str]) -> None:
    run = support.ansible_run(lab.inventory, "apply").require()
    assert any(f"delete CustomResourceDefinition {MISSING}" in text for _module, text in run.of("cp1")), run.actions
    assert definitions(lab) == dict.fromkeys(theirs, ("v1.0.9", ""))
    (kept,) = support.objects(lab, f"gateways.{GROUP}", "-A")
    assert kept["metadata"]["name"] == "theirs"


def test_what_is_handed_over_goes_with_the_add_on(lab: Lab, theirs: set[str], variables: dict[str, t.Any]) -> None:
    support.kubectl(lab, "label", *(f"crd/{name}" for name in theirs), f"{LABEL}=gateway-api")
    support.ansible_run(lab.inventory, "apply", extra_vars=variables).require()
    releases = {release for release, _set in definitions(lab).values()}
    assert len(releases) == 1
    assert "v1.0.9" not in releases
    assert len(policies(lab)) == 2
    support.ansible_run(lab.inventory, "apply").require()
    assert definitions(lab) == {}
    assert policies(lab) == []
