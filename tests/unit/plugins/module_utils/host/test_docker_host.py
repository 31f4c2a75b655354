# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker on a host: what its programs answer becomes an observation, and what a change asks of them."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core import docker
from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.docker import DockerWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import Unit
from ansible_collections.slipway.cluster.plugins.module_utils.host import docker as host_docker
from ansible_collections.slipway.cluster.plugins.module_utils.host.docker import apply_docker, observe_docker
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output

UNITS = """\
Id=docker.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
MainPID=0
NeedDaemonReload=no

Id=kubelet.service
LoadState=not-found
"""
ANSWERS = {
    "systemctl show": UNITS,
    "dpkg-query -W": "docker.io installed\nrunc installed\ndocker-ce config-files\n",
    "ip -j": '[{"dst": "default", "dev": "eth0"}, {"dst": "10.0.0.0/24", "dev": "eth0"}]',
    "docker info": "2 /srv/docker\n",
    "docker image": "sha256:1\n",
}


class Told(Machine):
    """Answers by the first two words of a command; remembers what it was told."""

    def __init__(self, answers: t.Mapping[str, str], files: t.Mapping[str, str] | None = None) -> None:
        self.answers = answers
        self.files = dict(files or {})
        self.told: list[str] = []

    def run(self, argv: t.Sequence[str], **_options: t.Any) -> Output:
        self.told.append(" ".join(argv))
        found = self.answers.get(" ".join(argv[:2]))
        return Output(1, "", "no") if found is None else Output(0, found, "")

    def read_text(self, path: str) -> str | None:
        return self.files.get(path)

    def write(self, path: str, content: bytes, **_options: t.Any) -> None:
        self.files[path] = content.decode()

    def exists(self, path: str) -> bool:
        return True


def test_an_observation_is_made_of_what_programs_and_files_say() -> None:
    files = {
        "/etc/os-release": 'ID=debian\nVERSION_ID="13"\n',
        "/sys/module/apparmor/parameters/enabled": "Y\n",
        docker.LOADED: '{"debug": true}',
        docker.LOGIN: '{"auths": {"x": {"auth": "eA=="}}}',
    }
    seen = observe_docker(Told(ANSWERS, files), DockerWant(images=("a", "b"), users=("root", "nobody-here")))
    assert seen.system == ("debian", "13")
    assert seen.installed == {"docker.io", "runc"}
    assert seen.apparmor
    assert seen.loaded == {"debug": True}
    assert seen.networks == (("10.0.0.0/24", "eth0"),)
    assert seen.images == {"a", "b"}
    assert seen.known == {"root"}
    assert not seen.node
    assert seen.auths == {"x": "eA=="}
    assert seen.root_in_use == "/srv/docker"


def test_a_host_without_any_of_it_is_observed_as_such() -> None:
    seen = observe_docker(Told({}), DockerWant(images=("a",)))
    assert (seen.installed, seen.loaded, seen.images, seen.root_in_use) == (frozenset(), None, frozenset(), "")
    assert seen.system == ("", "")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (("join", "ci"), "usermod --append --groups docker ci"),
        (("leave", "ci"), "gpasswd --delete ci docker"),
        (("pull", "debian:13"), "docker pull --quiet debian:13"),
    ],
)
def test_a_change_is_one_command(data: tuple[str, str], told: str) -> None:
    machine = Told({"usermod --append": "", "gpasswd --delete": "", "docker pull": ""})
    apply_docker(machine, DockerWant(), Change("x", data=data))
    assert machine.told == [told]


def test_an_image_that_cannot_be_had_is_named() -> None:
    with pytest.raises(SlipwayError, match=r"image debian:13.*could not be pulled: no.*root's login"):
        apply_docker(Told({}), DockerWant(), Change("x", data=("pull", "debian:13")))


def test_a_registry_of_ours_is_known_by_its_mark_and_goes_without_what_others_put_there(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "CERTIFICATES", str(tmp_path))
    for name, text in (("ours:5000", docker.MARK), ("shared", docker.MARK), ("theirs", "PEM\n"), ("empty", "")):
        (tmp_path / name).mkdir()
        if text:
            (tmp_path / name / "ca.crt").write_text(text)
    (tmp_path / "shared" / "client.cert").write_text("theirs")
    machine = Machine()
    assert set(host_docker._given(machine)) == {"ours:5000", "shared"}
    for host in ("ours:5000", "shared"):
        apply_docker(machine, DockerWant(), Change("x", data=("forget", host)))
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert left == {"shared", "shared/client.cert", "theirs", "theirs/ca.crt", "empty"}
    apply_docker(machine, DockerWant(), Change("x", data=("forget", "ours:5000")))


def test_a_login_and_a_reload_leave_the_rest_as_it_was(tmp_path: pathlib.Path) -> None:
    machine = Told({}, {docker.LOGIN: '{"auths": {"x": {"auth": "eA=="}}}'})
    apply_docker(machine, DockerWant(), Change("x", data=("login", ("y", "eQ=="))))
    assert docker.parse_auths(machine.files[docker.LOGIN]) == {"x": "eA==", "y": "eQ=="}
    apply_docker(machine, DockerWant(), Change("x", data=("logout", "y")))
    assert docker.parse_auths(machine.files[docker.LOGIN]) == {"x": "eA=="}
    config = {"debug": True, "mtu": 1400}
    machine = Told(
        {"systemctl show": UNITS, "systemctl reload": "", "systemctl daemon-reload": ""},
        {docker.CONFIG: json.dumps(config), docker.LOADED: '{"mtu": 1500}'},
    )
    unit = Unit(docker.UNIT)
    apply_docker(machine, DockerWant(), Change("x", data=("reload", unit)))
    assert json.loads(machine.files[docker.LOADED]) == {"debug": True, "mtu": 1500}
