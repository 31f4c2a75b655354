# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a lab is: its spec, its hosts and its files. Pure."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError

SYSTEMS = {"debian-13": "trixie", "debian-12": "bookworm"}
DEFAULT_SYSTEM = "debian-13"

GIB = 1 << 30


@dataclasses.dataclass(frozen=True)
class Driver:
    """What one kind of host takes: bytes of memory, seconds until it has started, seconds until SSH is connected."""

    memory: float
    ready_seconds: float
    connect_seconds: int


# A virtual machine may be emulated, which is about thirty times slower.
DRIVERS = {"container": Driver(0.7 * GIB, 120, 3), "vm": Driver(4.3 * GIB, 900, 20)}
DEFAULT_DRIVER = "container"

# Group, prefix of the host names, first host's number in the subnet, how many fit.
ROLES = (
    ("slipway_docker", "docker", 2, 5),
    ("slipway_registry", "registry", 7, 4),
    ("slipway_control_plane", "cp", 11, 20),
    ("slipway_etcd", "etcd", 31, 20),
    ("slipway_workers", "w", 51, 200),
)
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class LabSpec:
    """What the user asked for.

    ``os`` is the system of every host that ``host_os`` (pairs of host name and system) does not name. ``isolated``
    hosts have no default route. ``bare_packages`` hosts lack the OS packages that a cluster needs, and on ``docker``
    hosts those of Docker. ``subnet`` is a /24 in CIDR notation, or None for the first free one. ``driver`` says what
    the hosts are: containers on this machine's kernel, or virtual machines with a kernel of their own.
    """

    name: str = "lab"
    control_plane: int = 1
    workers: int = 2
    etcd: int = 0
    os: str = DEFAULT_SYSTEM
    host_os: tuple[tuple[str, str], ...] = ()
    isolated: bool = False
    bare_packages: bool = False
    subnet: str | None = None
    docker: int = 0
    registry: int = 0
    driver: str = DEFAULT_DRIVER

    @property
    def takes(self) -> Driver:
        """What a host of this kind takes."""
        return DRIVERS[self.driver]

    def host_names(self) -> list[str]:
        """Names of the hosts: docker1.., registry1.., cp1.., etcd1.., w1.. in this order."""
        return [name for name, _group, _number in self.layout()]

    def layout(self) -> list[tuple[str, str, int]]:
        """Name, inventory group and number in the subnet of each host."""
        counts = {prefix: self.counts()[prefix] for _group, prefix, _first, _most in ROLES}
        return [
            (f"{prefix}{index + 1}", group, first + index)
            for group, prefix, first, _most in ROLES
            for index in range(counts[prefix])
        ]

    def counts(self) -> dict[str, int]:
        """How many hosts there are of each prefix."""
        return {
            "docker": self.docker,
            "registry": self.registry,
            "cp": self.control_plane,
            "etcd": self.etcd,
            "w": self.workers,
        }

    def system_of(self, host: str) -> str:
        """The system of one host."""
        return dict(self.host_os).get(host, self.os)


@dataclasses.dataclass(frozen=True)
class LabHost:
    """One host: its name in the inventory (also its own hostname), group, IPv4 address and system."""

    name: str
    group: str
    address: str
    os: str


@dataclasses.dataclass(frozen=True)
class Lab:
    """A lab that exists: spec, directory of its files, network and the variables its inventory adds."""

    spec: LabSpec
    directory: Path
    subnet: str
    extra_vars: t.Mapping[str, t.Any]

    @property
    def name(self) -> str:
        """The lab's name."""
        return self.spec.name

    @property
    def hosts(self) -> tuple[LabHost, ...]:
        """All hosts with their addresses."""
        base = ipaddress.IPv4Network(self.subnet).network_address
        return tuple(
            LabHost(name, group, str(base + number), self.spec.system_of(name))
            for name, group, number in self.spec.layout()
        )

    @property
    def inventory(self) -> Path:
        """The Ansible inventory."""
        return self.directory / "inventory.yml"

    @property
    def ssh_config(self) -> Path:
        """Configuration for ``ssh -F``, which knows hosts by name and by address."""
        return self.directory / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        """Host keys of the lab."""
        return self.directory / "known_hosts"

    @property
    def private_key(self) -> Path:
        """The key that may log in as root."""
        return self.directory / "id_ed25519"

    @property
    def kubeconfig(self) -> Path:
        """Where the cluster's kubeconfig goes once there is one."""
        return self.directory / "kubeconfig"

    @property
    def root(self) -> Path:
        """The project or work directory in which ``.lab`` lies."""
        return self.directory.parent.parent

    def host(self, name: str) -> LabHost:
        """One host by name; SlipwayError names the ones there are."""
        for host in self.hosts:
            if host.name == name:
                return host
        names = ", ".join(host.name for host in self.hosts)
        raise SlipwayError(Problem(f"lab {self.name}", f"no host {name}", f"one of {names}"))

    def container(self, host: str) -> str:
        """Name of the container behind a host."""
        return f"slipway-{self.name}-{host}"

    @property
    def network(self) -> str:
        """Name of the container network."""
        return f"slipway-{self.name}"

    def as_dict(self) -> dict[str, t.Any]:
        """The lab as JSON data, without its directory."""
        return {
            "spec": dataclasses.asdict(self.spec),
            "subnet": self.subnet,
            "extra_vars": dict(self.extra_vars),
        }

    @classmethod
    def from_dict(cls, data: t.Mapping[str, t.Any], directory: Path) -> Lab:
        """The opposite of ``as_dict``."""
        spec = dict(data["spec"])
        spec["host_os"] = tuple((name, system) for name, system in spec["host_os"])
        return cls(LabSpec(**spec), directory, data["subnet"], data["extra_vars"])


def spec_problems(spec: LabSpec) -> list[Problem]:
    """Everything that is wrong with a spec by itself."""
    problems = []
    if not _NAME.fullmatch(spec.name):
        problems.append(
            Problem("--name", repr(spec.name), "at most 32 small letters, digits and dashes, none at either end")
        )
    problems += _count_problems(spec) + _system_problems(spec)
    if spec.subnet is not None:
        problems += _subnet_problems(spec.subnet)
    return problems


def _count_problems(spec: LabSpec) -> list[Problem]:
    counts = spec.counts()
    problems = [
        Problem("--" + group.removeprefix("slipway_").replace("_", "-"), str(counts[prefix]), f"0 to {most}")
        for group, prefix, _first, most in ROLES
        if not 0 <= counts[prefix] <= most
    ]
    if not problems and not sum(counts.values()):
        problems.append(Problem("--control-plane, --etcd, --workers", "0 hosts", "at least one"))
    return problems


def _system_problems(spec: LabSpec) -> list[Problem]:
    known = ", ".join(SYSTEMS)
    if spec.driver not in DRIVERS:
        return [Problem("--driver", spec.driver, f"one of {', '.join(DRIVERS)}")]
    asked = [("--os", spec.os)] + [(f"--host-os {host}", system) for host, system in spec.host_os]
    problems = [Problem(option, system, f"one of {known}") for option, system in asked if system not in SYSTEMS]
    names = spec.host_names()
    problems += [
        Problem(f"--host-os {host}", "no such host", f"one of {', '.join(names)}")
        for host, _system in spec.host_os
        if host not in names
    ]
    return problems


def _subnet_problems(subnet: str) -> list[Problem]:
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError as error:
        return [Problem("--subnet", str(error), "an IPv4 /24 such as 172.28.7.0/24")]
    return [] if network.prefixlen == 24 else [Problem("--subnet", subnet, "a /24")]


def spec_differences(wanted: LabSpec, existing: LabSpec) -> list[str]:
    """What differs between two specs, one sentence each; a subnet that was not asked for does not count."""
    before, after = _shown(existing), _shown(wanted)
    return [
        f"{key} is {before[key]}, asked for {value}"
        for key, value in after.items()
        if value != before[key] and not (key == "subnet" and wanted.subnet is None)
    ]


def _shown(spec: LabSpec) -> dict[str, t.Any]:
    pairs = ",".join(f"{host}={system}" for host, system in sorted(spec.host_os))
    return {**dataclasses.asdict(spec), "host_os": pairs or "none", "subnet": spec.subnet or "any"}
