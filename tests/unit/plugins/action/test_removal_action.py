# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the removal action knows of hosts inside and outside ``--limit``."""

from __future__ import annotations

import typing as t
from unittest import mock

import pytest

from ansible_collections.slipway.cluster.plugins.action.removal import ActionModule

ROSTER = {
    "cp1": {"node": "cp1", "kubelet": True, "control_plane": True, "etcd": True, "peer_url": "https://cp1:2380"},
    "w1": {"node": "w1", "kubelet": True, "control_plane": False, "etcd": False, "peer_url": ""},
    "w2": {"node": "w2", "kubelet": True, "control_plane": False, "etcd": False, "peer_url": ""},
}
SEEN: dict[str, t.Any] = {"nodes": {"nodes": [{"name": name, "labels": {}} for name in ("cp1", "w1", "w2", "w9")]}}


def decided(
    name: str,
    play: t.Sequence[str],
    *,
    limited: bool = False,
    silent: t.Container[str] = (),
    check: bool = False,
    confirm: str = "prod",
) -> dict[str, t.Any]:
    """The action's answer; what is not in the play is not probed, but for the witness cp1."""
    answers = {host: {"probe": SEEN if host == "cp1" else {}} for host in play if host not in silent}
    variables = {
        "hostvars": {host: {"slipway_probe": answers[host]} if host in answers else {} for host in ROSTER},
        "groups": {"all": list(ROSTER)},
        "ansible_play_hosts_all": list(play),
        **({"ansible_limit": ":".join(play)} if limited else {}),
        **({"slipway__witnesses": {"cp1": {"probe": SEEN}}} if "cp1" not in play else {}),
    }
    args = {
        "hosts": ROSTER,
        "names": [name],
        "dead": True,
        "cluster": "prod",
        "confirm": confirm,
        "helpers": {"control_plane": ["cp1"], "etcd": ["cp1"]},
    }
    task = mock.MagicMock(check_mode=check, async_val=0, args=args)
    return ActionModule(task, *(mock.MagicMock() for _ in range(5))).run(task_vars=variables)


@pytest.mark.parametrize(
    ("name", "play", "silent", "dead"),
    [("w1", ["w1"], (), False), ("w1", ["w1"], ("w1",), True), ("w9", ["w1"], (), True)],
    ids=["it answers", "it is silent", "a Node that only the witness knows"],
)
def test_with_a_limit_the_host_outside_it_works(
    name: str, play: list[str], silent: tuple[str, ...], dead: bool
) -> None:
    said = decided(name, play, limited=True, silent=silent)
    assert not said.get("failed"), said
    assert (said["leader"], said["etcd_host"]) == ("cp1", "cp1")
    assert [(each["host"], each["dead"]) for each in said["removals"]] == [(name, dead)]


def test_a_host_outside_the_limit_is_refused_and_without_a_limit_none_is_outside() -> None:
    said = decided("w2", ["cp1", "w1"], limited=True)
    assert said["failed"]
    assert "w2: is outside --limit" in said["msg"]
    assert decided("w2", ["cp1", "w1"], limited=False)["removals"][0]["dead"]


@pytest.mark.parametrize(
    ("check", "confirm", "refused"),
    [
        (False, "prod", ""),
        (False, "", "it was not confirmed"),
        (True, "", ""),
        (True, "demo", "'demo' was given for the cluster's name"),
    ],
)
def test_what_changes_nothing_needs_no_confirmation(check: bool, confirm: str, refused: str) -> None:
    said = decided("w1", ["cp1", "w1"], check=check, confirm=confirm)
    assert bool(said.get("failed")) is bool(refused)
    assert refused in said.get("msg", "")
