# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Docker host and a registry beside a cluster: what Docker builds is what the cluster runs."""

from __future__ import annotations

import base64
import collections.abc
import json
import pathlib
import typing as t

import pytest

from slipway.lab import Lab
from tests.cluster import support

PASSWORD = "a-password-of-tests"
CONTAINER = "keeps-running"
REPOSITORY = "slipway-verify/hello"
# What a verification that was killed has left: a container, and what it has pushed, by a tag that says when.
LEFT = """\
mkdir -p /root/l/root && cd /root/l
cp --parents -L /bin/sleep $(ldd /bin/sleep | grep -o '/[^ )]*') root
printf 'FROM scratch\nLABEL slipway.cluster.verify=true\nCOPY root/ /\nCMD ["/bin/sleep", "3600"]\n' > Dockerfile
docker build --quiet --tag {image} .
docker push --quiet {image}
docker run --detach --name slipway-verify {image}
"""
LIST_TAGS = """\
import ssl, sys, urllib.error, urllib.request
host, repository, basic = sys.argv[1:]
request = urllib.request.Request(f"https://{host}/v2/{repository}/tags/list")
request.add_header("Authorization", f"Basic {basic}")
context = ssl.create_default_context(cafile="/etc/slipway-registry/ca.crt")
try:
    print(urllib.request.urlopen(request, context=context).read().decode())
except urllib.error.HTTPError as error:
    print("{}" if error.code == 404 else error)
"""
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


def verified(inventory: pathlib.Path) -> dict[str, dict[str, t.Any]]:
    """verify's findings by aspect."""
    said = json.loads(support.slipway("verify", "-i", str(inventory), "--json").out)
    return {check["aspect"]: check for check in said["checks"]}


def tags(lab: Lab) -> t.Any:
    """The tags of what verify pushes that are in the registry."""
    basic = base64.b64encode(f"slipway:{PASSWORD}".encode()).decode()
    said = support.on(lab, "registry1", "python3", "-", registry_of(lab), REPOSITORY, basic, stdin=LIST_TAGS)
    return json.loads(said).get("tags")


def test_docker_builds_pushes_and_the_cluster_runs_it(lab: Lab, applied: tuple[support.Run, support.Run]) -> None:
    left = f"{registry_of(lab)}/{REPOSITORY}:hello-1000000000-left"
    support.shell(lab, "docker1", LEFT.format(image=left), timeout=180)
    assert tags(lab) == ["hello-1000000000-left"]
    found = verified(lab.inventory)
    for aspect in ("docker build", "docker run", "docker restart policy", "docker push", "image from the registry"):
        assert found[aspect]["ok"], found[aspect]
    assert found["registry"]["seen"] == "1 of 1 answers: 1 registries from 1 nodes"
    assert found["registry afterwards"]["seen"] == "1 of 1 registries, 1 images of earlier runs"
    assert "pods start" in found
    assert all(check["ok"] for check in found.values()), found
    assert docker(lab, "ps", "--all", "--quiet") == ""
    assert docker(lab, "images", "--quiet") == ""
    assert not tags(lab)
    assert not support.objects(lab, "namespaces", "--selector=slipway.cluster/verify")


def test_a_registry_that_no_node_can_pull_from_is_red_without_a_docker_host_too(
    lab: Lab, applied: tuple[support.Run, support.Run], tmp_path: pathlib.Path
) -> None:
    alone = support.inventory_of(lab, {"cp1", "registry1"}, tmp_path / "inventory.yml")
    hosts = f"/etc/containerd/certs.d/{registry_of(lab)}/hosts.toml"
    broken = {
        "connection refused": (
            ("registry1", "systemctl stop slipway-registry"),
            ("registry1", "systemctl start slipway-registry"),
        ),
        "authorization failed": (
            ("cp1", f"cp {hosts} /root/ && sed -i 's/Basic .*\"/Basic eDp4\"/' {hosts}"),
            ("cp1", f"cp /root/hosts.toml {hosts}"),
        ),
        "x509": (
            ("cp1", f"cp {hosts} /root/ && sed -i '/^ca = /d' {hosts}"),
            ("cp1", f"cp /root/hosts.toml {hosts}"),
        ),
    }
    for words, (breaking, mending) in broken.items():
        support.shell(lab, *breaking)
        try:
            found = verified(alone)
        finally:
            support.shell(lab, *mending)
        print(words, json.dumps(found["registry"]), flush=True)
        assert [aspect for aspect, check in found.items() if not check["ok"]] == ["registry"]
        assert f"0 of 1 answers: 1 registries from 1 nodes; {registry_of(lab)} from cp1: " in found["registry"]["seen"]
        assert words in found["registry"]["seen"]


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
