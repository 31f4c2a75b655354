# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every host of the cluster has: runtime, node, network, programs; and what none of them has."""

from __future__ import annotations

import re
import typing as t

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

UNITS = (
    "containerd.service",
    "slipway-proxy.service",
    "kubelet.service",
    "kube-proxy.service",
    "flanneld.service",
    "slipway-seed.service",
)
PERMANENT = UNITS[:-1]
PROGRAMS = {
    "containerd": "containerd",
    "kubelet": "kubelet",
    "kube-proxy": "kube-proxy",
    "flanneld": "flannel",
}
MODES = {
    "/etc/kubernetes/kubelet.yaml": "600",
    "/etc/kubernetes/kubelet.conf": "600",
    "/etc/systemd/system/kubelet.service": "600",
    "/etc/kubernetes/kube-proxy.yaml": "644",
    "/etc/kubernetes/pki/ca.crt": "644",
    "/etc/containerd/config.toml": "644",
    "/etc/slipway/proxy.cfg": "644",
    "/etc/slipway/cluster.json": "644",
    "/etc/slipway/node-name": "644",
    "/etc/sysctl.d/90-slipway.conf": "644",
}
# Everything of ours, and the directory of the links to it.
OURS = (
    "/etc/kubernetes /etc/slipway /etc/containerd /etc/cni /opt/slipway /var/lib/slipway /var/lib/kubelet/pki"
    " /usr/local/bin"
)
SEED_PORT = 6445


def test_no_unit_has_failed(host: Host) -> None:
    assert not host.check_output("systemctl list-units --failed --plain --no-legend")


@pytest.mark.parametrize("name", PERMANENT)
def test_unit_runs_as_written_and_comes_back_after_a_boot(units: dict[str, dict[str, str]], name: str) -> None:
    seen = units[name]
    assert (seen["ActiveState"], seen["SubState"], seen["UnitFileState"]) == ("active", "running", "enabled")
    assert (seen["NeedDaemonReload"], seen["FragmentPath"]) == ("no", f"/etc/systemd/system/{name}")


@pytest.mark.parametrize("name", PROGRAMS)
def test_process_runs_the_current_program(host: Host, units: dict[str, dict[str, str]], name: str) -> None:
    pid = units[f"{name}.service"]["MainPID"]
    running, current = host.check_output(
        f"readlink /proc/{pid}/exe; readlink -f /opt/slipway/{PROGRAMS[name]}/current/{name}"
    ).split()
    assert running == current


def test_proxy_gives_up_root(host: Host, units: dict[str, dict[str, str]]) -> None:
    main = units["slipway-proxy.service"]["MainPID"]
    owners = host.check_output(f"for pid in $(pgrep --parent {main}); do stat --format=%U /proc/$pid; done")
    assert set(owners.split()) == {"haproxy"}


def test_programs_are_those_of_the_bundle(host: Host, bundle: dict[str, dict[str, str]]) -> None:
    answer = host.check_output(
        "cd /opt/slipway; for name in *; do"
        " echo $name $(readlink $name/current) $(cat $name/current/.sha256) $(ls $name); done"
    )
    seen = {name: words for name, *words in map(str.split, answer.splitlines())}
    assert {"containerd", "runc", "crictl", "cni-plugins", "kubelet", "kube-proxy", "flannel"} <= set(seen)
    expected = {name: (bundle[name]["version"], bundle[name]["sha256"]) for name in seen}
    assert seen == {name: [version, sha256, version, "current"] for name, (version, sha256) in expected.items()}


def test_links_lead_to_the_current_version(host: Host) -> None:
    answer = host.check_output(
        "cd /usr/local/bin; for name in *; do echo $name $(readlink $name) $(readlink -e $name); done"
    )
    links = {name: targets for name, *targets in map(str.split, answer.splitlines())}
    assert {"crictl", "ctr"} <= set(links)
    for name, (target, real) in links.items():
        component = target.split("/")[3]
        assert target == f"/opt/slipway/{component}/current/{name}"
        assert re.fullmatch(rf"/opt/slipway/{component}/[0-9.]+/{name}", real)


def test_files(stat: t.Callable[[t.Iterable[str]], dict[str, tuple[str, str, str, str]]]) -> None:
    assert stat(MODES) == {path: ("regular file", "root", "root", mode) for path, mode in MODES.items()}


def test_only_root_can_change_what_root_runs(host: Host) -> None:
    assert not host.check_output(f"find {OURS} ! -type l -perm /022")
    assert not host.check_output("find /opt/slipway /usr/local/bin /var/lib/slipway ! -user root")


def test_sockets(inventory: t.Mapping[str, t.Any], sockets: set[tuple[str, int, str]]) -> None:
    control_plane = {"etcd", "kube-apiserver", "kube-controller", "kube-scheduler"}
    seen = {socket for socket in sockets if socket[2] not in control_plane}
    # containerd's own server for exec and logs has a port of chance.
    streaming = {socket for socket in seen if socket[0] == "127.0.0.1" and socket[2] == "containerd"}
    assert len(streaming) == 1
    seed = {(inventory["ansible_host"], SEED_PORT, "python3")}
    assert seen - streaming - seed == {
        ("*", 22, "sshd"),
        ("*", 10250, "kubelet"),
        ("*", 10256, "kube-proxy"),
        ("127.0.0.1", 6444, "haproxy"),
        ("127.0.0.1", 10248, "kubelet"),
        ("127.0.0.1", 10249, "kube-proxy"),
    }


def test_nothing_but_flannel_listens_on_udp(host: Host) -> None:
    lines = host.check_output("ss -Hlun").splitlines()
    assert {int(line.split()[3].rsplit(":", 1)[1]) for line in lines} == {8472}


def test_what_serves_the_bundle_ends_by_itself(
    units: dict[str, dict[str, str]], sockets: set[tuple[str, int, str]]
) -> None:
    seed = units["slipway-seed.service"]
    if SEED_PORT in {port for _address, port, _program in sockets}:
        assert (seed["Transient"], seed["RuntimeMaxUSec"]) == ("yes", "15min")
    else:
        assert seed["ActiveState"] == "inactive"


def test_no_swap_now_and_none_after_a_boot(host: Host) -> None:
    assert not host.check_output("swapon --show --noheadings")
    lines = host.check_output("cat /etc/fstab").splitlines()
    assert not [line for line in lines if "swap" in line.split("#")[0].split()[2:3]]
    assert not host.check_output("systemctl list-units --type=swap --plain --no-legend")


def test_kernel_has_the_settings_of_the_file(host: Host) -> None:
    lines = host.check_output("grep -v '^#' /etc/sysctl.d/90-slipway.conf").splitlines()
    wanted = dict(line.split(" = ") for line in lines)
    assert wanted["net.ipv4.ip_forward"] == "1"
    assert host.check_output("sysctl --values " + " ".join(wanted)).splitlines() == list(wanted.values())
