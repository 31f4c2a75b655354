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


@pytest.mark.parametrize("state", ["renewed", "absent"])
def test_a_run_that_goes_on_or_ends_passes_over_a_host_that_does_not_answer(state: str) -> None:
    assert "no route to host" in held(state)["msg"]
    assert "failed" not in held(state)


def test_who_takes_a_host_must_reach_it() -> None:
    with pytest.raises(AnsibleConnectionFailure):
        held("present")
