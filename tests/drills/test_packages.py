# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that have a way out but not the OS packages a cluster needs: the host role installs those, once."""

from __future__ import annotations

import collections.abc

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.places import PACKAGES
from slipway.lab import Lab
from tests.cluster import support


@pytest.fixture(scope="module")
def pair() -> collections.abc.Iterator[Lab]:
    """A control-plane host and a worker with a default route and few packages."""
    with support.lab_of(support.lab_name("pkg"), workers=1, isolated=False, bare_packages=True) as lab:
        yield lab


def missing(lab: Lab, host: str) -> list[str]:
    """The needed programs that the host does not have."""
    return [
        program
        for program in PACKAGES
        if support.ask(lab, host, "sh", "-c", f"command -v {program} || command -v /usr/sbin/{program}").returncode
    ]


def test_missing_packages_are_announced_and_installed(pair: Lab) -> None:
    lacking = support.everywhere(pair, lambda host: missing(pair, host))
    assert "haproxy" in lacking["cp1"]
    assert "haproxy" in lacking["w1"]
    announced = support.ansible_run(pair.inventory, "apply", "--check").require()
    applied = support.ansible_run(pair.inventory, "apply").require()
    for host, programs in lacking.items():
        sentence = f"install packages {', '.join(sorted({PACKAGES[program] for program in programs}))}"
        assert ("host", sentence) in announced.of(host)
        assert applied.of(host) == announced.of(host)
        assert missing(pair, host) == []
        assert support.ask(pair, host, "systemctl", "is-active", "haproxy.service").stdout.strip() == "inactive"
        assert support.ask(pair, host, "systemctl", "is-enabled", "haproxy.service").stdout.strip() == "disabled"


def test_the_cluster_works_and_nothing_is_left_to_do(pair: Lab) -> None:
    again = support.ansible_run(pair.inventory, "apply").require()
    assert {host: stats.changed for host, stats in again.stats.items()} == {"cp1": 0, "w1": 0}
    support.slipway("verify", "-i", str(pair.inventory)).require()
