# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What our reader says about real files is what openssl says; what is not DER is refused."""

from __future__ import annotations

import hashlib
import pathlib
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.x509 import (
    encode,
    fingerprint,
    parse,
    parse_certificate,
    parse_request,
    pem_blocks,
    public_key_of,
)


def openssl(*arguments: str, stdin: bytes | None = None) -> bytes:
    return subprocess.run(["openssl", *arguments], input=stdin, capture_output=True, check=True).stdout


def der(pem: bytes) -> bytes:
    ((_label, content),) = pem_blocks(pem.decode())
    return content


KEYS = {
    "ec": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "ec384": ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    "rsa": ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    "sec1": ["ecparam", "-genkey", "-noout", "-name", "prime256v1"],
}


@pytest.mark.parametrize("kind", [*KEYS, "pkcs1"])
def test_the_public_half_of_a_key(kind: str) -> None:
    pem = openssl(*KEYS["rsa" if kind == "pkcs1" else kind])
    if kind == "pkcs1":
        pem = openssl("rsa", "-traditional", stdin=pem)
    ((label, content),) = pem_blocks(pem.decode())
    public = openssl("pkey", "-pubout", "-outform", "DER", stdin=pem)
    assert public_key_of(label, content) == public
    assert public_key_of("PUBLIC KEY", public) == public


def test_keys_that_do_not_say_their_public_half() -> None:
    ((label, content),) = pem_blocks(openssl("genpkey", "-algorithm", "ED25519").decode())
    assert public_key_of(label, content) is None
    encrypted = openssl(*KEYS["ec"], "-aes256", "-pass", "pass:x")
    ((label, content),) = pem_blocks(encrypted.decode())
    assert public_key_of(label, content) is None
    bare = openssl("ec", "-no_public", stdin=openssl(*KEYS["sec1"]))
    ((label, content),) = pem_blocks(bare.decode())
    assert public_key_of(label, content) is None


def certificate(tmp_path: pathlib.Path, *more: str) -> bytes:
    key = tmp_path / "key"
    key.write_bytes(openssl(*KEYS["ec"]))
    return openssl("req", "-x509", "-new", "-key", str(key), "-days", "10", *more)


def test_a_certificate(tmp_path: pathlib.Path) -> None:
    names = "subjectAltName=DNS:Example.org,IP:10.0.0.1,IP:fd00::1,email:a@b"
    usages = "extendedKeyUsage=serverAuth,clientAuth,codeSigning"
    pem = certificate(tmp_path, "-subj", "/O=one/O=two/OU=unit/CN=näme", "-utf8", "-addext", names, "-addext", usages)
    facts = parse_certificate(der(pem))
    assert facts.names.common_name == "näme"
    assert facts.names.organizations == ("one", "two")
    assert facts.names.dns == ("example.org",)
    assert facts.names.addresses == ("10.0.0.1", "fd00::1")
    assert facts.names.other == ("name of kind 1", "2.5.4.11=unit")
    assert facts.usages == ("server", "client", "1.3.6.1.5.5.7.3.3")
    assert facts.is_authority
    assert facts.subject_id == facts.issuer_id
    said = openssl("x509", "-noout", "-serial", "-fingerprint", "-sha256", "-ext", "subjectKeyIdentifier", stdin=pem)
    plain = said.decode().replace(":", "").lower()
    assert facts.fingerprint in plain
    assert facts.serial.lstrip("0") in plain
    assert facts.key_id in plain
    assert facts.authority_key_id == facts.key_id
    public = openssl("pkey", "-pubin", "-outform", "DER", stdin=openssl("x509", "-noout", "-pubkey", stdin=pem))
    assert facts.public_key == hashlib.sha256(public).hexdigest()
    assert facts.not_after - facts.not_before == 10 * 86400


def test_years_after_2049(tmp_path: pathlib.Path) -> None:
    facts = parse_certificate(der(certificate(tmp_path, "-subj", "/CN=x", "-days", "20000")))
    assert facts.not_after - facts.not_before == 20000 * 86400


def test_a_plain_leaf(tmp_path: pathlib.Path) -> None:
    constraint = "basicConstraints=CA:FALSE"
    facts = parse_certificate(der(certificate(tmp_path, "-subj", "/CN=x", "-addext", constraint)))
    assert not facts.is_authority
    assert facts.usages == ()
    assert facts.names.dns == ()


def request(tmp_path: pathlib.Path, *more: str) -> bytes:
    key = tmp_path / "key"
    key.write_bytes(openssl(*KEYS["ec"]))
    return der(openssl("req", "-new", "-key", str(key), *more))


def test_a_request(tmp_path: pathlib.Path) -> None:
    asked = parse_request(request(tmp_path, "-subj", "/O=o/CN=c", "-addext", "subjectAltName=DNS:a,IP:10.0.0.1"))
    assert (asked.names.common_name, asked.names.organizations) == ("c", ("o",))
    assert (asked.names.dns, asked.names.addresses, asked.extensions) == (("a",), ("10.0.0.1",), ())
    bare = parse_request(request(tmp_path, "-subj", "/CN=c"))
    assert (bare.names.dns, bare.extensions) == ((), ())
    more = parse_request(request(tmp_path, "-subj", "/CN=c", "-addext", "basicConstraints=CA:TRUE"))
    assert more.extensions == ("2.5.29.19",)


def test_a_request_with_a_challenge_password_is_refused(tmp_path: pathlib.Path) -> None:
    config = tmp_path / "cnf"
    config.write_text(
        "[req]\ndistinguished_name=dn\nattributes=at\nprompt=no\n[dn]\nCN=x\n[at]\nchallengePassword=abcd\n"
    )
    with pytest.raises(ValueError, match="attributes"):
        parse_request(request(tmp_path, "-config", str(config)))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cut"),
        (b"\x30", "cut"),
        (b"\x30\x80\x00\x00", "indefinite"),
        (b"\x30\x81\x01\x00", "shortest"),
        (b"\x30\x82\x00\x80" + b"\0" * 128, "shortest"),
        (b"\x30\x85\x01\x00\x00\x00\x00", "cut"),
        (b"\x30\x05\x00", "longer"),
        (b"\x1f\x01\x00", "long tag"),
        (b"\x30\x00\x00", "trailing"),
    ],
)
def test_what_is_not_der_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(data)


@given(st.integers(0, 30), st.binary(max_size=70000))
def test_what_is_encoded_is_read_back(tag: int, content: bytes) -> None:
    node = parse(encode(tag, content))
    assert (node.tag, node.content) == (tag, content)


@given(st.binary(max_size=200))
def test_noise_is_refused_and_never_anything_else(noise: bytes) -> None:
    for read in (parse_certificate, parse_request):
        with pytest.raises((ValueError, IndexError)):
            read(noise)


def test_every_cut_and_every_flipped_byte_of_a_certificate_is_read_or_refused(tmp_path: pathlib.Path) -> None:
    whole = der(certificate(tmp_path, "-subj", "/CN=x", "-addext", "subjectAltName=DNS:a"))
    for index in range(len(whole)):
        with pytest.raises((ValueError, IndexError)):
            parse_certificate(whole[:index])
        flipped = whole[:index] + bytes([whole[index] ^ 0xFF]) + whole[index + 1 :]
        try:
            assert parse_certificate(flipped).fingerprint == fingerprint(flipped)
        except (ValueError, IndexError):
            continue


def test_pem_blocks() -> None:
    assert pem_blocks("nothing") == []
    text = "x\n-----BEGIN A B-----\nAAEC\n-----END A B-----\ny\n-----BEGIN C-----\nAA==\n-----END C-----\n"
    assert pem_blocks(text) == [("A B", b"\0\1\2"), ("C", b"\0")]
    with pytest.raises(ValueError, match="base64"):
        pem_blocks("-----BEGIN C-----\nAAA\n-----END C-----")
