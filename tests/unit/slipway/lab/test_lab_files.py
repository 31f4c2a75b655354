# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a lab: what Ansible and ssh read."""

from __future__ import annotations

import dataclasses
import stat
import subprocess
from pathlib import Path

import pytest
import yaml

from slipway.lab import files
from slipway.lab.model import Lab, LabSpec
from slipway.lab.store import load_lab, remove_lab, save_lab, write

LAB = Lab(LabSpec(name="a", etcd=1), Path("/some where/.lab/a"), "172.28.7.0/24", {})


def test_the_inventory_has_the_groups_and_the_lab_s_own_settings() -> None:
    data = yaml.safe_load(files.inventory(LAB))
    assert data["slipway_control_plane"]["hosts"] == {"cp1": {"ansible_host": "172.28.7.11"}}
    assert list(data["slipway_workers"]["hosts"]) == ["w1", "w2"]
    assert list(data["slipway_etcd"]["hosts"]) == ["etcd1"]
    variables = data["all"]["vars"]
    assert variables["slipway_cluster_name"] == "a"
    assert variables["slipway_host"] == {"manage_kernel": False}
    assert variables["slipway_bundle"] == "/some where/.bundle/1.37"
    assert "host_key_checking" not in files.inventory(LAB)


def test_groups_without_hosts_are_left_out() -> None:
    data = yaml.safe_load(files.inventory(dataclasses.replace(LAB, spec=LabSpec(workers=0))))
    assert set(data) == {"slipway_control_plane", "all"}


def test_extra_variables_win_and_the_bundle_follows_the_version() -> None:
    extra = {"slipway_kubernetes_version": "1.36", "slipway_cluster_name": "other"}
    variables = files.lab_vars(dataclasses.replace(LAB, extra_vars=extra))
    assert variables["slipway_bundle"].endswith("/.bundle/1.36")
    assert variables["slipway_cluster_name"] == "other"


@pytest.mark.parametrize("target", ["w2", "172.28.7.52"])
def test_ssh_itself_reads_the_configuration_as_meant(tmp_path: Path, target: str) -> None:
    config = tmp_path / "ssh_config"
    config.write_text(files.ssh_config(LAB), encoding="utf-8")
    read = subprocess.run(["ssh", "-G", "-F", str(config), target], capture_output=True, text=True, check=True).stdout
    options = dict(line.split(" ", 1) for line in read.splitlines() if " " in line)
    assert options["hostname"] == "172.28.7.52"
    assert options["user"] == "root"
    assert options["stricthostkeychecking"] == "true"
    assert options["userknownhostsfile"] == '"/some where/.lab/a/known_hosts"'.strip('"')
    assert options["identityfile"] == "/some where/.lab/a/id_ed25519"


def test_saving_twice_keeps_every_identity_and_gives_each_host_its_own(tmp_path: Path) -> None:
    lab = Lab(LabSpec(name="a"), tmp_path / ".lab" / "a", "172.28.7.0/24", {})
    save_lab(lab)
    before = {path: path.read_bytes() for path in lab.directory.rglob("*") if path.is_file()}
    save_lab(lab)
    after = {path: path.read_bytes() for path in lab.directory.rglob("*") if path.is_file()}
    assert after == before
    assert load_lab(lab.directory) == lab
    for name in ("machine-id", "ssh_host_ed25519_key", "hostname", "hosts"):
        assert len({(lab.directory / "hosts" / host / name).read_text() for host in ("cp1", "w1", "w2")}) == 3
    assert stat.S_IMODE(lab.private_key.stat().st_mode) == 0o600
    known = lab.known_hosts.read_text().splitlines()
    key = (lab.directory / "hosts" / "w1" / "ssh_host_ed25519_key.pub").read_text().split()
    assert known[1] == f"172.28.7.51 {key[0]} {key[1]}"


def test_half_a_key_pair_is_made_anew(tmp_path: Path) -> None:
    lab = Lab(LabSpec(name="a", workers=0), tmp_path / ".lab" / "a", "172.28.7.0/24", {})
    save_lab(lab)
    lab.private_key.with_suffix(".pub").unlink()
    save_lab(lab)
    public = lab.private_key.with_suffix(".pub").read_text(encoding="utf-8")
    assert (lab.directory / "hosts" / "cp1" / "authorized_keys").read_text(encoding="utf-8") == public


def test_only_an_isolated_lab_tells_its_hosts_so(tmp_path: Path) -> None:
    for isolated in (True, False):
        spec = LabSpec(name="a", workers=0, isolated=isolated)
        lab = Lab(spec, tmp_path / str(isolated) / ".lab" / "a", "172.28.7.0/24", {})
        save_lab(lab)
        assert (lab.directory / "hosts" / "cp1" / "isolated").exists() is isolated


MACHINE = dataclasses.replace(LAB, spec=LabSpec(name="a", workers=0, driver="vm"))


def test_virtual_machines_get_none_of_the_settings_of_containers() -> None:
    contained, own = (set(files.lab_vars(lab)) for lab in (LAB, MACHINE))
    assert contained - own == {"slipway_host", "slipway_containerd", "slipway_kubelet", "slipway_kube_proxy"}
    assert own <= contained


def test_a_virtual_machine_sets_up_its_own_network(tmp_path: Path) -> None:
    lab = dataclasses.replace(MACHINE, directory=tmp_path / ".lab" / "a")
    save_lab(lab)
    text = (lab.directory / "hosts" / "cp1" / "lab.network").read_text(encoding="utf-8")
    assert "MACAddress=02:51:ac:1c:07:0b\n" in text
    assert "Address=172.28.7.11/24\n" in text
    assert "Gateway=172.28.7.1\n" in text
    isolated = dataclasses.replace(lab, spec=dataclasses.replace(lab.spec, isolated=True))
    assert "Gateway" not in files.network_file(isolated, isolated.host("cp1"))


def test_an_unchanged_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write(path, "x")
    inode = path.stat().st_ino
    write(path, "x")
    assert path.stat().st_ino == inode
    write(path, "y")
    assert path.stat().st_ino != inode
    assert [entry.name for entry in tmp_path.iterdir()] == ["f"]


def test_removal_takes_everything_and_may_be_repeated(tmp_path: Path) -> None:
    lab = Lab(LabSpec(name="a"), tmp_path / ".lab" / "a", "172.28.7.0/24", {})
    save_lab(lab)
    lab.kubeconfig.write_text("k", encoding="utf-8")
    remove_lab(lab.directory)
    assert not lab.directory.exists()
    remove_lab(lab.directory)
