# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of a run that stays in the cluster; by it an older Slipway refuses what a newer one has changed."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.places import RECORD
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem

_RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)(-)?")


def record_object(record: t.Mapping[str, t.Any], *, time: str, by: str, release: str) -> dict[str, t.Any]:
    """The ConfigMap that tells of the last run that changed something.

    ``record`` is the plan's: hash of the spec and the components' versions. ``time`` is in UTC (RFC 3339), ``by`` names
    the person and the machine that ran it, ``release`` is Slipway's own version.
    """
    namespace, name = RECORD
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace},
        "data": {
            "time": time,
            "by": by,
            "slipway": release,
            "spec": str(record["spec"]),
            "versions": json.dumps(record["versions"], indent=1, sort_keys=True),
        },
    }


def unrecorded(seen: t.Mapping[str, str] | None, record: t.Mapping[str, t.Any]) -> bool:
    """Whether a run was cut before it could leave its record: there is none, or it tells of other versions.

    ``seen`` is the record's data in the cluster, ``record`` the plan's. A spec of another hash alone is no reason: it
    may differ in what changes nothing.
    """
    try:
        return seen is None or json.loads(seen.get("versions", "")) != record["versions"]
    except ValueError:
        return True


def newer_release(recorded: t.Mapping[str, str], own: str) -> list[Problem]:
    """A problem if a control-plane host tells of a run by a newer Slipway than ``own``.

    ``recorded`` is host to the version in the cluster's record; what is no version of ours counts for nothing.
    """
    newest = max(((_key(version), version, host) for host, version in recorded.items()), default=None)
    if newest is None or newest[0] <= _key(own):
        return []
    return [
        Problem(
            newest[2],
            f"the cluster was last changed by Slipway {newest[1]}, and this is {own}",
            "the same Slipway or a newer one",
            f"update Slipway on this machine to {newest[1]} or newer",
        )
    ]


def _key(version: str) -> tuple[int, int, int, int]:
    """Semantic versioning's order as far as releases go: a pre-release comes before its release."""
    match = _RELEASE.match(version)
    if match is None:
        return (0, 0, 0, 0)
    major, minor, patch = (int(match.group(number)) for number in (1, 2, 3))
    return major, minor, patch, 0 if match.group(4) == "-" else 1
