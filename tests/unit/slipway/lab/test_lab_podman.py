# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is asked of podman, and what is read from its answers."""

from __future__ import annotations

import dataclasses
import typing as t
from pathlib import Path

import pytest

from slipway.lab import image
from slipway.lab.files import mac_address
from slipway.lab.model import SYSTEMS, Lab, LabSpec
from slipway.lab.podman import Container, containers_from, create_arguments

LAB = Lab(LabSpec(name="a"), Path("/p/.lab/a"), "172.28.7.0/24", {})


@pytest.mark.parametrize("legacy", [True, False])
def test_a_host_is_a_systemd_container_of_its_own(*, legacy: bool) -> None:
    arguments = create_arguments(LAB, LAB.host("w1"), "image:1", legacy_cgroups=legacy)
    text = " ".join(arguments)
    for needed in (
        "--name slipway-a-w1",
        "--hostname w1",
        "--ip 172.28.7.51",
        "--systemd=false",
        "--cgroupns=private",
        "--stop-signal SIGRTMIN+3",
        "--label slipway.lab=a",
    ):
        assert needed in text
    assert ("SYSTEMD_PROC_CMDLINE" in text) is legacy
    assert arguments[-3:] == ["image:1", "/bin/sh", "/mnt/init.sh"]


def test_a_virtual_machine_runs_in_a_container_with_its_address() -> None:
    lab = dataclasses.replace(LAB, spec=LabSpec(name="a", driver="vm"))
    arguments = create_arguments(lab, lab.host("w1"), "image:1", legacy_cgroups=False)
    assert "--ip 172.28.7.51 --mac-address 02:51:ac:1c:07:33" in " ".join(arguments)
    assert arguments[-3:] == ["image:1", "/bin/sh", "/mnt/machine.sh"]


def test_mac_addresses_are_unicast_local_and_follow_the_address() -> None:
    assert mac_address("172.28.7.51") == "02:51:ac:1c:07:33"
    assert len({mac_address(host.address) for host in LAB.hosts}) == 3


def test_only_containers_of_labs_are_listed() -> None:
    labels = {"slipway.lab": "a", "slipway.lab.host": "w1", "slipway.lab.directory": "/p/.lab/a"}
    listing: list[dict[str, t.Any]] = [
        {"Names": ["other"], "Labels": None, "State": "running"},
        {"Names": ["slipway-a-w1"], "Labels": labels, "State": "exited"},
    ]
    assert containers_from(listing) == [Container("slipway-a-w1", "a", "w1", "/p/.lab/a", "exited")]


def test_sources_follow_the_machine_s_own_and_change_only_the_release() -> None:
    targets = (
        "http://mirror.test/debian/|bookworm|main|Debian\n"
        "http://mirror.test/debian/|bookworm|main|Debian\n"
        "http://mirror.test/debian/|bookworm|contrib|Debian\n"
        "http://mirror.test/debian/|bookworm-updates|main|Debian\n"
        "http://mirror.test/debian/|bookworm-backports|main|Debian Backports\n"
        "http://mirror.test/security/|bookworm-security|main|Debian\n"
        "http://other.test/|stable|main|Somebody\n"
    )
    assert image.sources_for("trixie", targets) == (
        "deb http://mirror.test/debian/ trixie main",
        "deb http://mirror.test/debian/ trixie-updates main",
        "deb http://mirror.test/security/ trixie-security main",
    )
    assert image.sources_for("trixie", "") == ()


def test_only_settings_that_reach_the_sources_are_taken_over() -> None:
    dump = 'APT "";\nAcquire::http::Proxy "http://proxy.test:3128/";\nAcquire::Check-Date "false";\nDPkg::Tools "x";\n'
    assert image.apt_options_from(dump) == (
        'Acquire::http::Proxy "http://proxy.test:3128/";',
        'Acquire::Check-Date "false";',
    )


def test_an_image_s_tag_changes_with_any_part_of_its_recipe() -> None:
    recipes = [
        image.Recipe(system, packages, sources, options, customize, runner)
        for system in ("debian-12", "debian-13")
        for packages in (("a",), ("a", "b"))
        for sources in ((), ("deb x y main",))
        for options in ((), ("o",))
        for customize in ((), (("a.sh", "echo"),))
        for runner in ((), ("qemu",))
    ]
    assert len({recipe.tag for recipe in recipes}) == len(recipes)
    assert recipes[0].tag == image.Recipe("debian-12", ("a",), (), (), ()).tag


def test_bare_hosts_lack_exactly_what_a_cluster_needs() -> None:
    assert not set(image.BARE_PACKAGES) & {"openssl", "haproxy", "nftables", "ca-certificates"}
    assert {"openssl", "haproxy", "nftables"} <= set(image.CLUSTER_PACKAGES)


def test_docker_hosts_have_docker_unless_they_are_bare() -> None:
    plain = image.packages_for("debian-13", bare=False, docker=False, driver="container")
    assert set(image.packages_for("debian-13", bare=False, docker=True, driver="container")) - set(plain) == {
        "docker.io",
        "docker-cli",
        "docker-buildx",
        "docker-compose",
    }
    assert "docker.io" not in image.packages_for("debian-13", bare=True, docker=True, driver="container")
    assert set(image.DOCKER_PACKAGES) == set(SYSTEMS)


def test_a_virtual_machine_has_a_kernel_and_no_mask_over_its_settings() -> None:
    machine = image.packages_for("debian-13", bare=True, docker=False, driver="vm")
    assert set(machine) - set(image.BARE_PACKAGES) == set(image.MACHINE_PACKAGES)
    assert image.hooks_for(docker=False, driver="vm") == ("customize.sh", "vm.sh")
    assert image.hooks_for(docker=True, driver="container") == ("customize.sh", "container.sh", "docker.sh")
