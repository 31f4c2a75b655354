# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts that several components share: YAML documents, kubeconfigs, command lines and systemd units."""

from __future__ import annotations

import dataclasses
import re
import typing as t

import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.state import DIGEST_VARIABLE, digest_of

NOTICE = "# Written by Slipway; changed by the next apply.\n"

# What a control-plane process needs of the machine is a network and its own files.
SANDBOX = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictSUIDSGID=yes",
    "RestrictRealtime=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "LockPersonality=yes",
    "SystemCallArchitectures=native",
    "UMask=0077",
)


@dataclasses.dataclass(frozen=True)
class Service:
    """A systemd service; ``inputs`` are the texts of files whose change needs a restart."""

    description: str
    command: tuple[str, ...]
    type: str = "simple"
    user: str = ""
    after: tuple[str, ...] = ("network-online.target",)
    wants: tuple[str, ...] = ("network-online.target",)
    lines: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    restart: str = "always"
    start_timeout: int = 120
    stop_timeout: int = 20

    @property
    def digest(self) -> str:
        """Stands for everything the running process was started with."""
        return digest_of(self._text(""), *self.inputs)

    def text(self) -> str:
        """The unit file."""
        return self._text(self.digest)

    def _text(self, digest: str) -> str:
        user = [f"User={self.user}", f"Group={self.user}", *SANDBOX] if self.user else []
        command = " \\\n  ".join(word(text) for text in self.command)
        lines = [
            NOTICE.rstrip(),
            "[Unit]",
            f"Description={self.description}",
            *([f"After={' '.join(self.after)}"] if self.after else []),
            *([f"Wants={' '.join(self.wants)}"] if self.wants else []),
            "StartLimitIntervalSec=0",
            "",
            "[Service]",
            f"Type={self.type}",
            f"Environment={DIGEST_VARIABLE}={digest}",
            f"ExecStart={command}",
            *user,
            f"Restart={self.restart}",
            "RestartSec=1",
            f"TimeoutStartSec={self.start_timeout}",
            f"TimeoutStopSec={self.stop_timeout}",
            *self.lines,
            "",
            "[Install]",
            "WantedBy=multi-user.target",
        ]
        return "\n".join(lines) + "\n"


def word(text: str) -> str:
    """One argument of a command line as systemd.service(5) and systemd.syntax(7) read it."""
    literal = text.replace("%", "%%").replace("$", "$$")
    if literal and not re.search(r"[\s\"'\\;]", literal):
        return literal
    escaped = literal.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def to_yaml(document: t.Any) -> str:
    """A YAML document with a notice, in the order given."""
    return NOTICE + str(yaml.safe_dump(_plain(document), sort_keys=False, default_flow_style=False, width=4096))


def _plain(value: t.Any) -> t.Any:
    if isinstance(value, t.Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def flags(defaults: t.Mapping[str, t.Any], overrides: t.Mapping[str, t.Any]) -> tuple[str, ...]:
    """Command-line flags; the user's win, ``None`` drops a default, a list repeats the flag."""
    merged = {**defaults, **{key.removeprefix("--"): value for key, value in overrides.items()}}
    result: list[str] = []
    for name, value in merged.items():
        if value is None:
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            shown = str(item).lower() if isinstance(item, bool) else str(item)
            result.append(f"--{name}={shown}")
    return tuple(result)


def merge(defaults: t.Mapping[str, t.Any], overrides: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """``overrides`` over ``defaults``, mapping by mapping; ``None`` removes a key."""
    merged: dict[str, t.Any] = dict(defaults)
    for key, value in overrides.items():
        current = merged.get(key)
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, t.Mapping) and isinstance(current, t.Mapping):
            merged[key] = merge(current, value)
        else:
            merged[key] = value
    return merged


def kubeconfig(*, cluster: str, server: str, ca: str, user: str, certificate: str, key: str) -> str:
    """A kubeconfig that names certificate files, so that a rotated one is re-read."""
    return to_yaml(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority": ca}}],
            "users": [{"name": user, "user": {"client-certificate": certificate, "client-key": key}}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": user}}],
            "current-context": cluster,
        }
    )


def token_kubeconfig(*, cluster: str, server: str, ca: str, token: str) -> str:
    """A kubeconfig with a bootstrap token, for the kubelet's first request."""
    return to_yaml(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": cluster, "cluster": {"server": server, "certificate-authority": ca}}],
            "users": [{"name": "bootstrap", "user": {"token": token}}],
            "contexts": [{"name": cluster, "context": {"cluster": cluster, "user": "bootstrap"}}],
            "current-context": cluster,
        }
    )
