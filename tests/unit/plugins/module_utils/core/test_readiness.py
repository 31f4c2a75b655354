# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be waited for, and what is observed."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core import places
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.readiness import Wait, parse_waits


def test_waits_are_typed() -> None:
    assert parse_waits([]) == ()
    assert parse_waits([{"what": "a", "unit": "a.service"}, {"what": "b", "url": "http://b", "timeout": 1.5}]) == (
        Wait("a", unit="a.service"),
        Wait("b", url="http://b", timeout=1.5),
    )


@pytest.mark.parametrize(
    ("item", "found"),
    [
        ({"unit": "a"}, "missing 1 required positional argument: 'what'"),
        ({"what": "a", "unit": "a", "port": 1}, "unexpected keyword argument 'port'"),
        ({"what": "a"}, "names none or several"),
        ({"what": "a", "unit": "a", "path": "/a"}, "names none or several"),
        ({"what": "a", "unit": "a", "timeout": "soon"}, "timeout 'soon'"),
        ({"what": "a", "unit": "a", "timeout": True}, "timeout True"),
        ({"what": "a", "unit": "a", "timeout": 0}, "timeout 0"),
    ],
)
def test_what_cannot_be_waited_for_is_named(item: dict[str, t.Any], found: str) -> None:
    with pytest.raises(SlipwayError) as caught:
        parse_waits([{"what": "fine", "path": "/x"}, item])
    (problem,) = caught.value.problems
    assert found in problem.found


def test_all_that_is_off_is_named_at_once() -> None:
    with pytest.raises(SlipwayError) as caught:
        parse_waits([{"what": "a"}, {"unit": "b"}, {"what": "c", "url": "http://c", "timeout": -1}])
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("path", "observed"),
    [
        ("/etc/kubernetes", True),
        ("/etc/kubernetes/pki/etcd/ca.crt", True),
        ("/etc/kubernetesx/a", False),
        ("/etc/cni/net.d/10-x.conflist", True),
        ("/var/lib/kubelet", True),
        ("/var/lib/kubelet/pods/x", False),
        ("/etc/systemd/system/kubelet.service", True),
        ("/etc/systemd/system/other.service", False),
        ("/usr/lib/systemd/system/kubelet.service", False),
    ],
)
def test_what_a_probe_looks_at(path: str, *, observed: bool) -> None:
    assert places.is_observed(path) is observed
