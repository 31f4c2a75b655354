# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is asked: much with each command, because each command is a round trip."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from testinfra.host import Host

Sockets = set[tuple[str, int, str]]
Stats = dict[str, tuple[str, str, str, str]]
Units = dict[str, dict[str, str]]

# How ss writes "all addresses".
_ALL = {"*", "0.0.0.0", "[::]"}  # noqa: S104 - what is found, not what is opened


@pytest.fixture(scope="module")
def inventory(host: t.Any) -> t.Mapping[str, t.Any]:
    """The host's variables."""
    return t.cast("t.Mapping[str, t.Any]", host.ansible.get_variables())


@pytest.fixture(scope="module")
def bundle(inventory: t.Mapping[str, t.Any]) -> dict[str, dict[str, str]]:
    """The bundle's artefacts by name."""
    lock = json.loads(pathlib.Path(inventory["slipway_bundle"], "bundle.json").read_text(encoding="utf-8"))
    return {artefact["name"]: artefact for artefact in lock["artifacts"]}


@pytest.fixture(scope="module")
def units(host: Host, request: pytest.FixtureRequest) -> Units:
    """The properties, as systemd has them, of each unit in the file's UNITS."""
    names: t.Sequence[str] = request.module.UNITS
    blocks = host.check_output("systemctl show --all " + " ".join(names)).split("\n\n")
    properties = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in blocks]
    return dict(zip(names, properties, strict=True))


@pytest.fixture(scope="module")
def stat(host: Host) -> t.Callable[[t.Iterable[str]], Stats]:
    """Kind, owner, group and mode (octal digits) of each path that exists."""

    def ask(paths: t.Iterable[str]) -> Stats:
        answer = host.run("stat --format='%n|%F|%U|%G|%a' " + " ".join(paths)).stdout
        found = {}
        for line in answer.splitlines():
            path, kind, user, group, mode = line.split("|")
            found[path] = (kind, user, group, mode)
        return found

    return ask


@pytest.fixture(scope="module")
def sockets(host: Host) -> Sockets:
    """All listening TCP sockets: address (``*`` for all of them), port, program."""
    found = set()
    for line in host.check_output("ss -Hltnp").splitlines():
        words = line.split()
        address, port = words[3].rsplit(":", 1)
        found.add(("*" if address in _ALL else address, int(port), words[5].split('"')[1]))
    return found
