# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""etcd and the control plane, as their host sees them."""

from __future__ import annotations

import json
import typing as t

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://slipway_control_plane"]

# Each of these is also the name of the user and of the group that run it.
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
UNITS = (*(f"{name}.service" for name in COMPONENTS), "slipway-keeper.timer", "slipway-keeper.service")

SANDBOX = {
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "RestrictSUIDSGID": "yes",
    "RestrictRealtime": "yes",
    "LockPersonality": "yes",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}
MAY_WRITE = {
    "etcd": "/var/lib/etcd",
    "kube-apiserver": "/var/log/kubernetes/audit",
    "kube-controller-manager": "",
    "kube-scheduler": "",
}
MODES = {
    "/etc/kubernetes/pki": ("directory", "root", "755"),
    "/etc/kubernetes/pki/etcd": ("directory", "root", "755"),
    "/etc/kubernetes/admin": ("directory", "root", "700"),
    "/etc/kubernetes/kube-apiserver": ("directory", "kube-apiserver", "700"),
    "/etc/kubernetes/kube-controller-manager": ("directory", "kube-controller-manager", "700"),
    "/etc/kubernetes/kube-scheduler": ("directory", "kube-scheduler", "700"),
    "/etc/etcd/pki": ("directory", "etcd", "700"),
    "/var/lib/etcd": ("directory", "etcd", "700"),
    "/var/log/kubernetes/audit": ("directory", "kube-apiserver", "700"),
    "/var/log/kubernetes/audit/audit.log": ("regular file", "kube-apiserver", "600"),
    "/etc/kubernetes/admin.conf": ("regular file", "root", "600"),
    "/etc/kubernetes/kube-apiserver/authentication.yaml": ("regular file", "kube-apiserver", "600"),
    "/etc/kubernetes/kube-controller-manager/kubeconfig": ("regular file", "kube-controller-manager", "600"),
    "/etc/kubernetes/kube-scheduler/kubeconfig": ("regular file", "kube-scheduler", "600"),
    "/etc/kubernetes/pki/ca.crt": ("regular file", "root", "644"),
    "/etc/kubernetes/pki/sa.pub": ("regular file", "root", "644"),
    "/etc/systemd/system/etcd.service": ("regular file", "root", "644"),
    "/etc/systemd/system/kube-apiserver.service": ("regular file", "root", "644"),
}


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_runs_and_comes_back_after_a_boot(units: dict[str, dict[str, str]], name: str) -> None:
    seen = units[f"{name}.service"]
    assert (seen["ActiveState"], seen["SubState"], seen["UnitFileState"]) == ("active", "running", "enabled")
    assert seen["NeedDaemonReload"] == "no"


def test_keeper_runs_by_its_timer(host: Host, units: dict[str, dict[str, str]]) -> None:
    timer = units["slipway-keeper.timer"]
    assert (timer["ActiveState"], timer["UnitFileState"]) == ("active", "enabled")
    assert units["slipway-keeper.service"]["Result"] == "success"
    assert json.loads(host.check_output("cat /var/lib/slipway/keeper.json"))


@pytest.mark.parametrize("name", COMPONENTS)
def test_user_is_for_one_component_and_nobody_can_log_in_as_it(host: Host, name: str) -> None:
    answer = host.check_output(f"getent passwd {name}; getent shadow {name}; id --groups --name {name}")
    passwd, shadow, groups = answer.splitlines()
    _name, _password, uid, _gid, _gecos, home, shell = passwd.split(":")
    assert 0 < int(uid) < 1000
    assert (home, shell) == ("/nonexistent", "/usr/sbin/nologin")
    assert shadow.split(":")[1].startswith("!")
    assert groups == name


@pytest.mark.parametrize("name", COMPONENTS)
def test_systemd_holds_the_component_in_a_sandbox(units: dict[str, dict[str, str]], name: str) -> None:
    seen = units[f"{name}.service"]
    assert (seen["User"], seen["Group"]) == (name, name)
    assert {key: seen[key] for key in SANDBOX} == SANDBOX
    assert seen["ReadWritePaths"] == MAY_WRITE[name]


@pytest.mark.parametrize("name", COMPONENTS)
def test_kernel_holds_the_process_in_it(host: Host, units: dict[str, dict[str, str]], name: str) -> None:
    proc = f"/proc/{units[f'{name}.service']['MainPID']}"
    answer = host.check_output(
        f"id --user {name}; id --group {name}; readlink {proc}/exe; readlink -f /opt/slipway/{name}/current/{name};"
        f" cat {proc}/status"
    )
    uid, gid, running, current, *lines = answer.splitlines()
    status = {key: value.split() for key, value in (line.split(":", 1) for line in lines)}
    assert running == current
    assert (status["Uid"], status["Gid"], status["Groups"]) == ([uid] * 4, [gid] * 4, [gid])
    assert [status[key] for key in ("CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb")] == [["0" * 16]] * 5
    assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"])


@pytest.mark.parametrize("name", COMPONENTS)
def test_component_sees_a_root_it_cannot_write(host: Host, units: dict[str, dict[str, str]], name: str) -> None:
    mounts = host.check_output(f"cat /proc/{units[f'{name}.service']['MainPID']}/mountinfo").splitlines()
    options = {words[4]: words[5].split(",")[0] for words in map(str.split, mounts)}
    assert options["/"] == "ro"
    assert not MAY_WRITE[name] or options[MAY_WRITE[name]] == "rw"


def test_sockets(inventory: t.Mapping[str, t.Any], sockets: set[tuple[str, int, str]]) -> None:
    own = inventory["ansible_host"]
    apiserver, manager, scheduler = "kube-apiserver", "kube-controller", "kube-scheduler"  # at most 15 characters
    assert {socket for socket in sockets if socket[2] in {"etcd", apiserver, manager, scheduler}} == {
        ("*", 6443, apiserver),
        (own, 2379, "etcd"),
        ("127.0.0.1", 2379, "etcd"),
        (own, 2380, "etcd"),
        ("127.0.0.1", 2381, "etcd"),
        ("127.0.0.1", 10257, manager),
        ("127.0.0.1", 10259, scheduler),
    }


def test_files(stat: t.Callable[[t.Iterable[str]], dict[str, tuple[str, str, str, str]]]) -> None:
    assert stat(MODES) == {path: (kind, owner, owner, mode) for path, (kind, owner, mode) in MODES.items()}


def test_kubeconfigs_name_files_and_hold_no_key(host: Host) -> None:
    paths = [path for path in MODES if path.endswith(("admin.conf", "/kubeconfig"))]
    for config in [host.check_output(f"cat {path}") for path in paths]:
        assert "client-key: /etc/kubernetes/" in config
        assert "key-data" not in config


def test_copies_of_a_key_are_equal(host: Host) -> None:
    readers = {
        "ca.key": ["kube-controller-manager"],
        "sa.key": ["kube-apiserver", "kube-controller-manager"],
        "encryption.yaml": ["kube-apiserver"],
    }
    for name, users in readers.items():
        paths = " ".join(f"/etc/kubernetes/{place}/{name}" for place in ["pki", *users])
        assert len({line.split()[0] for line in host.check_output(f"sha256sum {paths}").splitlines()}) == 1


def test_tools_are_on_the_path(host: Host) -> None:
    assert host.check_output("command -v kubectl etcdctl etcdutl").split() == [
        f"/usr/local/bin/{name}" for name in ("kubectl", "etcdctl", "etcdutl")
    ]


def test_verify_left_nothing_behind(host: Host) -> None:
    kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf get --all-namespaces --output"
    namespaces = host.check_output(f"{kubectl} jsonpath='{{.items[*].metadata.name}}' namespaces")
    assert namespaces.split() == ["default", "kube-node-lease", "kube-public", "kube-system"]
    pods = host.check_output(f"{kubectl} jsonpath='{{.items[*].metadata.labels.k8s-app}}' pods")
    assert sorted(pods.split()) == ["kube-dns", "kube-dns", "metrics-server"]
