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

ARGUMENTS: dict[str, t.Any] = {
    "etcdctl": {"type": "path", "default": "/opt/slipway/etcd/current/etcdctl"},
    "etcd_endpoints": {"type": "list", "elements": "str", "default": []},
    "etcd_ca": {"type": "path", "default": "/etc/kubernetes/pki/etcd/ca.crt"},
    "etcd_certificate": {"type": "path", "default": "/etc/kubernetes/pki/etcd/root-client.crt"},
    "etcd_key": {"type": "path", "default": "/etc/kubernetes/pki/etcd/root-client.key", "no_log": False},
}
# A member that is down costs this many seconds whenever all are asked.
_ANSWER_SECONDS = 3


@dataclasses.dataclass(frozen=True)
class Etcdctl:
    """etcdctl with some endpoints, any of which may be down; the paths are on this host."""

    machine: Machine
    program: str
    endpoints: tuple[str, ...]
    ca: str
    certificate: str
    key: str

    @classmethod
    def from_params(cls, machine: Machine, params: t.Mapping[str, t.Any]) -> Etcdctl:
        """From the options in ``ARGUMENTS``."""
        return cls(
            machine,
            params["etcdctl"],
            tuple(params["etcd_endpoints"]),
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
        data = json.loads(listing.stdout)
        urls = [url for item in data.get("members") or () for url in item.get("clientURLs") or ()]
        # With a member down etcdctl ends with 1 and prints what the others said.
        status = self._run(["endpoint", "status"], endpoints=urls, check=False).stdout if urls else ""
        return parse_members(data, json.loads(status) if status.strip() else None)

    def remove(self, member: Member) -> None:
        """Take the member out of the cluster; one that is already gone is no error."""
        output = self._run(["member", "remove", member.id], check=False)
        if output.rc != 0 and "member not found" not in output.stderr:
            raise self._failure(["member", "remove", member.id], output)

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
        limits = [f"--command-timeout={_ANSWER_SECONDS}s", "--dial-timeout=2s", "--write-out=json"]
        argv = [self.program, f"--endpoints={','.join(asked)}", *tls, *limits, *arguments]
        output = self.machine.run(argv, check=False, timeout=(_ANSWER_SECONDS + 2) * (len(asked) + 1))
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
