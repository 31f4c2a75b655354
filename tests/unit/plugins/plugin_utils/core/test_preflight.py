# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight: what each check says of hosts that are not fit, and nothing of those that are."""

from __future__ import annotations

import copy
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.places import PACKAGES, PODS
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core import preflight
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.preflight import GIB, MIB, Clock
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.probe import Probe
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec import (
    ClusterSpec,
    HostInput,
    load,
    with_probes,
)
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec.definitions import PREFLIGHT

NOW = 1_790_000_000.0
ADDRESSES = {"cp1": "10.0.0.11", "w1": "10.0.0.21", "w2": "10.0.0.22"}
PATHS = ("/opt/slipway", "/var/lib/etcd", "/var/lib/containerd", "/var/lib/slipway", "/var/lib/kubelet", "/var/log")


def data(name: str, **changes: t.Any) -> dict[str, t.Any]:
    """What the probe module says of a bare host that is fit; a change may go below a key with a dot."""
    address = ADDRESSES.get(name, "10.0.0.99")
    found: dict[str, t.Any] = {
        "hostname": name,
        "machine_id": f"id-of-{name}",
        "boot_id": "b",
        "os": {"id": "debian", "version_id": "13"},
        "architecture": "amd64",
        "kernel": "6.12.48+deb13-amd64",
        "python": "3.13.5",
        "systemd": 257,
        "cgroup": 2,
        "memory_bytes": 4 * GIB,
        "cpus": 2,
        "swaps": [],
        "mounts": {
            path: {"mount": "/", "filesystem": "ext4", "free_bytes": 50 * GIB, "total_bytes": 60 * GIB}
            for path in PATHS
        },
        "addresses": [
            {"interface": "lo", "address": "127.0.0.1", "prefix": 8, "mtu": 65536},
            {"interface": "lo", "address": "::1", "prefix": 128, "mtu": 65536},
            {"interface": "eth0", "address": address, "prefix": 24, "mtu": 1500},
        ],
        "default_route": {"interface": "eth0", "source": address},
        "time": NOW,
        "ntp_synchronized": True,
        "resolv_conf": "/etc/resolv.conf",
        "resolvers": ["10.0.0.53"],
        "programs": {program: f"/usr/bin/{program}" for program in PACKAGES},
        "proxy_environment": {},
        "listening": [{"protocol": "tcp", "address": "0.0.0.0", "port": 22, "process": "sshd", "unit": "ssh.service"}],  # noqa: S104
        "kernel_modules": True,
        "cluster": None,
        "authorities": {"kubernetes": None, "etcd": None, "front-proxy": None},
        "etcd_data": False,
        "etcd": {"data": False, "formed": False, "initial": ""},
        "artifacts": {},
        "kubeadm_leftovers": [],
        "node_name": None,
        "unknown": "is passed over",
    }
    return {**found, **changes}


def probe(name: str, **changes: t.Any) -> Probe:
    return Probe.from_data(data(name, **changes), name)


def spec(workers: t.Iterable[str] = ("w1", "w2"), etcd: t.Iterable[str] = (), **variables: t.Any) -> ClusterSpec:
    groups = {
        "cp1": "slipway_control_plane",
        **dict.fromkeys(workers, "slipway_workers"),
        **dict.fromkeys(etcd, "slipway_etcd"),
    }
    return load(
        {
            name: HostInput(name, frozenset({group}), {"ansible_host": ADDRESSES.get(name, "10.0.0.99"), **variables})
            for name, group in groups.items()
        }
    )


def check(wanted: ClusterSpec, *, every: dict[str, t.Any] | None = None, **changed: dict[str, t.Any]) -> list[Problem]:
    """All checks over fit hosts, of which some are ``changed``, or every one in the same way."""
    probes = {name: probe(name, **{**(every or {}), **changed.get(name, {})}) for name in wanted.nodes}
    return preflight.check(wanted, probes)


def said(problems: t.Iterable[Problem]) -> list[str]:
    return [f"{'warning' if each.warning else 'error'}: {each.where}: {each.found}" for each in problems]


def test_fit_hosts_have_no_problem() -> None:
    assert check(spec()) == []


def test_the_table_of_names_is_the_table_of_checks() -> None:
    assert set(PREFLIGHT) - {"reach"} == set(preflight.CHECKS) - {"cluster", "leftovers", "authorities"}


OTHER_CLUSTER = {"cluster": {"name": "slipway", "id": "2"}}
INSTALLED = {"artifacts": {"kubelet": {"current": "1.37.0"}}}
FULL = {path: {"mount": "/", "free_bytes": GIB, "total_bytes": 60 * GIB} for path in PATHS}
MANY_MOUNTS = {path: {"mount": path, "free_bytes": GIB, "total_bytes": 4 * GIB} for path in PATHS}


ANYWHERE = "0.0.0.0"  # noqa: S104


def listening(
    port: int, address: str = ANYWHERE, process: str = "nginx", unit: str = "nginx.service"
) -> dict[str, t.Any]:
    return {
        "listening": [{"protocol": "tcp", "address": address, "port": port, "process": process, "unit": unit}],
    }


HOST_INGRESS = {"slipway_ingress": {"enabled": True}}
BALANCED = {
    "slipway_ingress": {"enabled": True, "expose": "load_balancer"},
    "slipway_load_balancer": {"pools": [{"name": "own", "addresses": ["10.0.0.240-10.0.0.243"]}]},
}

CASES: list[tuple[str, dict[str, t.Any], dict[str, dict[str, t.Any]], list[str]]] = [
    (
        "an untested system",
        {},
        {"w1": {"os": {"id": "ubuntu", "version_id": "26.04"}}, "w2": {"os": {"id": "", "version_id": None}}},
        ["warning: w1: ubuntu 26.04 has not been tested", "warning: w2: an unknown system has not been tested"],
    ),
    (
        "an architecture without artefacts",
        {},
        {"w1": {"architecture": "riscv64"}},
        ["error: w1: there are no artefacts"],
    ),
    ("an old kernel", {}, {"w1": {"kernel": "5.10.0-35"}}, ["error: w1: Linux 5.10.0-35 is too old"]),
    ("an old kernel with iptables", {"slipway_kube_proxy": {"mode": "iptables"}}, {"w1": {"kernel": "5.10.0"}}, []),
    ("an old Python", {}, {"w1": {"python": "3.8.10"}}, ["error: w1: Python 3.8.10 is too old"]),
    (
        "systemd",
        {},
        {"w1": {"systemd": 0}, "w2": {"systemd": 241}},
        ["error: w1: systemd does not run", "error: w2: systemd 241 is too old"],
    ),
    ("cgroup v1", {}, {"cp1": {"cgroup": 1}, "w1": {"cgroup": 1}}, ["error: cp1, w1: cgroup v1"]),
    ("cgroup v1, wanted", {"slipway_kubelet": {"failCgroupV1": False}}, {"w1": {"cgroup": 1}}, []),
    (
        "little memory",
        {},
        {"cp1": {"memory_bytes": 800 * MIB}, "w1": {"memory_bytes": 400 * MIB}, "w2": {"memory_bytes": 600 * MIB}},
        ["error: cp1: 800 MiB of memory", "error: w1: 400 MiB", "warning: w2: 600 MiB"],
    ),
    (
        "memory for a worker only",
        {},
        {"w1": {"memory_bytes": GIB}, "cp1": {"memory_bytes": GIB}},
        ["warning: cp1: 1.0 GiB"],
    ),
    (
        "one full disk",
        {},
        {"cp1": {"mounts": FULL}},
        [
            "error: cp1: 1.0 GiB free for /opt/slipway, /var/lib/etcd",
            "warning: cp1: 2 % of the disk of /var/lib/kubelet",
            "warning: cp1: 2 % of the disk of /var/lib/containerd",
        ],
    ),
    (
        "a disk for each path",
        {},
        {"w1": {"mounts": MANY_MOUNTS}},
        ["error: w1: 1.0 GiB free for /var/lib/containerd (/var/lib/containerd)"],
    ),
    ("a disk for each path, installed before", {}, {"w1": {"mounts": MANY_MOUNTS, **INSTALLED}}, []),
    ("disks nobody saw", {}, {"w1": {"mounts": {}}}, []),
    (
        "a disk the kubelet is told to accept",
        {"slipway_kubelet": {"evictionHard": {"nodefs.available": "1%", "imagefs.available": "1Gi"}}},
        {"w1": {"mounts": FULL, **INSTALLED}},
        ["error: w1: 1.0 GiB free"],
    ),
    ("swap", {}, {"w1": {"swaps": ["/dev/vda2"]}, "w2": {"swaps": ["/swap"]}}, ["warning: w1, w2: swap is on"]),
    ("swap that is kept", {"slipway_host": {"swap": "keep"}}, {"w1": {"swaps": ["/dev/vda2"]}}, []),
    (
        "swap that is kept and refused",
        {"slipway_host": {"swap": "keep"}, "slipway_kubelet": {"failSwapOn": True}},
        {"w1": {"swaps": ["/dev/vda2"]}},
        ["error: w1: swap is on, and slipway_kubelet.failSwapOn"],
    ),
    ("a clock nobody sets", {}, {"w1": {"ntp_synchronized": False}}, ["warning: w1: its clock is not synchronised"]),
    ("a clock nobody knows of", {}, {"w1": {"ntp_synchronized": None}}, []),
    ("port 6443 taken", {}, {"cp1": listening(6443)}, ["error: cp1: port 6443 is in use by nginx of nginx.service"]),
    ("a run before has just tried the ports", {}, {"w1": listening(10250, process="slipway-reach", unit="")}, []),
    (
        "a run before has just tried the ports, and this one shall not",
        {"slipway_ignore_preflight": ["reach"]},
        {"w1": listening(10250, process="slipway-reach", unit="")},
        ["error: w1: port 10250 is in use by slipway-reach"],
    ),
    ("port 6443 taken on a worker", {}, {"w1": listening(6443)}, []),
    ("port 6443 by ourselves", {}, {"cp1": listening(6443, unit="kube-apiserver.service")}, []),
    (
        "port 10250 by nobody known",
        {},
        {"w1": listening(10250, "[::]", "", "")},
        ["error: w1: port 10250 is in use by an unk"],
    ),
    ("the proxy's port elsewhere", {}, {"w1": listening(6444, "10.0.0.21")}, []),
    ("the proxy's port on loopback", {}, {"w1": listening(6444, "127.0.0.1%lo")}, ["error: w1: port 6444"]),
    ("another API port", {"slipway_apiserver_port": 7443}, {"cp1": listening(6443)}, []),
    (
        "a web server where ingress is to be",
        HOST_INGRESS,
        {"cp1": listening(80), "w1": listening(80), "w2": listening(443, unit="", process="caddy")},
        ["error: w1: port 80 is in use by nginx of nginx.service", "error: w2: port 443 is in use by caddy"],
    ),
    ("a web server where no ingress is", {}, {"w1": listening(80)}, []),
    ("a web server beside an ingress behind an address", BALANCED, {"w1": listening(80)}, []),
    ("ingress by ourselves", HOST_INGRESS, {"w1": listening(80, "*", "traefik", PODS)}, []),
    (
        "a pod of somebody else's where ingress is to be",
        HOST_INGRESS,
        {"w1": listening(443, "*", "nginx", PODS)},
        ["error: w1: port 443 is in use by nginx of kubepods.slice"],
    ),
    ("Traefik that is no pod", HOST_INGRESS, {"w1": listening(80, "*", "traefik")}, ["error: w1: port 80 is in use"]),
    ("Traefik's own loopback", HOST_INGRESS, {"w1": listening(9181, "127.0.0.1")}, []),
    ("Traefik's pings", HOST_INGRESS, {"w1": listening(9181)}, ["error: w1: port 9181 is in use by nginx"]),
    ("Traefik's metrics", HOST_INGRESS, {"w1": listening(9180, "127.0.0.1")}, ["error: w1: port 9180 is in use"]),
    (
        "MetalLB's ports",
        BALANCED,
        {"cp1": listening(7946, "10.0.0.11"), "w1": listening(7946, "127.0.0.1"), "w2": listening(9120)},
        ["error: cp1: port 7946 is in use by nginx of nginx.service", "error: w2: port 9120 is in use by nginx"],
    ),
    ("MetalLB's ports by ourselves", BALANCED, {"w1": listening(7946, "10.0.0.21", "speaker", PODS)}, []),
    ("MetalLB's ports without it", {}, {"w1": listening(7946)}, []),
    (
        "programs that are installed",
        {},
        {"w1": {"programs": {**dict.fromkeys(PACKAGES, "/x"), "nft": None}}},
        ["warning: w1: not installed: nft"],
    ),
    (
        "programs that are not installed",
        {"slipway_host": {"packages": False}},
        {"w1": {"programs": {}}},
        ["error: w1: not installed: "],
    ),
    (
        "programs on a system without apt",
        {},
        {"w1": {"programs": {}, "os": {"id": "rocky", "version_id": "10"}}},
        ["error: w1: not installed", "warning: w1: rocky 10"],
    ),
    (
        "a cloned machine-id",
        {},
        {"w1": {"machine_id": "same"}, "w2": {"machine_id": "same"}},
        ["error: machine-id: w1, w2 have the same machine-id same: a cloned image"],
    ),
    ("no machine-id", {}, {"w1": {"machine_id": ""}, "w2": {"machine_id": ""}}, []),
    (
        "a cloned host name",
        {},
        {"w1": {"hostname": "debian"}, "w2": {"hostname": "debian"}},
        ["error: hostname: w1, w2 have the same host name debian"],
    ),
    (
        "an address the host does not have",
        {},
        {"w1": {"addresses": [{"interface": "eth0", "address": "192.168.1.5", "prefix": 24, "mtu": 1500}]}},
        ["error: w1: no interface has its address 10.0.0.21"],
    ),
    ("no address seen", {}, {"w1": {"addresses": []}}, []),
    (
        "a network the pods would hide",
        {},
        {
            "w1": {
                "addresses": [
                    *data("w1")["addresses"],
                    {"interface": "eth1", "address": "10.244.7.9", "prefix": 16, "mtu": 1},
                ]
            }
        },
        ["error: w1: its network 10.244.0.0/16 (eth1) overlaps slipway_network.pod_cidr"],
    ),
    (
        "the pods' own interface",
        {},
        {
            "w1": {
                "addresses": [
                    *data("w1")["addresses"],
                    {"interface": "cni0", "address": "10.244.7.1", "prefix": 24, "mtu": 1},
                ],
                **INSTALLED,
            }
        },
        [],
    ),
    ("a resolver that is itself", {}, {"w1": {"resolvers": ["127.0.0.53"]}}, ["error: w1: its only resolvers"]),
    (
        "a resolver that is itself, with upstream",
        {"slipway_dns": {"upstream": ["10.0.0.53"]}},
        {"w1": {"resolvers": ["::1"]}},
        [],
    ),
    (
        "a resolver that is itself, with a DNS of one's own",
        {"slipway_dns": {"enabled": False}},
        {"w1": {"resolvers": ["127.0.0.53"]}},
        [],
    ),
    ("no resolver", {}, {"w1": {"resolvers": []}, "w2": {"resolvers": ["fe80::1%eth0", "what"]}}, []),
    (
        "a proxy that catches all",
        {},
        {"w1": {"proxy_environment": {"HTTPS_PROXY": "http://me:pw@proxy:3128", "NO_PROXY": "localhost, 10.0.0.0/24"}}},
        ["error: w1: https_proxy would catch 10.244.0.0/16, 10.96.0.0/12, .cluster.local"],
    ),
    (
        "a proxy that leaves the cluster alone",
        {},
        {"w1": {"proxy_environment": {"http_proxy": "http://p", "no_proxy": "10.0.0.0/8,.local"}}},
        [],
    ),
    ("a proxy that is off", {}, {"w1": {"proxy_environment": {"http_proxy": "http://p", "no_proxy": "*"}}}, []),
    ("no_proxy alone", {}, {"w1": {"proxy_environment": {"no_proxy": "a"}}}, []),
    (
        "kubeadm was here",
        {},
        {"cp1": {"kubeadm_leftovers": ["/etc/kubernetes/manifests/etcd.yaml"]}},
        ["error: cp1: kubeadm left /etc/kubernetes/manifests/etcd.yaml"],
    ),
    (
        "a host of another cluster",
        {},
        {"w1": {"cluster": {"name": "old", "id": "1"}}},
        ["error: w1: belongs to the cluster old"],
    ),
    (
        "hosts of two clusters of one name",
        {},
        {"cp1": {"cluster": {"name": "slipway", "id": "1"}}, "w1": OTHER_CLUSTER, "w2": OTHER_CLUSTER},
        ["error: cluster slipway: hosts are of 2 clusters of that name: cp1; w1, w2"],
    ),
    (
        "foreign keys and data",
        {},
        {"cp1": {"authorities": {"kubernetes": "aa", "etcd": "bb"}, "etcd_data": True}},
        ["error: cp1: has a CA that Slipway did not make (etcd)", "error: cp1: /var/lib/etcd holds data"],
    ),
    ("keys and data of ours", {}, {"cp1": {"authorities": {"etcd": "bb"}, "etcd_data": True, **INSTALLED}}, []),
    (
        "two CAs of one kind",
        {},
        {"cp1": {"authorities": {"etcd": "aa"}, **INSTALLED}, "w1": {"authorities": {"etcd": "bb"}, **INSTALLED}},
        ["error: certificate authority etcd: hosts have different CAs: cp1: aa…; w1: bb…"],
    ),
]


@pytest.mark.parametrize(
    ("variables", "hosts", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_checks(variables: dict[str, t.Any], hosts: dict[str, dict[str, t.Any]], expected: list[str]) -> None:
    found = said(check(spec(**variables), **hosts))
    assert len(found) == len(expected), found
    for text, start in zip(found, expected, strict=True):
        assert text.startswith(start), found


def test_what_is_wrong_everywhere_is_said_once() -> None:
    problems = check(spec(), every={"cgroup": 1, "swaps": ["/swap"]})
    assert said(problems) == [
        "error: cp1, w1, w2: cgroup v1, with which the kubelet refuses to start",
        "warning: cp1, w1, w2: swap is on",
    ]


def test_an_ignored_check_becomes_a_warning_and_the_error_says_how() -> None:
    (error,) = check(spec(), w1={"systemd": 200})
    assert error.remedy.endswith("or go on with slipway_ignore_preflight: [systemd]")
    (warning,) = check(spec(slipway_ignore_preflight="systemd"), w1={"systemd": 200})
    assert warning.warning
    assert warning.remedy.endswith("(check systemd is ignored)")


def test_what_guards_keys_cannot_be_ignored() -> None:
    (error,) = check(spec(), w1={"cluster": {"name": "old", "id": "1"}})
    assert "slipway_ignore_preflight" not in error.remedy


def test_a_silent_host_is_named_and_the_others_are_checked() -> None:
    wanted = spec()
    problems = preflight.check(
        wanted, {"cp1": probe("cp1"), "w1": probe("w1", cgroup=1)}, silent={"w2": "ssh: connect\n  timed out"}
    )
    assert said(problems) == [
        "error: w2: cannot be reached: ssh: connect timed out",
        "error: w1: cgroup v1, with which the kubelet refuses to start",
    ]
    assert said(preflight.check(wanted, {}))[0] == "error: cp1, w1, w2: cannot be reached: no answer"


def test_all_silent_hosts_are_named() -> None:
    workers = [f"w{n}" for n in range(9)]
    (problem,) = preflight.check(spec(workers=[]), {})
    assert problem.where == "cp1"
    hosts = {f"w{n}": HostInput(f"w{n}", frozenset({"slipway_workers"}), {}) for n in range(9)}
    wanted = load({"cp1": HostInput("cp1", frozenset({"slipway_control_plane"}), {}), **hosts})
    (problem,) = preflight.check(wanted, {"cp1": probe("cp1")})
    assert problem.where.split(", ") == workers


@pytest.mark.parametrize(
    ("reason", "found"),
    [
        (
            "Ansible requires Python 3.9 or newer on the target. Current version: 3.8.18 (default, May  9 2026)",
            "Python 3.8.18 is too old",
        ),
        ("SyntaxError: future feature annotations is not defined", "Python 3.6 or older is too old"),
        ("/bin/sh: 1: /usr/bin/python3: not found", "there is no Python"),
        ("The module interpreter '/usr/bin/python9' was not found.", "there is no Python"),
        ("Permission denied (publickey)", "cannot be reached: Permission denied (publickey)"),
    ],
)
def test_why_a_host_is_silent(reason: str, found: str) -> None:
    assert preflight.silence("w1", reason).found == found


@pytest.mark.parametrize(
    ("port", "unit", "found"),
    [
        (5000, "nginx.service", ["error: r1: port 5000 is in use by nginx of nginx.service"]),
        (5000, "slipway-registry.service", []),
        (10250, "nginx.service", []),
    ],
)
def test_the_port_of_a_registry(port: int, unit: str, found: list[str]) -> None:
    groups = {"cp1": "slipway_control_plane", "r1": "slipway_registry"}
    password = {"slipway_secret_registry_password": "a long password"}
    wanted = load(
        {
            name: HostInput(name, frozenset({group}), {"ansible_host": ADDRESSES.get(name, "10.0.0.99"), **password})
            for name, group in groups.items()
        }
    )
    assert said(check(wanted, cp1=listening(5000), r1=listening(port, unit=unit))) == found


def test_absent_hosts_and_hosts_of_no_role_are_not_checked() -> None:
    wanted = load(
        {
            "cp1": HostInput("cp1", frozenset({"slipway_control_plane"}), {"ansible_host": "10.0.0.11"}),
            "w1": HostInput("w1", frozenset({"slipway_workers"}), {"slipway_node_absent": True}),
        }
    )
    assert preflight.check(wanted, {"cp1": probe("cp1"), "w1": probe("w1", cgroup=1), "x": probe("x", cgroup=1)}) == []


def test_an_etcd_host_needs_no_kubelet() -> None:
    wanted = spec(etcd=["e1"])
    assert check(wanted, e1={"cgroup": 1, "swaps": ["/s"], "kernel": "4.19.0", "resolvers": ["127.0.0.1"]}) == []
    assert said(check(wanted, e1=listening(2379)))[0].startswith("error: e1: port 2379")


@pytest.mark.parametrize(
    ("host", "synchronized", "expected"),
    [
        (NOW, True, []),
        (NOW + 9, True, []),
        (NOW - 4, True, []),
        (NOW + 16, False, ["error: w1: its clock is 6 s ahead of the controller's"]),
        (NOW - 60, None, ["error: w1: its clock is 60 s behind the controller's"]),
        (NOW - 60, True, ["warning: w1: its clock is 60 s behind the controller's"]),
    ],
)
def test_the_round_trip_is_not_the_clocks_fault(host: float, synchronized: bool | None, expected: list[str]) -> None:
    wanted = spec(workers=["w1"])
    probes = {"cp1": probe("cp1"), "w1": probe("w1", time=host, ntp_synchronized=synchronized)}
    found = preflight.check(wanted, probes, clocks={"w1": Clock(NOW, NOW + 10)})
    assert said(found) == expected


def test_architectures_of_the_bundle() -> None:
    wanted = spec()
    probes = {name: probe(name, architecture="arm64") for name in wanted.nodes}
    assert preflight.check(wanted, probes) == []
    (problem,) = preflight.check(wanted, probes, architectures={"amd64"})
    assert problem.expected == "amd64"


def test_no_password_of_a_proxy_is_shown() -> None:
    problems = check(spec(), w1={"proxy_environment": {"HTTP_PROXY": "http://me:s3cret@p"}})
    assert "s3cret" not in str([each.as_dict() for each in problems])


# --- the probe's data -------------------------------------------------------------------------------------------------


def test_the_probe_is_typed() -> None:
    seen = probe(
        "w1",
        authorities={"kubernetes": "aa", "etcd": None},
        artifacts={"etcd": {"current": ""}, "kubelet": {"current": "1.37.0"}, "runc": None},
        cluster={"name": "slipway", "id": "1", "more": True},
        listening=[{"protocol": "tcp", "address": "*", "port": 1, "process": None, "unit": None}],
    )
    assert seen.authorities == {"kubernetes": "aa"}
    assert seen.artifacts == {"etcd": None, "kubelet": "1.37.0", "runc": None}
    assert seen.installed
    assert seen.cluster is not None
    assert seen.cluster.name == "slipway"
    assert seen.listening[0].unit == ""
    interface = seen.interface_of("10.0.0.21")
    assert interface is not None
    assert interface.mtu == 1500
    assert seen.interface_of("1.2.3.4") is None


@pytest.mark.parametrize("spoil", [{"os": None}, {"memory_bytes": "much"}, {"addresses": [{}]}, {"mounts": []}])
def test_data_of_another_release_is_refused_in_words(spoil: dict[str, t.Any]) -> None:
    with pytest.raises(SlipwayError, match="w1: the probe's answer cannot be read"):
        probe("w1", **spoil)


# --- what only the hosts know -----------------------------------------------------------------------------------------


def resolvable(*names: str, **variables: t.Any) -> ClusterSpec:
    hosts = {
        "cp1": HostInput("cp1", frozenset({"slipway_control_plane"}), {"ansible_host": "10.0.0.11"}),
        **{name: HostInput(name, frozenset({"slipway_workers"}), dict(variables)) for name in names},
    }
    return load(hosts)


def failed(wanted: ClusterSpec, **probes: Probe) -> str:
    with pytest.raises(SlipwayError) as caught:
        with_probes(wanted, probes)
    return str(caught.value)


def test_address_and_name_come_from_the_host() -> None:
    wanted = resolvable("Rack_1")
    resolved = with_probes(wanted, {"Rack_1": probe("w1"), "elsewhere": probe("w2")})
    node = resolved.nodes["Rack_1"]
    assert (node.address, node.node_name) == ("10.0.0.21", "w1")
    origins = {setting.key: setting.origin for setting in node.settings}
    assert origins["address"] == "the source of the default route"
    assert origins["node name"] == "the host's own name"
    assert resolved.nodes["cp1"] == wanted.nodes["cp1"]


def test_the_inventorys_word_stands() -> None:
    wanted = spec()
    assert with_probes(wanted, {"w1": probe("w2")}).nodes["w1"] == wanted.nodes["w1"]


def test_a_joined_node_keeps_its_name() -> None:
    resolved = with_probes(resolvable("renamed"), {"renamed": probe("w1", node_name="before")})
    assert resolved.nodes["renamed"].node_name == "before"
    text = failed(resolvable("a", slipway_node_name="new"), a=probe("w1", node_name="before"))
    assert "slipway_node_name on a: joined as before, asked for as new" in text
    same = with_probes(resolvable("a", slipway_node_name="before"), {"a": probe("w1", node_name="before")})
    assert same.nodes["a"].node_name == "before"


def test_an_etcd_host_gets_an_address_and_no_name_of_its_own() -> None:
    hosts = {
        "cp1": HostInput("cp1", frozenset({"slipway_control_plane"}), {"ansible_host": "10.0.0.11"}),
        "e1": HostInput("e1", frozenset({"slipway_etcd"}), {}),
    }
    node = with_probes(load(hosts), {"e1": probe("w1", hostname="other")}).nodes["e1"]
    assert (node.address, node.node_name) == ("10.0.0.21", "e1")


def test_all_that_hosts_lack_comes_at_once() -> None:
    text = failed(
        resolvable("A_1", "A_2", "A_3"),
        A_1=probe("w1", default_route=None),
        A_2=probe("w2", default_route={"interface": "lo", "source": "127.0.0.1"}),
        A_3=probe("w1", hostname="localhost"),
    )
    assert "A_1: no address for the cluster: no default route" in text
    assert "A_2: no address for the cluster: a default route whose source 127.0.0.1 cannot be reached" in text
    assert "A_3: neither its inventory name nor its host name localhost can name a Node" in text


def test_problems_can_be_collected() -> None:
    problems: list[Problem] = []
    resolved = with_probes(resolvable("a"), {"a": probe("w1", default_route=None)}, problems)
    assert resolved.nodes["a"].address is None
    assert [problem.where for problem in problems] == ["a"]


def test_what_hosts_say_is_checked_like_the_inventory() -> None:
    inside = data("w1", default_route={"interface": "eth0", "source": "10.96.0.9"})
    text = failed(resolvable("a", "b"), a=Probe.from_data(copy.deepcopy(inside)), b=Probe.from_data(inside))
    assert "a, b have the same address 10.96.0.9" in text
    assert "inside service_cidr" in text
