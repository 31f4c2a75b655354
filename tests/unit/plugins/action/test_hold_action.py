# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller does about a host that it holds and that does not answer."""

from __future__ import annotations

import typing as t
from unittest import mock

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.slipway.cluster.plugins.action.hold import ActionModule


class Silent(ActionModule):
    """On a host that does not answer."""

    def _module(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        raise AnsibleConnectionFailure("no route to host")


def held(state: str) -> dict[str, t.Any]:
    task = mock.MagicMock(check_mode=False, async_val=0, args={"state": state})
    return Silent(task, *(mock.MagicMock() for _ in range(5))).run()


def test_a_run_that_goes_on_passes_over_a_host_that_does_not_answer() -> None:
    assert "no route to host" in held("renewed")["msg"]
    assert "failed" not in held("renewed")


@pytest.mark.parametrize("state", ["present", "absent"])
def test_who_takes_or_leaves_a_host_must_reach_it(state: str) -> None:
    with pytest.raises(AnsibleConnectionFailure):
        held(state)
