# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reset removes, what it leaves, and that it may be cut off anywhere."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core import places, reset
from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.reset import (
    OwnUnit,
    ResetSeen,
    ResetWant,
    plan_reset,
)

WANT = ResetWant("prod", "prod")
RUNNING = OwnUnit(up=True, file=True, linked=True)
FULL = ResetSeen(
    ours=True,
    mark="prod",
    units=dict.fromkeys(reset.STOP_ORDER, RUNNING),
    containers=True,
    mounts=reset.MOUNT_ROOTS,
    namespaces=("/run/netns/cni-1",),
    interfaces=("veth1", "cni0", "flannel.1"),
    tables=("ip kube-proxy", "ip6 kube-proxy"),
    runtime_ours=True,
    paths=frozenset((*reset.PATHS, *reset.RUNTIME_PATHS)),
    links=("/usr/local/bin/kubectl",),
    addresses=("/var/lib/cni/networks/prod",),
    leftovers=("/etc/cni/net.d/.slipway-1",),
    settings=True,
    run_files=("/run/slipway/seed",),
    users=places.USERS,
    entries={
        "/etc/cni": frozenset({"net.d"}),
        "/etc/cni/net.d": frozenset({"10-containerd-net.conflist", ".slipway-1"}),
        "/etc/containerd": frozenset({"certs.d", "config.toml"}),
        "/run/netns": frozenset({"cni-1"}),
        "/var/lib/cni": frozenset({"networks"}),
        "/var/lib/cni/networks": frozenset({"prod", "of-another"}),
    },
)


def names(changes: t.Sequence[Change]) -> list[str]:
    return [change.name for change in changes]


def carried_out(seen: ResetSeen, change: Change) -> ResetSeen:
    """What there is after one change, as far as the plan looks at it."""
    verb, argument = change.data
    gone = set(argument) if verb in ("remove", "namespaces") else set()
    units = dict(seen.units)
    if verb == "stop":
        units[argument] = dataclasses.replace(units[argument], up=False)
    elif verb == "unit":
        units[argument] = OwnUnit(stale=True)
    elif verb == "reload":
        units = {name: dataclasses.replace(unit, stale=False) for name, unit in units.items()}
    entries = {
        path: frozenset(name for name in held if f"{path}/{name}" not in gone)
        for path, held in seen.entries.items()
        if (verb, argument) != ("directory", path)
    }
    if verb == "directory":
        parent, _, name = argument.rpartition("/")
        entries = {path: held - {name} if path == parent else held for path, held in entries.items()}

    def rest(paths: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(path for path in paths if path not in gone)

    return dataclasses.replace(
        seen,
        ours="/etc/slipway" not in gone,
        units=units,
        containers=seen.containers and verb != "containers",
        mounts=tuple(root for root in seen.mounts if (verb, argument) != ("unmount", root)),
        namespaces=rest(seen.namespaces),
        interfaces=tuple(name for name in seen.interfaces if (verb, argument) != ("interface", name)),
        tables=tuple(name for name in seen.tables if (verb, argument) != ("table", name)),
        paths=seen.paths - gone,
        links=rest(seen.links),
        addresses=rest(seen.addresses),
        leftovers=rest(seen.leftovers),
        settings=seen.settings and verb != "settings",
        run_files=rest(seen.run_files),
        users=tuple(name for name in seen.users if (verb, argument) != ("user", name)),
        entries=entries,
    )


def test_what_is_observed_is_removed() -> None:
    """Nothing that the probe knows of survives, by name."""
    text = "\n".join(names(plan_reset(WANT, FULL)))
    for user in places.USERS:
        assert f"remove user {user}" in text
    for unit in places.UNITS:
        assert f"stop {unit}" in text
        assert f"remove {unit}" in text
    for path in (*places.TREES, *places.SHALLOW):
        inside = [path.rsplit("/", depth)[0] for depth in range(4) if path.count("/") > depth]
        assert any(f"remove {each}\n" in text or f"directory {each}\n" in text for each in inside) or path.startswith(
            ("/etc/slipway", reset.RUN_DIRECTORY, reset.SYSCTL_FILE, "/etc/systemd/system/cri-containerd-.scope.d")
        ), path


def test_cut_off_anywhere_the_rest_is_planned() -> None:
    changes = plan_reset(WANT, FULL)
    seen = FULL
    for position, change in enumerate(changes):
        assert names(plan_reset(WANT, seen)) == names(changes[position:])
        seen = carried_out(seen, change)
    assert plan_reset(WANT, seen) == []


def test_the_mark_goes_last() -> None:
    assert plan_reset(WANT, FULL)[-1].name == "remove /etc/slipway"
    assert names(plan_reset(WANT, ResetSeen(ours=True))) == ["remove /etc/slipway"]


def test_order() -> None:
    found = names(plan_reset(WANT, FULL))
    ordered = [
        "stop kubelet.service",
        "stop etcd.service",
        "stop containerd.service",
        "end all containers",
        "unmount what is below /var/lib/kubelet",
        "remove the pods' network namespaces",
        "remove interface cni0",
        "remove /var/lib/kubelet",
        "remove /var/lib/containerd",
        "remove /etc/containerd/config.toml",
        "remove containerd.service",
        "reload systemd",
        "remove user etcd",
        "remove /etc/slipway",
    ]
    assert [name for name in found if name in ordered] == ordered
    assert len(found) == len(set(found))


def test_directories_with_something_of_others_stay() -> None:
    found = names(plan_reset(WANT, FULL))
    assert "remove directory /etc/cni/net.d" in found
    assert "remove directory /etc/cni" in found
    assert "remove directory /run/netns" in found
    assert not [name for name in found if name.startswith("remove directory /var/lib/cni")]


def test_a_runtime_of_others_stays() -> None:
    found = names(plan_reset(WANT, dataclasses.replace(FULL, runtime_ours=False)))
    assert not {f"remove {path}" for path in reset.RUNTIME_PATHS} & set(found)
    assert "remove directory /etc/containerd" not in found


def test_a_host_that_never_was_ours_is_left_alone() -> None:
    assert plan_reset(WANT, dataclasses.replace(FULL, ours=False)) == []


def test_a_host_of_another_cluster_is_refused() -> None:
    with pytest.raises(SlipwayError, match=r"belongs to cluster 'test'.*expected 'prod'.*nothing was touched"):
        plan_reset(WANT, dataclasses.replace(FULL, mark="test"))


def test_a_half_installed_host_without_mark_is_reset() -> None:
    assert names(plan_reset(WANT, ResetSeen(ours=True, users=("etcd",)))) == ["remove user etcd", "remove /etc/slipway"]


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"cluster": "prod", "confirm": None}, "was not confirmed; expected 'prod'"),
        ({"cluster": "prod", "confirm": ""}, "was not confirmed"),
        ({"cluster": "prod", "confirm": "Prod"}, "was confirmed for 'Prod'; expected 'prod'"),
    ],
)
def test_confirmation(params: dict[str, t.Any], words: str) -> None:
    with pytest.raises(SlipwayError, match=words):
        ResetWant.from_params(params)
    assert ResetWant.from_params({"cluster": "prod", "confirm": "prod"}) == WANT
