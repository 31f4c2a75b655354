# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's own registry: CNCF distribution as a unit, with a certificate of the cluster's CA and one user."""

from __future__ import annotations

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import Certificate
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    Absent,
    Directory,
    File,
    HostState,
    Unit,
)

from ..layout import Layout, Node
from . import paths
from .text import Service, to_yaml

COMPONENT = "registry"
UNIT = "slipway-registry.service"
USER = "slipway-registry"
ETC = "/etc/slipway-registry"
CONFIG = f"{ETC}/config.yml"
HTPASSWD = f"{ETC}/htpasswd"
CERTIFICATE = f"{ETC}/tls.crt"
KEY = f"{ETC}/tls.key"
AUTHORITY = f"{ETC}/ca.crt"
DATA = "/var/lib/slipway-registry"
SERVING = "/run/slipway-registry/serving.crt"
"""A copy of the certificate that the running process has read: it reads it once."""
PASSWORD_FILE = "registry-htpasswd"  # noqa: S105  # the placeholder's name


def names(layout: Layout) -> tuple[str, ...]:
    """How images name the registry: HOST:PORT by each host's address, and by the names it was given."""
    hosts = [member.address for member in layout.registries] + (
        list(layout.registry.names) if layout.registries else []
    )
    return tuple(f"{host}:{layout.registry.port}" for host in hosts)


def registry_certificate(layout: Layout, node: Node) -> Certificate:
    """The serving certificate of this host's registry."""
    return Certificate(
        name="registry",
        certificate=CERTIFICATE,
        key=KEY,
        authority="kubernetes",
        common_name=node.node_name,
        dns=tuple(dict.fromkeys([node.node_name, "localhost", *layout.registry.names])),
        addresses=(node.address, "127.0.0.1"),
        usages=("server",),
        days=layout.certificate_days,
        owner=USER,
        group=USER,
    )


def registry_target(layout: Layout) -> HostState:
    """Files and unit. The one user's line comes as a secret; the registry reads that file again when it changes."""
    config = to_yaml(_config(layout))
    service = Service(
        description="Slipway's registry of container images",
        command=(paths.program(COMPONENT), "serve", CONFIG),
        user=USER,
        lines=(
            "Environment=OTEL_TRACES_EXPORTER=none",
            f"ReadWritePaths={DATA}",
            "RuntimeDirectory=slipway-registry",
            f"ExecStartPost=/bin/cp {CERTIFICATE} {SERVING}",
        ),
        inputs=(config, layout.versions.get(COMPONENT, "")),
    )
    return HostState(
        directories=(Directory(DATA, "0700", USER, USER),),
        files=(
            File(AUTHORITY, "@@kubernetes-ca@@", owner=USER, group=USER),
            File(CONFIG, config, owner=USER, group=USER),
            File(HTPASSWD, f"@@{PASSWORD_FILE}@@\n", "0600", USER, USER, secret=True),
            File(paths.unit(UNIT), service.text()),
        ),
        units=(Unit(UNIT, service.digest),),
    )


def no_registry_target() -> HostState:
    """Where no registry is wanted, what an earlier run left goes: all but the images, and the user who owns them."""
    return HostState(absent=(Absent(ETC), Absent(paths.unit(UNIT))), units=(Unit(UNIT, enabled=False, running=False),))


def _config(layout: Layout) -> dict[str, t.Any]:
    """Its configuration (distribution 3: docs/content/about/configuration.md)."""
    return {
        "version": "0.1",
        "log": {"level": "info", "formatter": "text", "fields": {"service": "registry"}},
        "storage": {
            "filesystem": {"rootdirectory": DATA},
            "delete": {"enabled": True},
            "cache": {"blobdescriptor": "inmemory"},
        },
        "http": {
            "addr": f":{layout.registry.port}",
            "relativeurls": True,
            "headers": {"X-Content-Type-Options": ["nosniff"]},
            "tls": {"certificate": CERTIFICATE, "key": KEY, "minimumtls": "tls1.2"},
        },
        "auth": {"htpasswd": {"realm": "slipway", "path": HTPASSWD}},
        "health": {"storagedriver": {"enabled": True, "interval": "10s", "threshold": 3}},
    }


def registry_waits(layout: Layout) -> list[dict[str, t.Any]]:
    """It is up when it answers under its certificate."""
    return [{"what": "the registry", "url": f"https://127.0.0.1:{layout.registry.port}/", "ca": AUTHORITY}]
