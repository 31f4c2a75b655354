# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host with containerd holds: its configuration, its registries, its units, and the images it must have.

Key names are those of configuration version 3 (containerd 2.0 and later; 2.3 migrates it in memory), from containerd's
docs/cri/config.md and docs/hosts.md. hosts.toml files are read for each pull, so they restart nothing.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import typing as t

from .artifacts import BLOB_LABEL, BLOBS, ROOT
from .change import Change
from .problems import Problem, SlipwayError
from .state import DIGEST_VARIABLE, Absent, Directory, File, HostState, Unit, digest_of

MARKER = "# Written by Slipway; changes made here are undone by its next run.\n"
CONFIG_PATH = "/etc/containerd/config.toml"
REGISTRIES_PATH = "/etc/containerd/certs.d"
UNIT_NAME = "containerd.service"
SCOPE_DIRECTORY = "/etc/systemd/system/cri-containerd-.scope.d"
"""Settings of every container's scope: systemd reads a directory named by the prefix of the scopes' names."""
SOCKET = "/run/containerd/containerd.sock"
NAMESPACE = "k8s.io"
PINNED_LABEL = "io.cri-containerd.pinned"
CTR = f"{ROOT}/containerd/current/ctr"
_RUNC_TYPE = "io.containerd.runc.v2"
_RUNC = f"{ROOT}/runc/current/runc"
_PATH = f"{ROOT}/containerd/current:{ROOT}/runc/current:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_DOCKER_HUB = "registry-1.docker.io"
_SCOPE_SETTINGS = (
    MARKER
    + """\
# A container whose first process handles no SIGTERM would hold up the host's shutdown for 90 s. The kubelet's graceful
# shutdown, where logind lets it, has ended pods in their own time before systemd stops what is left.
[Scope]
TimeoutStopSec=20
"""
)
_CAPABILITIES = ("pull", "resolve", "push")
_HANDLER = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Registry:
    """How images of one registry host are pulled.

    ``host`` is what stands in image names (``docker.io``, ``registry.example:5000``) or ``_default``. ``mirrors`` are
    URLs tried in order before ``server`` (default: the registry itself). ``ca`` is a path on the host or a PEM text; it
    and ``skip_verify`` hold for the mirrors and the server. ``override_path``: the URLs contain the API's root.
    """

    host: str
    server: str = ""
    mirrors: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ("pull", "resolve")
    ca: str = ""
    skip_verify: bool = False
    override_path: bool = False


@dataclasses.dataclass(frozen=True)
class Credential:
    """User and password of a registry or mirror, by the host (and port) of its URL; ``docker.io`` for Docker Hub."""

    host: str
    username: str
    password: str = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Image:
    """An image to import from the archive in BLOBS of that sha256; it is pinned, for nothing can pull it again."""

    reference: str
    sha256: str

    @property
    def blob(self) -> str:
        """Where the archive lies."""
        return f"{BLOBS}/{self.sha256}"


@dataclasses.dataclass(frozen=True)
class ContainerdWant:
    """What one host's containerd should be.

    ``version`` stands for the binaries of containerd and runc: another one restarts containerd (running containers go
    on). ``restrict_oom_score_adj`` is for hosts that may not lower an oom_score_adj, such as containers.
    ``runtime_handlers`` are further runtimes, by the name a RuntimeClass uses, each containerd's table of it.
    ``cni_template`` is the path of a CNI configuration containerd fills with the node's pod CIDR, told by the kubelet.
    """

    version: str = ""
    sandbox_image: str = ""
    systemd_cgroup: bool = True
    restrict_oom_score_adj: bool = False
    snapshotter: str = "overlayfs"
    runtime_handlers: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    registries: tuple[Registry, ...] = ()
    credentials: tuple[Credential, ...] = ()
    images: tuple[Image, ...] = ()
    cni_bin_dirs: tuple[str, ...] = (f"{ROOT}/cni-plugins/current",)
    cni_template: str = ""
    keep_blobs: bool = False

    def to_data(self) -> dict[str, t.Any]:
        """The module's parameters from which ``from_data`` makes the same target."""
        data = dataclasses.asdict(self)
        data["credentials"] = {
            item.host: {"username": item.username, "password": item.password} for item in self.credentials
        }
        return t.cast("dict[str, t.Any]", json.loads(json.dumps(data)))

    @classmethod
    def from_data(cls, data: t.Mapping[str, t.Any]) -> ContainerdWant:
        """The target the module's parameters describe; SlipwayError with everything that is wrong in them."""
        given = {key: value for key, value in data.items() if value is not None and value != ""}
        credentials = sorted(given.get("credentials", {}).items())
        names = {field.name for field in dataclasses.fields(cls)}
        scalars = {key: given[key] for key in _SCALARS if key in given}
        want = cls(
            runtime_handlers=dict(given.get("runtime_handlers", {})),
            registries=tuple(_build(Registry, item) for item in given.get("registries", ())),
            credentials=tuple(_build(Credential, {"host": host, **item}) for host, item in credentials),
            images=tuple(_build(Image, item) for item in given.get("images", ())),
            cni_bin_dirs=tuple(given.get("cni_bin_dirs", cls.cni_bin_dirs)),
            **scalars,
        )
        problems = check_containerd(want)
        problems += [Problem("containerd", f"unknown setting {key}") for key in sorted(set(given) - names)]
        if problems:
            raise SlipwayError(problems)
        return want


_SCALARS = (
    "version",
    "sandbox_image",
    "systemd_cgroup",
    "restrict_oom_score_adj",
    "snapshotter",
    "cni_template",
    "keep_blobs",
)


def _build(kind: t.Callable[..., t.Any], item: t.Mapping[str, t.Any]) -> t.Any:
    values = {
        key: tuple(value) if isinstance(value, list) else value for key, value in item.items() if value is not None
    }
    try:
        return kind(**values)
    except TypeError as error:
        raise SlipwayError(Problem("containerd", str(error), "the fields the module documents")) from error


def check_containerd(want: ContainerdWant) -> list[Problem]:
    """Everything that is wrong in a target, before any host is touched."""
    problems = [problem for registry in want.registries for problem in _check_registry(registry)]
    hosts = [registry.host for registry in want.registries]
    problems += [
        Problem(f"registry {host}", "is configured twice", "one entry with all its mirrors")
        for host in sorted(set(hosts))
        if hosts.count(host) > 1
    ]
    known = {_authority(url) for registry in want.registries for url in (*registry.mirrors, _server(registry))}
    problems += [
        Problem(
            f"credentials {credential.host}",
            "no registry or mirror of this host is configured",
            "one of " + ", ".join(sorted(known)) if known else "an entry in registries",
        )
        for credential in want.credentials
        if credential.host not in known
    ]
    problems += [
        Problem(f"runtime handler {name}", "is not a name a RuntimeClass can use", "a-z, 0-9 and -, not runc")
        for name in sorted(want.runtime_handlers)
        if not _HANDLER.fullmatch(name) or name == "runc"
    ]
    problems += [
        Problem(f"runtime handler {name}", "has no runtime_type", "such as io.containerd.runc.v2")
        for name, table in sorted(want.runtime_handlers.items())
        if not table.get("runtime_type")
    ]
    return problems


def _check_registry(registry: Registry) -> t.Iterator[Problem]:
    where = f"registry {registry.host}"
    if not registry.host or "/" in registry.host or registry.host.startswith("."):
        yield Problem(where, "is not a registry host", "a host with an optional port as in image names, or _default")
    for url in (*registry.mirrors, *([registry.server] if registry.server else [])):
        if not re.match(r"https?://[^/\s]+", url):
            yield Problem(where, f"{url} is not a URL", "https://HOST[:PORT][/PATH]")
    for capability in registry.capabilities:
        if capability not in _CAPABILITIES:
            yield Problem(where, f"unknown capability {capability}", "one of " + ", ".join(_CAPABILITIES))
    if registry.host == "_default" and not (registry.mirrors or registry.server):
        yield Problem(where, "has neither mirrors nor a server", "at least one of them")


def containerd_target(want: ContainerdWant) -> HostState:
    """The files and units of a host whose containerd is ``want``."""
    config = config_toml(want)
    bare_unit = _unit(want, "")
    digest = digest_of(config, bare_unit, want.version)
    registries = [item for registry in want.registries for item in _registry_files(registry, want.credentials)]
    directories = [Directory("/etc/containerd"), Directory(REGISTRIES_PATH), Directory("/etc/cni/net.d")]
    directories += [Directory(SCOPE_DIRECTORY)]
    directories += [Directory(_registry_directory(registry.host)) for registry in want.registries]
    return HostState(
        directories=tuple(directories),
        files=(
            File(CONFIG_PATH, config),
            *registries,
            File("/etc/crictl.yaml", f"runtime-endpoint: unix://{SOCKET}\nimage-endpoint: unix://{SOCKET}\n"),
            File(f"/etc/systemd/system/{UNIT_NAME}", _unit(want, digest)),
            File(f"{SCOPE_DIRECTORY}/50-slipway.conf", _SCOPE_SETTINGS),
        ),
        units=(Unit(UNIT_NAME, digest=digest),),
    )


def plan_images(want: t.Iterable[Image], seen: t.Mapping[str, str]) -> list[Change]:
    """Imports of images that are missing or came from another archive; ``seen`` maps references to archives' sha256."""
    return [
        Change(f"import image {image.reference}", data=image)
        for image in want
        if seen.get(image.reference) != image.sha256
    ]


def plan_registries(want: ContainerdWant, seen: t.Iterable[str]) -> list[Change]:
    """Removal of the configuration of registries, ``seen`` on the host as Slipway's, that are no longer wanted."""
    wanted = {registry.host for registry in want.registries}
    return [
        Change(f"remove registry {host}", data=Absent(_registry_directory(host))) for host in sorted(set(seen) - wanted)
    ]


def image_labels(image: Image) -> dict[str, str]:
    """The labels an imported image has: where it came from, and that the kubelet's collector shall keep it."""
    return {BLOB_LABEL: image.sha256, PINNED_LABEL: "pinned"}


def parse_images(listing: str) -> dict[str, str]:
    """References with the sha256 of the archive they came from ("" if pulled), from ``ctr images ls``.

    Its columns are REF TYPE DIGEST SIZE PLATFORMS LABELS, the labels joined by commas.
    """
    seen = {}
    for line in listing.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 3 or not fields[2].startswith("sha256:"):
            continue
        match = re.search(r"(?:^|[\s,])" + re.escape(BLOB_LABEL) + r"=([0-9a-f]{64})(?:$|[\s,])", line)
        seen[fields[0]] = match.group(1) if match else ""
    return seen


def config_toml(want: ContainerdWant) -> str:
    """/etc/containerd/config.toml."""
    images: dict[str, t.Any] = {"snapshotter": want.snapshotter, "registry": {"config_path": REGISTRIES_PATH}}
    if want.sandbox_image:
        images["pinned_images"] = {"sandbox": want.sandbox_image}
    handlers = {"runc": {"runtime_type": _RUNC_TYPE, "options": {"BinaryName": _RUNC}}, **want.runtime_handlers}
    runtimes = {name: _runtime(table, want) for name, table in handlers.items()}
    cni: dict[str, t.Any] = {"bin_dirs": list(want.cni_bin_dirs), "conf_dir": "/etc/cni/net.d"}
    if want.cni_template:
        cni["conf_template"] = want.cni_template
    runtime = {
        "restrict_oom_score_adj": want.restrict_oom_score_adj,
        "containerd": {"default_runtime_name": "runc", "runtimes": runtimes},
        "cni": cni,
    }
    plugins = {"io.containerd.cri.v1.images": images, "io.containerd.cri.v1.runtime": runtime}
    return MARKER + toml({"version": 3, "plugins": plugins})


def _runtime(table: t.Mapping[str, t.Any], want: ContainerdWant) -> dict[str, t.Any]:
    """A runtime's table; runc and its kin get the cgroup driver that all must share."""
    if table["runtime_type"] != _RUNC_TYPE:
        return dict(table)
    return {**table, "options": {"SystemdCgroup": want.systemd_cgroup, **table.get("options", {})}}


def _registry_directory(host: str) -> str:
    return f"{REGISTRIES_PATH}/{host}"


def _registry_files(registry: Registry, credentials: t.Sequence[Credential]) -> list[File]:
    directory = _registry_directory(registry.host)
    files = []
    ca = registry.ca
    if "-----BEGIN" in ca:
        files.append(File(f"{directory}/ca.crt", ca if ca.endswith("\n") else ca + "\n"))
        ca = f"{directory}/ca.crt"
    text, secret = hosts_toml(dataclasses.replace(registry, ca=ca), credentials)
    files.append(File(f"{directory}/hosts.toml", text, mode="0600" if secret else "0644", secret=secret))
    return files


def hosts_toml(registry: Registry, credentials: t.Sequence[Credential]) -> tuple[str, bool]:
    """A registry's hosts.toml, and whether it holds a secret. ``registry.ca`` is a path here."""
    passwords = {credential.host: _basic(credential) for credential in credentials}

    def settings(url: str) -> dict[str, t.Any]:
        found: dict[str, t.Any] = {"capabilities": list(registry.capabilities)}
        if registry.ca:
            found["ca"] = registry.ca
        if registry.skip_verify:
            found["skip_verify"] = True
        if registry.override_path:
            found["override_path"] = True
        if _authority(url) in passwords:
            found["header"] = {"Authorization": passwords[_authority(url)]}
        return found

    server = _server(registry)
    document: dict[str, t.Any] = {"server": server} if server else {}
    if server:
        extra = settings(server)
        if not registry.server:
            extra.pop("capabilities")
        document.update(extra)
    if registry.mirrors:
        document["host"] = {url: settings(url) for url in registry.mirrors}
    used = {_authority(url) for url in (*registry.mirrors, server)}
    return MARKER + toml(document), bool(used & set(passwords))


def _server(registry: Registry) -> str:
    if registry.server or registry.host == "_default":
        return registry.server
    return f"https://{_DOCKER_HUB}" if registry.host == "docker.io" else f"https://{registry.host}"


def _authority(url: str) -> str:
    authority = re.sub(r"^[a-z]+://", "", url).split("/", 1)[0]
    return "docker.io" if authority == _DOCKER_HUB else authority


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return "Basic " + base64.b64encode(pair).decode("ascii")


def toml(document: t.Mapping[str, t.Any]) -> str:
    """A document of strings, numbers, booleans, lists of them, and tables, as TOML."""
    return "\n".join(_table((), document)).strip() + "\n"


def _table(path: tuple[str, ...], table: t.Mapping[str, t.Any]) -> list[str]:
    values = {key: value for key, value in table.items() if not isinstance(value, dict)}
    lines = []
    if path and (values or not table):
        lines += ["", "[" + ".".join(_key(part) for part in path) + "]"]
    lines += [f"{_key(key)} = {_value(value)}" for key, value in values.items()]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += _table((*path, key), value)
    return lines


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: t.Any) -> str:
    """A scalar or a list; JSON's strings, with DEL escaped, are TOML's basic strings."""
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _unit(want: ContainerdWant, digest: str) -> str:
    """The unit that containerd ships, with our paths.

    KillMode=process and Delegate=yes leave shims, and so containers, running while containerd is stopped.
    """
    oom = "" if want.restrict_oom_score_adj else "OOMScoreAdjust=-999\n"
    return f"""\
{MARKER}[Unit]
Description=containerd container runtime
Documentation=https://containerd.io
After=network.target dbus.service local-fs.target
StartLimitIntervalSec=0

[Service]
Type=notify
Environment=PATH={_PATH}
Environment={DIGEST_VARIABLE}={digest}
ExecStartPre=-/sbin/modprobe overlay
ExecStart={ROOT}/containerd/current/containerd --config {CONFIG_PATH}
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
TimeoutStartSec=300
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
{oom}
[Install]
WantedBy=multi-user.target
"""
