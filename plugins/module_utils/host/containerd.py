# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe and bring about a host's containerd: files and unit as any component's, then its images."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import typing as t

from ..core.change import Change
from ..core.containerd import (
    CTR,
    MARKER,
    NAMESPACE,
    REGISTRIES_PATH,
    UNIT_NAME,
    ContainerdWant,
    Image,
    containerd_target,
    image_labels,
    plan_images,
    plan_registries,
)
from ..core.problems import Problem, SlipwayError
from ..core.state import SeenState, plan_state
from .artifacts import observe_images
from .fetch import sha256_of
from .machine import Machine
from .state import apply_state, observe_state
from .systemd import unit_failure

IMPORT_SECONDS = 300.0
READY_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class ContainerdSeen:
    """Files and unit, images with the archive they came from, and the registries Slipway configured."""

    state: SeenState
    images: t.Mapping[str, str]
    registries: tuple[str, ...]


def observe_containerd(machine: Machine, want: ContainerdWant) -> ContainerdSeen:
    """What the host has; on a bare host nothing."""
    return ContainerdSeen(
        observe_state(machine, containerd_target(want)), observe_images(machine), tuple(our_registries(machine))
    )


def our_registries(machine: Machine) -> t.Iterator[str]:
    """The registries whose configuration Slipway wrote."""
    with contextlib.suppress(FileNotFoundError):
        for host in sorted(os.listdir(REGISTRIES_PATH)):
            if (machine.read_text(f"{REGISTRIES_PATH}/{host}/hosts.toml") or "").startswith(MARKER):
                yield host


def plan_containerd(want: ContainerdWant, seen: ContainerdSeen) -> list[Change]:
    """Files and unit, then what needs it to run."""
    return [
        *plan_registries(want, seen.registries),
        *plan_state(containerd_target(want), seen.state),
        *plan_images(want.images, seen.images),
    ]


def apply_containerd(machine: Machine, want: ContainerdWant, change: Change) -> None:
    """Carry out one change; safe to repeat and safe to be killed in."""
    if isinstance(change.data, Image):
        import_image(machine, change.data)
        if not want.keep_blobs:
            machine.remove(change.data.blob)
    else:
        apply_state(machine, change)


def import_image(machine: Machine, image: Image) -> None:
    """Import and unpack the image from its archive; then pin it and label it with where it came from.

    Left to its containers, each of them would unpack it alone, and begin again wherever that takes longer than the two
    minutes a kubelet waits (``runtimeRequestTimeout``). Labelled last, an import that was cut is done again.
    """
    if not machine.exists(image.blob):
        raise SlipwayError(
            Problem(
                image.reference,
                f"its archive {image.blob} is not on this host",
                "an archive brought by slipway.cluster.artifacts",
                "run that first, with the image among its artifacts",
            )
        )
    found = sha256_of(image.blob)
    if found != image.sha256:
        machine.remove(image.blob)
        raise SlipwayError(
            Problem(image.blob, f"had sha256 {found} and was removed", f"sha256 {image.sha256}", "run again")
        )
    images = [CTR, "--namespace", NAMESPACE, "images"]
    machine.run([*images, "import", "--local", image.blob], timeout=IMPORT_SECONDS)
    labels = [f"{key}={value}" for key, value in image_labels(image).items()]
    labelled = machine.run([*images, "label", image.reference, *labels], check=False)
    if labelled.rc != 0:
        raise SlipwayError(
            Problem(
                image.reference,
                f"cannot be labelled after its archive was imported: {labelled.stderr.strip()}",
                "an OCI archive that names it (org.opencontainers.image.ref.name or io.containerd.image.name)",
                "mend the reference in the lock's entry",
            )
        )


def settle_containerd(machine: Machine, want: ContainerdWant) -> None:
    """Wait until containerd answers and its CRI plugins work: with a wrong setting it runs without them."""
    del want
    machine.wait(
        UNIT_NAME,
        lambda: _cri_trouble(machine),
        timeout=READY_SECONDS,
        remedy=f"see journalctl -u {UNIT_NAME}; wrong runtime handlers are a common cause",
    )


def _cri_trouble(machine: Machine) -> t.Optional[str]:
    listing = machine.run([CTR, "plugins", "ls"], check=False, timeout=10)
    if listing.rc != 0:
        return unit_failure(machine, UNIT_NAME)
    lines = [line.split() for line in listing.stdout.splitlines()]
    states = {f"{line[0]}.{line[1]}": line[-1] for line in lines if len(line) >= 4 and "cri" in line[0] + line[1]}
    wrong = sorted(name for name, state in states.items() if state != "ok")
    if "io.containerd.grpc.v1.cri" not in states:
        return "no CRI plugin"
    return "plugins that failed: " + ", ".join(wrong) + "; " + unit_failure(machine, UNIT_NAME) if wrong else None
