#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys and certificates, made on the host that uses them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pki
short_description: Make, renew and hand on keys and certificates of a host
version_added: 0.1.0
description:
  - Makes certificate authorities, key pairs and encryption keys once, issues certificates on the host that uses them,
    and keeps a copy for each reader that runs as a user of its own.
  - No private key is ever a parameter or a return value. What must reach another host is sealed to a key of that host.
  - What is there is read before anything is written. An existing authority is never replaced; one that is broken or
    belongs to another cluster is refused and left untouched.
author:
  - Slipway maintainers (@slipway)
options:
  authorities:
    description: Certificate authorities whose keys this host holds.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: The name by which O(certificates[].authority) means it.
        type: str
        required: true
      certificate:
        description: Path of its certificate.
        type: path
        required: true
      key:
        description: Path of its private key.
        type: path
        required: true
      common_name:
        description: Its subject, by default its name.
        type: str
        default: ''
      days:
        description: How long it is valid when it is made.
        type: int
        default: 3650
  keypairs:
    description: Bare key pairs, such as the one that signs service account tokens.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      private:
        description: Path of the private key.
        type: path
        required: true
      public:
        description: Path of the public key.
        type: path
        required: true
  secrets:
    description: EncryptionConfiguration files, each with a random key for Secrets.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Its name.
        type: str
        required: true
      path:
        description: Path of the file.
        type: path
        required: true
  copies:
    description: Copies of files for one reader each.
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: The file on this host.
        type: path
        required: true
      path:
        description: Where its copy lies.
        type: path
        required: true
      owner:
        description: Owner of the copy.
        type: str
        default: root
      group:
        description: Group of the copy.
        type: str
        default: root
      mode:
        description: Mode of the copy.
        type: str
        default: '0600'
  generate:
    description:
      - Make what is missing of O(authorities), O(keypairs) and O(secrets). For one host of a new cluster only; without
        it, anything missing is an error, unless O(sealed) brings it.
    type: bool
    default: false
  awaits:
    description: Another host makes what is missing, and O(sealed) brings it. In check mode it counts as brought.
    type: bool
    default: false
  expected:
    description:
      - Name of an authority, key pair or secret to the fingerprint, as in RV(shared), that it must have.
    type: dict
    default: {}
    aliases: [expected_authorities]
  receive:
    description: Make the key to which others can seal for this host, and return its certificate.
    type: bool
    default: false
  receiver:
    description: Where that key and its certificate lie.
    type: dict
    default: {}
    suboptions:
      certificate:
        description: Path of the certificate.
        type: path
        default: /run/slipway/receiver.crt
      key:
        description: Path of the key.
        type: path
        default: /run/slipway/receiver.key
  seal_to:
    description: Name of a host to its receiver certificate (PEM), for which to seal what is in RV(shared).
    type: dict
    default: {}
  seal_items:
    description: Name of a host to the names of the items that are sealed for it. A host that is not named gets all.
    type: dict
    default: {}
  sealed:
    description: Name of an authority, key pair or secret to its value sealed for this host.
    type: dict
    default: {}
  renew_fraction:
    description: A certificate is issued anew when less than this part of its life is left.
    type: float
    default: 0.3333333333333333
extends_documentation_fragment:
  - slipway.cluster.leaf.certificates
attributes:
  check_mode:
    description: Says what would be made and changes nothing, also on a host that has none of it yet.
    support: full
  diff_mode:
    description: Shows subjects, names, owners and modes; never a key.
    support: full
  platform:
    description: Linux with OpenSSL 3.0 or newer.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Make an authority and a certificate for a metrics endpoint of this host
  slipway.cluster.pki:
    generate: true
    authorities:
      - name: metrics
        certificate: /etc/metrics/pki/ca.crt
        key: /etc/metrics/pki/ca.key
    certificates:
      - name: metrics-server
        certificate: /etc/metrics/tls.crt
        key: /etc/metrics/tls.key
        authority: metrics
        common_name: metrics
        dns: ["{{ inventory_hostname }}"]
        usages: [server]
        owner: metrics
        group: metrics
"""

RETURN = r"""
actions:
  description: What was done, or in check mode would be, a sentence each.
  returned: success
  type: list
  elements: str
  sample: ["make authority kubernetes", "issue certificate kube-apiserver-serving"]
authorities:
  description: For each authority its C(certificate) in PEM, its C(fingerprint) (SHA-256, hex) and C(not_after).
  returned: success
  type: dict
shared:
  description: Public fingerprint of each authority, key pair and secret that is complete on this host.
  returned: success
  type: dict
certificates:
  description: For each certificate its C(not_after), C(serial) and C(fingerprint).
  returned: success
  type: dict
receiver:
  description: The certificate to which others seal for this host.
  returned: with O(receive)
  type: str
sealed:
  description: For each host of O(seal_to) and each item the CMS structure in base64.
  returned: with O(seal_to)
  type: dict
problems:
  description: Everything that stood in the way.
  returned: failure
  type: list
  elements: dict
"""

import time
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import PkiSeen, PkiWant, plan_pki
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import run_module
from ansible_collections.slipway.cluster.plugins.module_utils.host.leaf import CERTIFICATE_OPTIONS, OWNER_OPTIONS
from ansible_collections.slipway.cluster.plugins.module_utils.host.pki import apply_pki, observe_pki, pki_result

_NAME: dict[str, t.Any] = {"type": "str", "required": True}
_PATH: dict[str, t.Any] = {"type": "path", "required": True}
_KEY: dict[str, t.Any] = {"type": "path", "required": True, "no_log": False}  # a path, not a key


def _items(**options: t.Any) -> dict[str, t.Any]:
    return {"type": "list", "elements": "dict", "default": [], "options": options}


ARGUMENT_SPEC: dict[str, t.Any] = {
    "authorities": _items(
        name=_NAME,
        certificate=_PATH,
        key=_KEY,
        common_name={"type": "str", "default": ""},
        days={"type": "int", "default": 3650},
    ),
    "keypairs": {**_items(name=_NAME, private=_PATH, public=_PATH), "no_log": False},
    "secrets": {**_items(name=_NAME, path=_PATH), "no_log": False},
    "certificates": _items(**CERTIFICATE_OPTIONS),
    "copies": _items(source=_PATH, path=_PATH, **OWNER_OPTIONS),
    "generate": {"type": "bool", "default": False},
    "awaits": {"type": "bool", "default": False},
    "expected": {"type": "dict", "default": {}, "aliases": ["expected_authorities"]},
    "receive": {"type": "bool", "default": False},
    "receiver": {
        "type": "dict",
        "default": {},
        "options": {
            "certificate": {"type": "path", "default": "/run/slipway/receiver.crt"},
            "key": {"type": "path", "default": "/run/slipway/receiver.key", "no_log": False},
        },
    },
    "seal_to": {"type": "dict", "default": {}},
    "seal_items": {"type": "dict", "default": {}},
    "sealed": {"type": "dict", "default": {}},
    "renew_fraction": {"type": "float", "default": 0.3333333333333333},
}


def parse(params: dict[str, t.Any]) -> PkiWant:
    """The parameters as typed data; an alias is not a field."""
    return PkiWant.from_data({name: params[name] for name in ARGUMENT_SPEC})


def plan(want: PkiWant, seen: PkiSeen) -> list[Change]:
    """The steps, see plan_pki, by this host's clock."""
    return plan_pki(want, seen, now=int(time.time()))


def main() -> None:
    """Module entry."""
    run_module(
        argument_spec=ARGUMENT_SPEC,
        parse=parse,
        observe=observe_pki,
        plan=plan,
        apply=apply_pki,
        result=pki_result,
    )


if __name__ == "__main__":
    main()
