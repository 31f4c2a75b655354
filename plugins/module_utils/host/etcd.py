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
from ..core.quorum import Member, parse_members
from ..core.state import SeenState
from .machine import Machine
from .state import apply_state, observe_state
from .systemd import unit_failure

ETCDCTL = "/opt/slipway/etcd/current/etcdctl"
PKI = "/etc/kubernetes/pki/etcd"
# etcd makes the member's directory before it knows whether it may start; a member with data has a log.
WAL = DATA + "/wal"
LOCAL = "https://127.0.0.1:2379"
HEALTH_TIMEOUT_SECONDS = 90.0
SYNC_TIMEOUT_SECONDS = 300.0


def observe_etcd(machine: Machine, want: EtcdWant) -> EtcdSeen:
    """Files, unit, data and marks, and what the members that are known to answer say."""
    seen = observe_marks(machine, observe_state(machine, want.state))
    return dataclasses.replace(seen, members=observe_members(machine, want.endpoints)) if want.endpoints else seen


def observe_marks(machine: Machine, state: SeenState) -> EtcdSeen:
    """The given state together with the member's data and marks."""
    return EtcdSeen(
        state=state,
        data=os.path.isdir(WAL),
        formed=machine.exists(FORMED),
        initial=machine.read_text(INITIAL) or "",
    )


def observe_members(machine: Machine, endpoints: t.Sequence[str] = (LOCAL,)) -> t.Optional[tuple[Member, ...]]:
    """The members and their health as these endpoints tell; None if none does, which takes quorum.

    Whether a member is healthy is the word of its own client URL.
    """
    if not (machine.exists(ETCDCTL) and machine.exists(f"{PKI}/root-client.crt")):
        return None
    listed = etcdctl(machine, "member", "list", endpoints=endpoints, check=False)
    if not listed:
        return None
    status = etcdctl(machine, "endpoint", "status", "--cluster", endpoints=endpoints, check=False)
    return parse_members(listed, status or [])


def etcdctl(
    machine: Machine, *arguments: str, endpoints: t.Sequence[str] = (LOCAL,), check: bool = True, timeout: float = 10
) -> t.Any:
    """JSON of an etcdctl call with root's client certificate; None if it failed unchecked."""
    tls = [f"--cacert={PKI}/ca.crt", f"--cert={PKI}/root-client.crt", f"--key={PKI}/root-client.key"]
    where = f"--endpoints={','.join(endpoints)}"
    call = [ETCDCTL, where, *tls, "--command-timeout=5s", "-w=json", *arguments]
    output = machine.run(call, check=check, timeout=timeout)
    try:
        return json.loads(output.stdout) if output.stdout.strip() else None
    except ValueError:
        return None


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
        etcdctl(machine, "member", "remove", change.data[1], endpoints=want.endpoints)
    elif verb == "add":
        peers = f"--peer-urls={want.peer_url}"
        etcdctl(machine, "member", "add", want.name, "--learner", peers, endpoints=want.endpoints)
    elif verb == "promote":
        _promote(machine, want)
    elif verb == "formed":
        _record(machine)
    else:
        apply_state(machine, change)


def _promote(machine: Machine, want: EtcdWant) -> None:
    """Let the learner vote, as soon as its leader finds it in sync."""
    endpoints = want.endpoints or (LOCAL,)

    def waiting() -> t.Optional[str]:
        own = own_member(want, observe_members(machine, endpoints) or ())
        if own is None:
            return f"no member has the peer URL {want.peer_url}"
        if not own.learner:
            return None
        call = etcdctl(machine, "member", "promote", own.id, endpoints=endpoints, check=False)
        return None if call else f"not in sync yet; {unit_failure(machine, UNIT)}"

    machine.wait("etcd learner in sync", waiting, timeout=SYNC_TIMEOUT_SECONDS, interval=0.5)


def _record(machine: Machine) -> None:
    settle_etcd(machine)
    status = etcdctl(machine, "endpoint", "status")
    header = status[0]["Status"]["header"]
    mark = {"cluster": f"{header['cluster_id']:x}", "member": f"{header['member_id']:x}"}
    machine.write(FORMED, (json.dumps(mark) + "\n").encode(), mode=0o644)
    machine.remove(INITIAL)


def settle_etcd(machine: Machine) -> None:
    """Wait until this member answers a linearised read, which it does only with quorum."""

    def unhealthy() -> t.Optional[str]:
        health = etcdctl(machine, "endpoint", "health", check=False)
        if health and all(endpoint.get("health") for endpoint in health):
            return None
        return unit_failure(machine, UNIT)

    machine.wait("etcd", unhealthy, timeout=HEALTH_TIMEOUT_SECONDS, interval=0.2)
