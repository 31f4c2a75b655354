# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lab for the session, its hosts first bare, then checked, then a cluster: each step a fixture, in this order."""

from __future__ import annotations

import collections.abc
import dataclasses
import typing as t

import pytest

from slipway.lab import Lab
from tests.cluster import support

# The files share one lab and walk through its life; files with labs of their own come last.
ORDER = ("test_apply", "test_use", "test_security", "test_power", "test_maintain", "test_reset")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files by the life of the lab."""
    place = {name: number for number, name in enumerate(ORDER)}
    items.sort(key=lambda item: place.get(item.path.stem, len(ORDER)) if item.path.parent.name == "cluster" else -1)


@pytest.fixture(scope="session")
def lab() -> collections.abc.Iterator[Lab]:
    """One control-plane host and two workers without a way out."""
    with support.lab_of() as made:
        yield made


@pytest.fixture(scope="session")
def bare(lab: Lab) -> dict[str, support.Fingerprint]:
    """What every host was before anything of ours touched it."""
    return support.fingerprints(lab)


@pytest.fixture(scope="session")
def planned(lab: Lab, bare: dict[str, support.Fingerprint]) -> support.Said:
    """``slipway plan --json`` on bare hosts."""
    del bare
    return support.slipway("plan", "--json", "-i", str(lab.inventory))


@dataclasses.dataclass(frozen=True)
class Checked:
    """A run in check mode on bare hosts, and what the hosts were after it and after plan."""

    run: support.Run
    after: t.Mapping[str, support.Fingerprint]


@pytest.fixture(scope="session")
def checked(lab: Lab, planned: support.Said) -> Checked:
    """``apply --check --diff`` on bare hosts."""
    del planned
    run = support.ansible_run(lab.inventory, "apply", "--check", "--diff")
    return Checked(run, support.fingerprints(lab))


@pytest.fixture(scope="session")
def applied(lab: Lab, checked: Checked) -> support.Run:
    """The first apply, as verbose as it gets about arguments and return values: tests search what it said."""
    del checked
    return support.ansible_run(lab.inventory, "apply", verbosity=3)


@pytest.fixture(scope="session")
def cluster(lab: Lab, applied: support.Run) -> Lab:
    """The lab with a running cluster."""
    applied.require()
    return lab
