# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lock's format: what is read back, what is refused, and that every problem comes at once."""

from __future__ import annotations

import copy
import json
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import (
    Lock,
    is_version,
    minor_of,
    parse_lock,
    parse_lock_text,
    parse_version_set,
)

SHA = "ab" * 32
ARCHIVE = {
    "name": "etcd",
    "kind": "archive",
    "version": "3.7.0",
    "architecture": "amd64",
    "file": "artifacts/etcd-3.7.0-linux-amd64.tar.gz",
    "size": 123,
    "sha256": SHA,
    "programs": ["etcd", "etcdctl"],
    "module": "go.etcd.io/etcd/server/v3@v3.7.0",
    "module_sum": "h1:x",
    "go": "go1.26.8",
    "flags": ["-trimpath"],
}
IMAGE = {
    "name": "coredns",
    "kind": "image",
    "version": "1.14.6",
    "architecture": "amd64",
    "file": "artifacts/coredns-1.14.6-linux-amd64.oci.tar",
    "size": 5,
    "sha256": SHA,
    "reference": "slipway.local/coredns:1.14.6",
}
BUNDLE: dict[str, t.Any] = {
    "format": 1,
    "set": "1.37",
    "source": "bundle",
    "versions": {"kubernetes": "1.37.0", "etcd": "3.7.0"},
    "artifacts": [ARCHIVE, IMAGE],
}
UPSTREAM: dict[str, t.Any] = {
    **BUNDLE,
    "source": "upstream",
    "artifacts": [
        {
            "name": "kubelet",
            "kind": "binary",
            "version": "1.37.0",
            "architecture": "arm64",
            "url": "https://dl.example/kubelet",
            "sha256": SHA,
            "programs": ["kubelet"],
        },
        {
            "name": "pause",
            "kind": "image",
            "version": "3.10.2",
            "architecture": "arm64",
            "reference": "registry.example/pause:3.10.2",
        },
    ],
}
VERSION_SET: dict[str, t.Any] = {
    "set": "1.37",
    "versions": {"kubernetes": "1.37.0", "coredns": "1.14.6"},
    "images": {"coredns": {"bundle": "slipway.local/coredns:1.14.6", "upstream": "registry.example/coredns:v1.14.6"}},
}


def changed(base: dict[str, t.Any], number: int | None, **values: t.Any) -> dict[str, t.Any]:
    """A copy with values replaced (or, for None, removed) in the lock itself or in its artifact of that number."""
    data = copy.deepcopy(base)
    target = data if number is None else data["artifacts"][number]
    for name, value in values.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = value
    return data


def texts(error: SlipwayError) -> str:
    """All problems as one text."""
    return "\n".join(problem.text() for problem in error.problems)


@pytest.mark.parametrize("data", [BUNDLE, UPSTREAM, {**UPSTREAM, "source": "mirror"}])
def test_reads_back_what_it_writes(data: dict[str, t.Any]) -> None:
    lock = parse_lock(data, "bundle.json")
    assert parse_lock_text(lock.as_text(), "again") == lock
    assert json.loads(lock.as_text())["artifacts"][0]["name"] == data["artifacts"][0]["name"]


def test_keeps_every_field_of_an_artifact() -> None:
    found = parse_lock(BUNDLE, "bundle.json").artifact("etcd", "amd64")
    assert found.programs == ("etcd", "etcdctl")
    assert found.flags == ("-trimpath",)
    assert found.as_dict() == {**ARCHIVE, "purpose": "node"}


def test_ignores_fields_it_does_not_know() -> None:
    data = changed(BUNDLE, 0, signature="later")
    assert parse_lock(data, "bundle.json") == parse_lock(BUNDLE, "bundle.json")


def test_an_absent_artifact_is_named_with_what_there_is() -> None:
    lock = parse_lock(BUNDLE, "bundle.json")
    with pytest.raises(SlipwayError, match=r"no etcd for arm64 \(there is: amd64\)"):
        lock.artifact("etcd", "arm64")
    with pytest.raises(SlipwayError, match="none at all"):
        lock.artifact("helm", "amd64")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "a list"),
        ({"format": 2}, "lock format 2"),
        (changed(BUNDLE, None, source="heaven"), "source: 'heaven'"),
        (changed(BUNDLE, None, set=7), "set: 7"),
        (changed(BUNDLE, None, versions=None), "versions: None"),
        (changed(BUNDLE, None, versions={"etcd": 3.7}), "etcd: 3.7"),
        (changed(BUNDLE, None, artifacts=[]), "no list of artifacts"),
        (changed(BUNDLE, None, artifacts="etcd"), "no list of artifacts"),
        (changed(BUNDLE, None, artifacts=["etcd"]), "artifact 1: a str"),
        (changed(BUNDLE, None, artifacts=[ARCHIVE, ARCHIVE]), "etcd for amd64 twice"),
        (changed(BUNDLE, 0, name=None), "name: None"),
        (changed(BUNDLE, 0, name="Etcd/../x"), "name: Etcd/../x"),
        (changed(BUNDLE, 0, kind="zip"), "kind: zip"),
        (changed(BUNDLE, 0, version="latest"), "version: latest"),
        (changed(BUNDLE, 0, purpose="fun"), "purpose: fun"),
        (changed(BUNDLE, 0, size="123"), "size: '123'"),
        (changed(BUNDLE, 0, size=True), "size: True"),
        (changed(BUNDLE, 0, size=None), "no size"),
        (changed(BUNDLE, 0, sha256=None), "sha256: ''"),
        (changed(BUNDLE, 0, sha256="AB" * 32), "sha256:"),
        (changed(BUNDLE, 0, module=5), "module: 5"),
        (changed(BUNDLE, 0, programs=None), "no programs"),
        (changed(BUNDLE, 0, programs="etcd"), "programs: 'etcd'"),
        (changed(BUNDLE, 0, programs=["bin/etcd"]), "programs: bin/etcd"),
        (changed(BUNDLE, 0, file="/etc/passwd"), "file: '/etc/passwd'"),
        (changed(BUNDLE, 0, file="artifacts/../../x"), "file:"),
        (changed(BUNDLE, 0, file=None), "file: ''"),
        (changed(BUNDLE, 1, reference="coredns"), "reference: 'coredns'"),
        (changed(BUNDLE, 1, reference=None), "reference: ''"),
        (changed(UPSTREAM, 0, url="ftp://x/y"), "url: 'ftp://x/y'"),
        (changed(UPSTREAM, 0, url=None), "url: ''"),
        (changed(UPSTREAM, 0, programs=["a", "b"]), "2 programs"),
    ],
)
def test_refuses_what_is_malformed(data: object, said: str) -> None:
    with pytest.raises(SlipwayError) as caught:
        parse_lock(data, "bundle.json")
    assert said in texts(caught.value)
    assert all(problem.where.startswith("bundle.json") for problem in caught.value.problems)


def test_all_problems_come_at_once() -> None:
    data = changed(changed(changed(BUNDLE, 0, sha256="x"), 1, reference="y"), None, source="z")
    with pytest.raises(SlipwayError) as caught:
        parse_lock(data, "bundle.json")
    for said in ("source: 'z'", "etcd: sha256: 'x'", "coredns: reference: 'y'"):
        assert said in texts(caught.value)


def test_text_that_is_not_json_is_said_in_words() -> None:
    with pytest.raises(SlipwayError, match="not JSON"):
        parse_lock_text("{", "bundle.json")


def test_an_upstream_image_needs_no_checksum_but_a_bundled_one_does() -> None:
    lock: Lock = parse_lock(UPSTREAM, "up.json")
    assert lock.artifact("pause", "arm64").sha256 == ""
    with pytest.raises(SlipwayError, match="sha256"):
        parse_lock(changed(BUNDLE, 1, sha256=None), "bundle.json")


def test_a_version_set_is_read() -> None:
    found = parse_version_set(VERSION_SET, "1.37.yml")
    assert (found.name, found.kubernetes) == ("1.37", "1.37.0")
    assert found.images["coredns"].bundle == "slipway.local/coredns:1.14.6"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"set": 1.37}, "set: 1.37"),
        ({"set": "1.37.0"}, "set: '1.37.0'"),
        ({"versions": {}}, "versions: {}"),
        ({"versions": {"kubernetes": 1.37}}, "kubernetes: 1.37"),
        ({"versions": {"kubernetes": "1.36.4"}}, "a patch of 1.37"),
        ({"versions": {"etcd": "3.7.0"}}, "a patch of 1.37"),
        ({"images": None}, "images: None"),
        ({"images": {"coredns": "x"}}, "coredns: 'x'"),
        ({"images": {"coredns": {"bundle": "a/b:1", "upstream": "c"}}}, "coredns:"),
    ],
)
def test_refuses_a_malformed_version_set(change: dict[str, t.Any], said: str) -> None:
    with pytest.raises(SlipwayError) as caught:
        parse_version_set({**VERSION_SET, **change}, "1.37.yml")
    assert said in texts(caught.value)


def test_a_version_set_must_be_a_mapping() -> None:
    with pytest.raises(SlipwayError, match="a list"):
        parse_version_set([], "1.37.yml")


@pytest.mark.parametrize(
    ("version", "minor"), [("1.37.2", "1.37"), ("v1.37.2", "1.37"), ("1.37", "1.37"), ("new", "new"), ("1.3x", "1.3x")]
)
def test_minor_of(version: str, minor: str) -> None:
    assert minor_of(version) == minor


@pytest.mark.parametrize(
    ("text", "expected"), [("1.37.0", True), ("1.37", True), ("1.37.0-rc.1", True), ("v1.37", False), (1.37, False)]
)
def test_is_version(text: object, expected: bool) -> None:
    assert is_version(text) is expected
