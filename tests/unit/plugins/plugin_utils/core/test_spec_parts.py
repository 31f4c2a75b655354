# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The parts the spec is made of: texts, kinds, merging, documentation."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

import jsonschema  # type: ignore[import-untyped]  # comes with ansible-lint
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.plugin_utils.core.findings import Finding, grouped, names
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec import documenting, kinds, model, texts
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec.definitions import VARIABLES
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec.loading import parse_variable
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec.merging import (
    Layer,
    leaves,
    merge_fields,
    merge_layers,
    merge_taints,
)

SCHEMA = jsonschema.Draft202012Validator(json.loads(documenting.schema()))
DOCS = pathlib.Path(__file__).parents[5] / "docs"

# --- texts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "text", "expected"),
    [
        (texts.endpoint, "api.example.org", "api.example.org:6443"),
        (texts.endpoint, "api.example.org:8443", "api.example.org:8443"),
        (texts.endpoint, "10.0.0.1:8443", "10.0.0.1:8443"),
        (texts.endpoint, "[fd00::1]:8443", "[fd00::1]:8443"),
        (texts.host_or_address, "*.example.org", "*.example.org"),
        (texts.host_or_address, "192.0.2.1", "192.0.2.1"),
        (texts.registry_host, "_default", "_default"),
        (texts.registry_host, "registry.lab:5000", "registry.lab:5000"),
        (texts.label_key, "topology.kubernetes.io/zone", "topology.kubernetes.io/zone"),
        (texts.label_value, "", ""),
        (texts.taint, "dedicated:NoExecute", "dedicated:NoExecute"),
        (texts.taint, "a.b/c=d:PreferNoSchedule", "a.b/c=d:PreferNoSchedule"),
        (texts.version, "v1.37", "1.37"),
        (texts.url, "http://a:1/b//", "http://a:1/b"),
        (texts.batch, "2", "2"),
        (texts.batch, "100%", "100%"),
    ],
)
def test_texts_that_are_right(parse: t.Callable[[str], t.Any], text: str, expected: str) -> None:
    assert str(parse(text)) == expected


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (texts.batch, "0"),
        (texts.batch, "0%"),
        (texts.batch, "101%"),
        (texts.batch, "all"),
        (texts.batch, "%"),
        (texts.endpoint, "a:b"),
        (texts.endpoint, "a:0"),
        (texts.endpoint, "a:70000"),
        (texts.endpoint, "a/b"),
        (texts.endpoint, "me@a"),
        (texts.endpoint, ""),
        (texts.host_or_address, "*"),
        (texts.host_or_address, "*.*.a"),
        (texts.host_or_address, "a_b"),
        (texts.registry_host, "a:"),
        (texts.registry_host, "a:b"),
        (texts.registry_host, "https://a"),
        (texts.label_key, "/a"),
        (texts.label_key, "A_/a"),
        (texts.label_key, "a/" + "b" * 64),
        (texts.label_value, "-a"),
        (texts.taint, "a"),
        (texts.taint, "=b:NoSchedule"),
        (texts.node_name, "a" * 64),
        (texts.node_name, "A"),
        (texts.dns_name, ".".join(["abc"] * 64)),
        (texts.address, "fd00::1"),
        (texts.address, "0.0.0.0"),  # noqa: S104
        (texts.address, "169.254.1.1"),
        (texts.version, "2.0"),
        (texts.version, "1.037"),
        (texts.url, "http://"),
        (texts.flag_name, "V"),
        (texts.line, "a\nb"),
    ],
)
def test_texts_that_are_wrong(parse: t.Callable[[str], t.Any], text: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


# --- kinds ------------------------------------------------------------------------------------------------------------


class Tagged(str):
    """As Ansible's own texts are: a subclass."""

    __slots__ = ()


def test_plain_takes_the_tags_off() -> None:
    found = kinds.plain({Tagged("a"): [Tagged("b"), (1, 2.5, None, True)], "c": {1}, "d": pathlib.PurePath("e")})
    assert found == {"a": ["b", [1, 2.5, None, True]], "c": [1], "d": "e"}
    assert {type(key) for key in found} == {str}
    assert type(found["a"][0]) is str


def test_shown_is_short() -> None:
    assert kinds.shown("a") == '"a"'
    assert len(kinds.shown("a" * 200)) == 80


@pytest.mark.parametrize(("value", "expected"), [("yes", True), ("Off", False), (True, True), ("true", True)])
def test_flags_in_yamls_words(value: t.Any, expected: bool) -> None:
    assert kinds.Flag().parse(value, "x") == kinds.Parsed(expected)


@pytest.mark.parametrize("value", ["1", 1])
def test_numbers_may_come_as_texts(value: t.Any) -> None:
    assert kinds.Integer(0, 5).parse(value, "x") == kinds.Parsed(1)


@pytest.mark.parametrize("value", ["", "-1", "٣", 1.5, None, [1]])
def test_what_is_no_number(value: t.Any) -> None:
    assert kinds.Integer(0, 5).parse(value, "x").faults


def test_a_default_parses_and_its_schema_holds_it() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA.schema)
    for variable in VARIABLES.values():
        assert parse_variable(variable, None).faults == (), variable.name
        assert variable.description.endswith("."), variable.name
    SCHEMA.validate({variable.name: variable.default for variable in VARIABLES.values()})
    SCHEMA.validate({variable.name: variable.example for variable in VARIABLES.values()})


@pytest.mark.parametrize(
    "variables",
    [
        {"slipway_netwrk": {}},
        {"slipway_network": {"plugn": "none"}},
        {"slipway_network": {"plugin": "calico"}},
        {"slipway_kubelet": {"clusterDomain": "x"}},
        {"slipway_containerd": {"registries": [{}]}},
    ],
)
def test_the_schema_refuses_what_the_spec_refuses(variables: dict[str, t.Any]) -> None:
    assert not SCHEMA.is_valid(variables)


def test_the_schema_leaves_other_variables_alone() -> None:
    assert SCHEMA.is_valid({"ansible_host": "x", "slipway__seed": 1})


def test_tables_make_their_dataclasses() -> None:
    """Every sub-key has its typed field and the other way round."""
    for variable in VARIABLES.values():
        kind = variable.kind.item if isinstance(variable.kind, kinds.Items) else variable.kind
        if isinstance(kind, kinds.Table):
            fields = {field.name for field in dataclasses.fields(t.cast("t.Any", kind.make))}
            assert fields == {field.attribute or field.name for field in kind.fields}, variable.name


def test_no_choice_is_a_word_yaml_turns_into_something_else() -> None:
    for variable in VARIABLES.values():
        tables = [variable.kind] if isinstance(variable.kind, kinds.Table) else []
        for choice in [
            field.kind for table in tables for field in table.fields if isinstance(field.kind, kinds.Choice)
        ]:
            for option in choice.options:
                assert yaml.safe_load(option) == option


# --- documentation ----------------------------------------------------------------------------------------------------


def test_the_committed_documentation_is_current() -> None:
    assert (DOCS / "spec.md").read_text(encoding="utf-8") == documenting.markdown(), "run make docs"
    assert (DOCS / "spec.schema.json").read_text(encoding="utf-8") == documenting.schema(), "run make docs"


def test_the_documentation_names_every_variable_and_shows_an_example() -> None:
    text = documenting.markdown()
    for name in VARIABLES:
        assert f"### {name}\n" in text
        assert f"```yaml\n{name}:" in text


# --- merging ----------------------------------------------------------------------------------------------------------

_KEYS = st.sampled_from(["a", "b", "c"])
_FIELDS = st.recursive(
    st.one_of(st.none(), st.integers(0, 3), st.just("x"), st.lists(st.integers(0, 2), max_size=2)),
    lambda below: st.dictionaries(_KEYS, below, max_size=3),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict))
_TAINTS = st.lists(
    st.builds(texts.Taint, _KEYS, st.sampled_from(texts.TAINT_EFFECTS), st.sampled_from(["", "v", "w"])), max_size=5
)


@given(_FIELDS, _FIELDS)
def test_merging_invents_nothing(first: dict[str, t.Any], second: dict[str, t.Any]) -> None:
    given_leaves = [*leaves(first), *leaves(second)]
    assert all(leaf in given_leaves for leaf in leaves(merge_fields(first, second)))


@given(_FIELDS)
def test_merging_with_itself_or_nothing_changes_nothing(fields: dict[str, t.Any]) -> None:
    assert merge_fields(fields, fields) == merge_fields(fields, {}) == merge_fields({}, fields) == fields


@given(_FIELDS, _FIELDS)
def test_the_later_layers_leaves_all_survive(first: dict[str, t.Any], second: dict[str, t.Any]) -> None:
    merged = dict(leaves(merge_fields(first, second)))
    for path, value in leaves(second):
        if value != {}:
            assert merged[path] == value


@given(_FIELDS, _FIELDS)
def test_merging_leaves_its_arguments_alone(first: dict[str, t.Any], second: dict[str, t.Any]) -> None:
    before = json.dumps([first, second])
    merge_fields(first, second)
    assert json.dumps([first, second]) == before


@given(_TAINTS, _TAINTS)
def test_taints_never_share_key_and_effect_and_the_later_wins(
    first: list[texts.Taint], second: list[texts.Taint]
) -> None:
    merged = merge_taints(first, second)
    places = [(taint.key, taint.effect) for taint in merged]
    assert len(places) == len(set(places))
    assert set(places) == {(taint.key, taint.effect) for taint in (*first, *second)}
    last = {(taint.key, taint.effect): taint for taint in second}
    assert all(taint == last.get((taint.key, taint.effect), taint) for taint in merged)


@given(st.lists(st.tuples(st.dictionaries(_KEYS, st.one_of(st.none(), st.just("v"))), _TAINTS, _FIELDS), max_size=4))
def test_every_merged_value_has_an_origin(
    parts: list[tuple[dict[str, str | None], list[texts.Taint], dict[str, t.Any]]],
) -> None:
    layers = [
        Layer(f"layer {index}", labels, tuple(taints), fields) for index, (labels, taints, fields) in enumerate(parts)
    ]
    merged = merge_layers(layers)
    origins = {layer.origin for layer in layers}
    keys = [setting.key for setting in merged.settings]
    assert all(setting.origin in origins for setting in merged.settings)
    assert {f"label {key}" for key in merged.labels} | {
        f"kubelet {'.'.join(path)}" for path, _ in leaves(merged.kubelet)
    } | ({"taint"} if merged.taints else set()) == set(keys)
    assert None not in merged.labels.values()


# --- findings and model -----------------------------------------------------------------------------------------------


def test_grouping_says_a_thing_once_and_errors_first() -> None:
    findings = [
        Finding("swap is on", host="w2", warning=True),
        Finding("swap is on", host="w1", warning=True),
        Finding("is wrong", subject="slipway_x", host="w1"),
        Finding("is missing"),
    ]
    assert [problem.text() for problem in grouped(findings)] == [
        "slipway_x on w1: is wrong",
        "inventory: is missing",
        "w1, w2: swap is on",
    ]


def test_names_are_at_most_five() -> None:
    assert names(["b", "a", "a"]) == "a, b"
    assert names(f"h{n}" for n in range(7)) == "h0, h1, h2, h3, h4 and 2 more"


def test_the_groups_that_give_roles() -> None:
    groups = VARIABLES["slipway_groups"].kind.parse({}, "").value
    assert isinstance(groups, model.Groups)
    assert groups.role("slipway_workers") == "worker"
    assert groups.role("slipway_etcd") == "etcd"
    assert groups.role("web") is None
