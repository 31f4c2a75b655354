# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading certificates, certificate requests and keys, without a process for each of them.

A probe looks at dozens of PEM files on every run; one ``openssl`` per file would cost more than the rest of the
probe. Making and signing is openssl's work (see ``host/pki.py``); this module only reads DER (ITU-T X.690), the
certificate profile of RFC 5280, requests of RFC 2986 and keys of RFC 5208, RFC 5915 and RFC 8017. It is strict:
what it does not understand raises ``ValueError``, it never guesses.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import hashlib
import ipaddress
import re
import typing as t

INTEGER, BIT_STRING, OCTET_STRING, OID, SEQUENCE, SET = 0x02, 0x03, 0x04, 0x06, 0x30, 0x31
_STRINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}

COMMON_NAME = "2.5.4.3"
ORGANIZATION = "2.5.4.10"
SUBJECT_KEY_ID = "2.5.29.14"
SUBJECT_ALT_NAME = "2.5.29.17"
BASIC_CONSTRAINTS = "2.5.29.19"
AUTHORITY_KEY_ID = "2.5.29.35"
EXTENDED_KEY_USAGE = "2.5.29.37"
EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
USAGES = {"1.3.6.1.5.5.7.3.1": "server", "1.3.6.1.5.5.7.3.2": "client"}
_RSA_ALGORITHM = bytes.fromhex("300d06092a864886f70d0101010500")
_EC_PUBLIC_KEY = bytes.fromhex("06072a8648ce3d0201")

_PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s*([A-Za-z0-9+/=\s]+?)-----END \1-----")


class Node(t.NamedTuple):
    """One DER value: its tag, its content and its whole encoding."""

    tag: int
    content: bytes
    raw: bytes


@dataclasses.dataclass(frozen=True)
class Names:
    """What a certificate or request says about its holder: DNS names in lower case, addresses in short form."""

    common_name: str = ""
    organizations: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    """Whatever stands there beside the four above: other subject attributes, other kinds of names."""


@dataclasses.dataclass(frozen=True)
class Request:
    """A certificate request: its names and the extensions (OIDs) it asks for beside its alternative names."""

    names: Names
    extensions: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class CertificateFacts:
    """What one certificate says. Times are seconds since the epoch, identifiers and fingerprints lower-case hex."""

    names: Names
    usages: tuple[str, ...]
    """``server``, ``client`` or the OID of another extended key usage."""
    is_authority: bool
    subject_id: str
    """SHA-256 of the subject's encoding, so that issuer and subject can be compared."""
    issuer_id: str
    key_id: str
    authority_key_id: str
    not_before: int
    not_after: int
    serial: str
    fingerprint: str
    public_key: str
    """SHA-256 of the SubjectPublicKeyInfo."""


def pem_blocks(text: str) -> list[tuple[str, bytes]]:
    """Every PEM block of ``text`` as (label, DER). Raises ``ValueError`` for broken base64."""
    blocks = []
    for match in _PEM.finditer(text):
        try:
            blocks.append((match.group(1), base64.b64decode("".join(match.group(2).split()), validate=True)))
        except binascii.Error as error:
            raise ValueError(f"broken base64 in a PEM block: {error}") from error
    return blocks


def fingerprint(der: bytes) -> str:
    """SHA-256 of ``der`` in lower-case hex."""
    return hashlib.sha256(der).hexdigest()


def parse(der: bytes) -> Node:
    """The one DER value that ``der`` is; raises ``ValueError`` when something is missing or left over."""
    node, end = _read(der, 0)
    if end != len(der):
        raise ValueError("trailing bytes after a DER value")
    return node


def children(node: Node) -> list[Node]:
    """The values inside a constructed value."""
    values, offset = [], 0
    while offset < len(node.content):
        value, offset = _read(node.content, offset)
        values.append(value)
    return values


def encode(tag: int, content: bytes) -> bytes:
    """One DER value with a one-byte tag."""
    length = len(content)
    if length < 0x80:
        return bytes([tag, length]) + content
    size = (length.bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + length.to_bytes(size, "big") + content


def parse_certificate(der: bytes) -> CertificateFacts:
    """What the certificate ``der`` says; raises ``ValueError`` when it is not one (RFC 5280, 4.1)."""
    fields = children(_expect(children(_expect(parse(der), SEQUENCE))[0], SEQUENCE))
    if fields and fields[0].tag == 0xA0:
        fields = fields[1:]
    if len(fields) < 6:
        raise ValueError("a certificate with too few fields")
    serial, _algorithm, issuer, validity, subject, key = fields[:6]
    extensions = _extensions(next((field for field in fields[6:] if field.tag == 0xA3), None))
    not_before, not_after = (_time(node) for node in children(_expect(validity, SEQUENCE)))
    return CertificateFacts(
        names=_names(subject, extensions.get(SUBJECT_ALT_NAME)),
        usages=_usages(extensions.get(EXTENDED_KEY_USAGE)),
        is_authority=_is_authority(extensions.get(BASIC_CONSTRAINTS)),
        subject_id=fingerprint(subject.raw),
        issuer_id=fingerprint(issuer.raw),
        key_id=_key_id(extensions.get(SUBJECT_KEY_ID)),
        authority_key_id=_authority_key_id(extensions.get(AUTHORITY_KEY_ID)),
        not_before=not_before,
        not_after=not_after,
        serial=_expect(serial, INTEGER).content.hex(),
        fingerprint=fingerprint(der),
        public_key=fingerprint(key.raw),
    )


def parse_request(der: bytes) -> Request:
    """What the certificate request ``der`` asks for; raises ``ValueError`` when it is not one (RFC 2986, 4)."""
    info = children(_expect(children(_expect(parse(der), SEQUENCE))[0], SEQUENCE))
    if len(info) < 3:
        raise ValueError("a request with too few fields")
    extensions: dict[str, bytes] = {}
    for attribute in children(info[3]) if len(info) > 3 else []:
        kind, values = children(_expect(attribute, SEQUENCE))
        requested = children(_expect(values, SET))
        if _oid(kind) != EXTENSION_REQUEST or len(requested) != 1 or extensions:
            raise ValueError("a request with attributes other than one list of extensions")
        extensions = _extensions(Node(0xA3, requested[0].raw, b""))
    names = _names(info[1], extensions.pop(SUBJECT_ALT_NAME, None))
    return Request(names, tuple(sorted(extensions)))


def public_key_of(label: str, der: bytes) -> t.Optional[bytes]:
    """The SubjectPublicKeyInfo that belongs to a key in PEM, or None when the file does not say it.

    ``label`` is the PEM label. None for encrypted keys and for kinds that do not carry their public half.
    """
    known: dict[str, t.Callable[[bytes], t.Optional[bytes]]] = {
        "PUBLIC KEY": lambda spki: spki,
        "RSA PRIVATE KEY": lambda key: _rsa_public(_RSA_ALGORITHM, key),
        "EC PRIVATE KEY": lambda key: _ec_public(None, key),
        "PRIVATE KEY": _pkcs8_public,
    }
    return known[label](der) if label in known else None


def _pkcs8_public(der: bytes) -> t.Optional[bytes]:
    _version, algorithm, private = children(_expect(parse(der), SEQUENCE))[:3]
    inner = _expect(private, OCTET_STRING).content
    if algorithm.raw == _RSA_ALGORITHM:
        return _rsa_public(algorithm.raw, inner)
    if algorithm.content.startswith(_EC_PUBLIC_KEY):
        return _ec_public(algorithm.raw, inner)
    return None


def _rsa_public(algorithm: bytes, der: bytes) -> bytes:
    modulus, exponent = children(_expect(parse(der), SEQUENCE))[1:3]
    key = encode(SEQUENCE, modulus.raw + exponent.raw)
    return encode(SEQUENCE, algorithm + encode(BIT_STRING, b"\0" + key))


def _ec_public(algorithm: t.Optional[bytes], der: bytes) -> t.Optional[bytes]:
    parts = {node.tag: node for node in children(_expect(parse(der), SEQUENCE))}
    if 0xA1 not in parts:
        return None
    if algorithm is None:
        if 0xA0 not in parts:
            return None
        algorithm = encode(SEQUENCE, _EC_PUBLIC_KEY + parts[0xA0].content)
    return encode(SEQUENCE, algorithm + parts[0xA1].content)


def _read(data: bytes, offset: int) -> tuple[Node, int]:
    header = data[offset : offset + 2]
    if len(header) < 2 or header[0] & 0x1F == 0x1F:
        raise ValueError("not DER: a cut or a long tag")
    length, start = header[1], offset + 2
    if length >= 0x80:
        size = length & 0x7F
        encoded = data[start : start + size]
        if not 1 <= size <= 4 or len(encoded) < size or encoded[0] == 0:
            raise ValueError("not DER: a length that is indefinite, cut or not the shortest")
        length, start = int.from_bytes(encoded, "big"), start + size
        if length < 0x80:
            raise ValueError("not DER: a length that is not the shortest")
    end = start + length
    if end > len(data):
        raise ValueError("not DER: a value longer than its container")
    return Node(header[0], data[start:end], data[offset:end]), end


def _expect(node: Node, tag: int) -> Node:
    if node.tag != tag:
        raise ValueError(f"expected DER tag {tag:#04x}, found {node.tag:#04x}")
    return node


def _oid(node: Node) -> str:
    content = _expect(node, OID).content
    numbers, value = [], 0
    for byte in content:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    if not numbers or content[-1] & 0x80:
        raise ValueError("a cut object identifier")
    top = min(numbers[0] // 40, 2)
    return ".".join(str(number) for number in (top, numbers[0] - 40 * top, *numbers[1:]))


def _text(node: Node) -> str:
    if node.tag not in _STRINGS:
        raise ValueError(f"a name with a value of DER tag {node.tag:#04x}")
    return node.content.decode(_STRINGS[node.tag])


def _time(node: Node) -> int:
    """UTCTime (years 1950 to 2049) or GeneralizedTime, both in UTC and with seconds (RFC 5280, 4.1.2.5)."""
    text = node.content.decode("ascii")
    if node.tag == 0x17:
        text = ("19" if int(text[:2]) >= 50 else "20") + text
    elif node.tag != 0x18:
        raise ValueError("a validity that is not a time")
    moment = datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ")  # noqa: DTZ007 - Z is part of the format
    return int(moment.replace(tzinfo=datetime.timezone.utc).timestamp())


def _extensions(node: t.Optional[Node]) -> dict[str, bytes]:
    """OID → the DER inside each extension; an OID that comes twice is refused (RFC 5280, 4.2)."""
    found: dict[str, bytes] = {}
    if node is None:
        return found
    for extension in children(_expect(children(node)[0], SEQUENCE)):
        parts = children(_expect(extension, SEQUENCE))
        oid = _oid(parts[0])
        if oid in found:
            raise ValueError(f"extension {oid} comes twice")
        found[oid] = _expect(parts[-1], OCTET_STRING).content
    return found


def _names(subject: Node, alternative: t.Optional[bytes]) -> Names:
    attributes = [
        (_oid(kind), _text(value))
        for relative in children(_expect(subject, SEQUENCE))
        for kind, value in (children(_expect(pair, SEQUENCE)) for pair in children(_expect(relative, SET)))
    ]
    common = [value for oid, value in attributes if oid == COMMON_NAME]
    dns, addresses, other = _alternative_names(alternative)
    other += [f"{oid}={value}" for oid, value in attributes if oid not in (COMMON_NAME, ORGANIZATION)]
    other += [f"{COMMON_NAME}={value}" for value in common[1:]]
    return Names(
        common_name=common[0] if common else "",
        organizations=tuple(value for oid, value in attributes if oid == ORGANIZATION),
        dns=tuple(dns),
        addresses=tuple(addresses),
        other=tuple(other),
    )


def _alternative_names(der: t.Optional[bytes]) -> tuple[list[str], list[str], list[str]]:
    dns: list[str] = []
    addresses: list[str] = []
    other: list[str] = []
    for name in children(_expect(parse(der), SEQUENCE)) if der is not None else []:
        if name.tag == 0x82:
            dns.append(name.content.decode("ascii").lower())
        elif name.tag == 0x87:
            addresses.append(str(ipaddress.ip_address(name.content)))
        else:
            other.append(f"name of kind {name.tag & 0x1F}")
    return dns, addresses, other


def _usages(der: t.Optional[bytes]) -> tuple[str, ...]:
    if der is None:
        return ()
    oids = [_oid(node) for node in children(_expect(parse(der), SEQUENCE))]
    return tuple(USAGES.get(oid, oid) for oid in oids)


def _is_authority(der: t.Optional[bytes]) -> bool:
    return der is not None and any(node.tag == 0x01 and node.content != b"\0" for node in children(parse(der)))


def _key_id(der: t.Optional[bytes]) -> str:
    return "" if der is None else _expect(parse(der), OCTET_STRING).content.hex()


def _authority_key_id(der: t.Optional[bytes]) -> str:
    if der is None:
        return ""
    return next((node.content.hex() for node in children(_expect(parse(der), SEQUENCE)) if node.tag == 0x80), "")
