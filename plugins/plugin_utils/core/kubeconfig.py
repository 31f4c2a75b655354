# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kubeconfig of a person: what stands in it, and whether the one that is there still serves."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
import typing as t

import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.x509 import (
    CertificateFacts,
    parse_certificate,
    pem_blocks,
)

PREFIX = "slipway:"
"""Of every user name that Slipway gives to a person, so that none of them can be a component's."""

LEFT = 1 / 3
"""A certificate with less of its life left is replaced."""

_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,47}")


@dataclasses.dataclass(frozen=True)
class Access:
    """What a kubeconfig shall give: ``user`` of the ``cluster`` at ``server`` (URL), trusting ``authority`` (PEM)."""

    cluster: str
    server: str
    authority: str
    user: str


def user_name(person: str) -> str:
    """The Kubernetes user of a person; SlipwayError if the name does not fit into a certificate."""
    if not _PERSON.fullmatch(person):
        raise SlipwayError(
            Problem("user", repr(person), "1 to 48 letters, digits and . _ @ -, a letter or digit first", "set user")
        )
    return PREFIX + person


def render(access: Access, certificate: str, key: str) -> str:
    """The kubeconfig with everything embedded; ``certificate`` and ``key`` in PEM."""
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": access.cluster,
                    "cluster": {"server": access.server, "certificate-authority-data": _encode(access.authority)},
                }
            ],
            "users": [
                {
                    "name": access.user,
                    "user": {"client-certificate-data": _encode(certificate), "client-key-data": _encode(key)},
                }
            ],
            "contexts": [
                {"name": access.cluster, "context": {"cluster": access.cluster, "user": access.user}},
            ],
            "current-context": access.cluster,
        },
        sort_keys=False,
    )


def lacks(text: str, access: Access, *, now: float, where: str) -> str:
    """Why the kubeconfig has to be written anew, or an empty text.

    SlipwayError if it is somebody else's: what another tool or a person has put together is not overwritten.
    """
    held = _parse(text)
    if held is None:
        raise SlipwayError(
            Problem(
                where,
                "is no kubeconfig that Slipway has written",
                "one of Slipway's, or no such file",
                "choose another place with --output, or move the file away",
            )
        )
    cluster, user = held
    if cluster.get("server") != access.server:
        return f"it is for {cluster.get('server')}"
    if _decode(cluster.get("certificate-authority-data")).strip() != access.authority.strip():
        return "it trusts the authority of another cluster"
    certificate = _certificate(_decode(user.get("client-certificate-data")))
    if certificate is None or certificate.names.common_name != access.user:
        return "it is another user's"
    life = certificate.not_after - certificate.not_before
    return "its certificate is near its end" if certificate.not_after - now < life * LEFT else ""


def _parse(text: str) -> tuple[dict[str, t.Any], dict[str, t.Any]] | None:
    """The one cluster and the one user of a kubeconfig of ours."""
    try:
        data = yaml.safe_load(text)
        (cluster,), (user,), (_context,) = data["clusters"], data["users"], data["contexts"]
        if not str(user["name"]).startswith(PREFIX):
            return None
        return dict(cluster["cluster"]), dict(user["user"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def _certificate(text: str) -> CertificateFacts | None:
    try:
        return next((parse_certificate(der) for label, der in pem_blocks(text) if label == "CERTIFICATE"), None)
    except (ValueError, IndexError):
        return None


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decode(data: t.Any) -> str:
    try:
        return base64.b64decode(str(data or ""), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
