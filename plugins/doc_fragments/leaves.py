# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host issues to itself, and the copies its readers get."""

from __future__ import annotations


class ModuleDocFragment:
    """The documentation of those options."""

    DOCUMENTATION = r"""
options:
  certificates:
    description: Certificates with keys of their own that this host issues to itself.
    type: list
    elements: dict
    default: []
    suboptions:
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
        description: The authority that issues it.
        type: str
        required: true
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
"""
