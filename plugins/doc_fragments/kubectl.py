# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that every module with kubectl shares."""

from __future__ import annotations


class ModuleDocFragment:
    """The documentation of those options."""

    DOCUMENTATION = r"""
options:
  kubectl:
    description: The kubectl program to use.
    type: path
    default: /opt/slipway/kubectl/current/kubectl
  kubeconfig:
    description: A kubeconfig with an administrator's rights.
    type: path
    default: /etc/kubernetes/admin.conf
attributes:
  check_mode:
    description: Says what would change, changes nothing.
  diff_mode:
    description: Shows before and after of each change.
  idempotent:
    description: A second run with the same parameters changes nothing.
"""
