# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates of this host: observe, make, seal and install them.

The tool is ``openssl`` (3.0 or newer). A private key is never in an argument list, never in a file that others may
read, and leaves the host only sealed to a key that another host has made for itself (CMS, RFC 5652).
"""

from __future__ import annotations

import base64
import contextlib
import glob
import ipaddress
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import textwrap
import time
import typing as t

from ..core.change import Change
from ..core.pki import (
    Authority,
    Certificate,
    Copy,
    KeyPair,
    PkiSeen,
    PkiWant,
    Receiver,
    Secret,
    SeenFile,
    Shared,
    Step,
    shared_fingerprints,
    shared_paths,
)
from ..core.problems import Problem, SlipwayError
from ..core.x509 import CertificateFacts, fingerprint, parse_certificate, pem_blocks, public_key_of
from .machine import Machine, group_name, user_name

RUN_DIRECTORY = "/run/slipway"
BACKDATE_SECONDS = 300
"""Certificates begin this long ago, so that hosts whose clocks differ a little accept them at once."""

_EC_KEY = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
_NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"]
_CMS_SEAL = ["openssl", "cms", "-encrypt", "-binary", "-aes-256-gcm", "-outform", "PEM"]
_CMS_OPEN = ["openssl", "cms", "-decrypt", "-binary", "-inform", "PEM"]
_USAGE_NAMES = {"server": "serverAuth", "client": "clientAuth"}
_FILE_ROLES = {"Authority": ("key", "certificate"), "KeyPair": ("private", "public"), "Secret": ("content",)}


def observe_pki(machine: Machine, want: PkiWant) -> PkiSeen:
    """What this host holds of everything ``want`` names. Reads only."""
    return _observe_files(machine, want.paths())


def observe_pki_paths(machine: Machine, globs: t.Iterable[str]) -> PkiSeen:
    """What this host holds of the files that match the patterns (``**`` for any depth). Reads only."""
    paths = sorted({path for pattern in globs for path in glob.glob(pattern, recursive=True)})
    return _observe_files(machine, paths)


def apply_pki(machine: Machine, want: PkiWant, change: Change) -> None:
    """Carry out one change of ``plan_pki``; safe to repeat and safe to be killed in."""
    step: Step = change.data
    if step.verb == "make":
        _make(machine, step.item)
    elif step.verb == "install":
        _install(machine, want, step.item)
    elif step.verb == "issue":
        authority = next(item for item in want.authorities if item.name == step.item.authority)
        _issue(machine, authority, step.item)
    elif step.verb == "copy":
        _copy(machine, step.item)
    elif step.verb == "attributes":
        machine.set_attributes(
            step.item.path, mode=int(step.item.mode, 8), owner=step.item.owner, group=step.item.group
        )
    elif step.verb == "receiver":
        _make_receiver(machine, step.item)


def pki_result(machine: Machine, want: PkiWant) -> dict[str, t.Any]:
    """What others may know: certificates and public fingerprints, and shared items sealed to other hosts."""
    seen = observe_pki(machine, want)
    result: dict[str, t.Any] = {
        "authorities": {
            authority.name: {
                "certificate": machine.read_text(authority.certificate),
                "fingerprint": facts.fingerprint,
                "not_after": _iso(facts.not_after),
            }
            for authority, facts in _facts(seen, want.authorities)
        },
        "shared": shared_fingerprints(want, seen),
        "certificates": {
            leaf.name: {
                "not_after": _iso(facts.not_after),
                "serial": facts.serial,
                "fingerprint": facts.fingerprint,
            }
            for leaf, facts in _facts(seen, want.certificates)
        },
    }
    if want.receive:
        result["receiver"] = machine.read_text(want.receiver.certificate) or ""
    if want.seal_to:
        result["sealed"] = _seal_all(machine, want, seen)
    return result


_Named = t.TypeVar("_Named", Authority, Certificate)


def _facts(seen: PkiSeen, items: t.Iterable[_Named]) -> t.Iterator[tuple[_Named, CertificateFacts]]:
    for item in items:
        file = seen.files.get(item.certificate)
        if file is not None and file.certificate is not None:
            yield item, file.certificate


# --- observing -------------------------------------------------------------------------------------------------------


def _observe_files(machine: Machine, paths: t.Iterable[str]) -> PkiSeen:
    found = ((path, _observe_file(machine, path)) for path in paths)
    return PkiSeen({path: file for path, file in found if file is not None})


def _observe_file(machine: Machine, path: str) -> t.Optional[SeenFile]:
    """One regular file, also through a link; what cannot be parsed is of kind ``other``."""
    content = machine.read(path)
    if content is None:
        return None
    status = os.stat(path)
    kind, public_key, certificate = "other", "", None
    with contextlib.suppress(ValueError, IndexError):
        kind, public_key, certificate = _classify(machine, path, content.decode("utf-8", "replace"))
    return SeenFile(
        kind,
        user_name(status.st_uid),
        group_name(status.st_gid),
        f"{stat.S_IMODE(status.st_mode):04o}",
        fingerprint(content),
        public_key,
        certificate,
    )


def _classify(machine: Machine, path: str, text: str) -> tuple[str, str, t.Optional[CertificateFacts]]:
    """Kind, fingerprint of the public key, and what a certificate says; the first block that is one counts."""
    for label, der in pem_blocks(text):
        if label == "CERTIFICATE":
            facts = parse_certificate(der)
            return "certificate", facts.public_key, facts
        if label.endswith("PRIVATE KEY"):
            public = public_key_of(label, der) or _ask_public_key(machine, path)
            return "private-key", fingerprint(public) if public else "", None
        if label == "PUBLIC KEY":
            return "public-key", fingerprint(der), None
    return "other", "", None


def _ask_public_key(machine: Machine, path: str) -> bytes:
    """The public half of a key whose file does not carry it; b"" when openssl cannot read it without a password."""
    said = machine.run(["openssl", "pkey", "-in", path, "-passin", "pass:", "-pubout"], check=False)
    return next((der for label, der in pem_blocks(said.stdout) if label == "PUBLIC KEY"), b"")


# --- making shared items ---------------------------------------------------------------------------------------------


def _make(machine: Machine, item: Shared) -> None:
    """Make what is missing: the key first, and what follows from it from the key that lies there."""
    for path in shared_paths(item):
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    if isinstance(item, Secret):
        if not machine.exists(item.path):
            machine.write(item.path, _encryption_config().encode(), mode=0o600)
        return
    key, follows = shared_paths(item)
    if not machine.exists(key):
        machine.write(key, machine.run(_EC_KEY).stdout.encode(), mode=0o600)
    if machine.exists(follows):
        return
    if isinstance(item, KeyPair):
        public = machine.run(["openssl", "pkey", "-in", key, "-pubout"]).stdout
        machine.write(follows, public.encode(), mode=0o644)
    else:
        _self_sign(machine, item)


def _encryption_config() -> str:
    """An EncryptionConfiguration that writes Secrets with secretbox (XSalsa20-Poly1305) and still reads plain ones."""
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    return textwrap.dedent(f"""\
        apiVersion: apiserver.config.k8s.io/v1
        kind: EncryptionConfiguration
        resources:
          - resources: [secrets]
            providers:
              - secretbox:
                  keys:
                    - name: key1
                      secret: {key}
              - identity: {{}}
        """)


def _self_sign(machine: Machine, authority: Authority) -> None:
    now = int(time.time())
    period = (now - BACKDATE_SECONDS, now + authority.days * 86400)
    with _workspace() as directory:
        extensions = [
            "basicConstraints = critical, CA:TRUE",
            "keyUsage = critical, digitalSignature, keyCertSign, cRLSign",
            "subjectKeyIdentifier = hash",
        ]
        config = _write_config(machine, directory, [f"commonName = {authority.subject}"], extensions)
        request = _request(machine, directory, config, ["-key", authority.key])
        signer = ["-selfsign", "-keyfile", authority.key]
        content = _sign(machine, directory, config, signer, request, period)
    machine.write(authority.certificate, content, mode=0o644)


# --- certificates and copies -----------------------------------------------------------------------------------------


def _issue(machine: Machine, authority: Authority, leaf: Certificate) -> None:
    """A new key and its certificate; both are complete before either file is replaced."""
    key, request = make_request(machine, leaf)
    put_certificate(machine, leaf, key, sign_request(machine, authority, leaf, request))


def put_certificate(machine: Machine, leaf: Certificate, key: bytes, content: bytes) -> None:
    """Key and certificate (PEM) in their places, the key first."""
    for path in (leaf.key, leaf.certificate):
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    machine.write(leaf.key, key, mode=int(leaf.mode, 8), owner=leaf.owner, group=leaf.group)
    machine.write(leaf.certificate, content, mode=0o644, owner=leaf.owner, group=leaf.group)


def make_request(machine: Machine, leaf: Certificate) -> tuple[bytes, str]:
    """A new key for the leaf, and the request that proves it (PEM both); neither is written to a place that stays."""
    with _workspace() as directory:
        config = _write_config(machine, directory, _leaf_subject(leaf), _leaf_extensions(leaf))
        new_key = os.path.join(directory, "new.key")
        request = _request(machine, directory, config, [*_NEW_KEY, "-keyout", new_key])
        return machine.read(new_key) or b"", machine.read_text(request) or ""


def sign_request(machine: Machine, authority: Authority, leaf: Certificate, request: str) -> bytes:
    """A certificate in PEM for a key that is elsewhere.

    Of ``request`` (PEM) only the key counts, and that its holder signed it; subject, usages and days are the leaf's.
    """
    issuer = _certificate_of(machine, authority)
    now = int(time.time())
    period = (max(now - BACKDATE_SECONDS, issuer.not_before), min(now + leaf.days * 86400, issuer.not_after))
    names = [("O", name) for name in leaf.organizations] + [("CN", leaf.common_name)]
    with _workspace() as directory:
        config = _write_config(machine, directory, _leaf_subject(leaf), _leaf_extensions(leaf))
        path = os.path.join(directory, "request.pem")
        machine.write(path, request.encode(), mode=0o600)
        signer = ["-cert", authority.certificate, "-keyfile", authority.key, "-utf8"]
        subject = ["-subj", "".join(f"/{key}={_escaped(name)}" for key, name in names)]
        return _sign(machine, directory, config, [*signer, *subject], path, period)


def _escaped(name: str) -> str:
    """A name as ``openssl ca -subj`` reads it."""
    return re.sub(r"([/+\\=])", r"\\\1", name)


def _certificate_of(machine: Machine, authority: Authority) -> CertificateFacts:
    seen = _observe_file(machine, authority.certificate)
    if seen is None or seen.certificate is None:
        raise SlipwayError(Problem(authority.certificate, "is not there", f"the certificate of CA {authority.name}"))
    return seen.certificate


def _leaf_subject(leaf: Certificate) -> list[str]:
    organizations = [f"{index}.organizationName = {name}" for index, name in enumerate(leaf.organizations)]
    return [*organizations, f"commonName = {leaf.common_name}"]


def _leaf_extensions(leaf: Certificate) -> list[str]:
    lines = [
        "basicConstraints = critical, CA:FALSE",
        "keyUsage = critical, digitalSignature",
        "subjectKeyIdentifier = hash",
        "authorityKeyIdentifier = keyid:always",
        "extendedKeyUsage = " + ", ".join(_USAGE_NAMES[usage] for usage in leaf.usages),
    ]
    names = [f"DNS:{name.lower()}" for name in leaf.dns]
    names += [f"IP:{ipaddress.ip_address(address)}" for address in leaf.addresses]
    return [*lines, "subjectAltName = " + ", ".join(names)] if names else lines


def _copy(machine: Machine, copy: Copy) -> None:
    content = machine.read(copy.source)
    if content is None:
        raise SlipwayError(Problem(copy.source, "does not exist", f"the source of {copy.path}"))
    os.makedirs(os.path.dirname(copy.path), mode=0o755, exist_ok=True)
    machine.write(copy.path, content, mode=int(copy.mode, 8), owner=copy.owner, group=copy.group)


# --- openssl ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _workspace() -> t.Iterator[str]:
    """A directory in memory that only root may enter; what a killed predecessor left in it goes first.

    One is enough: whoever makes certificates holds the host's lock.
    """
    directory = os.path.join(RUN_DIRECTORY, "pki")
    os.makedirs(RUN_DIRECTORY, mode=0o700, exist_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
    os.mkdir(directory, 0o700)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _write_config(machine: Machine, directory: str, subject: t.Sequence[str], extensions: t.Sequence[str]) -> str:
    """The configuration of one ``openssl req`` and one ``openssl ca``; its database lives as long as the directory."""
    sections: dict[str, t.Sequence[str]] = {
        "req": ["distinguished_name = subject", "prompt = no", "string_mask = utf8only"],
        "subject": subject,
        "ca": ["default_ca = authority"],
        "authority": [
            f"database = {directory}/index.txt",
            f"new_certs_dir = {directory}",
            "default_md = sha256",
            "rand_serial = yes",
            "unique_subject = no",
            "policy = policy",
            "x509_extensions = extensions",
        ],
        "policy": ["organizationName = optional", "commonName = supplied"],
        "extensions": extensions,
    }
    text = "\n".join(line for name, lines in sections.items() for line in (f"[ {name} ]", *lines, ""))
    path = os.path.join(directory, "openssl.cnf")
    machine.write(path, text.encode(), mode=0o600)
    machine.write(os.path.join(directory, "index.txt"), b"", mode=0o600)
    return path


def _request(machine: Machine, directory: str, config: str, key: t.Sequence[str]) -> str:
    path = os.path.join(directory, "request.pem")
    machine.run(["openssl", "req", "-new", "-config", config, *key, "-out", path])
    return path


def _sign(
    machine: Machine, directory: str, config: str, signer: t.Sequence[str], request: str, period: tuple[int, int]
) -> bytes:
    """The certificate in PEM. ``openssl ca``, because ``openssl x509`` of 3.0 cannot say when a certificate begins."""
    begin, end = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(moment)) for moment in period)
    path = os.path.join(directory, "certificate.pem")
    dates = ["-startdate", begin, "-enddate", end]
    common = ["openssl", "ca", "-batch", "-notext", "-preserveDN", "-config", config]
    machine.run([*common, *signer, *dates, "-in", request, "-out", path])
    return machine.read(path) or b""


# --- sealing ---------------------------------------------------------------------------------------------------------


def _make_receiver(machine: Machine, receiver: Receiver) -> None:
    """A key and a certificate for it: what others seal to. Made anew as a whole when one of them is missing."""
    os.makedirs(os.path.dirname(receiver.key), mode=0o755, exist_ok=True)
    machine.write(receiver.key, machine.run(_EC_KEY).stdout.encode(), mode=0o600)
    said = machine.run(
        ["openssl", "req", "-new", "-x509", "-key", receiver.key, "-subj", "/CN=slipway receiver", "-days", "3650"]
    )
    machine.write(receiver.certificate, said.stdout.encode(), mode=0o644)


def _seal_all(machine: Machine, want: PkiWant, seen: PkiSeen) -> dict[str, dict[str, str]]:
    """Host → item → CMS as base64, for each shared item that is complete here."""
    whole = shared_fingerprints(want, seen)
    items = {item.name: item for item in want.shared if item.name in whole}
    return {
        # In check mode a host that has no receiver yet has nothing to seal to.
        host: {
            name: _seal(machine, item, certificate)
            for name, item in items.items()
            if certificate and name in want.seal_items.get(host, items)
        }
        for host, certificate in want.seal_to.items()
    }


def _seal(machine: Machine, item: Shared, recipient: str) -> str:
    roles = _FILE_ROLES[type(item).__name__]
    payload = json.dumps({role: machine.read_text(path) for role, path in zip(roles, shared_paths(item))})
    os.makedirs(RUN_DIRECTORY, mode=0o700, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=RUN_DIRECTORY, prefix="recipient-") as stream:
        stream.write(recipient)
        stream.flush()
        said = machine.run([*_CMS_SEAL, stream.name], stdin=payload)
    return base64.b64encode(_first_block(said.stdout)[1]).decode()


def _install(machine: Machine, want: PkiWant, item: Shared) -> None:
    """Open what was sealed for this host, check it, and put it in place, the key first."""
    if item.name not in want.sealed:
        raise SlipwayError(
            Problem(item.name, "did not come sealed for this host", "its value from the host that made it")
        )
    files = _open(machine, want, item)
    _check_opened(machine, want, item, files)
    for path, content, mode in zip(shared_paths(item), files, (0o600, 0o644)):
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        if machine.read_text(path) != content:
            machine.write(path, content.encode(), mode=mode)


def _open(machine: Machine, want: PkiWant, item: Shared) -> list[str]:
    body = "\n".join(textwrap.wrap(want.sealed[item.name], 64))
    said = machine.run(
        [*_CMS_OPEN, "-recip", want.receiver.certificate, "-inkey", want.receiver.key],
        stdin=f"-----BEGIN CMS-----\n{body}\n-----END CMS-----\n",
        check=False,
    )
    if said.rc != 0:
        raise SlipwayError(
            Problem(item.name, "cannot be opened with this host's receiver key", "what was sealed to it", "run again")
        )
    content = json.loads(said.stdout)
    return [str(content[role]) for role in _FILE_ROLES[type(item).__name__]]


def _check_opened(machine: Machine, want: PkiWant, item: Shared, files: t.Sequence[str]) -> None:
    """Refuse what is not a pair, not what the cluster expects, or not what a cut-off installation began with."""
    existing = [machine.read_text(path) for path in shared_paths(item)]
    if any(found is not None and found != content for found, content in zip(existing, files)):
        raise SlipwayError(Problem(item.name, "differs from what this host holds", "the same", "nothing was touched"))
    if isinstance(item, Secret):
        found = fingerprint(files[0].encode())
    else:
        key, follows = (_first_block(text) for text in files)
        public = public_key_of(*key)
        facts = parse_certificate(follows[1]) if isinstance(item, Authority) else None
        if public is None or fingerprint(public) != (facts.public_key if facts else fingerprint(follows[1])):
            raise SlipwayError(Problem(item.name, "came with a key that is not its own", "a pair"))
        found = facts.fingerprint if facts else fingerprint(follows[1])
    if want.expected.get(item.name, found) != found:
        raise SlipwayError(Problem(item.name, f"came with fingerprint {found}", want.expected[item.name]))


def _first_block(text: str) -> tuple[str, bytes]:
    """The first PEM block that is more than the name of a curve."""
    return next((block for block in pem_blocks(text) if block[0] != "EC PARAMETERS"), ("", b""))


def _iso(moment: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
