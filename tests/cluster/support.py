# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests on real hosts stand on: labs that are always taken down, runs with their numbers, and looks at hosts."""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import json
import os
import re
import secrets
import subprocess
import sys
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.drain import CORDONED_BY
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem
from slipway import lab as labs
from slipway.lab import Lab, LabSpec, SshResult
from slipway.report import RunLog
from slipway.run import Run as PlaybookRun
from slipway.run import run_playbook

ROOT = Path(__file__).resolve().parents[2]
KUBERNETES = "1.37"
BUNDLE = ROOT / ".bundle" / KUBERNETES
LOOK = Path(__file__).with_name("look.py")
# The cache is elsewhere: what tests do must leave nothing in root's home, where they look for what Slipway leaves.
KUBECTL = (
    "/opt/slipway/kubectl/current/kubectl",
    "--kubeconfig=/etc/kubernetes/admin.conf",
    "--cache-dir=/tmp/kubectl-of-tests",
)
RESULTS = ("runner_on_ok", "runner_on_failed", "runner_on_unreachable", "runner_on_skipped")
# What an unfinished maintenance remembers.
MAINTENANCE = ("configmap", "slipway-maintenance", "-n", "kube-system", "--ignore-not-found")
PLANNER = "slipway.cluster.plan"

Event = t.Mapping[str, t.Any]


def need_bundle() -> None:
    """Fail with the command that builds the bundle if it is not there."""
    if not (BUNDLE / "bundle.json").is_file():
        raise AssertionError(
            f"{BUNDLE} is missing: run `make bundle` (or slipway bundle build --kubernetes {KUBERNETES})"
        )


def artifact(name: str) -> dict[str, t.Any]:
    """One entry of the bundle."""
    entries = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))["artifacts"]
    return t.cast("dict[str, t.Any]", next(entry for entry in entries if entry["name"] == name))


# --- what a user declares ---------------------------------------------------------------------------------------------
def address_pool(lab: Lab, last: int = 243) -> dict[str, t.Any]:
    """Addresses of the lab's network for Services, from .240 on; none of its hosts has one of them."""
    network = lab.host("cp1").address.rpartition(".")[0]
    return {"name": "lab", "addresses": [f"{network}.240-{network}.{last}"]}


def web_ingress(namespace: str, host: str) -> str:
    """A way in by name to the port ``http`` of the Service ``web``, as one more document of YAML."""
    return f"""
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web, namespace: {namespace}}}
spec:
  rules:
    - host: {host}
      http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{name: http}}}}}}}}]}}
"""


# --- labs -------------------------------------------------------------------------------------------------------------
def lab_name(purpose: str = "t") -> str:
    """A lab's name that no other session has."""
    return f"{purpose}-{secrets.token_hex(3)}"


@contextlib.contextmanager
def lab_of(
    name: str | None = None,
    *,
    workers: int = 2,
    control_plane: int = 1,
    etcd: int = 0,
    isolated: bool = True,
    os_: str = "debian-13",
    host_os: t.Mapping[str, str] | None = None,
    bare_packages: bool = False,
    docker: int = 0,
    registry: int = 0,
    driver: str = "container",
    extra_vars: t.Mapping[str, t.Any] | None = None,
) -> collections.abc.Iterator[Lab]:
    """Bring up a lab and take it down again whatever happens; SLIPWAY_KEEP_LAB=1 keeps it to look at.

    SLIPWAY_KEEP_LAB=NAME also uses the lab of that name if there is one, for labs that have no ``name`` of their own.
    """
    need_bundle()
    keep = os.environ.get("SLIPWAY_KEEP_LAB", "")
    name = name or (lab_name() if keep in {"", "1"} else keep)
    spec = LabSpec(
        name=name,
        control_plane=control_plane,
        etcd=etcd,
        workers=workers,
        isolated=isolated,
        os=os_,
        host_os=tuple((host_os or {}).items()),
        bare_packages=bare_packages,
        docker=docker,
        registry=registry,
        driver=driver,
    )
    try:
        yield labs.up(spec, root=ROOT, extra_vars=extra_vars)
    finally:
        if keep:
            print(f"kept: lab {name}; .venv/bin/slipway lab down --name {name}", file=sys.stderr)
        else:
            labs.down(name, root=ROOT)


def names(lab: Lab, group: str | None = None) -> list[str]:
    """The inventory names of a lab's hosts, or of those of one group."""
    return [host.name for host in lab.hosts if group in (None, host.group)]


def inventory_of(lab: Lab, hosts: t.Collection[str], path: Path) -> Path:
    """Write an inventory of some of a lab's hosts, and return it."""
    data = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
    for group in data.values():
        if "hosts" in group:
            group["hosts"] = {name: values for name, values in group["hosts"].items() if name in hosts}
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


def inventory_with(lab: Lab, groups: t.Mapping[str, t.Collection[str]], path: Path) -> Path:
    """Write the lab's inventory with further groups of its hosts, and return it."""
    data = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
    data |= {group: {"hosts": {host: {} for host in hosts}} for group, hosts in groups.items()}
    path.write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return path


@contextlib.contextmanager
def power_button(lab: Lab) -> collections.abc.Iterator[None]:
    """A container that reboots is off; somebody switches it on again."""
    over = threading.Event()

    def press() -> None:
        while not over.wait(1):
            off = [each.host.name for each in labs.status(lab) if each.power == "off"]
            if off:
                labs.power(lab, off, "on")

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(120)


# --- hosts ------------------------------------------------------------------------------------------------------------
def ask(lab: Lab, host: str, *command: str, stdin: str | None = None, timeout: float = 120) -> SshResult:
    """Run an argv list on a host and return whatever it answered."""
    return labs.ssh(lab, host, list(command), stdin=stdin, timeout=timeout)


def answers(lab: Lab, host: str) -> None:
    """Wait until a host answers over SSH."""
    wait_for(f"{host} answers", lambda: ask(lab, host, "true").stderr or None, timeout=120)


def on(lab: Lab, host: str, *command: str, stdin: str | None = None, timeout: float = 120) -> str:
    """What an argv list wrote to stdout on a host; an AssertionError with all it said if it failed."""
    done = ask(lab, host, *command, stdin=stdin, timeout=timeout)
    assert done.returncode == 0, f"{host}: {' '.join(command)}: rc {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def shell(lab: Lab, host: str, script: str, timeout: float = 120) -> str:
    """What a script of sh wrote to stdout on a host."""
    return on(lab, host, "sh", "-euc", script, timeout=timeout)


def everywhere[Out](lab: Lab, function: t.Callable[[str], Out], hosts: t.Iterable[str] | None = None) -> dict[str, Out]:
    """The function's answer for every host, asked all at once."""
    chosen = list(hosts) if hosts is not None else names(lab)
    with ThreadPoolExecutor(max_workers=max(1, len(chosen))) as pool:
        return dict(zip(chosen, pool.map(function, chosen), strict=True))


def kubectl(lab: Lab, *arguments: str, stdin: str | None = None, host: str = "cp1", timeout: float = 120) -> str:
    """What kubectl says on a control-plane host with the emergency kubeconfig."""
    return on(lab, host, *KUBECTL, *arguments, stdin=stdin, timeout=timeout)


def objects(lab: Lab, *arguments: str, host: str = "cp1") -> list[dict[str, t.Any]]:
    """The items of ``kubectl get``."""
    found = json.loads(kubectl(lab, "get", *arguments, "-o", "json", host=host))
    return t.cast("list[dict[str, t.Any]]", found.get("items", [found]))


def closed(lab: Lab) -> dict[str, str | None]:
    """The cordoned Nodes, with what our annotation says."""
    return closed_of(objects(lab, "nodes"))


def closed_of(nodes: t.Iterable[t.Mapping[str, t.Any]]) -> dict[str, str | None]:
    """Those of the API's Nodes that are cordoned, with what our annotation says."""
    return {
        node["metadata"]["name"]: node["metadata"].get("annotations", {}).get(CORDONED_BY)
        for node in nodes
        if node["spec"].get("unschedulable")
    }


def etcdctl(lab: Lab, *arguments: str, host: str = "cp1") -> str:
    """What etcdctl says on an etcd host as root."""
    directory = "/etc/kubernetes/pki/etcd"
    files = (
        f"--cacert={directory}/ca.crt",
        f"--cert={directory}/root-client.crt",
        f"--key={directory}/root-client.key",
    )
    return on(lab, host, "etcdctl", "--endpoints=https://127.0.0.1:2379", *files, *arguments)


def members(lab: Lab, host: str = "cp1") -> dict[str, bool]:
    """The name of each etcd member, empty if it never started, and whether it is a learner, as one of them tells."""
    listed = json.loads(etcdctl(lab, "member", "list", "-w=json", host=host))["members"]
    return {str(member.get("name", "")): bool(member.get("isLearner")) for member in listed}


def pending(*options: str) -> list[str]:
    """The hosts on which a plan has something to do."""
    said = slipway("plan", "--json", *options)
    assert said.code in (0, 2), said.out + said.err
    return [host for host, planned in json.loads(said.out)["hosts"].items() if planned]


def wait_for(what: str, look: t.Callable[[], str | None], *, timeout: float, interval: float = 1.0) -> float:
    """Wait until ``look`` has no complaint left; the seconds it took. AssertionError with the last complaint."""
    started = time.monotonic()
    while True:
        complaint = look()
        spent = time.monotonic() - started
        if complaint is None:
            return spent
        assert spent < timeout, f"{what}: still not after {timeout:.0f} s: {complaint}"
        time.sleep(interval)


# --- what a host is ---------------------------------------------------------------------------------------------------
Fingerprint = t.Mapping[str, str]


def fingerprint(lab: Lab, host: str, *trees: str) -> Fingerprint:
    """What the host is, name by name: files, users, units, mounts, network; look.py says what is left out and why.

    ``trees`` of files narrow it, which a host with a cluster on it is quicker to answer.
    """
    answer = on(lab, host, "python3", "-", *trees, stdin=LOOK.read_text(encoding="utf-8"), timeout=240)
    return t.cast("dict[str, str]", json.loads(answer))


def fingerprints(lab: Lab, *trees: str) -> dict[str, Fingerprint]:
    """Of every host."""
    return everywhere(lab, lambda host: fingerprint(lab, host, *trees))


def difference(before: t.Mapping[str, Fingerprint], after: t.Mapping[str, Fingerprint]) -> list[str]:
    """Every name that came, went or is another, host by host."""
    return [
        f"{host}: {name}: {before[host].get(name, 'absent')} -> {after[host].get(name, 'absent')}"
        for host in before
        for name in sorted({*before[host], *after[host]})
        if before[host].get(name) != after[host].get(name)
    ]


# --- runs -------------------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Action:
    """One change as a module's result named it: the host it ran on, the module's short name, the sentence."""

    host: str
    module: str
    text: str


@dataclasses.dataclass(frozen=True)
class Stats:
    """Ansible's own closing numbers of one host; ``ok`` includes the changed ones."""

    ok: int = 0
    changed: int = 0
    skipped: int = 0
    failed: int = 0
    unreachable: int = 0

    @property
    def results(self) -> int:
        """Every result there was."""
        return self.ok + self.skipped + self.failed + self.unreachable


@dataclasses.dataclass(frozen=True)
class Run:
    """How a playbook went: exit code, Ansible's statistics by host, actions in order, problems, and every event."""

    code: int
    seconds: float
    stats: t.Mapping[str, Stats]
    actions: tuple[Action, ...]
    problems: tuple[Problem, ...]
    report: t.Mapping[str, t.Any]
    events: tuple[Event, ...]

    def of(self, host: str) -> list[tuple[str, str]]:
        """Module and sentence of each action on one host, in order."""
        return [(action.module, action.text) for action in self.actions if action.host == host]

    def tasks(self) -> list[str]:
        """The names of the tasks that had results, in order and once each."""
        found = [str(event["event_data"]["task"]) for event in self.events if event.get("event") in RESULTS]
        return list(dict.fromkeys(found))

    def output(self) -> str:
        """What Ansible printed."""
        return "\n".join(str(event.get("stdout") or "") for event in self.events)

    def contacted(self) -> set[str]:
        """The hosts that any task ran on, or was to run on: those of the play, or where it was delegated to."""
        kinds = (*RESULTS, *(kind.replace("_on_", "_item_on_") for kind in RESULTS))
        return {ran_on(event["event_data"]) for event in self.events if event.get("event") in kinds}

    def problem_text(self) -> str:
        """All problems as lines."""
        return "\n".join(problem.text() for problem in self.problems)

    def require(self) -> Run:
        """This run; an AssertionError with everything it said if it failed."""
        assert self.code == 0, f"exit code {self.code}\n{self.problem_text()}\n{self.output()[-6000:]}"
        return self


def ansible_run(
    inventory: Path,
    playbook: str,
    *options: str,
    verbosity: int = 0,
    extra_vars: t.Mapping[str, t.Any] | None = None,
    limit: str | None = None,
) -> Run:
    """Run a playbook of the collection (apply, plan …) or a path; ``options`` are words for ansible-playbook.

    It runs from the project's directory, as a user would. Must be called in the main thread.
    """
    log, events = RunLog(), list[Event]()

    def take(event: Event) -> None:
        events.append(event)
        log.fold(event, time.monotonic())

    run = PlaybookRun(
        playbook=playbook if "/" in playbook or "." in playbook else f"slipway.cluster.{playbook}",
        inventories=(str(inventory),),
        limit=limit,
        verbosity=verbosity,
        extra_vars=(json.dumps(dict(extra_vars)),) if extra_vars else (),
        options=options,
    )
    started = time.monotonic()
    with contextlib.chdir(ROOT):
        outcome = run_playbook(run, take)
    return Run(
        code=outcome.code,
        seconds=time.monotonic() - started,
        stats=stats_of(events),
        actions=tuple(actions_of(events)),
        problems=tuple(log.problems),
        report=log.report or {},
        events=tuple(events),
    )


def announced(report: t.Mapping[str, t.Any], host: str) -> list[tuple[str, str]]:
    """Module and sentence of each change that a plan's report (``slipway plan --json``) announces for one host."""
    planned = report.get("hosts", {}).get(host, [])
    return [(str(entry["module"]), str(entry["action"])) for entry in planned]


def stats_of(events: t.Iterable[Event]) -> dict[str, Stats]:
    """Ansible's closing statistics by host."""
    nothing: dict[str, t.Any] = {}
    numbers = next((e["event_data"] for e in events if e.get("event") == "playbook_on_stats"), nothing)
    columns = {"ok": "ok", "changed": "changed", "skipped": "skipped", "failed": "failures", "unreachable": "dark"}
    hosts = sorted({host for column in columns.values() for host in numbers.get(column) or {}})
    return {
        host: Stats(**{field: int((numbers.get(column) or {}).get(host, 0)) for field, column in columns.items()})
        for host in hosts
    }


def actions_of(events: t.Iterable[Event]) -> list[Action]:
    """Every action of every module's result, with the host it really ran on; the planner only announces its own."""
    found = []
    for event in events:
        data = event.get("event_data") or {}
        result = data.get("res")
        if event.get("event") not in RESULTS or not isinstance(result, dict) or data.get("task_action") == PLANNER:
            continue
        module = str(data.get("task_action", "")).rpartition(".")[2]
        found += [Action(ran_on(data), module, str(text)) for text in result.get("actions") or ()]
    return found


def ran_on(data: t.Mapping[str, t.Any]) -> str:
    """The host that a result's task ran on: where it was delegated to, if it was."""
    delegated = (data.get("res") or {}).get("_ansible_delegated_vars") or {}
    return str(delegated.get("ansible_delegated_host") or data.get("host"))


@dataclasses.dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str
    seconds: float

    def require(self, code: int = 0) -> Said:
        """This answer; an AssertionError with all of it if it ended otherwise."""
        assert self.code == code, f"exit code {self.code}, expected {code}\n{self.out}\n{self.err}"
        return self


def command(*argv: str, timeout: float = 1200, env: t.Mapping[str, str] | None = None) -> Said:
    """Run a program of the project's virtual environment, or any other, from the project's directory."""
    own = Path(sys.executable).parent
    program = str(own / argv[0]) if (own / argv[0]).exists() else argv[0]
    surroundings = {**os.environ, "PATH": f"{own}:{os.environ['PATH']}", **(env or {})}
    started = time.monotonic()
    done = subprocess.run(
        [program, *argv[1:]],
        cwd=ROOT,
        env=surroundings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr, time.monotonic() - started)


def slipway(*argv: str, timeout: float = 1200, env: t.Mapping[str, str] | None = None) -> Said:
    """Run the real command."""
    return command("slipway", *argv, timeout=timeout, env=env)


RECAP = re.compile(
    r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)\s+skipped=(\d+)", re.MULTILINE
)


def recap(text: str) -> dict[str, Stats]:
    """The statistics that ansible-playbook prints at its end."""
    return {
        host: Stats(int(ok), int(changed), int(skipped), int(failed), int(unreachable))
        for host, ok, changed, unreachable, failed, skipped in RECAP.findall(text)
    }


# --- the cluster ------------------------------------------------------------------------------------------------------
def settled(lab: Lab, hosts: t.Collection[str] = (), host: str = "cp1") -> str | None:
    """None if API server, nodes and all pods that go on are well; else what is not. All hosts are nodes, or ``hosts``.

    It is asked on ``host``.
    """
    answer = ask(lab, host, *KUBECTL, "get", "nodes,pods", "-A", "-o", "json", "--request-timeout=10s", timeout=30)
    if answer.returncode != 0:
        return answer.stderr.strip() or "no answer"
    items = json.loads(answer.stdout)["items"]
    nodes = {item["metadata"]["name"] for item in items if item["kind"] == "Node"}
    # A pod that a shutdown has ended stays as a record, and another one takes its place.
    lasting = [item for item in items if item["status"].get("phase") not in ("Succeeded", "Failed")]
    waiting = [_name(item) for item in lasting if not _is_ready(item)]
    missing = sorted(set(hosts or names(lab)) - nodes)
    return f"not ready: {', '.join(waiting + missing)}" if waiting or missing else None


def _name(item: t.Mapping[str, t.Any]) -> str:
    return f"{item['kind'].lower()}/{item['metadata']['name']}"


def _is_ready(item: t.Mapping[str, t.Any]) -> bool:
    conditions = item.get("status", {}).get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
