# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until what was started answers."""

from __future__ import annotations

import functools
import http.client
import ssl
import typing as t
import urllib.error
import urllib.request

from ..core.readiness import Wait
from .machine import Machine
from .systemd import show_units, unit_failure


def settle(machine: Machine, waits: t.Sequence[Wait]) -> None:
    """Wait for each in turn; SlipwayError says what was last seen."""
    for wait in waits:
        machine.wait(wait.what, functools.partial(_seen, machine, wait), timeout=wait.timeout, interval=0.2)


def _seen(machine: Machine, wait: Wait) -> t.Optional[str]:
    if wait.unit:
        seen = show_units(machine, [wait.unit]).get(wait.unit)
        return None if seen and seen.active == "active" else unit_failure(machine, wait.unit)
    if wait.path:
        return None if machine.exists(wait.path) else f"{wait.path} is not there"
    return get(wait)


def get(wait: Wait) -> t.Optional[str]:
    """None if the URL answers 200, else what it said instead."""
    context = None
    try:
        if wait.url.startswith("https:"):
            context = ssl.create_default_context(cafile=wait.ca or None)
            if wait.certificate:
                context.load_cert_chain(wait.certificate, wait.key)
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), *([urllib.request.HTTPSHandler(context=context)] if context else [])
        )
        with opener.open(wait.url, timeout=5) as response:
            return None if response.status == 200 else f"status {response.status}"
    except urllib.error.HTTPError as error:
        return f"status {error.code}: {error.read(400).decode('utf-8', 'replace')}"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
