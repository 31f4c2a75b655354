# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe and bring about an etcd member on this host, see core/etcd.py."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import typing as t

from ..core.change import Change
from ..core.etcd import DATA, FORMED, INITIAL, UNIT, EtcdSeen, EtcdWant, own_member
from ..core.state import SeenState
from .etcdctl import LOCAL, Etcdctl
from .machine import Machine
from .state import apply_state, observe_state
from .systemd import unit_failure

# etcd makes the member's directory before it knows whether it may start; a member with data has a log.
WAL = DATA + "/wal"
HEALTH_TIMEOUT_SECONDS = 90.0
SYNC_TIMEOUT_SECONDS = 300.0


def observe_etcd(machine: Machine, want: EtcdWant) -> EtcdSeen:
    """Files, unit, data and marks, and what the members that are known to answer say."""
    seen = observe_marks(machine, observe_state(machine, want.state))
    if not want.endpoints:
        return seen
    return dataclasses.replace(seen, members=Etcdctl(machine, endpoints=want.endpoints).agreed_members())


def observe_marks(machine: Machine, state: SeenState) -> EtcdSeen:
    """The given state together with the member's data and marks."""
    return EtcdSeen(
        state=state,
        data=os.path.isdir(WAL),
        formed=machine.exists(FORMED),
        initial=machine.read_text(INITIAL) or "",
    )


def apply_etcd(machine: Machine, want: EtcdWant, change: Change) -> None:
    """Carry out one change of plan_etcd."""
    verb = change.data[0] if isinstance(change.data, tuple) else ""
    if verb == "intent":
        machine.write(INITIAL, change.data[1].encode(), mode=0o644)
    elif verb == "wipe":
        machine.run(["systemctl", "stop", UNIT], timeout=HEALTH_TIMEOUT_SECONDS)
        shutil.rmtree(DATA, ignore_errors=True)
        machine.remove(FORMED)
    elif verb == "remove":
        Etcdctl(machine, endpoints=want.endpoints).remove(change.data[1])
    elif verb == "add":
        peers = f"--peer-urls={want.peer_url}"
        Etcdctl(machine, endpoints=want.endpoints).ask("member", "add", want.name, "--learner", peers)
    elif verb == "promote":
        _promote(machine, want)
    elif verb == "formed":
        _record(machine)
    else:
        apply_state(machine, change)


def _promote(machine: Machine, want: EtcdWant) -> None:
    """Let the learner vote, as soon as its leader finds it in sync."""
    etcdctl = Etcdctl(machine, endpoints=want.endpoints or (LOCAL,))

    def waiting() -> t.Optional[str]:
        own = own_member(want, etcdctl.agreed_members() or ())
        if own is None:
            return f"no member has the peer URL {want.peer_url}"
        if not own.learner:
            return None
        call = etcdctl.ask("member", "promote", own.id, check=False)
        return None if call else f"not in sync yet; {unit_failure(machine, UNIT)}"

    machine.wait("etcd learner in sync", waiting, timeout=SYNC_TIMEOUT_SECONDS, interval=0.5)


def _record(machine: Machine) -> None:
    settle_etcd(machine)
    status = Etcdctl(machine).ask("endpoint", "status")
    header = status[0]["Status"]["header"]
    mark = {"cluster": f"{header['cluster_id']:x}", "member": f"{header['member_id']:x}"}
    machine.write(FORMED, (json.dumps(mark) + "\n").encode(), mode=0o644)
    machine.remove(INITIAL)


def settle_etcd(machine: Machine) -> None:
    """Wait until this member answers a linearised read, which it does only with quorum."""

    def unhealthy() -> t.Optional[str]:
        health = Etcdctl(machine).ask("endpoint", "health", check=False)
        if health and all(endpoint.get("health") for endpoint in health):
            return None
        return unit_failure(machine, UNIT)

    machine.wait("etcd", unhealthy, timeout=HEALTH_TIMEOUT_SECONDS, interval=0.2)
