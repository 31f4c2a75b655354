# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What containerd's target says, read back with a TOML parser of its own."""

from __future__ import annotations

import base64
import dataclasses
import json
import tomllib
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.containerd import (
    ContainerdWant,
    Credential,
    Image,
    Registry,
    config_toml,
    containerd_target,
    hosts_toml,
    image_labels,
    parse_images,
    plan_images,
    plan_registries,
    toml,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import File

WANT = ContainerdWant(version="2.3.4", sandbox_image="slipway.local/pause:1")


def files(want: ContainerdWant) -> dict[str, File]:
    return {file.path: file for file in containerd_target(want).files}


SCALARS = st.one_of(st.text(), st.integers(-(2**62), 2**62), st.booleans(), st.lists(st.text(), max_size=3))
DOCUMENTS = st.recursive(
    st.dictionaries(st.text(), SCALARS, max_size=3),
    lambda tables: st.dictionaries(st.text(), st.one_of(SCALARS, tables), max_size=3),
    max_leaves=10,
)


@given(document=DOCUMENTS)
def test_toml_is_read_back_as_it_was_written(document: dict[str, t.Any]) -> None:
    assert tomllib.loads(toml(document)) == document


def test_the_configuration_says_what_is_wanted() -> None:
    want = dataclasses.replace(
        WANT,
        restrict_oom_score_adj=True,
        runtime_handlers={
            "gvisor": {"runtime_type": "io.containerd.runsc.v1", "options": {"ConfigPath": "/etc/runsc.toml"}},
            "crun": {"runtime_type": "io.containerd.runc.v2", "options": {"BinaryName": "/usr/bin/crun"}},
        },
    )
    config = tomllib.loads(config_toml(want))
    assert config["version"] == 3
    images = config["plugins"]["io.containerd.cri.v1.images"]
    assert images["pinned_images"] == {"sandbox": "slipway.local/pause:1"}
    assert images["registry"] == {"config_path": "/etc/containerd/certs.d"}
    runtime = config["plugins"]["io.containerd.cri.v1.runtime"]
    assert runtime["restrict_oom_score_adj"] is True
    assert runtime["cni"] == {"bin_dirs": ["/opt/slipway/cni-plugins/current"], "conf_dir": "/etc/cni/net.d"}
    assert runtime["containerd"] == {
        "default_runtime_name": "runc",
        "runtimes": {
            "runc": {
                "runtime_type": "io.containerd.runc.v2",
                "options": {"SystemdCgroup": True, "BinaryName": "/opt/slipway/runc/current/runc"},
            },
            "gvisor": {"runtime_type": "io.containerd.runsc.v1", "options": {"ConfigPath": "/etc/runsc.toml"}},
            "crun": {
                "runtime_type": "io.containerd.runc.v2",
                "options": {"SystemdCgroup": True, "BinaryName": "/usr/bin/crun"},
            },
        },
    }


def test_only_what_the_running_process_has_read_restarts_it() -> None:
    def digest(want: ContainerdWant) -> str:
        return containerd_target(want).units[0].digest

    mirror = Registry("docker.io", mirrors=("https://m.example",))
    assert digest(dataclasses.replace(WANT, registries=(mirror,), images=(Image("a", "b"),))) == digest(WANT)
    for change in ({"version": "2.3.5"}, {"sandbox_image": "other"}, {"restrict_oom_score_adj": True}):
        assert digest(dataclasses.replace(WANT, **t.cast("t.Any", change))) != digest(WANT)
    assert f"SLIPWAY_DIGEST={digest(WANT)}\n" in files(WANT)["/etc/systemd/system/containerd.service"].content


def test_containers_outlive_a_stopped_containerd_and_do_not_hold_up_a_shutdown() -> None:
    unit = files(WANT)["/etc/systemd/system/containerd.service"].content
    assert "KillMode=process\n" in unit
    assert "Delegate=yes\n" in unit
    assert "OOMScoreAdjust=-999\n" in unit
    scopes = files(WANT)["/etc/systemd/system/cri-containerd-.scope.d/50-slipway.conf"].content
    assert "TimeoutStopSec=20\n" in scopes
    restricted = dataclasses.replace(WANT, restrict_oom_score_adj=True)
    assert "OOMScoreAdjust" not in files(restricted)["/etc/systemd/system/containerd.service"].content


def test_a_mirror_with_an_authority_and_a_password() -> None:
    registry = Registry("docker.io", mirrors=("https://m.example:5000/proxy",), ca="-----BEGIN CERTIFICATE-----\nx")
    want = dataclasses.replace(
        WANT, registries=(registry,), credentials=(Credential("m.example:5000", "puller", "s3cret"),)
    )
    written = files(want)
    hosts = written["/etc/containerd/certs.d/docker.io/hosts.toml"]
    assert (hosts.mode, hosts.secret) == ("0600", True)
    authority = "/etc/containerd/certs.d/docker.io/ca.crt"
    assert written[authority].content.endswith("x\n")
    header = {"Authorization": "Basic " + base64.b64encode(b"puller:s3cret").decode()}
    assert tomllib.loads(hosts.content) == {
        "server": "https://registry-1.docker.io",
        "ca": authority,
        "host": {
            "https://m.example:5000/proxy": {"capabilities": ["pull", "resolve"], "ca": authority, "header": header}
        },
    }


@pytest.mark.parametrize(
    ("registry", "expected"),
    [
        (Registry("quay.io"), {"server": "https://quay.io"}),
        (
            Registry("_default", mirrors=("http://m:5000",), skip_verify=True, override_path=True),
            {
                "host": {
                    "http://m:5000": {
                        "capabilities": ["pull", "resolve"],
                        "skip_verify": True,
                        "override_path": True,
                    }
                }
            },
        ),
        (
            Registry("r.example:5000", server="http://r.example:5000", capabilities=("pull",), ca="/etc/ca.pem"),
            {"server": "http://r.example:5000", "capabilities": ["pull"], "ca": "/etc/ca.pem"},
        ),
    ],
)
def test_registries_without_secrets(registry: Registry, expected: dict[str, t.Any]) -> None:
    text, secret = hosts_toml(registry, ())
    assert tomllib.loads(text) == expected
    assert not secret


def test_credentials_go_to_the_host_they_are_for_and_to_no_other() -> None:
    registry = Registry("docker.io", mirrors=("https://m.example",))
    text, secret = hosts_toml(registry, (Credential("docker.io", "u", "p"),))
    document = tomllib.loads(text)
    assert secret
    assert "header" in document
    assert "header" not in document["host"]["https://m.example"]


def test_a_target_survives_json() -> None:
    want = dataclasses.replace(
        WANT,
        registries=(Registry("docker.io", mirrors=("https://m.example",)),),
        credentials=(Credential("m.example", "u", "p"),),
        images=(Image("slipway.local/pause:1", "a" * 64),),
        runtime_handlers={"kata": {"runtime_type": "io.containerd.kata.v2"}},
        cni_template="/etc/cni/template",
        keep_blobs=True,
    )
    assert ContainerdWant.from_data(json.loads(json.dumps(want.to_data()))) == want
    assert "'p'" not in repr(want)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"registries": [{"host": "https://docker.io"}]}, "not a registry host"),
        ({"registries": [{"host": ".."}]}, "not a registry host"),
        ({"registries": [{"host": "docker.io", "mirrors": ["m.example"]}]}, "m.example is not a URL"),
        ({"registries": [{"host": "docker.io", "capabilities": ["delete"]}]}, "unknown capability delete"),
        ({"registries": [{"host": "_default"}]}, "neither mirrors nor a server"),
        ({"registries": [{"host": "a"}, {"host": "a"}]}, "configured twice"),
        ({"registries": [{"host": "a", "color": "red"}]}, "color"),
        ({"credentials": {"a": {"username": "u", "password": "p"}}}, "expected an entry in registries"),
        ({"runtime_handlers": {"runc": {"runtime_type": "x"}}}, "not runc"),
        ({"runtime_handlers": {"kata": {}}}, "has no runtime_type"),
        ({"sandboximage": "x"}, "unknown setting sandboximage"),
    ],
)
def test_wrong_settings_are_refused_in_words(data: dict[str, t.Any], words: str) -> None:
    with pytest.raises(SlipwayError, match=words):
        ContainerdWant.from_data(data)


LISTING = f"""\
REF                   TYPE                                       DIGEST        SIZE      PLATFORMS   LABELS
slipway.local/dns:1   application/vnd.oci.image.manifest.v1+json sha256:{"1" * 64} 1.0 MiB linux/amd64 \
cluster.slipway/blob={"c" * 64},io.cri-containerd.image=managed
docker.io/library/x:1 application/vnd.oci.image.index.v1+json    sha256:{"2" * 64} 324.6 KiB linux/amd64,linux/arm64 -
"""


def test_images_are_read_with_the_archive_they_came_from() -> None:
    assert parse_images(LISTING) == {"slipway.local/dns:1": "c" * 64, "docker.io/library/x:1": ""}
    assert parse_images("") == {}


def test_images_are_imported_when_missing_or_from_another_archive() -> None:
    images = [Image("slipway.local/dns:1", "c" * 64), Image("slipway.local/pause:1", "d" * 64)]
    seen = parse_images(LISTING)
    assert [change.name for change in plan_images(images, seen)] == ["import image slipway.local/pause:1"]
    assert [change.name for change in plan_images(images, {"slipway.local/dns:1": ""})] == [
        "import image slipway.local/dns:1",
        "import image slipway.local/pause:1",
    ]
    assert image_labels(images[0])["io.cri-containerd.pinned"] == "pinned"


def test_registries_that_are_no_longer_wanted_are_removed() -> None:
    want = dataclasses.replace(WANT, registries=(Registry("docker.io"),))
    assert [change.name for change in plan_registries(want, ["quay.io", "docker.io"])] == ["remove registry quay.io"]
