# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Request a certificate on this host, and put it in its place, see core/leaf.py."""

from __future__ import annotations

import os
import time
import typing as t

from ..core.change import Change
from ..core.leaf import LeafSeen, LeafWant, not_signed
from ..core.pki import Certificate, Step
from ..core.problems import Problem, SlipwayError
from ..core.x509 import parse_certificate, pem_blocks
from .machine import Machine
from .pki import make_request, observe_pki_paths, put_certificate
from .state import apply_state, observe_path
from .systemd import show_units

_TEXT: dict[str, t.Any] = {"type": "str", "required": True}
_TEXTS: dict[str, t.Any] = {"type": "list", "elements": "str", "default": []}
OWNER_OPTIONS: dict[str, t.Any] = {
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "mode": {"type": "str", "default": "0600"},
}
CERTIFICATE_OPTIONS: dict[str, t.Any] = {
    "name": _TEXT,
    "certificate": {"type": "path", "required": True},
    "key": {"type": "path", "required": True, "no_log": False},
    "authority": {"type": "str", "default": "kubernetes"},
    "common_name": _TEXT,
    "organizations": _TEXTS,
    "dns": _TEXTS,
    "addresses": _TEXTS,
    "usages": {**_TEXTS, "choices": ["server", "client"], "default": ["server", "client"]},
    "days": {"type": "int", "default": 365},
    **OWNER_OPTIONS,
}
"""What is said of a certificate; documented in doc_fragments/leaf.py."""
LEAF_SPEC: dict[str, t.Any] = {"type": "dict", "required": True, "options": CERTIFICATE_OPTIONS}
"""The option of the modules that request and sign."""


def pending_key(leaf: Certificate) -> str:
    """Where a key waits for its certificate."""
    return f"{leaf.key}.new"


def observe_leaf(machine: Machine, want: LeafWant) -> LeafSeen:
    """Key, certificate, the unit, and what that has read. Reads only."""
    leaf = want.certificate
    return LeafSeen(
        observe_pki_paths(machine, [leaf.certificate, leaf.key]),
        int(time.time()),
        show_units(machine, [want.unit]).get(want.unit) if want.unit else None,
        observe_path(machine, want.serving) if want.serving else None,
    )


def request(machine: Machine, leaf: Certificate) -> str:
    """Make a key that waits beside its place, and the request (PEM) that proves it."""
    key, text = make_request(machine, leaf)
    os.makedirs(os.path.dirname(leaf.key), mode=0o755, exist_ok=True)
    machine.write(pending_key(leaf), key, mode=0o600)
    return text


def apply_issue(machine: Machine, want: LeafWant, change: Change, signed: str) -> None:
    """Carry out one change of plan_issue; ``signed`` is the certificate in PEM."""
    if isinstance(change.data, Step):
        _install(machine, want.certificate, signed)
    else:
        apply_state(machine, change)


def _install(machine: Machine, leaf: Certificate, signed: str) -> None:
    if not signed:
        raise not_signed(leaf.name)
    key, pending = machine.read(pending_key(leaf)), observe_pki_paths(machine, [pending_key(leaf)])
    waiting = pending.files.get(pending_key(leaf))
    proven = [parse_certificate(der).public_key for label, der in pem_blocks(signed) if label == "CERTIFICATE"]
    if key is None or waiting is None or [waiting.public_key] != proven:
        raise SlipwayError(
            Problem(pending_key(leaf), "is not the key of the certificate that came", "the two of one request")
        )
    put_certificate(machine, leaf, key, signed.encode())
    machine.remove(pending_key(leaf))
