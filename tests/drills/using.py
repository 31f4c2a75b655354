# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client of the API on a host, by way of that host's own loopback proxy, while something happens to the cluster."""

from __future__ import annotations

import collections.abc
import contextlib
import json
import subprocess
import typing as t
from pathlib import Path

from slipway.lab import Lab
from slipway.lab.control import ssh_command
from tests.cluster import support

CLIENT, WRITER = "client.py", "writer.py"
PLACE = "/run/slipway-client"
PROXY = "https://127.0.0.1:6444"
# etcd gives a request that was under way 7 s (docs/high-availability.md); more than this is no election but an outage.
LONGEST_WAIT = 20.0


def install(lab: Lab, host: str, giver: str) -> None:
    """Put client and writer on a host, with the emergency certificate of a control-plane host."""
    support.shell(lab, host, f"mkdir -p -m 0700 {PLACE}")
    for name in ("client.crt", "client.key"):
        content = support.on(lab, giver, "cat", f"/etc/kubernetes/admin/{name}")
        support.on(lab, host, "tee", f"{PLACE}/{name}", stdin=content)
    support.shell(lab, host, f"cp /etc/kubernetes/pki/ca.crt {PLACE}/ca.crt")
    support.shell(lab, host, f"mkdir -p {PLACE}/tests/drills")
    for name in (CLIENT, WRITER):
        program = Path(__file__).with_name(name).read_text(encoding="utf-8")
        support.on(lab, host, "tee", f"{PLACE}/tests/drills/{name}", stdin=program)


def running(program: str, *arguments: str) -> list[str]:
    """The argv list by which one of them runs on its host."""
    return ["env", "-C", PLACE, "python3", "-m", f"tests.drills.{program.removesuffix('.py')}", *arguments]


@contextlib.contextmanager
def client(lab: Lab, host: str, told: dict[str, t.Any]) -> collections.abc.Iterator[None]:
    """Use the API as long as this is open; then ``told`` has the numbers that client.py prints."""
    support.shell(lab, host, f"rm -f {PLACE}/end")
    call = [*ssh_command(lab, host), "--", *running(CLIENT, PLACE, PROXY, f"{PLACE}/end")]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield
        finally:
            support.shell(lab, host, f"touch {PLACE}/end")
        out, _err = process.communicate(timeout=120)
    told.update(json.loads(out))


def require_served(told: t.Mapping[str, t.Any]) -> None:
    """No write that was acknowledged is lost, and reads, writes and watch never waited long: AssertionError if not."""
    assert told["lost"] == 0, told
    assert told["acknowledged"] > 0, told
    for kind in ("reads", "writes", "watch"):
        assert told[kind]["answers"] > 0, told
        assert told[kind]["longest"] <= LONGEST_WAIT, told
