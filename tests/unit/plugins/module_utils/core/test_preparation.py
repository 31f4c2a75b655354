# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preparing a host: packages, kernel, swap."""

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.preparation import (
    HostSeen,
    HostWant,
    active_swaps,
    plan_host,
    swap_entries,
    without_swap,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import Directory, File, HostState
from tests.unit.plugins.simulate import names

BRIDGE = "net.bridge.bridge-nf-call-iptables"
FSTAB = """\
# a comment with swap swap swap
UUID=1 / ext4 defaults 0 1
  # /dev/old none swap sw 0 0
/dev/sda2 none swap sw 0 0
/swapfile\tswap\tswap\tdefaults\t0 0
tmpfs /tmp tmpfs
short
"""

CASES: list[tuple[str, HostWant, HostSeen, list[str]]] = [
    ("nothing", HostWant(), HostSeen(), []),
    (
        "packages of missing programs, each once",
        HostWant(packages={"ss": "iproute2", "ip": "iproute2", "nft": "nftables", "mount": "mount"}),
        HostSeen(programs=frozenset({"mount"})),
        ["install packages iproute2, nftables"],
    ),
    ("no package is missing", HostWant(packages={"ip": "iproute2"}), HostSeen(programs=frozenset({"ip"})), []),
    (
        "modules that are not loaded",
        HostWant(modules=("overlay", "vxlan")),
        HostSeen(modules=frozenset({"overlay"})),
        ["load kernel module vxlan"],
    ),
    ("a kernel without modules", HostWant(modules=("overlay",)), HostSeen(modules=None), []),
    ("a setting", HostWant(sysctls={"a.b": "1"}), HostSeen(sysctls={"a.b": "0"}), ["set a.b"]),
    ("the same setting", HostWant(sysctls={"a.b": "1"}), HostSeen(sysctls={"a.b": "1"}), []),
    ("a setting this kernel does not have", HostWant(sysctls={"a.b": "1"}), HostSeen(), []),
    (
        "a setting that a module brings",
        HostWant(modules=("br_netfilter",), sysctls={BRIDGE: "1"}),
        HostSeen(modules=frozenset()),
        ["load kernel module br_netfilter", f"set {BRIDGE}"],
    ),
    (
        "a setting whose module is there and does not bring it",
        HostWant(modules=("br_netfilter",), sysctls={BRIDGE: "1"}),
        HostSeen(modules=frozenset({"br_netfilter"})),
        [],
    ),
    ("a setting whose module may not be loaded", HostWant(sysctls={BRIDGE: "1"}), HostSeen(modules=frozenset()), []),
    ("swap in use", HostWant(), HostSeen(swaps=("/dev/sda2",)), ["switch swap off"]),
    ("swap at the next boot", HostWant(), HostSeen(swap_entries=("/dev/sda2",)), ["switch swap off"]),
    ("swap that is kept", HostWant(swap="keep"), HostSeen(swaps=("/dev/sda2",)), []),
    (
        "all of it, in order",
        HostWant(HostState(directories=(Directory("/d"),)), {"ip": "iproute2"}, ("vxlan",), {"a.b": "1"}),
        HostSeen(modules=frozenset(), sysctls={"a.b": "0"}, swaps=("/swapfile",)),
        [
            "install packages iproute2",
            "create directory /d",
            "load kernel module vxlan",
            "set a.b",
            "switch swap off",
        ],
    ),
]


@pytest.mark.parametrize(("want", "seen", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_steps(want: HostWant, seen: HostSeen, expected: list[str]) -> None:
    assert names(plan_host(want, seen)) == expected


def test_settings_and_swap_are_shown_before_and_after() -> None:
    want = HostWant(sysctls={"a.b": "1"})
    seen = HostSeen(sysctls={"a.b": "0"}, swaps=("/dev/a", "/dev/b"), swap_entries=("/dev/a",))
    assert [(change.before, change.after) for change in plan_host(want, seen)] == [
        ("0\n", "1\n"),
        ("/dev/a, /dev/b\n", ""),
    ]


def test_swap_lines_of_fstab_are_switched_off_and_nothing_else() -> None:
    assert swap_entries(FSTAB) == ("/dev/sda2", "/swapfile")
    off = without_swap(FSTAB)
    assert swap_entries(off) == ()
    assert [line for line in off.splitlines() if "switched off" in line] == [
        "# switched off by Slipway: /dev/sda2 none swap sw 0 0",
        "# switched off by Slipway: /swapfile\tswap\tswap\tdefaults\t0 0",
    ]
    assert off.replace("# switched off by Slipway: ", "") == FSTAB


@given(st.text(st.sampled_from("ab #/\t\n"), max_size=40))
def test_a_table_without_swap_stays_as_it_is(text: str) -> None:
    assert without_swap(text) == text
    assert swap_entries(without_swap(text + "\n/dev/x none swap sw\n")) == ()


def test_areas_in_use() -> None:
    heading = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"
    assert active_swaps("") == active_swaps(heading) == ()
    assert active_swaps(heading + "/dev/dm-1 partition 1 0 -2\n\n/swap file 1 0 -3\n") == ("/dev/dm-1", "/swap")


def test_parameters_are_the_target() -> None:
    want = HostWant(
        HostState(files=(File("/f", "x"),)), {"ip": "iproute2"}, ("overlay",), {"net.ipv4.tcp_rmem": "1 2 3"}, "keep"
    )
    assert HostWant.from_data(json.loads(json.dumps(want.to_data()))) == want
    assert HostWant.from_data({}) == HostWant()


@pytest.mark.parametrize("value", ["1 2 3", "1\t2\t3", " 1  2 3 "])
def test_numbers_are_compared_as_the_kernel_shows_them(value: str) -> None:
    want = HostWant.from_data({"sysctls": {"net.ipv4.tcp_rmem": value}})
    assert plan_host(want, HostSeen(sysctls={"net.ipv4.tcp_rmem": "1 2 3"})) == []


def test_a_number_is_a_setting_too() -> None:
    data: dict[str, t.Any] = {"sysctls": {"kernel.panic": 10}}
    assert HostWant.from_data(data).sysctls == {"kernel.panic": "10"}
