# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Somebody has fiddled with a cluster in many ways: the plan finds all, invents none, and apply repairs ours."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.containerd import MARKER
from ansible_collections.slipway.cluster.plugins.module_utils.core.drain import CORDONED_BY
from slipway.lab import Lab
from slipway.lab.podman import Podman
from tests.cluster import support

K = "KUBECONFIG=/etc/kubernetes/admin.conf kubectl"
PKI = "/etc/kubernetes/pki"


@dataclasses.dataclass(frozen=True)
class Drift:
    """What somebody did on a host, and what the plan has to say.

    ``change`` is the verb of a change and a part of what follows it, ``why`` what its difference says was found;
    ``warning`` is a part of a warning.
    """

    host: str
    script: str
    change: str = ""
    warning: str = ""
    why: str = ""


def dropping(table: str, packets: str) -> str:
    """A script that adds a table of its own to a host's packet filter."""
    chain = f"nft add chain inet {table} input '{{ type filter hook input priority -10; }}'"
    return f"nft add table inet {table}; {chain}; nft add rule inet {table} input iif != lo {packets} drop"


# The keeper would renew it within the minute. It is the same certificate but for its dates.
NEAR_END = (
    "systemctl stop slipway-keeper.timer slipway-keeper.service; cd /etc/kubernetes/kube-scheduler; "
    'day() { date -u -d "$1" +%Y%m%d%H%M%SZ; }; '
    f"openssl x509 -in client.crt -CA {PKI}/ca.crt -CAkey {PKI}/ca.key "
    "-not_before $(day '360 days ago') -not_after $(day '5 days') -out /run/drill.crt; "
    "cat /run/drill.crt > client.crt; rm /run/drill.crt"
)
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
    "a static pod": Drift(
        "w1",
        "mkdir -p /etc/kubernetes/manifests; "
        "printf '{apiVersion: v1, kind: Pod, metadata: {name: drill}}' > /etc/kubernetes/manifests/drill.yaml",
        warning="/etc/kubernetes/manifests/drill.yaml",
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
    "a certificate near its end": Drift("cp1", NEAR_END, "issue certificate kube-scheduler-client", why="near its end"),
    "who may get certificates": Drift("cp1", "echo '{}' > /etc/slipway/nodes.json", "write /etc/slipway/nodes.json"),
    "a Node's label": Drift("cp1", f"{K} label node w1 node-role.kubernetes.io/worker-", "label node w1"),
    "a Node is cordoned by somebody": Drift("cp1", f"{K} cordon w1", warning="is cordoned"),
    "a Node that we closed is opened by somebody": Drift(
        "cp1", f"{K} annotate node cp1 {CORDONED_BY}=maintain", "forget that Slipway cordoned node cp1"
    ),
    "a manifest is gone": Drift(
        "cp1", f"{K} delete deployment coredns -n kube-system --wait=false", "create Deployment kube-system/coredns"
    ),
    "a manifest is changed": Drift(
        "cp1",
        f"{K} patch service kube-dns -n kube-system --type=json "
        '-p \'[{"op":"replace","path":"/spec/ports/0/targetPort","value":54}]\'',
        "update Service kube-system/kube-dns",
    ),
    # All that is wanted is still there, and yet the Service leads nowhere, and the account may read nothing.
    "a Service's selector is narrowed": Drift(
        "cp1",
        f'{K} patch service metrics-server -n kube-system -p \'{{"spec":{{"selector":{{"typo":"x"}}}}}}\'',
        "update Service kube-system/metrics-server",
    ),
    "a rule of access is narrowed": Drift(
        "cp1",
        f"{K} patch clusterrole slipway:coredns --type=json "
        '-p \'[{"op":"add","path":"/rules/0/resourceNames","value":["typo"]}]\'',
        "update ClusterRole slipway:coredns",
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
    "a packet filter before the kubelet": Drift(
        "w1", dropping("drill_kubelet", "tcp dport 10250"), warning="port 10250/tcp of w1"
    ),
    # Where w1 passes nothing on, as above, nobody tries the tunnel that ends there; the one from there has no answer.
    "a packet filter before the tunnel": Drift(
        "w1", dropping("drill_tunnel", "udp dport 8472"), warning="port 8472/udp of cp1"
    ),
}


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """One control-plane host and one worker that run."""
    with support.lab_of(support.lab_name("drift"), workers=1) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        yield lab


def report(lab: Lab) -> dict[str, t.Any]:
    """What a plan says."""
    said = support.slipway("plan", "--json", "-i", str(lab.inventory))
    assert said.code in (0, 2), said.err
    print(f"plan: {said.seconds:.1f} s", flush=True)
    return dict(json.loads(said.out))


def closed(told: dict[str, t.Any]) -> list[str]:
    """The ways between hosts that a plan warns of."""
    return [warning["found"] for warning in told["warnings"] if "cannot be reached" in warning["found"]]


@pytest.fixture(scope="module")
def before(cluster: Lab) -> dict[str, t.Any]:
    """What a plan says before anything has happened."""
    told = report(cluster)
    assert not told["pending"], told["hosts"]
    return told


@pytest.fixture(scope="module")
def found(before: dict[str, t.Any], cluster: Lab) -> dict[str, t.Any]:
    """What a plan says when all of it has happened."""
    assert not closed(before)
    for drift in KINDS.values():
        support.shell(cluster, drift.host, drift.script)
    return report(cluster)


def announced(told: dict[str, t.Any], host: str) -> list[str]:
    """The changes a plan announces for a host."""
    return [text for _module, text in support.announced(told, host)]


def matches(text: str, change: str) -> bool:
    """Whether an announced change is the one that is meant."""
    verb, _space, rest = change.partition(" ")
    return text.startswith(f"{verb} ") and rest in text


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_found(kind: str, found: dict[str, t.Any]) -> None:
    drift = KINDS[kind]
    if drift.change:
        assert [text for text in announced(found, drift.host) if matches(text, drift.change)], found["hosts"]
    if drift.why:
        before = [entry["before"] for entry in found["diff"][drift.host] if matches(entry["name"], drift.change)]
        assert before == [drift.why]
    if drift.warning:
        assert drift.warning in json.dumps(found["warnings"])


def test_nothing_is_invented(before: dict[str, t.Any], found: dict[str, t.Any], cluster: Lab) -> None:
    # What follows from a repair, and the record of the run that makes it.
    follows = ["activate ", "restart ", "seed ", "serve ", "copy ", "update ConfigMap kube-system/slipway-record"]
    known = [*(drift.change for drift in KINDS.values() if drift.change), *follows]
    texts = [text for host in support.names(cluster) for text in announced(found, host)]
    assert [text for text in texts if not any(matches(text, change) for change in known)] == []
    warned = [json.dumps(warning) for warning in found["warnings"] if warning not in before["warnings"]]
    expected = [drift.warning for drift in KINDS.values() if drift.warning]
    assert [text for text in warned if not any(part in text for part in expected)] == []


def test_apply_repairs_what_is_ours_and_leaves_the_rest(found: dict[str, t.Any], cluster: Lab) -> None:
    assert found["pending"]
    # What goes through the tunnel is needed for apply to see that all is well.
    support.shell(cluster, "w1", "nft delete table inet drill_tunnel")
    support.ansible_run(cluster.inventory, "apply").require()
    told = report(cluster)
    assert not told["pending"], told["hosts"]
    warnings = json.dumps(told["warnings"])
    assert "is cordoned" in warnings
    assert "is no host of this inventory" in warnings
    assert "kubelet.service.d/override.conf" in warnings
    assert "/etc/kubernetes/manifests/drill.yaml" in warnings
    assert [each.partition(" (")[0] for each in closed(told)] == ["port 10250/tcp of w1"]
    support.shell(cluster, "w1", "nft delete table inet drill_kubelet")
    assert not closed(report(cluster))
    pid = support.on(cluster, "cp1", "systemctl", "show", "-P", "MainPID", "kube-controller-manager.service").strip()
    assert "/0.0.1/" not in support.on(cluster, "cp1", "readlink", f"/proc/{pid}/exe")
    support.kubectl(cluster, "uncordon", "w1")
    support.slipway("verify", "-i", str(cluster.inventory)).require()


# --- a Node whose kubelet goes on -------------------------------------------------------------------------------------
RESTARTS = ["restart kubelet.service", "restart flanneld.service"]
SILENCE = "".join(
    f"nft 'add chain inet drill_gone {hook} {{ type filter hook {hook} priority -10; }}'; "
    f"nft add rule inet drill_gone {hook} {way} != lo drop; "
    for hook, way in (("input", "iif"), ("output", "oif"))
)


def networks(lab: Lab) -> dict[str, list[str]]:
    """The pod networks of each Node."""
    return {node["metadata"]["name"]: node["spec"].get("podCIDRs", []) for node in support.objects(lab, "nodes")}


def made_again(lab: Lab, networks_before: dict[str, list[str]]) -> None:
    """The plan has w1's Node made again, and apply does that: the host has its network, and all is well."""
    told = report(lab)
    assert set(RESTARTS) <= set(announced(told, "w1")), told["hosts"]
    assert "create node w1" in announced(told, "cp1")
    support.ansible_run(lab.inventory, "apply").require()
    told = report(lab)
    assert not told["pending"], told["hosts"]
    assert networks(lab) == networks_before
    support.slipway("verify", "-i", str(lab.inventory)).require()


def test_a_node_that_somebody_deleted_is_made_again(cluster: Lab) -> None:
    before = networks(cluster)
    support.kubectl(cluster, "delete", "node", "w1")
    made_again(cluster, before)


def test_a_node_that_came_back_with_another_network_is_told_with_the_way_out(cluster: Lab) -> None:
    before = networks(cluster)
    support.kubectl(cluster, "delete", "node", "w1")
    # Another one has it at that time: what is free might be given again.
    spec = {"podCIDR": before["w1"][0], "podCIDRs": before["w1"]}
    other = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"}, "spec": spec}
    support.kubectl(cluster, "apply", "--filename=-", stdin=json.dumps(other))
    support.on(cluster, "w1", "systemctl", "restart", "kubelet.service")
    support.wait_for("w1 registers", lambda: None if networks(cluster).get("w1") else "no network", timeout=60)
    assert networks(cluster)["w1"] != before["w1"]
    support.kubectl(cluster, "delete", "node", "other")
    told = report(cluster)
    assert f"its host gives pods addresses of {before['w1'][0]}" in json.dumps(told["warnings"])
    support.kubectl(cluster, "delete", "node", "w1")
    made_again(cluster, before)


def inside(lab: Lab, host: str, script: str) -> None:
    """Run a script of sh on a host that nobody reaches over the network."""
    Podman(lab.root).run("exec", lab.container(host), "sh", "-euc", script)


def test_a_host_that_was_given_up_and_comes_back_is_a_node_again(cluster: Lab) -> None:
    before = networks(cluster)
    inside(cluster, "w1", f"nft add table inet drill_gone; {SILENCE}")
    try:
        words = ("-i", str(cluster.inventory), "--confirm", cluster.name)
        support.slipway("remove", "w1", "--dead", *words).require()
        assert set(networks(cluster)) == {"cp1"}
    finally:
        inside(cluster, "w1", "nft delete table inet drill_gone")
    support.answers(cluster, "w1")
    made_again(cluster, before)
