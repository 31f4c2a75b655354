# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker carries nothing of the control plane."""

from __future__ import annotations

import typing as t

from testinfra.host import Host

testinfra_hosts = ["ansible://slipway_workers"]

COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
PATHS = (
    *(f"/opt/slipway/{name}" for name in COMPONENTS),
    *(f"/etc/kubernetes/{name}" for name in COMPONENTS),
    *(f"/etc/systemd/system/{name}.service" for name in COMPONENTS),
    "/etc/systemd/system/slipway-keeper.timer",
    "/etc/kubernetes/admin",
    "/etc/kubernetes/admin.conf",
    "/etc/etcd",
    "/etc/slipway/certificates.json",
    "/usr/local/bin/kubectl",
    "/usr/local/bin/etcdctl",
    "/var/lib/etcd",
    "/var/log/kubernetes",
)


def test_no_user_of_the_control_plane(host: Host) -> None:
    users = {line.split(":")[0] for line in host.check_output("getent passwd").splitlines()}
    assert "root" in users
    assert not users & set(COMPONENTS)


def test_no_file_of_the_control_plane(
    stat: t.Callable[[t.Iterable[str]], dict[str, tuple[str, str, str, str]]],
) -> None:
    assert set(stat(["/etc/kubernetes", *PATHS])) == {"/etc/kubernetes"}


def test_no_program_listens_for_the_control_plane(sockets: set[tuple[str, int, str]]) -> None:
    ports = {port for _address, port, _program in sockets}
    assert 10250 in ports
    assert not ports & {2379, 2380, 2381, 6443, 10257, 10259}
