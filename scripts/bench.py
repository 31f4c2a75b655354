# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures from bare hosts to a cluster of use: Slipway, and kubeadm with the same programs, taking turns.

Both start with bare hosts and the bundle at hand, and end when all Nodes are Ready and DNS answers on every host, with
nothing else in the cluster. Of Slipway also a second apply, a plan and a verify (its quick set), and what ingress, and
metrics with it, add: seconds by phase, results per host and the controller's CPU. Prints tables and writes JSON beside
them; the labs are taken down again. Run it as ``make bench`` or ``python -m scripts.bench --help``.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import pathlib
import platform
import resource
import statistics
import sys
import time
import typing as t

from scripts import bench_kubeadm
from scripts.bench_kubeadm import Clock
from slipway import lab as labs
from slipway.lab import Lab, LabSpec
from slipway.lab.files import lab_vars
from slipway.report import RunLog, problem_lines, table
from slipway.run import Run, run_playbook
from slipway.verbs import Console

ROOT = pathlib.Path(__file__).resolve().parent.parent
OURS, PEER, WEB, MORE = "slipway", "kubeadm", "ingress", "add-ons"
PLAIN = {"slipway_metrics": {"enabled": False}}
WITH_INGRESS = {**PLAIN, "slipway_ingress": {"enabled": True}}
WITH_ADDONS = {"slipway_metrics": {"enabled": True}, "slipway_ingress": {"enabled": True}}
OUR_KUBECTL = ("/opt/slipway/kubectl/current/kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
USE = pathlib.Path(__file__).with_name("bench_look.py").read_text(encoding="utf-8")
WAIT_SECONDS = 300
SHAPES = ("1+2", "3+3")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One run. ``seconds`` is by the clock, ``phases`` are parts of it; results and changes by host, ours alone.

    ``load`` is the machine's load average of a minute before it began.
    """

    side: str
    name: str
    shape: str
    code: int
    seconds: float
    controller_cpu_seconds: float
    load: float
    phases: dict[str, float]
    results: dict[str, int]
    changed: dict[str, int]

    @property
    def title(self) -> str:
        """The head of its column."""
        return f"{self.side} {self.name}"


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class Stopwatch:
    """Clock, CPU time and load, from when it is made."""

    def __init__(self) -> None:
        self._wall, self._cpu, self._load = time.monotonic(), cpu_seconds(), os.getloadavg()[0]

    def stop(self, side: str, name: str, shape: str, code: int, phases: t.Mapping[str, float]) -> Measurement:
        """What it measured, without results."""
        return Measurement(
            side=side,
            name=name,
            shape=shape,
            code=code,
            seconds=round(time.monotonic() - self._wall, 1),
            controller_cpu_seconds=round(cpu_seconds() - self._cpu, 1),
            load=round(self._load, 1),
            phases={phase: round(seconds, 1) for phase, seconds in phases.items()},
            results={},
            changed={},
        )


def of_use(lab: Lab, kubectl: t.Sequence[str], clock: Clock) -> None:
    """Wait until every Node is Ready and DNS answers on every host; RuntimeError with what lacks after some minutes."""
    hosts = [host.name for host in lab.hosts]
    with clock.phase("all Nodes Ready"):
        address = _look(lab, bench_kubeadm.control_plane(lab)[0], "nodes", str(len(hosts)), *kubectl)
    with clock.phase("DNS answers on every host"):
        bench_kubeadm.everywhere(hosts, lambda host: _look(lab, host, "dns", address))


def _look(lab: Lab, host: str, *words: str) -> str:
    argv = ["python3", "-", str(WAIT_SECONDS), *words]
    done = labs.ssh(lab, host, argv, stdin=USE, timeout=WAIT_SECONDS + 60)
    if done.returncode != 0:
        raise RuntimeError(f"{host}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def play(playbook: str, lab: Lab) -> tuple[int, RunLog]:
    """Run a playbook of the collection; problems are said on stderr."""
    console = Console(out=io.StringIO())
    run = Run(playbook=f"slipway.cluster.{playbook}", inventories=(str(lab.inventory),))
    outcome = run_playbook(run, console.handle)
    print("\n".join(problem_lines(console.log.problems)), file=sys.stderr, end="")
    return outcome.code, console.log


def measure_ours(lab: Lab, shape: str, side: str, playbook: str, name: str) -> Measurement:
    """One run of ours; an apply's ends when the cluster is of use."""
    watch = Stopwatch()
    code, log = play(playbook, lab)
    clock = Clock()
    clock.phases = {phase.name: phase.seconds for phase in log.phases if phase.results}
    if code == 0 and name == "first apply":
        of_use(lab, OUR_KUBECTL, clock)
    found = watch.stop(side, name, shape, code, clock.phases)
    return dataclasses.replace(
        found,
        results={host: tally.results for host, tally in sorted(log.hosts.items())},
        changed={host: tally.changed for host, tally in sorted(log.hosts.items())},
    )


def run_ours(lab: Lab, shape: str, side: str) -> list[Measurement]:
    """First apply, second apply, plan, verify."""
    runs = (("apply", "first apply"), ("apply", "second apply"), ("plan", "plan"), ("verify", "verify"))
    return [measure_ours(lab, shape, side, playbook, name) for playbook, name in runs]


def run_peer(lab: Lab, shape: str, side: str) -> list[Measurement]:
    """kubeadm, until the cluster is of use."""
    ready = bench_kubeadm.at_hand(lab, pathlib.Path(lab_vars(lab)["slipway_bundle"]), ROOT / ".cache" / "bench")
    watch, clock, code = Stopwatch(), Clock(), 0
    try:
        bench_kubeadm.bring_up(lab, ready, clock)
        of_use(lab, bench_kubeadm.KUBECTL, clock)
    except RuntimeError as error:
        print(error, file=sys.stderr)
        code = 1
    return [watch.stop(side, "first run", shape, code, clock.phases)]


@dataclasses.dataclass(frozen=True)
class Side:
    """What is done in a lab whose inventory has these variables besides its own."""

    run: t.Callable[[Lab, str, str], list[Measurement]]
    variables: t.Mapping[str, t.Any]


SIDES: t.Mapping[str, Side] = {
    OURS: Side(run_ours, PLAIN),
    PEER: Side(run_peer, {}),
    WEB: Side(run_ours, WITH_INGRESS),
    MORE: Side(run_ours, WITH_ADDONS),
}


def machine() -> dict[str, t.Any]:
    """The facts of this machine that the numbers depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpus": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def results(one: Measurement, host: str) -> str:
    """Results and changes of a host, if Ansible counted them."""
    return f"{one.results[host]} ({one.changed[host]})" if host in one.results else ""


def columns(found: t.Sequence[Measurement]) -> list[str]:
    """The measurements of one shape as a table, a column each."""
    names = list(dict.fromkeys(phase for one in found for phase in one.phases))
    hosts = list(dict.fromkeys(host for one in found for host in one.results))
    rows = [["", *(one.title for one in found)]]
    rows.append(["seconds", *(f"{one.seconds:.1f}" if one.code == 0 else "failed" for one in found)])
    rows += [
        [f"  {name}", *(f"{one.phases[name]:.1f}" if name in one.phases else "" for one in found)] for name in names
    ]
    rows.append(["controller CPU seconds", *(f"{one.controller_cpu_seconds:.1f}" for one in found)])
    rows.append(["load before", *(f"{one.load:.1f}" for one in found)])
    rows += [[f"results (changed) of {host}", *(results(one, host) for one in found)] for host in hosts]
    return table(rows)


def comparisons(found: t.Sequence[Measurement]) -> list[str]:
    """Medians from bare hosts to a cluster of use, and what ours and each of the others make of each other."""
    seconds = {
        side: [one.seconds for one in found if one.side == side and one.name.startswith("first") and one.code == 0]
        for side in SIDES
    }
    medians = {side: statistics.median(values) for side, values in seconds.items() if values}
    if OURS not in medians:
        return []
    ours = medians.pop(OURS)
    return [
        f"{OURS} {ours:.1f} s, {side} {other:.1f} s (median of {len(seconds[OURS])}): "
        f"ratio {ours / other:.2f}, difference {other - ours:+.1f} s"
        for side, other in medians.items()
    ]


def measure_shape(shape: str, sides: t.Sequence[str], rounds: int, *, keep: bool) -> list[Measurement]:
    """All rounds of one shape (control planes + workers); who begins changes each round."""
    leads, workers = (int(number) for number in shape.split("+"))
    found = []
    for number in range(rounds):
        for side in sides if number % 2 == 0 else tuple(reversed(sides)):
            spec = LabSpec(name=f"bench-{leads}-{workers}", control_plane=leads, workers=workers)
            last = keep and number == rounds - 1 and side == sides[-1]
            try:
                lab = labs.up(spec, root=ROOT, extra_vars=SIDES[side].variables)
                found += SIDES[side].run(lab, shape, side)
            finally:
                if not last:
                    labs.down(spec.name, root=ROOT)
            print(f"{found[-1].title} on {shape} hosts: round {number + 1} done", file=sys.stderr)
    return found


def main(words: t.Sequence[str] | None = None) -> int:
    """Measure; exit code 1 if one of the runs failed. ``words`` are those of the command line unless given."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = " and ".join(SHAPES)
    parser.add_argument("--shape", action="append", help=f"control planes + workers, repeatable (default: {default})")
    parser.add_argument("--side", action="append", choices=tuple(SIDES), help="repeatable (default: all)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each side is run (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the last lab running")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / ".cache/bench.json", help="default: %(default)s")
    args = parser.parse_args(words)
    sides = tuple(args.side or SIDES)
    facts, found = machine(), []
    for shape in args.shape or SHAPES:
        found += measure_shape(shape, sides, args.rounds, keep=args.keep)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    data = {"machine": facts, "runs": [dataclasses.asdict(one) for one in found]}
    args.output.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    for shape in dict.fromkeys(one.shape for one in found):
        of_shape = [one for one in found if one.shape == shape]
        print("\n".join(["", f"{shape} hosts", *columns(of_shape), *comparisons(of_shape)]))
    print(f"\nJSON: {args.output}")
    return 0 if all(one.code == 0 for one in found) else 1


if __name__ == "__main__":
    sys.exit(main())
