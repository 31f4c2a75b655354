# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locking downloads against a server with upstream's layout."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import threading
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import Lock, parse_lock
from slipway.bundle import upstream
from slipway.bundle.commands import with_kubernetes
from slipway.bundle.places import known_sets, load_set
from slipway.bundle.recipes import load_recipes
from slipway.bundle.upstream import Where, load_releases, lock_upstream, parse_checksum, plan_downloads

SHA = "0123456789abcdef" * 4
GITHUB = "/github.com"


class Server:
    """Serves ``files`` by path; ``broken`` paths answer 503 that many times first; remembers what was asked."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.broken: dict[str, int] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if outer.broken.get(self.path, 0) > 0:
                    outer.broken[self.path] -= 1
                    self.send_error(503)
                elif self.path not in outer.files:
                    self.send_error(404)
                else:
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(outer.files[self.path])))
                    self.end_headers()
                    self.wfile.write(outer.files[self.path])

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Server]:
    """A mirror of everything that the lock of 1.37 needs and no table knows."""
    monkeypatch.setattr(upstream, "_PAUSE_SECONDS", 0.01)
    made = Server()
    release = "/dl.k8s.io/release/v1.37.0/bin/linux/amd64"
    for recipe in load_recipes().values():
        for output in recipe.outputs:
            made.files[f"{release}/{output.name}.sha256"] = hashlib.sha256(output.name.encode()).hexdigest().encode()
    etcd = "etcd-v3.7.0-linux-amd64.tar.gz"
    made.files[f"{GITHUB}/etcd-io/etcd/releases/download/v3.7.0/SHA256SUMS"] = (
        f"{'f' * 64}  etcd-v3.7.0-linux-arm64.tar.gz\n{SHA}  {etcd}\n".encode()
    )
    registry = "registry_3.1.2_linux_amd64.tar.gz"
    made.files[f"{GITHUB}/distribution/distribution/releases/download/v3.1.2/{registry}.sha256"] = (
        f"{SHA}  {registry}\n".encode()
    )
    flannel = f"{GITHUB}/flannel-io/flannel/releases/download/v0.28.10/flannel-v0.28.10-linux-amd64.tar.gz"
    made.files[flannel] = b"flannel" * 500_000
    thread = threading.Thread(target=made.http.serve_forever, daemon=True)
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()


def lock(server: Server, version: str = "1.37", **bases: str) -> Lock:
    """The lock of a version from the mirror."""
    versions = with_kubernetes(load_set(version), version)
    return lock_upstream(versions, ["amd64"], Where(server.url, bases))


def test_a_mirror_is_locked_whole(server: Server) -> None:
    found = lock(server)
    assert parse_lock(found.as_dict(), "lock") == found
    assert found.source == "mirror"
    kubelet = found.artifact("kubelet", "amd64")
    assert kubelet.url == f"{server.url}/dl.k8s.io/release/v1.37.0/bin/linux/amd64/kubelet"
    assert (kubelet.kind, kubelet.programs) == ("binary", ("kubelet",))
    assert kubelet.sha256 == hashlib.sha256(b"kubelet").hexdigest()
    assert found.artifact("etcd", "amd64").sha256 == SHA
    assert found.artifact("flannel", "amd64").sha256 == hashlib.sha256(b"flannel" * 500_000).hexdigest()
    assert found.artifact("flannel", "amd64").checksum_from == "download"
    assert found.artifact("pause", "amd64").reference == "registry.k8s.io/pause:3.10.2"
    assert found.artifact("kubeadm", "amd64").purpose == "test"


def test_what_is_known_is_not_asked_for(server: Server) -> None:
    found = lock(server)
    runc = found.artifact("runc", "amd64")
    assert runc.checksum_from == "slipway"
    assert runc.url.endswith("/opencontainers/runc/releases/download/v1.4.3/runc.amd64")
    assert not [path for path in server.asked if "runc" in path or "containerd" in path]


def test_any_patch_of_a_supported_minor_can_be_locked(server: Server) -> None:
    server.files.update({path.replace("1.37.0", "1.37.9"): body for path, body in server.files.items()})
    found = lock(server, "1.37.9")
    assert found.versions["kubernetes"] == "1.37.9"
    assert "/v1.37.9/" in found.artifact("kube-apiserver", "amd64").url


def test_a_component_may_have_another_address(server: Server) -> None:
    server.files["/own/v3.7.0/SHA256SUMS"] = f"{'a' * 64} *etcd-v3.7.0-linux-amd64.tar.gz\n".encode()
    found = lock(server, etcd=f"{server.url}/own/")
    assert found.artifact("etcd", "amd64").url == f"{server.url}/own/v3.7.0/etcd-v3.7.0-linux-amd64.tar.gz"
    assert found.artifact("etcd", "amd64").sha256 == "a" * 64


def test_all_that_is_missing_or_wrong_comes_at_once(server: Server) -> None:
    release = "/dl.k8s.io/release/v1.37.0/bin/linux/amd64"
    del server.files[f"{release}/kubelet.sha256"]
    server.files[f"{release}/kube-proxy.sha256"] = b"<html>login</html>"
    server.files[f"{GITHUB}/etcd-io/etcd/releases/download/v3.7.0/SHA256SUMS"] = f"{SHA}  other.tar.gz\n".encode()
    with pytest.raises(SlipwayError) as caught:
        lock(server)
    said = {problem.where: problem.found for problem in caught.value.problems}
    assert set(said) == {"kubelet 1.37.0 amd64", "kube-proxy 1.37.0 amd64", "etcd 3.7.0 amd64"}
    assert said["kubelet 1.37.0 amd64"].endswith("kubelet.sha256: HTTP 404")
    assert "no sha256 of kube-proxy in it" in said["kube-proxy 1.37.0 amd64"]


def test_a_server_that_stumbles_is_asked_again(server: Server) -> None:
    path = "/dl.k8s.io/release/v1.37.0/bin/linux/amd64/kubelet.sha256"
    server.broken[path] = upstream.TRIES - 1
    lock(server)
    assert server.asked.count(path) == upstream.TRIES
    server.broken[path] = upstream.TRIES
    with pytest.raises(SlipwayError, match="HTTP 503"):
        lock(server)


def test_a_server_that_is_not_there_is_said_once_for_each_file(server: Server) -> None:
    where = Where(mirror="http://127.0.0.1:9")
    with pytest.raises(SlipwayError, match="Connection refused") as caught:
        lock_upstream(load_set("1.37"), ["amd64"], where)
    assert len(caught.value.problems) == 10


def test_an_unknown_component_is_refused(server: Server) -> None:
    with pytest.raises(SlipwayError, match="--base-url kubelet: no such component"):
        lock(server, kubelet=server.url)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SHA, SHA),
        (f"{SHA.upper()}\n", SHA),
        (f"{SHA}  file.tgz\n", SHA),
        (f"{SHA} *file.tgz\n", SHA),
        (f"{'f' * 64}  other.tgz\n\n{SHA}  ./file.tgz\n", SHA),
        (f"{SHA}  other.tgz\n", None),
        (f"{SHA[:-1]}  file.tgz\n", None),
        ("", None),
        ("<html>", None),
    ],
)
def test_parse_checksum(text: str, expected: str | None) -> None:
    assert parse_checksum(text, "file.tgz") == expected


@pytest.mark.parametrize("name", known_sets())
@pytest.mark.parametrize("architecture", upstream.ARCHITECTURES)
def test_upstream_offers_what_a_bundle_has(name: str, architecture: str) -> None:
    """Both sources of a set give hosts the same artefacts with the same programs; lists of objects come in bundles."""
    versions, recipes = load_set(name), load_recipes()
    downloads = plan_downloads(versions, recipes, load_releases(), architecture, Where())
    locked = {(d.artifact.name, d.artifact.programs) for d in downloads}
    outputs = [output for recipe in recipes.values() for output in recipe.outputs if output.kind != "objects"]
    locked |= {(image, next(o.programs for o in outputs if o.name == image)) for image in versions.images}
    assert locked == {(output.name, output.programs) for output in outputs}
    assert all(image.version for image in upstream.upstream_images(versions, architecture))
    assert all("{" not in d.artifact.url + d.checksum_url for d in downloads)
    assert all(d.artifact.url.startswith("https://") for d in downloads)


def test_sources_are_told_apart() -> None:
    assert Where().source == "upstream"
    assert dataclasses.replace(Where(), bases={"etcd": "http://x"}).source == "mirror"
