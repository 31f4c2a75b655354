# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of a lab on disk, and the locks that keep two runs apart."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import subprocess
import typing as t
from pathlib import Path

from slipway.lab import files
from slipway.lab.model import Lab, LabHost

_HOST = Path(__file__).parent / "host"
_LOCKS = Path("/run/lock")


def lab_directory(root: Path, name: str) -> Path:
    """Where the files of a lab are."""
    return root.resolve() / ".lab" / name


def load_lab(directory: Path) -> Lab | None:
    """The lab that lives in a directory, or None."""
    try:
        text = (directory / "lab.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return Lab.from_dict(json.loads(text), directory)


def save_lab(lab: Lab) -> None:
    """Write everything that others read: state, keys, known hosts, SSH configuration and inventory.

    Keys that exist are kept, so that a repeated or interrupted run never changes a host's identity.
    """
    lab.directory.mkdir(parents=True, exist_ok=True)
    write(lab.directory / "lab.json", json.dumps(lab.as_dict(), indent=2, sort_keys=True) + "\n")
    _make_key(lab.private_key, f"slipway-lab-{lab.name}")
    public = {host.address: _seed(lab, host) for host in lab.hosts}
    write(lab.known_hosts, files.known_hosts(public))
    write(lab.ssh_config, files.ssh_config(lab))
    write(lab.inventory, files.inventory(lab))


def _seed(lab: Lab, host: LabHost) -> str:
    """Write what a host reads at its first start; returns its public host key."""
    directory = lab.directory / "hosts" / host.name
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = directory / "ssh_host_ed25519_key"
    _make_key(key, host.name)
    if not (directory / "machine-id").exists():
        write(directory / "machine-id", secrets.token_hex(16) + "\n")
    write(directory / "hostname", host.name + "\n")
    write(directory / "hosts", files.hosts_file(host))
    scripts = ["init.sh"]
    if lab.spec.driver == "vm":
        scripts.append("machine.sh")
        write(directory / "lab.network", files.network_file(lab, host))
    for script in scripts:
        write(directory / script, (_HOST / script).read_text(encoding="utf-8"))
    if lab.spec.isolated:
        write(directory / "isolated", "")
    write(directory / "authorized_keys", lab.private_key.with_suffix(".pub").read_text(encoding="utf-8"))
    return key.with_suffix(".pub").read_text(encoding="utf-8")


def _make_key(path: Path, comment: str) -> None:
    """An SSH key pair, complete or not there at all."""
    if path.exists() and path.with_suffix(".pub").exists():
        return
    path.unlink(missing_ok=True)
    path.with_suffix(".pub").unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)], check=True)


def write(path: Path, text: str) -> None:
    """Replace a file atomically; a file that has this content already is left alone."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == text:
            return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def remove_lab(directory: Path) -> None:
    """Remove all files of a lab; the state goes last, so that a killed removal can be repeated."""
    if not directory.exists():
        return
    for path in sorted(directory.iterdir(), key=lambda path: path.name == "lab.json"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    directory.rmdir()


@contextlib.contextmanager
def locked(what: str, say: t.Callable[[str], None]) -> t.Iterator[None]:
    """Hold one of the machine's lab locks; says so when it has to wait. The kernel frees it when a holder dies."""
    _LOCKS.mkdir(parents=True, exist_ok=True)
    with (_LOCKS / f"slipway-lab-{what}.lock").open("w", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run that holds {handle.name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
