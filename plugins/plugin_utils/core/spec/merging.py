# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How values of several layers become one: the later layer wins, dictionaries merge key by key."""

from __future__ import annotations

import dataclasses
import typing as t

from .model import Setting
from .texts import Taint

type Path = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Layer:
    """What one place says of a node; ``origin`` names the place."""

    origin: str
    labels: t.Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    kubelet: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    runtime_handlers: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Merged:
    """All layers of a node as one, and where each value came from."""

    labels: dict[str, str]
    taints: tuple[Taint, ...]
    kubelet: dict[str, t.Any]
    runtime_handlers: dict[str, t.Any]
    settings: tuple[Setting, ...]


def merge_fields(base: t.Mapping[str, t.Any], over: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """``over`` on top of ``base``: dictionaries merge key by key, everything else is replaced, also by null."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(value, t.Mapping) and isinstance(below, t.Mapping):
            merged[key] = merge_fields(below, value)
        else:
            merged[key] = value
    return merged


def merge_taints(base: t.Iterable[Taint], over: t.Iterable[Taint]) -> tuple[Taint, ...]:
    """All taints, sorted; of two with the same key and effect the later stays."""
    return tuple(sorted({(taint.key, taint.effect): taint for taint in (*base, *over)}.values()))


def merge_layers(layers: t.Sequence[Layer]) -> Merged:
    """The layers from the first to the last, which wins.

    A label that ends as null is gone. A kubelet field or handler that ends as null stays so: it takes away the default
    that is put below it later.
    """
    labels: dict[str, t.Any] = {}
    taints: tuple[Taint, ...] = ()
    kubelet: dict[str, t.Any] = {}
    handlers: dict[str, t.Any] = {}
    for layer in layers:
        labels = merge_fields(labels, layer.labels)
        taints = merge_taints(taints, layer.taints)
        kubelet = merge_fields(kubelet, layer.kubelet)
        handlers = merge_fields(handlers, layer.runtime_handlers)
    labels = {key: value for key, value in labels.items() if value is not None}
    settings = (
        *_origins("label", labels, [(layer.origin, layer.labels) for layer in layers]),
        *_taint_origins(taints, layers),
        *_origins("kubelet", kubelet, [(layer.origin, layer.kubelet) for layer in layers]),
        *_origins("runtime handler", handlers, [(layer.origin, layer.runtime_handlers) for layer in layers]),
    )
    return Merged(labels, taints, kubelet, handlers, settings)


def leaves(fields: t.Mapping[str, t.Any], above: Path = ()) -> t.Iterator[tuple[Path, t.Any]]:
    """Every value that is not a dictionary with something in it, with the keys that lead to it."""
    for key, value in fields.items():
        path = (*above, key)
        if isinstance(value, t.Mapping) and value:
            yield from leaves(value, path)
        else:
            yield path, value


def _origins(
    what: str, merged: t.Mapping[str, t.Any], layers: t.Sequence[tuple[str, t.Mapping[str, t.Any]]]
) -> t.Iterator[Setting]:
    """Where each leaf came from: the last layer that spoke of it, or of something below it."""
    origins: dict[Path, str] = {}
    for origin, fields in layers:
        for path, _unused in leaves(fields):
            for length in range(1, len(path) + 1):
                origins[path[:length]] = origin
    for path, value in sorted(leaves(merged)):
        yield Setting(f"{what} {'.'.join(path)}", value, origins[path])


def _taint_origins(taints: t.Iterable[Taint], layers: t.Sequence[Layer]) -> t.Iterator[Setting]:
    origins = {(taint.key, taint.effect): layer.origin for layer in layers for taint in layer.taints}
    for taint in taints:
        yield Setting("taint", str(taint), origins[taint.key, taint.effect])
