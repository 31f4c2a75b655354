# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubeconfig of a person: written once, kept while it serves, never over somebody else's."""

from __future__ import annotations

import dataclasses
import datetime

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.kubeconfig import (
    Access,
    lacks,
    render,
    user_name,
)

NOW = 1_800_000_000
DAY = 86400
ACCESS = Access(
    "prod", "https://10.0.0.11:6443", "-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n", "slipway:me"
)


def certified(user: str, *, begins: int, days: int) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, user)])
    begin = datetime.datetime.fromtimestamp(begins, datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, begin, begin + datetime.timedelta(days=days))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def text(access: Access = ACCESS, *, user: str = "slipway:me", begins: int = NOW - 10 * DAY, days: int = 28) -> str:
    return render(access, certified(user, begins=begins, days=days), "KEY")


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        (text(), ""),
        (text(begins=NOW - 18 * DAY), ""),
        (text(begins=NOW - 19 * DAY), "its certificate is near its end"),
        (text(begins=NOW - 40 * DAY), "its certificate is near its end"),
        (text(dataclasses.replace(ACCESS, server="https://other:6443")), "it is for https://other:6443"),
        (text(dataclasses.replace(ACCESS, authority="other")), "it trusts the authority of another cluster"),
        (text(user="slipway:you"), "it is another user's"),
        (render(ACCESS, "broken", "KEY"), "it is another user's"),
    ],
)
def test_why_it_is_written_anew(held: str, reason: str) -> None:
    assert lacks(held, ACCESS, now=NOW, where="f") == reason


@pytest.mark.parametrize(
    "held",
    [
        "",
        "not: [yaml",
        "a list of words",
        text(dataclasses.replace(ACCESS, user="kubernetes-admin")),
        yaml.safe_dump({**yaml.safe_load(text()), "contexts": [{"name": "a"}, {"name": "b"}]}),
    ],
)
def test_what_others_have_written_is_refused(held: str) -> None:
    with pytest.raises(SlipwayError, match=r"/home/me/\.kube/config: is no kubeconfig that Slipway has written"):
        lacks(held, ACCESS, now=NOW, where="/home/me/.kube/config")


@pytest.mark.parametrize("person", ["me", "first.last", "a-b_c@desk"])
def test_people_get_a_name_of_their_own_kind(person: str) -> None:
    assert user_name(person) == f"slipway:{person}"


@pytest.mark.parametrize("person", ["", "a/b", "a b", "-a", "ü", "a" * 49, "x,O=system:masters"])
def test_names_that_do_not_fit(person: str) -> None:
    with pytest.raises(SlipwayError, match="set user"):
        user_name(person)
