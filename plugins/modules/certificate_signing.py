#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A certificate for a key that another host has made."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificate_signing
short_description: Sign a certificate request of another host
version_added: 0.1.0
description:
  - Runs on a host with the authority's key. Of the request only the key counts, and that its holder signed it; what the
    certificate says is decided here.
  - Nothing on this host changes.
author:
  - Slipway maintainers (@slipway)
options:
  request:
    description: The request in PEM.
    type: str
    required: true
  authority_certificate:
    description: The authority's certificate on this host.
    type: path
    default: /etc/kubernetes/pki/ca.crt
  authority_key:
    description: The path of the authority's key.
    type: path
    default: /etc/kubernetes/pki/ca.key
extends_documentation_fragment:
  - slipway.cluster.leaf
attributes:
  check_mode:
    description: Signs nothing.
    support: full
  diff_mode:
    description: There is never a difference.
    support: none
  platform:
    description: Linux with openssl.
    support: full
    platforms: linux
"""

EXAMPLES = r"""
- name: Sign what a registry host has requested
  slipway.cluster.certificate_signing:
    request: "{{ requested.request }}"
    leaf:
      name: registry
      certificate: /etc/registry/tls.crt
      key: /etc/registry/tls.key
      common_name: registry
      dns: [registry.example.org]
      usages: [server]
  delegate_to: cp1
  register: signed
"""

RETURN = r"""
certificate:
  description: The certificate in PEM; empty in check mode.
  returned: success
  type: str
actions:
  description: Always empty, since nothing changes on this host.
  returned: success
  type: list
  elements: str
problems:
  description: Everything that stood in the way.
  returned: failure
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.cluster.plugins.module_utils.core.leaf import certificate_from
from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import Authority
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host.engine import host_lock
from ansible_collections.slipway.cluster.plugins.module_utils.host.leaf import LEAF_SPEC
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine
from ansible_collections.slipway.cluster.plugins.module_utils.host.pki import sign_request

ARGUMENT_SPEC: dict[str, t.Any] = {
    "request": {"type": "str", "required": True},
    "leaf": LEAF_SPEC,
    "authority_certificate": {"type": "path", "default": "/etc/kubernetes/pki/ca.crt"},
    "authority_key": {"type": "path", "default": "/etc/kubernetes/pki/ca.key", "no_log": False},
}


def main() -> None:
    """Run the module. The host is as it was, so there is nothing to plan; the change is where the request came from."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    signed = b""
    try:
        leaf = certificate_from(params["leaf"])
        authority = Authority(leaf.authority, params["authority_certificate"], params["authority_key"])
        if not module.check_mode:
            with host_lock("certificate_signing"):
                signed = sign_request(Machine(), authority, leaf, params["request"])
    except SlipwayError as error:
        module.fail_json(msg=str(error), problems=[problem.as_dict() for problem in error.problems])
    module.exit_json(changed=False, actions=[], certificate=signed.decode())


if __name__ == "__main__":
    main()
