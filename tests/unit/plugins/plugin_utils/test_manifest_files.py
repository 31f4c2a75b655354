# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's own manifests: which files are read, in which order, and every problem of all of them at once."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import pack, unpack
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.manifest_files import read_manifests

# What is told of an object and not of its file.
OF_OBJECTS = ("without apiVersion", "is listed twice")
SECRET: t.Any = [("default", VaultSecret(b"password of a test"))]


def manifest(name: str, **fields: t.Any) -> str:
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, **fields})


def names(objects: list[dict[str, t.Any]]) -> list[str]:
    return [item["metadata"]["name"] for item in objects]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of every kind, some of them below others."""
    (tmp_path / "own" / "b").mkdir(parents=True)
    for path, text in {
        "own/2.yml": f"---\n{manifest('two')}\n---\n---\n{manifest('three')}\n...\n",
        "own/1.json": manifest("one"),
        "own/b/4.yaml": "# a comment and nothing else\n",
        "own/b/5.yaml": manifest("five"),
        "own/README.md": "no: [manifest",
        "own/b/x.yml.orig": "no: [manifest",
        "single.txt": manifest("single"),
    }.items():
        (tmp_path / path).write_text(text, encoding="utf-8")
    return tmp_path


def test_files_and_directories_are_read_in_the_order_given(tree: Path) -> None:
    assert names(read_manifests([str(tree / "own")])) == ["one", "two", "three", "five"]
    assert names(read_manifests([str(tree / "single.txt"), str(tree / "own/b")])) == ["single", "five"]
    assert read_manifests([]) == []
    assert read_manifests([str(tree / "own/b/4.yaml")]) == []


def test_a_relative_path_begins_at_the_directory_given(tree: Path) -> None:
    assert names(read_manifests(["own/b", str(tree / "single.txt")], directory=str(tree))) == ["five", "single"]
    with pytest.raises(SlipwayError, match=f"{tree}/b: nothing there"):
        read_manifests(["b"], directory=str(tree))


def test_a_home_is_found(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree))
    assert names(read_manifests(["~/single.txt"])) == ["single"]


def test_values_and_keys_are_what_kubernetes_reads(tmp_path: Path) -> None:
    file = tmp_path / "m.yml"
    data = "{day: 2026-11-27, at: '8', 8080: web, 1.5: x, yes: on, a: null}"
    file.write_text(f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: x}}, data: {data}}}")
    (found,) = read_manifests([str(file)])
    assert found["data"] == {"day": "2026-11-27", "at": "8", "8080": "web", "1.5": "x", "true": True, "a": None}
    assert unpack(pack([found])) == [found]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "expected"),
        ("- a\n- b\n", "holds a list"),
        ("just words", "holds a str"),
        ("a: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("{kind: ConfigMap, metadata: {name: x}}", "without apiVersion"),
        (f"{manifest('twice')}\n---\n{manifest('twice')}", "is listed twice"),
        ("\xff\xfe", "codec can't decode"),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: !!binary aGk=}}", "not JSON serializable"),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: .nan}}", "not JSON compliant"),
    ],
)
def test_what_is_wrong_with_a_file_is_told_with_its_name_or_its_object(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "good.yml").write_text(manifest("good"))
    (tmp_path / "bad.yml").write_text(text, encoding="latin-1")
    with pytest.raises(SlipwayError) as refused:
        read_manifests([str(tmp_path)])
    (problem,) = refused.value.problems
    assert problem.where.startswith("slipway_manifests")
    assert said in problem.found
    assert ("bad.yml" in problem.found) != (said in OF_OBJECTS)


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yml").write_text("a: [")
    paths = [str(tmp_path / name) for name in ("nowhere.yml", "empty", "bad.yml")]
    with pytest.raises(SlipwayError) as refused:
        read_manifests(paths)
    assert [problem.found.partition(":")[0] for problem in refused.value.problems] == paths
    assert [problem.expected for problem in refused.value.problems[:2]] == [
        "a file, or a directory with files ending in .yml, .yaml, .json"
    ] * 2


def test_a_file_that_may_be_a_vault_is_read_by_the_loader(tmp_path: Path) -> None:
    file = tmp_path / "vault.yml"
    file.write_bytes(VaultLib(SECRET).encrypt(manifest("hidden").encode()))
    loader = DataLoader()
    with pytest.raises(SlipwayError, match=r"vault.yml: .*[Vv]ault"):
        read_manifests([str(file)], loader)
    loader.set_vault_secrets(SECRET)
    assert names(read_manifests([str(file)], loader)) == ["hidden"]
