# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of lab hosts: Debian roots made by mmdebstrap, tagged by a hash of their recipe, built once.

The image of a virtual machine is a root with QEMU that has the machine's own root as a disk.
"""

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
from slipway.lab.model import DEFAULT_DRIVER, SYSTEMS
from slipway.lab.podman import Podman

_HOOKS = Path(__file__).parent / "host"
_DISK = _HOOKS / "disk.sh"

# A machine as it comes: init, SSH, Python, the tools an administrator expects.
BARE_PACKAGES = ("systemd", "systemd-sysv", "dbus", "openssh-server", "python3", "iproute2", "kmod", "procps")
# What Slipway's host role would otherwise install from the distribution.
CLUSTER_PACKAGES = ("ca-certificates", "haproxy", "iptables", "iputils-ping", "nftables", "openssl", "python3-apt")

# What the docker role would install; on Debian 12 docker.io has the client as well, and there is no buildx.
DOCKER_PACKAGES = {
    "debian-13": ("docker.io", "docker-cli", "docker-buildx", "docker-compose"),
    "debian-12": ("docker.io", "docker-compose"),
}

# What makes a virtual machine of a root, and what runs one.
MACHINE_PACKAGES = ("e2fsprogs", "linux-image-cloud-amd64", "udev")
QEMU_PACKAGES = ("iproute2", "qemu-system-x86", "qemu-utils")

_APT_OPTIONS = re.compile(r'Acquire::(https?::Proxy\S*|Check-Valid-Until|Check-Date) "[^"]+";')


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Everything an image depends on; apt's sources and settings are the machine's own.

    ``customize`` has the text of every hook by its name, in their order; ``runner`` the packages and the script of the
    root that runs a virtual machine, and nothing for a container.
    """

    system: str
    packages: tuple[str, ...]
    sources: tuple[str, ...]
    apt_options: tuple[str, ...]
    customize: tuple[tuple[str, str], ...]
    runner: tuple[str, ...] = ()

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


def recipe_for(system: str, *, bare: bool, docker: bool = False, driver: str = DEFAULT_DRIVER) -> Recipe:
    """The recipe of one system's image on this machine; ``docker``: for a host with a Docker Engine."""
    hooks = hooks_for(docker=docker and not bare, driver=driver)
    targets = _output(
        "apt-get", "indextargets", "--format", "$(REPO_URI)|$(CODENAME)|$(COMPONENT)|$(ORIGIN)", "Created-By: Packages"
    )
    return Recipe(
        system,
        packages_for(system, bare=bare, docker=docker, driver=driver),
        sources_for(SYSTEMS[system], targets),
        apt_options_from(_output("apt-config", "dump")),
        tuple((name, (_HOOKS / name).read_text(encoding="utf-8")) for name in hooks),
        (*QEMU_PACKAGES, _DISK.read_text(encoding="utf-8")) if driver == "vm" else (),
    )


def packages_for(system: str, *, bare: bool, docker: bool, driver: str) -> tuple[str, ...]:
    """What is installed on a host."""
    own = MACHINE_PACKAGES if driver == "vm" else ()
    if bare:
        return BARE_PACKAGES + own
    return BARE_PACKAGES + own + CLUSTER_PACKAGES + (DOCKER_PACKAGES[system] if docker else ())


def hooks_for(*, docker: bool, driver: str) -> tuple[str, ...]:
    """The scripts that customize a host's root, in their order."""
    return ("customize.sh", f"{driver}.sh", *(["docker.sh"] if docker else []))


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
    say(f"image {recipe.system}: building, once (a minute or two{', or ten' if recipe.runner else ''})")
    for stale in Path("/var/tmp").glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/var/tmp") as directory:
        archive = Path(directory) / "root.tar"
        hooks = [[str(_HOOKS / name)] for name, _text in recipe.customize]
        if recipe.runner:
            guest = archive.with_name("guest")
            _bootstrap(recipe, recipe.packages, hooks, guest)
            _bootstrap(recipe, QEMU_PACKAGES, [[str(_DISK), str(guest)]], archive)
        else:
            _bootstrap(recipe, recipe.packages, hooks, archive)
        podman.run("import", "-q", str(archive), recipe.tag)
    say(f"image {recipe.system}: built in {time.monotonic() - started:.0f} s")


def _bootstrap(recipe: Recipe, packages: t.Sequence[str], hooks: t.Sequence[t.Sequence[str]], target: Path) -> None:
    """Make a root, as an archive or a directory by the target's name; each hook is a script and its own arguments."""
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(packages)}"]
    command += [f"--aptopt={option.removesuffix(';')}" for option in recipe.apt_options]
    command += [f'--customize-hook=sh {shlex.quote(script)} "$1" {shlex.join(rest)}' for script, *rest in hooks]
    command += [SYSTEMS[recipe.system], str(target), *recipe.sources]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False, env=_environment(target.parent), stdin=subprocess.DEVNULL
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
