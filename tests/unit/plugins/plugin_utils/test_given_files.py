# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's own files on the controller."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec import ClusterSpec, HostInput, load
from ansible_collections.slipway.cluster.plugins.plugin_utils.given_files import (
    missing_tasks,
    placed,
    with_authorities,
)

PEM = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"
KEY = PEM.replace("CERTIFICATE", "PRIVATE KEY")


def spec(**variables: t.Any) -> ClusterSpec:
    hosts = {
        "cp1": HostInput("cp1", frozenset({"slipway_control_plane"}), variables),
        "w1": HostInput("w1", frozenset({"slipway_workers"}), {**variables, "slipway_node_absent": True}),
    }
    return load(hosts)


@pytest.mark.parametrize(
    ("path", "directory", "expected"),
    [
        ("x/y.yml", "/inventories/prod", "/inventories/prod/x/y.yml"),
        ("/x/y.yml", "/inventories/prod", "/x/y.yml"),
        ("~/y.yml", "/inventories/prod", "/home/me/y.yml"),
        ("x", "", "x"),
    ],
)
def test_where_a_path_leads(path: str, directory: str, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert str(placed(path, directory)) == expected


def registries(*authorities: str) -> dict[str, t.Any]:
    return {"registries": [{"host": f"r{index}.example", "ca": ca} for index, ca in enumerate(authorities)]}


def test_the_text_of_an_authority_travels_and_not_its_path(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(PEM + PEM)
    given = spec(slipway_containerd={"registries": [{"host": "a.example", "ca": "ca.pem"}, {"host": "b.example"}]})
    read = with_authorities(given, str(tmp_path)).containerd.registries
    assert [each.ca for each in read] == [PEM + PEM, None]


def test_every_authority_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for name, text in {"key.pem": PEM + KEY, "empty.pem": "", "broken.pem": PEM.replace("MAA=", "M")}.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "binary.pem").write_bytes(b"\xff")
    given = spec(slipway_containerd=registries("none.pem", "key.pem", "empty.pem", "broken.pem", "binary.pem"))
    with pytest.raises(SlipwayError) as caught:
        with_authorities(given, str(tmp_path))
    assert [(each.where, each.found) for each in caught.value.problems] == [
        ("slipway_containerd.registries[0].ca", f"{tmp_path}/none.pem: No such file or directory"),
        ("slipway_containerd.registries[1].ca", f"{tmp_path}/key.pem: holds something else"),
        ("slipway_containerd.registries[2].ca", f"{tmp_path}/empty.pem: holds something else"),
        ("slipway_containerd.registries[3].ca", f"{tmp_path}/broken.pem: is no PEM"),
        ("slipway_containerd.registries[4].ca", f"{tmp_path}/binary.pem: is no PEM"),
    ]


def test_tasks_that_are_not_there_are_told_before_anything_happens(tmp_path: Path) -> None:
    (tmp_path / "there.yml").write_text("[]\n")
    hooks = {"slipway_tasks_before_host": ["there.yml", "gone.yml"], "slipway_tasks_after_node": str(tmp_path)}
    assert [(each.where, each.found) for each in missing_tasks(spec(**hooks), str(tmp_path))] == [
        ("slipway_tasks_after_node", f"{tmp_path}: no such file"),
        ("slipway_tasks_before_host", f"{tmp_path}/gone.yml: no such file"),
    ]
    assert missing_tasks(spec(), str(tmp_path)) == []
