# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may make keys and form etcd, for all that can have been seen, in whatever order."""

from __future__ import annotations

import dataclasses
import random
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.evidence import Evidence, Marks, judge
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.probe import ClusterMark, Probe
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec import load
from tests.unit.plugins.cluster import Cluster, bare

OURS = ClusterMark("slipway", "1")


@dataclasses.dataclass(frozen=True)
class Host:
    """What is special about a host that answered."""

    traces: str = ""
    formed: bool = False
    api: bool = False
    authority: str | None = None
    marked: bool = True

    def probe(self, name: str) -> Probe:
        authorities = {"kubernetes": self.authority} if self.authority else {}
        return dataclasses.replace(
            Probe.from_data(bare(name)), authorities=authorities, cluster=OURS if self.marked else None
        )

    complete: bool = False
    members: tuple[Member, ...] | None = None

    def marks(self) -> Marks:
        names = self.traces.split()
        shared = {name: self.authority or name for name in names} if self.complete else {}
        return Marks(frozenset(names), shared, self.complete, self.formed, members=self.members, api_answers=self.api)


BARE = Host(marked=False)
MEMBER = Host("kubernetes etcd", formed=True, api=True, authority="aaaa")
MADE = Host("kubernetes etcd", authority="aaaa", complete=True)
MAKING = Host("kubernetes", authority="aaaa")
MAKING_FIRST_KEY = Host("kubernetes")
JOINED = Host(authority="aaaa")
FOREIGN = Host(authority="ffff", marked=False)
SILENT = None
GROUPS = {"cp": "control_plane", "e": "etcd", "w": "workers"}


def verdict(
    hosts: t.Mapping[str, Host | None], order: t.Sequence[str] | None = None, absent: t.Collection[str] = ()
) -> Evidence:
    names = list(order or hosts)
    groups = {name: GROUPS[name.rstrip("0123456789")] for name in names}
    answered = {name: host for name in names if (host := hosts[name])}
    probes = {name: host.probe(name) for name, host in answered.items()}
    own: dict[str, dict[str, t.Any]] = {name: {"slipway_node_absent": True} for name in absent}
    spec = load(Cluster(groups, own=own).inputs())
    return judge(spec, probes, {name: host.marks() for name, host in answered.items()})


TABLE: list[tuple[str, dict[str, Host | None], tuple[str, str | None, bool], list[str]]] = [
    ("a new cluster", {"cp1": BARE, "w1": BARE}, ("cp1", "cp1", True), []),
    ("a new cluster of three", {"cp3": BARE, "cp1": BARE, "cp2": BARE, "w1": BARE}, ("cp1", "cp1", True), []),
    ("a silent worker keeps no cluster from being new", {"cp1": BARE, "w1": SILENT}, ("cp1", "cp1", True), []),
    ("an existing cluster", {"cp1": MEMBER, "w1": JOINED, "w2": BARE}, ("cp1", None, False), []),
    (
        "an existing cluster speaks through the host whose API answers",
        {"cp1": dataclasses.replace(MEMBER, api=False), "cp2": MEMBER, "w1": JOINED},
        ("cp2", None, False),
        [],
    ),
    (
        "a host that is new in an existing cluster makes nothing",
        {"cp1": BARE, "cp2": dataclasses.replace(MEMBER, members=(Member("1", healthy=True),)), "w1": JOINED},
        ("cp2", None, False),
        [],
    ),
    (
        "two that are new beside the only member that is left",
        {"cp1": BARE, "cp2": BARE, "cp3": dataclasses.replace(MEMBER, api=False), "w1": JOINED},
        ("cp3", None, False),
        ["cp1, cp2: no member of etcd, and the members that were (cp3) answer nothing: they have no quorum"],
    ),
    (
        "a silent member of an existing cluster",
        {"cp1": SILENT, "cp2": MEMBER, "w1": JOINED},
        ("cp2", None, False),
        [],
    ),
    (
        "a generator that was cut off goes on",
        {"cp1": BARE, "cp2": MAKING, "w1": BARE},
        ("cp2", "cp2", True),
        [],
    ),
    (
        "a generator that was cut off at its first key goes on",
        {"cp1": BARE, "cp2": MAKING_FIRST_KEY, "w1": BARE},
        ("cp2", "cp2", True),
        [],
    ),
    (
        "a generator that was cut off does not form etcd without all",
        {"cp1": SILENT, "cp2": MAKING, "w1": BARE},
        ("cp2", "cp2", False),
        [],
    ),
    (
        "etcd formed and the keys are gone: nothing is made",
        {"cp1": Host(formed=True), "w1": JOINED},
        ("cp1", None, False),
        [],
    ),
    (
        "etcd formed on hosts of its own, and the control plane is silent",
        {"cp1": SILENT, "e1": Host(formed=True), "w1": JOINED},
        ("cp1", None, False),
        [],
    ),
    (
        "two have begun",
        {"cp1": MAKING, "cp2": MAKING, "w1": BARE},
        ("cp1", None, True),
        ["cp1, cp2: hold parts of the cluster's keys, none of them all, and etcd has never formed"],
    ),
    (
        "one has made the keys and another has begun to receive them",
        {"cp1": MAKING, "cp2": MADE, "cp3": BARE, "w1": BARE},
        ("cp2", "cp2", True),
        [],
    ),
    (
        "keys that were made from different beginnings",
        {"cp1": MADE, "cp2": dataclasses.replace(MADE, authority="bbbb"), "w1": BARE},
        ("cp1", "cp1", True),
        [
            "certificate authority kubernetes: control-plane hosts hold different ones: cp1 has aaaa…, cp2 has bbbb…",
            "shared key etcd: control-plane hosts hold different ones: cp1 has aaaa…, cp2 has bbbb…",
        ],
    ),
    (
        "a cluster that lives, seen from a host that has not formed yet",
        {"cp1": dataclasses.replace(MADE, members=(Member("1", healthy=True),)), "cp2": BARE, "w1": BARE},
        ("cp1", None, False),
        [],
    ),
    (
        "two with different authorities",
        {"cp1": MEMBER, "cp2": dataclasses.replace(MEMBER, authority="bbbb"), "w1": JOINED},
        ("cp1", None, False),
        ["certificate authority kubernetes: control-plane hosts hold different ones: cp1 has aaaa…, cp2 has bbbb…"],
    ),
    (
        "an authority that Slipway did not make",
        {"cp1": dataclasses.replace(MAKING, authority="ffff", marked=False), "w1": BARE},
        ("cp1", "cp1", True),
        ["cp1: /etc/kubernetes/pki/ca.crt belongs to another cluster (ffff…)"],
    ),
    (
        "a worker of another cluster",
        {"cp1": MEMBER, "w1": FOREIGN, "w2": JOINED},
        ("cp1", None, False),
        ["w1: /etc/kubernetes/pki/ca.crt belongs to another cluster (ffff…)"],
    ),
    (
        "a worker of another cluster under a bare control plane",
        {"cp1": BARE, "w1": FOREIGN},
        ("cp1", "cp1", True),
        ["w1: /etc/kubernetes/pki/ca.crt belongs to another cluster (ffff…)"],
    ),
    (
        "a worker of another cluster under a control plane that was cut off",
        {"cp1": MAKING_FIRST_KEY, "w1": FOREIGN},
        ("cp1", "cp1", True),
        ["w1: /etc/kubernetes/pki/ca.crt belongs to another cluster (ffff…)"],
    ),
    (
        "a silent control plane says nothing about a worker's authority",
        {"cp1": SILENT, "w1": JOINED},
        ("cp1", "cp1", False),
        ["cp1: did not answer, so the cluster is not provably new: a cluster may live there"],
    ),
    (
        "a silent control-plane host may be a cluster",
        {"cp1": BARE, "cp2": SILENT, "w1": BARE},
        ("cp1", "cp1", False),
        ["cp2: did not answer, so the cluster is not provably new: a cluster may live there"],
    ),
    (
        "a silent etcd host may be a cluster",
        {"cp1": BARE, "e1": SILENT, "e2": SILENT, "e3": BARE, "w1": BARE},
        ("cp1", "cp1", False),
        ["e1, e2: did not answer, so the cluster is not provably new: a cluster may live there"],
    ),
]


@pytest.mark.parametrize(("hosts", "expected", "problems"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_truth_table(
    hosts: dict[str, Host | None], expected: tuple[str, str | None, bool], problems: list[str]
) -> None:
    found = verdict(hosts)
    assert (found.leader, found.generator, found.bootstrap) == expected
    assert [f"{problem.where}: {problem.found}" for problem in found.problems] == problems
    assert all(problem.expected and problem.remedy for problem in found.problems)


@pytest.mark.parametrize("hosts", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_order_of_the_inventory_means_nothing(hosts: dict[str, Host | None]) -> None:
    expected = verdict(hosts)
    for seed in range(10):
        order = list(hosts)
        random.Random(seed).shuffle(order)  # noqa: S311
        assert verdict(hosts, order) == expected


@pytest.mark.parametrize("hosts", [row[1] for row in TABLE], ids=[row[0] for row in TABLE])
def test_who_is_declared_down_is_no_less_a_part_of_the_cluster(hosts: dict[str, Host | None]) -> None:
    silent = [name for name, host in hosts.items() if host is None]
    if not any(hosts[name] for name in hosts if name.startswith("cp")):
        return  # refused before: somebody has to be there
    found, expected = verdict(hosts, absent=silent), verdict(hosts)
    declared = [
        dataclasses.replace(each, found=each.found.replace("did not answer", "declared down (slipway_node_absent)"))
        for each in expected.problems
    ]
    assert found == dataclasses.replace(expected, problems=tuple(declared))


SEEN = st.one_of(
    st.none(),
    st.builds(
        Host,
        st.sampled_from(["", "kubernetes", "kubernetes etcd"]),
        st.booleans(),
        st.booleans(),
        st.sampled_from([None, "aaaa", "bbbb"]),
        st.booleans(),
    ),
)


@given(st.fixed_dictionaries({"cp1": SEEN, "cp2": SEEN, "e1": SEEN, "w1": SEEN}), st.data())
def test_never_two_makers_and_no_second_cluster(hosts: dict[str, Host | None], data: st.DataObject) -> None:
    found = verdict(hosts)
    assert verdict(hosts, data.draw(st.permutations(sorted(hosts)))) == found
    voters = [hosts[name] for name in ("cp1", "cp2", "e1")]
    if any(host and host.formed for host in voters):
        assert found.generator is None
        assert not found.bootstrap
    if found.bootstrap:
        assert all(voters)
    if found.generator and not found.problems:
        others = [host for name, host in hosts.items() if name.startswith("cp") and name != found.generator and host]
        assert not any(host.traces for host in others) or found.holder == found.generator
    if found.generator and not any(host and host.traces for host in voters[:2]) and not found.problems:
        assert all(voters), "a cluster is new only if every control-plane and etcd host answered"


def test_keys_come_from_a_host_that_has_all_of_them() -> None:
    found = verdict({"cp1": BARE, "cp2": MAKING, "cp3": MADE, "w1": BARE})
    assert (found.holder, found.shared) == ("cp3", {"kubernetes": "aaaa", "etcd": "aaaa"})
    assert verdict({"cp1": BARE, "cp2": BARE}).holder == "cp1"


def test_the_members_are_those_of_who_sees_most_of_them_healthy() -> None:
    few, many = (tuple(Member(str(number), healthy=number < limit) for number in range(3)) for limit in (1, 2))
    hosts = {"cp1": dataclasses.replace(MEMBER, members=few), "cp2": dataclasses.replace(MEMBER, members=many)}
    assert verdict(hosts).members == many


def test_hosts_outside_the_limit_are_not_called_silent() -> None:
    groups = {"cp1": "control_plane", "w1": "workers"}
    found = judge(load(Cluster(groups).inputs()), {"w1": BARE.probe("w1")}, {"w1": BARE.marks()}, frozenset({"cp1"}))
    assert [problem.found for problem in found.problems] == [
        "outside --limit and not known to run a cluster, so there is none to join"
    ]
