# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one look at a host saw, typed. The data is JSON from the probe module; unknown keys are ignored."""

from __future__ import annotations

import dataclasses
import typing as t

from ...module_utils.core.problems import Problem, SlipwayError


@dataclasses.dataclass(frozen=True)
class Mount:
    """A path's file system: its sizes in bytes, its type, and where it is mounted."""

    free_bytes: int
    total_bytes: int
    filesystem: str = ""
    mount: str = ""


@dataclasses.dataclass(frozen=True)
class HostAddress:
    """An address on an interface."""

    interface: str
    address: str
    prefix: int
    mtu: int


@dataclasses.dataclass(frozen=True)
class DefaultRoute:
    """The interface of the default route, and the source address packets get there."""

    interface: str
    source: str


@dataclasses.dataclass(frozen=True)
class Listener:
    """A socket that listens. ``process`` and ``unit`` are empty where the host did not say."""

    protocol: str
    address: str
    port: int
    process: str = ""
    unit: str = ""


@dataclasses.dataclass(frozen=True)
class ClusterMark:
    """The cluster a host says it belongs to (/etc/slipway/cluster.json)."""

    name: str
    id: str


@dataclasses.dataclass(frozen=True)
class Probe:
    """One host. ``time`` is in seconds since the epoch by the host's own clock.

    ``authorities`` are fingerprints of the CA certificates that are there, by name; ``artifacts`` are the
    active versions by component; ``programs`` are paths by name. None of a setting means that the host could not say.
    """

    hostname: str
    machine_id: str
    boot_id: str
    os_id: str
    os_version: str
    architecture: str
    kernel: str
    python: str
    systemd: int
    cgroup: int
    memory_bytes: int
    cpus: int
    swaps: tuple[str, ...]
    mounts: t.Mapping[str, Mount]
    addresses: tuple[HostAddress, ...]
    default_route: DefaultRoute | None
    time: float
    ntp_synchronized: bool | None
    resolv_conf: str
    resolvers: tuple[str, ...]
    programs: t.Mapping[str, str | None]
    proxy_environment: t.Mapping[str, str]
    listening: tuple[Listener, ...]
    kernel_modules: bool
    cluster: ClusterMark | None
    authorities: t.Mapping[str, str]
    etcd_data: bool
    etcd_formed: bool
    artifacts: t.Mapping[str, str | None]
    kubeadm_leftovers: tuple[str, ...]
    node_name: str | None

    @property
    def installed(self) -> bool:
        """Whether Slipway has put components there before."""
        return any(version is not None for version in self.artifacts.values())

    def interface_of(self, address: str) -> HostAddress | None:
        """The interface that has the address."""
        return next((each for each in self.addresses if each.address == address), None)

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any], host: str = "probe") -> Probe:
        """The probe from its JSON data; SlipwayError if it is not what the probe module returns."""
        try:
            return _probe(data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SlipwayError(
                Problem(
                    host,
                    f"the probe's answer cannot be read ({type(error).__name__}: {error})",
                    "the data of this release's probe module",
                    "check that the host runs the same release of Slipway as the controller",
                )
            ) from error


def _probe(data: t.Mapping[str, t.Any]) -> Probe:
    system = data["os"]
    route = data.get("default_route")
    mark = data.get("cluster")
    return Probe(
        hostname=data["hostname"],
        machine_id=data["machine_id"],
        boot_id=data["boot_id"],
        os_id=system["id"],
        os_version=str(system.get("version_id") or ""),
        architecture=data["architecture"],
        kernel=data["kernel"],
        python=data["python"],
        systemd=int(data["systemd"] or 0),
        cgroup=int(data["cgroup"]),
        memory_bytes=int(data["memory_bytes"]),
        cpus=int(data["cpus"]),
        swaps=tuple(str(each) for each in data["swaps"]),
        mounts={path: _pick(Mount, each) for path, each in data["mounts"].items()},
        addresses=tuple(_pick(HostAddress, each) for each in data["addresses"]),
        default_route=_pick(DefaultRoute, route) if route else None,
        time=float(data["time"]),
        ntp_synchronized=data.get("ntp_synchronized"),
        resolv_conf=data["resolv_conf"],
        resolvers=tuple(data["resolvers"]),
        programs=dict(data["programs"]),
        proxy_environment=dict(data["proxy_environment"]),
        listening=tuple(_pick(Listener, each) for each in data["listening"]),
        kernel_modules=bool(data["kernel_modules"]),
        cluster=ClusterMark(mark["name"], mark["id"]) if mark else None,
        authorities={name: text for name, text in data["authorities"].items() if text},
        etcd_data=bool(data["etcd_data"]),
        etcd_formed=bool((data.get("etcd") or {}).get("formed")),
        artifacts={name: (each or {}).get("current") or None for name, each in data["artifacts"].items()},
        kubeadm_leftovers=tuple(data["kubeadm_leftovers"]),
        node_name=data.get("node_name"),
    )


def _pick[T](kind: type[T], data: t.Mapping[str, t.Any]) -> T:
    """A dataclass from the keys it knows; null counts as absent where it has a default."""
    fields = dataclasses.fields(t.cast("t.Any", kind))
    optional = {field.name for field in fields if field.default is not dataclasses.MISSING}
    known = {field.name: data[field.name] for field in fields if field.name in data}
    return kind(**{name: value for name, value in known.items() if value is not None or name not in optional})
