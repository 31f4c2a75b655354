# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The first run of three control-plane hosts is interrupted, and hosts that have lost everything do not start anew.

What is proved is that there is never a second cluster: no key is made twice, and etcd's members are the same three.
"""

from __future__ import annotations

import collections.abc
import contextlib

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import cutting, support
from tests.cluster.cutting import Cut, Keys

THREE = {"cp1": False, "cp2": False, "cp3": False}


@pytest.fixture(scope="module")
def lab() -> collections.abc.Iterator[Lab]:
    """Three control-plane hosts, bare at first."""
    with support.lab_of(support.lab_name("bs"), control_plane=3, workers=0) as made:
        yield made


def apply(lab: Lab) -> support.Run:
    """The first run, or another one."""
    return support.ansible_run(lab.inventory, "apply")


def bare(lab: Lab, *hosts: str) -> None:
    """New machines in the place of these hosts."""
    labs.renew(lab, hosts or support.names(lab))


def test_one_of_three_is_down_from_the_start(lab: Lab) -> None:
    labs.power(lab, ["cp3"], "off", cut=True)
    before = support.everywhere(lab, lambda host: support.fingerprint(lab, host), ["cp1", "cp2"])
    refused = apply(lab)
    assert refused.code != 0
    assert "cp3" in refused.problem_text()
    assert "not provably new" in refused.problem_text()
    assert "take them out of the inventory" in refused.problem_text()
    after = support.everywhere(lab, lambda host: support.fingerprint(lab, host), ["cp1", "cp2"])
    assert support.difference(before, after) == []
    labs.power(lab, ["cp3"], "on")


@pytest.mark.parametrize("killed", [("cp1", "cp2", "cp3"), ("cp2", "cp3"), ("cp3",)], ids=lambda names: str(len(names)))
def test_killed_before_the_members_have_formed(killed: tuple[str, ...], lab: Lab) -> None:
    """Before any, all but one, or one of the members was started."""
    keys = Keys(lab)
    cutting.arm(lab, [Cut(host, "etcd_member", "start etcd.service", "before") for host in killed])
    assert apply(lab).code != 0
    assert cutting.still_armed(lab) == []
    keys.look()
    apply(lab).require()
    keys.look()
    assert support.members(lab) == THREE
    support.wait_for("nodes and pods are ready", lambda: support.settled(lab), timeout=240)
    assert support.pending("-i", str(lab.inventory)) == []
    if killed != ("cp3",):
        bare(lab)


def test_two_bare_hosts_beside_a_silent_old_member_form_no_second_cluster(lab: Lab) -> None:
    authority = support.on(lab, "cp3", "cat", "/etc/kubernetes/pki/ca.crt")
    bare(lab, "cp1", "cp2")
    labs.power(lab, ["cp3"], "off", cut=True)
    refused = apply(lab)
    assert refused.code != 0
    assert "not provably new" in refused.problem_text()
    for host in ("cp1", "cp2"):
        assert support.ask(lab, host, "test", "-e", "/etc/kubernetes/pki/ca.key").returncode != 0
        assert support.ask(lab, host, "test", "-e", "/var/lib/etcd/member").returncode != 0

    # The old member is back, alone: it has no quorum, so nobody joins it, and nobody forms another cluster.
    # Its etcd waits for the others, so that its start never ends, which the lab takes for a fault.
    with contextlib.suppress(SlipwayError):
        labs.power(lab, ["cp3"], "on")
    refused = apply(lab)
    print(refused.problem_text())
    assert refused.code != 0
    assert "quorum" in refused.problem_text()
    assert support.on(lab, "cp3", "cat", "/etc/kubernetes/pki/ca.crt") == authority
    for host in ("cp1", "cp2"):
        assert support.ask(lab, host, "test", "-e", "/var/lib/etcd/member").returncode != 0
