# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One certificate on a host that has no authority: the key is made there, another host signs what it proves.

It takes two steps on the host, and between them one elsewhere: a request, the signing, and the certificate.
"""

from __future__ import annotations

import dataclasses
import typing as t

from .change import Change
from .pki import Certificate, PkiSeen, PkiWant, Step, plan_leaf
from .problems import Problem, SlipwayError
from .state import SeenPath, SeenUnit, Unit
from .x509 import CertificateFacts, parse_certificate, pem_blocks


@dataclasses.dataclass(frozen=True)
class LeafWant:
    """The certificate, and who must have read it.

    ``issuer`` is the authority as it is known (None: not known here). ``unit`` is restarted when the certificate is new
    or another than the one in ``serving``, a file where that unit keeps a copy of what it has read.
    """

    certificate: Certificate
    issuer: t.Optional[CertificateFacts] = None
    renew_fraction: float = 1 / 3
    unit: str = ""
    serving: str = ""

    def to_data(self) -> dict[str, t.Any]:
        """The parameters of the module, without those that are only known on the way."""
        leaf = {
            key: list(value) if isinstance(value, tuple) else value for key, value in vars(self.certificate).items()
        }
        return {"leaf": leaf, "renew_fraction": self.renew_fraction, "unit": self.unit, "serving": self.serving}


@dataclasses.dataclass(frozen=True)
class LeafSeen:
    """The files of key and certificate, the host's clock (seconds since the epoch), the unit, and what it has read."""

    files: PkiSeen
    moment: int
    unit: t.Optional[SeenUnit] = None
    serving: t.Optional[SeenPath] = None


def certificate_from(data: t.Mapping[str, t.Any]) -> Certificate:
    """The certificate that the modules' option ``leaf`` describes; SlipwayError if it is none that can be issued."""
    authority = {"name": data["authority"], "certificate": "/authority.crt", "key": "/authority.key"}
    return PkiWant.from_data({"authorities": [authority], "certificates": [data]}).certificates[0]


def issuer_from(text: t.Optional[str]) -> t.Optional[CertificateFacts]:
    """The authority out of its certificate in PEM, None where there is no text; SlipwayError if it is none."""
    if not text:
        return None
    try:
        found = [parse_certificate(der) for label, der in pem_blocks(text) if label == "CERTIFICATE"]
    except (ValueError, IndexError):
        found = []
    if not found:
        raise SlipwayError(Problem("issuer", "is no certificate", "a CA's certificate in PEM"))
    return found[0]


def reason(want: LeafWant, seen: LeafSeen) -> str:
    """Why the certificate must be issued, "" when it need not be."""
    return plan_leaf(want.certificate, want.issuer, seen.files, renew_fraction=want.renew_fraction, now=seen.moment)


def plan_request(want: LeafWant, seen: LeafSeen) -> list[Change]:
    """The first step: a new key, and the request that proves it."""
    leaf = want.certificate
    return [Change(f"request certificate {leaf.name}", data=Step("request", leaf))] if reason(want, seen) else []


def plan_issue(want: LeafWant, seen: LeafSeen) -> list[Change]:
    """The second step: the certificate in its place, and a unit that has read it."""
    leaf, why = want.certificate, reason(want, seen)
    up = seen.unit is not None and seen.unit.active in ("active", "activating", "reloading")
    found = seen.files.files.get(leaf.certificate)
    stale = bool(want.serving) and (found is None or seen.serving is None or seen.serving.sha256 != found.digest)
    changes = [Change(f"issue certificate {leaf.name}", data=Step("issue", leaf, why))] if why else []
    if want.unit and up and (why or stale):
        changes.append(Change(f"restart {want.unit}", data=("restart", Unit(want.unit))))
    return changes


def not_signed(name: str) -> SlipwayError:
    """What there is to say where the signed certificate is missing."""
    return SlipwayError(
        Problem(
            f"certificate {name}",
            "no signed certificate was given",
            "one that slipway.cluster.certificate_signing made for the request",
            "run the three tasks together",
        )
    )
