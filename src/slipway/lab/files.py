# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Contents of a lab's files: inventory, SSH configuration and what a host is given at its first start. Pure."""

from __future__ import annotations

import ipaddress
import typing as t

import yaml

from slipway.lab.model import Lab, LabHost

DEFAULT_KUBERNETES = "1.37"


def lab_vars(lab: Lab) -> dict[str, t.Any]:
    """Variables of all hosts: the connection, the bundle, and what is a property of hosts that are containers."""
    kubernetes = str(lab.extra_vars.get("slipway_kubernetes_version", DEFAULT_KUBERNETES))
    return {
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_common_args": f"-F '{lab.ssh_config}'",
        "slipway_cluster_name": lab.name,
        "slipway_kubernetes_version": kubernetes,
        "slipway_bundle": str(lab.root / ".bundle" / kubernetes),
        **(_container_vars() if lab.spec.driver == "container" else {}),
        **lab.extra_vars,
    }


def _container_vars() -> dict[str, t.Any]:
    """What containers need.

    The hosts share the machine's kernel, disk and limits, so none of these values is a default for real machines:
    the kubelet sees the machine's free space and must not evict at 85 %, kernel settings without a namespace would
    be written to the machine, a container may not lower its oom_score_adj, and conntrack limits belong to the
    machine.
    """
    return {
        "slipway_host": {"manage_kernel": False},
        "slipway_containerd": {"restrict_oom_score_adj": True},
        "slipway_kubelet": {
            "failCgroupV1": False,
            "maxOpenFiles": 20000,
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
            },
            "imageGCHighThresholdPercent": 99,
            "imageGCLowThresholdPercent": 98,
        },
        "slipway_kube_proxy": {"conntrack": {"maxPerCore": 0, "min": 0}},
    }


def inventory(lab: Lab) -> str:
    """inventory.yml: groups with their hosts' addresses, and the variables of all hosts."""
    groups: dict[str, dict[str, t.Any]] = {}
    for host in lab.hosts:
        groups.setdefault(host.group, {"hosts": {}})["hosts"][host.name] = {"ansible_host": host.address}
    return "---\n" + yaml.safe_dump({**groups, "all": {"vars": lab_vars(lab)}}, sort_keys=False)


def ssh_config(lab: Lab) -> str:
    """ssh_config: every host by name and by address, with the lab's own key and host keys and no others."""
    parts = [_ssh_host(host) for host in lab.hosts]
    parts.append(
        "Host *\n"
        "  User root\n"
        f'  IdentityFile "{lab.private_key}"\n'
        "  IdentitiesOnly yes\n"
        "  IdentityAgent none\n"
        f'  UserKnownHostsFile "{lab.known_hosts}"\n'
        "  GlobalKnownHostsFile none\n"
        "  StrictHostKeyChecking yes\n"
        "  UpdateHostKeys no\n"
        "  PasswordAuthentication no\n"
        f"  ConnectTimeout {max(10, lab.spec.takes.connect_seconds)}\n"
    )
    return "\n".join(parts)


def _ssh_host(host: LabHost) -> str:
    return f"Host {host.name} {host.address}\n  HostName {host.address}\n  HostKeyAlias {host.address}\n"


def known_hosts(public_keys: t.Mapping[str, str]) -> str:
    """known_hosts from each address's public host key (``type key [comment]``)."""
    return "".join(f"{address} {' '.join(key.split()[:2])}\n" for address, key in public_keys.items())


def hosts_file(host: LabHost) -> str:
    """/etc/hosts of one host, as an installer would leave it: itself and nobody else."""
    return f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{host.address} {host.name}\n"


def network_file(lab: Lab, host: LabHost) -> str:
    """systemd.network(5) of a host with a kernel of its own: its one address, and the way out unless isolated."""
    gateway = ipaddress.IPv4Network(lab.subnet).network_address + 1
    return (
        f"[Match]\nMACAddress={mac_address(host.address)}\n\n"
        f"[Network]\nAddress={host.address}/24\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
        + ("" if lab.spec.isolated else f"Gateway={gateway}\n")
    )


def mac_address(address: str) -> str:
    """A locally administered MAC address that goes with an IPv4 address: a host keeps its own when it starts anew.

    Neighbours would otherwise send to the old one until their caches give it up.
    """
    return "02:51:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)
