# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put galaxy.yml into the wheel's collection.

Only a hook can leave it out of an editable installation: there the collection is a link to the checkout, and pip,
uninstalling "its" file through that link, would delete ours.
"""

from __future__ import annotations

import typing as t

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CollectionHook(BuildHookInterface):  # type: ignore[type-arg,unused-ignore]
    """Adds galaxy.yml to standard wheels."""

    def initialize(self, version: str, build_data: dict[str, t.Any]) -> None:
        """Extend what hatchling packs; ``version`` is "standard" or "editable"."""
        if version == "standard":
            build_data["force_include"]["galaxy.yml"] = "ansible_collections/slipway/cluster/galaxy.yml"
