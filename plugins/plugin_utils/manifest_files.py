# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the user's own manifests on the controller."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import yaml
from ansible.errors import AnsibleError

from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import parse_set
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError

from .given_files import placed

SET_NAME = "user"
SUFFIXES = (".yml", ".yaml", ".json")
_VARIABLE = "slipway_manifests"


class Loader(t.Protocol):
    """What is used of Ansible's DataLoader."""

    def get_text_file_contents(self, file_name: str) -> str:
        """The text of a file, decrypted if it is a vault."""


def read_manifests(paths: t.Sequence[str], loader: Loader | None = None, directory: str = "") -> list[dict[str, t.Any]]:
    """All objects of the files and directories, in the order given, those of a directory by name.

    ``loader`` reads vaults; without one, files are read as they are. Relative paths begin at ``directory``.
    Raises SlipwayError with every problem.
    """
    problems: list[Problem] = []
    objects: list[dict[str, t.Any]] = []
    for path in paths:
        files = _files(placed(path, directory))
        if not files:
            expected = f"a file, or a directory with files ending in {', '.join(SUFFIXES)}"
            problems.append(Problem(_VARIABLE, f"{placed(path, directory)}: nothing there", expected))
        for file in files:
            objects += _read(file, loader, problems)
    if not problems and objects:
        try:
            parse_set(name=SET_NAME, objects=objects)
        except SlipwayError as error:
            problems += [Problem(f"{_VARIABLE}: {p.where}", p.found, p.expected, p.remedy) for p in error.problems]
    if problems:
        raise SlipwayError(problems)
    return objects


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(each for each in path.rglob("*") if each.suffix in SUFFIXES and each.is_file())
    return [path] if path.is_file() else []


def _read(file: Path, loader: Loader | None, problems: list[Problem]) -> list[dict[str, t.Any]]:
    try:
        text = loader.get_text_file_contents(str(file)) if loader else file.read_text(encoding="utf-8")
        found = [each for each in yaml.load_all(text, Loader=_PlainLoader) if each is not None]
        # What YAML has and JSON has not: keys that are numbers become texts, as kubectl has it; bytes are no value.
        documents = json.loads(json.dumps(found, allow_nan=False))
    except (OSError, TypeError, ValueError, yaml.YAMLError, AnsibleError) as error:
        problems.append(Problem(_VARIABLE, f"{file}: {error}", "YAML or JSON of Kubernetes objects"))
        return []
    wrong = [each for each in documents if not isinstance(each, dict)]
    if wrong:
        problems.append(Problem(_VARIABLE, f"{file}: holds a {type(wrong[0]).__name__}", "Kubernetes objects"))
        return []
    return t.cast("list[dict[str, t.Any]]", documents)


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without dates: what looks like one is a text for Kubernetes."""


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
