# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of Kubernetes objects on a live API: look, apply, delete, wait."""

from __future__ import annotations

import typing as t

from ..core.change import Change
from ..core.manifests import (
    Inventory,
    ManifestSet,
    SetSeen,
    SetStep,
    inventory_object,
    inventory_ref,
    lookup,
    parse_inventory,
    ref_of,
    unsettled,
)
from .kubectl import Kubectl
from .machine import Machine


def observe_set(kubectl: Kubectl, want: ManifestSet) -> SetSeen:
    """What the API holds of the set, in two calls, or three if the inventory remembers more than is wanted."""
    refs = [ref_of(item) for item in want.wanted]
    live = kubectl.find([inventory_ref(want.name), *refs])
    if live is None:
        return SetSeen()
    inventory = parse_inventory(live.get(inventory_ref(want.name).key))
    wanted = {ref.key for ref in refs}
    others = [ref for ref in (inventory or Inventory()).refs if ref.key not in wanted]
    if others:
        live.update(kubectl.find(others) or {})
    present = [item for item in want.wanted if lookup(live, ref_of(item))]
    return SetSeen(live=live, predicted=kubectl.predict(present), inventory=inventory)


def apply_step(kubectl: Kubectl, want: ManifestSet, change: Change) -> None:
    """Carry out one step. The inventory knows of an object before the API does, and of its end after."""
    step: SetStep = change.data
    before = [inventory_object(want.name, step.before)] if step.before else []
    kubectl.apply([*before, *step.apply])
    kubectl.delete(step.delete)
    kubectl.wait_established(step.apply)
    if step.after is not None:
        _write(kubectl, want, step.after)


def settle_set(machine: Machine, kubectl: Kubectl, want: ManifestSet, *, timeout: float) -> None:
    """Wait until every workload and API of the set is there in full; SlipwayError names the first that is not."""
    refs = [ref_of(item) for item in want.wanted]

    def lacking() -> t.Optional[str]:
        live = kubectl.find(refs)
        if live is None:
            return "the API server does not answer"
        for ref in refs:
            item = lookup(live, ref)
            lack = "is not there" if item is None else unsettled(item)
            if lack:
                return f"{ref.text()}: {lack}"
        return None

    machine.wait(
        f"manifests {want.name}",
        lacking,
        timeout=timeout,
        interval=0.5,
        remedy="see kubectl get events --all-namespaces and kubectl describe of that object",
    )


def _write(kubectl: Kubectl, want: ManifestSet, inventory: Inventory) -> None:
    if inventory.refs:
        kubectl.apply([inventory_object(want.name, inventory)])
    else:
        kubectl.delete([inventory_ref(want.name)])
