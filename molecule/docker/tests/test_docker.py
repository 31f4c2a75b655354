# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker host as it is: who may use it, what the engine has read, and that it builds and runs."""

from __future__ import annotations

import ipaddress
import json

from testinfra.host import Host

testinfra_hosts = ["ansible://slipway_docker"]

BUILD = """
set -eu
mkdir -p /root/c/root && cd /root/c
cp --parents -L /bin/sh $(ldd /bin/sh | grep -o '/[^ )]*') root
printf 'FROM scratch\\nCOPY root/ /\\nCMD ["/bin/sh", "-c", "echo hello"]\\n' > Dockerfile
docker build --quiet --tag tests/hello:1 . >/dev/null
docker run --rm tests/hello:1
"""


def test_the_engine_runs_with_what_is_in_its_file(host: Host) -> None:
    assert host.check_output("systemctl is-active docker.service containerd.service") == "active\nactive"
    assert host.check_output("systemctl is-enabled docker.service") == "enabled"
    info = json.loads(host.check_output("docker info --format '{{json .}}'"))
    assert info["LiveRestoreEnabled"] is True
    assert info["LoggingDriver"] == "json-file"
    assert info["DockerRootDir"] == "/var/lib/docker"
    assert info["DefaultAddressPools"] == [{"Base": "10.210.0.0/16", "Size": 24}]
    wanted = json.loads(host.check_output("cat /etc/docker/daemon.json"))
    assert wanted["max-concurrent-downloads"] == 6
    assert wanted["log-opts"] == {"max-file": "3", "max-size": "50m"}
    assert json.loads(host.check_output("cat /run/slipway-docker.json")) == wanted


def test_its_bridges_get_addresses_of_the_pool(host: Host) -> None:
    pool = ipaddress.ip_network("10.210.0.0/16")
    bridge = host.check_output("docker network inspect bridge --format '{{(index .IPAM.Config 0).Subnet}}'")
    assert ipaddress.ip_network(bridge).subnet_of(pool)  # type: ignore[arg-type]
    made = host.check_output("docker network create tests >/dev/null && docker network inspect tests --format "
                             "'{{(index .IPAM.Config 0).Subnet}}' && docker network rm tests >/dev/null")  # fmt: skip
    assert ipaddress.ip_network(made).subnet_of(pool)  # type: ignore[arg-type]


def test_members_of_the_group_may_use_it_and_others_may_not(host: Host) -> None:
    assert host.check_output("getent group docker").endswith(":games")
    assert host.check_output("stat --format '%U:%G %a' /run/docker.sock") == "root:docker 660"
    assert host.run("setpriv --reuid games --init-groups docker version").succeeded
    assert host.run("setpriv --reuid nobody --clear-groups docker version").failed


def test_it_builds_and_runs(host: Host) -> None:
    assert host.check_output(BUILD) == "hello"
    assert host.run("docker buildx version").succeeded
    assert host.run("docker compose version").succeeded
