# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The key that never leaves the controller, and the file it ends in."""

from __future__ import annotations

import pathlib
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.slipway.cluster.plugins.action import kubeconfig as action


def test_the_request_proves_the_key() -> None:
    key, request = action.make_key("slipway:me")
    parsed = x509.load_pem_x509_csr(request.encode())
    private = serialization.load_pem_private_key(key.encode(), None)
    assert parsed.is_signature_valid
    assert parsed.subject.rfc4514_string() == "CN=slipway:me"
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert parsed.public_key() == private.public_key()
    assert "PRIVATE" not in request


def test_the_file_is_for_its_owner_alone_and_replaced_as_a_whole(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "new" / "kubeconfig"
    for content in ("one", "two"):
        action.write(path, content)
        assert path.read_text() == content
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "kubeconfig"
    action.write(path, "old")

    def full(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        action.write(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
