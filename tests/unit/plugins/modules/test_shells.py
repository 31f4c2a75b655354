# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Modules as Ansible calls them: parameters in, JSON out, and documentation that tells the same."""

from __future__ import annotations

import getpass
import grp
import json
import os
import pathlib
import types
import typing as t

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args

from ansible_collections.slipway.cluster.plugins.filter.with_passwords import FilterModule
from ansible_collections.slipway.cluster.plugins.module_utils.core.etcd import EtcdWant
from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import node_object
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.quorum import Member
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import HostState
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify import Check
from ansible_collections.slipway.cluster.plugins.module_utils.host import engine
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.modules import (
    bootstrap_token,
    component,
    docker,
    docker_verify,
    drain,
    etcd_member,
    etcd_removal,
    gate,
    host,
    maintenance,
    manifests,
    probe,
    verify,
)
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec.definitions import VARIABLES
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec.kinds import Items, Table

ME = getpass.getuser()
MINE = grp.getgrgid(os.getgid()).gr_name


@pytest.fixture(autouse=True)
def _places(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "RUN_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(engine, "LOCK_PATH", str(tmp_path / "run/lock"))
    monkeypatch.setattr(engine, "FAULT_PATH", str(tmp_path / "fault"))


def call(
    module: types.ModuleType, capsys: pytest.CaptureFixture[str], arguments: dict[str, t.Any], *, check: bool = False
) -> dict[str, t.Any]:
    name = module.__name__.rpartition(".")[2]
    options = {"_ansible_module_name": name, "_ansible_check_mode": check, "_ansible_diff": True}
    with patch_module_args({**arguments, **options}), pytest.raises(SystemExit):
        module.main()
    return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))


def own(path: pathlib.Path, content: str, **fields: t.Any) -> dict[str, t.Any]:
    return {"path": str(path), "content": content, "owner": ME, "group": MINE, **fields}


# --- component --------------------------------------------------------------------------------------------------------
def test_component_checks_applies_and_has_nothing_left(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "f"
    arguments = {
        "state": {"files": [own(path, "port @@port@@ @@on@@\nkey @@key@@\n", mode="0600", secret=True)]},
        "values": {"port": 6443, "on": True},
        "secrets": {"key": "hunter2"},
        "wait": [{"what": "the file", "path": str(path)}],
    }
    announced = call(component, capsys, arguments, check=True)
    assert announced["changed"] is True
    assert not path.exists()
    done = call(component, capsys, arguments)
    assert done["actions"] == announced["actions"] == [f"write {path}"]
    assert done["diff"] == []
    assert path.read_text() == "port 6443 true\nkey hunter2\n"
    assert "hunter2" not in json.dumps(done["actions"])
    assert call(component, capsys, arguments)["changed"] is False


def test_component_says_everything_that_is_wrong_with_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    state = {"files": [{"path": "f", "content": "", "mode": 420}]}
    result = call(component, capsys, {"state": state})
    assert result["failed"] is True
    assert [problem["found"] for problem in result["problems"]] == ["is relative", "mode 420"]
    result = call(component, capsys, {"state": {}, "wait": [{"what": "x"}]})
    assert result["problems"][0]["found"] == "names none or several"


# --- host -------------------------------------------------------------------------------------------------------------
def test_host_in_check_mode_looks_and_touches_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path
) -> None:
    arguments = {
        "state": {"directories": [{"path": str(tmp_path / "d"), "owner": ME, "group": MINE}]},
        "packages": {"no-such-program": "no-such-package", "sh": "dash"},
        "sysctls": {"kernel.ostype": "Other", "no.such.setting": "1"},
        "swap": "keep",
    }
    result = call(host, capsys, arguments, check=True)
    assert result["actions"] == [
        "install packages no-such-package",
        f"create directory {tmp_path}/d",
        "set kernel.ostype",
    ]
    assert list(tmp_path.iterdir()) == []


def test_host_makes_what_is_declared(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    arguments = {"state": {"directories": [{"path": str(tmp_path / "d"), "owner": ME, "group": MINE}]}, "swap": "keep"}
    assert call(host, capsys, arguments)["changed"] is True
    assert (tmp_path / "d").is_dir()
    assert call(host, capsys, arguments)["changed"] is False


# --- etcd_member ------------------------------------------------------------------------------------------------------
def test_etcd_member_announces_a_bootstrap_and_refuses_one_that_is_not_known_to_be_new(
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments = {"state": {}, "name": "cp1", "cluster": {"cp1": "https://10.0.0.11:2380"}, "token": "t"}
    announced = call(etcd_member, capsys, {**arguments, "bootstrap": True}, check=True)
    assert announced["actions"] == ["record the intent to form etcd", "record that etcd has formed"]
    refused = call(etcd_member, capsys, arguments, check=True)
    assert "not known to be new" in refused["problems"][0]["found"]


def test_etcd_member_takes_its_parameters() -> None:
    params = {"state": {}, "name": "a", "cluster": {"a": "u"}, "token": "t", "bootstrap": True}
    told = {"endpoints": ["https://b:2379"], "members": [{"id": "1", "name": "b", "peer_urls": ["https://b:2380"]}]}
    assert etcd_member.parse(params | told) == EtcdWant(
        HostState(), "a", {"a": "u"}, "t", True, ("https://b:2379",), (Member("1", "b", ("https://b:2380",)),)
    )
    with pytest.raises(SlipwayError, match="unexpected keyword argument 'colour'"):
        etcd_member.parse(params | {"endpoints": [], "members": [{"id": "1", "colour": "red"}]})


# --- bootstrap_token --------------------------------------------------------------------------------------------------
TOKEN = "abcdef.0123456789abcdef"


class Listing(Machine):
    """A host with the keeper's list."""

    def __init__(self, text: str) -> None:
        self.text = text

    def read_text(self, path: str) -> str | None:
        return self.text if path == bootstrap_token.NODES else None

    def write(self, path: str, content: bytes, *, mode: int, owner: str = "root", group: str = "root") -> None:
        assert (path, mode, owner, group) == (bootstrap_token.NODES, 0o644, "root", "root")
        self.text = content.decode()


class Kubectl(Machine):
    def __init__(self) -> None:
        self.calls: list[tuple[list[str], str, t.Any]] = []

    def run(self, argv: t.Sequence[str], *, stdin: str | None = None, **options: t.Any) -> Output:
        self.calls.append((list(argv), stdin or "", options["env"]["KUBECONFIG"]))
        return Output(0, "", "")


def params(**changed: t.Any) -> dict[str, t.Any]:
    defaults = {"token": TOKEN, "joining": ["w1"], "nodes": {}, "missing": [], "minutes": 15}
    return {**defaults, "kubectl": "/k", "kubeconfig": "/c", **changed}


def test_a_set_is_absent_without_the_others() -> None:
    item = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    given = [
        {"name": name, "objects": objects, "packed": "", "absent": not objects}
        for name, objects in (("a", []), ("b", [item]), ("c", []))
    ]
    calls = {"prune": True, "values": {}, "files": {}, "kubectl": "k", "kubeconfig": "c", "wait": 0}
    want = manifests.parse({**given[0], **calls, "also": given[1:]})
    assert [(each.name, each.absent) for each in want.sets] == [("a", True), ("b", False), ("c", True)]


def test_a_token_is_made_only_for_somebody() -> None:
    nothing = bootstrap_token.Seen({})
    assert [change.name for change in bootstrap_token.plan(bootstrap_token.parse(params()), nothing)] == [
        "create bootstrap token"
    ]
    assert bootstrap_token.plan(bootstrap_token.parse(params(joining=[])), nothing) == []


def test_who_joins_is_added_to_the_keepers_list_once() -> None:
    machine = Listing('{"w1": ["10.0.0.51", "w1"]}')
    want = bootstrap_token.parse(params(joining=[], nodes={"w1": ["10.0.0.51", "w1"], "w2": ["10.0.0.52", "w2"]}))
    (change,) = bootstrap_token.plan(want, bootstrap_token.observe(machine, want))
    assert change.name == "allow a serving certificate for w2"
    bootstrap_token.apply(machine, want, change)
    assert json.loads(machine.text) == {"w1": ["10.0.0.51", "w1"], "w2": ["10.0.0.52", "w2"]}
    assert bootstrap_token.plan(want, bootstrap_token.observe(machine, want)) == []


def test_a_node_that_is_not_there_is_made_and_one_that_is_there_left_alone() -> None:
    class Api(Kubectl):
        def exists(self, path: str) -> bool:
            return path in ("/k", "/c")

        def read_text(self, path: str) -> str | None:
            return None

        def run(self, argv: t.Sequence[str], *, stdin: str | None = None, **options: t.Any) -> Output:
            super().run(argv, stdin=stdin, **options)
            return Output(0, json.dumps({"kind": "List", "items": [node_object("w1", "10.244.1.0/24", [])]}), "")

    machine = Api()
    items = [node_object(name, f"10.244.{name[1]}.0/24", []) for name in ("w1", "w2")]
    want = bootstrap_token.parse(params(joining=[], missing=items))
    (change,) = bootstrap_token.plan(want, bootstrap_token.observe(machine, want))
    assert change.name == "create node w2"
    bootstrap_token.apply(machine, want, change)
    argv, text, _kubeconfig = machine.calls[-1]
    assert argv[:2] == ["/k", "apply"]
    assert json.loads(text)["items"] == items[1:]


@pytest.mark.parametrize("token", ["", "abcdef", "abcdef.0123", "abcdef0123456789abcdef", "a.0123456789abcdef"])
def test_a_token_of_another_form_is_refused(token: str) -> None:
    with pytest.raises(SlipwayError, match="wrong form"):
        bootstrap_token.parse(params(token=token))


def test_a_token_goes_through_a_pipe_and_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1_800_000_000.0)
    machine = Kubectl()
    want = bootstrap_token.parse(params())
    bootstrap_token.apply(machine, want, bootstrap_token.plan(want, bootstrap_token.Seen({}))[0])
    ((argv, text, kubeconfig),) = machine.calls
    assert (argv[:3], argv[-1], kubeconfig) == (["/k", "apply", "--server-side"], "--filename=-", "/c")
    (secret,) = json.loads(text)["items"]
    assert secret["metadata"] == {"name": "bootstrap-token-abcdef", "namespace": "kube-system"}
    assert secret["stringData"]["expiration"] == "2027-01-15T08:15:00Z"
    assert secret["stringData"]["auth-extra-groups"] == "system:bootstrappers:slipway"
    assert "usage-bootstrap-signing" not in secret["stringData"]


def test_a_token_is_never_shown(capsys: pytest.CaptureFixture[str]) -> None:
    result = call(bootstrap_token, capsys, {"token": TOKEN, "joining": ["w1"]}, check=True)
    assert result["actions"] == ["create bootstrap token"]
    assert "0123456789abcdef" not in json.dumps(result)


# --- probe ------------------------------------------------------------------------------------------------------------
def test_probe_returns_what_it_saw_or_why_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def seen(_machine: Machine, sysctls: list[str]) -> dict[str, t.Any]:
        return {"hostname": "x", "asked": sysctls}

    monkeypatch.setattr(probe, "probe", seen)
    result = call(probe, capsys, {"sysctls": ["net.core.somaxconn"]})
    assert result["probe"]["hostname"] == "x"
    assert result["changed"] is False
    assert result["probe"]["asked"] == ["net.core.somaxconn"]

    def broken(_machine: Machine, _sysctls: list[str]) -> t.NoReturn:
        raise SlipwayError(Problem("cp1", "is odd"))

    monkeypatch.setattr(probe, "probe", broken)
    assert call(probe, capsys, {})["problems"][0]["where"] == "cp1"


# --- findings ---------------------------------------------------------------------------------------------------------
GOOD, BAD = (
    Check("API", ok=True, done="asked", seen="all"),
    Check("pods", ok=False, done="asked", seen="none", hint="h"),
)


@pytest.mark.parametrize(("checks", "ok"), [([GOOD], True), ([GOOD, BAD], False), ([], True)])
def test_findings_are_told_whether_they_are_good_or_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, checks: list[Check], ok: bool
) -> None:
    monkeypatch.setattr(docker_verify, "use_docker", lambda *_: (checks, ["host/image@sha256:1"]))
    result = call(docker_verify, capsys, {"step": "build"})
    assert (result["ok"], result.get("failed", False), result["changed"]) == (ok, not ok, False)
    assert [check["aspect"] for check in result["checks"]] == [check.aspect for check in checks]
    assert result["images"] == ["host/image@sha256:1"]
    assert result.get("slipway_report", {}).get("table") == (result["table"] or None)
    assert [problem["remedy"] for problem in result.get("problems", [])] == ([] if ok else ["h"])


def test_what_only_looks_does_not_even_look_in_check_mode(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verify, capsys, {"image": "agnhost"}, check=True)["checks"] == []
    result = call(docker_verify, capsys, {"step": "run"}, check=True)
    assert (result["ok"], result["images"]) == (True, [])
    assert call(docker_verify, capsys, {"step": "run"})["problems"][0]["found"] == "are not given"


# --- documentation ----------------------------------------------------------------------------------------------------
FRAGMENT = {"kubectl", "kubeconfig", "etcdctl", "etcd_endpoints", "etcd_ca", "etcd_certificate", "etcd_key"}


@pytest.mark.parametrize(
    "module",
    [component, host, etcd_member, bootstrap_token, gate, drain, etcd_removal, maintenance, docker, docker_verify],
    ids=lambda each: each.__name__,
)
def test_what_is_documented_is_what_is_taken(module: types.ModuleType) -> None:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    spec = {name: entry for name, entry in module.ARGUMENT_SPEC.items() if name not in FRAGMENT}
    assert set(options) == set(spec)
    for name, entry in spec.items():
        for key in ("type", "required", "default", "choices", "elements"):
            assert options[name].get(key) == entry.get(key), (name, key)


# --- filter -----------------------------------------------------------------------------------------------------------
def test_passwords_are_put_to_their_users() -> None:
    with_passwords = FilterModule().filters()["with_passwords"]
    assert with_passwords({"a": "user", "b": "other"}, {"a": "secret", "c": "unused"}) == {
        "a": {"username": "user", "password": "secret"}
    }


# --- docker -----------------------------------------------------------------------------------------------------------
def differences(table: Table, options: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    for field in table.fields:
        option = options[field.name]
        if (field.required, field.default) != (option.get("required", False), option.get("default")):
            yield field.name
        if isinstance(field.kind, Items) and isinstance(field.kind.item, Table):
            yield from differences(field.kind.item, option["options"])


def test_what_may_be_left_out_in_the_spec_may_be_left_out_in_the_module() -> None:
    table = VARIABLES["slipway_docker"].kind
    assert isinstance(table, Table)
    assert list(differences(table, docker.ARGUMENT_SPEC)) == []
