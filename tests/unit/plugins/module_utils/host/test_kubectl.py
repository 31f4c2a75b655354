# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kubectl is asked, and how its answers and refusals are read."""

from __future__ import annotations

import json
import time
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core import places
from ansible_collections.slipway.cluster.plugins.module_utils.core.manifests import ObjectRef
from ansible_collections.slipway.cluster.plugins.module_utils.core.nodes import NodeWant, plan_nodes
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.host.kubectl import Kubectl
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output
from ansible_collections.slipway.cluster.plugins.module_utils.host.nodes import Nodes

REFUSED = Output(
    1, "", "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?"
)
WIDGET = ObjectRef("example.com/v1", "Widget", "w", "n")
PLAIN = ObjectRef("v1", "ConfigMap", "c", "n")


class Script(Machine):
    """A machine that answers from a list and remembers what it was asked."""

    def __init__(self, *answers: Output, installed: bool = True) -> None:
        self.answers = list(answers)
        self.installed = installed
        self.asked: list[tuple[list[str], t.Any]] = []
        self.seconds: list[float] = []

    def run(
        self,
        argv: t.Sequence[str],
        *,
        stdin: str | None = None,
        check: bool = True,
        timeout: float = 60,
        env: t.Mapping[str, str] | None = None,
    ) -> Output:
        assert (env or {}).get("KUBECONFIG") == (places.ADMIN_CONF if argv[0] == places.KUBECTL else None)
        self.asked.append((list(argv), json.loads(stdin) if stdin else None))
        self.seconds.append(timeout)
        return self.answers.pop(0)

    def exists(self, path: str) -> bool:
        return self.installed and path in (places.KUBECTL, places.ADMIN_CONF)

    def wait(
        self,
        what: str,
        predicate: t.Callable[[], str | None],
        *,
        timeout: float,
        interval: float = 0.25,
        remedy: str = "",
    ) -> None:
        while self.answers:
            if predicate() is None:
                return
        raise SlipwayError(())


def found(*items: dict[str, t.Any]) -> Output:
    return Output(0, json.dumps(items[0] if len(items) == 1 else {"kind": "List", "items": items}) if items else "", "")


def test_a_call_has_the_time_of_its_kubectl_unless_it_is_given_its_own() -> None:
    machine = Script(found(), found(), found())
    Kubectl(machine).run(["version"])
    slow = Kubectl(machine, timeout=600)
    slow.json(["get", "pods"])
    slow.run(["version"], timeout=20)
    assert machine.seconds == [60, 600, 20]


def test_one_call_finds_all() -> None:
    machine = Script(found(PLAIN.to_object(), WIDGET.to_object()))
    assert set(Kubectl(machine).find([PLAIN, WIDGET]) or {}) == {PLAIN.key, WIDGET.key}
    ((argv, listing),) = machine.asked
    assert argv[:2] == [places.KUBECTL, "get"]
    assert listing["items"] == [PLAIN.to_object(), WIDGET.to_object()]


@pytest.mark.parametrize(("answer", "keys"), [(found(), set()), (found(PLAIN.to_object()), {PLAIN.key})])
def test_none_and_one_are_answers_of_other_shapes(answer: Output, keys: set[t.Any]) -> None:
    assert set(Kubectl(Script(answer)).find([PLAIN]) or {}) == keys


def test_an_unknown_kind_is_absent() -> None:
    said = 'no matches for kind "Widget" in version "example.com/v1"'
    machine = Script(Output(1, "", said), found(PLAIN.to_object()))
    assert set(Kubectl(machine).find([PLAIN, WIDGET]) or {}) == {PLAIN.key}
    assert machine.asked[1][1]["items"] == [PLAIN.to_object()]
    assert Kubectl(Script(Output(1, "", said))).find([WIDGET]) == {}


def test_silence_is_not_absence() -> None:
    assert Kubectl(Script(REFUSED)).find([PLAIN]) is None
    assert Kubectl(Script(REFUSED)).nodes() is None
    assert Kubectl(Script(installed=False)).find([PLAIN]) is None
    assert Kubectl(Script(installed=False)).nodes() is None


def test_a_refusal_is_an_error_and_never_a_bare_cluster() -> None:
    forbidden = Output(1, "", "Error from server (Forbidden): no")
    with pytest.raises(SlipwayError, match="Forbidden"):
        Kubectl(Script(forbidden)).find([PLAIN])
    with pytest.raises(SlipwayError, match="Forbidden"):
        Kubectl(Script(forbidden)).nodes()


def test_an_immutable_field_has_a_remedy() -> None:
    with pytest.raises(SlipwayError, match="delete that object and run again"):
        Kubectl(Script(Output(1, "", "roleRef: field is immutable"))).apply([PLAIN.to_object()])


def test_nothing_to_do_is_no_call() -> None:
    kubectl = Kubectl(Script())
    kubectl.apply([])
    kubectl.delete([])
    kubectl.wait_established([PLAIN.to_object()])
    assert kubectl.predict([]) == {}
    assert kubectl.find([]) == {}


def test_objects_of_an_api_that_is_gone_are_gone() -> None:
    Kubectl(Script(Output(1, "", 'no matches for kind "Widget" in version "example.com/v1"'))).delete([WIDGET])
    with pytest.raises(SlipwayError, match="timed out"):
        Kubectl(Script(Output(1, "", "timed out waiting"))).delete([WIDGET])


def listing(**spec: t.Any) -> Output:
    node = {"metadata": {"name": "w1", "labels": {"a": "b"}, "annotations": {"c": "d"}}, "spec": spec}
    return Output(0, json.dumps({"items": [node]}), "")


def test_a_node_is_awaited_and_a_refused_patch_is_made_anew() -> None:
    (change,) = plan_nodes([NodeWant("w1", unschedulable=True)], Nodes(machine := Script(), Kubectl(machine)).seen)
    machine = Script(
        Output(0, '{"items": []}', ""),
        listing(),
        Output(1, "", "the object has been modified"),
        listing(),
        Output(0, "", ""),
    )
    Nodes(machine, Kubectl(machine)).apply(change, timeout=1)
    verbs = [argv[1] for argv, _stdin in machine.asked]
    assert verbs == ["get", "get", "patch", "get", "patch"]


def test_a_node_that_is_as_wanted_meanwhile_is_not_patched() -> None:
    (change,) = plan_nodes([NodeWant("w1", unschedulable=True)], Nodes(machine := Script(), Kubectl(machine)).seen)
    machine = Script(listing(unschedulable=True))
    Nodes(machine, Kubectl(machine)).apply(change, timeout=1)
    assert [argv[1] for argv, _stdin in machine.asked] == ["get"]


def test_the_approver_works_while_nodes_are_changed() -> None:
    wanted = [NodeWant("w1", {"x": ""}), NodeWant("w1", unschedulable=True)]
    changes = plan_nodes(wanted, Nodes(machine := Script(), Kubectl(machine)).seen)
    machine = Script(listing(), *[Output(0, "", "")] * 3)
    nodes = Nodes(machine, Kubectl(machine))
    for change in changes:
        nodes.apply(change, timeout=1, approver="keeper.service")
    said = [argv[1:3] for argv, _stdin in machine.asked]
    assert [words[0] for words in said] == ["get", "start", "patch", "patch"]
    assert said[1] == ["start", "--no-block"]


def requests(**status: t.Any) -> Output:
    spec = {"signerName": "kubernetes.io/kubelet-serving", "username": "system:node:w1"}
    return Output(0, json.dumps({"items": [{"spec": spec, "status": status}]}), "")


def test_the_approver_is_started_as_long_as_a_serving_certificate_is_pending() -> None:
    approved = {"conditions": [{"type": "Approved"}]}
    machine = Script(requests(), Output(0, "", ""), requests(**approved), Output(0, "", ""), requests(certificate="x"))
    Nodes(machine, Kubectl(machine)).wait_served(["w1"], "keeper.service")
    assert [argv[1:3] for argv, _stdin in machine.asked if argv[0] == "systemctl"] == [["start", "keeper.service"]] * 2
    assert [argv[1] for argv, _stdin in machine.asked] == ["get", "start", "get", "start", "get"]


def test_a_request_that_stays_pending_is_no_error_of_the_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    machine = Script(*[requests(), Output(1, "", "failed")] * 2)
    Nodes(machine, Kubectl(machine)).wait_served(["w1"], "keeper.service")
    assert len(machine.asked) == 4


SLOW = Output(1, "", "Unable to connect to the server: net/http: TLS handshake timeout")
INVALID = 'error: error validating "STDIN": error validating data: '
NO_SCHEMA = Output(1, "", f'{INVALID}Get "https://127.0.0.1:6443/openapi/v2?timeout=32s": context deadline exceeded')
UNKNOWN_FIELD = Output(1, "", f'{INVALID}unknown field "spec.replica"')


@pytest.mark.parametrize(
    ("answers", "rc", "asked"),
    [
        ((SLOW, Output(0, "{}", "")), 0, 2),
        ((SLOW, SLOW, Output(0, "{}", "")), 0, 3),
        ((SLOW, SLOW, SLOW), 1, 3),
        ((NO_SCHEMA, SLOW, Output(0, "{}", "")), 0, 3),
        ((UNKNOWN_FIELD,), 1, 1),
        ((REFUSED,), 1, 1),
        ((Output(1, "", "Error from server (Forbidden): no"),), 1, 1),
    ],
)
def test_what_never_reached_the_api_is_tried_again(answers: tuple[Output, ...], rc: int, asked: int) -> None:
    machine = Script(*answers)
    assert Kubectl(machine).run(["get", "nodes"], check=False).rc == rc
    assert len(machine.asked) == asked
