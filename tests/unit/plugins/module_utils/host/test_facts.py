# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of a host's files and of what its tools print; and that a probe of this machine is one."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core import places
from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import PkiSeen, SeenFile
from ansible_collections.slipway.cluster.plugins.module_utils.host import facts, probe
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.planner import observation
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.probe import Probe


class Table(Machine):
    """A machine of given files and commands' outputs."""

    def __init__(self, files: dict[str, str] | None = None, answers: dict[str, str] | None = None) -> None:
        self.files = files or {}
        self.answers = answers or {}

    def run(self, argv: t.Sequence[str], **_: t.Any) -> Output:
        answer = self.answers.get(" ".join(argv))
        return Output(127, "", "not found") if answer is None else Output(0, answer, "")

    def exists(self, path: str) -> bool:
        return path in self.files

    def read(self, path: str) -> bytes | None:
        return self.files[path].encode() if path in self.files else None


def test_the_system_is_what_its_files_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "clock_synchronized", lambda: None)
    found = facts.system_facts(
        Table(
            {
                "/etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 13"\nID=debian\nVERSION_ID="13"\n',
                "/etc/machine-id": "abc\n",
                "/proc/meminfo": "MemTotal:        2048 kB\nMemFree: 1 kB\n",
                "/proc/swaps": "Filename Type\n/dev/sda2 partition\n",
                "/sys/fs/cgroup/cgroup.controllers": "cpu",
                "/etc/resolv.conf": "nameserver 10.0.0.53\n",
            }
        )
    )
    assert found["os"] == {"id": "debian", "version_id": "13"}
    assert (found["machine_id"], found["memory_bytes"], found["cgroup"]) == ("abc", 2048 * 1024, 2)
    assert found["swaps"] == ["/dev/sda2"]
    assert (found["kernel_modules"], found["resolvers"]) == (False, ["10.0.0.53"])
    assert set(found["programs"]) == set(places.PACKAGES)


def test_a_system_that_says_nothing_is_unknown() -> None:
    found = facts.system_facts(Table())
    assert found["os"] == {"id": "", "version_id": ""}
    assert (found["memory_bytes"], found["cgroup"], found["machine_id"]) == (0, 1, "")


def test_the_clock_is_what_the_kernel_says(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        state: t.ClassVar[int] = 0

        def __init__(self, _name: None) -> None:
            pass

        def adjtimex(self, _buffer: t.Any) -> int:
            return self.state

    monkeypatch.setattr(ctypes, "CDLL", Kernel)
    assert facts.clock_synchronized() is True
    Kernel.state = 5
    assert facts.clock_synchronized() is False

    def none(_name: None) -> t.NoReturn:
        raise OSError

    monkeypatch.setattr(ctypes, "CDLL", none)
    assert facts.clock_synchronized() is None


@pytest.mark.parametrize(
    ("said", "running", "version"),
    [("systemd 257 (257.9-1)\n+PAM", True, 257), ("systemd 257\n", False, 0), ("", True, 0)],
)
def test_systemd_counts_when_it_runs_the_system(
    monkeypatch: pytest.MonkeyPatch, said: str, version: int, *, running: bool
) -> None:
    monkeypatch.setattr(os.path, "isdir", lambda _path: running)
    assert facts.systemd_version(Table(answers={"systemctl --version": said})) == version


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"/etc/resolv.conf": "# x\nnameserver 10.0.0.53\nsearch x\n"}, ("/etc/resolv.conf", ["10.0.0.53"])),
        (
            {
                "/etc/resolv.conf": "nameserver 127.0.0.53\n",
                "/run/systemd/resolve/resolv.conf": "nameserver 10.0.0.1\nnameserver 10.0.0.2\n",
            },
            ("/run/systemd/resolve/resolv.conf", ["10.0.0.1", "10.0.0.2"]),
        ),
        ({"/etc/resolv.conf": "nameserver 127.0.0.1\n"}, ("/etc/resolv.conf", ["127.0.0.1"])),
        ({}, ("/etc/resolv.conf", [])),
    ],
)
def test_the_stub_on_loopback_is_looked_through(files: dict[str, str], expected: tuple[str, list[str]]) -> None:
    found = facts.resolver_facts(Table(files))
    assert (found["resolv_conf"], found["resolvers"]) == expected


def test_proxies_of_the_system_and_of_this_session(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "10.0.0.0/8")
    text = 'PATH="/bin"\nhttp_proxy="http://a:1"\n  export HTTPS_PROXY=http://b:2\n#ftp_proxy=x\n'
    assert facts.proxy_environment(Table({"/etc/environment": text})) == {
        "HTTP_PROXY": "http://a:1",
        "HTTPS_PROXY": "http://b:2",
        "NO_PROXY": "10.0.0.0/8",
    }


def test_a_path_is_on_the_innermost_mount_that_is_there(tmp_path: pathlib.Path) -> None:
    table = [["/", "ext4"], [str(tmp_path), "tmpfs"], [str(tmp_path) + "x", "xfs"]]
    found = facts._mount(str(tmp_path / "not/yet"), table)
    assert (found["mount"], found["filesystem"]) == (str(tmp_path), "tmpfs")
    assert 0 < found["free_bytes"] <= found["total_bytes"]
    assert facts._mount("/", [])["mount"] == "/"
    assert set(facts.mount_facts(Table({"/proc/mounts": "/dev/sda1 / ext4 rw 0 0\n"}))) == set(places.MOUNTS)


ADDRESSES = json.dumps(
    [
        {"ifname": "lo", "mtu": 65536, "addr_info": [{"local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth0", "mtu": 1500, "addr_info": [
            {"local": "fe80::1", "prefixlen": 64}, {"local": "10.0.0.11", "prefixlen": 24}, {"family": "x"},
        ]},
        {"ifname": "down", "mtu": 1500},
    ]
)  # fmt: skip


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ('[{"dst": "default", "dev": "eth0"}]', {"interface": "eth0", "source": "10.0.0.11"}),
        ('[{"dst": "default", "dev": "eth0", "prefsrc": "10.9.9.9"}]', {"interface": "eth0", "source": "10.9.9.9"}),
        ('[{"dst": "default", "dev": "down"}]', None),
        ('[{"dst": "default"}]', None),
        ("[]", None),
        ("broken", None),
        ("{}", None),
    ],
)
def test_the_source_of_the_default_route(routes: str, expected: dict[str, str] | None) -> None:
    answers = {"ip -j addr show": ADDRESSES, "ip -j -4 route show default": routes}
    found = facts.address_facts(Table(answers=answers))
    assert found["default_route"] == expected
    assert [each["address"] for each in found["addresses"]] == ["127.0.0.1", "fe80::1", "10.0.0.11"]
    assert found["addresses"][2] == {"interface": "eth0", "address": "10.0.0.11", "prefix": 24, "mtu": 1500}


def test_a_host_without_the_tool_has_no_addresses() -> None:
    assert facts.address_facts(Table()) == {"addresses": [], "default_route": None}


def test_ports_are_known_with_process_and_unit() -> None:
    lines = """\
LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=7,fd=3))
LISTEN 0 128 [::]:22 [::]:* users:(("sshd",pid=8,fd=4))
LISTEN 0 4096 127.0.0.1:6444 0.0.0.0:*
LISTEN 0 4096 *:80 *:* users:(("traefik",pid=9,fd=9))
short
"""
    groups = {
        "/proc/7/cgroup": "0::/system.slice/ssh.service\n",
        "/proc/8/cgroup": "0::/user.slice/session-1.scope\n",
        "/proc/9/cgroup": "0::/kubepods.slice/kubepods-burstable.slice/kubepods-podb1.slice/cri-containerd-c.scope\n",
    }
    machine = Table(groups, {"ss -Hltnp": lines})
    assert facts.listening_facts(machine) == [
        {"protocol": "tcp", "address": "0.0.0.0", "port": 22, "process": "sshd", "unit": "ssh.service"},  # noqa: S104
        {"protocol": "tcp", "address": "[::]", "port": 22, "process": "sshd", "unit": ""},
        {"protocol": "tcp", "address": "127.0.0.1", "port": 6444, "process": "", "unit": ""},
        {"protocol": "tcp", "address": "*", "port": 80, "process": "traefik", "unit": "kubepods.slice"},
    ]


def test_a_port_whose_process_is_not_known_yet_is_looked_at_again() -> None:
    """A unit that ends and is started again, as an etcd member that was removed: its process came after the look."""
    nobody = "LISTEN 0 4096 10.0.0.11:2380 0.0.0.0:*"
    known = f'{nobody} users:(("etcd",pid=7,fd=3))'

    class Restarting(Table):
        def run(self, argv: t.Sequence[str], **_: t.Any) -> Output:
            return Output(0, answers.pop(0), "")

    answers = [nobody, known, "not asked for"]
    found = facts.listening_facts(Restarting({"/proc/7/cgroup": "0::/system.slice/etcd.service\n"}))
    assert [(each["process"], each["unit"]) for each in found] == [("etcd", "etcd.service")]
    assert answers == ["not asked for"]
    answers = [nobody, ""]
    assert facts.listening_facts(Restarting()) == []


def test_a_port_of_a_process_that_ended_meanwhile_is_free() -> None:
    class Gone(Table):
        def read(self, path: str) -> bytes | None:
            raise ProcessLookupError

    line = 'LISTEN 0 4096 *:10259 *:* users:(("kube-scheduler",pid=7,fd=3))\n'

    class Closed(Table):
        def read(self, path: str) -> bytes | None:
            raise PermissionError

    assert [each["unit"] for each in facts.listening_facts(Closed({}, {"ss -Hltnp": line}))] == [""]
    for machine in (Table({}, {"ss -Hltnp": line}), Gone({}, {"ss -Hltnp": line})):
        assert facts.listening_facts(machine) == []


# --- the probe --------------------------------------------------------------------------------------------------------
def test_marks_of_a_cluster() -> None:
    machine = Table(
        {
            places.CLUSTER: '{"name": "prod", "id": "1"}',
            places.NODE_NAME: "node-1\n",
            places.AUTHORITIES["kubernetes"]: "PEM",
            places.KUBEADM_LEFTOVERS[0]: "",
        }
    )
    assert probe.cluster_facts(machine) == {
        "cluster": {"name": "prod", "id": "1"},
        "node_name": "node-1",
        "authority_certificates": {"kubernetes": "PEM"},
        "kubeadm_leftovers": [places.KUBEADM_LEFTOVERS[0]],
    }
    assert probe.cluster_facts(Table())["node_name"] is None
    assert probe.cluster_facts(Table({places.CLUSTER: "half"}))["cluster"] is None


def test_an_authority_that_cannot_be_read_has_no_fingerprint() -> None:
    broken = SeenFile("other", "root", "root", "0644", "d")
    found = probe.authority_fingerprints(PkiSeen({places.AUTHORITIES["etcd"]: broken}))
    assert found == {"kubernetes": None, "front-proxy": None, "etcd": None}


def test_only_a_host_with_an_api_server_knows_nodes() -> None:
    assert probe.observe_nodes(Machine()) is None or os.path.exists(places.KUBECTL)  # noqa: PTH110

    class ControlPlane(Table):
        def __init__(self, output: Output) -> None:
            super().__init__({places.KUBECTL: "", places.ADMIN_CONF: ""})
            self.output = output

        def run(self, argv: t.Sequence[str], **options: t.Any) -> Output:
            assert argv[0] == places.KUBECTL
            assert options["env"]["KUBECONFIG"] == places.ADMIN_CONF
            return self.output

    nodes = {"items": [{"metadata": {"name": "cp1"}, "status": {}}]}
    found = probe.observe_nodes(ControlPlane(Output(0, json.dumps(nodes), "")))
    assert found is not None
    assert [node["name"] for node in found["nodes"]] == ["cp1"]
    assert probe.observe_nodes(ControlPlane(Output(1, "", "refused"))) is None


def test_a_probe_of_this_machine_is_what_the_planner_reads() -> None:
    """The real one, of a machine that is not a cluster's host; it is data, and the planner understands it."""
    data = json.loads(json.dumps(probe.probe(Machine(), ["kernel.pid_max"])))
    typed = Probe.from_data(data)
    assert typed.cpus > 0
    assert typed.memory_bytes > 0
    seen = observation(data)
    assert seen.kernel.sysctls["kernel.pid_max"].isdigit()
    assert seen.joined is False
