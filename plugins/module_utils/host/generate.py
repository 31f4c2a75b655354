# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Values of Secrets that are made on a control-plane host once: a self-signed certificate, a random key."""

from __future__ import annotations

import base64
import re
import secrets
import typing as t

from ..core.manifests import KubernetesObject, generated_fields
from ..core.problems import Problem, SlipwayError
from .machine import Machine

CERTIFICATE_DAYS = 3650
_PEM = re.compile(r"-----BEGIN ([A-Z ]+)-----.+?-----END \1-----\n", re.DOTALL)


def generate(machine: Machine, item: KubernetesObject) -> KubernetesObject:
    """The Secret with new values for what its annotation names; they are in no file and no argument of a program."""
    made: dict[str, t.Any] = {}
    if "tls.key" in generated_fields(item):
        made = self_signed(machine, item["metadata"]["name"])
    elif "secretkey" in generated_fields(item):
        made = {"secretkey": secrets.token_urlsafe(96).encode()}
    data = {key: base64.b64encode(value).decode() for key, value in made.items()}
    return {**item, "data": {**(item.get("data") or {}), **data}}


def self_signed(machine: Machine, name: str) -> dict[str, bytes]:
    """A certificate for one DNS name that vouches for itself, and its key, in PEM under the names of a TLS Secret."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    command += ["-days", str(CERTIFICATE_DAYS), "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    said = machine.run([*command, "-keyout", "/dev/stdout", "-out", "/dev/stdout"]).stdout
    found = {match.group(1): match.group(0).encode() for match in _PEM.finditer(said)}
    if set(found) != {"PRIVATE KEY", "CERTIFICATE"}:
        raise SlipwayError(Problem("openssl req", f"gave {', '.join(sorted(found))}", "a key and a certificate"))
    return {"tls.crt": found["CERTIFICATE"], "tls.key": found["PRIVATE KEY"]}
