# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at everything a plan needs to know of this host."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
import typing as t

from ..core import places
from ..core.nodes import summarize_nodes
from ..core.pki import PkiSeen
from ..core.quorum import Member
from ..core.state import SeenPath, SeenState
from . import facts
from .artifacts import observe_artifacts
from .containerd import our_registries
from .etcd import WAL, observe_marks
from .etcdctl import Etcdctl
from .hold import look
from .kubectl import Kubectl
from .machine import Machine
from .pki import observe_pki_paths
from .preparation import observe_kernel
from .state import observe_path, user_exists
from .systemd import show_units

API_TIMEOUT_SECONDS = 30.0


def probe(machine: Machine, sysctls: t.Sequence[str] = ()) -> dict[str, t.Any]:
    """Facts, files, units, keys, artefacts, etcd's marks and the cluster's nodes as this host knows them; JSON data.

    ``sysctls`` are kernel settings to look at besides Slipway's own.
    """
    parts: dict[str, t.Callable[[Machine], t.Any]] = {
        "system": facts.system_facts,
        "systemd": facts.systemd_version,
        "mounts": facts.mount_facts,
        "network": facts.address_facts,
        "listening": facts.listening_facts,
        "paths": observe_places,
        "units": lambda host: show_units(host, places.UNITS),
        "keys": lambda host: observe_pki_paths(host, places.CERTIFICATES),
        "artifact_state": observe_artifacts,
        "registries": lambda host: list(our_registries(host)),
        "nodes": observe_nodes,
        "members": lambda host: Etcdctl(host).agreed_members(),
        "record": observe_record,
        "hold": observe_hold,
    }
    with concurrent.futures.ThreadPoolExecutor(max_workers=6) as pool:
        waiting = {name: pool.submit(part, machine) for name, part in parts.items()}
        seen = {name: future.result() for name, future in waiting.items()}
    keys, artifacts, seen_members = seen.pop("keys"), seen.pop("artifact_state"), seen.pop("members")
    state = SeenState(
        frozenset(user for user in places.USERS if user_exists(user)), seen.pop("paths"), seen.pop("units")
    )
    return {
        **seen.pop("system"),
        **seen.pop("network"),
        **seen,
        **cluster_facts(machine),
        "authorities": authority_fingerprints(keys),
        "pki": keys.to_data(),
        "artifacts": {name: {"current": component.current or None} for name, component in artifacts.components.items()},
        "artifact_state": artifacts.to_data(),
        "etcd_data": os.path.isdir(WAL),
        "state": state.to_data(),
        "kernel_state": kernel_state(machine, state, sysctls),
        "etcd": etcd_marks(machine, state, seen_members),
    }


def observe_places(machine: Machine) -> dict[str, SeenPath]:
    """Everything that is where Slipway's things are."""
    units = [f"{places.UNIT_DIRECTORY}/{name}" for name in places.UNITS]
    paths = [*places.SHALLOW, *units]
    for tree in places.TREES:
        paths.append(tree)
        for directory, names, files in os.walk(tree):
            paths += [os.path.join(directory, name) for name in (*names, *files)]
    found = {path: observe_path(machine, path) for path in paths}
    return {path: seen for path, seen in found.items() if seen is not None}


def authority_fingerprints(keys: PkiSeen) -> dict[str, t.Optional[str]]:
    """The fingerprint of each authority's certificate, None where there is none."""
    files = {name: keys.files.get(path) for name, path in places.AUTHORITIES.items()}
    return {name: file.certificate.fingerprint if file and file.certificate else None for name, file in files.items()}


def kernel_state(machine: Machine, state: SeenState, sysctls: t.Sequence[str]) -> dict[str, t.Any]:
    """Programs, kernel modules, kernel settings and swap, as HostSeen has them, without the files."""
    settings = (*places.NETWORK_SYSCTLS, *places.KERNEL_SYSCTLS, *sysctls)
    seen = observe_kernel(machine, state, tuple(places.PACKAGES), places.KERNEL_MODULES, settings)
    return {
        "programs": sorted(seen.programs),
        "modules": None if seen.modules is None else sorted(seen.modules),
        "sysctls": dict(seen.sysctls),
        "swaps": list(seen.swaps),
        "swap_entries": list(seen.swap_entries),
    }


def etcd_marks(machine: Machine, state: SeenState, members: t.Optional[t.Sequence[Member]]) -> dict[str, t.Any]:
    """The member's data and marks, as EtcdSeen has them, without the files, and all members as this one knows them."""
    seen = observe_marks(machine, state)
    known = None if members is None else [dataclasses.asdict(member) for member in members]
    return {"data": seen.data, "formed": seen.formed, "initial": seen.initial, "members": known}


def cluster_facts(machine: Machine) -> dict[str, t.Any]:
    """Which cluster this host belongs to, its name there, its authorities' certificates, and what others left."""
    authorities = {name: machine.read_text(path) for name, path in places.AUTHORITIES.items()}
    return {
        "cluster": _json(machine.read_text(places.CLUSTER)),
        "node_name": (machine.read_text(places.NODE_NAME) or "").strip() or None,
        "authority_certificates": {name: text for name, text in authorities.items() if text},
        "kubeadm_leftovers": [path for path in places.KUBEADM_LEFTOVERS if machine.exists(path)],
    }


def observe_nodes(machine: Machine) -> t.Optional[dict[str, t.Any]]:
    """The cluster's Nodes, asked of this host's own API server; None where there is none or it does not answer."""
    nodes = _ask(machine, ["get", "nodes"])
    return summarize_nodes(nodes).to_data() if nodes else None


def observe_record(machine: Machine) -> t.Optional[dict[str, str]]:
    """What the last run that changed something has left in the cluster; None where nothing answers."""
    namespace, name = places.RECORD
    answer = _ask(machine, ["get", "configmap", name, f"--namespace={namespace}", "--ignore-not-found"])
    return answer.get("data") if answer else None


def observe_hold(_machine: Machine) -> t.Optional[dict[str, t.Any]]:
    """The run that holds this host, or held it last."""
    held = look()
    return held.to_data() if held else None


def _ask(machine: Machine, arguments: t.Sequence[str]) -> t.Any:
    kubectl = Kubectl(machine)
    if not kubectl.is_installed():
        return None
    call = [*arguments, "--request-timeout=15s", "--output=json"]
    output = kubectl.run(call, check=False, timeout=API_TIMEOUT_SECONDS)
    return _json(output.stdout) if output.rc == 0 else None


def _json(text: t.Optional[str]) -> t.Any:
    try:
        return json.loads(text) if text else None
    except ValueError:
        return None
