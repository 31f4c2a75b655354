# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The metrics gate of hosts for etcd alone in plans: a certificate that the leader signs, and no proxy of their own."""

from __future__ import annotations

import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core import places
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.targets import metrics_gate
from tests.unit.plugins.cluster import DAY, Cluster, Made, bare

GROUPS = {"cp1": "control_plane", "cp2": "control_plane", "cp3": "control_plane", "e1": "etcd", "w1": "workers"}
LEAF_STEPS = ["request certificate metrics", "issue certificate metrics"]
UNIT = "slipway-metrics.service"


def cluster(*, endpoints: bool = True, groups: t.Mapping[str, str] = GROUPS) -> Cluster:
    variables = {"slipway_metrics": {"endpoints": endpoints}}
    return Cluster(dict(groups), variables, probes={name: bare(name) for name in groups})


def applied(found: Cluster) -> Made:
    made = found.plan()
    found.carry_out(made)
    return made


def of_gate(made: Made, host: str) -> list[tuple[str, str]]:
    return [(step.module, step.change.name) for step in made.blueprint.steps[host] if step.phase == "metrics"]


def unit_text(made: Made, host: str) -> str:
    files = made.blueprint.hosts[host]["metrics"]["state"]["files"]
    (text,) = [file["content"] for file in files if file["path"].endswith(UNIT)]
    return str(text)


def test_a_member_without_a_kubelet_gets_a_gate_with_a_certificate_of_its_own_once() -> None:
    found = cluster()
    made = applied(found)
    steps = of_gate(made, "e1")
    assert [name for module, name in steps if module == "certificate"] == LEAF_STEPS
    assert ("component", f"start {UNIT}") in steps
    assert all("metrics" not in made.blueprint.hosts[host] for host in ("cp1", "w1"))
    leaf = made.blueprint.hosts["e1"]["metrics"]["certificate"]["leaf"]
    assert (leaf["authority"], leaf["usages"]) == ("kubernetes", ["server"])
    assert found.plan().blueprint.pending == ()


def test_it_gives_etcd_and_asks_every_api_server_itself() -> None:
    made = cluster().plan()
    text = unit_text(made, "e1")
    servers = [f"--api=https://{node.address}:6443" for node in made.layout.control_plane]
    assert len(servers) == 3
    assert all(server in text for server in servers)
    assert "--source=etcd=http://127.0.0.1:2381/metrics" in text
    assert "--source=keeper=/var/lib/slipway/keeper.prom" in text
    assert text.count("--source=") == 2
    assert f"LoadCredential=serving.key:{metrics_gate.KEY}" in text


def test_its_certificate_is_renewed_by_apply_and_read() -> None:
    found = cluster()
    applied(found)
    for data in found.probes.values():
        data["time"] += 310 * DAY
    assert of_gate(found.plan(), "e1") == [("certificate", name) for name in (*LEAF_STEPS, f"restart {UNIT}")]


def test_switched_off_nothing_is_left_of_it() -> None:
    found = cluster()
    applied(found)
    off = cluster(endpoints=False)
    off.probes = found.probes
    names = off.plan().names("e1")
    assert f"stop {UNIT}" in names
    for path in (metrics_gate.ETC, metrics_gate.PROGRAM, f"/etc/systemd/system/{UNIT}"):
        assert f"remove {path}" in names
    applied(off)
    assert off.plan().blueprint.pending == ()
    assert "metrics" not in off.plan().blueprint.hosts["e1"]


def test_what_it_needs_is_looked_at_and_removed() -> None:
    assert metrics_gate.ETC in places.TREES
    assert any(pattern.startswith(metrics_gate.ETC) for pattern in places.CERTIFICATES)
