# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives and OCI images that are the same bytes for the same programs: sorted, owned by root, from the epoch."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import json
import sys
import tarfile
import tempfile
import typing as t
from pathlib import Path, PurePosixPath

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Hosts wait for decompression and the disk of a bundle is cheap: the fastest level costs about a tenth in size.
GZIP_LEVEL = 1
# containerd takes a third of gzip's time for it. Hosts' Pythons, which unpack archives of programs, have none.
ZSTD_LEVEL = 3

_INDEX = "application/vnd.oci.image.index.v1+json"
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+zstd"
_EPOCH = "1970-01-01T00:00:00Z"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True)
class Image:
    """What an image is called and how it starts; ``user`` is ``uid:gid``, empty for root.

    ``links`` are further paths of its one program, such as ``bin/sh``.
    """

    reference: str
    architecture: str
    entrypoint: tuple[str, ...]
    command: tuple[str, ...] = ()
    user: str = ""
    links: tuple[str, ...] = ()


def write_archive(target: Path, programs: t.Mapping[str, Path]) -> None:
    """Write a tar.gz of executables, each at the archive's top under its name."""
    with (
        target.open("wb") as stream,
        gzip.GzipFile(filename="", mode="wb", compresslevel=GZIP_LEVEL, fileobj=stream, mtime=0) as packed,
    ):
        _write_tar(t.cast("t.BinaryIO", packed), programs)


def write_image(target: Path, programs: t.Mapping[str, Path], image: Image) -> None:
    """Write an OCI image archive with one layer: the executables in the root directory, and links to the first.

    The index carries the name twice: ``io.containerd.image.name`` is what containerd's import uses,
    ``org.opencontainers.image.ref.name`` what podman and skopeo use (OCI image layout 1.1, annotations).
    """
    with tempfile.TemporaryFile(dir=target.parent) as layer:
        diff_id = _write_layer(layer, programs, image.links)
        size = layer.tell()
        layer.seek(0)
        digest = hashlib.file_digest(layer, "sha256").hexdigest()
        layer.seek(0)
        small = _describe(image, diff_id, {"mediaType": _LAYER, "digest": f"sha256:{digest}", "size": size})
        blobs: dict[str, tuple[int, t.BinaryIO]] = {
            name: (len(content), io.BytesIO(content)) for name, content in small.items()
        }
        blobs[f"blobs/sha256/{digest}"] = (size, t.cast("t.BinaryIO", layer))
        with target.open("wb") as stream, tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for directory in ("blobs", "blobs/sha256"):
                tar.addfile(_entry(directory, 0, 0o755, tarfile.DIRTYPE))
            for name in sorted(blobs):
                length, content = blobs[name]
                tar.addfile(_entry(name, length, 0o644), content)


def _describe(image: Image, diff_id: str, layer: dict[str, t.Any]) -> dict[str, bytes]:
    """The small files of the layout by path: configuration, manifest, index and the layout's own mark."""
    config = {
        "created": _EPOCH,
        "architecture": image.architecture,
        "os": "linux",
        "config": {
            "Env": [_PATH],
            "Entrypoint": list(image.entrypoint),
            "WorkingDir": "/",
            **({"Cmd": list(image.command)} if image.command else {}),
            **({"User": image.user} if image.user else {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
        "history": [{"created": _EPOCH, "created_by": "slipway bundle build"}],
    }
    config_blob = _json(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config_blob),
        "layers": [layer],
    }
    manifest_blob = _json(manifest)
    named = {
        **_descriptor(_MANIFEST, manifest_blob),
        "platform": {"architecture": image.architecture, "os": "linux"},
        "annotations": {
            "io.containerd.image.name": image.reference,
            "org.opencontainers.image.ref.name": image.reference,
        },
    }
    index = {"schemaVersion": 2, "mediaType": _INDEX, "manifests": [named]}
    return {
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        "index.json": _json(index),
        f"blobs/sha256/{_sha256(config_blob)}": config_blob,
        f"blobs/sha256/{_sha256(manifest_blob)}": manifest_blob,
    }


def _write_layer(layer: t.IO[bytes], programs: t.Mapping[str, Path], links: t.Iterable[str]) -> str:
    """Write the compressed layer and return the sha256 of its uncompressed tar."""
    with zstd.ZstdFile(layer, "w", level=ZSTD_LEVEL) as packed:
        hashing = _Hashing(t.cast("t.BinaryIO", packed))
        _write_tar(t.cast("t.BinaryIO", hashing), programs, links)
    return hashing.digest.hexdigest()


class _Hashing:
    """A file to write to that hashes what passes."""

    def __init__(self, target: t.BinaryIO) -> None:
        self.target = target
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self.target.write(data)


def _write_tar(stream: t.BinaryIO, programs: t.Mapping[str, Path], links: t.Iterable[str] = ()) -> None:
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT, bufsize=_CHUNK) as tar:
        for name in sorted(programs):
            with programs[name].open("rb") as content:
                tar.addfile(_entry(name, programs[name].stat().st_size, 0o755), content)
        parents = {str(parent) for link in links for parent in PurePosixPath(link).parents[:-1]}
        for directory in sorted(parents):
            tar.addfile(_entry(directory, 0, 0o755, tarfile.DIRTYPE))
        for link in sorted(links):
            entry = _entry(link, 0, 0o777, tarfile.SYMTYPE)
            entry.linkname = f"/{min(programs)}"
            tar.addfile(entry)


def _entry(name: str, size: int, mode: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.type = size, mode, kind
    return entry


def _descriptor(media_type: str, content: bytes) -> dict[str, t.Any]:
    return {"mediaType": media_type, "digest": f"sha256:{_sha256(content)}", "size": len(content)}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _json(data: t.Mapping[str, t.Any]) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()
