# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""OCI images: every digest is that of the bytes, and the names are where runtimes look for them."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tarfile
import time
import typing as t
from pathlib import Path

import pytest

from slipway.bundle.archive import Image, write_archive, write_image
from slipway.bundle.files import sha256_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

IMAGE = Image("slipway.local/web:0.5.0", "amd64", ("/web",), ("serve",), "65532:65532")

LINKS = ("usr/bin/sh", "usr/bin/rm")


@pytest.fixture
def programs(tmp_path: Path) -> dict[str, Path]:
    """Two programs, the larger one bigger than any buffer."""
    found = {"web": tmp_path / "one", "ctl": tmp_path / "two"}
    found["web"].write_bytes(b"web" * 2_000_000)
    found["ctl"].write_bytes(b"ctl")
    return found


def read(path: Path) -> dict[str, bytes]:
    """All files of an uncompressed tar."""
    with tarfile.open(path, "r:") as tar:
        return {m.name: t.cast("t.IO[bytes]", tar.extractfile(m)).read() for m in tar.getmembers() if m.isfile()}


def test_every_blob_is_what_its_name_says(tmp_path: Path, programs: dict[str, Path]) -> None:
    write_image(tmp_path / "image.tar", programs, IMAGE)
    files = read(tmp_path / "image.tar")
    blobs = {name: content for name, content in files.items() if name.startswith("blobs/sha256/")}
    assert len(blobs) == 3
    for name, content in blobs.items():
        assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"


def test_the_index_leads_to_the_layer(tmp_path: Path, programs: dict[str, Path]) -> None:
    write_image(tmp_path / "image.tar", programs, IMAGE)
    files = read(tmp_path / "image.tar")

    def blob(descriptor: dict[str, t.Any]) -> bytes:
        content = files["blobs/" + descriptor["digest"].replace(":", "/")]
        assert descriptor["size"] == len(content)
        return content

    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (named,) = json.loads(files["index.json"])["manifests"]
    assert named["platform"] == {"architecture": "amd64", "os": "linux"}
    assert named["annotations"]["io.containerd.image.name"] == IMAGE.reference
    assert named["annotations"]["org.opencontainers.image.ref.name"] == IMAGE.reference
    manifest = json.loads(blob(named))
    config = json.loads(blob(manifest["config"]))
    assert config["config"]["Entrypoint"] == ["/web"]
    assert config["config"]["Cmd"] == ["serve"]
    assert config["config"]["User"] == "65532:65532"
    (described,) = manifest["layers"]
    assert described["mediaType"] == "application/vnd.oci.image.layer.v1.tar+zstd"
    layer = zstd.decompress(blob(described))
    assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(layer).hexdigest()}"]
    (tmp_path / "layer.tar").write_bytes(layer)
    with tarfile.open(tmp_path / "layer.tar") as tar:
        assert [(m.name, m.mode, m.uid, m.mtime) for m in tar] == [("ctl", 0o755, 0, 0), ("web", 0o755, 0, 0)]


def test_further_paths_of_a_program_are_links_in_directories_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "box").write_bytes(b"box")
    write_image(tmp_path / "image.tar", {"box": tmp_path / "box"}, Image("a/b:1", "amd64", ("/bin/sh",), links=LINKS))
    (layer,) = [content for content in read(tmp_path / "image.tar").values() if content.startswith(b"\x28\xb5\x2f\xfd")]
    (tmp_path / "layer.tar").write_bytes(zstd.decompress(layer))
    with tarfile.open(tmp_path / "layer.tar") as tar:
        found = [(m.name, m.isdir(), m.mode, m.linkname) for m in tar]
    assert found == [
        ("box", False, 0o755, ""),
        ("usr", True, 0o755, ""),
        ("usr/bin", True, 0o755, ""),
        ("usr/bin/rm", False, 0o777, "/box"),
        ("usr/bin/sh", False, 0o777, "/box"),
    ]


def test_an_image_of_root_without_arguments_says_nothing_of_them(tmp_path: Path, programs: dict[str, Path]) -> None:
    write_image(tmp_path / "image.tar", programs, Image("a/b:1", "arm64", ("/web",)))
    files = read(tmp_path / "image.tar")
    (config,) = [json.loads(content) for content in files.values() if b"diff_ids" in content]
    assert config["architecture"] == "arm64"
    assert not {"Cmd", "User"} & set(config["config"])


@pytest.mark.parametrize("kind", ["archive", "image"])
def test_time_order_and_owner_leave_no_trace(tmp_path: Path, programs: dict[str, Path], kind: str) -> None:
    def write(target: Path, order: list[str]) -> str:
        chosen = {name: programs[name] for name in order}
        if kind == "image":
            write_image(target, chosen, IMAGE)
        else:
            write_archive(target, chosen)
        return sha256_of(target)

    first = write(tmp_path / "first", ["web", "ctl"])
    programs["web"].chmod(0o600)
    os.utime(programs["web"], (time.time() + 5000,) * 2)
    assert write(tmp_path / "a-second-name", ["ctl", "web"]) == first
    programs["ctl"].write_bytes(b"ctL")
    assert write(tmp_path / "third", ["ctl", "web"]) != first
