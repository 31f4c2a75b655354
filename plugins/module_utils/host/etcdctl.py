# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A whole etcd cluster asked and changed with etcdctl, from a host that has a client certificate."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ..core.problems import Problem, SlipwayError
from ..core.quorum import Member, parse_members
from .machine import Machine, Output

PROGRAM = "/opt/slipway/etcd/current/etcdctl"
CA = "/etc/kubernetes/pki/etcd/ca.crt"
CERTIFICATE = "/etc/kubernetes/pki/etcd/root-client.crt"
KEY = "/etc/kubernetes/pki/etcd/root-client.key"
LOCAL = "https://127.0.0.1:2379"
ARGUMENTS: dict[str, t.Any] = {
    "etcdctl": {"type": "path", "default": PROGRAM},
    "etcd_endpoints": {"type": "list", "elements": "str", "default": []},
    "etcd_ca": {"type": "path", "default": CA},
    "etcd_certificate": {"type": "path", "default": CERTIFICATE},
    "etcd_key": {"type": "path", "default": KEY, "no_log": False},
}
# What all members must agree on may take a slow disk this long.
_AGREEMENT_SECONDS = 5
# A member that is down costs this many seconds whenever all are asked how they are, one after the other.
_ANSWER_SECONDS = 3


@dataclasses.dataclass(frozen=True)
class Etcdctl:
    """etcdctl with some endpoints, any of which may be down; the paths are on this host, by default root's own."""

    machine: Machine
    program: str = PROGRAM
    endpoints: tuple[str, ...] = (LOCAL,)
    ca: str = CA
    certificate: str = CERTIFICATE
    key: str = KEY

    @classmethod
    def from_params(cls, machine: Machine, params: t.Mapping[str, t.Any]) -> Etcdctl:
        """From the options in ``ARGUMENTS``; without endpoints this host's own member is asked."""
        return cls(
            machine,
            params["etcdctl"],
            tuple(params["etcd_endpoints"]) or (LOCAL,),
            params["etcd_ca"],
            params["etcd_certificate"],
            params["etcd_key"],
        )

    def members(self) -> tuple[Member, ...]:
        """All members with their health; SlipwayError if no endpoint answers.

        Without quorum the list is the one of whichever member answered.
        """
        self._require_files()
        listing = self._run(["member", "list"], check=False)
        if listing.rc != 0:
            listing = self._run(["member", "list", "--consistency=s"])
        return self._with_status(json.loads(listing.stdout))

    def agreed_members(self) -> t.Optional[tuple[Member, ...]]:
        """All members with their health as a quorum has them; None where there is none to ask, or no certificate."""
        listing = None if self.missing() else self.ask("member", "list", check=False)
        return self._with_status(listing) if listing else None

    def _with_status(self, listing: t.Mapping[str, t.Any]) -> tuple[Member, ...]:
        """Whether a member is healthy is the word of its own client URL."""
        urls = [url for item in listing.get("members") or () for url in item.get("clientURLs") or ()]
        # With a member down etcdctl ends with 1 and prints what the others said.
        return parse_members(listing, self.ask("endpoint", "status", endpoints=urls, check=False) if urls else None)

    def remove(self, member_id: str) -> None:
        """Take the member out of the cluster; one that is already gone is no error."""
        output = self._run(["member", "remove", member_id], check=False)
        if output.rc != 0 and "member not found" not in output.stderr:
            raise self._failure(["member", "remove", member_id], output)

    def ask(self, *arguments: str, endpoints: t.Optional[t.Sequence[str]] = None, check: bool = True) -> t.Any:
        """The JSON of a call; None where it gives none. With ``check`` a call that fails is a SlipwayError."""
        output = self._run(arguments, endpoints=endpoints, check=check)
        try:
            return json.loads(output.stdout)
        except ValueError:
            return None

    def answers(self) -> tuple[list[dict[str, t.Any]], list[dict[str, t.Any]]]:
        """What every member says of its health, and its status, as etcdctl's JSON.

        If nobody answers, the first is one entry with the error.
        """
        said = [self._run(["endpoint", verb, "--cluster"], check=False) for verb in ("health", "status")]
        try:
            health, status = (json.loads(output.stdout) for output in said)
        except ValueError:
            return [{"endpoint": ",".join(self.endpoints), "error": said[0].stderr.strip()[-300:]}], []
        return health, status

    def missing(self) -> list[str]:
        """Which of the files that asking takes are not on this host."""
        paths = (self.program, self.ca, self.certificate, self.key)
        return [path for path in paths if not self.machine.exists(path)]

    def _require_files(self) -> None:
        missing = self.missing()
        if missing:
            raise SlipwayError(
                Problem("etcdctl", f"{', '.join(missing)}: not on this host", "etcdctl and a client certificate")
            )

    def _run(
        self, arguments: t.Sequence[str], *, endpoints: t.Optional[t.Sequence[str]] = None, check: bool = True
    ) -> Output:
        asked = list(endpoints or self.endpoints)
        tls = [f"--cacert={self.ca}", f"--cert={self.certificate}", f"--key={self.key}"]
        seconds = _ANSWER_SECONDS if arguments[0] == "endpoint" else _AGREEMENT_SECONDS
        limits = [f"--command-timeout={seconds}s", "--dial-timeout=2s", "--write-out=json"]
        argv = [self.program, f"--endpoints={','.join(asked)}", *tls, *limits, *arguments]
        output = self.machine.run(argv, check=False, timeout=(seconds + 2) * (len(asked) + 1))
        if check and output.rc != 0:
            raise self._failure(arguments, output)
        return output

    def _failure(self, arguments: t.Sequence[str], output: Output) -> SlipwayError:
        said = "\n".join((output.stderr or output.stdout).strip().splitlines()[-1:])[-400:]
        where = f"etcdctl {' '.join(arguments)}"
        return SlipwayError(
            Problem(
                where,
                f"asked {', '.join(self.endpoints)}: ended with {output.rc}: {said}",
                remedy="on etcd's hosts see: systemctl status etcd, journalctl -u etcd",
            )
        )
