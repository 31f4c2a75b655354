# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker host and a registry beside a cluster: what Docker builds is what the cluster runs."""

from __future__ import annotations

import collections.abc
import json
import pathlib
import typing as t

import pytest

from slipway.lab import Lab
from tests.cluster import support

PASSWORD = "a-password-of-tests"
CONTAINER = "keeps-running"
IMAGE = "tests/keeps-running:1"


@pytest.fixture(scope="module")
def lab() -> collections.abc.Iterator[Lab]:
    own = {"slipway_secret_registry_password": PASSWORD}
    with support.lab_of(workers=0, docker=1, registry=1, extra_vars=own) as made:
        yield made


@pytest.fixture(scope="module")
def applied(lab: Lab) -> tuple[support.Run, support.Run]:
    """What was announced on bare hosts, and what was done then."""
    announced = support.ansible_run(lab.inventory, "apply", "--check").require()
    return announced, support.ansible_run(lab.inventory, "apply").require()


def docker(lab: Lab, *words: str) -> str:
    return support.on(lab, "docker1", "docker", *words, timeout=120).strip()


def registry_of(lab: Lab) -> str:
    return f"{lab.host('registry1').address}:5000"


def settings(**engine: t.Any) -> dict[str, t.Any]:
    return {"slipway_docker": engine}


def test_what_is_announced_is_done_and_then_there_is_nothing_left(
    lab: Lab, applied: tuple[support.Run, support.Run]
) -> None:
    announced, done = applied
    for host in ("docker1", "registry1"):
        assert announced.of(host) == done.of(host)
    assert ("docker", "start docker.service") in done.of("docker1")
    assert ("component", "start slipway-registry.service") in done.of("registry1")
    again = support.ansible_run(lab.inventory, "apply").require()
    assert {host: stats.changed for host, stats in again.stats.items()} == {"cp1": 0, "docker1": 0, "registry1": 0}
    assert again.stats["docker1"].results <= 6
    assert again.stats["registry1"].results <= 6


def test_no_password_is_said_or_left_on_the_controller(lab: Lab, applied: tuple[support.Run, support.Run]) -> None:
    for run in applied:
        said = json.dumps(run.events, default=str)
        assert PASSWORD not in said
        assert "$2b$10$" not in said
    assert "slipway:$2b$10$" in support.on(lab, "registry1", "cat", "/etc/slipway-registry/htpasswd")


def test_docker_builds_pushes_and_the_cluster_runs_it(lab: Lab, applied: tuple[support.Run, support.Run]) -> None:
    said = json.loads(support.slipway("verify", "-i", str(lab.inventory), "--json").require().out)
    found = {check["aspect"]: check for check in said["checks"]}
    for aspect in ("docker build", "docker run", "docker restart policy", "docker push", "image from the registry"):
        assert found[aspect]["ok"], found[aspect]
    assert "pods start" in found
    assert docker(lab, "ps", "--all", "--quiet") == ""
    assert docker(lab, "images", "--quiet") == ""
    assert support.ask(lab, "cp1", *support.KUBECTL, "get", "namespace", "slipway-verify-image").returncode != 0


@pytest.mark.parametrize("password", ["", "wrong-password"])
def test_the_registry_lets_nobody_else_in(lab: Lab, applied: tuple[support.Run, support.Run], password: str) -> None:
    login = ("login", "--username", "slipway", "--password-stdin", registry_of(lab))
    command = ("env", "DOCKER_CONFIG=/run/login-of-tests", "docker", *login)
    refused = support.ask(lab, "docker1", *command, stdin=password or "x", timeout=60)
    assert refused.returncode != 0
    assert "unauthorized" in refused.stderr.lower()


def test_containers_go_on_while_the_engine_learns_something_new(
    lab: Lab, applied: tuple[support.Run, support.Run]
) -> None:
    script = (
        "mkdir -p /root/c/root && cd /root/c && "
        "cp --parents -L /bin/sleep $(ldd /bin/sleep | grep -o '/[^ )]*') root && "
        'printf \'FROM scratch\\nCOPY root/ /\\nCMD ["/bin/sleep", "3600"]\\n\' > Dockerfile && '
        f"docker build --tag {IMAGE} . && docker run --detach --name {CONTAINER} {IMAGE}"
    )
    support.shell(lab, "docker1", script, timeout=180)
    pid = docker(lab, "inspect", "--format", "{{.State.Pid}}", CONTAINER)
    restarted = support.ansible_run(lab.inventory, "docker", extra_vars=settings(log_max_files=3)).require()
    assert restarted.of("docker1") == [
        ("docker", "write /etc/docker/daemon.json"),
        ("docker", "restart docker.service"),
    ]
    engine = support.on(lab, "docker1", "systemctl", "show", "--property=MainPID", "docker.service")
    mirrored = settings(log_max_files=3, registry_mirrors=["https://mirror.invalid"])
    reloaded = support.ansible_run(lab.inventory, "docker", extra_vars=mirrored).require()
    assert reloaded.of("docker1")[1:] == [("docker", "reload docker.service")]
    assert "https://mirror.invalid/" in docker(lab, "info", "--format", "{{.RegistryConfig.Mirrors}}")
    assert support.on(lab, "docker1", "systemctl", "show", "--property=MainPID", "docker.service") == engine
    assert docker(lab, "inspect", "--format", "{{.State.Pid}} {{.RestartCount}}", CONTAINER) == f"{pid} 0"
    assert support.ansible_run(lab.inventory, "docker", extra_vars=mirrored).require().of("docker1") == []
    moved = support.ansible_run(lab.inventory, "docker", extra_vars=settings(data_root="/srv/docker"))
    assert "has containers in /var/lib/docker" in moved.problem_text()


@pytest.mark.parametrize(
    ("play", "words"),
    [
        ({"hosts": "cp1"}, "use another host for Docker"),
        ({"hosts": "docker1", "docker_avoid": ["172.17.9.0/24"]}, "overlaps 172.17.9.0/24, a network of the cluster"),
        ({"hosts": "docker1", "docker_engine": {"address_pools": [{"base": "172.28.0.0/16", "size": 24}]}}, "on eth0"),
    ],
)
def test_what_would_do_harm_is_refused_before_anything_is_touched(
    lab: Lab, applied: tuple[support.Run, support.Run], tmp_path: pathlib.Path, play: dict[str, t.Any], words: str
) -> None:
    role = {"role": "slipway.cluster.docker", **{key: value for key, value in play.items() if key != "hosts"}}
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([{"hosts": play["hosts"], "gather_facts": False, "roles": [role]}]))
    refused = support.ansible_run(lab.inventory, str(playbook))
    assert refused.code != 0
    assert words in refused.problem_text()
    assert refused.actions == ()


def test_another_name_of_the_registry_is_in_its_certificate(lab: Lab, applied: tuple[support.Run, support.Run]) -> None:
    more = {"slipway_registry": {"names": ["registry.test"]}}
    run = support.ansible_run(lab.inventory, "apply", extra_vars=more).require()
    assert run.of("registry1") == [
        ("certificate", "request certificate registry"),
        ("certificate", "issue certificate registry"),
        ("certificate", "restart slipway-registry.service"),
    ]
    ask = ("openssl", "s_client", "-connect", "127.0.0.1:5000", "-CAfile", "/etc/slipway-registry/ca.crt")
    served = support.on(lab, "registry1", *ask, "-verify_hostname", "registry.test", "-verify_return_error", stdin="")
    assert "Verify return code: 0 (ok)" in served
    assert not support.ask(lab, "registry1", "ls", "/etc/slipway-registry/tls.key.new").stdout
