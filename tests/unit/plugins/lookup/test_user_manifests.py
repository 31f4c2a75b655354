# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The user's own manifests as a set for the module: packed, or absent where there are none."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleLookupError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.template import Templar, trust_as_template

from ansible_collections.slipway.cluster.plugins.lookup.user_manifests import LookupModule
from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import unpack

ITEM = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
SECRET: t.Any = [("default", VaultSecret(b"password of a test"))]


def looked_up(variables: dict[str, t.Any] | None, loader: t.Any = None) -> dict[str, t.Any]:
    (entry,) = LookupModule(loader=loader).run([], variables)
    return t.cast("dict[str, t.Any]", entry)


@pytest.mark.parametrize("variables", [None, {}, {"slipway_manifests": None}, {"slipway_manifests": []}])
def test_without_any_the_set_is_absent(variables: dict[str, t.Any] | None) -> None:
    assert looked_up(variables) == {"name": "user", "absent": True}


def test_an_empty_directory_is_a_mistake_and_not_the_end_of_what_was_applied(tmp_path: Path) -> None:
    with pytest.raises(AnsibleLookupError, match="nothing there"):
        looked_up({"slipway_manifests": [str(tmp_path)]})


def test_a_file_without_objects_leaves_no_set(tmp_path: Path) -> None:
    (tmp_path / "m.yml").write_text("# nothing yet\n")
    assert looked_up({"slipway_manifests": [str(tmp_path)]}) == {"name": "user", "absent": True}


@pytest.mark.parametrize("one", [True, False])
def test_one_path_is_as_good_as_a_list(tmp_path: Path, one: bool) -> None:
    file = tmp_path / "m.json"
    file.write_text(json.dumps(ITEM))
    entry = looked_up({"slipway_manifests": str(file) if one else [str(file)]})
    assert set(entry) == {"name", "packed"}
    assert unpack(entry["packed"]) == [ITEM]


def test_a_relative_path_begins_at_the_inventory(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(json.dumps(ITEM))
    entry = looked_up({"slipway_manifests": "m.json", "inventory_dir": str(tmp_path)})
    assert unpack(entry["packed"]) == [ITEM]


def test_equal_files_travel_as_equal_texts(tmp_path: Path) -> None:
    for name, text in (("a.json", json.dumps(ITEM)), ("b.yml", "kind: ConfigMap\nmetadata: {name: x}\napiVersion: v1")):
        (tmp_path / name).write_text(text)
    a, b = (looked_up({"slipway_manifests": [str(tmp_path / name)]}) for name in ("a.json", "b.yml"))
    assert a == b


def test_variables_in_a_path_and_vaults_are_for_ansible_to_read(tmp_path: Path) -> None:
    (tmp_path / "m.yml").write_bytes(VaultLib(SECRET).encrypt(json.dumps(ITEM).encode()))
    loader = DataLoader()
    loader.set_vault_secrets(SECRET)
    variables = {"place": str(tmp_path), "slipway_manifests": [trust_as_template("{{ place }}/m.yml")]}
    lookup = LookupModule(loader=loader, templar=Templar(loader, variables))
    (entry,) = lookup.run([], variables)
    assert unpack(entry["packed"]) == [ITEM]
