# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that every module shares that asks a whole etcd cluster."""

from __future__ import annotations


class ModuleDocFragment:
    """The documentation of those options."""

    DOCUMENTATION = r"""
options:
  etcdctl:
    description: The etcdctl program.
    type: path
    default: /opt/slipway/etcd/current/etcdctl
  etcd_endpoints:
    description:
      - Client URLs of etcd members, any of which may be down; all members are found through them.
    type: list
    elements: str
    default: []
  etcd_ca:
    description: The CA of etcd's certificates.
    type: path
    default: /etc/kubernetes/pki/etcd/ca.crt
  etcd_certificate:
    description: A client certificate for etcd.
    type: path
    default: /etc/kubernetes/pki/etcd/root-client.crt
  etcd_key:
    description: The key of that certificate.
    type: path
    default: /etc/kubernetes/pki/etcd/root-client.key
"""
