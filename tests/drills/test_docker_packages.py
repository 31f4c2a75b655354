# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker host without a package of Docker's, first alone, then beside a cluster with a registry that goes again."""

from __future__ import annotations

import collections.abc
import json
import typing as t
from pathlib import Path

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.docker import LOGIN, parse_auths
from slipway.lab import Lab
from tests.cluster import support

PACKAGES = ("docker.io", "docker-cli", "docker-buildx", "docker-compose", "ca-certificates")
DATA = "/var/lib/slipway-registry"
# A program of the host with what it needs, so that nothing comes from outside.
BUILD = """\
mkdir -p /root/c/root && cd /root/c
cp --parents -L /bin/sleep $(ldd /bin/sleep | grep -o '/[^ )]*') root
printf 'FROM scratch\\nCOPY root/ /\\nCMD ["/bin/sleep", "3600"]\\n' > Dockerfile
docker build --quiet --tag {image} .
docker push --quiet {image}
docker image rm {image}
"""


@pytest.fixture(scope="module")
def lab() -> collections.abc.Iterator[Lab]:
    """A Docker host with a way out and few packages, and one host for a cluster."""
    own = {"slipway_secret_registry_password": "a-password-of-drills"}
    name = support.lab_name("dp")
    with support.lab_of(name, workers=0, docker=1, isolated=False, bare_packages=True, extra_vars=own) as made:
        yield made


@pytest.fixture(scope="module")
def alone(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inventory without a cluster."""
    return support.inventory_of(lab, {"docker1"}, tmp_path_factory.mktemp("alone") / "inventory.yml")


@pytest.fixture(scope="module")
def together(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inventory in which the cluster's host is the registry, too."""
    path = tmp_path_factory.mktemp("together") / "inventory.yml"
    return support.inventory_with(lab, {"slipway_registry": ["cp1"]}, path)


def image_of(lab: Lab) -> str:
    return f"{lab.host('cp1').address}:5000/drills/sleep:1"


def installed(lab: Lab) -> set[str]:
    """Which of Docker's packages the host has."""
    listed = support.on(lab, "docker1", "dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n")
    return {line.split()[0] for line in listed.splitlines() if line.endswith(" installed")} & set(PACKAGES)


def has_image(lab: Lab, image: str) -> bool:
    return support.ask(lab, "docker1", "docker", "image", "inspect", image).returncode == 0


def as_announced(inventory: Path, playbook: str, *hosts: str, **variables: t.Any) -> support.Run:
    """Run it in check mode, do it, and see that on these hosts that was done, and that nothing is left to do."""
    announced = support.ansible_run(inventory, playbook, "--check", extra_vars=variables).require()
    done = support.ansible_run(inventory, playbook, extra_vars=variables).require()
    for host in hosts:
        assert announced.of(host) == done.of(host)
    again = support.ansible_run(inventory, playbook, extra_vars=variables).require()
    assert {host: stats.changed for host, stats in again.stats.items()} == dict.fromkeys(again.stats, 0)
    print(f"{playbook}: {done.seconds:.0f} s, again {again.seconds:.0f} s; {done.of(hosts[0])}", flush=True)
    return done


def test_packages_are_announced_and_installed_and_the_engine_runs(lab: Lab, alone: Path) -> None:
    lacking = sorted(set(PACKAGES) - installed(lab))
    assert "docker.io" in lacking
    done = as_announced(alone, "docker", "docker1")
    assert ("docker", f"install packages {', '.join(lacking)}") in done.of("docker1")
    assert installed(lab) == set(PACKAGES)
    assert support.on(lab, "docker1", "docker", "version", "--format", "{{.Server.Version}}").strip()
    for plugin in ("buildx", "compose"):
        assert support.on(lab, "docker1", "docker", plugin, "version").strip()
    assert json.loads(support.on(lab, "docker1", "cat", "/etc/docker/daemon.json"))["live-restore"] is True


def test_a_docker_host_without_a_cluster_is_verified(lab: Lab, alone: Path) -> None:
    said = support.slipway("verify", "--json", "-i", str(alone)).require()
    found = {check["aspect"]: check for check in json.loads(said.out)["checks"]}
    for aspect in ("docker build", "docker run", "docker restart policy"):
        assert (found[aspect]["ok"], found[aspect]["skipped"]) == (True, False), found[aspect]
    assert "nodes" not in found
    support.on(lab, "docker1", "systemctl", "stop", "docker.service", "docker.socket")
    assert support.slipway("verify", "-i", str(alone)).code == 1
    support.on(lab, "docker1", "systemctl", "start", "docker.socket", "docker.service")


def test_images_of_the_list_come_from_the_cluster_s_registry(lab: Lab, together: Path) -> None:
    done = as_announced(together, "apply", "docker1", "cp1")
    registry = image_of(lab).partition("/")[0]
    assert done.of("docker1")[-1] == ("docker", f"log root in to {registry}")
    support.shell(lab, "docker1", BUILD.format(image=image_of(lab)), timeout=180)
    assert not has_image(lab, image_of(lab))
    listed = {"slipway_docker": {"images": [image_of(lab)]}}
    pulled = as_announced(together, "docker", "docker1", **listed)
    assert pulled.of("docker1") == [("docker", f"pull image {image_of(lab)}")]
    assert has_image(lab, image_of(lab))


def test_a_registry_that_is_taken_away_leaves_its_images_only(lab: Lab, together: Path) -> None:
    image, registry = image_of(lab), image_of(lab).partition("/")[0]
    planned = json.loads(support.slipway("plan", "--json", "-i", str(lab.inventory)).require(2).out)
    done = support.ansible_run(lab.inventory, "apply").require()
    for host in ("cp1", "docker1"):
        assert sorted(support.announced(planned, host)) == sorted(done.of(host))
    print(f"taken away: {done.seconds:.0f} s; {done.of('cp1')}, {done.of('docker1')}", flush=True)
    assert done.of("docker1") == [
        ("docker", f"log root out of {registry}"),
        ("docker", f"remove /etc/docker/certs.d/{registry}/ca.crt"),
    ]
    assert ("host", "stop slipway-registry.service") in done.of("cp1")
    assert not support.pending("-i", str(lab.inventory))
    state = support.ask(lab, "cp1", "systemctl", "is-active", "slipway-registry.service").stdout.strip()
    assert state == "inactive"
    for host, path in (
        ("cp1", "/etc/slipway-registry"),
        ("cp1", "/etc/systemd/system/slipway-registry.service"),
        ("cp1", f"/etc/containerd/certs.d/{registry}"),
        ("docker1", f"/etc/docker/certs.d/{registry}"),
    ):
        assert support.ask(lab, host, "ls", path).returncode != 0, path
    assert registry not in parse_auths(support.on(lab, "docker1", "cat", LOGIN))
    assert support.on(lab, "cp1", "find", DATA, "-name", "data", "-type", "f").strip()
    assert has_image(lab, image)
    support.slipway("verify", "-i", str(lab.inventory)).require()
    # What was kept is served again when the host is a registry again.
    support.ansible_run(together, "apply").require()
    support.on(lab, "docker1", "docker", "image", "rm", image)
    support.on(lab, "docker1", "docker", "pull", "--quiet", image)
