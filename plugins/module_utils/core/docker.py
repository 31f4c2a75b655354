# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a Docker host holds: engine and client from the distribution, daemon.json, who may use it, registries, images.

Names in daemon.json and which of them a running dockerd takes over on SIGHUP are from dockerd's reference page
("Configuration reload behavior"). The engine's unit copies daemon.json to LOADED whenever it has started, and a
reload brings it up to date: so what a running engine knows can be compared with what it should know, whatever happened
to the run that changed it.
"""

from __future__ import annotations

import base64
import dataclasses
import ipaddress
import json
import re
import typing as t

from .change import Change
from .problems import Problem, SlipwayError
from .state import Directory, File, HostState, SeenState, SeenUnit, Unit, plan_state, resolve

UNIT = "docker.service"
CONFIG_DIRECTORY = "/etc/docker"
CONFIG = f"{CONFIG_DIRECTORY}/daemon.json"
CERTIFICATES = f"{CONFIG_DIRECTORY}/certs.d"
LOADED = "/run/slipway-docker.json"
DROP_IN_DIRECTORY = "/etc/systemd/system/docker.service.d"
DROP_IN = f"{DROP_IN_DIRECTORY}/50-slipway.conf"
GROUP = "docker"
LOGIN = "/root/.docker/config.json"
CONTAINERD_UNIT = "/etc/systemd/system/containerd.service"
KUBELET_UNIT = "kubelet.service"
POOL_SIZE = 24
DEFAULT_POOLS = ({"base": "172.17.0.0/16", "size": POOL_SIZE},)
"""Where Docker's own bridge is anyway; without pools of its own it would take 172.17 to 172.31 and 192.168 as well."""
DOCKER_HUB = ("docker.io", "https://index.docker.io/v1/")
RELOADABLE = frozenset(
    {
        "debug",
        "default-runtime",
        "features",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    }
)
RESERVED = {
    "data-root": "set data_root",
    "default-address-pools": "set address_pools",
    "hosts": "leave it out: the unit listens on its socket; from elsewhere use a context over SSH",
    "live-restore": "set live_restore",
    "log-driver": "leave it out for json-file, which is rotated",
    "log-opts": "set log_max_size_mib and log_max_files",
    "registry-mirrors": "set registry_mirrors",
}
_PACKAGES = {
    ("debian", "12"): ("docker.io", "docker-compose"),
    ("debian", "13"): ("docker.io", "docker-cli", "docker-buildx", "docker-compose"),
    ("ubuntu", "24.04"): ("docker.io", "docker-buildx", "docker-compose-v2"),
}
MARK = "# Written by Slipway; it goes with the registry.\n"
"""The first line of an authority that a run has put there."""
_FOREIGN = ("docker-ce", "docker-ce-cli", "moby-engine")
_DROP_IN_TEXT = f"""\
# Written by Slipway; changes made here are undone by its next run.
# What the engine was started with stays there for as long as it runs.
[Service]
ExecStartPost=/bin/cp {CONFIG} {LOADED}
"""


@dataclasses.dataclass(frozen=True)
class Login:
    """User and password with which root is logged in to a registry."""

    username: str
    password: str = dataclasses.field(repr=False)

    @property
    def auth(self) -> str:
        """As config.json has it."""
        return base64.b64encode(f"{self.username}:{self.password}".encode()).decode("ascii")


@dataclasses.dataclass(frozen=True)
class DockerWant:
    """What the host should be.

    ``packages`` None: those of the distribution; empty: the engine is there already. ``users`` None: nobody's
    membership is touched. ``registries`` maps HOST[:PORT] to the CA (PEM) its certificate is checked against; an empty
    CA is one that is not known yet. With ``forget``, registries that an earlier run put there and that are not among
    them go. ``avoid`` are networks (CIDR) that no address pool may touch.
    """

    packages: t.Optional[tuple[str, ...]] = None
    data_root: str = "/var/lib/docker"
    log_max_size_mib: int = 50
    log_max_files: int = 5
    live_restore: bool = True
    registry_mirrors: tuple[str, ...] = ()
    address_pools: tuple[t.Mapping[str, t.Any], ...] = DEFAULT_POOLS
    settings: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    users: t.Optional[tuple[str, ...]] = None
    images: tuple[str, ...] = ()
    registries: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    logins: t.Mapping[str, Login] = dataclasses.field(default_factory=dict)
    avoid: tuple[str, ...] = ()
    forget: bool = False

    @classmethod
    def from_params(cls, params: t.Mapping[str, t.Any]) -> DockerWant:
        """The module's parameters; SlipwayError with everything that is wrong in them."""
        given = {key: value for key, value in params.items() if value is not None and key != "credentials"}
        for key, value in given.items():
            given[key] = tuple(value) if isinstance(value, list) else value
        if "address_pools" in given:
            given["address_pools"] = tuple(
                {**pool, "size": POOL_SIZE} if pool.get("size") is None else pool for pool in given["address_pools"]
            )
        problems: list[Problem] = []
        logins = {}
        for host, pair in sorted((params.get("credentials") or {}).items()):
            if not isinstance(pair, dict) or set(pair) != {"username", "password"}:
                problems.append(Problem(f"credentials {host}", "is not shown", "a username and a password"))
            else:
                logins[str(host)] = Login(str(pair["username"]), str(pair["password"]))
        want = cls(**given, logins=logins)
        problems += check_docker(want)
        if problems:
            raise SlipwayError(problems)
        return want

    @property
    def pools(self) -> tuple[tuple[ipaddress.IPv4Network, int], ...]:
        """The address pools as networks with the prefix of each part; only after ``check_docker``."""
        return tuple((ipaddress.IPv4Network(str(pool["base"])), int(pool["size"])) for pool in self.address_pools)


@dataclasses.dataclass(frozen=True)
class DockerSeen:
    """What the host is.

    ``loaded`` is what the running engine has read, None if that is not known. ``networks`` are routes (CIDR and
    interface) that are not Docker's own. ``members`` None: there is no group. ``known`` are the users that exist.
    ``containerd_unit`` is an administrator's unit of that name, ``node`` whether a kubelet is installed. ``auths`` has
    root's logins, ``given`` the registries whose authority Slipway put there. ``root_in_use`` is the engine's data
    root, if it has containers there.
    """

    state: SeenState = SeenState()
    system: tuple[str, str] = ("", "")
    installed: frozenset[str] = frozenset()
    apparmor: bool = False
    loaded: t.Optional[t.Mapping[str, t.Any]] = None
    networks: tuple[tuple[str, str], ...] = ()
    members: t.Optional[frozenset[str]] = None
    known: frozenset[str] = frozenset()
    images: frozenset[str] = frozenset()
    containerd_unit: str = ""
    node: bool = False
    auths: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    given: frozenset[str] = frozenset()
    root_in_use: str = ""


def check_docker(want: DockerWant) -> list[Problem]:
    """Everything that is wrong in a target by itself, before the host is looked at."""
    problems = [
        Problem(f"settings.{key}", "is not for daemon.json as it is", "other keys of daemon.json", RESERVED[key])
        for key in sorted(set(want.settings) & set(RESERVED))
    ]
    problems += [problem for pool in want.address_pools for problem in _pool_problems(pool)]
    problems += [
        Problem("registry_mirrors", f"{url} is not a URL", "https://HOST[:PORT]")
        for url in want.registry_mirrors
        if not re.match(r"https?://[^/\s]+", url)
    ]
    names = {**want.registries, **dict.fromkeys(want.logins, "")}
    problems += [
        Problem("registries", f"{host} is no registry", "HOST or HOST:PORT as in image names")
        for host in sorted(names)
        if not re.fullmatch(r"[A-Za-z0-9.-]+(:[0-9]+)?", host)
    ]
    problems += [
        Problem("avoid", f"{network} is not a network", "an IPv4 or IPv6 network in CIDR notation")
        for network in want.avoid
        if not _is_network(network)
    ]
    if not want.data_root.startswith("/"):
        problems.append(Problem("data_root", want.data_root, "an absolute path"))
    if not problems:
        problems += _overlaps(want, [(network, "avoid") for network in want.avoid])
    return problems


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _pool_problems(pool: t.Mapping[str, t.Any]) -> t.Iterator[Problem]:
    try:
        base, size = ipaddress.IPv4Network(str(pool["base"])), int(pool["size"])
    except (KeyError, ValueError, TypeError) as error:
        yield Problem("address_pools", f"{dict(pool)}: {error}", "a base (IPv4 network) and a size (prefix length)")
        return
    if not base.prefixlen <= size <= 29:
        yield Problem("address_pools", f"size {size} with base {base}", f"a prefix length of {base.prefixlen} to 29")


def _overlaps(want: DockerWant, networks: t.Iterable[tuple[str, str]]) -> list[Problem]:
    """Pools that share addresses with other networks, each with where that network comes from."""
    problems = []
    for text, origin in networks:
        other = ipaddress.ip_network(text, strict=False)
        problems += [
            Problem(
                f"address pool {base}",
                f"overlaps {other}, a network of the cluster" if origin == "avoid" else f"overlaps {other} on {origin}",
                "addresses that lead nowhere else",
                "choose another base in address_pools",
            )
            for base, _size in want.pools
            if other.version == 4 and base.overlaps(other)
        ]
    return problems


def packages_of(want: DockerWant, seen: DockerSeen) -> tuple[str, ...]:
    """The packages the host should have; SlipwayError where the distribution's are not known."""
    if want.packages is not None:
        return want.packages
    names = _PACKAGES.get(seen.system)
    if names is None:
        known = ", ".join(" ".join(system) for system in sorted(_PACKAGES))
        raise SlipwayError(
            Problem(
                "packages",
                f"Docker's packages are not known for {' '.join(seen.system).strip() or 'this system'}",
                known,
                "name them, or install Docker and set packages to []",
            )
        )
    return (*names, "ca-certificates", *(("apparmor",) if seen.apparmor else ()))


def daemon_json(want: DockerWant) -> str:
    """/etc/docker/daemon.json."""
    own: dict[str, t.Any] = {
        "data-root": want.data_root,
        "default-address-pools": [dict(pool) for pool in want.address_pools],
        "live-restore": want.live_restore,
        "log-driver": "json-file",
        "log-opts": {"max-file": str(want.log_max_files), "max-size": f"{want.log_max_size_mib}m"},
    }
    if want.registry_mirrors:
        own["registry-mirrors"] = list(want.registry_mirrors)
    return json.dumps({**own, **want.settings}, indent=2, sort_keys=True) + "\n"


def docker_target(want: DockerWant) -> HostState:
    """Files of the host, and the engine's unit without its restarts, which ``plan_engine`` decides."""
    directories = [Directory(CONFIG_DIRECTORY), Directory(DROP_IN_DIRECTORY)]
    files = [File(CONFIG, daemon_json(want)), File(DROP_IN, _DROP_IN_TEXT)]
    if want.registries:
        directories.append(Directory(CERTIFICATES))
    for host, authority in sorted(want.registries.items()):
        directories.append(Directory(f"{CERTIFICATES}/{host}"))
        # dockerd reads these for each connection.
        files.append(File(authority_of(host), _authority(authority)))
    return HostState(directories=tuple(directories), files=tuple(files))


def _authority(text: str) -> str:
    return MARK + ("@@registry-ca@@" if not text else text.rstrip("\n") + "\n")


def plan_docker(want: DockerWant, seen: DockerSeen) -> list[Change]:
    """The steps, in the order in which they can be carried out; SlipwayError with everything that is in the way."""
    wanted = packages_of(want, seen)
    problems = [*_foreign(wanted, seen), *_overlaps(want, seen.networks), *_unknown_users(want, seen)]
    problems += _moved_root(want, seen)
    if problems:
        raise SlipwayError(problems)
    # Files come first: the package starts the engine, and so it starts with them.
    changes = plan_state(resolve(docker_target(want), {}), seen.state)
    missing = sorted(set(wanted) - seen.installed)
    if missing:
        changes.append(Change(f"install packages {', '.join(missing)}", data=("packages", missing)))
    changes += _plan_members(want, seen)
    changes += plan_engine(want, seen)
    changes += [*_plan_logins(want, seen), *_plan_forgotten(want, seen)]
    changes += [
        Change(f"pull image {image}", data=("pull", image)) for image in want.images if image not in seen.images
    ]
    return changes


def _foreign(wanted: t.Sequence[str], seen: DockerSeen) -> t.Iterator[Problem]:
    """A containerd or a Docker that somebody else put there."""
    if "/opt/slipway/" in seen.containerd_unit or seen.node:
        yield Problem(
            "containerd.service",
            "runs the containers of a cluster node, and Docker's packages bring a containerd of their own",
            "a host without a kubelet",
            "use another host for Docker; on a node, images are built elsewhere and pulled from a registry",
        )
    elif seen.containerd_unit and set(wanted) - seen.installed:
        yield Problem(
            CONTAINERD_UNIT,
            "somebody's own unit runs a containerd here, and the distribution's would take its place",
            "no such unit, or a Docker that is there already",
            f"remove {CONTAINERD_UNIT}, or install Docker by hand and set packages to []",
        )
    others = sorted(seen.installed & set(_FOREIGN))
    if others and set(wanted) - seen.installed:
        yield Problem(
            "packages",
            f"{', '.join(others)} is installed, which the distribution's Docker conflicts with",
            "one Docker",
            "set packages to [] to keep it, or remove it",
        )


def _unknown_users(want: DockerWant, seen: DockerSeen) -> list[Problem]:
    return [
        Problem(f"users {name}", "does not exist on this host", "a user", "make it first, or take it off the list")
        for name in want.users or ()
        if name not in seen.known
    ]


def _moved_root(want: DockerWant, seen: DockerSeen) -> t.Iterator[Problem]:
    if seen.root_in_use and seen.root_in_use != want.data_root:
        yield Problem(
            "data_root",
            f"the engine has containers in {seen.root_in_use}, and would start without them in {want.data_root}",
            "the same data root for as long as there are containers",
            "remove the containers, or stop Docker and move the directory",
        )


def _plan_members(want: DockerWant, seen: DockerSeen) -> list[Change]:
    if want.users is None:
        return []
    present, wanted = seen.members or frozenset(), frozenset(want.users)
    changes = [Change(f"add {name} to group {GROUP}", data=("join", name)) for name in sorted(wanted - present)]
    changes += [Change(f"remove {name} from group {GROUP}", data=("leave", name)) for name in sorted(present - wanted)]
    return changes


def plan_engine(want: DockerWant, seen: DockerSeen) -> list[Change]:
    """What the engine's unit needs: enabled, running, and with the settings that are wanted in its memory.

    An engine that is running with live-restore keeps its containers through a restart; one that does not know of it
    yet is told by a reload first.
    """
    unit = Unit(UNIT)
    found = seen.state.units.get(UNIT, SeenUnit())
    changes = [] if found.enabled else [Change(f"enable {UNIT}", data=("enable", unit))]
    if found.active not in ("active", "activating", "reloading"):
        return [*changes, Change(f"start {UNIT}", data=("start", unit))]
    reload_, restart = _effect(json.loads(daemon_json(want)), seen.loaded)
    if reload_:
        changes.append(Change(f"reload {UNIT}", data=("reload", unit)))
    if restart:
        changes.append(Change(f"restart {UNIT}", data=("restart", unit)))
    return changes


def _effect(wanted: t.Mapping[str, t.Any], loaded: t.Optional[t.Mapping[str, t.Any]]) -> tuple[bool, bool]:
    """Whether the engine must reload, and whether it must restart."""
    if loaded is None:
        return bool(wanted.get("live-restore")), True
    different = {key for key in {*wanted, *loaded} if wanted.get(key) != loaded.get(key)}
    restart = bool(different - RELOADABLE)
    return "live-restore" in different if restart else bool(different), restart


def after_reload(config: t.Mapping[str, t.Any], loaded: t.Mapping[str, t.Any]) -> str:
    """What a running engine knows once it has been told to read ``config`` again."""
    kept = {key: value for key, value in loaded.items() if key not in RELOADABLE}
    return json.dumps({**kept, **{key: value for key, value in config.items() if key in RELOADABLE}}) + "\n"


def _plan_logins(want: DockerWant, seen: DockerSeen) -> list[Change]:
    return [
        Change(f"log root in to {host}", secret=True, data=("login", (auth_key(host), login.auth)))
        for host, login in sorted(want.logins.items())
        if seen.auths.get(auth_key(host)) != login.auth
    ]


def _plan_forgotten(want: DockerWant, seen: DockerSeen) -> list[Change]:
    """What goes of registries that are no more; the authority last, for its mark tells that they were ours."""
    changes = []
    for host in sorted(seen.given - set(want.registries)) if want.forget else ():
        if auth_key(host) in seen.auths and host not in want.logins:
            changes.append(Change(f"log root out of {host}", data=("logout", auth_key(host))))
        changes.append(Change(f"remove {authority_of(host)}", data=("forget", host)))
    return changes


def authority_of(host: str) -> str:
    """Where a registry's authority lies."""
    return f"{CERTIFICATES}/{host}/ca.crt"


def auth_key(host: str) -> str:
    """Under which name config.json keeps a registry's login."""
    return DOCKER_HUB[1] if host == DOCKER_HUB[0] else host


def parse_auths(text: t.Optional[str]) -> dict[str, str]:
    """The logins in a config.json; none where it cannot be read as one."""
    document = parse_json(text)
    auths = (document or {}).get("auths")
    entries = auths.items() if isinstance(auths, dict) else ()
    return {str(host): str(entry.get("auth", "")) for host, entry in entries if isinstance(entry, dict)}


def with_login(text: t.Optional[str], key: str, auth: t.Optional[str]) -> str:
    """A config.json with one more login, or without it if ``auth`` is None; everything else in it stays.

    SlipwayError if it is no JSON object.
    """
    document = parse_json(text) if text and text.strip() else {}
    if document is None:
        raise SlipwayError(Problem(LOGIN, "is not a JSON object", "the file that docker login writes", "mend it"))
    auths = document.get("auths")
    merged = {**(auths if isinstance(auths, dict) else {}), key: {"auth": auth}}
    if auth is None:
        del merged[key]
    return json.dumps({**document, "auths": merged}, indent=2) + "\n"


def parse_json(text: t.Optional[str]) -> t.Optional[dict[str, t.Any]]:
    """A JSON object, or None where there is none."""
    try:
        document = json.loads(text or "")
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def foreign_networks(routes: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[tuple[str, str], ...]:
    """Networks and their interfaces out of ``ip -j -4 route``, without the default route and Docker's own bridges."""
    found = []
    for route in routes:
        target, device = str(route.get("dst", "default")), str(route.get("dev", ""))
        if target != "default" and not re.fullmatch(r"docker0|docker_gwbridge|br-[0-9a-f]{12}|veth\w+", device):
            found.append((target if "/" in target else f"{target}/32", device or "another host"))
    return tuple(found)
