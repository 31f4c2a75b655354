# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is planned for every state in which keys and certificates can be."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import (
    Authority,
    Certificate,
    Copy,
    KeyPair,
    PkiSeen,
    PkiWant,
    Secret,
    SeenFile,
    days_left,
    plan_pki,
    shared_fingerprints,
    shared_traces,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.x509 import CertificateFacts, Names

NOW = 1_800_000_000
DAY = 86400
CA = Authority("kubernetes", "/pki/ca.crt", "/pki/ca.key", "kubernetes-ca")
SA = KeyPair("service-account", "/pki/sa.key", "/pki/sa.pub")
ENC = Secret("encryption-config", "/pki/enc.yaml")
LEAF = Certificate(
    "api", "/api/tls.crt", "/api/tls.key", "kubernetes", "kube-apiserver",
    organizations=("a", "b"), dns=("Kubernetes",), addresses=("10.0.0.1", "fd00:0::1"), usages=("server",), owner="api",
    group="api",
)  # fmt: skip
COPY = Copy("/pki/sa.key", "/api/sa.key", "api", "api")
WANT = PkiWant((CA,), (SA,), (ENC,), (LEAF,), (COPY,))
ALL = [
    "make authority kubernetes",
    "make key pair service-account",
    "make secret encryption-config",
    "issue certificate api",
    "copy /api/sa.key",
]


def facts(**fields: t.Any) -> CertificateFacts:
    return CertificateFacts(
        **{
            "names": Names("kube-apiserver", ("b", "a"), ("kubernetes",), ("fd00::1", "10.0.0.1")),
            "usages": ("server",),
            "is_authority": False,
            "subject_id": "leaf",
            "issuer_id": "ca",
            "key_id": "bb",
            "authority_key_id": "aa",
            "not_before": NOW - 100 * DAY,
            "not_after": NOW + 265 * DAY,
            "serial": "01",
            "fingerprint": "f1",
            "public_key": "leaf-key",
            **fields,
        }
    )


CA_FACTS = facts(
    names=Names("kubernetes-ca"), usages=(), is_authority=True, subject_id="ca", issuer_id="ca", key_id="aa",
    authority_key_id="", fingerprint="f0", public_key="ca-key",
)  # fmt: skip


def certificate(what: CertificateFacts, owner: str = "root") -> SeenFile:
    return SeenFile("certificate", owner, owner, "0644", what.fingerprint, what.public_key, what)


def key(public: str, owner: str = "root", mode: str = "0600") -> SeenFile:
    return SeenFile("private-key", owner, owner, mode, f"digest of {public}", public)


SHARED = {
    "/pki/ca.crt": certificate(CA_FACTS),
    "/pki/ca.key": key("ca-key"),
    "/pki/sa.key": key("sa"),
    "/pki/sa.pub": SeenFile("public-key", "root", "root", "0644", "d", "sa"),
    "/pki/enc.yaml": SeenFile("other", "root", "root", "0600", "enc"),
}
DONE = {
    **SHARED,
    "/api/tls.crt": certificate(facts(), "api"),
    "/api/tls.key": key("leaf-key", "api"),
    "/api/sa.key": key("sa", "api"),
}


def names(want: PkiWant, files: t.Mapping[str, SeenFile]) -> list[str]:
    return [change.name for change in plan_pki(want, PkiSeen(files), now=NOW)]


def without(*paths: str) -> dict[str, SeenFile]:
    return {path: file for path, file in DONE.items() if path not in paths}


def test_a_bare_host_that_makes_everything_announces_everything() -> None:
    assert names(dataclasses.replace(WANT, generate=True), {}) == ALL


def test_a_bare_host_that_awaits_announces_installations() -> None:
    planned = names(dataclasses.replace(WANT, awaits=True), {})
    assert planned == [name.replace("make", "install") for name in ALL]


def test_a_worker_that_has_the_authoritys_certificate_awaits_its_key() -> None:
    """It has the certificate of this cluster; one of another is refused, and so is a key that nobody brings."""
    worker = {"/pki/ca.crt": SHARED["/pki/ca.crt"]}
    want = dataclasses.replace(WANT, awaits=True, expected={"kubernetes": "f0"})
    assert names(want, worker) == [name.replace("make", "install") for name in ALL]
    with pytest.raises(SlipwayError, match="belongs to another cluster"):
        names(dataclasses.replace(want, expected={"kubernetes": "f9"}), worker)
    with pytest.raises(SlipwayError, match=r"missing: /pki/ca\.key"):
        names(dataclasses.replace(want, awaits=False), worker)
    with pytest.raises(SlipwayError, match="is there without"):
        names(dataclasses.replace(want, expected={}), worker)


def test_sealed_items_are_installed() -> None:
    want = dataclasses.replace(WANT, sealed={"kubernetes": "x", "service-account": "x", "encryption-config": "x"})
    assert names(want, {})[:3] == [name.replace("make", "install") for name in ALL[:3]]


def test_a_host_that_has_everything_needs_nothing() -> None:
    assert names(WANT, DONE) == []
    assert names(dataclasses.replace(WANT, generate=True), DONE) == []


def test_missing_shared_items_that_nobody_makes_are_all_named() -> None:
    with pytest.raises(SlipwayError) as caught:
        names(dataclasses.replace(WANT, expected={"kubernetes": "f0"}), {})
    assert [problem.where for problem in caught.value.problems] == [
        "authority kubernetes",
        "key pair service-account",
        "secret encryption-config",
    ]
    assert "/pki/ca.key, /pki/ca.crt" in caught.value.problems[0].found
    assert "f0" in caught.value.problems[0].expected


def test_a_generator_does_not_make_what_exists_elsewhere() -> None:
    with pytest.raises(SlipwayError, match="missing"):
        names(dataclasses.replace(WANT, generate=True, expected={"kubernetes": "f0"}), {})


def test_a_cut_between_key_and_certificate_is_finished() -> None:
    want = dataclasses.replace(WANT, generate=True)
    assert names(want, without("/pki/ca.crt"))[0] == "make authority kubernetes"
    assert names(WANT, without("/pki/sa.pub")) == ["make key pair service-account", "copy /api/sa.key"]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"/pki/ca.key": None}, "is there without /pki/ca.key"),
        ({"/pki/ca.key": key("other")}, "does not belong to the key"),
        ({"/pki/ca.key": dataclasses.replace(key(""), kind="other")}, "not a readable private key"),
        ({"/pki/ca.crt": SeenFile("other", "root", "root", "0644", "x")}, "not a CA certificate"),
        ({"/pki/ca.crt": certificate(dataclasses.replace(CA_FACTS, is_authority=False))}, "not a CA certificate"),
        ({"/pki/ca.crt": certificate(dataclasses.replace(CA_FACTS, key_id=""))}, "no subject key identifier"),
        ({"/pki/ca.crt": certificate(dataclasses.replace(CA_FACTS, not_after=NOW))}, "has expired"),
        ({"/pki/sa.key": None}, "is there without /pki/sa.key"),
        ({"/pki/sa.pub": SeenFile("public-key", "root", "root", "0644", "d", "x")}, "does not belong to the key"),
    ],
)
def test_broken_shared_items_are_refused(changed: dict[str, SeenFile | None], message: str) -> None:
    files = {path: file for path, file in {**DONE, **changed}.items() if file is not None}
    with pytest.raises(SlipwayError, match=message):
        names(dataclasses.replace(WANT, generate=True), files)


@pytest.mark.parametrize("item", ["kubernetes", "service-account", "encryption-config"])
def test_items_of_another_cluster_are_refused_with_both_fingerprints(item: str) -> None:
    found = shared_fingerprints(WANT, PkiSeen(DONE))[item]
    assert names(dataclasses.replace(WANT, expected={item: found}), DONE) == []
    with pytest.raises(SlipwayError) as caught:
        names(dataclasses.replace(WANT, expected={item: "expected-one"}), DONE)
    (problem,) = caught.value.problems
    assert found in problem.found
    assert "expected-one" in problem.expected
    assert "nothing was touched" in problem.remedy


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (None, "absent"),
        (SeenFile("other", "api", "api", "0644", "x"), "unreadable"),
        (facts(public_key="other"), "key does not match"),
        (facts(authority_key_id="zz"), "another authority"),
        (facts(issuer_id="zz"), "another authority"),
        (facts(not_before=NOW + 1), "not valid yet"),
        (facts(not_before=NOW - 244 * DAY, not_after=NOW + 121 * DAY), "near its end"),
        (facts(names=Names("x", ("a", "b"), ("kubernetes",), ("fd00::1", "10.0.0.1"))), "CN: x"),
        (facts(names=Names("kube-apiserver", ("a",), ("kubernetes",), ("fd00::1", "10.0.0.1"))), "O: a\n"),
        (facts(names=Names("kube-apiserver", ("a", "b"), (), ("fd00::1", "10.0.0.1"))), "IP:"),
        (facts(names=Names("kube-apiserver", ("a", "b"), ("kubernetes",), ("10.0.0.1",))), "IP: 10.0.0.1\n"),
        (facts(usages=("server", "client")), "usages: client, server"),
    ],
)
def test_a_certificate_is_issued_anew(seen: CertificateFacts | SeenFile | None, reason: str) -> None:
    files = without("/api/tls.crt")
    if seen is not None:
        files["/api/tls.crt"] = seen if isinstance(seen, SeenFile) else certificate(seen, "api")
    (change,) = plan_pki(WANT, PkiSeen(files), now=NOW)
    assert change.name == "issue certificate api"
    assert reason in change.data.reason
    assert change.before == ("" if seen is None else change.data.reason)


def test_a_certificate_with_more_than_a_third_left_stays() -> None:
    file = certificate(facts(not_before=NOW - 243 * DAY, not_after=NOW + 122 * DAY), "api")
    assert names(WANT, {**DONE, "/api/tls.crt": file}) == []
    assert names(dataclasses.replace(WANT, renew_fraction=0.5), {**DONE, "/api/tls.crt": file}) == [ALL[3]]


def test_without_its_authority_on_the_host_a_certificate_is_not_believed() -> None:
    want = dataclasses.replace(WANT, awaits=True)
    assert names(want, without("/pki/ca.crt", "/pki/ca.key")) == ["install authority kubernetes", ALL[3]]


def test_owner_and_mode_are_mended_without_a_new_key() -> None:
    files = {
        **DONE,
        "/pki/ca.key": key("ca-key", mode="0644"),
        "/api/tls.key": key("leaf-key"),
        "/api/sa.key": key("sa", "api", "0640"),
    }
    changes = plan_pki(WANT, PkiSeen(files), now=NOW)
    assert [change.name for change in changes] == [
        "set owner and mode of /pki/ca.key",
        "set owner and mode of /api/tls.key",
        "set owner and mode of /api/sa.key",
    ]
    assert (changes[1].before, changes[1].after) == ("root:root 0600", "api:api 0600")


def test_a_copy_follows_its_source() -> None:
    assert names(WANT, {**DONE, "/api/sa.key": key("old", "api")}) == ["copy /api/sa.key"]
    assert names(WANT, without("/api/sa.key")) == ["copy /api/sa.key"]


def test_every_missing_source_of_a_copy_is_named() -> None:
    want = dataclasses.replace(WANT, copies=(Copy("/nix", "/a"), Copy("/nux", "/b")))
    with pytest.raises(SlipwayError) as caught:
        names(want, DONE)
    assert [problem.where for problem in caught.value.problems] == ["/nix", "/nux"]


def test_the_receiver_is_made_once() -> None:
    want = PkiWant(receive=True)
    assert names(want, {}) == ["make receiver key"]
    pair = {want.receiver.key: key("leaf-key"), want.receiver.certificate: certificate(facts())}
    assert names(want, pair) == []
    assert names(want, {**pair, want.receiver.key: key("other")}) == ["make receiver key"]


def test_nothing_planned_shows_a_secret() -> None:
    changes = plan_pki(dataclasses.replace(WANT, generate=True), PkiSeen(), now=NOW)
    assert [change.secret for change in changes[:3]] == [True] * 3
    assert not any(change.before for change in changes)


def test_fingerprints_and_traces() -> None:
    assert shared_fingerprints(WANT, PkiSeen(DONE)) == {
        "kubernetes": "f0",
        "service-account": "sa",
        "encryption-config": "enc",
    }
    half = PkiSeen({"/pki/ca.key": key("ca-key")})
    assert shared_fingerprints(WANT, half) == {}
    assert shared_traces(WANT, half) == ("kubernetes",)
    assert shared_traces(WANT, PkiSeen()) == ()


def test_days_left() -> None:
    assert days_left(PkiSeen(DONE), "/api/tls.crt", NOW) == 265
    assert days_left(PkiSeen(DONE), "/api/tls.key", NOW) is None
    assert days_left(PkiSeen(), "/api/tls.crt", NOW) is None


def test_both_travel_as_json() -> None:
    want = dataclasses.replace(WANT, expected={"a": "b"}, seal_to={"h": "pem"}, receive=True)
    assert PkiWant.from_data(json.loads(json.dumps(want.to_data()))) == want
    assert PkiSeen.from_data(json.loads(json.dumps(PkiSeen(DONE).to_data()))) == PkiSeen(DONE)


def leaf_data(**fields: t.Any) -> dict[str, t.Any]:
    data = {"name": "l", "certificate": "/l.crt", "key": "/l.key", "authority": "kubernetes", "common_name": "l"}
    return {"authorities": [dataclasses.asdict(CA)], "certificates": [{**data, **fields}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"certificates": [{"nonsense": 1}]}, "nonsense"),
        ({"nonsense": 1}, "nonsense"),
        (leaf_data(authority="etcd"), "unknown authority etcd"),
        (leaf_data(addresses=["10.0.0.300"]), "10.0.0.300 is not an address"),
        (leaf_data(usages=["signing"]), "unknown usage signing"),
        (leaf_data(common_name=""), "subject ''"),
        (leaf_data(common_name="a\nb"), "subject"),
        (leaf_data(organizations=["$ENV"]), "subject"),
        (leaf_data(dns=["a,IP:1.2.3.4"]), "not a DNS name"),
        (leaf_data(name="kubernetes"), "stands there twice"),
        (leaf_data(key="/l.crt"), "would be written twice"),
        (leaf_data(mode=384), "octal digits"),
        ({"authorities": [{**dataclasses.asdict(CA), "common_name": "a=$b"}]}, "subject"),
    ],
)
def test_what_does_not_fit_together_is_refused(data: dict[str, t.Any], message: str) -> None:
    with pytest.raises(SlipwayError) as caught:
        PkiWant.from_data(data)
    assert message in str(caught.value)


def test_modes_are_four_digits() -> None:
    (leaf,) = PkiWant.from_data(leaf_data(mode="640", owner=None)).certificates
    assert (leaf.mode, leaf.owner) == ("0640", "root")
