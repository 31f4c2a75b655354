# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to answer before a component counts as up."""

from __future__ import annotations

import dataclasses
import typing as t

from .problems import Problem, SlipwayError


@dataclasses.dataclass(frozen=True)
class Wait:
    """One thing to wait for within ``timeout`` seconds: an active unit, a URL that answers 200, or a path that exists.

    With ``since``, the URL is that of a Node, which has to be Ready, and its kubelet to have said so since that unit's
    process was started.

    ``ca``, ``certificate`` and ``key`` are paths on the host, used for https. Who gives no time gets what kubeadm gives
    a kubelet and a control-plane component, so that a slow machine gets there.
    """

    what: str
    unit: str = ""
    url: str = ""
    path: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    since: str = ""
    timeout: float = 240.0


def _is_duration(value: t.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def parse_waits(items: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[Wait, ...]:
    """The module parameter as typed data; SlipwayError names everything that is off."""
    waits, problems = [], []
    for item in items:
        try:
            wait = Wait(**item)
        except TypeError as error:
            problems.append(Problem("wait", str(error), "what, unit, url, path, ca, certificate, key, since, timeout"))
            continue
        if [bool(wait.unit), bool(wait.url), bool(wait.path)].count(True) != 1:
            problems.append(Problem(f"wait {wait.what}", "names none or several", "one of unit, url and path"))
        if not _is_duration(wait.timeout):
            problems.append(Problem(f"wait {wait.what}", f"timeout {wait.timeout!r}", "a number of seconds"))
        waits.append(wait)
    if problems:
        raise SlipwayError(problems)
    return tuple(waits)
