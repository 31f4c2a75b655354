# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sets of Kubernetes objects on a live API: look, apply, delete, wait."""

from __future__ import annotations

import time
import typing as t

from ..core.change import Change
from ..core.manifests import (
    REPLICATED,
    WORKLOADS,
    Inventory,
    Key,
    KubernetesObject,
    ManifestSet,
    ObjectRef,
    SetSeen,
    SetStep,
    completed,
    covers,
    generated_fields,
    inventory_object,
    inventory_ref,
    is_held_by_volumes,
    lacks_fields,
    lacks_only_lost,
    left_alone,
    lookup,
    owns,
    parse_inventory,
    ref_of,
    selector_text,
    unsettled,
    volumes_by_class,
)
from ..core.nodes import summarize_nodes
from .generate import generate
from .kubectl import Kubectl
from .machine import Machine

# A kubelet that is started again leaves its Node NotReady for a moment, in which its pods are not lost.
_LOST_SECONDS = 5


def observe_sets(kubectl: Kubectl, wants: t.Sequence[ManifestSet]) -> list[SetSeen]:
    """What the API holds of all sets: in one call if nothing differs, and one more for what does or must go."""
    wanted = [item for want in wants for item in want.wanted]
    refs = [ref_of(item) for item in wanted]
    live = kubectl.find([*(inventory_ref(want.name) for want in wants), *refs], owners=True)
    if live is None:
        return [SetSeen() for _want in wants]
    inventories = [parse_inventory(live.get(inventory_ref(want.name).key)) for want in wants]
    keys = {ref.key for ref in refs}
    others = [ref for each in inventories for ref in (each or Inventory()).refs if ref.key not in keys]
    going = kubectl.find(others) or {} if others else {}
    live.update(going)
    # Only asked for where a class of volumes is going to be deleted.
    held = any(is_held_by_volumes(item) for item in going.values())
    volumes = volumes_by_class(kubectl.json(["get", "persistentvolumes"])) if held else {}
    predicted, unsure = _compare(wants, inventories, live)
    predicted.update(kubectl.predict(unsure))
    return [SetSeen(live, predicted, inventory, volumes) for inventory in inventories]


def _compare(
    wants: t.Sequence[ManifestSet],
    inventories: t.Sequence[t.Optional[Inventory]],
    live: t.Mapping[Key, KubernetesObject],
) -> tuple[dict[Key, KubernetesObject], list[KubernetesObject]]:
    """What lives as it is wanted, by key, and what the API must be asked about.

    Where the inventory says that this very set was applied to the end, nothing was taken away from it since, so what
    covers it and is still ours is the same: that spares the API a dry-run of definitions of a megabyte.
    """
    same: dict[Key, KubernetesObject] = {}
    unsure: list[KubernetesObject] = []
    for want, inventory in zip(wants, inventories):
        applied = inventory is not None and inventory.digest == want.digest
        alone = left_alone(want, live)
        for item in want.wanted:
            held = lookup(live, ref_of(item))
            if ref_of(item).key in alone:
                continue
            if held is not None and applied and covers(held, item) and owns(held, item):
                same[ref_of(item).key] = held
            elif held is not None:
                unsure.append(completed(item, held))
    return same, unsure


def apply_step(kubectl: Kubectl, want: ManifestSet, change: Change, machine: t.Optional[Machine] = None) -> None:
    """Carry out one step. The inventory knows of an object before the API does, and of its end after.

    ``machine`` makes the values that a Secret leaves to the host.
    """
    step: SetStep = change.data
    before = [inventory_object(want.name, step.before)] if step.before else []
    # In one call where nothing is deleted: a list is applied in its order.
    at_once = step.after is not None and not step.delete and bool(step.after.refs)
    after = [inventory_object(want.name, step.after)] if step.after and at_once else []
    kubectl.apply([*before, *_complete(kubectl, step.apply, machine), *after])
    kubectl.delete(step.delete)
    kubectl.wait_established(step.apply)
    if step.after is not None and not at_once:
        _write(kubectl, want, step.after)


def _complete(
    kubectl: Kubectl, items: t.Sequence[KubernetesObject], machine: t.Optional[Machine]
) -> list[KubernetesObject]:
    """The items with values for what they leave to the host: those that live, else new ones."""
    open_ones = [ref_of(item) for item in items if generated_fields(item)]
    if not open_ones or machine is None:
        return list(items)
    live = kubectl.find(open_ones) or {}
    known = [completed(item, lookup(live, ref_of(item))) for item in items]
    return [generate(machine, item) if lacks_fields(item) else item for item in known]


def settle_sets(machine: Machine, kubectl: Kubectl, wants: t.Sequence[ManifestSet], *, timeout: float) -> None:
    """Wait until every workload and API of the sets is there in full; SlipwayError names the first that is not.

    Pods on a node that stays NotReady are waited for by nobody. ``timeout``, in seconds, is for all sets together.
    """
    waiting = [ref_of(item) for want in wants for item in want.wanted]
    since: dict[Key, float] = {}

    def lacking() -> t.Optional[str]:
        nonlocal waiting, since
        live = kubectl.find(waiting)
        if live is None:
            return "the API server does not answer"
        alone = {key for want in wants for key in left_alone(want, live)}
        lacks = [(ref, None if ref.key in alone else _lack(live, ref)) for ref in waiting]
        moment = time.monotonic()
        since = {key: since.get(key, moment) for key in _lost(kubectl, live, lacks)}
        given_up = {key for key, first in since.items() if moment - first >= _LOST_SECONDS}
        lacks = [(ref, None if ref.key in given_up else lack) for ref, lack in lacks]
        # Only workloads come and go: definitions of a megabyte are looked at until they are there.
        waiting = [ref for ref, lack in lacks if lack or ref.kind in WORKLOADS]
        return next((f"{ref.text()}: {lack}" for ref, lack in lacks if lack), None)

    machine.wait(
        f"manifests {', '.join(want.name for want in wants)}",
        lacking,
        timeout=timeout,
        interval=0.5,
        remedy="see kubectl get events --all-namespaces and kubectl describe of that object",
    )


def _lost(
    kubectl: Kubectl, live: t.Mapping[Key, KubernetesObject], lacks: t.Sequence[tuple[ObjectRef, t.Optional[str]]]
) -> list[Key]:
    """The workloads that lack only pods on nodes that are not Ready."""
    if not any(lack and ref.kind in REPLICATED for ref, lack in lacks):
        return []
    # Where nobody answers, all of it still lacks.
    down = summarize_nodes(kubectl.nodes()).down

    def is_lost(ref: ObjectRef) -> bool:
        item = lookup(live, ref) if down and ref.kind in REPLICATED else None
        if item is None:
            return False
        where = f"--namespace={item['metadata']['namespace']}"
        selector = f"--selector={selector_text(item['spec']['selector'])}"
        found = kubectl.listed("pods,controllerrevisions.apps", where, selector)
        return found is not None and lacks_only_lost(item, found["items"], down)

    return [ref.key for ref, lack in lacks if lack and is_lost(ref)]


def _lack(live: t.Mapping[Key, KubernetesObject], ref: ObjectRef) -> t.Optional[str]:
    item = lookup(live, ref)
    return "is not there" if item is None else unsettled(item)


def _write(kubectl: Kubectl, want: ManifestSet, inventory: Inventory) -> None:
    if inventory.refs:
        kubectl.apply([inventory_object(want.name, inventory)])
    else:
        kubectl.delete([inventory_ref(want.name)])
