# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a certificate: of one that another host signs, or of several that a host issues to itself."""

from __future__ import annotations

_FIELDS = r"""
      name:
        description: Its name in messages.
        type: str
        required: true
      certificate:
        description: Path of the certificate.
        type: path
        required: true
      key:
        description: Path of the private key.
        type: path
        required: true
      authority:
        description: The name of the authority that issues it.
        type: str
        default: kubernetes
      common_name:
        description: Common name of the subject.
        type: str
        required: true
      organizations:
        description: Organizations of the subject; Kubernetes takes them for groups.
        type: list
        elements: str
        default: []
      dns:
        description: DNS names it is valid for.
        type: list
        elements: str
        default: []
      addresses:
        description: IP addresses it is valid for.
        type: list
        elements: str
        default: []
      usages:
        description: What it may be used for.
        type: list
        elements: str
        choices: [server, client]
        default: [server, client]
      days:
        description: How long it is valid, at most as long as its authority.
        type: int
        default: 365
      owner:
        description: Owner of both files.
        type: str
        default: root
      group:
        description: Group of both files.
        type: str
        default: root
      mode:
        description: Mode of the key.
        type: str
        default: '0600'
"""


class ModuleDocFragment:
    """The documentation of the two options.

    With annotations, for yamllint of ansible-test takes every plain assignment here for one literal.
    """

    DOCUMENTATION: str = (
        r"""
options:
  leaf:
    description: The certificate.
    type: dict
    required: true
    suboptions:"""
        + _FIELDS
    )

    CERTIFICATES: str = (
        r"""
options:
  certificates:
    description: Certificates with keys of their own that this host issues to itself.
    type: list
    elements: dict
    default: []
    suboptions:"""
        + _FIELDS
    )
