# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of lab hosts: Debian roots made by mmdebstrap, tagged by a hash of their recipe, built once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from slipway.lab.model import SYSTEMS
from slipway.lab.podman import Podman

_CUSTOMIZE = Path(__file__).parent / "host" / "customize.sh"
_CUSTOMIZE_DOCKER = Path(__file__).parent / "host" / "docker.sh"

# A machine as it comes: init, SSH, Python, the tools an administrator expects.
BARE_PACKAGES = ("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "iproute2", "kmod", "procps")
# What Slipway's host role would otherwise install from the distribution.
CLUSTER_PACKAGES = ("ca-certificates", "haproxy", "iptables", "iputils-ping", "nftables", "openssl", "python3-apt")

# What the docker role would install; on Debian 12 docker.io has the client as well, and there is no buildx.
DOCKER_PACKAGES = {
    "debian-13": ("docker.io", "docker-cli", "docker-buildx", "docker-compose"),
    "debian-12": ("docker.io", "docker-compose"),
}

_APT_OPTIONS = re.compile(r'Acquire::(https?::Proxy\S*|Check-Valid-Until|Check-Date) "[^"]+";')


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything an image depends on; apt's sources and settings are the machine's own."""

    system: str
    packages: tuple[str, ...]
    sources: tuple[str, ...]
    apt_options: tuple[str, ...]
    customize: str

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with any part of the recipe."""
        return hashlib.sha256(json.dumps(dataclasses.asdict(self), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def tag(self) -> str:
        """The image's full name."""
        return f"localhost/slipway-lab-{self.system}:{self.digest}"

    @property
    def slug(self) -> str:
        """Name of the lock that is held while the image is built."""
        return f"image-{self.system}-{self.digest}"


def sources_for(codename: str, targets: str) -> tuple[str, ...]:
    """Source lines of apt for one Debian release, from the sources that the machine itself uses.

    ``targets`` has lines of repository address, codename, component and origin, separated by ``|``. Empty when the
    machine has no Debian source: then mmdebstrap's own default applies.
    """
    lines = []
    for line in targets.splitlines():
        address, release, component, origin = line.split("|")
        base, dash, pocket = release.partition("-")
        if origin == "Debian" and component == "main" and base and pocket in ("", "updates", "security"):
            lines.append(f"deb {address} {codename}{dash}{pocket} main")
    return tuple(dict.fromkeys(lines))


def apt_options_from(dump: str) -> tuple[str, ...]:
    """The settings a host needs to reach the machine's sources, out of ``apt-config dump``."""
    return tuple(match.group(0) for match in _APT_OPTIONS.finditer(dump))


def recipe_for(system: str, *, bare: bool, docker: bool = False) -> Recipe:
    """The recipe of one system's image on this machine; ``docker``: for a host with a Docker Engine."""
    targets = _output(
        "apt-get", "indextargets", "--format", "$(REPO_URI)|$(CODENAME)|$(COMPONENT)|$(ORIGIN)", "Created-By: Packages"
    )
    return Recipe(
        system,
        packages_for(system, bare=bare, docker=docker),
        sources_for(SYSTEMS[system], targets),
        apt_options_from(_output("apt-config", "dump")),
        "".join(hook.read_text(encoding="utf-8") for hook in _hooks(docker=docker and not bare)),
    )


def packages_for(system: str, *, bare: bool, docker: bool) -> tuple[str, ...]:
    """What is installed in an image."""
    if bare:
        return BARE_PACKAGES
    return BARE_PACKAGES + CLUSTER_PACKAGES + (DOCKER_PACKAGES[system] if docker else ())


def _hooks(*, docker: bool) -> tuple[Path, ...]:
    return (_CUSTOMIZE, _CUSTOMIZE_DOCKER) if docker else (_CUSTOMIZE,)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise SlipwayError(
            Problem(command[0], str(error), "a machine with apt", "run the lab on Debian or a derivative")
        ) from error


def build(podman: Podman, recipe: Recipe, say: t.Callable[[str], None]) -> None:
    """Make the image; the caller holds the image's lock. Leaves nothing behind when it fails."""
    started = time.monotonic()
    prefix = f"slipway-lab-{recipe.slug}-"
    say(f"image {recipe.system}: building, once (a minute or two)")
    for stale in Path("/var/tmp").glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/var/tmp") as directory:
        archive = Path(directory) / "root.tar"
        _bootstrap(recipe, archive)
        podman.run("import", "-q", str(archive), recipe.tag)
    say(f"image {recipe.system}: built in {time.monotonic() - started:.0f} s")


def _bootstrap(recipe: Recipe, archive: Path) -> None:
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(recipe.packages)}"]
    command += [f"--aptopt={option.removesuffix(';')}" for option in recipe.apt_options]
    hooks = _hooks(docker="docker.io" in recipe.packages)
    command += [f'--customize-hook=sh {shlex.quote(str(hook))} "$1"' for hook in hooks]
    command += [SYSTEMS[recipe.system], str(archive), *recipe.sources]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=_environment(archive.parent), stdin=subprocess.DEVNULL
    )
    if result.returncode != 0:
        words = [line for line in result.stderr.splitlines() if line.startswith(("E:", "W:"))] or [result.stderr]
        raise SlipwayError(
            Problem(
                f"image {recipe.system}",
                f"mmdebstrap failed: {' '.join(words)[-2000:]}",
                "a root of " + SYSTEMS[recipe.system] + " from the machine's own apt sources",
                "see that `apt-get update` works and debian-archive-keyring is current, then repeat",
            )
        )


def _environment(temporary: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(temporary)}
