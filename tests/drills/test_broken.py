# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each part of a cluster is broken on purpose: verify's line for it goes red and says where to look."""

from __future__ import annotations

import collections.abc
import dataclasses
import json
import typing as t

import pytest

from slipway.lab import Lab
from tests.cluster import support

K = "KUBECONFIG=/etc/kubernetes/admin.conf kubectl"
DNS, METRICS = "-n kube-system deployment coredns", "-n kube-system deployment metrics-server"
STORAGE = "-n slipway-storage deployment local-path-provisioner"
CNI = "/etc/cni/net.d"
# What w1's kubelet tells is refused.
SILENCE = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: drill}
spec:
  matchConstraints:
    resourceRules:
      - {apiGroups: ["", events.k8s.io], apiVersions: ["*"], operations: [CREATE, UPDATE], resources: [events]}
  validations: [{expression: "request.userInfo.username != 'system:node:w1'"}]
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: drill}
spec: {policyName: drill, validationActions: [Deny]}
"""
# A file system of its own that can be filled; preflight wants 1 GiB.
VOLUME, SIZE = "/var/lib/kubelet", "1200m"


@dataclasses.dataclass(frozen=True)
class Broken:
    """What somebody does on a host, how it is undone (empty: by apply), and what has to be said.

    ``line`` is verify's aspect that names the cause, ``seen`` and ``hint`` are parts of it, ``also`` are other lines
    that may be red too: what depends on it, each of which has to say so.
    """

    host: str
    script: str
    undo: str
    line: str
    seen: str
    hint: str
    also: frozenset[str] = frozenset()


NEED_PODS = frozenset({"removal", "replacement", "unready pod", "service", "DNS inside", "job and mounts", "volume"})
WAYS_IN = frozenset({"ingress", "gateway", "load balancer"})
KINDS = {
    "CoreDNS is gone": Broken(
        "cp1",
        f"{K} scale {DNS} --replicas=0 && {K} wait --for=delete pod -n kube-system -l k8s-app=kube-dns --timeout=60s",
        f"{K} scale {DNS} --replicas=2",
        "DNS inside", "0 of 6 answers", "k8s-app=kube-dns",
    ),
    "kube-proxy is stopped on a node": Broken(
        "w1", "systemctl stop kube-proxy", "systemctl start kube-proxy",
        "kube-proxy", "1 of 2 healthy; w1: ", "systemctl status kube-proxy", NEED_PODS | WAYS_IN,
    ),
    "a node's CNI file names a plugin that is not there": Broken(
        "w1",
        f"cd {CNI}; mkdir -p /root/cni; cp * /root/cni/; sed -i 's/\"bridge\"/\"bridgge\"/' *.conflist; sleep 3",
        f"cp /root/cni/* {CNI}/; sleep 3",
        "pods start", "bridgge", "containerd's journal", NEED_PODS,
    ),
    "packets of the pod network are dropped": Broken(
        "w1",
        "nft 'add table inet drill; add chain inet drill in { type filter hook input priority 0; }; "
        "add rule inet drill in udp dport 8472 drop'",
        "nft delete table inet drill",
        "pod to pod", "cp1 -> w1: UDP: ", "UDP port 8472", NEED_PODS | WAYS_IN,
    ),
    "a kubelet's events are refused": Broken(
        "cp1",
        f"{K} apply -f - <<'EOF'\n{SILENCE}EOF\nsleep 10",
        f"{K} delete validatingadmissionpolicybinding,validatingadmissionpolicy drill",
        "events", "1 of 2 kubelets; kubelet of w1: told nothing", "journalctl -u kubelet",
    ),
    "metrics-server is stopped": Broken(
        "cp1",
        f"{K} scale {METRICS} --replicas=0 && "
        f"{K} wait --for=condition=Available=false apiservice/v1beta1.metrics.k8s.io --timeout=90s",
        f"{K} scale {METRICS} --replicas=1",
        "metrics", "status 503", "get apiservice v1beta1.metrics.k8s.io", frozenset({"removal"}),
    ),
    "Traefik runs nowhere": Broken(
        "cp1",
        f"{K} patch -n slipway-ingress daemonset traefik "
        "-p '{\"spec\":{\"template\":{\"spec\":{\"nodeSelector\":{\"nowhere\":\"true\"}}}}}' && "
        f"{K} wait --for=delete pod -n slipway-ingress --all --timeout=90s",
        "",
        "ingress", "1 of 1 failed", "is Traefik running on that host?", frozenset({"gateway"}),
    ),
    "nobody makes volumes": Broken(
        "cp1",
        f"{K} scale {STORAGE} --replicas=0 && {K} wait --for=delete pod -n slipway-storage --all --timeout=60s",
        f"{K} scale {STORAGE} --replicas=1",
        "volume", "the claim is Pending: ", "--namespace slipway-storage get deployment,pods",
    ),
    "a host's small data volume is full": Broken(
        "w1", f"head -c 2G /dev/zero >{VOLUME}/filler || sleep 40", f"rm {VOLUME}/filler",
        "nodes", "w1: DiskPressure", "df -h", NEED_PODS | WAYS_IN | {"pods start", "pod to pod", "metrics"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> collections.abc.Iterator[Lab]:
    """A control-plane host and a worker with all add-ons; the worker's data volume is small."""
    with support.lab_of(workers=1) as lab:
        support.shell(lab, "w1", f"mkdir {VOLUME}; mount -t tmpfs -o size={SIZE} small {VOLUME}")
        support.ansible_run(lab.inventory, "apply", extra_vars=everything(lab)).require()
        yield lab


def everything(lab: Lab) -> dict[str, t.Any]:
    """The variables that switch add-ons on."""
    return {
        "slipway_ingress": {"enabled": True},
        "slipway_load_balancer": {"pools": [support.address_pool(lab)]},
        "slipway_storage": {"enabled": True},
    }


def verified(lab: Lab) -> dict[str, dict[str, t.Any]]:
    """verify's findings by aspect."""
    said = support.slipway("verify", "--json", "-i", str(lab.inventory), "-e", json.dumps(everything(lab)))
    return {check["aspect"]: check for check in json.loads(said.out)["checks"]}


def red(checks: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, str]:
    """The failed ones with what was seen and the hint."""
    return {name: f"{check['seen']} -> {check['hint']}" for name, check in checks.items() if not check["ok"]}


def test_nothing_is_red_at_first(cluster: Lab) -> None:
    assert red(verified(cluster)) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_the_line_for_it_goes_red(cluster: Lab, kind: str) -> None:
    broken = KINDS[kind]
    try:
        support.shell(cluster, broken.host, broken.script)
        found = red(verified(cluster))
    finally:
        if broken.undo:
            support.shell(cluster, broken.host, broken.undo)
        else:
            support.ansible_run(cluster.inventory, "apply", extra_vars=everything(cluster)).require()
    print(json.dumps(found, indent=1))
    seen, _arrow, hint = found.get(broken.line, "").rpartition(" -> ")
    assert broken.seen in seen, found
    assert broken.hint in hint, found
    others = {name: text for name, text in found.items() if name != broken.line}
    assert set(others) <= broken.also, "red without a reason"
    blamed = [name for name, text in others.items() if f"mend {broken.line} first" not in text]
    assert not blamed, "each names the cause"
    # A kubelet tells of pressure for 5 minutes after it is over.
    support.wait_for("the cluster", lambda: mended(cluster), timeout=480, interval=5)


def mended(lab: Lab) -> str | None:
    """None if all is well and no node is short of anything; what was evicted is taken off the list."""
    support.kubectl(lab, "delete", "pods", "-A", "--field-selector=status.phase=Failed")
    conditions = [each for node in support.objects(lab, "nodes") for each in node["status"]["conditions"]]
    pressed = [each["type"] for each in conditions if each["type"].endswith("Pressure") and each["status"] == "True"]
    return ", ".join(pressed) or support.settled(lab)


def test_all_is_mended(cluster: Lab) -> None:
    assert red(verified(cluster)) == {}
