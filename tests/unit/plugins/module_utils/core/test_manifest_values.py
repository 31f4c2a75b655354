# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values in objects: packed, filled in, made on the host, compared without asking the API; and releases kept."""

from __future__ import annotations

import base64
import copy
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import (
    GENERATE,
    SET_LABEL,
    Inventory,
    SetSeen,
    completed,
    covers,
    filled,
    foreign_definitions,
    generated_fields,
    index,
    is_older,
    lacks_fields,
    left_alone,
    owns,
    pack,
    parse_set,
    plan_manifests,
    shown,
    unpack,
    unsettled,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError

DEFINITION = "CustomResourceDefinition"
VERSION = "gateway.networking.k8s.io/bundle-version"
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def thing(kind: str, name: str = "x", annotations: t.Any = None, **fields: t.Any) -> dict[str, t.Any]:
    metadata: dict[str, t.Any] = {"name": name}
    if annotations:
        metadata["annotations"] = annotations
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields}


def test_packed_objects_are_the_same_and_short() -> None:
    objects = [thing("ConfigMap", str(number), data={"text": "long " * 100}) for number in range(50)]
    assert unpack(pack(objects)) == objects
    assert pack(objects) == pack(objects)
    assert len(pack(objects)) < len(str(objects)) / 10
    assert unpack("") == []


@pytest.mark.parametrize("text", ["%%%", base64.b64encode(b"no gzip").decode(), "aGFsZg="])
def test_what_is_not_packed_is_said(text: str) -> None:
    with pytest.raises(SlipwayError, match="packed"):
        unpack(text)


def test_names_in_texts_are_filled_wherever_they_stand() -> None:
    item = {"a": ["@@ca@@", {"b": "x @@ca@@ @@unknown@@"}], "c": 1, "d": None}
    assert filled(item, {"ca": "Q0E="}) == {"a": ["Q0E=", {"b": "x Q0E= @@unknown@@"}], "c": 1, "d": None}


def test_what_the_host_made_once_is_kept() -> None:
    want = thing("Secret", annotations={GENERATE: "certificate"})
    assert generated_fields(want) == ("tls.crt", "tls.key")
    assert lacks_fields(want)
    assert completed(want, None) == want
    live = {**want, "data": {"tls.crt": "QQ==", "tls.key": "Qg==", "other": "Qw=="}}
    whole = completed(want, live)
    assert whole["data"] == {"tls.crt": "QQ==", "tls.key": "Qg=="}
    assert not lacks_fields(whole)
    half = completed(want, {**want, "data": {"tls.crt": "QQ=="}})
    assert lacks_fields(half)
    assert generated_fields(thing("Secret", annotations={GENERATE: "random"})) == ("secretkey",)
    for other in (
        thing("ConfigMap", annotations={GENERATE: "random"}),
        thing("Secret"),
        thing("Secret", annotations={GENERATE: "?"}),
    ):
        assert generated_fields(other) == ()


@given(_JSON)
def test_everything_covers_itself(value: t.Any) -> None:
    assert covers(value, value)


@pytest.mark.parametrize(
    ("live", "wanted", "same"),
    [
        ({"a": 1, "b": 2}, {"a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": {"b": [1, 2], "c": 3}}, {"a": {"b": [1, 2]}}, True),
        ({"a": [1, 2, 3]}, {"a": [1, 2]}, False),
        ({"a": [1]}, {"a": []}, False),
        ({}, {"a": []}, True),
        ({"a": "x"}, {"a": None}, False),
        ({"a": False}, {"a": 0}, False),
        ([{"x": 1, "y": 2}], [{"x": 1}], True),
        ("text", {"a": 1}, False),
        (None, [1], False),
        ({"a": {"left": 1}}, {"a": {}}, True),
    ],
)
def test_what_covers_what(live: t.Any, wanted: t.Any, same: bool) -> None:
    assert covers(live, wanted) == same


SELECTOR: dict[str, t.Any] = {"f:selector": {}}
PORTS: dict[str, t.Any] = {"f:ports": {'k:{"port":53,"protocol":"UDP"}': {".": {}, "f:name": {}, "f:port": {}}}}
PORT = {"name": "dns", "port": 53, "protocol": "UDP"}


@pytest.mark.parametrize(
    ("held", "spec", "ours"),
    [
        (SELECTOR, {"selector": {"app": "x"}}, True),
        ({}, {"selector": {"app": "x"}}, True),
        (PORTS, {"selector": {"app": "x"}}, False),
        (PORTS | SELECTOR, {"ports": [{"name": "dns", "port": 53}]}, True),
        (PORTS, {"ports": [PORT]}, False),
        (PORTS, {"ports": [{"name": "dns", "port": 54}]}, False),
        ({"f:hosts": {'v:"a"': {}, 'v:"b"': {}}}, {"hosts": ["a", "b"]}, True),
        ({"f:hosts": {'v:"a"': {}}}, {"hosts": ["a", "b"]}, False),
        ({"f:rules": {}}, {"rules": [{"verbs": ["get"]}]}, True),
        ({"f:pod": {"f:name": {}}}, {"pod": "x"}, False),
        ({"f:volume": {"f:emptyDir": {}}}, {"volume": {"emptyDir": {}}}, True),
    ],
)
def test_what_is_still_ours(held: dict[str, t.Any], spec: dict[str, t.Any], ours: bool) -> None:
    want = thing("Service", spec=spec)
    entry = {
        "manager": "slipway",
        "operation": "Apply",
        "apiVersion": want["apiVersion"],
        "fieldsV1": {"f:metadata": {"f:annotations": {}}, "f:spec": held},
    }
    live = copy.deepcopy(want)
    live["metadata"]["managedFields"] = [{**entry, "manager": "kubectl-patch", "operation": "Update"}, entry]
    assert owns(live, want) == ours
    for other in ({"manager": "other"}, {"operation": "Update"}, {"apiVersion": "v0"}, {"subresource": "status"}):
        live["metadata"]["managedFields"] = [{**entry, **other}]
        assert not owns(live, want)
    del live["metadata"]["managedFields"]
    assert not owns(live, want)


@pytest.mark.parametrize(
    ("live", "wanted", "older"),
    [
        ("v1.6.3", "v1.6.3", False),
        ("v1.5.1", "v1.6.3", False),
        ("v1.10.0", "v1.6.3", True),
        ("v2.0.0-rc.1", "v1.6.3", True),
        ("", "v1.6.3", False),
        ("v1.6.3", "", False),
    ],
)
def test_a_newer_release_is_never_downgraded(live: str, wanted: str, older: bool) -> None:
    there, want = (
        thing("CustomResourceDefinition", annotations={VERSION: text} if text else None, spec={})
        for text in (live, wanted)
    )
    assert is_older(want, there) == older
    there["metadata"]["labels"] = {SET_LABEL: "s"}
    manifests = parse_set(name="s", objects=[want])
    changes = plan_manifests(manifests, SetSeen(live=index([there])))
    assert ("update CustomResourceDefinition x" in [change.name for change in changes]) == (not older)


@pytest.mark.parametrize(
    ("kind", "labels", "held", "does", "says"),
    [
        (DEFINITION, {SET_LABEL: "s"}, "v1.5.1", [f"update {DEFINITION} x"], None),
        (DEFINITION, {SET_LABEL: "s"}, "v1.7.0", [], None),
        (DEFINITION, None, "v1.5.1", [], " (release v1.5.1; Slipway's would be v1.6.3)"),
        (DEFINITION, {}, "v1.7.0", [], " (release v1.7.0; Slipway's would be v1.6.3)"),
        (DEFINITION, {SET_LABEL: "another"}, "", [], " (release unknown; Slipway's would be v1.6.3)"),
        ("ValidatingAdmissionPolicy", {}, "v1.5.1", [], "(release v1.5.1; Slipway's"),
        ("ValidatingAdmissionPolicy", {SET_LABEL: "s"}, "v1.5.1", ["update ValidatingAdmissionPolicy x"], None),
    ],
)
def test_a_definition_that_somebody_else_made_is_left_alone_and_named(
    kind: str, labels: dict[str, str] | None, held: str, does: list[str], says: str | None
) -> None:
    there = thing(kind, annotations={VERSION: held} if held else None, spec={})
    there["metadata"]["labels"] = labels
    manifests = parse_set(name="s", objects=[thing(kind, annotations={VERSION: "v1.6.3"}, spec={}), thing("Secret")])
    seen = SetSeen(live=index([there]), inventory=Inventory())
    changes = plan_manifests(manifests, seen)
    assert [change.name for change in changes] == [*does, "create Secret x"]
    remembered = {ref.kind for ref in changes[-1].data.after.refs}
    assert remembered == ({"Secret"} if says else {"Secret", kind})
    told = foreign_definitions(manifests, seen)
    assert [(problem.warning, (says or "") in problem.found) for problem in told] == ([(True, True)] if says else [])


def test_where_definitions_are_somebody_elses_no_policy_keeps_their_releases_out() -> None:
    wanted = [thing(kind, kind.lower(), annotations={VERSION: "v1.6.3"}) for kind in (DEFINITION, "Policy", "Binding")]
    manifests = parse_set(name="s", objects=[*wanted, thing(DEFINITION, "missing"), thing("Secret")])
    theirs = index([thing(DEFINITION, DEFINITION.lower())])
    changes = plan_manifests(manifests, SetSeen(live=theirs))
    assert [change.name for change in changes] == [f"create {DEFINITION} missing", "create Secret x"]
    assert {key[1:] for key in left_alone(manifests, theirs)} == {
        (DEFINITION, "", DEFINITION.lower()),
        ("Policy", "", "policy"),
        ("Binding", "", "binding"),
    }
    assert left_alone(manifests, {}) == frozenset()
    ours = index([{**each, "metadata": {**each["metadata"], "labels": {SET_LABEL: "s"}}} for each in wanted])
    assert left_alone(manifests, ours) == frozenset()


def test_a_definition_is_shown_without_its_schema() -> None:
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": {"description": "very long"}}}]
    text = shown(thing("CustomResourceDefinition", spec={"versions": versions}))
    assert "very long" not in text
    assert '"schema": "sha256:' in text
    other = shown(thing("CustomResourceDefinition", spec={"versions": [{"name": "v1", "schema": {}}]}))
    assert text != other


def test_what_goes_with_a_definition_is_said() -> None:
    made = parse_set(name="s", objects=[thing("CustomResourceDefinition", spec={})])
    live = made.objects[0]
    from_inventory = plan_manifests(made, SetSeen())[0].data.after
    gone = parse_set(name="s", objects=[], absent=True)
    (change,) = plan_manifests(gone, SetSeen(live=index([live]), inventory=from_inventory))
    assert change.name == "delete CustomResourceDefinition x and every object of these kinds"


@pytest.mark.parametrize(
    ("conditions", "lack"),
    [
        ([{"type": "Available", "status": "True"}], None),
        ([{"type": "Available", "status": "False", "message": "no endpoints"}], "is not available yet: no endpoints"),
        ([], "is not available yet: nobody has looked"),
    ],
)
def test_an_api_service_is_there_when_it_answers(conditions: list[dict[str, str]], lack: str | None) -> None:
    assert unsettled(thing("APIService", status={"conditions": conditions})) == lack
