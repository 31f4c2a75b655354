# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab is: names, addresses, what is refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway.lab.model import Lab, LabSpec, spec_differences, spec_problems

SPEC = LabSpec(name="a", control_plane=1, workers=2, etcd=1, host_os=(("w2", "debian-12"),))
LAB = Lab(SPEC, Path("/p/.lab/a"), "172.28.7.0/24", {"slipway_x": 1})


def test_hosts_have_names_groups_addresses_and_systems() -> None:
    assert [dataclasses.astuple(host) for host in LAB.hosts] == [
        ("cp1", "slipway_control_plane", "172.28.7.11", "debian-13"),
        ("etcd1", "slipway_etcd", "172.28.7.31", "debian-13"),
        ("w1", "slipway_workers", "172.28.7.51", "debian-13"),
        ("w2", "slipway_workers", "172.28.7.52", "debian-12"),
    ]


def test_docker_and_registry_hosts_come_with_their_groups() -> None:
    hosts = Lab(LabSpec(control_plane=0, workers=0, docker=2, registry=1), LAB.directory, LAB.subnet, {}).hosts
    assert [(host.name, host.group, host.address) for host in hosts] == [
        ("docker1", "slipway_docker", "172.28.7.2"),
        ("docker2", "slipway_docker", "172.28.7.3"),
        ("registry1", "slipway_registry", "172.28.7.7"),
    ]


def test_the_largest_lab_has_addresses_of_its_own_inside_the_subnet() -> None:
    spec = LabSpec(control_plane=20, etcd=20, workers=200, docker=5, registry=4)
    assert spec_problems(spec) == []
    addresses = [host.address for host in dataclasses.replace(LAB, spec=spec).hosts]
    assert len(set(addresses)) == 249
    assert max(int(address.rsplit(".", 1)[1]) for address in addresses) == 250


def test_a_lab_survives_its_file() -> None:
    assert Lab.from_dict(json.loads(json.dumps(LAB.as_dict())), LAB.directory) == LAB


def test_an_unknown_host_is_named_with_those_there_are() -> None:
    with pytest.raises(SlipwayError, match=r"no host w9.*cp1, etcd1, w1, w2"):
        LAB.host("w9")


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"name": ""}, "--name"),
        ({"name": "Lab"}, "--name"),
        ({"name": "a/../b"}, "--name"),
        ({"name": "-a"}, "--name"),
        ({"name": "a" * 33}, "--name"),
        ({"control_plane": 21}, "--control-plane"),
        ({"workers": -1}, "--workers"),
        ({"docker": 6}, "--docker"),
        ({"registry": 5}, "--registry"),
        ({"control_plane": 0, "workers": 0}, "--control-plane, --etcd, --workers"),
        ({"os": "debian-11"}, "--os"),
        ({"driver": "kvm"}, "--driver"),
        ({"host_os": (("w1", "fedora"),)}, "--host-os w1"),
        ({"host_os": (("w3", "debian-12"),)}, "--host-os w3"),
        ({"subnet": "172.28.0.0/16"}, "--subnet"),
        ({"subnet": "172.28.0.5/24"}, "--subnet"),
        ({"subnet": "rubbish"}, "--subnet"),
    ],
)
def test_a_bad_spec_is_refused_by_the_option_that_is_wrong(change: dict[str, object], where: str) -> None:
    spec = dataclasses.replace(LabSpec(), **change)  # type: ignore[arg-type]
    assert [problem.where for problem in spec_problems(spec)] == [where]


def test_all_problems_of_a_spec_come_at_once() -> None:
    spec = LabSpec(name="_", workers=-1, os="x", subnet="y")
    assert [problem.where for problem in spec_problems(spec)] == ["--name", "--workers", "--os", "--subnet"]


@pytest.mark.parametrize("name", ["a", "lab", "0", "a-b-1", "a" * 32])
def test_good_names(name: str) -> None:
    assert spec_problems(LabSpec(name=name)) == []


def test_differences_between_specs() -> None:
    assert spec_differences(SPEC, SPEC) == []
    assert spec_differences(SPEC, dataclasses.replace(SPEC, subnet="172.28.1.0/24")) == []
    assert spec_differences(LabSpec(name="a", etcd=1), SPEC) == ["host_os is w2=debian-12, asked for none"]
    fixed = dataclasses.replace(SPEC, subnet="172.28.1.0/24")
    assert spec_differences(fixed, SPEC) == ["subnet is any, asked for 172.28.1.0/24"]
    wanted = dataclasses.replace(SPEC, workers=3, isolated=True)
    assert spec_differences(wanted, SPEC) == ["workers is 2, asked for 3", "isolated is False, asked for True"]
