# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where secrets are: with their one reader, nowhere else, and not in what Ansible printed."""

from __future__ import annotations

import os
import pathlib
import re
import typing as t

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

PLACES = "/etc /home /root /srv /tmp /var/tmp /run /var/lib/kubelet /var/lib/slipway /usr/local"
EVERYWHERE = {
    "/etc/ssh/ssh_host_ed25519_key": "root",
    "/run/slipway/bootstrap-kubelet.conf": "root",
    "/var/lib/kubelet/pki/kubelet-client-DATE.pem": "root",
    "/var/lib/kubelet/pki/kubelet-server-DATE.pem": "root",
}
CONTROL_PLANE = {
    "/etc/etcd/pki/peer.key": "etcd",
    "/etc/etcd/pki/server.key": "etcd",
    "/etc/kubernetes/admin/client.key": "root",
    "/etc/kubernetes/kube-apiserver/encryption.yaml": "kube-apiserver",
    "/etc/kubernetes/kube-apiserver/etcd-client.key": "kube-apiserver",
    "/etc/kubernetes/kube-apiserver/front-proxy-client.key": "kube-apiserver",
    "/etc/kubernetes/kube-apiserver/kubelet-client.key": "kube-apiserver",
    "/etc/kubernetes/kube-apiserver/sa.key": "kube-apiserver",
    "/etc/kubernetes/kube-apiserver/serving.key": "kube-apiserver",
    "/etc/kubernetes/kube-controller-manager/ca.key": "kube-controller-manager",
    "/etc/kubernetes/kube-controller-manager/client.key": "kube-controller-manager",
    "/etc/kubernetes/kube-controller-manager/sa.key": "kube-controller-manager",
    "/etc/kubernetes/kube-controller-manager/serving.key": "kube-controller-manager",
    "/etc/kubernetes/kube-scheduler/client.key": "kube-scheduler",
    "/etc/kubernetes/kube-scheduler/serving.key": "kube-scheduler",
    "/etc/kubernetes/metrics-server/serving.key": "UNKNOWN",  # a pod that no account on the host is for
    "/etc/kubernetes/pki/ca.key": "root",
    "/etc/kubernetes/pki/encryption.yaml": "root",
    "/etc/kubernetes/pki/etcd/ca.key": "root",
    "/etc/kubernetes/pki/etcd/root-client.key": "root",
    "/etc/kubernetes/pki/front-proxy-ca.key": "root",
    "/etc/kubernetes/pki/sa.key": "root",
}


class Secret(t.NamedTuple):
    """A file with a secret in it, as the host sees it."""

    path: str
    owner: str
    mode: int


@pytest.fixture(scope="module")
def secrets(host: Host) -> list[Secret]:
    """Every file that holds a private key, the encryption key or a bootstrap token."""
    marks = "-e 'PRIVATE KEY-----' -e '^ *- secretbox:' -e '^ *token: '"
    found = host.check_output(
        f"grep -rlIs --devices=skip --exclude-dir=blobs {marks} {PLACES} | xargs stat --format='%n %U %a'"
    )
    words = [line.split() for line in found.splitlines()]
    return [Secret(path, owner, int(mode, 8)) for path, owner, mode in words]


def test_a_secret_is_where_it_is_read_and_nowhere_else(inventory: t.Mapping[str, t.Any], secrets: list[Secret]) -> None:
    expected = EVERYWHERE | (CONTROL_PLANE if "slipway_control_plane" in inventory["group_names"] else {})
    seen = {re.sub(r"\d{4}(-\d\d){5}", "DATE", secret.path): secret.owner for secret in secrets}
    assert seen == expected


def test_only_its_owner_may_read_a_secret(secrets: list[Secret]) -> None:
    assert not [secret for secret in secrets if secret.mode & ~0o600]


def test_ansible_printed_no_secret(host: Host, secrets: list[Secret]) -> None:
    log = pathlib.Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"], "ansible.log").read_text(encoding="utf-8")
    assert "+++ after: write /etc/kubernetes/kubelet.yaml" in log, "the hosts were not made with --diff"
    assert "PRIVATE KEY" not in log
    texts = host.check_output("tail --lines=+1 " + " ".join(secret.path for secret in secrets)).split("==> ")[1:]
    needles = [_needles(text) for text in texts]
    assert len(needles) == len(secrets)
    assert all(needles)
    assert not [needle for needle in set.union(*needles) if needle in log]


def _needles(text: str) -> set[str]:
    """What must not be found elsewhere: pieces of private keys, and the values of the encryption key and the token.

    A P-256 key has its secret number around the end of its first line; later lines are the public key's, which
    certificates show too.
    """
    keys = re.findall(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(\S+)\n(\S+)", text)
    pieces = {piece for first, second in keys for piece in (first[-16:], second[:16])}
    return pieces | set(re.findall(r"(?:secret|token): (\S{16,})", text))
