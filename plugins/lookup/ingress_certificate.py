# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ingress certificate of the user, for a Secret."""

from __future__ import annotations

DOCUMENTATION = r"""
name: ingress_certificate
author:
  - Slipway maintainers (@slipway)
version_added: 0.1.0
short_description: Your default certificate for HTTPS from outside, as a Secret's data
description:
  - Returns the certificate and the key of C(slipway_secret_ingress_tls) of the host in base64, under the names that
    Slipway's objects have for them; nothing where it is not set. They are read when a task asks for them, so the plan
    holds neither.
options: {}
"""

EXAMPLES = r"""
- name: Keep the certificate in a Secret
  slipway.cluster.manifests:
    name: certificate
    values: "{{ lookup('slipway.cluster.ingress_certificate') }}"
    objects:
      - apiVersion: v1
        kind: Secret
        metadata:
          name: certificate
          namespace: default
        type: kubernetes.io/tls
        data:
          tls.crt: "@@ingress-certificate@@"
          tls.key: "@@ingress-key@@"
"""

RETURN = r"""
_raw:
  description: One dictionary of texts.
  type: list
  elements: dict
"""

import base64
import typing as t

from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """The certificate and the key."""

    def run(self, terms: list[str], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[t.Any]:
        """One dictionary, empty where nothing is set."""
        del terms, kwargs
        found: dict[str, str] = {}
        given = _template(self._templar, (variables or {}).get("slipway_secret_ingress_tls")) or {}
        for name, value in given.items():
            content = str(value).strip() + "\n"
            found[f"ingress-{name}"] = base64.b64encode(content.encode()).decode()
        return [found]


def _template(templar: t.Any, value: t.Any) -> t.Any:
    """A variable's value; variables arrive here as they were written."""
    return value if templar is None else templar.template(value)
