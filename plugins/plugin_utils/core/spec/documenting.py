# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The definitions as reference documentation (Markdown) and as a JSON Schema for editors."""

from __future__ import annotations

import json
import typing as t

import yaml

from .definitions import PREFLIGHT, VARIABLES, Scope, Variable
from .kinds import Field, FlagValues, Items, Kind, Table, Verbatim, described

_SCOPES = {
    Scope.CLUSTER: (
        "The cluster",
        "Equal on all hosts of the cluster; a difference is an error that names both. `group_vars/all.yml` is a place.",
    ),
    Scope.NODE: ("Each host", "Each host's own, by Ansible's precedence of host and group variables."),
    Scope.SECRET: ("Secrets", "Equal on all hosts. Keep them in a vault; their values are never shown."),
    Scope.RUN: (
        "A single run",
        (
            "Given on the command line with `-e`, or by the `slipway` command. Most also hold where the inventory "
            "gives them, such as `slipway_batch`; not `slipway_hold_wait`, `slipway_reset_confirm` and "
            "`slipway_remove_confirm`."
        ),
    ),
}
_HEAD = """# The spec: every variable

<!-- Written by scripts/generate_spec_docs.py from the definitions in plugins/plugin_utils/core/spec: `make docs`. -->

What a cluster should be is said by Ansible variables that begin with `slipway_`. All but `slipway_bundle` are
optional. In a dictionary, a key that is left out or null keeps its default. A variable that is not listed here is an
error that names the nearest one; all problems are told at once, before any host is touched. `slipway plan --explain
HOST` says which value came from where. A path on the controller that is not absolute begins at the inventory's
directory.

The same as a JSON Schema, for editors: [spec.schema.json](spec.schema.json).
"""


def markdown() -> str:
    """docs/spec.md."""
    parts = [_HEAD]
    for scope, (title, text) in _SCOPES.items():
        variables = [variable for variable in VARIABLES.values() if variable.scope is scope]
        parts.append(f"## {title}\n\n{text}\n")
        parts.extend(_variable(variable) for variable in variables)
    checks = "\n".join(f"| `{name}` | {text} |" for name, text in PREFLIGHT.items())
    parts.append(f"## Preflight checks\n\n| name | makes sure that |\n|---|---|\n{checks}\n")
    return "\n".join(parts)


def schema() -> str:
    """docs/spec.schema.json: a schema for one host's or group's variables. Variables of others are left alone."""
    properties = {
        variable.name: described(Field(variable.name, variable.kind, variable.description, variable.default))
        for variable in VARIABLES.values()
    }
    data = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Variables of Slipway",
        "type": "object",
        "properties": properties,
        "propertyNames": {
            "anyOf": [{"not": {"pattern": "^slipway_"}}, {"pattern": "^slipway__"}, {"enum": [*properties]}]
        },
    }
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _variable(variable: Variable) -> str:
    lines = [f"### {variable.name}", "", variable.description, ""]
    lines.append(f"- Type: {_words(variable.kind)}.")
    if variable.default not in (None, {}, []):
        lines.append(f"- Default: `{_inline(variable.default)}`.")
    lines += [f"- Refused: {', '.join(refused)}: {remedy}." for remedy, refused in _reserved(variable.kind).items()]
    lines += _rows(_table(variable.kind))
    lines += ["", "```yaml", _example(variable), "```", ""]
    return "\n".join(lines)


def _rows(table: Table | None) -> list[str]:
    """The table's keys, and below them the keys of each list of dictionaries in it."""
    if table is None:
        return []
    lines = ["", "| key | type | default | |", "|---|---|---|---|", *map(_row, table.fields)]
    for field in table.fields:
        if _is_list(field.kind):
            lines += ["", f"Each of `{field.name}`:", *_rows(_table(field.kind))]
    return lines


def _reserved(kind: Kind) -> dict[str, list[str]]:
    """What to do instead → the keys that Slipway decides."""
    found: dict[str, list[str]] = {}
    for name, remedy in kind.reserved.items() if isinstance(kind, (FlagValues, Verbatim)) else ():
        found.setdefault(remedy, []).append(f"`{name}`")
    return found


def _table(kind: Kind) -> Table | None:
    inner = kind.item if isinstance(kind, Items) else kind
    return inner if isinstance(inner, Table) else None


def _is_list(kind: Kind) -> bool:
    return isinstance(kind, Items) and isinstance(kind.item, Table)


def _words(kind: Kind) -> str:
    if _is_list(kind):
        return "a list of dictionaries"
    return "a dictionary" if isinstance(kind, Table) else kind.describe()


def _row(field: Field) -> str:
    default = "required" if field.required else "" if field.default is None else f"`{_inline(field.default)}`"
    return f"| `{field.name}` | {_words(field.kind)} | {default} | {field.description} |"


def _inline(value: t.Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _example(variable: Variable) -> str:
    return yaml.safe_dump({variable.name: variable.example}, sort_keys=False, width=100).strip()
