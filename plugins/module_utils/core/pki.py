# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which keys and certificates a host should hold, and the steps from what it holds to that.

Three kinds of things: *shared items* (authorities, key pairs and secrets that every control-plane host must hold
alike, and that must never be made twice), *certificates* that are made on the host that uses them, and *copies* for
readers that run as users of their own. Who makes the shared items is decided for the whole cluster before any host
is touched: ``PkiWant.generate`` is true on one host at most.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t

from .change import Change
from .problems import Problem, SlipwayError
from .x509 import CertificateFacts, Names

RENEW_FRACTION = 1 / 3
"""A certificate is renewed when less than this part of its life is left."""
NEAR_END = "near its end"
KEY_MISMATCH = "key does not match"

_PLAIN_NAME = re.compile(r"^[A-Za-z0-9._:@/+-][A-Za-z0-9 ._:@/+-]{0,63}$")
_DNS = re.compile(r"^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?$")


@dataclasses.dataclass(frozen=True)
class Authority:
    """A certificate authority: where its certificate and key lie. ``days`` counts when it is made."""

    name: str
    certificate: str
    key: str
    common_name: str = ""
    days: int = 3650

    @property
    def subject(self) -> str:
        """The common name, by default the authority's own name."""
        return self.common_name or self.name


@dataclasses.dataclass(frozen=True)
class KeyPair:
    """A bare key pair, such as the one that signs service account tokens."""

    name: str
    private: str
    public: str


@dataclasses.dataclass(frozen=True)
class Secret:
    """An EncryptionConfiguration with a random key for Secrets in etcd."""

    name: str
    path: str


@dataclasses.dataclass(frozen=True)
class Certificate:
    """A certificate with its key, issued by ``authority`` (a name). ``usages`` are ``server`` and ``client``."""

    name: str
    certificate: str
    key: str
    authority: str
    common_name: str
    organizations: tuple[str, ...] = ()
    dns: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    usages: tuple[str, ...] = ("server", "client")
    days: int = 365
    owner: str = "root"
    group: str = "root"
    mode: str = "0600"


@dataclasses.dataclass(frozen=True)
class Copy:
    """One reader's own copy of a file of this host."""

    source: str
    path: str
    owner: str = "root"
    group: str = "root"
    mode: str = "0600"


@dataclasses.dataclass(frozen=True)
class Receiver:
    """The key to which other hosts seal shared items for this one, and its self-signed certificate."""

    certificate: str = "/run/slipway/receiver.crt"
    key: str = "/run/slipway/receiver.key"


Shared = t.Union[Authority, KeyPair, Secret]


@dataclasses.dataclass(frozen=True)
class PkiWant:
    """What one host should hold.

    ``generate``: this host makes what is missing of the shared items. ``awaits``: another host makes them and they
    come sealed (``sealed``, item → CMS in PEM as base64). ``expected``: item → public fingerprint that it must have.
    ``seal_to``: host → certificate of its receiver, for which this host's shared items are sealed; ``seal_items``:
    host → names of the items it gets, all of them where it is not named.
    """

    authorities: tuple[Authority, ...] = ()
    keypairs: tuple[KeyPair, ...] = ()
    secrets: tuple[Secret, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    copies: tuple[Copy, ...] = ()
    generate: bool = False
    awaits: bool = False
    receive: bool = False
    receiver: Receiver = Receiver()
    expected: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    sealed: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    seal_to: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    seal_items: t.Mapping[str, t.Sequence[str]] = dataclasses.field(default_factory=dict)
    renew_fraction: float = RENEW_FRACTION

    @property
    def shared(self) -> tuple[Shared, ...]:
        """The items that every holder must hold alike."""
        return (*self.authorities, *self.keypairs, *self.secrets)

    def paths(self) -> tuple[str, ...]:
        """Every path that must be observed before this can be planned."""
        pairs = [path for leaf in self.certificates for path in (leaf.certificate, leaf.key)]
        copies = [path for copy in self.copies for path in (copy.source, copy.path)]
        receiver = [self.receiver.certificate, self.receiver.key] if self.receive else []
        shared = [path for item in self.shared for path in shared_paths(item)]
        return tuple(dict.fromkeys([*shared, *pairs, *copies, *receiver]))

    def to_data(self) -> dict[str, t.Any]:
        """JSON data from which ``from_data`` makes the same; also the parameters of the module."""
        return t.cast("dict[str, t.Any]", _plain(dataclasses.asdict(self)))

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> PkiWant:
        """From ``to_data``'s result or the module's parameters; None counts as not given.

        Raises SlipwayError for what does not fit together, all of it at once.
        """
        given = {key: value for key, value in data.items() if value is not None}
        kinds: dict[str, t.Any] = {
            "authorities": Authority,
            "keypairs": KeyPair,
            "secrets": Secret,
            "certificates": Certificate,
            "copies": Copy,
        }
        try:
            for key, kind in kinds.items():
                given[key] = tuple(_item(kind, item) for item in given.get(key, ()))
            if "receiver" in given:
                given["receiver"] = _item(Receiver, given["receiver"])
            want = cls(**given)
        except TypeError as error:
            raise SlipwayError(Problem("pki", str(error), "the fields of slipway.cluster.pki")) from error
        problems = _contradictions(want)
        if problems:
            raise SlipwayError(problems)
        return want


@dataclasses.dataclass(frozen=True)
class SeenFile:
    """One file as it is. ``kind``: certificate, private-key, public-key, other (also what could not be read).

    ``digest`` is the SHA-256 of the content, ``public_key`` that of the SubjectPublicKeyInfo of a key or certificate.
    Neither helps to find a key of 256 random bits.
    """

    kind: str
    owner: str
    group: str
    mode: str
    digest: str
    public_key: str = ""
    certificate: t.Optional[CertificateFacts] = None


@dataclasses.dataclass(frozen=True)
class PkiSeen:
    """The files of a host by path; what is missing does not exist."""

    files: t.Mapping[str, SeenFile] = dataclasses.field(default_factory=dict)

    def to_data(self) -> dict[str, t.Any]:
        """JSON data from which ``from_data`` makes the same."""
        return t.cast("dict[str, t.Any]", _plain(dataclasses.asdict(self)))

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> PkiSeen:
        """From ``to_data``'s result."""
        return cls({path: _seen_file(item) for path, item in data.get("files", {}).items()})


@dataclasses.dataclass(frozen=True)
class Step:
    """What ``Change.data`` holds: a verb, the item it is about, and why (for a certificate to be issued)."""

    verb: str
    item: t.Any
    reason: str = ""


def shared_paths(item: Shared) -> tuple[str, ...]:
    """The files of a shared item, the one that everything hangs on first."""
    if isinstance(item, Authority):
        return (item.key, item.certificate)
    if isinstance(item, KeyPair):
        return (item.private, item.public)
    return (item.path,)


def shared_fingerprints(want: PkiWant, seen: PkiSeen) -> dict[str, str]:
    """Public fingerprint of each shared item that this host holds completely.

    Authority: SHA-256 of its certificate; key pair: of the public key; secret: of the file. What is broken or not
    complete is left out.
    """
    found = {}
    for item in want.shared:
        files = [seen.files.get(path) for path in shared_paths(item)]
        if any(file is None for file in files) or _shared_problems(item, seen, {}):
            continue
        last = files[-1]
        if last is not None:
            found[item.name] = last.certificate.fingerprint if last.certificate else last.public_key or last.digest
    return found


def shared_traces(want: PkiWant, seen: PkiSeen) -> tuple[str, ...]:
    """Names of the shared items of which this host holds any file: a host with traces is not bare.

    A host on which making them was cut off has traces; it is the one that must finish.
    """
    return tuple(item.name for item in want.shared if any(path in seen.files for path in shared_paths(item)))


def plan_pki(want: PkiWant, seen: PkiSeen, *, now: int) -> list[Change]:
    """The steps from ``seen`` to ``want``; ``now`` is the host's clock in seconds since the epoch.

    Raises SlipwayError, with every problem, when shared items are missing that nobody makes, or when what is there
    is not ours to touch; then nothing may be changed at all.
    """
    problems: list[Problem] = []
    changes = _plan_receiver(want, seen)
    for item in want.shared:
        problems += _shared_problems(item, seen, want.expected, now)
        changes += _plan_shared(want, item, seen, problems)
    made = {path for change in changes for path in _written(change)}
    authorities = {authority.name: authority for authority in want.authorities}
    for leaf in want.certificates:
        reason = _reissue_reason(want, leaf, authorities[leaf.authority], seen, made, now)
        if reason:
            before = "" if leaf.certificate not in seen.files else reason
            name = f"issue certificate {leaf.name}"
            changes.append(Change(name, name, before=before, after=_describe(leaf), data=Step("issue", leaf, reason)))
            made |= {leaf.certificate, leaf.key}
        else:
            changes += _plan_attributes(leaf.key, leaf.owner, leaf.group, leaf.mode, seen)
            changes += _plan_attributes(leaf.certificate, leaf.owner, leaf.group, "0644", seen)
    unmade = {path for item in want.shared for path in shared_paths(item)} if problems else set()
    for copy in want.copies:
        if copy.source in unmade:  # said above already
            continue
        changes += _plan_copy(copy, seen, made, problems)
    if problems:
        raise SlipwayError(problems)
    return changes


def plan_leaf(
    leaf: Certificate, issuer: t.Optional[CertificateFacts], seen: PkiSeen, *, renew_fraction: float, now: int
) -> str:
    """Why one certificate must be issued, "" when it need not be; None as ``issuer`` is one that is not known here."""
    file = seen.files.get(leaf.certificate)
    authority = Authority(leaf.authority, "issuer", "")
    want = PkiWant(authorities=(authority,), certificates=(leaf,), renew_fraction=renew_fraction)
    if issuer is None and file is not None and file.certificate is not None:
        # Its own word for who issued it: then only what it says of itself is compared.
        facts = file.certificate
        issuer = dataclasses.replace(facts, subject_id=facts.issuer_id, key_id=facts.authority_key_id)
    files = {**seen.files}
    if issuer is not None:
        files["issuer"] = SeenFile("certificate", "", "", "", "", certificate=issuer)
    return _reissue_reason(want, leaf, authority, PkiSeen(files), set(), now)


def days_left(seen: PkiSeen, certificate: str, now: int) -> t.Optional[float]:
    """Days until the certificate at that path ends, None when there is none."""
    file = seen.files.get(certificate)
    return None if file is None or file.certificate is None else (file.certificate.not_after - now) / 86400


def _plan_receiver(want: PkiWant, seen: PkiSeen) -> list[Change]:
    if not want.receive:
        return []
    key, certificate = seen.files.get(want.receiver.key), seen.files.get(want.receiver.certificate)
    if key and certificate and certificate.certificate and key.public_key == certificate.public_key:
        return _plan_attributes(want.receiver.key, "root", "root", "0600", seen)
    return [Change("make receiver key", data=Step("receiver", want.receiver))]


def _plan_shared(want: PkiWant, item: Shared, seen: PkiSeen, problems: list[Problem]) -> list[Change]:
    """What brings a shared item about, or a problem when nobody does; existing files only get owner and mode."""
    kind = {"Authority": "authority", "KeyPair": "key pair", "Secret": "secret"}[type(item).__name__]
    paths = shared_paths(item)
    if all(path in seen.files for path in paths):
        modes = ["0600", "0644"][: len(paths)]
        return [
            change for path, mode in zip(paths, modes) for change in _plan_attributes(path, "root", "root", mode, seen)
        ]
    derivable = isinstance(item, KeyPair) and item.private in seen.files
    if derivable or (want.generate and item.name not in want.expected):
        return [Change(f"make {kind} {item.name}", secret=True, data=Step("make", item))]
    if want.awaits or item.name in want.sealed:
        return [Change(f"install {kind} {item.name}", secret=True, data=Step("install", item))]
    missing = ", ".join(path for path in paths if path not in seen.files)
    problems.append(
        Problem(
            f"{kind} {item.name}",
            f"missing: {missing}",
            _described(item.name, want.expected),
            "restore it from a backup or another control-plane host; it is made only for a cluster that is new",
        )
    )
    return []


def _shared_problems(
    item: Shared, seen: PkiSeen, expected: t.Mapping[str, str], now: t.Optional[int] = None
) -> list[Problem]:
    """Why the files of a shared item are not ours to build on; an absent or half-made item is no problem here.

    A worker has the certificate of the cluster's authority alone: if it is the expected one, its key may follow.
    """
    if isinstance(item, Secret):
        file = seen.files.get(item.path)
        return [] if file is None else _compare(item.name, item.path, file.digest, expected)
    first_path, second_path = shared_paths(item)
    first, second = seen.files.get(first_path), seen.files.get(second_path)
    problems = []
    if first is None and second is not None and item.name not in expected:
        problems.append(
            Problem(
                second_path, f"is there without {first_path}", "both or neither", "restore the key, or move it away"
            )
        )
    if first is not None and (first.kind != "private-key" or not first.public_key):
        problems.append(Problem(first_path, "is not a readable private key", "one in PEM, not encrypted", "restore it"))
    if second is None:
        return problems
    problems += _certificate_problems(second_path, second, now) if isinstance(item, Authority) else []
    if first is not None and first.public_key and first.public_key != second.public_key:
        problems.append(
            Problem(second_path, f"does not belong to the key {first_path}", "its pair", "restore both from one backup")
        )
    found = second.certificate.fingerprint if second.certificate else second.public_key
    return problems + _compare(item.name, second_path, found, expected)


def _certificate_problems(path: str, file: SeenFile, now: t.Optional[int]) -> list[Problem]:
    facts = file.certificate
    if facts is None or not facts.is_authority:
        return [Problem(path, "is not a CA certificate", "one in PEM with CA:TRUE", "restore it")]
    if not facts.key_id:
        return [Problem(path, "has no subject key identifier", "one, as RFC 5280 4.2.1.2 wants it", "replace the CA")]
    if now is not None and facts.not_after <= now:
        return [Problem(path, "has expired", "a CA certificate that is valid", "replace the CA")]
    return []


def _compare(name: str, path: str, found: str, expected: t.Mapping[str, str]) -> list[Problem]:
    if name not in expected or expected[name] == found:
        return []
    return [
        Problem(
            path,
            f"belongs to another cluster: fingerprint {found}",
            _described(name, expected),
            "if this host was part of another cluster, reset it first; nothing was touched",
        )
    ]


def _described(name: str, expected: t.Mapping[str, str]) -> str:
    return f"{name} with fingerprint {expected[name]}" if name in expected else f"{name} of this cluster"


def _reissue_reason(
    want: PkiWant, leaf: Certificate, authority: Authority, seen: PkiSeen, made: set[str], now: int
) -> str:
    """Why the certificate must be issued, "" when it need not be."""
    file, key, issuer = (seen.files.get(path) for path in (leaf.certificate, leaf.key, authority.certificate))
    if file is None or file.certificate is None:
        return "absent" if file is None else "unreadable"
    if key is None or key.public_key != file.public_key:
        return KEY_MISMATCH
    facts = file.certificate
    if authority.certificate in made or issuer is None or issuer.certificate is None:
        return "another authority"
    if not _issued_by(facts, issuer.certificate):
        return "another authority"
    if facts.not_before > now or facts.not_after - now < (facts.not_after - facts.not_before) * want.renew_fraction:
        return "not valid yet" if facts.not_before > now else NEAR_END
    described, wanted = _describe_facts(facts), _describe(leaf)
    return "" if described == wanted else described


def _issued_by(facts: CertificateFacts, issuer: CertificateFacts) -> bool:
    return facts.issuer_id == issuer.subject_id and bool(issuer.key_id) and facts.authority_key_id == issuer.key_id


def _describe(leaf: Certificate) -> str:
    names = Names(leaf.common_name, leaf.organizations, leaf.dns, leaf.addresses)
    return _describe_names(names, leaf.usages)


def _describe_facts(facts: CertificateFacts) -> str:
    return _describe_names(facts.names, facts.usages)


def _describe_names(names: Names, usages: t.Sequence[str]) -> str:
    parts = {
        "CN": [names.common_name],
        "O": sorted(names.organizations),
        "DNS": sorted({name.lower() for name in names.dns}),
        "IP": sorted({str(ipaddress.ip_address(address)) for address in names.addresses}),
        "other": sorted(names.other),
        "usages": sorted(usages),
    }
    return "\n".join(f"{key}: {', '.join(values)}" for key, values in parts.items() if values)


def _plan_attributes(path: str, owner: str, group: str, mode: str, seen: PkiSeen) -> list[Change]:
    file = seen.files.get(path)
    if file is None or (file.owner, file.group, file.mode) == (owner, group, mode):
        return []
    return [
        Change(
            f"set owner and mode of {path}",
            before=f"{file.owner}:{file.group} {file.mode}",
            after=f"{owner}:{group} {mode}",
            data=Step("attributes", Copy(path, path, owner, group, mode)),
        )
    ]


def _plan_copy(copy: Copy, seen: PkiSeen, made: set[str], problems: list[Problem]) -> list[Change]:
    source, file = seen.files.get(copy.source), seen.files.get(copy.path)
    if copy.source not in made and source is None:
        problems.append(Problem(copy.source, "does not exist", f"the source of {copy.path}"))
        return []
    if copy.source in made or file is None or source is None or file.digest != source.digest:
        return [Change(f"copy {copy.path}", f"copy {copy.source} to {copy.path}", data=Step("copy", copy))]
    return _plan_attributes(copy.path, copy.owner, copy.group, copy.mode, seen)


def _written(change: Change) -> tuple[str, ...]:
    step = change.data
    if step.verb in ("make", "install"):
        return shared_paths(step.item)
    return ()


def _contradictions(want: PkiWant) -> list[Problem]:
    problems = []
    names = [item.name for item in (*want.shared, *want.certificates)]
    problems += [Problem(name, "stands there twice", "names that differ") for name in _repeated(names)]
    owned = [path for leaf in want.certificates for path in (leaf.certificate, leaf.key)]
    owned += [copy.path for copy in want.copies]
    owned += [path for item in want.shared for path in shared_paths(item)]
    problems += [Problem(path, "would be written twice", "paths that differ") for path in _repeated(owned)]
    known = {authority.name for authority in want.authorities}
    problems += [
        Problem(authority.name, f"subject {authority.common_name!r}", "letters, digits, spaces and . _ : @ / + -")
        for authority in want.authorities
        if authority.common_name and not _PLAIN_NAME.match(authority.common_name)
    ]
    for leaf in want.certificates:
        if leaf.authority not in known:
            problems.append(
                Problem(leaf.name, f"unknown authority {leaf.authority}", "one of " + ", ".join(sorted(known)))
            )
        problems += _leaf_problems(leaf)
    return problems


def _leaf_problems(leaf: Certificate) -> list[Problem]:
    problems = []
    for address in leaf.addresses:
        try:
            ipaddress.ip_address(address)
        except ValueError:
            problems.append(Problem(leaf.name, f"{address} is not an address", "an IPv4 or IPv6 address"))
    unknown = sorted(set(leaf.usages) - {"server", "client"})
    if unknown:
        problems.append(Problem(leaf.name, f"unknown usage {', '.join(unknown)}", "server or client"))
    plain = "letters, digits, spaces and . _ : @ / + -"
    problems += [
        Problem(leaf.name, f"subject {name!r}", plain)
        for name in (leaf.common_name, *leaf.organizations)
        if not _PLAIN_NAME.match(name)
    ]
    problems += [
        Problem(leaf.name, f"{name!r} is not a DNS name", "one of RFC 1123")
        for name in leaf.dns
        if not _DNS.match(name)
    ]
    return problems


def _repeated(values: t.Sequence[str]) -> list[str]:
    return sorted({value for value in values if values.count(value) > 1})


def _item(kind: t.Any, data: t.Any) -> t.Any:
    """One dataclass of lists and scalars; lists become tuples, an octal mode text of four digits."""
    if dataclasses.is_dataclass(data):
        return data
    given = {
        key: tuple(value) if isinstance(value, (list, tuple)) else value
        for key, value in data.items()
        if value is not None
    }
    if "mode" in given:
        if not re.match(r"^[0-7]{3,4}$", str(given["mode"])):
            raise SlipwayError(Problem("mode", f"{given['mode']!r}", 'octal digits in quotes, such as "0600"'))
        given["mode"] = f"{int(str(given['mode']), 8):04o}"
    return kind(**given)


def _seen_file(data: t.Mapping[str, t.Any]) -> SeenFile:
    given = dict(data)
    if given.get("certificate"):
        facts = dict(given["certificate"])
        facts["names"] = _item(Names, facts["names"])
        given["certificate"] = _item(CertificateFacts, facts)
    return t.cast("SeenFile", _item(SeenFile, given))


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
