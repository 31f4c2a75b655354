# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artefacts fetched over real HTTP and installed in directories that stand for a host's."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import typing as t
import urllib.error
import urllib.request

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core import artifacts as core
from ansible_collections.slipway.cluster.plugins.module_utils.core.artifacts import Artifact, ArtifactsWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host import artifacts, fetch, seed, seed_server
from ansible_collections.slipway.cluster.plugins.module_utils.host.artifacts import Installer, observe_artifacts
from ansible_collections.slipway.cluster.plugins.module_utils.host.fetch import Sources
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files are given to root")


class Host:
    """A directory with the places artefacts use, and the run of the module on it."""

    def __init__(self, directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.blobs, self.bin = directory / "opt", directory / "blobs", directory / "bin"
        self.blobs.mkdir()
        for module in (core, artifacts, seed):
            monkeypatch.setattr(module, "BLOBS", str(self.blobs))
        for module in (core, artifacts):
            monkeypatch.setattr(module, "ROOT", str(self.root))
        monkeypatch.setattr(artifacts, "SOCKET", str(directory / "no-socket"))

    def run(self, want: ArtifactsWant, sources: Sources, *, keep_blobs: bool = False, until: str = "") -> list[str]:
        """What the module does, up to the named change."""
        installer, machine = Installer(sources, keep_blobs=keep_blobs), Machine()
        done = []
        for change in installer.plan(want, observe_artifacts(machine, want.links)):
            if change.name == until:
                break
            installer.apply(machine, want, change)
            done.append(change.name)
        return done


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def names(directory: pathlib.Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


def archive(content: dict[str, bytes]) -> bytes:
    """A tar.gz with these members, the same bytes each time."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as target:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            target.addfile(member, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)


ETCD_BYTES = archive({"etcd-v3/README": b"x" * 5000, "etcd-v3/etcd": b"E" * 300_000, "etcd-v3/bin/etcdctl": b"C"})
KUBELET_BYTES = b"K" * 200_000
IMAGE_BYTES = b"I" * 10_000


def artifact(name: str, kind: str, content: bytes, **more: t.Any) -> Artifact:
    return Artifact(name, kind, "1.0", "amd64", hashlib.sha256(content).hexdigest(), len(content), **more)


ETCD = artifact("etcd", "archive", ETCD_BYTES, programs=("etcd", "etcdctl"))
KUBELET = artifact("kubelet", "binary", KUBELET_BYTES, programs=("kubelet",))
IMAGE = artifact("pause", "image", IMAGE_BYTES, reference="slipway.local/pause:1.0")
WANT = ArtifactsWant((ETCD, KUBELET, IMAGE))
CONTENT = {ETCD.sha256: ETCD_BYTES, KUBELET.sha256: KUBELET_BYTES, IMAGE.sha256: IMAGE_BYTES}


@contextlib.contextmanager
def running(server: http.server.HTTPServer) -> t.Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def seed_directory(tmp_path: pathlib.Path) -> pathlib.Path:
    directory = tmp_path / "seed"
    directory.mkdir()
    for sha256, content in CONTENT.items():
        (directory / sha256).write_bytes(content)
    return directory


@pytest.fixture
def seed_host(seed_directory: pathlib.Path) -> t.Iterator[Sources]:
    with running(seed_server.SeedServer(("127.0.0.1", 0), str(seed_directory), "secret")) as url:
        yield Sources((url,), "secret")


class Mirror(http.server.BaseHTTPRequestHandler):
    """An upstream whose answers a test says, one after the other; the last one is repeated."""

    answers: t.ClassVar[list[tuple[int, dict[str, str], bytes]]] = []
    asked: t.ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, headers, body = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: t.Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[str]:
    monkeypatch.setattr(Mirror, "answers", [])
    monkeypatch.setattr(Mirror, "asked", [])
    with running(http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror)) as url:
        yield url


def test_a_bare_host_gets_programs_and_images_and_a_second_run_does_nothing(host: Host, seed_host: Sources) -> None:
    link = str(host.bin / "etcdctl")
    want = dataclasses.replace(WANT, links={link: "etcdctl"})
    assert host.run(want, seed_host) == [
        "fetch etcd 1.0",
        "unpack etcd 1.0",
        "fetch kubelet 1.0",
        "unpack kubelet 1.0",
        "fetch image pause 1.0",
        "activate etcd 1.0",
        "activate kubelet 1.0",
        f"link {link}",
    ]
    assert (host.root / "etcd/current/etcd").read_bytes() == b"E" * 300_000
    assert pathlib.Path(link).read_bytes() == b"C"
    assert names(host.root / "etcd/1.0") == [".sha256", "etcd", "etcdctl"]
    assert (host.root / "kubelet/current/kubelet").stat().st_mode & 0o777 == 0o755
    assert names(host.blobs) == [IMAGE.sha256]
    assert host.run(want, seed_host) == []


def test_a_restrictive_umask_does_not_hide_programs_from_other_users(host: Host, seed_host: Sources) -> None:
    before = os.umask(0o077)
    try:
        host.run(WANT, seed_host)
    finally:
        os.umask(before)
    for path in ("", "etcd", "etcd/1.0", "etcd/1.0/etcd"):
        assert (host.root / path).stat().st_mode & 0o755 == 0o755, path


def test_wrong_bytes_are_refused_and_the_next_source_is_asked(host: Host, mirror: str, seed_host: Sources) -> None:
    wrong = b"X" * len(KUBELET_BYTES)
    Mirror.answers = [(200, {}, wrong)]
    with pytest.raises(SlipwayError) as caught:
        host.run(ArtifactsWant((dataclasses.replace(KUBELET, url=f"{mirror}/kubelet"),)), Sources())
    text = str(caught.value)
    assert f"{mirror}/kubelet gave bytes with sha256 {hashlib.sha256(wrong).hexdigest()}" in text
    assert f"expected bytes with sha256 {KUBELET.sha256}" in text
    assert names(host.blobs) == []
    both = Sources((mirror, *seed_host.urls), seed_host.token)
    assert host.run(ArtifactsWant((KUBELET,)), both)[-1] == "activate kubelet 1.0"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((404, {}, b""), "answered 404 Not Found"),
        ((200, {}, KUBELET_BYTES + b"1"), "has 200001 bytes instead of 200000"),
    ],
)
def test_a_source_that_cannot_have_it_is_asked_once(
    host: Host, mirror: str, answer: tuple[int, dict[str, str], bytes], words: str
) -> None:
    Mirror.answers = [answer]
    with pytest.raises(SlipwayError, match=words):
        host.run(ArtifactsWant((dataclasses.replace(KUBELET, url=f"{mirror}/kubelet"),)), Sources())
    assert Mirror.asked == ["/kubelet"]


def test_a_source_that_is_busy_or_breaks_off_is_asked_again(
    host: Host, mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_pause_factor", lambda: 0.0)
    Mirror.answers = [
        (503, {"Retry-After": "1"}, b""),
        (500, {}, b""),
        (200, {"Content-Length": str(len(KUBELET_BYTES))}, KUBELET_BYTES[:1000]),
        (200, {}, KUBELET_BYTES),
    ]
    assert host.run(ArtifactsWant((dataclasses.replace(KUBELET, url=f"{mirror}/k"),)), Sources())
    assert len(Mirror.asked) == 4


def test_a_source_that_is_not_there_is_named_without_its_password(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "_pause_factor", lambda: 0.0)
    with pytest.raises(SlipwayError) as caught:
        host.run(ArtifactsWant((dataclasses.replace(KUBELET, url="http://u:pass@127.0.0.1:9/k"),)), Sources())
    assert "http://127.0.0.1:9/k failed 4 times" in str(caught.value)
    assert "pass@" not in str(caught.value)


def test_no_source_at_all_is_said(host: Host) -> None:
    with pytest.raises(SlipwayError, match="no source was given"):
        host.run(WANT, Sources())


def test_a_damaged_blob_on_the_disk_is_not_used(host: Host, seed_host: Sources) -> None:
    (host.blobs / KUBELET.sha256).write_bytes(b"damaged")
    assert host.run(ArtifactsWant((KUBELET,)), seed_host) == ["unpack kubelet 1.0", "activate kubelet 1.0"]
    assert (host.root / "kubelet/current/kubelet").read_bytes() == KUBELET_BYTES


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (archive({"etcd-v3/etcd": b"E"}), "does not contain etcdctl"),
        (gzip.compress(b"no tar" * 1000, mtime=0), "is not a tar.gz"),
        (b"no gzip either" * 1000, "is not a tar.gz"),
        (ETCD_BYTES[:-100], "is not a tar.gz"),
    ],
    ids=["another program", "no tar", "no gzip", "cut off"],
)
def test_an_archive_without_the_programs_leaves_nothing(host: Host, content: bytes, words: str) -> None:
    wrong = artifact("etcd", "archive", content, programs=("etcd", "etcdctl"))
    (host.blobs / wrong.sha256).write_bytes(content)
    with pytest.raises(SlipwayError, match=words):
        host.run(ArtifactsWant((wrong,)), Sources())
    assert names(host.root / "etcd") == []


def test_links_in_an_archive_are_not_followed(host: Host) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as target:
        member = tarfile.TarInfo("bin/etcd")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/shadow"
        target.addfile(member)
    wrong = artifact("etcd", "archive", packed.getvalue(), programs=("etcd",))
    (host.blobs / wrong.sha256).write_bytes(packed.getvalue())
    with pytest.raises(SlipwayError, match="does not contain etcd"):
        host.run(ArtifactsWant((wrong,)), Sources())


def test_other_bytes_under_the_same_version_are_installed_in_its_place(host: Host, seed_host: Sources) -> None:
    host.run(WANT, seed_host)
    rebuilt = artifact("kubelet", "binary", b"new", programs=("kubelet",))
    (host.blobs / rebuilt.sha256).write_bytes(b"new")
    assert host.run(ArtifactsWant((rebuilt,)), Sources()) == ["unpack kubelet 1.0"]
    assert (host.root / "kubelet/current/kubelet").read_bytes() == b"new"
    assert names(host.root / "kubelet") == ["1.0", "current"]


def test_the_former_version_stays_for_switching_back(host: Host, seed_host: Sources) -> None:
    host.run(WANT, seed_host)
    newer = dataclasses.replace(artifact("kubelet", "binary", b"new", programs=("kubelet",)), version="2.0")
    (host.blobs / newer.sha256).write_bytes(b"new")
    host.run(ArtifactsWant((newer,)), Sources())
    assert (host.root / "kubelet/current/kubelet").read_bytes() == b"new"
    assert host.run(ArtifactsWant((KUBELET,)), Sources()) == ["activate kubelet 1.0"]


STEPS = (
    "fetch etcd 1.0",
    "unpack etcd 1.0",
    "fetch kubelet 1.0",
    "unpack kubelet 1.0",
    "fetch image pause 1.0",
    "activate etcd 1.0",
    "activate kubelet 1.0",
)


CHILD = """
import os, signal, sys, json, pathlib
sys.path[:0] = json.loads(sys.argv[4])
from tests.unit.plugins.module_utils.host import test_artifacts_install as here
host = here.Host.__new__(here.Host)
host.__dict__.update(root=pathlib.Path(sys.argv[1]) / "opt", blobs=pathlib.Path(sys.argv[1]) / "blobs")
for module in (here.core, here.artifacts):
    module.ROOT, module.BLOBS = str(host.root), str(host.blobs)
host.run(here.WANT, here.Sources((sys.argv[2],), "secret"), until=sys.argv[3])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("step", STEPS)
def test_a_run_that_was_killed_is_finished_by_the_next_one(
    host: Host, seed_host: Sources, tmp_path: pathlib.Path, step: str
) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path), seed_host.urls[0], step, json.dumps([*sys.path, "."])]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    host.run(WANT, seed_host)
    assert host.run(WANT, seed_host) == []
    assert (host.root / "etcd/current/etcd").read_bytes() == b"E" * 300_000
    assert names(host.blobs) == [IMAGE.sha256]


def test_what_a_killed_run_left_half_is_removed(host: Host, seed_host: Sources) -> None:
    (host.blobs / f"{ETCD.sha256}.partial").write_bytes(b"half")
    (host.blobs / ("f" * 64)).write_bytes(b"of no use any more")
    (host.root / "etcd/1.0.partial").mkdir(parents=True)
    (host.root / "etcd/1.0.partial/etcd").write_bytes(b"half")
    host.run(WANT, seed_host)
    assert names(host.blobs) == [IMAGE.sha256]
    assert names(host.root / "etcd") == ["1.0", "current"]


def test_a_host_that_serves_keeps_the_bytes(host: Host, seed_host: Sources) -> None:
    host.run(WANT, seed_host, keep_blobs=True)
    assert names(host.blobs) == sorted(CONTENT)
    assert (host.root / "kubelet/current/kubelet").read_bytes() == KUBELET_BYTES


def test_too_little_space_is_noticed_before_fetching(host: Host, seed_host: Sources) -> None:
    huge = dataclasses.replace(KUBELET, size=1 << 60)
    with pytest.raises(SlipwayError) as caught:
        host.run(ArtifactsWant((huge,)), seed_host)
    text = str(caught.value)
    assert f"{fetch.mount_of(str(host.blobs))} on {os.uname().nodename}: no space left for the artefacts" in text
    assert f"expected {((1 << 60) + fetch.SPARE_BYTES) >> 20} MiB or more" in text
    assert "MiB free" in text


@pytest.mark.parametrize("where", ["fetching", "unpacking"])
def test_a_disk_that_fills_up_midway_is_said_and_leaves_no_half_files(
    host: Host, seed_host: Sources, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: t.Any) -> t.NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if where == "fetching":
            patch.setattr(fetch, "write_all", full)
        else:
            patch.setattr(shutil, "copyfileobj", full)
        with pytest.raises(SlipwayError, match=f"no space left for {where} etcd 1.0"):
            host.run(ArtifactsWant((ETCD,)), seed_host)
    assert not [name for name in names(host.blobs) if name.endswith(".partial")]
    assert names(host.root / "etcd") == []
    assert host.run(ArtifactsWant((ETCD,)), seed_host)[-1] == "activate etcd 1.0"


def test_everything_that_went_wrong_is_said_at_once(host: Host, mirror: str) -> None:
    Mirror.answers = [(404, {}, b"")]
    want = ArtifactsWant(tuple(dataclasses.replace(each, url=f"{mirror}/{each.name}") for each in WANT.artifacts))
    with pytest.raises(SlipwayError) as caught:
        host.run(want, Sources())
    assert any("etcd 1.0" in problem.where for problem in caught.value.problems)
    assert (host.root / "etcd/current").exists() is False


def ask(url: str, token: str = "secret", data: bytes | None = None) -> tuple[int, bytes]:
    """Status and body, without following redirects."""

    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *args: t.Any, **kwargs: t.Any) -> None:
            return None

    request = urllib.request.Request(url, data, {seed_server.TOKEN_HEADER: token})  # noqa: S310
    try:
        with urllib.request.build_opener(Stay).open(request, timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers.get("Location", "").encode()


def test_the_seed_answers_only_who_knows_the_token_and_only_blobs(
    seed_host: Sources, seed_directory: pathlib.Path
) -> None:
    url = seed_host.urls[0]
    (seed_directory / "token").write_text("x")
    outside = seed_directory / ("f" * 64)
    outside.symlink_to("/etc/hostname")
    assert ask(f"{url}/{KUBELET.sha256}") == (200, KUBELET_BYTES)
    assert ask(f"{url}/{KUBELET.sha256}", token="wrong")[0] == 403
    assert ask(f"{url}/{KUBELET.sha256}", token="")[0] == 403
    for path in ("token", "../token", "a" * 64, "%2e%2e/token", ""):
        assert ask(f"{url}/{path}")[0] == 404
    assert ask(f"{url}/{'f' * 64}")[0] != 200
    assert ask(f"{url}/have/{KUBELET.sha256}", data=b"{}")[0] == 400


def test_a_busy_seed_sends_readers_to_hosts_that_have_it_and_they_come_back_when_those_fail(
    host: Host, seed_directory: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "_pause_factor", lambda: 0.0)
    server = seed_server.SeedServer(("127.0.0.1", 0), str(seed_directory), "secret")
    peer_directory = tmp_path / "peer"
    peer_directory.mkdir()
    peer = seed_server.SeedServer(("127.0.0.1", 0), str(peer_directory), "secret")
    with running(server) as url, running(peer) as peer_url:
        serving = seed.Serving("127.0.0.1", peer.server_port, 0, "secret")
        seed.announce(serving, [url], [KUBELET])
        assert ask(f"{url}/{KUBELET.sha256}")[0] == 200
        for _ in range(seed_server.BUSY_TRANSFERS):
            assert server.begin("other", here=True) is True
        assert ask(f"{url}/{KUBELET.sha256}") == (307, f"{peer_url}/{KUBELET.sha256}?here".encode())
        (peer_directory / KUBELET.sha256).write_bytes(b"wrong")
        assert host.run(ArtifactsWant((KUBELET,)), Sources((url,), "secret"))
        for _ in range(seed_server.MAX_TRANSFERS - seed_server.BUSY_TRANSFERS):
            assert server.begin("other", here=True) is True
        assert ask(f"{url}/{KUBELET.sha256}?here")[0] == 503


def test_a_pack_is_taken_in_member_by_member(host: Host, tmp_path: pathlib.Path) -> None:
    pack = tmp_path / "pack.tar"
    with tarfile.open(pack, "w") as target:
        for name, content in ((KUBELET.sha256, KUBELET_BYTES), (ETCD.sha256, b"wrong"), ("../evil", b"x")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    with pytest.raises(SlipwayError, match=r"etcd 1\.0: arrived with sha256") as caught:
        seed.take_in(str(pack), {ETCD.sha256: ETCD.label})
    assert len(caught.value.problems) == 1
    assert names(host.blobs) == [KUBELET.sha256]
    assert not pack.exists()


@pytest.mark.parametrize(
    ("result", "replacing", "left"),
    [("timeout", False, 1), ("success", False, 1), ("success", True, 4), ("exit-code", False, 4), ("", False, 4)],
)
def test_what_the_seed_served_is_removed_when_it_ends_as_it_should(
    seed_directory: pathlib.Path, monkeypatch: pytest.MonkeyPatch, result: str, replacing: bool, left: int
) -> None:
    (seed_directory / "other").write_text("stays")
    monkeypatch.setenv("SERVICE_RESULT", result)
    marker = seed_directory / "other" if replacing else seed_directory / "none"
    seed_server.main(["--directory", str(seed_directory), "--clean-unless", str(marker)])
    assert len(names(seed_directory)) == left
