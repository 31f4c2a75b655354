# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures requests per second and latency through Traefik, beside the same backend by NodePort.

A lab of one control-plane host and one worker, two pods of one program, and wrk on this machine, which is outside the
cluster and shares its processors with the hosts: the ways are to be compared with each other, not with other machines.
They take turns. Run it as ``make bench-http`` or ``python -m scripts.bench_http --help``.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import time
import typing as t

from slipway import lab as labs
from slipway.lab import Lab, LabSpec
from slipway.lab.files import lab_vars
from slipway.report import problem_lines, table
from slipway.run import Run, run_playbook
from slipway.verbs import Console

ROOT = pathlib.Path(__file__).resolve().parent.parent
KUBECTL = ("/opt/slipway/kubectl/current/kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
NAME, HOST, PORT = "bench-http", "bench.test", 30080
WAIT_SECONDS = 180
_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}
_LATENCY = re.compile(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m)$", re.MULTILINE)
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)
_BAD = re.compile(r"^\s*Non-2xx or 3xx responses: (\d+)$", re.MULTILINE)
_ERRORS = re.compile(r"^\s*Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One run of wrk on one way in. Latencies are in milliseconds; ``failed`` counts answers other than 2xx, 3xx."""

    way: str
    per_second: float
    p50: float
    p99: float
    failed: int
    load: float


def parse(way: str, text: str, load: float) -> Measurement:
    """What wrk printed with --latency; ValueError if that is not it."""
    latencies = {percent: round(float(number) * _UNITS[unit], 3) for percent, number, unit in _LATENCY.findall(text)}
    rate = _RATE.search(text)
    if rate is None or set(latencies) != {"50", "99"}:
        raise ValueError(f"wrk said: {text}")
    counts = [*_BAD.findall(text), *(number for found in _ERRORS.findall(text) for number in found)]
    failed = sum(int(number) for number in counts)
    return Measurement(way, float(rate[1]), latencies["50"], latencies["99"], failed, round(load, 1))


def ways(address: str) -> dict[str, str]:
    """The URL of each way in."""
    return {
        "NodePort": f"http://{address}:{PORT}/hostname",
        "Traefik, HTTP": f"http://{address}/hostname",
        "Traefik, HTTPS": f"https://{address}/hostname",
    }


def objects(image: str) -> list[dict[str, t.Any]]:
    """Two pods of one program, a NodePort of it, and an Ingress."""
    meta, labels = {"name": NAME}, {"app": NAME}
    container = {
        "name": "web",
        "image": image,
        "args": ["netexec", "--http-port=8080"],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    deployment = {"replicas": 2, "selector": {"matchLabels": labels}, "template": template}
    port = {"port": 80, "targetPort": 8080, "nodePort": PORT}
    path = {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": NAME, "port": {"number": 80}}}}
    return [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": deployment},
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"type": "NodePort", "selector": labels, "ports": [port]},
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": meta,
            "spec": {"rules": [{"host": HOST, "http": {"paths": [path]}}]},
        },
    ]


def put_up(lab: Lab) -> None:
    """The cluster with Traefik, and the backend; RuntimeError with what went wrong."""
    console = Console(out=io.StringIO())
    variables = json.dumps({"slipway_ingress": {"enabled": True}})
    run = Run(playbook="slipway.cluster.apply", inventories=(str(lab.inventory),), extra_vars=(variables,))
    if run_playbook(run, console.handle).code != 0:
        raise RuntimeError("\n".join(problem_lines(console.log.problems)))
    bundle = pathlib.Path(lab_vars(lab)["slipway_bundle"]) / "bundle.json"
    entries = json.loads(bundle.read_text(encoding="utf-8"))["artifacts"]
    image = next(entry["reference"] for entry in entries if entry["name"] == "agnhost")
    listing = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects(image)})
    on_leader(lab, *KUBECTL, "apply", "--filename=-", stdin=listing)
    on_leader(lab, *KUBECTL, "rollout", "status", f"deployment/{NAME}", f"--timeout={WAIT_SECONDS}s")


def on_leader(lab: Lab, *argv: str, stdin: str | None = None) -> None:
    """Run a command on the control-plane host; RuntimeError if it fails."""
    done = labs.ssh(lab, "cp1", list(argv), stdin=stdin, timeout=WAIT_SECONDS + 30)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(argv)}: {done.stdout}{done.stderr}")


def measure(way: str, url: str, seconds: int, connections: int) -> Measurement:
    """One run of wrk."""
    load = os.getloadavg()[0]
    argv = ["wrk", "--latency", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Host: {HOST}", url]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 60, check=True)
    return parse(way, done.stdout, load)


def measure_all(lab: Lab, rounds: int, seconds: int, connections: int) -> list[Measurement]:
    """Every way in, in turns; a second of each before that is not counted."""
    address = next(host.address for host in lab.hosts if host.name == "w1")
    time.sleep(5)
    found = []
    for way, url in ways(address).items():
        measure(way, url, 1, connections)
    for number in range(rounds):
        order = list(ways(address).items())
        for way, url in order if number % 2 == 0 else reversed(order):
            found.append(measure(way, url, seconds, connections))
            print(f"round {number + 1}, {way}: {found[-1].per_second:.0f}/s", file=sys.stderr)
    return found


def rows(found: t.Sequence[Measurement]) -> list[str]:
    """Medians of each way as a table."""
    lines = [["way", "requests/s", "p50 ms", "p99 ms", "failed", "of the first"]]
    first = 0.0
    for way in dict.fromkeys(one.way for one in found):
        mine = [one for one in found if one.way == way]
        rate = statistics.median(one.per_second for one in mine)
        first = first or rate
        p50, p99 = (statistics.median(getattr(one, name) for one in mine) for name in ("p50", "p99"))
        failed = sum(one.failed for one in mine)
        lines.append([way, f"{rate:.0f}", f"{p50:.1f}", f"{p99:.1f}", str(failed), f"{rate / first:.2f}"])
    return table(lines)


def main() -> int:
    """Measure; exit code 1 if a request failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how often each way is measured (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=10, help="how long each time (default: %(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="at the same time (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the lab running")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / ".cache/bench-http.json", help="the JSON file")
    args = parser.parse_args()
    if not shutil.which("wrk"):
        print("there is no wrk: apt-get install wrk", file=sys.stderr)
        return 2
    try:
        lab = labs.up(LabSpec(name=NAME, workers=1, isolated=True), root=ROOT)
        put_up(lab)
        found = measure_all(lab, args.rounds, args.seconds, args.connections)
    finally:
        if not args.keep:
            labs.down(NAME, root=ROOT)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps([dataclasses.asdict(one) for one in found], indent=2) + "\n", encoding="utf-8")
    print("\n".join([*rows(found), "", f"{args.connections} connections; JSON: {args.output}"]))
    return 1 if any(one.failed for one in found) else 0


if __name__ == "__main__":
    sys.exit(main())
