# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What can be done with a lab: up, down, status, power, ssh."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import shlex
import subprocess
import time
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from slipway.lab import image, preflight
from slipway.lab.model import Lab, LabHost, LabSpec, spec_differences, spec_problems
from slipway.lab.network import choose_subnet, taken_networks
from slipway.lab.podman import Container, Podman, create_arguments
from slipway.lab.store import lab_directory, load_lab, locked, remove_lab, save_lab

Say = t.Callable[[str], None]

STOP_SECONDS = 90
# QEMU's monitor presses it; the signal by which containers shut down means nothing to QEMU.
POWER_BUTTON = "echo system_powerdown >/run/monitor.in"


@dataclasses.dataclass(frozen=True)
class SshResult:
    """What a command on a host answered."""

    returncode: int
    stdout: str
    stderr: str


@dataclasses.dataclass(frozen=True)
class HostStatus:
    """One host as it is now: ``power`` is on, off or missing; ``state`` systemd's word, or why there is none."""

    host: LabHost
    power: str
    state: str


@dataclasses.dataclass(frozen=True)
class _Wanted:
    spec: LabSpec
    directory: Path
    extra_vars: t.Mapping[str, t.Any] | None


@dataclasses.dataclass(frozen=True)
class _Todo:
    """Names of the hosts to create, and of all that are to be started."""

    create: tuple[str, ...]
    start: tuple[str, ...]


def _silent(_text: str) -> None:
    return


def up(
    spec: LabSpec, *, root: Path | None = None, extra_vars: t.Mapping[str, t.Any] | None = None, say: Say = _silent
) -> Lab:
    """Make a lab exist and run, and return it.

    ``root`` is the directory that has ``.lab`` (default: the current one). ``extra_vars`` go into the inventory over
    the lab's own; None keeps those of an existing lab. Repeating it mends what is missing or stopped and is quick
    when nothing is. SlipwayError lists everything that stands in the way.
    """
    problems = spec_problems(spec)
    if problems:
        raise SlipwayError(problems)
    started = time.monotonic()
    podman = Podman(root or Path.cwd())
    directory = lab_directory(root or Path.cwd(), spec.name)
    _check_basics(len(spec.host_names()))
    with locked(spec.name, say):
        existing = load_lab(directory)
        _refuse_other_spec(spec, existing)
        containers = podman.containers(spec.name)
        _refuse_other_directory(spec.name, directory, containers)
        todo = _todo(spec, containers)
        recipes = _check_room(podman, spec, todo)
        wanted = _Wanted(spec, directory, extra_vars)
        lab = _prepare(podman, wanted, existing, has_hosts=bool(containers), say=say)
        _build_images(podman, {recipe.tag: recipe for recipe in recipes.values()}.values(), say)
        _start(podman, lab, todo, recipes, say)
        already = not todo.start
        _report_ready(lab, already=already, say=say)
    say(f"lab {lab.name}: {'already up' if already else 'up'} ({time.monotonic() - started:.1f} s); {lab.inventory}")
    return lab


def _check_basics(hosts: int) -> None:
    """Without root and podman nothing else can be looked up: say all that is known to be missing, then stop."""
    machine = preflight.look()
    if not machine.root or "podman" not in machine.programs:
        raise SlipwayError(preflight.machine_problems(machine, new_hosts=hosts, memory=0, needs_image=True))


def _todo(spec: LabSpec, containers: t.Sequence[Container]) -> _Todo:
    states = {container.host: container.state for container in containers}
    names = spec.host_names()
    return _Todo(
        create=tuple(name for name in names if name not in states),
        start=tuple(name for name in names if states.get(name) != "running"),
    )


def _check_room(podman: Podman, spec: LabSpec, todo: _Todo) -> dict[str, image.Recipe]:
    """Refuse a machine that lacks anything for what is to be done; the image of each host to create."""
    groups = {name: group for name, group, _number in spec.layout()}
    kinds = {name: (spec.system_of(name), groups[name] == "slipway_docker") for name in todo.create}
    made = {
        (system, docker): image.recipe_for(system, bare=spec.bare_packages, docker=docker, driver=spec.driver)
        for system, docker in dict.fromkeys(kinds.values())
    }
    recipes = {name: made[kind] for name, kind in kinds.items()}
    needs_image = any(not podman.has_image(recipe.tag) for recipe in recipes.values())
    problems = preflight.machine_problems(
        preflight.look(), new_hosts=len(todo.start), memory=spec.takes.memory, needs_image=needs_image
    )
    if problems:
        raise SlipwayError(problems)
    return recipes


def _refuse_other_spec(spec: LabSpec, existing: Lab | None) -> None:
    differences = spec_differences(spec, existing.spec) if existing else []
    if differences:
        raise SlipwayError(
            Problem(
                f"lab {spec.name}",
                f"exists with another spec: {'; '.join(differences)}",
                "the same spec",
                f"take it down first (`slipway lab down --name {spec.name}`) or use another --name",
            )
        )


def _refuse_other_directory(name: str, directory: Path, containers: t.Sequence[Container]) -> None:
    others = sorted({container.directory for container in containers} - {str(directory)})
    if others:
        raise SlipwayError(
            Problem(
                f"lab {name}",
                f"belongs to {', '.join(others)}",
                f"a lab of {directory}",
                "use another --name, or work in that directory",
            )
        )


def _prepare(podman: Podman, wanted: _Wanted, existing: Lab | None, *, has_hosts: bool, say: Say) -> Lab:
    """Settle the network and write the files; a network without any host may still move to another range."""
    spec, extra_vars = wanted.spec, wanted.extra_vars
    if extra_vars is None:
        extra_vars = existing.extra_vars if existing else {}
    with locked("networks", say):
        networks = podman.networks()
        made = any(network["name"] == f"slipway-{spec.name}" for network in networks)
        if existing and (made or has_hosts):
            lab = dataclasses.replace(existing, extra_vars=extra_vars)
        else:
            subnet = choose_subnet(spec.subnet, taken_networks(_routes(), networks))
            lab = Lab(spec, wanted.directory, subnet, extra_vars)
        save_lab(lab)
        if not made:
            say(f"network {lab.subnet}{' without a default route' if spec.isolated else ''}")
            podman.create_network(lab)
    return lab


def _routes() -> list[dict[str, t.Any]]:
    command = ["ip", "-j", "-4", "route", "show", "table", "all"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return t.cast("list[dict[str, t.Any]]", json.loads(output or "[]"))


def _build_images(podman: Podman, recipes: t.Iterable[image.Recipe], say: Say) -> None:
    for recipe in recipes:
        if not podman.has_image(recipe.tag):
            with locked(recipe.slug, say):
                # Another run may have built it while this one waited.
                if not podman.has_image(recipe.tag):
                    image.build(podman, recipe, say)


def _start(podman: Podman, lab: Lab, todo: _Todo, recipes: t.Mapping[str, image.Recipe], say: Say) -> None:
    """Create and start whatever does not run, all at once."""
    if not todo.start:
        return
    raised = preflight.raise_inotify_limit()
    if raised:
        say(raised)
    legacy = preflight.legacy_cgroups()

    def start(name: str) -> None:
        if name in todo.create:
            host = lab.host(name)
            podman.run(*create_arguments(lab, host, recipes[name].tag, legacy_cgroups=legacy))
        podman.run("start", lab.container(name))

    _parallel(start, todo.start)


def _parallel[In, Out](function: t.Callable[[In], Out], items: t.Sequence[In]) -> list[Out]:
    """Results in order; every problem of every item in one SlipwayError."""
    with concurrent.futures.ThreadPoolExecutor(max_workers=max(1, min(len(items), 16))) as pool:
        futures = [pool.submit(function, item) for item in items]
    problems = [
        problem
        for error in (future.exception() for future in futures)
        if isinstance(error, SlipwayError)
        for problem in error.problems
    ]
    if problems:
        raise SlipwayError(problems)
    return [future.result() for future in futures]


def _report_ready(lab: Lab, *, already: bool, say: Say) -> None:
    started = time.monotonic()
    deadline = started + lab.spec.takes.ready_seconds

    def wait(host: LabHost) -> None:
        state = wait_ready(lab, host, deadline)
        if state != "running":
            say(f"{host.name}: {state}")
        elif not already:
            say(f"{host.name}: {host.address} ready after {time.monotonic() - started:.1f} s")

    _parallel(wait, lab.hosts)


def wait_ready(lab: Lab, host: LabHost, deadline: float) -> str:
    """Wait until a host answers over SSH and has finished starting; what systemd says then, with failed units.

    ``deadline`` is on the clock of ``time.monotonic``; SlipwayError when it passes, or when the host went off.
    """
    podman = Podman(lab.root)
    said = "it did not answer"
    while time.monotonic() < deadline:
        answer = ssh(lab, host.name, ["systemctl", "is-system-running", "--wait"], timeout=deadline - time.monotonic())
        state = answer.stdout.strip()
        if state in ("running", "degraded"):
            return state if state == "running" else f"degraded: {_failed_units(lab, host)}"
        said = (answer.stderr or answer.stdout).strip() or said
        if not _is_running(podman, lab.container(host.name)):
            said = f"it went off: {podman.run('logs', '--tail', '5', lab.container(host.name)).strip()}"
            break
        time.sleep(0.2)
    raise SlipwayError(
        Problem(
            f"host {host.name}",
            f"not ready: {said}",
            "an answer over SSH and a finished boot",
            f"`slipway lab power --name {lab.name} {host.name} cycle --cut` starts it anew",
        )
    )


def _failed_units(lab: Lab, host: LabHost) -> str:
    listing = ssh(lab, host.name, ["systemctl", "list-units", "--failed", "--plain", "--no-legend"], timeout=10).stdout
    return ", ".join(line.split()[0] for line in listing.splitlines() if line.split()) or "no failed unit"


def ssh(
    lab: Lab, host: str, command: t.Sequence[str], *, stdin: str | None = None, timeout: float | None = None
) -> SshResult:
    """Run a command (an argv list) on a host as root; 255 when SSH itself fails or ``timeout`` seconds pass."""
    quick = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={lab.spec.takes.connect_seconds}"]
    try:
        done = subprocess.run(
            [*ssh_command(lab, host), *quick, "--", shlex.join(command)],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return SshResult(255, "", f"no answer within {timeout:.0f} s")
    return SshResult(done.returncode, done.stdout, done.stderr)


def ssh_command(lab: Lab, host: str) -> list[str]:
    """The start of an ssh command line to a host."""
    return ["ssh", "-F", str(lab.ssh_config), lab.host(host).name]


def load(name: str = "lab", *, root: Path | None = None) -> Lab:
    """An existing lab; SlipwayError if there is none of that name in ``root`` (default: the current directory)."""
    directory = lab_directory(root or Path.cwd(), name)
    lab = load_lab(directory)
    if lab is None:
        remedy = f"`slipway lab up --name {name}` makes it; `slipway lab list` shows what there is"
        raise SlipwayError(Problem(f"lab {name}", f"not in {directory.parent}", "", remedy))
    return lab


def down(name: str = "lab", *, root: Path | None = None, say: Say = _silent) -> bool:
    """Remove a lab: hosts, volumes, network and files. False if there was none."""
    directory = lab_directory(root or Path.cwd(), name)
    podman = Podman(root or Path.cwd())
    with locked(name, say):
        containers = podman.containers(name)
        _refuse_other_directory(name, directory, containers)
        networks = [network["name"] for network in podman.networks() if network["name"] == f"slipway-{name}"]
        if not (containers or networks or directory.exists()):
            say(f"lab {name}: there is none")
            return False
        if containers:
            podman.run("rm", "-f", "-v", "-t", "0", *(container.name for container in containers))
        if networks:
            podman.run("network", "rm", *networks)
        remove_lab(directory)
    say(f"lab {name}: {len(containers)} hosts, their volumes, the network and the files are removed")
    return True


def status(lab: Lab) -> list[HostStatus]:
    """Every host of a lab as it is now."""
    states = {container.host: container.state for container in Podman(lab.root).containers(lab.name)}

    def look(host: LabHost) -> HostStatus:
        container = states.get(host.name)
        if container != "running":
            return HostStatus(host, "missing" if container is None else "off", "")
        answer = ssh(lab, host.name, ["systemctl", "is-system-running"], timeout=10)
        state = answer.stdout.strip() or answer.stderr.strip() or "no answer"
        return HostStatus(host, "on", f"degraded: {_failed_units(lab, host)}" if state == "degraded" else state)

    return _parallel(look, lab.hosts)


def power(lab: Lab, hosts: t.Sequence[str], action: str, *, cut: bool = False, say: Say = _silent) -> None:
    """Switch hosts off, on, or off and on again (cycle), all at once.

    ``cut`` is a power cut: every process is killed. Otherwise the hosts shut down, killed after ``STOP_SECONDS``.
    Returns when hosts that are switched on are ready. A host that is off already is no error.
    """
    podman = Podman(lab.root)
    targets = [lab.host(name) for name in hosts]

    def switch(host: LabHost) -> None:
        started = time.monotonic()
        if action in ("off", "cycle"):
            _switch_off(podman, lab, host, cut=cut)
            say(f"{host.name}: off after {time.monotonic() - started:.1f} s")
        if action in ("on", "cycle"):
            started = time.monotonic()
            podman.run("start", lab.container(host.name))
            state = wait_ready(lab, host, started + lab.spec.takes.ready_seconds)
            say(f"{host.name}: {state} after {time.monotonic() - started:.1f} s")

    with locked(lab.name, say):
        _parallel(switch, targets)


def renew(lab: Lab, hosts: t.Sequence[str], *, say: Say = _silent) -> None:
    """Put new machines in the place of hosts: the same names and addresses, disks that nobody has written to."""
    podman = Podman(lab.root)
    names = [lab.container(name) for name in hosts]
    with locked(lab.name, say):
        podman.run("rm", "-f", "-v", "-t", "0", *names)
    up(lab.spec, root=lab.root, say=say)


def _is_running(podman: Podman, container: str) -> bool:
    return podman.run("inspect", "-f", "{{.State.Running}}", container).strip() == "true"


def _switch_off(podman: Podman, lab: Lab, host: LabHost, *, cut: bool) -> None:
    container = lab.container(host.name)
    if not _is_running(podman, container):
        return
    if cut:
        podman.run("kill", "-s", "KILL", container)
        podman.run("wait", container)
    else:
        if lab.spec.driver == "vm":
            podman.run("exec", container, "sh", "-c", POWER_BUTTON)
        podman.run("stop", "-t", str(STOP_SECONDS), container)


@dataclasses.dataclass(frozen=True)
class LabSummary:
    """A lab on this machine: ``directory`` has its files; numbers are of hosts made and running."""

    name: str
    directory: str
    hosts: int
    running: int


def labs(*, root: Path | None = None) -> list[LabSummary]:
    """All labs on this machine, also those of other directories, and those of ``root`` without any host."""
    top = lab_directory(root or Path.cwd(), "x").parent
    found = {(path.parent.name, str(path.parent)): [0, 0] for path in sorted(top.glob("*/lab.json"))}
    for container in Podman(root or Path.cwd()).containers():
        counts = found.setdefault((container.lab, container.directory), [0, 0])
        counts[0] += 1
        counts[1] += container.state == "running"
    return [LabSummary(name, place, *counts) for (name, place), counts in sorted(found.items())]
