# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The memory of a maintenance in a live cluster, see core/maintenance.py."""

from __future__ import annotations

import json
import typing as t

from ..core.change import Change
from ..core.maintenance import (
    REF,
    Maintenance,
    MaintenanceWant,
    object_of,
    parse_maintenance,
    plan_maintenance,
)
from ..core.manifests import lookup
from ..core.problems import Problem, SlipwayError
from .kubectl import Kubectl

_ATTEMPTS = 5


class Memory:
    """The ConfigMap on one API, as last seen."""

    def __init__(self, kubectl: Kubectl, want: MaintenanceWant) -> None:
        self._kubectl = kubectl
        self._want = want
        self._item: t.Optional[dict[str, t.Any]] = None

    def observe(self) -> t.Optional[Maintenance]:
        """The unfinished maintenance, if there is one; SlipwayError where no API answers."""
        found = self._kubectl.find([REF])
        if found is None:
            raise SlipwayError(
                Problem("kubectl", "no API server answers", "one", "see on this host: systemctl status kube-apiserver")
            )
        self._item = lookup(found, REF)
        return parse_maintenance(self._item)

    def apply(self) -> None:
        """Remember or forget; another run that writes at the same moment is not overwritten."""
        said = ""
        for _attempt in range(_ATTEMPTS):
            changes: list[Change] = plan_maintenance(self._want, self.observe())
            if not changes:
                return
            wanted = changes[0].data
            if wanted is None:
                self._kubectl.delete([REF])
                return
            version = str((self._item or {}).get("metadata", {}).get("resourceVersion", ""))
            verb = "replace" if self._item else "create"
            item = json.dumps(object_of(wanted, version))
            output = self._kubectl.run([verb, "--filename=-"], stdin=item, check=False)
            if output.rc == 0:
                return
            said = output.stderr.strip()
        raise SlipwayError(Problem(f"ConfigMap {REF.name}", f"could not be written {_ATTEMPTS} times: {said}"))
