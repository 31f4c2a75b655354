# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The keeper: a timer's program that keeps a cluster's certificates in order without Ansible.

``keeper.pyz approve`` approves kubelet serving certificates; ``keeper.pyz run`` does that, renews this host's own
certificates, restarts what cannot re-read them (one host at a time) and writes down how things stand. Both exit 0
when all is well or the API server is not there, 1 when something failed; every line they print says why.
"""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import json
import os
import socket
import sys
import time
import typing as t

from ..core.keeper import (
    LEASE_NAME,
    LEASE_NAMESPACE,
    SIGNER,
    Approve,
    Config,
    SigningRequest,
    State,
    certificate_days,
    decide,
    lease_for,
    lease_holder,
    metrics,
    plan_renewal,
)
from ..core.problems import Problem, SlipwayError
from .machine import UNIT_TIMEOUT_SECONDS, Machine, Output
from .pki import apply_pki, observe_pki

# What kubectl says when the API server is not running, just starting or going down.
_ABSENT = (
    "was refused",
    "connection refused",
    "connection reset",
    "unable to connect",
    "currently unable to handle",
    "not ready",
    "timeout",
    "timed out",
    "deadline exceeded",
    "no route to host",
    ": eof",
)


@dataclasses.dataclass(frozen=True)
class Paths:
    """Where the keeper finds and leaves things."""

    nodes: str = "/etc/slipway/nodes.json"
    certificates: str = "/etc/slipway/certificates.json"
    node_name: str = "/etc/slipway/node-name"
    state: str = "/var/lib/slipway/keeper.json"
    metrics: str = "/var/lib/slipway/keeper.prom"
    lock: str = "/run/slipway/lock"
    kubeconfig: str = "/etc/kubernetes/admin.conf"
    kubectl: str = "/opt/slipway/kubectl/current/kubectl"


class NoApi(Exception):
    """The API server does not answer, or there is none yet: not the keeper's failure."""


@dataclasses.dataclass
class Keeper:
    """One run. ``failures`` collects what went wrong; ``state`` is what the next run will know."""

    machine: Machine
    paths: Paths
    state: State
    failures: list[str] = dataclasses.field(default_factory=list)

    def say(self, line: str) -> None:
        """One line for the journal."""
        print(line, flush=True)  # noqa: T201  # pylint: disable=ansible-bad-function  # its log is the journal

    def attempt(self, what: str, work: t.Callable[[], None]) -> None:
        """Do one part; what goes wrong in it does not keep the others from being done."""
        try:
            work()
        except NoApi as error:
            self.say(f"{what}: the API server is not there, left for the next run: {error}")
        except (SlipwayError, OSError, ValueError, KeyError) as error:
            self.failures.append(f"{what}: {error}")
            self.say(f"{what} failed: {error}")

    # --- approving ---

    def approve(self) -> None:
        """Approve what may be approved; say once of every other request why it stays pending."""
        nodes = self._json(self.paths.nodes)
        if not isinstance(nodes, dict):
            self.say(f"no list of nodes in {self.paths.nodes}: nothing is approved")
            return
        if not nodes:
            return  # a host for etcd alone
        listed = self._kubectl("get", "csr", f"--field-selector=spec.signerName={SIGNER}", "-o", "json")
        requests = [SigningRequest.from_api(item) for item in json.loads(listed.stdout).get("items") or []]
        decided = {csr.name: decide(csr, nodes) for csr in requests if not csr.settled}
        approved = [name for name, decision in decided.items() if isinstance(decision, Approve)]
        refused = {name: decision.reason for name, decision in decided.items() if not isinstance(decision, Approve)}
        for name, reason in refused.items():
            if self.state.refused.get(name) != reason:
                self.say(f"{name} stays pending: {reason}")
        self.state = dataclasses.replace(self.state, refused=refused)
        if approved:
            self._kubectl("certificate", "approve", *approved)
            self.say(f"approved {', '.join(approved)}")

    # --- renewing ---

    def renew(self) -> None:
        """Renew what is near its end, under the host's lock; leave it to the next run when a module holds that."""
        data = self._json(self.paths.certificates)
        if data is None:
            self.say(f"no list of certificates in {self.paths.certificates}: nothing is renewed")
            return
        config = Config.from_data(data)
        os.makedirs(os.path.dirname(self.paths.lock), mode=0o700, exist_ok=True)
        with open(self.paths.lock, "a+", encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.say(f"{self.paths.lock} is held: nothing is renewed in this run")
                return
            stream.truncate(0)
            stream.write(json.dumps({"pid": os.getpid(), "module": "keeper", "since": int(time.time())}))
            stream.flush()
            self._renew(config)
            stream.truncate(0)

    def _renew(self, config: Config) -> None:
        now = int(time.time())
        changes = plan_renewal(config.want, observe_pki(self.machine, config.want), now=now)
        if changes:
            # Written down first: a run that is killed halfway must not forget the restarts.
            pending = tuple(dict.fromkeys((*self.state.restart, *config.restart)))
            self.state = dataclasses.replace(self.state, last_renewal=now, restart=pending)
            self.save()
        for change in changes:
            apply_pki(self.machine, config.want, change)
            self.say(f"renewed: {change.text()}")
        days = certificate_days(config.want, observe_pki(self.machine, config.want), now=now)
        self.state = dataclasses.replace(self.state, certificates=days)

    # --- restarting ---

    def restart(self) -> None:
        """Restart what cannot re-read its certificate, if no other host is doing the same."""
        if not self.state.restart:
            return
        me = (self.machine.read_text(self.paths.node_name) or "").strip() or socket.gethostname()
        if not self._take_lease(me):
            return
        for unit in self.state.restart:
            self._restart_unit(unit)
            self.state = dataclasses.replace(self.state, restart=self.state.restart[1:])
            self.save()
        self.machine.wait("/readyz of the API server", self._unready, timeout=180, interval=1)
        self.machine.wait("giving back the lease", lambda: self._give_back_lease(me), timeout=60, interval=1)

    def _restart_unit(self, unit: str) -> None:
        self.machine.run(["systemctl", "restart", unit], timeout=UNIT_TIMEOUT_SECONDS)
        self.machine.wait(
            unit,
            lambda: None if self.machine.run(["systemctl", "is-active", unit], check=False).rc == 0 else "not active",
            timeout=30,
            remedy=f"journalctl -u {unit}; no other host restarts it until the lease {LEASE_NAME} has run out",
        )
        self.say(f"restarted {unit}")

    def _take_lease(self, me: str) -> bool:
        """Whether this host may restart now. Written only over the version that was read: two cannot both succeed."""
        lease = self._lease()
        now = datetime.datetime.now(datetime.timezone.utc)
        holder = lease_holder(lease, now=now) if lease else ""
        if holder not in ("", me):
            self.say(f"{holder} restarts its units: this host waits for its turn")
            return False
        version = lease["metadata"]["resourceVersion"] if lease else ""
        body = json.dumps(lease_for(me, now=now, resource_version=version))
        written = self._kubectl_or_fail(["replace" if lease else "create", "-f", "-"], stdin=body)
        if written.rc != 0:
            self.say("another host was quicker: this host waits for its turn")
        return written.rc == 0

    def _unready(self) -> t.Optional[str]:
        """None when this host's API server is ready; only then may the next host take its turn."""
        try:
            self._kubectl("get", "--raw", "/readyz")
        except (NoApi, SlipwayError) as error:
            return str(error)
        return None

    def _give_back_lease(self, me: str) -> t.Optional[str]:
        """None when done. The unit just restarted may be the API server itself, so the caller asks again."""
        try:
            lease = self._lease()
            now = datetime.datetime.now(datetime.timezone.utc)
            if lease is None or lease_holder(lease, now=now) != me:
                return None
            body = json.dumps(lease_for("", now=now, resource_version=lease["metadata"]["resourceVersion"]))
            written = self._kubectl_or_fail(["replace", "-f", "-"], stdin=body)
        except (NoApi, SlipwayError) as error:
            return str(error)
        return None if written.rc == 0 else written.stderr.strip()

    def _lease(self) -> t.Optional[dict[str, t.Any]]:
        said = self._kubectl("get", "lease", LEASE_NAME, "-n", LEASE_NAMESPACE, "--ignore-not-found", "-o", "json")
        return t.cast("dict[str, t.Any]", json.loads(said.stdout)) if said.stdout.strip() else None

    # --- common ---

    def save(self) -> None:
        """Leave the state and the metrics for the next run and for whoever collects them."""
        os.makedirs(os.path.dirname(self.paths.state), mode=0o755, exist_ok=True)
        self.machine.write(self.paths.state, self.state.to_text().encode(), mode=0o644)
        self.machine.write(self.paths.metrics, metrics(self.state).encode(), mode=0o644)

    def _json(self, path: str) -> t.Any:
        text = self.machine.read_text(path)
        try:
            return None if text is None else json.loads(text)
        except ValueError as error:
            raise SlipwayError(Problem(path, f"is not JSON: {error}", remedy="run apply again")) from error

    def _kubectl(self, *arguments: str) -> Output:
        """A kubectl call that must succeed; raises NoApi when nobody answers."""
        said = self._kubectl_or_fail(arguments)
        if said.rc != 0:
            raise SlipwayError(Problem(f"kubectl {arguments[0]}", said.stderr.strip()[-500:], "exit code 0"))
        return said

    def _kubectl_or_fail(self, arguments: t.Sequence[str], stdin: t.Optional[str] = None) -> Output:
        for path in (self.paths.kubectl, self.paths.kubeconfig):
            if not self.machine.exists(path):
                raise NoApi(f"{path} does not exist")
        said = self.machine.run(
            [self.paths.kubectl, "--request-timeout=10s", *arguments],
            stdin=stdin,
            check=False,
            timeout=30,
            env={"KUBECONFIG": self.paths.kubeconfig, "KUBECACHEDIR": "/run/slipway/kubectl"},
        )
        if said.rc != 0 and any(sign in said.stderr.lower() for sign in _ABSENT):
            raise NoApi(said.stderr.strip().splitlines()[-1])
        return said


def run_keeper(verb: str, machine: Machine, paths: Paths) -> int:
    """One run of ``approve`` or ``run``; returns the exit code."""
    keeper = Keeper(machine, paths, State.from_text(machine.read_text(paths.state)))
    if verb == "run":
        keeper.attempt("renewal", keeper.renew)
    keeper.attempt("approval", keeper.approve)
    if verb == "run":
        keeper.attempt("restart", keeper.restart)
        now = int(time.time())
        failure = "; ".join(keeper.failures)
        failed = now if failure else keeper.state.last_failure
        keeper.state = dataclasses.replace(keeper.state, last_run=now, last_failure=failed, failure=failure)
        keeper.save()
    return 1 if keeper.failures else 0


def main(arguments: t.Sequence[str]) -> int:
    """The command line: ``approve`` or ``run``."""
    if list(arguments) not in (["approve"], ["run"]):
        print("usage: keeper.pyz approve|run", file=sys.stderr)  # noqa: T201  # pylint: disable=ansible-bad-function  # a program, no module
        return 2
    return run_keeper(arguments[0], Machine(), Paths())
