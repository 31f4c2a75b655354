# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observing and preparing a host whose files and commands are tables."""

from __future__ import annotations

import pathlib
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import (
    FORMED,
    INITIAL,
    EtcdSeen,
    EtcdWant,
    plan_etcd,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.preparation import HostWant, plan_host
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import HostState, Link, SeenState
from ansible_collections.slipway.cluster.plugins.module_utils.host import etcd, preparation
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.module_utils.host.preparation import (
    apply_host,
    loaded_modules,
    observe_host,
)


class Table(Machine):
    """A machine of given files and programs; commands are remembered and answered from ``answers``."""

    def __init__(
        self,
        files: dict[str, str] | None = None,
        programs: t.Container[str] = (),
        answers: dict[str, Output] | None = None,
    ) -> None:
        self.files = files or {}
        self.programs = programs
        self.answers = answers or {}
        self.commands: list[str] = []
        self.written: dict[str, tuple[str, int]] = {}

    def run(self, argv: t.Sequence[str], **_: t.Any) -> Output:
        command = " ".join(argv)
        self.commands.append(command)
        return next((answer for words, answer in self.answers.items() if words in command), Output(0, "", ""))

    def which(self, program: str) -> str | None:
        return f"/usr/bin/{program}" if program in self.programs else None

    def exists(self, path: str) -> bool:
        return path in self.files

    def read(self, path: str) -> bytes | None:
        return self.files[path].encode() if path in self.files else None

    def write(self, path: str, content: bytes, *, mode: int, owner: str = "root", group: str = "root") -> None:
        self.written[path] = (content.decode(), mode)
        self.files[path] = content.decode()

    def remove(self, path: str) -> None:
        self.files.pop(path, None)


# --- observing --------------------------------------------------------------------------------------------------------
def test_the_kernel_is_seen_as_its_files_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "FSTAB", "/fstab")
    machine = Table(
        {
            "/proc/modules": "overlay 1 0 - Live 0x0\nvxlan 1 0\n",
            "/sys/module/br_netfilter": "",
            "/proc/sys/net/ipv4/ip_forward": "1\n",
            "/proc/sys/net/ipv4/tcp_rmem": "4096\t131072\t6291456\n",
            "/proc/swaps": "Filename Type\n/dev/sda2 partition 1 0 -2\n",
            "/fstab": "/dev/sda2 none swap sw 0 0\n",
        },
        programs={"ip"},
    )
    want = HostWant(
        packages={"ip": "iproute2", "nft": "nftables"},
        modules=("overlay", "br_netfilter", "absent"),
        sysctls={"net.ipv4.ip_forward": "1", "net.ipv4.tcp_rmem": "", "no.such": "1"},
    )
    seen = observe_host(machine, want)
    assert seen.programs == {"ip"}
    assert seen.modules == frozenset({"overlay", "br_netfilter"})
    assert seen.sysctls == {"net.ipv4.ip_forward": "1", "net.ipv4.tcp_rmem": "4096 131072 6291456"}
    assert (seen.swaps, seen.swap_entries) == (("/dev/sda2",), ("/dev/sda2",))


def test_modules_that_are_built_in_are_there() -> None:
    class BuiltIn(Table):
        def read(self, path: str) -> bytes | None:
            return b"kernel/net/bridge/br-netfilter.ko\n" if path.endswith("modules.builtin") else super().read(path)

    assert loaded_modules(BuiltIn({"/proc/modules": ""}), ["br_netfilter", "vxlan"]) == frozenset({"br_netfilter"})
    assert loaded_modules(Table(), ["vxlan"]) is None


# --- applying ---------------------------------------------------------------------------------------------------------
def change(verb: str, item: t.Any) -> Change:
    return Change(verb, data=(verb, item))


def test_packages_come_from_apt_after_what_was_cut_off_is_finished() -> None:
    machine = Table()
    apply_host(machine, change("packages", ["haproxy", "nftables"]))
    assert [command.split(" ", 1)[0] for command in machine.commands] == ["dpkg", "apt-get", "apt-get", "systemctl"]
    assert machine.commands[0] == "dpkg --configure -a"
    assert machine.commands[2].endswith("--no-install-recommends install haproxy nftables")
    assert machine.commands[3] == "systemctl disable --now haproxy.service"
    other = Table()
    apply_host(other, change("packages", ["nftables"]))
    assert not any("haproxy" in command for command in other.commands)


def test_packages_that_cannot_be_had_are_a_problem_that_says_so() -> None:
    machine = Table(answers={"install": Output(100, "", "E: Unable to locate\npackage nftables\n")})
    with pytest.raises(SlipwayError) as caught:
        apply_host(machine, change("packages", ["nftables"]))
    (problem,) = caught.value.problems
    assert problem.where == "packages nftables"
    assert "E: Unable to locate package nftables" in problem.found
    assert problem.remedy


def test_a_module_is_loaded_and_a_setting_written(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Table()
    apply_host(machine, change("module", "overlay"))
    assert machine.commands == ["modprobe overlay"]
    opened: list[str] = []

    def redirected(path: str, *arguments: t.Any, **options: t.Any) -> t.Any:
        opened.append(path)
        return (tmp_path / "value").open(*arguments, **options)

    monkeypatch.setattr("builtins.open", redirected)
    apply_host(machine, change("sysctl", ("net.ipv4.ip_forward", "1")))
    monkeypatch.undo()
    assert opened == ["/proc/sys/net/ipv4/ip_forward"]
    assert (tmp_path / "value").read_text() == "1"


def test_swap_is_off_now_and_at_the_next_boot(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "fstab"
    table.write_text("/dev/sda2 none swap sw 0 0\n")
    table.chmod(0o640)
    monkeypatch.setattr(preparation, "FSTAB", str(table))
    machine = Table({str(table): table.read_text()})
    apply_host(machine, change("swap", ("/dev/sda2",)))
    assert machine.commands == ["swapoff -a", "systemctl daemon-reload"]
    assert machine.written[str(table)] == ("# switched off by Slipway: /dev/sda2 none swap sw 0 0\n", 0o640)
    alone = Table()
    apply_host(alone, change("swap", ()))
    assert alone.commands == ["swapoff -a"]
    assert alone.written == {}


def test_users_and_paths_are_any_components(tmp_path: pathlib.Path) -> None:
    link = Link(f"{tmp_path}/l", "/x")
    (planned,) = plan_host(HostWant(HostState(links=(link,))), observe_host(Table(), HostWant()))
    apply_host(Table(), planned)
    assert str((tmp_path / "l").readlink()) == "/x"


# --- etcd -------------------------------------------------------------------------------------------------------------
WANT = EtcdWant(HostState(), "cp1", {"cp1": "https://10.0.0.11:2380"}, "token", bootstrap=True)
STATUS = '[{"Status": {"header": {"cluster_id": 255, "member_id": 16}}}]'
HEALTHY = {"endpoint health": Output(0, '[{"health": true}]', ""), "endpoint status": Output(0, STATUS, "")}


def test_a_member_forms_between_its_two_marks() -> None:
    machine = Table(answers=HEALTHY)
    intent, formed = plan_etcd(WANT, etcd.observe_etcd(machine, WANT))
    etcd.apply_etcd(machine, WANT, intent)
    assert machine.written[INITIAL] == (WANT.initial, 0o644)
    halfway = etcd.observe_marks(machine, SeenState())
    assert (halfway.formed, halfway.initial) == (False, WANT.initial)
    etcd.apply_etcd(machine, WANT, formed)
    assert machine.written[FORMED] == ('{"cluster": "ff", "member": "10"}\n', 0o644)
    assert etcd.observe_marks(machine, SeenState()).formed
    assert INITIAL not in machine.files
    (removal,) = plan_etcd(WANT, EtcdSeen(formed=True, data=True, initial="x"))
    machine.files[INITIAL] = "x"
    etcd.apply_etcd(machine, WANT, removal)
    assert INITIAL not in machine.files


def test_an_empty_directory_is_no_data(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """etcd makes member/snap before it finds that it may not start."""
    monkeypatch.setattr(etcd, "WAL", str(tmp_path / "member/wal"))
    (tmp_path / "member/snap").mkdir(parents=True)
    assert not etcd.observe_marks(Table(), SeenState()).data
    (tmp_path / "member/wal").mkdir()
    assert etcd.observe_marks(Table(), SeenState()).data


@pytest.mark.parametrize(
    "answer", [Output(1, '[{"health": false}]', ""), Output(1, "", "refused"), Output(0, "not json", "")]
)
def test_a_member_without_quorum_is_not_up(monkeypatch: pytest.MonkeyPatch, answer: Output) -> None:
    monkeypatch.setattr(etcd, "HEALTH_TIMEOUT_SECONDS", 0.0)
    machine = Table(answers={"endpoint health": answer, "journalctl": Output(0, "no leader\n", "")})
    with pytest.raises(SlipwayError, match="no leader"):
        etcd.settle_etcd(machine)
