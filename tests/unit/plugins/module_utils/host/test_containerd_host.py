# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What containerd's module makes of what the host's tools say."""

from __future__ import annotations

import hashlib
import pathlib
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core import containerd as core
from ansible_collections.slipway.cluster.plugins.module_utils.core.containerd import ContainerdWant, Image, Registry
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import SeenState
from ansible_collections.slipway.cluster.plugins.module_utils.host import containerd
from ansible_collections.slipway.cluster.plugins.module_utils.host.containerd import ContainerdSeen, plan_containerd
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output

PLUGINS = """\
TYPE                                      ID                       PLATFORMS      STATUS
io.containerd.content.v1                  content                  -              ok
io.containerd.snapshotter.v1              btrfs                    linux/amd64    skip
io.containerd.cri.v1                      images                   -              ok
io.containerd.cri.v1                      runtime                  linux/amd64    ok
io.containerd.grpc.v1                     cri                      -              ok
"""
REFERENCE = "slipway.local/pause:1"


class Tools(Machine):
    """A machine whose commands answer from a table, and remembers them."""

    def __init__(self, answers: dict[str, Output]) -> None:
        self.answers = answers
        self.commands: list[list[str]] = []

    def run(self, argv: t.Sequence[str], **_: t.Any) -> Output:
        self.commands.append(list(argv))
        return next((answer for words, answer in self.answers.items() if words in " ".join(argv)), Output(0, "", ""))

    def exists(self, path: str) -> bool:
        return path in (core.SOCKET, core.CTR) or super().exists(path)


@pytest.mark.parametrize(
    ("plugins", "trouble"),
    [
        (Output(0, PLUGINS, ""), None),
        (Output(0, PLUGINS.replace("linux/amd64    ok", "linux/amd64    error"), ""), "io.containerd.cri.v1.runtime"),
        (Output(0, PLUGINS.replace("cri  ", "cro  "), ""), "no CRI plugin"),
        (Output(1, "", "connection refused"), "address already in use"),
    ],
)
def test_containerd_is_ready_when_its_cri_works(plugins: Output, trouble: str | None) -> None:
    machine = Tools({"plugins ls": plugins, "journalctl": Output(0, "address already in use\n", "")})
    found = containerd._cri_trouble(machine)
    assert found is None if trouble is None else trouble in (found or "")


@pytest.fixture
def blob(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    monkeypatch.setattr(core, "BLOBS", str(tmp_path))
    image = Image(REFERENCE, hashlib.sha256(b"archive").hexdigest())
    pathlib.Path(image.blob).write_bytes(b"archive")
    return image


def test_an_image_is_imported_then_labelled_and_its_archive_removed(blob: Image) -> None:
    machine = Tools({})
    change = core.plan_images([blob], {})[0]
    containerd.apply_containerd(machine, ContainerdWant(images=(blob,)), change)
    images = [core.CTR, "--namespace", "k8s.io", "images"]
    labels = [f"cluster.slipway/blob={blob.sha256}", "io.cri-containerd.pinned=pinned"]
    assert machine.commands == [[*images, "import", "--local", blob.blob], [*images, "label", REFERENCE, *labels]]
    assert not pathlib.Path(blob.blob).exists()


def test_a_host_that_serves_keeps_the_archive(blob: Image) -> None:
    change = core.plan_images([blob], {})[0]
    containerd.apply_containerd(Tools({}), ContainerdWant(keep_blobs=True), change)
    assert pathlib.Path(blob.blob).exists()


def test_a_wrong_archive_is_refused(blob: Image) -> None:
    pathlib.Path(blob.blob).write_bytes(b"other")
    with pytest.raises(SlipwayError, match=r"had sha256 .* and was removed"):
        containerd.import_image(Tools({}), blob)
    assert not pathlib.Path(blob.blob).exists()
    with pytest.raises(SlipwayError, match="is not on this host"):
        containerd.import_image(Tools({}), blob)


def test_an_archive_of_another_image_is_said(blob: Image) -> None:
    with pytest.raises(SlipwayError, match="after its archive was imported: image not found"):
        containerd.import_image(Tools({"images label": Output(1, "", "image not found")}), blob)
    assert pathlib.Path(blob.blob).exists()


def test_a_bare_host_announces_all_and_stale_registries_go_first(blob: Image) -> None:
    want = ContainerdWant(images=(blob,), registries=(Registry("quay.io"),))
    names = [change.name for change in plan_containerd(want, ContainerdSeen(SeenState(), {}, ("docker.io",)))]
    assert names[0] == "remove registry docker.io"
    assert names[-2:] == ["start containerd.service", f"import image {REFERENCE}"]
    assert "write /etc/containerd/certs.d/quay.io/hosts.toml" in names


def test_only_registries_of_ours_are_seen(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containerd, "REGISTRIES_PATH", str(tmp_path))
    for host, text in (("docker.io", core.MARKER + 'server = "x"\n'), ("own.example", 'server = "y"\n')):
        (tmp_path / host).mkdir()
        (tmp_path / host / "hosts.toml").write_text(text)
    assert list(containerd.our_registries(Machine())) == ["docker.io"]
