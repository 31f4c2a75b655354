# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the benchmark makes of its numbers, and the files it gives to kubeadm."""

from __future__ import annotations

import dataclasses
import io
import json
import tarfile
from pathlib import Path

import pytest
import yaml

from scripts import bench, bench_kubeadm
from scripts.bench import Measurement
from slipway.bundle.archive import Image, write_image
from slipway.lab.model import Lab, LabSpec
from slipway.report import RunLog

VERSIONS = {"kubernetes": "1.37.0", "coredns": "1.14.6", "etcd": "3.7.0", "pause": "3.10.2"}


def run(side: str, seconds: float, name: str = "first apply", code: int = 0) -> Measurement:
    return Measurement(side, name, "1+2", code, seconds, 3.0, 0.5, {"Prepare": seconds / 2}, {}, {})


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([run("slipway", 30.0), run("kubeadm", 60.0)], "ratio 0.50"),
        ([run("slipway", 30.0), run("slipway", 90.0), run("slipway", 40.0), run("kubeadm", 40.0)], "median of 3"),
        ([run("slipway", 1.0, "second apply"), run("slipway", 30.0), run("kubeadm", 30.0)], "ratio 1.00"),
        ([run("slipway", 30.0), run("kubeadm", 10.0, code=1), run("kubeadm", 15.0)], "ratio 2.00"),
        ([run("slipway", 30.0), run("add-ons", 42.0)], "difference +12.0 s"),
    ],
)
def test_sides_are_compared_by_medians_of_first_runs_that_succeeded(found: list[Measurement], said: str) -> None:
    assert said in bench.comparisons(found)[0]


@pytest.mark.parametrize("found", [[run("slipway", 30.0)], [run("slipway", 30.0), run("kubeadm", 9.0, code=1)], []])
def test_without_both_sides_nothing_is_compared(found: list[Measurement]) -> None:
    assert bench.comparisons(found) == []


def test_a_column_for_each_run() -> None:
    ours = dataclasses.replace(run("slipway", 30.0), results={"cp1": 25}, changed={"cp1": 14})
    lines = bench.columns([ours, run("kubeadm", 60.0, "first run", code=1)])
    text = "\n".join(lines)
    assert "slipway first apply" in lines[0]
    assert "kubeadm first run" in lines[0]
    assert "failed" in text
    assert "25 (14)" in text


def test_ours_is_applied_twice_planned_and_verified(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    played = []

    def play(playbook: str, _lab: Lab) -> tuple[int, RunLog]:
        played.append(playbook)
        return 0, RunLog()

    monkeypatch.setattr(bench, "play", play)
    monkeypatch.setattr(bench, "of_use", lambda *_arguments: None)
    found = bench.run_ours(lab(tmp_path), "1+2", "slipway")
    assert played == ["apply", "apply", "plan", "verify"]
    assert "slipway verify" in bench.columns(found)[0]


@pytest.mark.parametrize(("words", "shapes"), [([], ["1+2", "3+3"]), (["--shape", "5+0"], ["5+0"])])
def test_a_small_and_a_large_cluster_unless_others_are_named(
    words: list[str], shapes: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured = []

    def measure(shape: str, sides: tuple[str, ...], rounds: int, *, keep: bool) -> list[Measurement]:
        measured.append((shape, sides, rounds, keep))
        return []

    monkeypatch.setattr(bench, "measure_shape", measure)
    assert bench.main([*words, "--output", str(tmp_path / "bench.json")]) == 0
    assert measured == [(shape, tuple(bench.SIDES), 1, False) for shape in shapes]


def lab(tmp_path: Path) -> Lab:
    return Lab(LabSpec(name="x", control_plane=2, workers=1), tmp_path / ".lab" / "x", "172.28.5.0/24", {})


def test_only_control_planes_join_as_such(tmp_path: Path) -> None:
    made = {
        host: yaml.safe_load(bench_kubeadm.join_config(lab(tmp_path), host, "t", "d", "k")) for host in ("cp2", "w1")
    }
    assert made["cp2"]["controlPlane"] == {
        "localAPIEndpoint": {"advertiseAddress": "172.28.5.12"},
        "certificateKey": "k",
    }
    assert "controlPlane" not in made["w1"]


def test_kubelet_and_kube_proxy_are_set_as_the_lab_sets_ours(tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(bench_kubeadm.init_config(lab(tmp_path), VERSIONS, "t", "k")))
    by_kind = {document["kind"]: document for document in documents}
    assert by_kind["KubeletConfiguration"]["failCgroupV1"] is False
    assert by_kind["KubeProxyConfiguration"]["conntrack"] == {"maxPerCore": 0, "min": 0}
    assert by_kind["ClusterConfiguration"]["kubernetesVersion"] == "v1.37.0"


def test_an_image_gets_another_name_and_keeps_its_bytes(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"bytes")
    write_image(tmp_path / "old.tar", {"program": program}, Image("slipway.local/x:1", "amd64", ("/program",)))
    bench_kubeadm._rename(tmp_path / "old.tar", tmp_path / "new.tar", "registry.k8s.io/x:1")
    old, new = (_contents(tmp_path / f"{name}.tar") for name in ("old", "new"))
    index = json.loads(new.pop("index.json"))
    assert set(index["manifests"][0]["annotations"].values()) == {"registry.k8s.io/x:1"}
    del old["index.json"]
    assert new == old


def _contents(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        return {member.name: (tar.extractfile(member) or io.BytesIO()).read() for member in tar if member.isfile()}
