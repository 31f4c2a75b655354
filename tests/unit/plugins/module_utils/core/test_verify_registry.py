# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a node is told by a registry, as the kubelet repeats it, and how that is judged."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.verify import judge_registries
from ansible_collections.slipway.cluster.plugins.module_utils.core.verify_registry import pull_answers, pulling_object

ONE, TWO = "10.0.0.9:5000", "registry.test:5000"
SPACE = "slipway-verify-ab12cd"
IMAGE = f"{ONE}/slipway-verify/nothing:{SPACE}"
PULL = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": '
HEAD = f'failed to do request: Head "https://{ONE}/v2/slipway-verify/nothing/manifests/{SPACE}": '


def pod(reason: str, message: str = "", **labels: str) -> dict[str, t.Any]:
    spec = pulling_object(SPACE, [ONE])["spec"]["template"]["spec"]
    waiting = {"reason": reason, "message": message} if reason else {}
    statuses = [{"name": spec["containers"][0]["name"], "state": {"waiting": waiting}}]
    metadata = {"name": "puller-1", "labels": {"app": "puller", **labels}}
    return {"metadata": metadata, "spec": {**spec, "nodeName": "w1"}, "status": {"containerStatuses": statuses}}


@pytest.mark.parametrize(
    ("reason", "message", "told"),
    [
        ("ErrImagePull", f"rpc error: code = NotFound desc = {PULL}{IMAGE}: not found", ""),
        ("ImagePullBackOff", f'Back-off pulling image "{IMAGE}": ErrImagePull: {PULL}{IMAGE}: not found', ""),
        (
            "ErrImagePull",
            f"{PULL}{HEAD}dial tcp {ONE}: connect: connection refused",
            f"dial tcp {ONE}: connect: connection refused",
        ),
        (
            "ErrImagePull",
            f"{PULL}{HEAD}tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "tls: failed to verify certificate: x509: certificate signed by unknown authority",
        ),
        ("ErrImagePull", f"{PULL}{HEAD}dial tcp: lookup x: no such host", "dial tcp: lookup x: no such host"),
        ("InvalidImageName", "", "InvalidImageName"),
        ("ContainerCreating", "", None),
        ("", "", None),
    ],
)
def test_what_a_node_was_told(reason: str, message: str, told: str | None) -> None:
    answers = pull_answers({"items": [pod(reason, message), pod("ErrImagePull", "no", app="probe")]})
    assert answers == ({} if told is None else {("w1", ONE): told})


def test_each_registry_is_asked_from_everywhere_within_the_restricted_standard() -> None:
    spec = pulling_object(SPACE, [ONE, TWO])["spec"]["template"]["spec"]
    assert [each["image"].partition("/")[0] for each in spec["containers"]] == [ONE, TWO]
    assert len({each["name"] for each in spec["containers"]}) == 2
    assert all(each["securityContext"]["capabilities"] == {"drop": ["ALL"]} for each in spec["containers"])
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert pulling_object(SPACE, [ONE])["kind"] == "DaemonSet"


@pytest.mark.parametrize(
    ("answers", "ok", "seen"),
    [
        ({("cp1", ONE): "", ("w1", ONE): ""}, True, "2 of 2 answers: 1 registries from 2 nodes"),
        ({("cp1", ONE): "", ("w1", ONE): "401"}, False, f"registries from 2 nodes; {ONE} from w1: 401"),
        ({("cp1", ONE): ""}, False, f"{ONE} from w1: no answer yet"),
    ],
)
def test_registries(answers: dict[tuple[str, str], str], ok: bool, seen: str) -> None:
    check = judge_registries(answers, ["cp1", "w1"], [ONE])
    assert (check.ok, "slipway-registry" in check.hint) == (ok, True)
    assert seen in check.seen


def test_without_a_ready_node_nothing_is_well() -> None:
    assert not judge_registries({}, [], [ONE]).ok
