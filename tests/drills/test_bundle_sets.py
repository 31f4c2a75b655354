# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every version set builds, its programs say the version they were built as, and sets share what is equal."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

import pytest

from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import Lock
from slipway.bundle.build import build_bundle
from slipway.bundle.places import known_sets, load_set, workspace
from slipway.bundle.verify import verify_bundle

# Programs that print their version when asked, and how they are asked.
ASK = {
    "etcd": ("etcd", "--version"),
    "containerd": ("containerd", "--version"),
    "runc": ("runc", "--version"),
    "crictl": ("crictl", "--version"),
    "kube-apiserver": ("kube-apiserver", "--version"),
    "kube-controller-manager": ("kube-controller-manager", "--version"),
    "kube-scheduler": ("kube-scheduler", "--version"),
    "kubelet": ("kubelet", "--version"),
    "kube-proxy": ("kube-proxy", "--version"),
    "kubectl": ("kubectl", "version", "--client"),
    "kubeadm": ("kubeadm", "version"),
    "flannel": ("flanneld", "--version"),
    "cni-plugins": ("bridge",),
    "registry": ("registry", "--version"),
}


def build(name: str) -> tuple[Path, Lock]:
    """Build a set where `slipway bundle build` puts it, and check it."""
    output = workspace() / ".bundle" / name
    build_bundle(load_set(name), output, workspace() / ".cache" / "bundle", print)
    return output, verify_bundle(output)


@pytest.mark.parametrize("name", known_sets())
def test_programs_say_the_version_they_are_recorded_with(name: str, tmp_path: Path) -> None:
    output, lock = build(name)
    assert set(ASK) == {artifact.name for artifact in lock.artifacts if artifact.kind == "archive"}
    for artifact in lock.artifacts:
        if artifact.kind != "archive":
            continue
        with tarfile.open(output / artifact.file) as tar:
            assert sorted(tar.getnames()) == sorted(artifact.programs)
            tar.extractall(tmp_path, filter="data")
        program, *arguments = ASK[artifact.name]
        found = subprocess.run(
            [str(tmp_path / program), *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert artifact.version in found.stdout + found.stderr, artifact.name


def test_sets_share_the_components_that_are_equal() -> None:
    (older, old), (newer, new) = (build(name) for name in known_sets()[-2:])
    same = [artifact for artifact in new.artifacts if artifact in old.artifacts]
    assert {"containerd", "runc", "flannel", "coredns", "pause"} <= {artifact.name for artifact in same}
    assert "kubelet" not in {artifact.name for artifact in same}
    for artifact in same:
        assert (older / artifact.file).samefile(newer / artifact.file)
