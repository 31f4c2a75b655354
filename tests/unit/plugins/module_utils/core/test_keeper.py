# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the keeper approves, renews and waits for."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import functools
import subprocess
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.keeper import (
    SIGNER,
    Approve,
    Config,
    Refuse,
    SigningRequest,
    State,
    certificate_days,
    decide,
    lease_for,
    lease_holder,
    metrics,
    plan_renewal,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import (
    Authority,
    Certificate,
    Copy,
    KeyPair,
    PkiSeen,
    PkiWant,
    SeenFile,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.x509 import CertificateFacts, Names

NODES = {"w1": ["10.0.0.21", "w1.example.org", "fd00::21"], "w2": ["10.0.0.22"]}


@functools.cache
def pem(subject: str = "/O=system:nodes/CN=system:node:w1", *extensions: str) -> str:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "/dev/null"]
    added = [part for extension in extensions for part in ("-addext", extension)]
    argv = ["openssl", "req", "-new", *key, "-subj", subject, *added]
    return subprocess.run(argv, capture_output=True, check=True, text=True).stdout


SANS = "subjectAltName=DNS:w1,IP:10.0.0.21"
GOOD = SigningRequest(
    name="csr-1",
    signer=SIGNER,
    username="system:node:w1",
    groups=("system:nodes", "system:authenticated"),
    usages=("digital signature", "server auth"),
    request=pem("/O=system:nodes/CN=system:node:w1", SANS),
)


@pytest.mark.parametrize(
    "sans",
    ["DNS:w1", "IP:10.0.0.21", "DNS:W1.example.org,IP:10.0.0.21", "IP:fd00:0:0::21", "DNS:w1,DNS:w1.example.org"],
)
def test_a_node_gets_its_own_names(sans: str) -> None:
    asked = pem("/O=system:nodes/CN=system:node:w1", f"subjectAltName={sans}")
    assert decide(dataclasses.replace(GOOD, request=asked), NODES) == Approve("w1")


def test_an_rsa_key_may_also_encipher() -> None:
    usages = ("key encipherment", "digital signature", "server auth")
    assert decide(dataclasses.replace(GOOD, usages=usages), NODES) == Approve("w1")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"signer": "kubernetes.io/kube-apiserver-client-kubelet"}, "signer"),
        ({"username": "system:serviceaccount:default:x"}, "is not a node"),
        ({"username": ""}, "nobody is not a node"),
        ({"groups": ("system:authenticated",)}, "is not a node"),
        ({"username": "system:node:w3"}, "not a node that Slipway knows"),
        ({"username": "system:node:w2"}, "common name 'system:node:w1' is not system:node:w2"),
        ({"usages": ("digital signature", "server auth", "client auth")}, "usages"),
        ({"usages": ("server auth",)}, "usages"),
        ({"usages": ()}, "usages none"),
        ({"usages": ("digital signature", "digital signature", "server auth")}, "usages"),
        ({"request": ""}, "not one PEM block"),
        ({"request": "-----BEGIN CERTIFICATE REQUEST-----\nAAA\n-----END CERTIFICATE REQUEST-----"}, "cannot be read"),
        ({"request": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----"}, "cannot be read"),
        ({"request": GOOD.request * 2}, "not one PEM block"),
    ],
)
def test_forged_requests_stay_pending(fields: dict[str, t.Any], reason: str) -> None:
    decision = decide(dataclasses.replace(GOOD, **fields), NODES)
    assert isinstance(decision, Refuse)
    assert reason in decision.reason


@pytest.mark.parametrize(
    ("subject", "extensions", "reason"),
    [
        ("/O=system:nodes/CN=system:node:w2", [SANS], "common name"),
        ("/O=system:nodes/CN=system:node:w1/CN=system:node:w2", [SANS], "more than names"),
        ("/O=system:masters/CN=system:node:w1", [SANS], "organizations system:masters"),
        ("/O=system:nodes/O=system:masters/CN=system:node:w1", [SANS], "organizations"),
        ("/CN=system:node:w1", [SANS], "organizations none"),
        ("/OU=x/O=system:nodes/CN=system:node:w1", [SANS], "more than names"),
        ("/O=system:nodes/CN=system:node:w1", [], "no address"),
        ("/O=system:nodes/CN=system:node:w1", ["subjectAltName=DNS:w1,IP:10.0.0.22"], "10.0.0.22 is not on the list"),
        ("/O=system:nodes/CN=system:node:w1", ["subjectAltName=DNS:kubernetes.default"], "kubernetes.default"),
        ("/O=system:nodes/CN=system:node:w1", ["subjectAltName=DNS:*.example.org"], "is not on the list"),
        ("/O=system:nodes/CN=system:node:w1", ["subjectAltName=DNS:w1,URI:spiffe://x"], "more than names"),
        ("/O=system:nodes/CN=system:node:w1", ["subjectAltName=DNS:w1,email:a@b"], "more than names"),
        ("/O=system:nodes/CN=system:node:w1", [SANS, "basicConstraints=CA:TRUE"], "more than names: 2.5.29.19"),
        ("/O=system:nodes/CN=system:node:w1", [SANS, "extendedKeyUsage=clientAuth"], "more than names: 2.5.29.37"),
    ],
)
def test_requests_for_something_else_stay_pending(subject: str, extensions: list[str], reason: str) -> None:
    decision = decide(dataclasses.replace(GOOD, request=pem(subject, *extensions)), NODES)
    assert isinstance(decision, Refuse)
    assert reason in decision.reason


def test_a_request_as_the_api_gives_it() -> None:
    spec = {
        "signerName": SIGNER,
        "username": GOOD.username,
        "groups": list(GOOD.groups),
        "usages": list(GOOD.usages),
        "request": base64.b64encode(GOOD.request.encode()).decode(),
    }
    item = {"metadata": {"name": "csr-1"}, "spec": spec, "status": {}}
    assert SigningRequest.from_api(item) == GOOD
    assert SigningRequest.from_api({**item, "status": {"conditions": [{"type": "Approved"}]}}).settled
    assert SigningRequest.from_api({**item, "status": {"certificate": "x"}}).settled
    assert SigningRequest.from_api({**item, "spec": {**spec, "request": "%"}}).request == ""
    assert SigningRequest.from_api({}).name == ""


# --- renewal ---

NOW = 1_800_000_000
DAY = 86400
CA = Authority("kubernetes", "/ca.crt", "/ca.key")
LEAF = Certificate("leaf", "/l.crt", "/l.key", "kubernetes", "leaf", usages=("client",))
OTHER = Certificate("other", "/o.crt", "/o.key", "etcd", "other", usages=("client",))
WANT = PkiWant(
    (CA, Authority("etcd", "/etcd.crt", "/etcd.key")),
    (KeyPair("sa", "/sa.key", "/sa.pub"),),
    certificates=(LEAF, OTHER),
    copies=(Copy("/l.crt", "/copy.crt"), Copy("/sa.key", "/sa-copy.key")),
)
CA_FACTS = CertificateFacts(
    Names("kubernetes"), (), True, "ca", "ca", "aa", "aa", NOW - DAY, NOW + 900 * DAY, "01", "f0", "ca-key"
)


def seen(*, not_before: int = NOW - 10 * DAY, cn: str = "leaf", key: str = "leaf-key") -> PkiSeen:
    names = Names(cn)
    facts = CertificateFacts(
        names, ("client",), False, "l", "ca", "bb", "aa", not_before, not_before + 365 * DAY, "02", "f1", "leaf-key"
    )
    files = {
        "/ca.crt": SeenFile("certificate", "root", "root", "0644", "f0", "ca-key", CA_FACTS),
        "/ca.key": SeenFile("private-key", "root", "root", "0600", "d", "ca-key"),
        "/l.crt": SeenFile("certificate", "root", "root", "0644", "f1", "leaf-key", facts),
        "/l.key": SeenFile("private-key", "root", "root", "0600", "d", key),
        "/copy.crt": SeenFile("certificate", "root", "root", "0644", "f1", "leaf-key", facts),
    }
    return PkiSeen(files)


def renewal(what: PkiSeen, want: PkiWant = WANT) -> list[str]:
    return [change.name for change in plan_renewal(want, what, now=NOW)]


def test_what_is_far_from_its_end_stays() -> None:
    assert renewal(seen()) == []


def test_what_is_near_its_end_is_renewed_with_its_copies() -> None:
    assert renewal(seen(not_before=NOW - 300 * DAY)) == ["issue certificate leaf", "copy /copy.crt"]


def test_a_renewal_that_was_cut_off_is_finished() -> None:
    assert renewal(seen(key="new-key")) == ["issue certificate leaf", "copy /copy.crt"]


def test_what_a_newer_apply_may_have_changed_is_left_to_it() -> None:
    assert renewal(seen(cn="changed")) == []


def test_a_host_without_the_authority_renews_nothing() -> None:
    files = dict(seen(not_before=NOW - 300 * DAY).files)
    del files["/ca.key"]
    assert renewal(PkiSeen(files)) == []


def test_a_broken_authority_stops_renewal() -> None:
    files = {**seen().files, "/ca.key": SeenFile("private-key", "root", "root", "0600", "d", "other")}
    with pytest.raises(SlipwayError, match="does not belong"):
        renewal(PkiSeen(files))


def test_the_keepers_list_never_makes_an_authority() -> None:
    data = {**WANT.to_data(), "generate": True, "sealed": {"x": "y"}, "restart": ["a.service"]}
    config = Config.from_data(data)
    assert config.restart == ("a.service",)
    assert not config.want.generate
    assert not config.want.sealed
    assert config.want.certificates == WANT.certificates
    with pytest.raises(SlipwayError):
        Config.from_data([])


def test_days_left_by_name() -> None:
    assert certificate_days(WANT, seen(), now=NOW) == {"kubernetes": 900.0, "leaf": 355.0}


# --- the lease ---

MOMENT = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize(("seconds", "holder"), [(0, "cp1"), (599, "cp1"), (600, ""), (9999, "")])
def test_a_holder_that_has_gone_is_nobody(seconds: int, holder: str) -> None:
    lease = lease_for("cp1", now=MOMENT)
    assert lease_holder(lease, now=MOMENT + datetime.timedelta(seconds=seconds)) == holder


def test_a_lease_given_back_has_no_holder() -> None:
    lease = lease_for("", now=MOMENT, resource_version="7")
    assert lease_holder(lease, now=MOMENT) == ""
    assert lease["metadata"]["resourceVersion"] == "7"
    assert "resourceVersion" not in lease_for("cp1", now=MOMENT)["metadata"]


# --- the state ---


def test_the_state_survives() -> None:
    state = State(1, 2, 3, "no", {"a": 1.5}, {"csr": "why"}, ("x.service",))
    assert State.from_text(state.to_text()) == state


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"unknown": 1}', '{"restart": 3}'])
def test_a_state_that_cannot_be_read_is_a_first_run(text: str | None) -> None:
    assert State.from_text(text) == State()


def test_metrics() -> None:
    text = metrics(State(1, 2, 3, "no", {"b": 1.5, "a": 2}, {"csr": "why"}))
    assert text.endswith("\n")
    assert "slipway_keeper_failing 1\n" in text
    assert "slipway_keeper_refused_requests 1\n" in text
    assert 'slipway_certificate_days_left{name="a"} 2\nslipway_certificate_days_left{name="b"} 1.5\n' in text
