# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for what a reset removes, and removing files, without a cluster. The rest is seen on lab hosts."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.reset import OwnUnit
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import SeenUnit
from ansible_collections.slipway.cluster.plugins.module_utils.host import reset
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output

MOUNTS = """\
/dev/vda / ext4 rw 0 0
/dev/vdb /var/lib/kubelet ext4 rw 0 0
tmpfs /var/lib/kubelet/pods/a/volumes/x tmpfs rw 0 0
nfs /var/lib/kubelet/pods/a/volumes/with\\040blank nfs rw 0 0
tmpfs /var/lib/kubelet/pods/a/volumes/x/inner tmpfs rw 0 0
tmpfs /var/lib/kubelet-of-others tmpfs rw 0 0
"""


class FakeMachine(Machine):
    """A machine with these files and these answers; removals go to the real file system."""

    def __init__(self, files: dict[str, str] | None = None, answers: dict[str, str] | None = None) -> None:
        self.files, self.answers = files or {}, answers or {}

    def read_text(self, path: str) -> str | None:
        return self.files.get(path)

    def run(self, argv: t.Sequence[str], **_options: t.Any) -> Output:
        answer = self.answers.get(" ".join(argv))
        return Output(0, answer, "") if answer is not None else Output(127, "", "no such program")


def test_mounts_below_a_path_come_innermost_first() -> None:
    mounted = reset.mount_points(FakeMachine({"/proc/self/mounts": MOUNTS}))
    found = reset.below("/var/lib/kubelet", mounted)
    assert found[0] == "/var/lib/kubelet/pods/a/volumes/x/inner"
    assert sorted(found[1:]) == ["/var/lib/kubelet/pods/a/volumes/with blank", "/var/lib/kubelet/pods/a/volumes/x"]


@pytest.mark.parametrize(
    ("listing", "found"),
    [
        ("table ip kube-proxy\ntable ip6 kube-proxy\n", ("ip kube-proxy", "ip6 kube-proxy")),
        ("table inet filter\ntable ip nat\ntable ip flannel-ipv4\n", ("ip flannel-ipv4",)),
        ("", ()),
        (None, ()),
    ],
)
def test_only_tables_of_ours(listing: str | None, found: tuple[str, ...]) -> None:
    assert reset.tables(FakeMachine(answers={} if listing is None else {"nft list tables": listing})) == found


def test_only_interfaces_of_the_pods() -> None:
    links = [
        {"ifname": "lo"},
        {"ifname": "docker0"},
        {"ifname": "veth9", "master": "docker0"},
        {"ifname": "veth1", "master": "cni0"},
        {"ifname": "flannel.1"},
        {"ifname": "cni0"},
        {},
    ]
    machine = FakeMachine(answers={"ip -j link show": json.dumps(links)})
    assert reset.interfaces(machine) == ("veth1", "cni0", "flannel.1")
    assert reset.interfaces(FakeMachine()) == ()


def apply(machine: Machine, verb: str, argument: t.Any) -> None:
    reset._VERBS[verb](machine, argument)


def test_a_mount_point_is_emptied_and_stays(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "file").touch()
    machine = FakeMachine({"/proc/self/mounts": f"x {tmp_path}/data ext4 rw 0 0\n"})
    apply(machine, "remove", (f"{tmp_path}/data",))
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]
    assert list((tmp_path / "data").iterdir()) == []


def test_a_file_system_mounted_below_is_never_reached_into(tmp_path: pathlib.Path) -> None:
    (tmp_path / "data" / "volume").mkdir(parents=True)
    (tmp_path / "data" / "volume" / "precious").touch()
    machine = FakeMachine({"/proc/self/mounts": f"x {tmp_path}/data/volume nfs rw 0 0\n"})
    with pytest.raises(SlipwayError, match="is mounted there"):
        apply(machine, "remove", (f"{tmp_path}/data",))
    assert (tmp_path / "data" / "volume" / "precious").exists()


def test_directories_go_only_when_empty(tmp_path: pathlib.Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").touch()
    for name in ("empty", "used", "missing"):
        apply(FakeMachine(), "directory", str(tmp_path / name))
    assert list(tmp_path.iterdir()) == [tmp_path / "used"]


@pytest.mark.parametrize(
    ("text", "shown", "found"),
    [
        ("# Written by Slipway\n", SeenUnit(True, "active", enabled=True), OwnUnit(up=True, file=True)),
        ("Environment=SLIPWAY_DIGEST=1\n", SeenUnit(True, "failed"), OwnUnit(file=True)),
        ("[Unit]\nDescription=of others\n", SeenUnit(True, "active"), None),
        (None, SeenUnit(True, "active"), None),
        (None, SeenUnit(True, "active", digest="1"), OwnUnit(up=True)),
        (None, SeenUnit(True, "inactive", needs_reload=True), OwnUnit(stale=True)),
        (None, None, None),
    ],
)
def test_whose_unit_it_is(
    monkeypatch: pytest.MonkeyPatch, text: str | None, shown: SeenUnit | None, found: OwnUnit | None
) -> None:
    monkeypatch.setattr(reset, "show_units", lambda *_: {"containerd.service": shown} if shown else {})
    monkeypatch.setattr(reset, "unit_links", lambda _name: [])
    files = {"/etc/systemd/system/containerd.service": text} if text is not None else {}
    assert reset.observe_units(FakeMachine(files)).get("containerd.service") == found


def test_processes_of_pods_and_of_their_shims() -> None:
    """The one that runs this test is neither in a pod nor below a shim of ours."""
    assert os.getpid() not in reset.container_pids(Machine())


def test_children_of_a_shim_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    stat = {
        "10": "10 (containerd-shim) S 1 1",
        "11": "11 (a (b) c) S 10 1",
        "12": "12 (sh) S 11 1",
        "13": "13 (x) S 1 1",
    }
    monkeypatch.setattr("os.listdir", lambda _path: [*stat, "self"])
    monkeypatch.setattr("os.readlink", lambda path: f"/opt/slipway/containerd/2/containerd-shim-runc-v2#{path}")
    files = {f"/proc/{pid}/stat": text for pid, text in stat.items()}
    files["/proc/10/cmdline"] = "/opt/slipway/containerd/2/containerd-shim-runc-v2\0-namespace\0k8s.io"
    assert reset.container_pids(FakeMachine(files)) == {10, 11, 12}
