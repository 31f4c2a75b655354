# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host on which no module can run: what is said of its Python."""

from __future__ import annotations

import typing as t
from unittest import mock

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.slipway.cluster.plugins.action.probe import ActionModule

BROKEN = {"failed": True, "msg": "MODULE FAILURE", "module_stderr": "Traceback (most recent call last): SyntaxError"}
VARIABLES = {"inventory_hostname": "w1", "ansible_python_interpreter": "/opt/my python/bin/python3"}


class Templar:
    def template(self, value: t.Any) -> t.Any:
        return value


class Host(ActionModule):
    """A host whose shell answers what it is told to."""

    def __init__(self, rc: int, stdout: str) -> None:
        self.answer = {"rc": rc, "stdout": stdout}
        self.asked: list[str] = []
        self._templar: t.Any = Templar()

    def _low_level_execute_command(self, cmd: str, *_rest: t.Any, **_options: t.Any) -> t.Any:
        self.asked.append(cmd)
        return self.answer


@pytest.mark.parametrize(
    ("rc", "stdout", "found"),
    [
        (0, "3.8.18\r\n", "Python 3.8.18 is too old"),
        (0, "2.7.18\n", "Python 2.7.18 is too old"),
        (127, "", "there is no Python"),
    ],
)
def test_an_old_python_is_named_instead_of_the_traceback(rc: int, stdout: str, found: str) -> None:
    said = Host(rc, stdout)._in_words(dict(BROKEN), VARIABLES)
    assert said["failed"] is True
    assert [problem["found"] for problem in said["problems"]] == [found]
    assert [problem["where"] for problem in said["problems"]] == ["w1"]
    assert "Traceback" not in str(said)


@pytest.mark.parametrize(("rc", "stdout"), [(0, "3.9.2"), (0, "3.13.5"), (1, ""), (255, "")])
def test_other_failures_stay_as_they_are(rc: int, stdout: str) -> None:
    assert Host(rc, stdout)._in_words(dict(BROKEN), VARIABLES) == BROKEN


def test_the_interpreter_that_ansible_chose_is_asked_and_its_path_quoted() -> None:
    host = Host(0, "3.13.5")
    host._in_words({**BROKEN, "ansible_facts": {"discovered_interpreter_python": "/usr/bin/python3.13"}}, VARIABLES)
    host._in_words(dict(BROKEN), VARIABLES)
    assert host.asked[0].startswith("/usr/bin/python3.13 -c ")
    assert host.asked[1].startswith("'/opt/my python/bin/python3' -c ")


@pytest.mark.parametrize("setting", ["", "auto", "auto_silent"])
def test_where_no_interpreter_is_known_nothing_is_asked(setting: str) -> None:
    host = Host(0, "3.8.18")
    variables = {"inventory_hostname": "w1", "ansible_python_interpreter": setting}
    assert host._in_words(dict(BROKEN), variables) == BROKEN
    assert host.asked == []


class Silent(ActionModule):
    """On a host that does not answer."""

    def _module(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        raise AnsibleConnectionFailure("no route to host")


class Answering(ActionModule):
    """On a host that answers."""

    def _module(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        return {"probe": {}}


def looked(action_of: type[ActionModule], variables: dict[str, t.Any], **args: t.Any) -> dict[str, t.Any]:
    task = mock.MagicMock(check_mode=False, async_val=0, args=args)
    action = action_of(task, *(mock.MagicMock() for _ in range(5)))
    action._templar = t.cast("t.Any", Templar())
    return action.run(task_vars=variables)


def silent(**args: t.Any) -> dict[str, t.Any]:
    return looked(Silent, {}, **args)


def test_a_silent_host_is_unreachable_unless_its_silence_is_an_answer() -> None:
    """``ignore_unreachable`` does not do: with ``run_once``, ansible-core 2.21 ends the play of all hosts for it."""
    said = silent(silent_ok=True)
    assert "no route to host" in said["msg"]
    assert not {"failed", "unreachable", "probe"} & set(said)
    with pytest.raises(AnsibleConnectionFailure):
        silent()


@pytest.mark.parametrize(("args", "asked"), [({}, False), ({"silent_ok": False}, False), ({"silent_ok": True}, True)])
def test_an_absent_host_is_not_asked_and_keeps_nobody_from_asking_another_by_delegation(
    args: dict[str, t.Any], asked: bool
) -> None:
    """With ``run_once`` and ``delegate_to`` the variables are those of the play's first host, which may be absent."""
    said = looked(Answering, {"slipway_node_absent": "yes"}, **args)
    assert ("probe" in said) is asked
    assert bool(said.get("skipped")) is not asked
