# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings a bundle's bytes to the seed host over the connection; plugins/modules/seed.py does the rest there."""

from __future__ import annotations

import collections.abc
import contextlib
import os
import secrets
import shlex
import tarfile
import tempfile
import typing as t
from pathlib import Path

from ansible import constants
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.plugins.connection import ConnectionBase

from ansible_collections.slipway.cluster.plugins.module_utils.core.artifacts import Artifact
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.ssh import keep_alive


class ActionModule(ActionBase):
    """Look what the seed host lacks, pack that, send it, and let the module take it in and serve it."""

    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The module's result; in check mode nothing is sent."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        if self._task.check_mode:
            return result | self._module(arguments, task_vars)
        try:
            artifacts = [Artifact.from_data(entry) for entry in arguments.get("artifacts") or ()]
            held = arguments.get("held")
            if held is None:
                looked = self._module({**arguments, "phase": "look"}, task_vars)
                if looked.get("failed"):
                    return result | looked
                held = {artifact.sha256 for artifact in artifacts} - set(looked["missing"])
            missing = {artifact.sha256: artifact for artifact in artifacts if artifact.sha256 not in held}
            files = files_of(Path(str(arguments.get("bundle"))), missing.values())
        except SlipwayError as error:
            problems = [problem.as_dict() for problem in error.problems]
            return result | {"failed": True, "msg": str(error), "problems": problems}
        return result | self._bring(arguments, files, task_vars)

    def _bring(
        self, arguments: dict[str, t.Any], files: dict[str, Path], task_vars: dict[str, t.Any] | None
    ) -> dict[str, t.Any]:
        token = secrets.token_urlsafe(32)
        arguments = {**arguments, "token": token}
        if files:
            arguments["pack"] = self._send(files)
        result = self._module(arguments, task_vars)
        if not result.get("failed") and result.get("sources"):
            result["token_file"] = keep_token(token)
        return result

    def _module(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        done: dict[str, t.Any] = self._execute_module(
            module_name="slipway.cluster.seed", module_args=arguments, task_vars=task_vars
        )
        return done

    def _send(self, files: dict[str, Path]) -> str:
        """Send the files as one tar, which is one transfer instead of twenty; its path on the host."""
        shell = self._connection._shell  # noqa: SLF001  # action plugins have no public name for it
        directory = shell.tmpdir or self._make_tmp_path()
        remote: str = shell.join_path(directory, "pack.tar")
        with tempfile.NamedTemporaryFile(dir=_local_directory(), prefix="slipway-pack-") as local:
            try:
                pack(files, Path(local.name))
            except OSError as error:
                raise AnsibleError(
                    f"{local.name} on the controller: {error.strerror}; expected space for a copy of the bundle; "
                    "free some, or set local_tmp in ansible.cfg to a directory with more"
                ) from error
            keep_alive(self._connection)
            try:
                with uncompressed(self._connection):
                    self._transfer_file(local.name, remote)
            except AnsibleError as error:
                size = sum(file.stat().st_size for file in files.values())
                raise AnsibleError(
                    f"{directory}: {size >> 20} MiB could not be sent there: {error}; expected space for them; "
                    "free some, or set remote_tmp in ansible.cfg to a directory with more"
                ) from error
        return remote


@contextlib.contextmanager
def uncompressed(connection: ConnectionBase) -> collections.abc.Iterator[None]:
    """Send over a connection of its own without compression, where it is OpenSSH's.

    Ansible asks ssh for compression by default. It is slower than most networks, a few times slower than the ciphers,
    and what is sent here is compressed already.
    """
    if connection.transport != "ssh":
        yield
        return
    given = str(connection.get_option("ssh_args") or "")
    connection.set_option("ssh_args", without_compression(given))
    try:
        yield
    finally:
        connection.set_option("ssh_args", given)


def without_compression(ssh_args: str) -> str:
    """Words for ssh that share no other's connection and do not compress; of a setting given twice ssh takes the first.

    >>> without_compression("-C -o ControlMaster=auto")
    '-o Compression=no -o ControlMaster=no -o ControlPath=none -o ControlMaster=auto'
    """
    own = ("Compression=no", "ControlMaster=no", "ControlPath=none")
    words = [word for setting in own for word in ("-o", setting)]
    return shlex.join([*words, *(word for word in shlex.split(ssh_args) if word != "-C")])


def files_of(bundle: Path, artifacts: t.Iterable[Artifact]) -> dict[str, Path]:
    """Each sha256 with its file in the bundle; SlipwayError with everything that is missing or has another size."""
    files, problems = {}, []
    for artifact in artifacts:
        path = bundle / artifact.file
        try:
            size = path.stat().st_size if artifact.file else -1
        except OSError as error:
            problems.append(Problem(str(path), f"cannot be read: {error.strerror}", artifact.label))
            continue
        if not artifact.file:
            problems.append(Problem(artifact.label, "names no file of the bundle"))
        elif artifact.size and size != artifact.size:
            problems.append(Problem(str(path), f"has {size} bytes", f"{artifact.size} bytes, as bundle.json says"))
        files[artifact.sha256] = path
    if problems:
        raise SlipwayError([*problems, Problem(str(bundle), "is not whole", remedy="run: slipway bundle verify")])
    return files


def pack(files: dict[str, Path], target: Path) -> None:
    """Write a tar whose members are named by sha256; the kernel copies the bytes."""
    with target.open("wb", buffering=0) as archive:
        for sha256, path in files.items():
            with path.open("rb") as content:
                member = tarfile.TarInfo(sha256)
                member.size = os.fstat(content.fileno()).st_size
                archive.write(member.tobuf(tarfile.USTAR_FORMAT))
                copied = 0
                while copied < member.size:
                    copied += os.sendfile(archive.fileno(), content.fileno(), copied, member.size - copied)
                archive.write(bytes(-member.size % tarfile.BLOCKSIZE))
        archive.write(bytes(2 * tarfile.BLOCKSIZE))


def _local_directory() -> str:
    """The directory that Ansible made for this run and removes at its end."""
    return str(getattr(constants, "DEFAULT_LOCAL_TMP"))  # noqa: B009  # it is not declared where mypy looks


def keep_token(token: str) -> str:
    """Put the token in a file of Ansible's own temporary directory, which it removes at its end."""
    handle, path = tempfile.mkstemp(dir=_local_directory(), prefix="slipway-token-")
    with contextlib.closing(os.fdopen(handle, "w", encoding="ascii")) as stream:
        stream.write(token)
    return path
