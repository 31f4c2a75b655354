# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the keeper decides: which serving certificates to approve, what to renew, when to restart.

The keeper runs on control-plane and etcd hosts from a timer, long after Ansible has gone. Nothing in Kubernetes
approves kubelet serving certificates (signer ``kubernetes.io/kubelet-serving``), because only who installed the cluster
knows which addresses belong to which node.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import ipaddress
import json
import typing as t

from .change import Change
from .pki import KEY_MISMATCH, NEAR_END, PkiSeen, PkiWant, days_left, plan_pki, shared_paths
from .problems import Problem, SlipwayError
from .x509 import Request, parse_request, pem_blocks

SIGNER = "kubernetes.io/kubelet-serving"
NODES_GROUP = "system:nodes"
NODE_PREFIX = "system:node:"
LEASE_NAME = "slipway-keeper-restart"
LEASE_NAMESPACE = "kube-system"
LEASE_SECONDS = 600  # longer than the slowest restart, and what is waited for after it

_NEEDED_USAGES = frozenset({"digital signature", "server auth"})
_POSSIBLE_USAGES = _NEEDED_USAGES | {"key encipherment"}

_RENEWED = (NEAR_END, KEY_MISMATCH)  # the second is what a renewal that was cut off leaves

Nodes = t.Mapping[str, t.Sequence[str]]


@dataclasses.dataclass(frozen=True)
class SigningRequest:
    """A CertificateSigningRequest. Who asks (``username``, ``groups``) is what the API server has authenticated."""

    name: str
    signer: str
    username: str
    groups: tuple[str, ...]
    usages: tuple[str, ...]
    request: str
    """The PKCS #10 request in PEM."""
    settled: bool = False
    """Approved, denied, failed or issued already."""

    @classmethod
    def from_api(cls, item: t.Mapping[str, t.Any]) -> SigningRequest:
        """From an object of certificates.k8s.io/v1. A request that is no base64 is kept empty, so it is refused."""
        spec, status = item.get("spec") or {}, item.get("status") or {}
        try:
            request = base64.b64decode(spec.get("request") or "", validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            request = ""
        return cls(
            name=str((item.get("metadata") or {}).get("name", "")),
            signer=str(spec.get("signerName", "")),
            username=str(spec.get("username", "")),
            groups=tuple(spec.get("groups") or ()),
            usages=tuple(spec.get("usages") or ()),
            request=request,
            settled=bool(status.get("conditions") or status.get("certificate")),
        )


@dataclasses.dataclass(frozen=True)
class Approve:
    """The request is what the named node may have."""

    node: str


@dataclasses.dataclass(frozen=True)
class Refuse:
    """The request stays pending, for a person to look at; it is never denied."""

    reason: str


Decision = t.Union[Approve, Refuse]


def decide(csr: SigningRequest, nodes: Nodes) -> Decision:
    """Whether a node asks for itself, for nothing but a serving certificate, and for its own names and addresses."""
    reason = _wrong_requestor(csr, nodes)
    if reason:
        return Refuse(reason)
    try:
        blocks = pem_blocks(csr.request)
        if [label for label, _der in blocks] != ["CERTIFICATE REQUEST"]:
            return Refuse("the request is not one PEM block of a certificate request")
        request = parse_request(blocks[0][1])
    except (ValueError, IndexError) as error:
        return Refuse(f"the request cannot be read: {error}")
    node = csr.username[len(NODE_PREFIX) :]
    reason = _wrong_content(csr.username, request, (node, *nodes[node]))
    return Refuse(reason) if reason else Approve(node)


def _wrong_requestor(csr: SigningRequest, nodes: Nodes) -> str:
    if csr.signer != SIGNER:
        return f"signer {csr.signer} is not {SIGNER}"
    if not csr.username.startswith(NODE_PREFIX) or NODES_GROUP not in csr.groups:
        return f"{csr.username or 'nobody'} is not a node"
    if csr.username[len(NODE_PREFIX) :] not in nodes:
        return f"{csr.username} is not a node that Slipway knows"
    usages = set(csr.usages)
    if len(usages) != len(csr.usages) or not _NEEDED_USAGES <= usages <= _POSSIBLE_USAGES:
        return f"usages {', '.join(csr.usages) or 'none'} are not those of a server"
    return ""


def _wrong_content(username: str, request: Request, allowed: t.Sequence[str]) -> str:
    names = request.names
    if names.common_name != username:
        return f"common name {names.common_name!r} is not {username}"
    if names.organizations != (NODES_GROUP,):
        return f"organizations {', '.join(names.organizations) or 'none'} are not {NODES_GROUP}"
    if names.other or request.extensions:
        return f"it asks for more than names: {', '.join((*names.other, *request.extensions))}"
    if not names.dns and not names.addresses:
        return "it names no address"
    known = {_normal(name) for name in allowed}
    strange = [name for name in (*names.dns, *names.addresses) if _normal(name) not in known]
    return f"{', '.join(strange)} is not on the list of this node" if strange else ""


def _normal(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


# --- renewal ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Config:
    """What /etc/slipway/certificates.json says: what this host should hold, and which units cannot re-read it."""

    want: PkiWant
    restart: tuple[str, ...] = ()

    @classmethod
    def from_data(cls, data: t.Any) -> Config:
        """From JSON data; raises SlipwayError for what is not understood. Whoever wrote it, the keeper makes no CA."""
        if not isinstance(data, dict):
            raise SlipwayError(Problem("certificates.json", "is not a mapping", "the wanted certificates"))
        rest = {key: value for key, value in data.items() if key != "restart"}
        harmless = {"generate": False, "awaits": False, "receive": False, "sealed": {}, "seal_to": {}}
        return cls(PkiWant.from_data({**rest, **harmless}), tuple(data.get("restart") or ()))


def plan_renewal(want: PkiWant, seen: PkiSeen, *, now: int) -> list[Change]:
    """The part of ``plan_pki`` that the keeper does on its own: what is near its end or half renewed, and its copies.

    Everything else that differs is left to the next apply, whose targets may be newer than the keeper's list.
    Certificates whose authority's key is not on this host are left out.
    """
    here = tuple(authority for authority in want.authorities if set(shared_paths(authority)) <= set(seen.files))
    names = {authority.name for authority in here}
    leaves = tuple(leaf for leaf in want.certificates if leaf.authority in names)
    made = {path for leaf in leaves for path in (leaf.certificate, leaf.key)}
    part = dataclasses.replace(
        want,
        authorities=here,
        keypairs=(),
        secrets=(),
        certificates=leaves,
        copies=tuple(copy for copy in want.copies if copy.source in made and copy.source in seen.files),
    )
    issues: dict[str, bool] = {}
    changes = []
    for change in plan_pki(part, seen, now=now):
        step = change.data
        if step.verb == "issue":
            ours = step.reason in _RENEWED
            issues.update({step.item.certificate: ours, step.item.key: ours})
            changes += [change] if ours else []
        elif step.verb == "copy" and issues.get(step.item.source, True):
            changes.append(change)
    return changes


# --- restarts, one host at a time ------------------------------------------------------------------------------------


def lease_holder(lease: t.Mapping[str, t.Any], *, now: datetime.datetime) -> str:
    """Who holds the Lease at this moment, "" for nobody: an expired holder is nobody."""
    spec = lease.get("spec") or {}
    holder, renewed = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or "")
    if not holder or not renewed:
        return ""
    moment = datetime.datetime.strptime(renewed, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
    age = (now - moment).total_seconds()
    return holder if age < float(spec.get("leaseDurationSeconds") or LEASE_SECONDS) else ""


def lease_for(holder: str, *, now: datetime.datetime, resource_version: str = "") -> dict[str, t.Any]:
    """The Lease as ``holder`` wants it; "" gives it back.

    With the version in which it was read, writing it is a compare-and-swap.
    """
    metadata = {"name": LEASE_NAME, "namespace": LEASE_NAMESPACE}
    if resource_version:
        metadata["resourceVersion"] = resource_version
    moment = now.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    held = {"acquireTime": moment, "renewTime": moment} if holder else {}
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {"holderIdentity": holder or None, "leaseDurationSeconds": LEASE_SECONDS, **held},
    }


# --- what it tells ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class State:
    """What the keeper remembers between two runs; times are seconds since the epoch, 0 for never."""

    last_run: int = 0
    last_renewal: int = 0
    last_failure: int = 0
    failure: str = ""
    certificates: t.Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Name → days left."""
    refused: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Pending request → why it was not approved."""
    restart: tuple[str, ...] = ()
    """Units that still have to be restarted."""

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_text(cls, text: t.Optional[str]) -> State:
        """From ``to_text``'s result; what cannot be read counts as a first run."""
        try:
            data = json.loads(text or "{}")
            known = {field.name for field in dataclasses.fields(cls)}
            given = {key: value for key, value in data.items() if key in known}
            given["restart"] = tuple(given.get("restart") or ())
            return cls(**given)
        except (ValueError, TypeError, AttributeError):
            return cls()


def certificate_days(want: PkiWant, seen: PkiSeen, *, now: int) -> dict[str, float]:
    """Days left of every authority and certificate that is there, by name."""
    paths = {authority.name: authority.certificate for authority in want.authorities}
    paths.update({leaf.name: leaf.certificate for leaf in want.certificates})
    left = {name: days_left(seen, path, now) for name, path in paths.items()}
    return {name: round(days, 2) for name, days in left.items() if days is not None}


def metrics(state: State) -> str:
    """The state in Prometheus' text format, for a textfile collector."""
    lines = _gauge("slipway_keeper_last_run_seconds", "When the keeper ran last.", {"": state.last_run})
    lines += _gauge("slipway_keeper_last_renewal_seconds", "When it renewed last.", {"": state.last_renewal})
    lines += _gauge("slipway_keeper_last_failure_seconds", "When it failed last.", {"": state.last_failure})
    lines += _gauge("slipway_keeper_failing", "Whether its last run failed.", {"": int(bool(state.failure))})
    lines += _gauge("slipway_keeper_refused_requests", "Pending requests it did not approve.", {"": len(state.refused)})
    days = {f'{{name="{name}"}}': value for name, value in sorted(state.certificates.items())}
    lines += _gauge("slipway_certificate_days_left", "Days until a certificate ends.", days)
    return "\n".join(lines) + "\n"


def _gauge(name: str, text: str, values: t.Mapping[str, float]) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} gauge", *(f"{name}{key} {value}" for key, value in values.items())]
