# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the programs that stay on hosts from the modules' own host-side code.

The same files give the same bytes on every controller (fixed order, times and attributes, nothing compressed, because
compressors differ between versions), so that an unchanged program is no change on the hosts.
"""

from __future__ import annotations

import ast
import io
import pathlib
import zipfile

MODULE_UTILS = pathlib.Path(__file__).resolve().parent.parent / "module_utils"
_PACKAGE = "slipway"
_ENTRY = "host/keeper.py"
_MAIN = f"""\
import sys

from {_PACKAGE}.host.keeper import main

sys.exit(main(sys.argv[1:]))
"""


def build_keeper(module_utils: pathlib.Path = MODULE_UTILS) -> bytes:
    """A zip archive that ``python3 FILE approve|run`` runs: the keeper and exactly what it imports."""
    contents = {"__main__.py": _MAIN.encode()}
    for name in _needed(module_utils):
        contents[f"{_PACKAGE}/{name}"] = (module_utils / name).read_bytes()
    for name in list(contents):
        for parent in pathlib.PurePosixPath(name).parents:
            if parent.name:
                contents.setdefault(f"{parent}/__init__.py", b"")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # Unix, whatever the controller is
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[name])
    return stream.getvalue()


def read_metrics_gate(module_utils: pathlib.Path = MODULE_UTILS) -> bytes:
    """The metrics gate, which is one file."""
    return (module_utils / "host" / "metrics_gate.py").read_bytes()


def _needed(module_utils: pathlib.Path) -> list[str]:
    """The entry and every file of ours that it imports, directly or not, as paths below ``module_utils``."""
    found: set[str] = set()
    waiting = [_ENTRY]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _imports(module_utils, name)
    return sorted(found)


def _imports(module_utils: pathlib.Path, name: str) -> list[str]:
    """The modules that one file imports relatively; the only way in which our host-side code imports itself."""
    names = []
    for node in ast.walk(ast.parse((module_utils / name).read_bytes())):
        if isinstance(node, ast.ImportFrom) and node.level:
            package = pathlib.PurePosixPath(name).parents[node.level - 1]
            target = package.joinpath(*(node.module or "").split("."))
            files = [f"{target}.py", *(f"{target / alias.name}.py" for alias in node.names)]
            names += [file for file in files if (module_utils / file).is_file()]
    return names
