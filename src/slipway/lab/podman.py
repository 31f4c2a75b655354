# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Talking to podman, with a configuration of its own so that the machine's stays as it is."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from slipway.lab.files import mac_address
from slipway.lab.model import Lab, LabHost

# crun refuses hybrid cgroups, and the older network backend needs plugins that Debian does not install.
CONFIGURATION = '[engine]\nruntime = "runc"\n\n[network]\nnetwork_backend = "netavark"\n'

# What a container runs, by driver: the host's own first process, or the virtual machine that is the host.
FIRST_PROCESS = {"container": "init.sh", "vm": "machine.sh"}

LABEL = "slipway.lab"
LABEL_DIRECTORY = "slipway.lab.directory"
LABEL_HOST = "slipway.lab.host"

# What systemd 257 needs before it runs on version 1 or hybrid cgroups.
LEGACY_CGROUPS = "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1 systemd.unified_cgroup_hierarchy=0"


@dataclasses.dataclass(frozen=True)
class Container:
    """A container of a lab as podman lists it; ``state`` is podman's word (running, exited, created …)."""

    name: str
    lab: str
    host: str
    directory: str
    state: str


def create_arguments(lab: Lab, host: LabHost, image: str, *, legacy_cgroups: bool) -> list[str]:
    """Arguments of ``podman create`` for one host.

    ``--systemd=false`` because otherwise podman mixes the machine's name=systemd hierarchy into the hosts; /var and
    /opt are volumes because overlayfs does not go on top of overlayfs.
    """
    arguments = ["create", "--name", lab.container(host.name), "--hostname", host.name, "--no-hosts"]
    arguments += ["--label", f"{LABEL}={lab.name}", "--label", f"{LABEL_HOST}={host.name}"]
    arguments += ["--label", f"{LABEL_DIRECTORY}={lab.directory}"]
    arguments += ["--network", lab.network, "--ip", host.address, "--mac-address", mac_address(host.address)]
    arguments += ["--privileged", "--systemd=false", "--cgroupns=private", "--stop-signal", "SIGRTMIN+3"]
    arguments += ["--pids-limit", "-1", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=30000:30000"]
    arguments += ["--tmpfs", "/run:exec", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec"]
    arguments += ["-v", "/var", "-v", "/opt", "-v", f"{lab.directory / 'hosts' / host.name}:/mnt:ro"]
    arguments += ["-e", "container=podman"]
    if legacy_cgroups:
        arguments += ["-e", f"SYSTEMD_PROC_CMDLINE={LEGACY_CGROUPS}"]
    return [*arguments, image, "/bin/sh", f"/mnt/{FIRST_PROCESS[lab.spec.driver]}"]


def containers_from(listing: t.Sequence[t.Mapping[str, t.Any]]) -> list[Container]:
    """Containers of any lab out of ``podman ps --format json``."""
    found = []
    for entry in listing:
        labels = entry.get("Labels") or {}
        if LABEL in labels:
            name = str(entry["Names"][0])
            state = str(entry["State"])
            found.append(Container(name, labels[LABEL], labels[LABEL_HOST], labels[LABEL_DIRECTORY], state))
    return sorted(found, key=lambda container: container.name)


class Podman:
    """Runs podman; ``root`` is the directory that has, or gets, ``.lab/containers.conf``."""

    def __init__(self, root: Path) -> None:
        self._configuration = root / ".lab" / "containers.conf"

    def run(self, *arguments: str) -> str:
        """Standard output of one podman command; SlipwayError carries podman's own words."""
        if os.geteuid() != 0:
            raise SlipwayError(
                Problem("user", "not root", "root: hosts are privileged containers", "repeat it with sudo or as root")
            )
        self._write_configuration()
        environment = {**os.environ, "CONTAINERS_CONF": str(self._configuration)}
        try:
            result = subprocess.run(
                ["podman", *arguments], env=environment, capture_output=True, text=True, check=False
            )
        except FileNotFoundError as error:
            raise SlipwayError(
                Problem("podman", "not installed", "podman 4.3 or newer", "apt-get install podman")
            ) from error
        if result.returncode != 0:
            words = " ".join(result.stderr.split()) or f"exit code {result.returncode}"
            raise SlipwayError(Problem(f"podman {arguments[0]}", words))
        return result.stdout

    def _write_configuration(self) -> None:
        if not self._configuration.exists():
            self._configuration.parent.mkdir(parents=True, exist_ok=True)
            self._configuration.write_text(CONFIGURATION, encoding="utf-8")

    def containers(self, lab: str | None = None) -> list[Container]:
        """Containers of one lab, or of all labs on the machine."""
        label = LABEL if lab is None else f"{LABEL}={lab}"
        return containers_from(json.loads(self.run("ps", "-a", "--filter", f"label={label}", "--format", "json")))

    def networks(self) -> list[dict[str, t.Any]]:
        """All container networks as podman's JSON."""
        return t.cast("list[dict[str, t.Any]]", json.loads(self.run("network", "ls", "--format", "json")))

    def has_image(self, image: str) -> bool:
        """Whether an image with exactly this name exists."""
        return bool(self.run("images", "-q", image).strip())

    def create_network(self, lab: Lab) -> None:
        """The lab's bridge, without podman's DNS: names are not podman's business."""
        labels = ["--label", f"{LABEL}={lab.name}", "--label", f"{LABEL_DIRECTORY}={lab.directory}"]
        self.run("network", "create", "--disable-dns", "--subnet", lab.subnet, *labels, lab.network)
