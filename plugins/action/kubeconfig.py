# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetches a kubeconfig: the key is made here and stays here, plugins/modules/kubeconfig.py signs what it proves."""

from __future__ import annotations

import contextlib
import getpass
import os
import tempfile
import time
import typing as t
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.kubeconfig import Access, lacks, render, user_name

try:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
except ImportError as error:  # ansible-core itself brings it
    _MISSING: ImportError | None = error
else:
    _MISSING = None

MODE = 0o600


class ActionModule(ActionBase):
    """Leaves a file that serves alone, else makes a key, has it certified on the host, and writes the file."""

    _requires_connection = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """``kubeconfig`` is the path; neither key nor certificate is in any result."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        if _MISSING is not None:
            raise AnsibleError(f"the Python package cryptography is needed on the controller: {_MISSING}")
        variables = task_vars or {}
        try:
            return result | self._fetch(self._path(variables), variables)
        except SlipwayError as error:
            problems = [problem.as_dict() for problem in error.problems]
            return result | {"failed": True, "msg": str(error), "problems": problems}
        except OSError as error:
            problem = Problem(str(error.filename), error.strerror or str(error), "a file that this user may write")
            return result | {"failed": True, "msg": problem.text(), "problems": [problem.as_dict()]}

    def _path(self, variables: t.Mapping[str, t.Any]) -> Path:
        asked = str(self._task.args.get("path") or "")
        beside = Path(str(variables.get("inventory_dir") or ".")) / "kubeconfig"
        # Through a link, so that the link stays.
        return (Path(asked).expanduser() if asked else beside).resolve()

    def _fetch(self, path: Path, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        arguments = self._task.args
        user = user_name(str(arguments.get("user") or getpass.getuser()))
        looked = self._module({}, variables)
        if looked.get("failed"):
            return looked
        access = Access(str(arguments["cluster"]), str(arguments["server"]), str(looked["authority"]), user)
        told = {"kubeconfig": str(path), "user": user, "slipway_report": {"kubeconfig": str(path)}}
        reason = _why(path, access)
        if not reason:
            return told | {"changed": False, "actions": []}
        if not self._task.check_mode:
            certified = self._certify(path, access, variables)
            if certified.get("failed"):
                return certified
        return told | {"changed": True, "actions": [f"write {path}"], "msg": f"{path}: {reason}"}

    def _certify(self, path: Path, access: Access, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        key, request = make_key(access.user)
        answer = self._module({"user": access.user, "request": request}, variables)
        if not answer.get("failed"):
            write(path, render(access, str(answer["certificate"]), key))
        return answer

    def _module(self, more: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        own = {name: value for name, value in self._task.args.items() if name not in {"path", "user"}}
        done: dict[str, t.Any] = self._execute_module(
            module_name="slipway.cluster.kubeconfig", module_args={**own, **more}, task_vars=variables
        )
        return done


def _why(path: Path, access: Access) -> str:
    """Why the file has to be written, or an empty text if it serves as it is."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return "there is none yet"
    except UnicodeDecodeError:
        text = ""
    reason = lacks(text, access, now=time.time(), where=str(path))
    return reason or ("others may read it" if path.stat().st_mode & 0o777 != MODE else "")


def make_key(user: str) -> tuple[str, str]:
    """A new private key (EC, P-256) and a certificate request for the user that proves it, both in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, user)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode(), request.public_bytes(serialization.Encoding.PEM).decode()


def write(path: Path, text: str) -> None:
    """Put the text at the path in one step; from its first byte on the file is for its owner alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".kubeconfig-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), MODE)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
