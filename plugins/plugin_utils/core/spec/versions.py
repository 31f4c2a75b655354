# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the version a user asked for to the exact version of every component."""

from __future__ import annotations

import typing as t

from ....module_utils.core.problems import Problem, SlipwayError
from .kinds import nearest

type VersionSets = t.Mapping[str, t.Mapping[str, str]]
"""Kubernetes minor → component → version, tested together; the component ``kubernetes`` is the set's patch."""


def resolve_version(version: str, sets: VersionSets) -> dict[str, str]:
    """Component → version. A minor is its set; a patch replaces ``kubernetes`` in its minor's set.

    Raises SlipwayError if there is no set of that minor.
    """
    minor = ".".join(version.split(".")[:2])
    known = sorted(sets, key=lambda each: tuple(int(part) for part in each.split(".")))
    if minor not in sets:
        raise SlipwayError(
            Problem(
                "slipway_kubernetes_version",
                f'"{version}" is not known to this release of Slipway',
                "a minor or a patch of " + ", ".join(known),
                nearest(minor, known) or "ask for one of them",
            )
        )
    return {**sets[minor], **({} if version == minor else {"kubernetes": version})}
