# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a run of this machine still lives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ansible_collections.slipway.cluster.plugins.plugin_utils import controller
from ansible_collections.slipway.cluster.plugins.plugin_utils.controller import is_dead, machine, run_id


def test_this_run_lives_and_is_always_the_same() -> None:
    assert run_id() == run_id(os.getppid())
    assert not is_dead(run_id())


def test_a_run_whose_process_ended_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run = run_id(process.pid)
        assert not is_dead(run)
    assert is_dead(run)


def test_a_run_that_ended_and_that_nobody_asked_after_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        run = run_id(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_dead(run)


def test_a_process_that_is_not_shown_may_be_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "_seen", lambda _pid: ("", ""))
    assert not is_dead(f"{machine()} {os.getpid()} 1")


def test_another_process_of_the_same_number_is_not_the_run() -> None:
    assert is_dead(f"{machine()} {os.getpid()} 1")


def test_of_other_machines_nothing_is_known() -> None:
    assert not is_dead("another-boot/pid:[1] 4711 99")
    assert not is_dead("")
