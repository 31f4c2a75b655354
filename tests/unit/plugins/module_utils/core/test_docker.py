# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker hosts: what is planned, what is refused, and when a running engine is left alone."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.docker import (
    CERTIFICATES,
    CONFIG,
    LOGIN,
    MARK,
    UNIT,
    DockerSeen,
    DockerWant,
    Login,
    after_reload,
    daemon_json,
    docker_target,
    foreign_networks,
    parse_auths,
    parse_json,
    plan_docker,
    with_login,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import SeenState, SeenUnit, plan_state
from tests.unit.plugins.simulate import carry_out, names

BARE = DockerSeen(system=("debian", "13"))
HUB = "https://index.docker.io/v1/"


def want(**params: t.Any) -> DockerWant:
    return DockerWant.from_params(params)


def settled(target: DockerWant, **changed: t.Any) -> DockerSeen:
    """A host that is as ``target`` wants it, but for what is given."""
    files = carry_out(plan_state(docker_target(target), SeenState()), SeenState())
    units = {UNIT: SeenUnit(loaded=True, active="active", enabled=True)}
    return dataclasses.replace(
        DockerSeen(
            state=SeenState(files.users, files.paths, units),
            system=("debian", "13"),
            installed=frozenset(
                {"docker.io", "docker-cli", "docker-buildx", "docker-compose", "ca-certificates", "containerd"}
            ),
            loaded=json.loads(daemon_json(target)),
            members=frozenset(target.users or ()),
            known=frozenset(target.users or ()),
            images=frozenset(target.images),
            auths={host: login.auth for host, login in target.logins.items()},
        ),
        **changed,
    )


def problems(target: DockerWant, seen: DockerSeen) -> list[str]:
    with pytest.raises(SlipwayError) as refused:
        plan_docker(target, seen)
    return [problem.text() for problem in refused.value.problems]


FULL: dict[str, t.Any] = {
    "users": ["ci"],
    "images": ["docker.io/library/debian:13"],
    "registries": {"10.0.0.9:5000": "PEM"},
    "credentials": {"10.0.0.9:5000": {"username": "slipway", "password": "hunter22"}},
}


def test_a_bare_host_gets_files_first_because_the_package_starts_the_engine() -> None:
    seen = dataclasses.replace(BARE, known=frozenset({"ci"}))
    assert names(plan_docker(want(**FULL), seen)) == [
        "create directory /etc/docker",
        "create directory /etc/systemd/system/docker.service.d",
        f"create directory {CERTIFICATES}",
        f"create directory {CERTIFICATES}/10.0.0.9:5000",
        f"write {CONFIG}",
        "write /etc/systemd/system/docker.service.d/50-slipway.conf",
        f"write {CERTIFICATES}/10.0.0.9:5000/ca.crt",
        "install packages ca-certificates, docker-buildx, docker-cli, docker-compose, docker.io",
        "add ci to group docker",
        "enable docker.service",
        "start docker.service",
        "log root in to 10.0.0.9:5000",
        "pull image docker.io/library/debian:13",
    ]


def test_a_host_that_is_as_wanted_is_left_alone() -> None:
    assert plan_docker(want(**FULL), settled(want(**FULL))) == []
    assert plan_docker(want(), settled(want(), members=frozenset({"somebody"}))) == []


@pytest.mark.parametrize(
    ("system", "apparmor", "expected"),
    [
        (("debian", "13"), False, "ca-certificates, docker-buildx, docker-cli, docker-compose, docker.io"),
        (("debian", "13"), True, "apparmor, ca-certificates, docker-buildx, docker-cli, docker-compose, docker.io"),
        (("debian", "12"), False, "ca-certificates, docker-compose, docker.io"),
    ],
)
def test_packages_are_the_distribution_s(system: tuple[str, str], apparmor: bool, expected: str) -> None:
    seen = DockerSeen(system=system, apparmor=apparmor)
    assert f"install packages {expected}" in names(plan_docker(want(), seen))


def test_an_unknown_system_is_refused_unless_docker_is_there_already() -> None:
    with pytest.raises(SlipwayError, match=r"not known for fedora 41.*debian 12"):
        plan_docker(want(), DockerSeen(system=("fedora", "41")))
    assert "start docker.service" in names(plan_docker(want(packages=[]), DockerSeen(system=("fedora", "41"))))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, []),
        ({"registry_mirrors": ["https://m.example"]}, ["reload docker.service"]),
        ({"settings": {"max-concurrent-downloads": 6}}, ["reload docker.service"]),
        ({"live_restore": False}, ["reload docker.service"]),
        ({"log_max_files": 3}, ["restart docker.service"]),
        ({"settings": {"debug": True, "mtu": 1400}}, ["restart docker.service"]),
        ({"live_restore": False, "log_max_files": 3}, ["reload docker.service", "restart docker.service"]),
    ],
)
def test_a_running_engine_is_reloaded_where_that_is_enough(change: dict[str, t.Any], expected: list[str]) -> None:
    found = names(plan_docker(want(**change), settled(want())))
    assert [name for name in found if UNIT in name] == expected
    assert (f"write {CONFIG}" in found) == bool(change)


def test_an_engine_nobody_has_set_up_learns_of_live_restore_before_it_is_restarted() -> None:
    stranger = settled(want(), loaded=None)
    assert names(plan_docker(want(), stranger)) == ["reload docker.service", "restart docker.service"]
    assert names(plan_docker(want(live_restore=False), stranger))[-1:] == ["restart docker.service"]


def test_a_run_that_was_cut_before_the_reload_is_finished() -> None:
    target = want(registry_mirrors=["https://m.example"])
    cut = settled(target, loaded=json.loads(daemon_json(want())))
    assert names(plan_docker(target, cut)) == ["reload docker.service"]
    told = after_reload(json.loads(daemon_json(target)), json.loads(daemon_json(want())))
    assert plan_docker(target, dataclasses.replace(cut, loaded=json.loads(told))) == []


def test_a_reload_does_not_hide_that_a_restart_is_due() -> None:
    target = want(live_restore=False, log_max_files=3)
    told = after_reload(json.loads(daemon_json(target)), json.loads(daemon_json(want())))
    assert names(plan_docker(target, settled(target, loaded=json.loads(told)))) == ["restart docker.service"]


def test_members_are_those_of_the_list_and_no_others() -> None:
    seen = settled(want(), members=frozenset({"old", "ci"}), known=frozenset({"ci", "new"}))
    assert names(plan_docker(want(users=["ci", "new"]), seen)) == [
        "add new to group docker",
        "remove old from group docker",
    ]
    assert problems(want(users=["nobody-here"]), settled(want()))[0].startswith("users nobody-here: does not exist")


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"containerd_unit": "ExecStart=/opt/slipway/containerd/current/containerd"}, "use another host for Docker"),
        ({"node": True}, "runs the containers of a cluster node"),
        ({"containerd_unit": "ExecStart=/opt/x", "installed": frozenset()}, "somebody's own unit"),
        ({"installed": frozenset({"docker-ce"})}, "docker-ce is installed"),
        ({"root_in_use": "/srv/docker"}, "the engine has containers in /srv/docker"),
        ({"networks": (("172.17.5.0/24", "eth1"),)}, "overlaps 172.17.5.0/24 on eth1"),
    ],
)
def test_what_is_in_the_way_is_named_with_a_way_out(seen: dict[str, t.Any], words: str) -> None:
    (text,) = problems(want(), settled(want(), **seen))
    assert words in text


def test_everything_in_the_way_is_said_at_once() -> None:
    found = problems(want(users=["x"]), settled(want(), node=True, networks=(("172.16.0.0/12", "eth0"),)))
    assert len(found) == 3


def test_a_docker_of_other_make_is_left_as_it_is() -> None:
    foreign = settled(want(packages=[]), installed=frozenset({"docker-ce"}), containerd_unit="ExecStart=/opt/x")
    assert plan_docker(want(packages=[]), foreign) == []


@pytest.mark.parametrize("pool", [{"base": "10.210.0.0/16"}, {"base": "10.210.0.0/16", "size": None}])
def test_a_pool_without_a_size_has_the_spec_s_default(pool: dict[str, t.Any]) -> None:
    with_default = {"base": "10.210.0.0/16", "size": 24}
    assert json.loads(daemon_json(want(address_pools=[pool])))["default-address-pools"] == [with_default]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"settings": {"hosts": ["tcp://0.0.0.0:2375"]}}, "settings.hosts"),
        ({"settings": {"log-opts": {}}}, "set log_max_size_mib"),
        ({"address_pools": [{"base": "172.17.0.1/16", "size": 24}]}, "host bits set"),
        ({"address_pools": [{"base": "172.17.0.0/16", "size": 15}]}, "16 to 29"),
        ({"address_pools": [{"size": 24}]}, "'base'"),
        ({"avoid": ["10.96.0.0/12", "172.16.0.0/12"]}, "overlaps 172.16.0.0/12, a network of the cluster"),
        ({"avoid": ["everything"]}, "everything is not a network"),
        ({"registry_mirrors": ["mirror"]}, "mirror is not a URL"),
        ({"registries": {"https://x": ""}}, "https://x is no registry"),
        ({"data_root": "docker"}, "an absolute path"),
        ({"credentials": {"x": "secret"}}, "credentials x"),
    ],
)
def test_bad_parameters_are_refused(params: dict[str, t.Any], words: str) -> None:
    with pytest.raises(SlipwayError) as refused:
        want(**params)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("params", "given", "expected"),
    [
        ({}, {"10.0.0.9:5000"}, []),
        ({"forget": True}, set(), []),
        (
            {"forget": True},
            {"10.0.0.9:5000", "r.example:5000"},
            [
                "log root out of 10.0.0.9:5000",
                f"remove {CERTIFICATES}/10.0.0.9:5000/ca.crt",
                f"remove {CERTIFICATES}/r.example:5000/ca.crt",
            ],
        ),
        ({**FULL, "forget": True}, {"10.0.0.9:5000"}, []),
        ({"forget": True, "credentials": FULL["credentials"]}, {"10.0.0.9:5000"}, ["remove"]),
    ],
)
def test_a_registry_that_is_no_more_is_forgotten_if_asked_to(
    params: dict[str, t.Any], given: set[str], expected: list[str]
) -> None:
    target = want(**params)
    auths = {"10.0.0.9:5000": Login("slipway", "hunter22").auth, "somebody.example": "eA=="}
    found = names(plan_docker(target, settled(target, given=frozenset(given), auths=auths)))
    assert [name.split()[0] for name in found] == ["remove"] if expected == ["remove"] else found == expected


def test_an_authority_is_marked_and_still_one() -> None:
    (file,) = [each for each in docker_target(want(**FULL)).files if each.path.endswith("ca.crt")]
    assert file.content == f"{MARK}PEM\n"
    (unknown,) = [each for each in docker_target(want(registries={"x": ""})).files if each.path.endswith("ca.crt")]
    assert unknown.content.endswith("@@registry-ca@@")


def test_a_login_is_added_and_the_rest_of_the_file_stays() -> None:
    before = json.dumps({"credHelpers": {"a": "b"}, "auths": {"x": {"auth": "eA=="}}})
    after = with_login(before, "10.0.0.9:5000", Login("u", "p").auth)
    assert json.loads(after)["credHelpers"] == {"a": "b"}
    assert parse_auths(after) == {"x": "eA==", "10.0.0.9:5000": "dTpw"}
    assert parse_auths(with_login(None, HUB, "eA==")) == {HUB: "eA=="}
    assert parse_auths(with_login(after, "10.0.0.9:5000", None)) == {"x": "eA=="}
    assert parse_auths('{"auths": []}') == parse_auths("[") == parse_auths(None) == {}
    with pytest.raises(SlipwayError, match=LOGIN):
        with_login("[1]", "x", "y")
    assert parse_json("[1]") is None


def test_the_hub_has_a_name_of_its_own() -> None:
    target = want(credentials={"docker.io": {"username": "u", "password": "p"}})
    assert plan_docker(target, settled(want(), auths={HUB: "dTpw"})) == []
    assert "'p'" not in repr(target)


def test_docker_s_own_bridges_are_no_foreign_networks() -> None:
    routes = [
        {"dst": "default", "gateway": "10.0.0.1", "dev": "eth0"},
        {"dst": "10.0.0.0/24", "dev": "eth0"},
        {"dst": "172.17.0.0/24", "dev": "docker0"},
        {"dst": "172.17.1.0/24", "dev": "br-0123456789ab"},
        {"dst": "172.17.9.9", "gateway": "10.0.0.1"},
    ]
    assert foreign_networks(routes) == (("10.0.0.0/24", "eth0"), ("172.17.9.9/32", "another host"))
