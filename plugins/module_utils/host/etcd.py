# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe and bring about an etcd member on this host, see core/etcd.py."""

from __future__ import annotations

import json
import os
import typing as t

from ..core.change import Change
from ..core.etcd import FORMED, INITIAL, EtcdSeen, EtcdWant
from ..core.state import SeenState
from .machine import Machine
from .state import apply_state, observe_state
from .systemd import unit_failure

ETCDCTL = "/opt/slipway/etcd/current/etcdctl"
PKI = "/etc/kubernetes/pki/etcd"
# etcd makes the member's directory before it knows whether it may start; a member with data has a log.
WAL = "/var/lib/etcd/member/wal"
HEALTH_TIMEOUT_SECONDS = 90.0


def observe_etcd(machine: Machine, want: EtcdWant) -> EtcdSeen:
    """Files, unit, data and marks."""
    return observe_marks(machine, observe_state(machine, want.state))


def observe_marks(machine: Machine, state: SeenState) -> EtcdSeen:
    """The given state together with the member's data and marks."""
    return EtcdSeen(
        state=state,
        data=os.path.isdir(WAL),
        formed=machine.exists(FORMED),
        initial=machine.read_text(INITIAL) or "",
    )


def etcdctl(machine: Machine, *arguments: str, check: bool = True, timeout: float = 10) -> t.Any:
    """JSON of an etcdctl call at this host's member with root's client certificate; None if it failed unchecked."""
    tls = [f"--cacert={PKI}/ca.crt", f"--cert={PKI}/root-client.crt", f"--key={PKI}/root-client.key"]
    call = [ETCDCTL, "--endpoints=https://127.0.0.1:2379", *tls, "--command-timeout=5s", "-w=json", *arguments]
    output = machine.run(call, check=check, timeout=timeout)
    try:
        return json.loads(output.stdout) if output.stdout.strip() else None
    except ValueError:
        return None


def apply_etcd(machine: Machine, change: Change) -> None:
    """Carry out one change of plan_etcd."""
    if isinstance(change.data, tuple) and change.data[0] == "intent":
        machine.write(INITIAL, change.data[1].encode(), mode=0o644)
    elif isinstance(change.data, tuple) and change.data[0] == "formed":
        settle_etcd(machine)
        status = etcdctl(machine, "endpoint", "status")
        header = status[0]["Status"]["header"]
        mark = {"cluster": f"{header['cluster_id']:x}", "member": f"{header['member_id']:x}"}
        machine.write(FORMED, (json.dumps(mark) + "\n").encode(), mode=0o644)
        machine.remove(INITIAL)
    else:
        apply_state(machine, change)


def settle_etcd(machine: Machine) -> None:
    """Wait until this member answers a linearised read, which it does only with quorum."""

    def unhealthy() -> t.Optional[str]:
        health = etcdctl(machine, "endpoint", "health", check=False)
        if health and all(endpoint.get("health") for endpoint in health):
            return None
        return unit_failure(machine, "etcd.service")

    machine.wait("etcd", unhealthy, timeout=HEALTH_TIMEOUT_SECONDS, interval=0.2)
