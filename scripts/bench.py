# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures a first apply, a second one and a plan on a lab of its own: seconds by phase, results, the controller's CPU.

Prints a table and writes JSON beside it; the lab is taken down again unless told to keep it.
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
import subprocess
import sys
import time
import typing as t

from slipway.report import RunLog, problem_lines, table
from slipway.run import Run, run_playbook
from slipway.verbs import Console

ROOT = pathlib.Path(__file__).resolve().parent.parent
SLIPWAY = [sys.executable, "-m", "slipway.cli"]
RUNS = (("first apply", "apply"), ("second apply", "apply"), ("plan", "plan"))


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One run: wall-clock and CPU seconds of the controller, seconds per phase, results and changes per host."""

    name: str
    code: int
    seconds: float
    controller_cpu_seconds: float
    phases: dict[str, float]
    results: dict[str, int]
    changed: dict[str, int]


def cpu_seconds() -> float:
    """User and system time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measured(name: str, code: int, spent: tuple[float, float], log: RunLog) -> Measurement:
    """A run's numbers; ``spent`` is wall-clock and CPU seconds."""
    return Measurement(
        name=name,
        code=code,
        seconds=round(spent[0], 1),
        controller_cpu_seconds=round(spent[1], 1),
        phases={phase.name: round(phase.seconds, 1) for phase in log.phases if phase.results},
        results={host: tally.results for host, tally in sorted(log.hosts.items())},
        changed={host: tally.changed for host, tally in sorted(log.hosts.items())},
    )


def measure(name: str, playbook: str, inventory: pathlib.Path) -> Measurement:
    """Run a playbook of the collection and measure it; problems are said on stderr."""
    console = Console(out=io.StringIO())
    wall, cpu = time.monotonic(), cpu_seconds()
    outcome = run_playbook(Run(playbook=f"slipway.cluster.{playbook}", inventories=(str(inventory),)), console.handle)
    spent = (time.monotonic() - wall, cpu_seconds() - cpu)
    print("\n".join(problem_lines(console.log.problems)), file=sys.stderr, end="")
    return measured(name, outcome.code, spent, console.log)


def machine() -> dict[str, t.Any]:
    """The facts of this machine that the numbers depend on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpus": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def lines(facts: t.Mapping[str, t.Any], measurements: t.Sequence[Measurement]) -> list[str]:
    """Facts and measurements as tables."""
    names = list(dict.fromkeys(phase for one in measurements for phase in one.phases))
    hosts = list(dict.fromkeys(host for one in measurements for host in one.results))
    rows = [["", *(one.name for one in measurements)]]
    rows.append(["seconds", *(f"{one.seconds:.1f}" for one in measurements)])
    rows.append(["controller CPU seconds", *(f"{one.controller_cpu_seconds:.1f}" for one in measurements)])
    rows += [
        [f"  {name}", *(f"{one.phases[name]:.1f}" if name in one.phases else "" for one in measurements)]
        for name in names
    ]
    rows += [
        [
            f"results (changed) of {host}",
            *(f"{one.results.get(host, 0)} ({one.changed.get(host, 0)})" for one in measurements),
        ]
        for host in hosts
    ]
    return [", ".join(f"{name} {value}" for name, value in facts.items()), "", *table(rows)]


def main() -> int:
    """Measure; exit code 1 if one of the runs failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lab", default="bench", help="the lab's name (default: %(default)s)")
    parser.add_argument("--workers", default="2", help="hosts besides one control-plane host (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / ".cache/bench.json", help="default: %(default)s")
    args = parser.parse_args()
    facts = machine()
    subprocess.run([*SLIPWAY, "lab", "up", "--name", args.lab, "--workers", args.workers], check=True, cwd=ROOT)
    try:
        inventory = ROOT / ".lab" / args.lab / "inventory.yml"
        measurements = [measure(name, playbook, inventory) for name, playbook in RUNS]
    finally:
        if not args.keep:
            subprocess.run([*SLIPWAY, "lab", "down", "--name", args.lab], check=True, cwd=ROOT)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    data = {"machine": facts, "runs": [dataclasses.asdict(one) for one in measurements]}
    args.output.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    print("\n".join([*lines(facts, measurements), "", f"JSON: {args.output}"]))
    return 0 if all(one.code == 0 for one in measurements) else 1


if __name__ == "__main__":
    sys.exit(main())
