# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait until what was started answers."""

from __future__ import annotations

import functools
import http.client
import json
import ssl
import typing as t
import urllib.error
import urllib.request

from ..core.nodes import unsaid
from ..core.readiness import Wait
from .machine import Machine
from .systemd import show_units, started, unit_failure


def settle(machine: Machine, waits: t.Sequence[Wait]) -> None:
    """Wait for each in turn; SlipwayError says what was last seen."""
    for wait in waits:
        interval = 1.0 if wait.since else 0.2  # that asks several programs
        machine.wait(wait.what, functools.partial(_seen, machine, wait), timeout=wait.timeout, interval=interval)


def _seen(machine: Machine, wait: Wait) -> t.Optional[str]:
    if wait.unit:
        seen = show_units(machine, [wait.unit]).get(wait.unit)
        return None if seen and seen.active == "active" else unit_failure(machine, wait.unit)
    if wait.path:
        return None if machine.exists(wait.path) else f"{wait.path} is not there"
    return _node(machine, wait) if wait.since else get(wait)


def _node(machine: Machine, wait: Wait) -> t.Optional[str]:
    """None if the kubelet that runs now has said that its Node is Ready, else what is lacking and what it logged."""
    moment = started(machine, wait.since)
    complaint, body = _ask(wait)
    if moment is not None and not complaint:
        try:
            complaint = unsaid(json.loads(body), moment)
        except (ValueError, KeyError) as error:
            complaint = f"no Node: {error}"
        if not complaint:
            return None
    return "; ".join(part for part in (complaint, unit_failure(machine, wait.since)) if part)


def get(wait: Wait) -> t.Optional[str]:
    """None if the URL answers 200, else what it said instead."""
    return _ask(wait)[0] or None


def _ask(wait: Wait) -> tuple[str, bytes]:
    """What the URL said instead of 200, empty if it did not, and its answer."""
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
            return "" if response.status == 200 else f"status {response.status}", response.read()
    except urllib.error.HTTPError as error:
        return f"status {error.code}: {error.read(400).decode('utf-8', 'replace')}", b""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__, b""
