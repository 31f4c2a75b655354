# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody has fiddled with a cluster in many ways: the plan finds all, invents none, and apply repairs ours."""

from __future__ import annotations

import collections.abc
import dataclasses
import json

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.containerd import MARKER
from slipway.lab import Lab
from tests.cluster import support

K = "KUBECONFIG=/etc/kubernetes/admin.conf kubectl"
PKI = "/etc/kubernetes/pki"


@dataclasses.dataclass(frozen=True)
class Drift:
    """What somebody did on a host, and what the plan has to say.

    ``change`` is the verb of a change and a part of what follows it; ``warning`` a part of a warning.
    """

    host: str
    script: str
    change: str = ""
    warning: str = ""


KINDS = {
    "a file's content": Drift("w1", "echo '# x' >> /etc/kubernetes/kubelet.yaml", "write /etc/kubernetes/kubelet.yaml"),
    "a file is gone": Drift("w1", "rm /etc/slipway/node-name", "write /etc/slipway/node-name"),
    "a key's mode": Drift("cp1", f"chmod 0644 {PKI}/ca.key", f"set owner and mode of {PKI}/ca.key"),
    "a key's owner": Drift(
        "cp1", "chown root:root /etc/etcd/pki/peer.key", "set owner and mode of /etc/etcd/pki/peer.key"
    ),
    "a reader's copy": Drift(
        "cp1", "rm /etc/kubernetes/kube-scheduler/ca.crt", "copy /etc/kubernetes/pki/ca.crt to /etc/kubernetes/kube-sch"
    ),
    "a directory's mode": Drift("cp1", "chmod 0755 /var/lib/etcd", "set owner and mode of /var/lib/etcd"),
    "a unit's file": Drift(
        "w1", "echo '# x' >> /etc/systemd/system/flanneld.service", "write /etc/systemd/system/flanneld.service"
    ),
    "a unit is stopped": Drift("w1", "systemctl stop kube-proxy.service", "start kube-proxy.service"),
    "a unit is disabled": Drift("w1", "systemctl disable kubelet.service", "enable kubelet.service"),
    "a timer is stopped": Drift("cp1", "systemctl stop slipway-keeper.timer", "start slipway-keeper.timer"),
    "another version of a program": Drift(
        "w1",
        "mkdir -p /opt/slipway/crictl/0.0.1; ln -sfn 0.0.1 /opt/slipway/crictl/current",
        "activate crictl",
    ),
    "another version of a program runs": Drift(
        "cp1",
        "cd /opt/slipway/kube-controller-manager; cp -r $(readlink current) 0.0.1; ln -sfn 0.0.1 current; "
        "systemctl restart kube-controller-manager.service",
        "restart kube-controller-manager.service",
    ),
    "a unit is edited": Drift(
        "w1",
        "mkdir -p /etc/systemd/system/kubelet.service.d; "
        "printf '[Service]\\nNice=1\\n' > /etc/systemd/system/kubelet.service.d/override.conf; systemctl daemon-reload",
        warning="kubelet.service.d/override.conf",
    ),
    "a kernel setting": Drift("w1", "sysctl -qw net.ipv4.ip_forward=0", "set net.ipv4.ip_forward"),
    "a mirror that is not ours": Drift(
        "w1",
        "mkdir -p /etc/containerd/certs.d/old.example; "
        f"echo '{MARKER.strip()}' > /etc/containerd/certs.d/old.example/hosts.toml",
        "remove registry old.example",
    ),
    "a certificate with other names": Drift(
        "cp1",
        "cd /etc/kubernetes/kube-scheduler; cp client.crt serving.crt; cp client.key serving.key",
        "issue certificate kube-scheduler-serving",
    ),
    "a certificate is gone": Drift(
        "cp1", "rm /etc/kubernetes/kube-apiserver/front-proxy-client.crt", "issue certificate front-proxy-client"
    ),
    "who may get certificates": Drift("cp1", "echo '{}' > /etc/slipway/nodes.json", "write /etc/slipway/nodes.json"),
    "a Node's label": Drift("cp1", f"{K} label node w1 node-role.kubernetes.io/worker-", "label node w1"),
    "a Node is cordoned by somebody": Drift("cp1", f"{K} cordon w1", warning="is cordoned"),
    "a manifest is gone": Drift(
        "cp1", f"{K} delete deployment coredns -n kube-system --wait=false", "create Deployment kube-system/coredns"
    ),
    "a manifest is changed": Drift(
        "cp1",
        f"{K} patch service kube-dns -n kube-system --type=json "
        '-p \'[{"op":"replace","path":"/spec/ports/0/targetPort","value":54}]\'',
        "update Service kube-system/kube-dns",
    ),
    "a rule of access is gone": Drift(
        "cp1", f"{K} delete clusterrolebinding slipway:node-bootstrapper", "create ClusterRoleBinding slipway:node-b"
    ),
    "an etcd member that nobody knows": Drift(
        "cp1",
        "etcdctl --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/root-client.crt "
        "--key=/etc/kubernetes/pki/etcd/root-client.key member add stranger --learner "
        "--peer-urls=https://10.255.255.1:2380",
        warning="is no host of this inventory",
    ),
}


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """One control-plane host and one worker that run."""
    with support.lab_of(support.lab_name("drift"), workers=1) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        yield lab


def report(lab: Lab) -> dict[str, object]:
    """What a plan says."""
    said = support.slipway("plan", "--json", "-i", str(lab.inventory))
    assert said.code in (0, 2), said.err
    return dict(json.loads(said.out))


@pytest.fixture(scope="module")
def found(cluster: Lab) -> dict[str, object]:
    """What a plan says when all of it has happened."""
    assert not report(cluster)["pending"]
    for drift in KINDS.values():
        support.shell(cluster, drift.host, drift.script)
    return report(cluster)


def announced(told: dict[str, object], host: str) -> list[str]:
    """The changes a plan announces for a host."""
    return [text for _module, text in support.announced(told, host)]


def matches(text: str, change: str) -> bool:
    """Whether an announced change is the one that is meant."""
    verb, _space, rest = change.partition(" ")
    return text.startswith(f"{verb} ") and rest in text


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_found(kind: str, found: dict[str, object]) -> None:
    drift = KINDS[kind]
    if drift.change:
        assert [text for text in announced(found, drift.host) if matches(text, drift.change)], found["hosts"]
    if drift.warning:
        assert drift.warning in json.dumps(found["warnings"])


def test_nothing_is_invented(found: dict[str, object], cluster: Lab) -> None:
    # What follows from a repair, and the record of the run that makes it.
    follows = ["activate ", "restart ", "seed ", "serve ", "copy ", "update ConfigMap kube-system/slipway-record"]
    known = [*(drift.change for drift in KINDS.values() if drift.change), *follows]
    texts = [text for host in support.names(cluster) for text in announced(found, host)]
    assert [text for text in texts if not any(matches(text, change) for change in known)] == []


def test_apply_repairs_what_is_ours_and_leaves_the_rest(found: dict[str, object], cluster: Lab) -> None:
    assert found["pending"]
    support.ansible_run(cluster.inventory, "apply").require()
    told = report(cluster)
    assert not told["pending"], told["hosts"]
    warnings = json.dumps(told["warnings"])
    assert "is cordoned" in warnings
    assert "is no host of this inventory" in warnings
    assert "kubelet.service.d/override.conf" in warnings
    pid = support.on(cluster, "cp1", "systemctl", "show", "-P", "MainPID", "kube-controller-manager.service").strip()
    assert "/0.0.1/" not in support.on(cluster, "cp1", "readlink", f"/proc/{pid}/exe")
    support.kubectl(cluster, "uncordon", "w1")
    support.slipway("verify", "-i", str(cluster.inventory)).require()
