# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates made by the real openssl, in directories that stand for hosts."""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import pathlib
import subprocess
import time
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import (
    Authority,
    Certificate,
    Copy,
    KeyPair,
    PkiWant,
    Receiver,
    Secret,
    plan_pki,
    shared_fingerprints,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host import pki
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files are given to root")


class Killed(BaseException):
    """Stands for a SIGKILL."""


class Recorder(Machine):
    """Remembers every command, and dies at the n-th write if told to."""

    def __init__(self, die_at: int = -1) -> None:
        self.argv: list[str] = []
        self.left = die_at

    def run(self, argv: t.Sequence[str], **options: t.Any) -> t.Any:
        self.argv += argv
        return super().run(argv, **options)

    def write(self, path: str, content: bytes, **options: t.Any) -> None:
        if self.left == 0:
            raise Killed
        self.left -= 1
        super().write(path, content, **options)


@pytest.fixture(autouse=True)
def run_directory(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(pki, "RUN_DIRECTORY", str(tmp_path / "run"))
    return tmp_path / "run"


def want_in(root: pathlib.Path, **fields: t.Any) -> PkiWant:
    return PkiWant(
        authorities=(
            Authority("kubernetes", f"{root}/ca.crt", f"{root}/ca.key", "kubernetes-ca"),
            Authority("etcd", f"{root}/etcd/ca.crt", f"{root}/etcd/ca.key"),
        ),
        keypairs=(KeyPair("service-account", f"{root}/sa.key", f"{root}/sa.pub"),),
        secrets=(Secret("encryption-config", f"{root}/encryption.yaml"),),
        certificates=(
            Certificate(
                "api", f"{root}/api/tls.crt", f"{root}/api/tls.key", "kubernetes", "kube-apiserver",
                dns=("localhost", "*.example.org"), addresses=("127.0.0.1", "fd00::1"), usages=("server",),
            ),
            Certificate(
                "admin", f"{root}/admin.crt", f"{root}/admin.key", "etcd", "admin",
                organizations=("system:masters", "people"), usages=("client",), days=20,
            ),
        ),
        copies=(
            Copy(f"{root}/sa.key", f"{root}/api/sa.key"),
            Copy(f"{root}/ca.crt", f"{root}/api/ca.crt", mode="0644"),
        ),
        receiver=Receiver(f"{root}/receiver.crt", f"{root}/receiver.key"),
        **fields,
    )  # fmt: skip


def converge(want: PkiWant, machine: Machine | None = None) -> list[str]:
    machine = machine or Machine()
    changes = plan_pki(want, pki.observe_pki(machine, want), now=int(time.time()))
    for change in changes:
        pki.apply_pki(machine, want, change)
    return [change.name for change in changes]


def openssl(*arguments: str) -> str:
    return subprocess.run(["openssl", *arguments], capture_output=True, check=True, text=True).stdout


def files(root: pathlib.Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def made(tmp_path: pathlib.Path) -> pathlib.Path:
    root = tmp_path / "host"
    converge(want_in(root, generate=True))
    return root


def test_a_second_run_finds_nothing_to_do(made: pathlib.Path) -> None:
    before = files(made)
    assert converge(want_in(made, generate=True)) == []
    assert files(made) == before


def test_certificates_hold_in_the_eyes_of_openssl(made: pathlib.Path) -> None:
    verify = ["verify", "-x509_strict", "-CAfile"]
    assert "OK" in openssl(*verify, f"{made}/ca.crt", "-purpose", "sslserver", f"{made}/api/tls.crt")
    assert "OK" in openssl(*verify, f"{made}/etcd/ca.crt", "-purpose", "sslclient", f"{made}/admin.crt")
    text = openssl("x509", "-noout", "-text", "-in", f"{made}/api/tls.crt")
    assert "DNS:localhost, DNS:*.example.org, IP Address:127.0.0.1, IP Address:FD00:0:0:0:0:0:0:1" in text
    assert "TLS Web Server Authentication\n" in text
    assert "CA:FALSE" in text
    assert "ASN1 OID: prime256v1" in text
    assert "O = system:masters, O = people, CN = admin" in openssl(
        "x509", "-noout", "-subject", "-nameopt", "oneline", "-in", f"{made}/admin.crt"
    )


def test_certificates_began_five_minutes_ago_and_end_with_their_authority(tmp_path: pathlib.Path) -> None:
    want = want_in(tmp_path / "host", generate=True)
    want = dataclasses.replace(want, authorities=tuple(dataclasses.replace(a, days=10) for a in want.authorities))
    now = time.time()
    converge(want)
    seen = pki.observe_pki(Machine(), want).files
    ca, leaf = (seen[path].certificate for path in (want.authorities[0].certificate, want.certificates[0].certificate))
    assert ca is not None
    assert leaf is not None
    assert now - 302 <= leaf.not_before <= now - 290
    assert leaf.not_after == ca.not_after


def test_serials_differ_and_are_long(made: pathlib.Path) -> None:
    seen = pki.observe_pki(Machine(), want_in(made)).files
    serials = [file.certificate.serial for file in seen.values() if file.certificate]
    assert len(set(serials)) == 4  # two authorities, two leaves; the copy is one of them again
    assert all(len(serial) >= 36 for serial in serials)


def test_only_root_reads_keys(made: pathlib.Path) -> None:
    for path in made.rglob("*"):
        if path.suffix in {".key", ".yaml"}:
            assert path.stat().st_mode & 0o777 == 0o600, path


def test_the_encryption_configuration_is_one(made: pathlib.Path) -> None:
    yaml = pytest.importorskip("yaml")
    data = yaml.safe_load((made / "encryption.yaml").read_text())
    secretbox, identity = data["resources"][0]["providers"]
    (key,) = secretbox["secretbox"]["keys"]
    assert len(base64.b64decode(key["secret"])) == 32
    assert identity == {"identity": {}}
    assert data["resources"][0]["resources"] == ["secrets"]


def test_no_secret_in_arguments_results_or_left_behind(tmp_path: pathlib.Path, run_directory: pathlib.Path) -> None:
    machine = Recorder()
    root = tmp_path / "host"
    want = want_in(root, generate=True, receive=True)
    converge(want, machine)
    receiver = (root / "receiver.crt").read_text()
    result = json.dumps(pki.pki_result(machine, dataclasses.replace(want, seal_to={"other": receiver})))
    secrets = [path.read_text().split("\n")[1] for path in root.rglob("*.key")]
    secrets.append((root / "encryption.yaml").read_text().split("secret: ")[1].split()[0])
    assert len(secrets) == 8
    for secret in secrets:
        assert secret not in "\n".join(machine.argv)
        assert secret not in result
    assert not [path for path in run_directory.rglob("*") if path.is_file()]


def test_an_authority_key_is_never_made_twice_wherever_the_run_is_cut(tmp_path: pathlib.Path) -> None:
    cuts = 0
    while True:
        root = tmp_path / f"cut-{cuts}"
        want = want_in(root, generate=True)
        try:
            converge(want, Recorder(die_at=cuts))
        except Killed:
            pass
        else:
            break
        lasting = [root / name for name in ("ca.key", "etcd/ca.key", "sa.key", "encryption.yaml", "ca.crt")]
        before = {path: path.read_bytes() for path in lasting if path.exists()}
        converge(want)
        assert {path: path.read_bytes() for path in before} == before
        assert converge(want) == []
        cuts += 3 if cuts > 8 else 1
    assert cuts > 15


def test_a_foreign_authority_is_refused_and_untouched(made: pathlib.Path) -> None:
    before = files(made)
    want = want_in(made, generate=True, expected={"kubernetes": "0" * 64})
    with pytest.raises(SlipwayError, match="belongs to another cluster"):
        converge(want)
    (made / "ca.key").unlink()
    with pytest.raises(SlipwayError, match="is there without"):
        converge(want_in(made, generate=True))
    before.pop(f"{made}/ca.key")
    assert files(made) == before


@pytest.mark.parametrize("kind", ["rsa", "sec1"])
def test_an_authority_made_by_others_is_used_as_it_is(tmp_path: pathlib.Path, kind: str) -> None:
    root = tmp_path / "host"
    root.mkdir()
    making = {"rsa": ["genrsa", "-traditional", "2048"], "sec1": ["ecparam", "-genkey", "-name", "prime256v1"]}[kind]
    (root / "ca.key").write_text(openssl(*making))
    (root / "ca.key").chmod(0o600)
    subject = ["-subj", "/CN=someone", "-days", "100", "-out", f"{root}/ca.crt"]
    openssl("req", "-x509", "-new", "-key", f"{root}/ca.key", *subject)
    before = files(root)
    planned = converge(want_in(root, generate=True))
    assert "make authority kubernetes" not in planned
    assert {path: files(root)[path] for path in before} == before
    assert "OK" in openssl("verify", "-CAfile", f"{root}/ca.crt", f"{root}/api/tls.crt")
    assert converge(want_in(root)) == []


def test_a_key_of_a_kind_that_hides_its_public_half_is_asked_of_openssl(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ed.key").write_text(openssl("genpkey", "-algorithm", "ED25519"))
    (tmp_path / "locked.key").write_text(openssl("genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:x"))
    seen = pki.observe_pki_paths(Machine(), [f"{tmp_path}/**/*.key"]).files
    assert len(seen[f"{tmp_path}/ed.key"].public_key) == 64
    assert seen[f"{tmp_path}/locked.key"].public_key == ""


def test_observation_by_pattern_finds_what_observation_by_name_finds(made: pathlib.Path) -> None:
    want = want_in(made)
    by_name = pki.observe_pki(Machine(), want)
    by_pattern = pki.observe_pki_paths(Machine(), [f"{made}/**/*.crt", f"{made}/**/*.key", f"{made}/**/*.[py]*"])
    assert by_pattern.files == by_name.files
    assert plan_pki(want, by_pattern, now=int(time.time())) == []


def test_a_certificate_with_another_name_is_issued_with_a_new_key(made: pathlib.Path) -> None:
    want = want_in(made)
    key = (made / "api/tls.key").read_bytes()
    api = dataclasses.replace(want.certificates[0], dns=("localhost", "new.example.org"))
    changed = dataclasses.replace(want, certificates=(api, want.certificates[1]))
    assert converge(changed) == ["issue certificate api"]
    assert converge(changed) == []
    assert (made / "api/tls.key").read_bytes() != key


def test_shared_items_travel_sealed(made: pathlib.Path, tmp_path: pathlib.Path) -> None:
    root = tmp_path / "other"
    assert converge(PkiWant(receive=True, receiver=want_in(root).receiver)) == ["make receiver key"]
    source = want_in(made, seal_to={"other": (root / "receiver.crt").read_text()})
    result = pki.pki_result(Machine(), source)
    want = want_in(root, awaits=True, sealed=result["sealed"]["other"], expected=result["shared"])
    assert converge(want)[:4] == [
        "install authority kubernetes",
        "install authority etcd",
        "install key pair service-account",
        "install secret encryption-config",
    ]
    assert converge(want) == []
    assert shared_fingerprints(want, pki.observe_pki(Machine(), want)) == result["shared"]
    assert (root / "encryption.yaml").read_bytes() == (made / "encryption.yaml").read_bytes()


@pytest.mark.parametrize("trouble", ["other receiver", "not sent", "altered", "unexpected", "another key in place"])
def test_what_does_not_open_or_fit_is_not_installed(made: pathlib.Path, tmp_path: pathlib.Path, trouble: str) -> None:
    root = tmp_path / "other"
    converge(PkiWant(receive=True, receiver=want_in(root).receiver))
    source = want_in(made, seal_to={"other": (root / "receiver.crt").read_text()})
    result = pki.pki_result(Machine(), source)
    sealed, expected = dict(result["sealed"]["other"]), dict(result["shared"])
    if trouble == "other receiver":
        (root / "receiver.crt").unlink()
        converge(PkiWant(receive=True, receiver=want_in(root).receiver))
    elif trouble == "not sent":
        del sealed["kubernetes"]
    elif trouble == "altered":
        content = bytearray(base64.b64decode(sealed["kubernetes"]))
        content[-40] ^= 1
        sealed["kubernetes"] = base64.b64encode(content).decode()
    elif trouble == "unexpected":
        expected["kubernetes"] = "0" * 64
    else:
        (root / "ca.key").write_text(openssl("genpkey", "-algorithm", "RSA"))
    before = files(root)
    with pytest.raises(SlipwayError):
        converge(want_in(root, awaits=True, sealed=sealed, expected=expected))
    assert files(root) == before
