# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and reads the user's own files on the controller that the spec names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.x509 import pem_blocks

from .core.spec import ClusterSpec

_REMEDY = "correct the path; one that is not absolute begins at the inventory's directory"


def placed(path: str, directory: str) -> Path:
    """Where a path leads: one that is not absolute begins at the inventory's ``directory``, ``~`` at the user's."""
    return Path(directory) / Path(path).expanduser()


def with_authorities(spec: ClusterSpec, directory: str) -> ClusterSpec:
    """The spec with the text of each registry's CA file in place of its path; SlipwayError with every problem."""
    problems: list[Problem] = []
    registries = tuple(
        dataclasses.replace(
            each, ca=_authority(f"slipway_containerd.registries[{index}].ca", placed(each.ca, directory), problems)
        )
        if each.ca
        else each
        for index, each in enumerate(spec.containerd.registries)
    )
    if problems:
        raise SlipwayError(problems)
    return dataclasses.replace(spec, containerd=dataclasses.replace(spec.containerd, registries=registries))


def _authority(where: str, file: Path, problems: list[Problem]) -> str:
    try:
        text = file.read_text(encoding="ascii")
        labels = {label for label, _der in pem_blocks(text)}
        found = "" if labels == {"CERTIFICATE"} else "holds something else"
    except (OSError, ValueError) as error:
        text, found = "", getattr(error, "strerror", None) or "is no PEM"
    if found:
        problems.append(Problem(where, f"{file}: {found}", "certificates in PEM, on the controller", _REMEDY))
    return text


def missing_tasks(spec: ClusterSpec, directory: str) -> list[Problem]:
    """A problem for each file of tasks that is not there: found in the middle of a run, it would stop it there."""
    files = {
        (f"slipway_tasks_{moment}", path)
        for node in spec.present
        for moment, paths in node.tasks.items()
        for path in paths
        if not placed(path, directory).is_file()
    }
    return [
        Problem(where, f"{placed(path, directory)}: no such file", "a file of Ansible tasks", _REMEDY)
        for where, path in sorted(files)
    ]
