# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The layer over ansible-runner: pure parts by tables, the rest by running small playbooks on this machine."""

from __future__ import annotations

import io
import json
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import time
import types
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway.run import Run, Stopper, collections_root, command_line, environment, inventory_paths, run_playbook
from slipway.verbs import Console, execute


def settings(origins: dict[str, str] | None = None, *, host_key_checking: bool = True) -> types.SimpleNamespace:
    def get(name: str) -> tuple[t.Any, str]:
        return None, (origins or {}).get(name, "default")

    return types.SimpleNamespace(
        config=types.SimpleNamespace(get_config_value_and_origin=get),
        HOST_KEY_CHECKING=host_key_checking,
        COLLECTIONS_PATHS=["/usr/share/ansible/collections"],
    )


def test_environment_has_quick_defaults_and_our_collection_first() -> None:
    env = environment(settings(), {"PATH": "/usr/bin"})
    assert env["ANSIBLE_PIPELINING"] == "1"
    assert env["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert int(env["MAX_EVENT_RES"]) > 10_000_000
    assert env["ANSIBLE_COLLECTIONS_PATH"].split(":")[0] == collections_root()
    assert env["PATH"].split(":") == [str(pathlib.Path(sys.executable).parent), "/usr/bin"]
    assert "LC_ALL" not in env


def test_environment_gives_way_to_the_users_settings() -> None:
    env = environment(settings({"ANSIBLE_PIPELINING": "/home/me/ansible.cfg"}, host_key_checking=False), {})
    assert "ANSIBLE_PIPELINING" not in env
    assert env["ANSIBLE_HOST_KEY_CHECKING"] == "False"


def test_environment_leaves_the_c_locale() -> None:
    assert environment(settings(), {"LC_ALL": "POSIX"})["LC_ALL"] == "C.UTF-8"


def test_collections_root_holds_the_collection() -> None:
    assert (pathlib.Path(collections_root()) / "ansible_collections/slipway/cluster/meta/runtime.yml").is_file()


def test_command_line_survives_quoting() -> None:
    run = Run(playbook="p", inventories=(), check=True, diff=True, extra_vars=("a=b c", '{"d": "e\'f"}'))
    words = ["--user", "me", "--extra-vars", "a=b c", "--extra-vars", '{"d": "e\'f"}', "--check", "--diff"]
    assert shlex.split(command_line(run.__class__(**{**run.__dict__, "options": ("--user", "me")}))) == words


def test_inventory_paths_names_all_that_are_missing(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.yml").touch()
    assert inventory_paths(["hosts.yml", "a,b,"]) == (str(tmp_path / "hosts.yml"), "a,b,")
    with pytest.raises(SlipwayError) as caught:
        inventory_paths(["old.yml", "hosts.yml", "gone"])
    assert [problem.where for problem in caught.value.problems] == ["--inventory old.yml", "--inventory gone"]


def test_stopper_kills_only_the_second_time_or_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.run._child_pids", list)
    now = 100.0
    stopper = Stopper(clock=lambda: now)
    assert not stopper()
    stopper.stop()
    assert not stopper()
    now = 111.0
    assert stopper()
    now = 101.0
    stopper.stop()
    assert stopper()


PLAYBOOK = [
    {
        "name": "Observe",
        "hosts": "all",
        "gather_facts": False,
        "connection": "local",
        "vars": {"ansible_python_interpreter": sys.executable},
        "tasks": [
            {"name": "Say", "ansible.builtin.set_fact": {"said": "{{ word }}"}},
            {
                "name": "Refuse",
                "ansible.builtin.fail": {"msg": "refused {{ said }}"},
                "when": "inventory_hostname == 'b'",
            },
        ],
    }
]


@pytest.fixture
def playbook(tmp_path: pathlib.Path) -> str:
    path = tmp_path / "playbook.yml"
    path.write_text(json.dumps(PLAYBOOK))
    return str(path)


def test_runs_a_playbook_and_tells_one_host_s_failure(
    playbook: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    out = io.StringIO()
    console = Console(out=out)
    code = execute(Run(playbook=playbook, inventories=("a,b,",), extra_vars=('{"word": "it is"}',)), console)
    assert code == 1
    assert console.log.hosts["a"].failed == 0
    assert console.log.hosts["b"].failed == 1
    assert "error: Refuse: refused it is\n  hosts: b" in out.getvalue()
    assert "Observe\n  b: Refuse: refused it is\n" in out.getvalue()
    assert "PLAY [" not in out.getvalue()
    assert list(tmp_path.glob("slipway-*")) == []


def test_limit_that_matches_nobody_is_a_failure(playbook: str) -> None:
    out = io.StringIO()
    assert execute(Run(playbook=playbook, inventories=("a,b,",), limit="z"), Console(out=out)) == 1
    assert "error: run: " in out.getvalue()


@pytest.mark.parametrize("times", [1, 3])
def test_interrupt_stops_ansible_and_exits_130(times: int, tmp_path: pathlib.Path) -> None:
    # A pause would ask a person what to do now, and wait for the answer for ever.
    sleeping = [{**PLAYBOOK[0], "tasks": [{"name": "Wait", "ansible.builtin.wait_for": {"timeout": 20}}]}]
    path = tmp_path / "sleep.yml"
    path.write_text(json.dumps(sleeping))
    program = (
        "import sys; from slipway.run import Run; from slipway.verbs import Console, execute;"
        f"sys.exit(execute(Run(playbook={str(path)!r}, inventories=('a,',)), Console(out=sys.stdout)))"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Observe\n"
        for _again in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.01)  # signals that come together count as one
        assert process.wait(timeout=30) == 130
    assert list(tmp_path.glob("slipway-*")) == []


def test_ansible_sees_host_key_checking_on(tmp_path: pathlib.Path) -> None:
    shown = {"name": "Show", "ansible.builtin.fail": {"msg": "{{ lookup('config', 'HOST_KEY_CHECKING') }}"}}
    path = tmp_path / "show.yml"
    path.write_text(json.dumps([{**PLAYBOOK[0], "tasks": [shown]}]))
    console = Console(out=io.StringIO())
    run_playbook(Run(playbook=str(path), inventories=("a,",)), console.handle)
    assert [problem.found for problem in console.log.problems] == ["True"]
