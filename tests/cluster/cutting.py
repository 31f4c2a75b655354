# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ways to interrupt a run, on a host before or after one change and on the controller, and what must outlast it."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import typing as t
from pathlib import Path

from slipway.lab import Lab
from tests.cluster import support

FAULT = "/run/slipway/fault"
LOCK = "/run/slipway/lock"
HOLD = "/run/slipway/hold"
# One line per key, CA certificate and encryption configuration: its sha256 and path. A key that has a certificate
# beside its place counts once both are there: until then nobody could have used it.
MADE = r"""
cd /
for key in $(find etc/kubernetes etc/etcd -name '*.key' 2>/dev/null); do
    public=${key%.key}.crt
    [ "${key##*/}" = sa.key ] && public=${key%.key}.pub
    [ -e "$public" ] || continue
    sha256sum "$key"
done
for file in etc/kubernetes/pki/*ca.crt etc/kubernetes/pki/etcd/ca.crt etc/kubernetes/pki/encryption.yaml; do
    [ ! -e "$file" ] || sha256sum "$file"
done
"""


@dataclasses.dataclass(frozen=True)
class Cut:
    """Where a module is killed: on which host, which module (its short name), at which change, before or after it."""

    host: str
    module: str
    change: str
    when: str

    def __str__(self) -> str:
        return f"{self.host} {self.module} {self.when} {self.change}"


def arm(lab: Lab, cuts: t.Iterable[Cut]) -> None:
    """Tell the engines where to die: at the first of these points that one meets, and in the next run at the next."""
    faults: dict[str, list[dict[str, str]]] = {}
    for cut in cuts:
        fault = {"module": cut.module, "change": cut.change, "when": cut.when}
        faults.setdefault(cut.host, []).append(fault)
    for host, listed in faults.items():
        support.shell(lab, host, "install -d -m 0700 /run/slipway")
        support.on(lab, host, "tee", FAULT, stdin=json.dumps(listed))


def points(run: support.Run) -> list[Cut]:
    """Every point at which a run can be cut, from what each module of the same run in check mode announced.

    The engine makes one change right after the other, so a module of N changes can be cut at N + 1 points: before the
    first, between each two (which is after the one and before the next), and after the last. What a run announces
    twice, as where it first asks whether a change will be allowed, is one point.
    """
    found = []
    for event in run.events:
        actions = support.actions_of([event])
        found += [Cut(action.host, action.module, action.text, "before") for action in actions]
        found += [Cut(action.host, action.module, action.text, "after") for action in actions[-1:]]
    return list(dict.fromkeys(found))


def part_of(every: list[Cut], part: str) -> list[Cut]:
    """Every Nth point from the Kth on, host by host, for a part named ``K/N``."""
    first, step = (int(number) for number in part.split("/"))
    hosts = dict.fromkeys(cut.host for cut in every)
    return [cut for host in hosts for cut in [each for each in every if each.host == host][first - 1 :: step]]


def still_armed(lab: Lab) -> list[Cut]:
    """The points that no run has met yet."""
    return [cut for host in support.names(lab) for cut in armed(lab, host)]


def until_whole(
    lab: Lab, run: t.Callable[[], support.Run], look: t.Callable[[], None], most: int = 0
) -> tuple[list[Cut], bool]:
    """Repeat a run, which dies at the next armed points each time, until it comes to its end or ``most`` were cut.

    ``look`` is called after each. Returns the points that were not met, and whether it came to its end. AssertionError
    if a run fails by itself.
    """
    waiting, cuts = still_armed(lab), 0
    while True:
        done = run()
        left = still_armed(lab)
        met = [cut for cut in waiting if cut not in left]
        print(f"{done.seconds:5.1f} s, {len(left)} left: {', '.join(map(str, met))}", flush=True)
        look()
        if done.code == 0:
            return left, True
        assert met, f"failed by itself\n{done.problem_text()}\n{done.output()[-4000:]}"
        waiting, cuts = left, cuts + 1
        if cuts == most:
            return left, False


def disarm(lab: Lab) -> None:
    """No run dies any more."""
    support.everywhere(lab, lambda host: support.on(lab, host, "rm", "-f", FAULT))


def armed(lab: Lab, host: str) -> list[Cut]:
    """The points on this host that no run has met yet; the engine takes each away as it dies there."""
    listed = support.ask(lab, host, "cat", FAULT).stdout
    return [Cut(host, fault["module"], fault["change"], fault["when"]) for fault in json.loads(listed or "[]")]


class Keys:
    """Every key and CA as it was when it was first seen: none may ever be another.

    ``memory`` is a file that keeps what was seen for a later test.
    """

    def __init__(self, lab: Lab, memory: Path | None = None) -> None:
        self._lab = lab
        self._memory = memory
        self.seen: dict[str, dict[str, str]] = {}
        if memory and memory.exists():
            self.seen = json.loads(memory.read_text(encoding="utf-8"))

    def look(self) -> None:
        """Note what is new; AssertionError with everything that was made twice."""
        now = support.everywhere(self._lab, self._made)
        changed = [
            f"{host}: {path}"
            for host, files in self.seen.items()
            for path, digest in files.items()
            if now[host].get(path) != digest
        ]
        assert changed == [], f"made twice or lost: {changed}"
        self.seen = now
        if self._memory:
            self._memory.write_text(json.dumps(now), encoding="utf-8")

    def _made(self, host: str) -> dict[str, str]:
        lines = support.shell(self._lab, host, MADE).splitlines()
        return {path: digest for digest, path in (line.split() for line in lines)}


def converge(lab: Lab, keys: Keys) -> None:
    """Run apply to its end: nothing is left to do then, the cluster works, and no key or CA is another one."""
    support.ansible_run(lab.inventory, "apply").require()
    keys.look()
    support.slipway("plan", "-i", str(lab.inventory)).require()
    support.slipway("verify", "-i", str(lab.inventory)).require()
    again = support.ansible_run(lab.inventory, "apply").require()
    assert {host: stats.changed for host, stats in again.stats.items()} == dict.fromkeys(support.names(lab), 0)
    keys.look()
    assert {"etc/kubernetes/pki/ca.key", "etc/kubernetes/pki/ca.crt"} <= set(keys.seen["cp1"])


# --- the controller ---------------------------------------------------------------------------------------------------
@contextlib.contextmanager
def running(
    lab: Lab, log: Path, playbook: str = "apply", extra_vars: t.Mapping[str, t.Any] | None = None
) -> collections.abc.Iterator[subprocess.Popen[bytes]]:
    """An ansible-playbook of its own; killed at the end if it still runs."""
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    argv = [program, "-i", str(lab.inventory), "--forks", "50", f"slipway.cluster.{playbook}"]
    argv += ["-e", json.dumps(extra_vars or {})]
    surroundings = {**os.environ, "PATH": f"{Path(program).parent}:{os.environ['PATH']}", "ANSIBLE_NOCOLOR": "1"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            cwd=support.ROOT,
            env=surroundings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            kill_tree(process)


def held(lab: Lab, host: str) -> dict[str, t.Any]:
    """The run that holds the host, or held it last, by its own word; empty without one."""
    text = support.ask(lab, host, "cat", HOLD).stdout
    return dict(json.loads(text)) if text.strip() else {}


def kill_tree(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the process and everything it started; Ansible's workers have sessions of their own."""
    for pid in (process.pid, *descendants(process.pid)):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait(timeout=120)


def descendants(pid: int) -> list[int]:
    """The process's children, and theirs."""
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in listing.read_text(encoding="ascii").split():
                found += [int(child), *descendants(int(child))]
    return found


def holder(lab: Lab, host: str) -> dict[str, t.Any]:
    """Who holds the host's lock, by its own word; empty when nobody does."""
    text = support.ask(lab, host, "cat", LOCK).stdout
    return dict(json.loads(text)) if text.strip() else {}


def waits_for(lab: Lab, host: str, script: str, *, timeout: float = 400) -> None:
    """Return at the moment a script of sh says yes on the host, which is asked many times a second."""
    loop = f"until {{ {script}; }} >/dev/null 2>&1; do sleep 0.05; done"
    done = support.ask(lab, host, "timeout", f"{timeout:g}", "sh", "-c", loop, timeout=timeout + 10)
    assert done.returncode == 0, f"{host}: not within {timeout:g} s: {script}"


def in_module(name: str, signal_: str = "0") -> str:
    """For ``waits_for``: the named module holds the lock, and gets a signal at once; by default none.

    One that was killed leaves its name there, and gets nothing.
    """
    pid = rf"""$(sed -n 's/.*"pid": \([0-9]*\).*/\1/p' {LOCK})"""
    return f"""grep -Eq '"module": "({name})"' {LOCK} && kill -{signal_} {pid}"""
