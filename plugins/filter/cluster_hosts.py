# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which hosts of an inventory are of the cluster, for the plays of the collection."""

from __future__ import annotations

import typing as t

DOCUMENTATION = r"""
name: cluster_hosts
author:
  - Slipway maintainers (@slipway)
version_added: 0.1.0
short_description: The host pattern of a cluster
description:
  - The pattern for the hosts of the cluster, from the groups that give roles. C(slipway_groups) may name others.
options:
  _input:
    description: The magic variable C(hostvars).
    type: dict
    required: true
  groups:
    description: The magic variable C(groups).
    type: dict
    required: true
  target:
    description: The group of the cluster, where an inventory holds several.
    type: str
    default: ""
  role:
    description: Only the hosts of this role, such as C(docker), which is none that makes a host one of the cluster.
    type: str
    default: ""
  alone:
    description: A role whose hosts may do without a cluster, such as C(docker). Where there are such and none of a
      cluster, the pattern matches nobody.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: Look at every host of the cluster
  hosts: "{{ hostvars | slipway.cluster.cluster_hosts(groups, slipway_target | default('')) }}"
"""

RETURN = r"""
_value:
  description: A pattern for C(hosts).
  type: str
"""

ROLES = ("control_plane", "etcd", "workers", "registry")


def cluster_hosts(
    hostvars: t.Mapping[str, t.Mapping[str, t.Any]],
    groups: t.Mapping[str, t.Sequence[str]],
    target: str = "",
    role: str = "",
    alone: str = "",
) -> str:
    """The pattern; ``localhost`` where no group gives a role, so that the plan can say so.

    With ``role``, only its hosts: ``!all`` where there are none. Where there are hosts of the role ``alone`` and none
    of a cluster, that is meant, and nobody is left to be one: ``!all``.
    """
    if target and not role:
        return target
    # The names are the same on all hosts of a cluster, so one host of each group is enough to find them.
    named: t.Mapping[str, t.Any] = {}
    for hosts in groups.values():
        known = hosts[0] in hostvars if hosts else False
        named = named or (hostvars[hosts[0]].get("slipway_groups") if known else None) or {}
    names = {each: str(named.get(each) or f"slipway_{each}") for each in (*ROLES, role, alone)}
    found = ":".join(names[each] for each in ([role] if role else ROLES) if names[each] in groups)
    if not role:
        is_alone = alone and groups.get(names[alone]) and not any(groups.get(names[each]) for each in ROLES)
        return "!all" if is_alone else found or "localhost"
    return f"{found}:&{target}" if found and target else found or "!all"


class FilterModule:
    """The filter."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"cluster_hosts": cluster_hosts}
