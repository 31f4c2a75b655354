# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of values a variable can have. One object per kind parses, describes itself and gives its JSON Schema."""

from __future__ import annotations

import abc
import collections.abc
import dataclasses
import difflib
import json
import typing as t

from . import texts

_TRUE = frozenset({"true", "yes", "on"})
_FALSE = frozenset({"false", "no", "off"})
_SECRET_WORDS = ("password", "passwd", "token", "secret", "auth")


@dataclasses.dataclass(frozen=True)
class Fault:
    """What is wrong with a value, and where below its variable."""

    path: str
    found: str
    expected: str
    remedy: str = ""


@dataclasses.dataclass(frozen=True)
class Parsed:
    """A value, or what is wrong with it (then the value must not be used)."""

    value: t.Any
    faults: tuple[Fault, ...] = ()


def shown(value: t.Any) -> str:
    """A value for a person: JSON of at most 80 characters."""
    text = json.dumps(plain(value), ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def plain(value: t.Any) -> t.Any:
    """The value in the plain types of JSON: Ansible hands over subclasses of them that carry tags."""
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, collections.abc.Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, collections.abc.Iterable):
        return [plain(item) for item in value]
    return str(value)


def nearest(name: str, known: t.Iterable[str]) -> str:
    """A sentence that names the known name closest to a mistyped one; empty if none is close."""
    found = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)
    return f"did you mean {found[0]}?" if found else ""


class Kind(abc.ABC):
    """What every kind can do."""

    @abc.abstractmethod
    def parse(self, value: t.Any, path: str) -> Parsed:
        """The typed value from what Ansible gave."""

    @abc.abstractmethod
    def describe(self) -> str:
        """The kind in words, for the documentation and errors."""

    @abc.abstractmethod
    def schema(self) -> dict[str, t.Any]:
        """The kind as JSON Schema."""


def _wrong(value: t.Any, path: str, expected: str, remedy: str = "") -> Parsed:
    return Parsed(None, (Fault(path, shown(value), expected, remedy),))


@dataclasses.dataclass(frozen=True)
class Text(Kind):
    """A text. ``convert`` checks it and may give it a type; its ValueError is shown."""

    says: str = "a text"
    convert: t.Callable[[str], t.Any] = str
    pattern: str = ""

    @t.override
    def parse(self, value: t.Any, path: str) -> Parsed:
        """Numbers are refused, not converted: 1.30 has already become 1.3 when it arrives here."""
        if isinstance(value, (bool, int, float)):
            return _wrong(value, path, self.says, "put the value in quotes, so that it stays a text")
        if not isinstance(value, str):
            return _wrong(value, path, self.says)
        if texts.has_credentials(value):
            remedy = (
                "leave user and password out of the address; registry passwords go to slipway_secret_registry_passwords"
            )
            return Parsed(None, (Fault(path, "an address with credentials (not shown)", self.says, remedy),))
        try:
            return Parsed(self.convert(plain(value)))
        except ValueError as error:
            return Parsed(None, (Fault(path, f"{shown(value)}: {error}", self.says),))

    @t.override
    def describe(self) -> str:
        return self.says

    @t.override
    def schema(self) -> dict[str, t.Any]:
        return {"type": "string", **({"pattern": f"^(?:{self.pattern})$"} if self.pattern else {})}


@dataclasses.dataclass(frozen=True)
class Integer(Kind):
    """A whole number within limits; a text of digits counts, because -e on the command line gives texts."""

    minimum: int
    maximum: int
    unit: str = ""

    @t.override
    def parse(self, value: t.Any, path: str) -> Parsed:
        number = value
        if isinstance(value, str) and value.isascii() and value.isdigit():
            number = int(value)
        if isinstance(number, bool) or not isinstance(number, int) or not self.minimum <= number <= self.maximum:
            return _wrong(value, path, self.describe())
        return Parsed(int(number))

    @t.override
    def describe(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}{' ' + self.unit if self.unit else ''}"

    @t.override
    def schema(self) -> dict[str, t.Any]:
        return {"type": "integer", "minimum": self.minimum, "maximum": self.maximum}


@dataclasses.dataclass(frozen=True)
class Flag(Kind):
    """True or false, in YAML's words when it comes as a text."""

    @t.override
    def parse(self, value: t.Any, path: str) -> Parsed:
        if isinstance(value, bool):
            return Parsed(value)
        word = value.lower() if isinstance(value, str) else ""
        if word not in _TRUE | _FALSE:
            return _wrong(value, path, self.describe())
        return Parsed(word in _TRUE)

    @t.override
    def describe(self) -> str:
        return "true or false"

    @t.override
    def schema(self) -> dict[str, t.Any]:
        return {"type": "boolean"}


@dataclasses.dataclass(frozen=True)
class Choice(Kind):
    """One of a few words. None of them may be a word YAML reads as true or false."""

    options: tuple[str, ...]

    @t.override
    def parse(self, value: t.Any, path: str) -> Parsed:
        if not isinstance(value, str) or value not in self.options:
            return _wrong(value, path, self.describe(), nearest(str(value), self.options))
        return Parsed(plain(value))

    @t.override
    def describe(self) -> str:
        return "one of " + ", ".join(self.options)

    @t.override
    def schema(self) -> dict[str, t.Any]:
        return {"type": "string", "enum": list(self.options)}


@dataclasses.dataclass(frozen=True)
class Items(Kind):
    """A list of one kind. Where it is natural, one item may stand for a list of one."""

    item: Kind
    single: bool = False

    @t.override
    def parse(self, value: t.Any, path: str) -> Parsed:
        if self.single and isinstance(value, str):
            value = [value]
        if isinstance(value, (str, collections.abc.Mapping)) or not isinstance(value, collections.abc.Sequence):
            return _wrong(value, path, self.describe())
        parsed = [self.item.parse(each, f"{path}[{index}]") for index, each in enumerate(value)]
        return Parsed(tuple(each.value for each in parsed), _faults(parsed))

    @t.override
    def describe(self) -> str:
        return f"a list, each {self.item.describe()}"

    @t.override
    def schema(self) -> dict[str, t.Any]:
        items = {"type": "array", "items": self.item.schema()}
        return {"anyOf": [self.item.schema(), items]} if self.single else items


@dataclasses.dataclass(frozen=True)
class Entries(Kind):
    """A dictionary whose keys the user chooses. ``null_removes``: null takes away what came from before."""

    key: t.Callable[[str], str]
    item: Kind
    says: str
    null_removes: bool = False

    @t.override
    def parse(self, value: t.Any, path: str) -> Parsed:
        if not isinstance(value, collections.abc.Mapping):
            return _wrong(value, path, self.describe())
        parsed = {str(key): self._entry(key, item, f"{path}.{key}") for key, item in value.items()}
        return Parsed({key: each.value for key, each in parsed.items()}, _faults(parsed.values()))

    def _entry(self, key: t.Any, value: t.Any, path: str) -> Parsed:
        try:
            self.key(str(key))
        except ValueError as error:
            return Parsed(None, (Fault(path, f"the key {shown(key)}: {error}", self.describe()),))
        return Parsed(None) if value is None and self.null_removes else self.item.parse(value, path)

    @t.override
    def describe(self) -> str:
        return self.says

    @t.override
    def schema(self) -> dict[str, t.Any]:
        item = self.item.schema()
        return {
            "type": "object",
            "additionalProperties": {"anyOf": [item, {"type": "null"}]} if self.null_removes else item,
        }


@dataclasses.dataclass(frozen=True)
class Verbatim(Kind):
    """A dictionary that is passed on as it is, but for the keys that Slipway decides (key → what to do instead)."""

    says: str
    reserved: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    @t.override
    def parse(self, value: t.Any, path: str) -> Parsed:
        if not isinstance(value, collections.abc.Mapping) or not all(isinstance(key, str) for key in value):
            return _wrong(value, path, self.says)
        return Parsed(
            plain(value),
            tuple(
                Fault(f"{path}.{key}", "a field that Slipway decides", "other fields only", self.reserved[key])
                for key in value
                if key in self.reserved
            ),
        )

    @t.override
    def describe(self) -> str:
        return self.says

    @t.override
    def schema(self) -> dict[str, t.Any]:
        refused = dict.fromkeys(self.reserved, False)
        return {"type": "object", **({"properties": refused} if refused else {})}


@dataclasses.dataclass(frozen=True)
class FlagValues(Kind):
    """Command line flags: name → value, list of values (the flag is repeated), or null (Slipway's own is left out)."""

    reserved: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    @t.override
    def parse(self, value: t.Any, path: str) -> Parsed:
        if not isinstance(value, collections.abc.Mapping):
            return _wrong(value, path, self.describe())
        parsed = {str(key): self._one(str(key), item, f"{path}.{key}") for key, item in value.items()}
        return Parsed({key: each.value for key, each in parsed.items()}, _faults(parsed.values()))

    def _one(self, name: str, value: t.Any, path: str) -> Parsed:
        if not texts.valid(texts.flag_name, name):
            return _wrong(name, path, "a flag's name", "write it without dashes before it: profiling, not --profiling")
        if name in self.reserved:
            return Parsed((), (Fault(path, "a flag that Slipway decides", "other flags only", self.reserved[name]),))
        if value is None:
            return Parsed(())
        values = value if isinstance(value, collections.abc.Sequence) and not isinstance(value, str) else [value]
        if not all(isinstance(each, (str, bool, int, float)) for each in values):
            return _wrong(value, path, "a text, number, true, false, null or a list of them")
        return Parsed(tuple(_flag_text(each) for each in values))

    @t.override
    def describe(self) -> str:
        return "a dictionary: flag without dashes → value, list of values, or null to leave Slipway's own out"

    @t.override
    def schema(self) -> dict[str, t.Any]:
        one: dict[str, t.Any] = {"type": ["string", "number", "boolean", "null"]}
        return {
            "type": "object",
            "properties": dict.fromkeys(self.reserved, False),
            "additionalProperties": {"anyOf": [one, {"type": "array", "items": one}]},
        }


def _flag_text(value: t.Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(plain(value))


@dataclasses.dataclass(frozen=True)
class Field:
    """A sub-key. ``default`` is as a user would write it; ``attribute`` names the typed field where it differs."""

    name: str
    kind: Kind
    description: str
    default: t.Any = None
    example: t.Any = None
    attribute: str = ""
    required: bool = False


@dataclasses.dataclass(frozen=True)
class Table(Kind):
    """A dictionary with known sub-keys, each optional unless marked, made into a frozen dataclass."""

    make: t.Callable[..., t.Any]
    fields: tuple[Field, ...]

    @t.override
    def parse(self, value: t.Any, path: str) -> Parsed:
        if not isinstance(value, collections.abc.Mapping):
            return _wrong(value, path, self.describe())
        known = {field.name for field in self.fields}
        faults = [self._unknown(str(key), f"{path}.{key}") for key in value if key not in known]
        parts: dict[str, t.Any] = {}
        for field in self.fields:
            parsed = parse_field(field, value.get(field.name), f"{path}.{field.name}")
            parts[field.attribute or field.name] = parsed.value
            faults.extend(parsed.faults)
        return Parsed(None if faults else self.make(**parts), tuple(faults))

    def _unknown(self, key: str, path: str) -> Fault:
        names = [field.name for field in self.fields]
        remedy = nearest(key, names)
        if any(word in key.lower() for word in _SECRET_WORDS) and not remedy:
            remedy = "secrets go to top-level slipway_secret_* variables, which can be vaulted"
        return Fault(path, "no such key", f"one of {', '.join(names)}", remedy)

    @t.override
    def describe(self) -> str:
        return "a dictionary of " + ", ".join(field.name for field in self.fields)

    @t.override
    def schema(self) -> dict[str, t.Any]:
        required = [field.name for field in self.fields if field.required]
        return {
            "type": "object",
            "properties": {field.name: described(field) for field in self.fields},
            "additionalProperties": False,
            **({"required": required} if required else {}),
        }


def parse_field(field: Field, value: t.Any, path: str) -> Parsed:
    """A sub-key's value; null or absent means its default."""
    if value is None:
        if field.required:
            return Parsed(None, (Fault(path, "missing", field.kind.describe()),))
        if field.default is None:
            return Parsed(None)
        value = field.default
    return field.kind.parse(value, path)


def described(field: Field) -> dict[str, t.Any]:
    """A field's JSON Schema with its description and default; null is the same as leaving it out."""
    schema = field.kind.schema()
    if not field.required:
        schema = {"anyOf": [schema, {"type": "null"}]}
    extra: dict[str, t.Any] = {"description": field.description}
    if field.default is not None:
        extra["default"] = field.default
    return {**schema, **extra}


def _faults(parsed: t.Iterable[Parsed]) -> tuple[Fault, ...]:
    return tuple(fault for each in parsed for fault in each.faults)
