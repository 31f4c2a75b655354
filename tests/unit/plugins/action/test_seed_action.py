# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller sends to the seed host."""

from __future__ import annotations

import hashlib
import pathlib
import shlex
import stat
import subprocess
import tarfile

import pytest

from ansible_collections.slipway.cluster.plugins.action.seed import files_of, keep_token, pack, without_compression
from ansible_collections.slipway.cluster.plugins.module_utils.core.artifacts import Artifact
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError


def artifact(name: str, content: bytes) -> Artifact:
    sha256 = hashlib.sha256(content).hexdigest()
    return Artifact(name, "binary", "1.0", "amd64", sha256, len(content), file=f"artifacts/{name}", programs=(name,))


@pytest.fixture
def bundle(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts/a").write_bytes(b"aaa")
    (tmp_path / "artifacts/b").write_bytes(b"bb")
    return tmp_path


def test_a_pack_holds_each_file_under_its_sha256(bundle: pathlib.Path) -> None:
    wanted = [artifact("a", b"aaa"), artifact("b", b"bb")]
    pack(files_of(bundle, wanted), bundle / "pack.tar")
    with tarfile.open(bundle / "pack.tar") as archive:
        found = {member.name: archive.extractfile(member) for member in archive}
        assert {name: content.read() for name, content in found.items() if content} == {
            wanted[0].sha256: b"aaa",
            wanted[1].sha256: b"bb",
        }


def test_a_bundle_that_is_not_whole_is_said_with_all_that_is_wrong(bundle: pathlib.Path) -> None:
    nameless = Artifact("d", "binary", "1.0", "amd64", "d" * 64, programs=("d",))
    with pytest.raises(SlipwayError) as caught:
        files_of(bundle, [artifact("a", b"other length"), artifact("c", b"c"), nameless])
    text = str(caught.value)
    assert "artifacts/a: has 3 bytes; expected 12 bytes" in text
    assert "artifacts/c: cannot be read: No such file or directory; expected c 1.0" in text
    assert "d 1.0: names no file of the bundle" in text
    assert "slipway bundle verify" in text


def test_the_token_is_for_this_user_only(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible.constants.DEFAULT_LOCAL_TMP", str(tmp_path))
    path = pathlib.Path(keep_token("secret"))
    assert path.parent == tmp_path
    assert path.read_text() == "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("", []),
        ("-C -o ControlMaster=auto -o ControlPersist=60s", ["-o", "ControlMaster=auto", "-o", "ControlPersist=60s"]),
        ("-o 'ProxyCommand=ssh -C gate'", ["-o", "ProxyCommand=ssh -C gate"]),
        ("-o Compression=yes -4", ["-o", "Compression=yes", "-4"]),
    ],
)
def test_archives_are_sent_without_compressing_them_again(given: str, left: list[str]) -> None:
    words = shlex.split(without_compression(given))
    assert words[:2] == ["-o", "Compression=no"]
    assert {"ControlMaster=no", "ControlPath=none"} <= set(words[:6])
    assert words[6:] == left


def test_ssh_takes_the_first_of_two_settings() -> None:
    words = shlex.split(without_compression("-C -o Compression=yes -o ControlMaster=auto -o ControlPath=/tmp/x"))
    said = subprocess.run(["ssh", "-G", *words, "host.example"], capture_output=True, text=True, check=True).stdout
    assert "compression no" in said.splitlines()
    assert "controlmaster false" in said.splitlines()
    assert not [line for line in said.splitlines() if line.startswith("controlpath")]
