# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the project's data lies, and where bundles and their cache go."""

from __future__ import annotations

import typing as t
from pathlib import Path

import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core import problems
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import VersionSet, minor_of, parse_version_set

COLLECTION = Path(problems.__file__).resolve().parents[3]
ARTIFACTS = COLLECTION / "artifacts"


def workspace() -> Path:
    """The directory that .bundle and .cache belong in: the checkout, or for an installed Slipway the current one."""
    return COLLECTION if (COLLECTION / "pyproject.toml").is_file() else Path.cwd()


def read_yaml(path: Path) -> t.Any:
    """The data in a YAML file of the project; raises SlipwayError if it cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise SlipwayError(Problem(str(path), f"cannot be read: {error}", "a YAML file")) from error


def known_sets(artifacts: Path = ARTIFACTS) -> list[str]:
    """The names of the version sets there are, oldest first."""
    names = [path.stem for path in (artifacts / "sets").glob("*.yml")]
    return sorted(names, key=lambda name: [int(part) for part in name.split(".")])


def load_set(version: str, artifacts: Path = ARTIFACTS) -> VersionSet:
    """The version set of a Kubernetes minor or patch version; raises SlipwayError naming the supported minors."""
    minor = minor_of(version)
    known = known_sets(artifacts)
    if minor not in known:
        raise SlipwayError(
            Problem(
                where=f"--kubernetes {version}",
                found="no version set for it",
                expected=f"a version of one of these minors: {', '.join(known)}",
                remedy="choose one of them, or update Slipway",
            )
        )
    path = artifacts / "sets" / f"{minor}.yml"
    return parse_version_set(read_yaml(path), path.name)
