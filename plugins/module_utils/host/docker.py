# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe and set up Docker on this host, see core/docker.py."""

from __future__ import annotations

import contextlib
import grp
import os
import typing as t

from ..core import docker
from ..core.change import Change
from ..core.docker import DockerSeen, DockerWant
from ..core.problems import Problem, SlipwayError
from ..core.state import SeenState, SeenUnit
from .facts import ask_ip, system_release
from .machine import Machine, Output
from .preparation import apply_host
from .state import apply_state, observe_state, user_exists
from .systemd import show_units, unit_failure

PULL_SECONDS = 900.0
READY_SECONDS = 60.0


def observe_docker(machine: Machine, want: DockerWant) -> DockerSeen:
    """What the host has of it; reads only."""
    files = observe_state(machine, docker.docker_target(want))
    units = show_units(machine, [docker.UNIT, docker.KUBELET_UNIT])
    up = units.get(docker.UNIT, SeenUnit()).active == "active"
    return DockerSeen(
        state=SeenState(files.users, files.paths, units),
        system=system_release(machine),
        installed=installed_packages(machine),
        apparmor=(machine.read_text("/sys/module/apparmor/parameters/enabled") or "").strip() == "Y",
        loaded=docker.parse_json(machine.read_text(docker.LOADED)) if up else None,
        networks=docker.foreign_networks(ask_ip(machine, "-4", "route", "show")),
        members=_members(),
        known=frozenset(name for name in want.users or () if user_exists(name)),
        images=frozenset(image for image in want.images if up and _has_image(machine, image)),
        containerd_unit=machine.read_text(docker.CONTAINERD_UNIT) or "",
        node=docker.KUBELET_UNIT in units,
        auths=docker.parse_auths(machine.read_text(docker.LOGIN)),
        given=frozenset(_given(machine)),
        root_in_use=_root_in_use(machine) if up else "",
    )


def installed_packages(machine: Machine) -> frozenset[str]:
    """The packages dpkg has installed; none on a system without it."""
    listing = machine.run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\\n"], check=False)
    words = (line.split() for line in listing.stdout.splitlines())
    return frozenset(name for name, *status in words if status == ["installed"])


def _given(machine: Machine) -> t.Iterator[str]:
    """The registries whose authority an earlier run put there."""
    for host in os.listdir(docker.CERTIFICATES) if os.path.isdir(docker.CERTIFICATES) else ():
        if (machine.read_text(docker.authority_of(host)) or "").startswith(docker.MARK):
            yield host


def _members() -> t.Optional[frozenset[str]]:
    try:
        return frozenset(grp.getgrnam(docker.GROUP).gr_mem)
    except KeyError:
        return None


def _has_image(machine: Machine, image: str) -> bool:
    return machine.run(["docker", "image", "inspect", "--format", "{{.Id}}", image], check=False).rc == 0


def _root_in_use(machine: Machine) -> str:
    """The engine's data root if it has any container."""
    asked = machine.run(["docker", "info", "--format", "{{.Containers}} {{.DockerRootDir}}"], check=False)
    count, _space, root = asked.stdout.strip().partition(" ")
    return root if asked.rc == 0 and count not in ("", "0") else ""


def apply_docker(machine: Machine, want: DockerWant, change: Change) -> None:
    """Carry out one change of plan_docker; safe to repeat and safe to be killed in."""
    del want
    data = change.data
    verb = data[0] if isinstance(data, tuple) else ""
    if verb == "packages":
        apply_host(machine, change)
    elif verb == "join":
        machine.run(["usermod", "--append", "--groups", docker.GROUP, data[1]])
    elif verb == "leave":
        machine.run(["gpasswd", "--delete", data[1], docker.GROUP])
    elif verb == "login":
        _log_in(machine, *data[1])
    elif verb == "logout":
        _log_in(machine, data[1], None)
    elif verb == "forget":
        _forget(machine, docker.authority_of(data[1]))
    elif verb == "pull":
        _pull(machine, data[1])
    else:
        apply_state(machine, change)
        if verb == "reload":
            _note_reload(machine)


def _note_reload(machine: Machine) -> None:
    loaded = docker.parse_json(machine.read_text(docker.LOADED))
    config = docker.parse_json(machine.read_text(docker.CONFIG))
    if loaded is not None and config is not None:
        machine.write(docker.LOADED, docker.after_reload(config, loaded).encode(), mode=0o644)


def _forget(machine: Machine, authority: str) -> None:
    machine.remove(authority)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(authority))  # what somebody else put there stays


def _log_in(machine: Machine, key: str, auth: t.Optional[str]) -> None:
    directory = os.path.dirname(docker.LOGIN)
    if not machine.exists(directory):
        machine.make_directory(directory, mode=0o700)
    machine.write(docker.LOGIN, docker.with_login(machine.read_text(docker.LOGIN), key, auth).encode(), mode=0o600)


def _pull(machine: Machine, image: str) -> None:
    done = machine.run(["docker", "pull", "--quiet", image], check=False, timeout=PULL_SECONDS)
    if done.rc != 0:
        raise SlipwayError(
            Problem(
                f"image {image}",
                "could not be pulled: " + " ".join((done.stderr or done.stdout).split())[-400:],
                "a registry that has it and lets this host in",
                "check its name, the registry's address and certificate, and root's login",
            )
        )


def settle_docker(machine: Machine, want: DockerWant) -> None:
    """Wait until the engine answers."""
    del want
    machine.wait(docker.UNIT, lambda: _trouble(machine), timeout=READY_SECONDS)


def _trouble(machine: Machine) -> t.Optional[str]:
    asked = _ask_version(machine)
    return None if asked.rc == 0 else f"{asked.stderr.strip()}; {unit_failure(machine, docker.UNIT)}"


def _ask_version(machine: Machine) -> Output:
    return machine.run(["docker", "version", "--format", "{{.Server.Version}}"], check=False, timeout=20)


def docker_result(machine: Machine, want: DockerWant) -> dict[str, t.Any]:
    """The engine's version, empty where there is none yet."""
    del want
    asked = _ask_version(machine)
    return {"version": asked.stdout.strip() if asked.rc == 0 else ""}
