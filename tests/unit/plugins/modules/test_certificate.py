# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate in three steps on two hosts, with real keys: requested, signed elsewhere, put in its place."""

from __future__ import annotations

import getpass
import grp
import json
import os
import pathlib
import subprocess
import types
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.slipway.cluster.plugins.module_utils.host import engine, pki
from ansible_collections.slipway.cluster.plugins.modules import certificate, certificate_signing

ME, MINE = getpass.getuser(), grp.getgrgid(os.getgid()).gr_name


@pytest.fixture(autouse=True)
def _places(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "RUN_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(engine, "LOCK_PATH", str(tmp_path / "run/lock"))
    monkeypatch.setattr(engine, "FAULT_PATH", str(tmp_path / "fault"))
    monkeypatch.setattr(pki, "RUN_DIRECTORY", str(tmp_path / "run"))


@pytest.fixture
def authority(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    """A CA's certificate and key."""
    paths = {"authority_certificate": str(tmp_path / "ca.crt"), "authority_key": str(tmp_path / "ca.key")}
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", paths["authority_key"]]
    subject = ["-subj", "/CN=test-ca", "-days", "30", "-out", paths["authority_certificate"]]
    subprocess.run(["openssl", "req", "-x509", *key, *subject], check=True, capture_output=True)
    return paths


@pytest.fixture
def leaf(tmp_path: pathlib.Path) -> dict[str, t.Any]:
    """A server's certificate."""
    own = {"certificate": str(tmp_path / "tls.crt"), "key": str(tmp_path / "tls.key"), "owner": ME, "group": MINE}
    return {"name": "web", "common_name": "web", "dns": ["web.test"], "usages": ["server"], "days": 9, **own}


def call(
    module: types.ModuleType, capsys: pytest.CaptureFixture[str], *, check: bool = False, **arguments: t.Any
) -> dict[str, t.Any]:
    options = {"_ansible_module_name": module.__name__.rpartition(".")[2], "_ansible_check_mode": check}
    with patch_module_args({**arguments, **options}), pytest.raises(SystemExit):
        module.main()
    return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))


def test_three_steps_make_a_certificate_and_then_there_is_nothing_to_do(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, authority: dict[str, t.Any], leaf: dict[str, t.Any]
) -> None:
    issuer = pathlib.Path(authority["authority_certificate"]).read_text(encoding="utf-8")
    announced = call(certificate, capsys, check=True, step="request", leaf=leaf, issuer=issuer)
    assert announced["actions"] == ["request certificate web"]
    assert announced["request"] == ""
    assert not (tmp_path / "tls.key.new").exists()

    asked = call(certificate, capsys, step="request", leaf=leaf, issuer=issuer)
    assert (tmp_path / "tls.key.new").stat().st_mode & 0o777 == 0o600
    signed = call(certificate_signing, capsys, leaf=leaf, request=asked["request"], **authority)
    assert signed["changed"] is False
    done = call(certificate, capsys, step="issue", leaf=leaf, issuer=issuer, signed=signed["certificate"])
    assert done["actions"] == ["issue certificate web"]
    assert not (tmp_path / "tls.key.new").exists()
    chain = ["openssl", "verify", "-CAfile", authority["authority_certificate"], "-verify_hostname", "web.test"]
    subprocess.run([*chain, leaf["certificate"]], check=True, capture_output=True)

    for step in ("request", "issue"):
        assert call(certificate, capsys, step=step, leaf=leaf, issuer=issuer)["actions"] == []
        assert call(certificate, capsys, step=step, leaf=leaf)["actions"] == []
    renamed = call(certificate, capsys, check=True, step="issue", leaf={**leaf, "dns": ["other.test"]}, issuer=issuer)
    assert renamed["actions"] == ["issue certificate web"]


def test_a_certificate_for_another_key_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, authority: dict[str, t.Any], leaf: dict[str, t.Any]
) -> None:
    first = call(certificate, capsys, step="request", leaf=leaf)
    signed = call(certificate_signing, capsys, leaf=leaf, request=first["request"], **authority)
    call(certificate, capsys, step="request", leaf=leaf)
    refused = call(certificate, capsys, step="issue", leaf=leaf, signed=signed["certificate"])
    assert "is not the key of the certificate" in refused["problems"][0]["found"]
    assert not (tmp_path / "tls.key").exists()
    missing = call(certificate, capsys, step="issue", leaf=leaf)
    assert "no signed certificate was given" in missing["problems"][0]["found"]


def test_nothing_is_signed_in_check_mode_or_without_an_authority(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path, leaf: dict[str, t.Any]
) -> None:
    nowhere: dict[str, t.Any] = {
        "authority_certificate": str(tmp_path / "none.crt"),
        "authority_key": str(tmp_path / "none.key"),
    }
    assert call(certificate_signing, capsys, check=True, leaf=leaf, request="x", **nowhere)["certificate"] == ""
    refused = call(certificate_signing, capsys, leaf=leaf, request="x", **nowhere)
    assert "is not there" in refused["problems"][0]["found"]
