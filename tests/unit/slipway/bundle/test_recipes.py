# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The recipes: their rules, and that the project's own data agrees with itself."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from slipway.bundle.components import plan_components
from slipway.bundle.places import ARTIFACTS, known_sets, load_set
from slipway.bundle.recipes import (
    c_flags,
    executable_name,
    go_flags,
    load_recipes,
    module_sum,
    parse_recipe,
    recipe_text,
    wheel_sums,
)

PLAIN: dict[str, t.Any] = {"module": "example.test/a", "packages": {"a": "example.test/a"}}


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("go.etcd.io/etcd/server/v3", "server"),
        ("go.etcd.io/etcd/etcdctl/v3", "etcdctl"),
        ("k8s.io/kubernetes/cmd/kubelet", "kubelet"),
        ("example.test/vault", "vault"),
        ("v2", "v2"),
    ],
)
def test_executable_name(package: str, name: str) -> None:
    assert executable_name(package) == name


def test_a_program_of_go_holds_nothing_of_the_machine() -> None:
    flags = go_flags(parse_recipe("a", {**PLAIN, "define": {"main.v": "v{version}-{major}.{minor}"}}), "1.2.3")
    assert {"-trimpath", "-buildvcs=false", "-mod=readonly"} < set(flags)
    assert flags[-1] == "-ldflags=-s -w -buildid= -X main.v=v1.2.3-1.2"


def test_cgo_is_linked_statically() -> None:
    flags = go_flags(parse_recipe("a", {**PLAIN, "cgo": True, "tags": ["netgo", "osusergo"]}), "1.2.3")
    assert "-tags=netgo,osusergo" in flags
    assert flags[-1].endswith("-extldflags -static")


def test_c_is_static_and_knows_its_version() -> None:
    recipe = parse_recipe("p", {"module": "m", "source": {"p": "p.c"}, "define": {"VERSION": "v{version}"}})
    assert recipe.needs_c
    assert {"-static", "-Wl,--build-id=none", "-DVERSION=v3.1.2"} < set(c_flags(recipe, "3.1.2"))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (None, "no recipe"),
        ({"packages": {"a": "b"}}, "no recipe"),
        ({"module": "m"}, "no recipe"),
        ({**PLAIN, "source": {"a": "a.c"}}, "no recipe"),
        ({**PLAIN, "flag": 1}, "unknown flag"),
        ({"package": "p"}, "no recipe"),
        ({"package": "p", "programs": {"a": "a"}, "module": "m"}, "no recipe"),
        ({"package": "p", "programs": {"a": "a"}, "wheel": "w"}, "no recipe"),
        ({**PLAIN, "archives": {"a": {"programs": ["b"]}}}, "a, b built or shipped, not both"),
    ],
)
def test_refuses_a_malformed_recipe(row: object, said: str) -> None:
    with pytest.raises(SlipwayError, match=said):
        parse_recipe("a", row)


def test_the_text_of_a_recipe_changes_with_any_field() -> None:
    recipe = parse_recipe("a", PLAIN)
    values: dict[str, t.Any] = {"cgo": True, "tags": ("x",), "define": (("a", "b"),), "module": "n", "outputs": ()}
    texts = {recipe_text(dataclasses.replace(recipe, **{name: value})) for name, value in values.items()}
    assert len(texts | {recipe_text(recipe)}) == 6


def test_what_a_recipe_does_not_use_leaves_its_text_as_it_was() -> None:
    plain = {**PLAIN, "image": {"entrypoint": ["/a"]}}
    text = recipe_text(parse_recipe("a", plain))
    assert not [field for field in ("wheel", "package", "links") if f'"{field}"' in text]
    linked = parse_recipe("a", {**PLAIN, "image": {"entrypoint": ["/a"], "links": ["bin/a"]}})
    assert "bin/a" in recipe_text(linked)


GO_SUM = "m.test/a v1.2.3/go.mod h1:mod=\nm.test/a v1.2.2 h1:old=\nm.test/a v1.2.3 h1:new=\n"


@pytest.mark.parametrize(
    "go_mod",
    [
        "require m.test/a v1.2.3\n",
        "require (\n\tm.test/a v1.2.3 // indirect\n)\n",
        "tool m.test/a\nrequire m.test/a v1.2.3\n",
    ],
)
def test_module_sum(go_mod: str) -> None:
    assert module_sum(go_mod, GO_SUM, "m.test/a") == ("v1.2.3", "h1:new=")


def test_a_module_without_a_checksum_is_refused() -> None:
    with pytest.raises(SlipwayError, match="no checksum"):
        module_sum("require m.test/a v2.0.0", GO_SUM, "m.test/a")


@pytest.mark.parametrize("name", known_sets())
def test_a_set_of_the_project_is_complete(name: str) -> None:
    """Every component has a recipe, a go.mod that names its packages as tools, and a checksum of its module."""
    versions = load_set(name)
    components = plan_components(versions, load_recipes(), ARTIFACTS)
    assert {component.recipe.name for component in components} == set(versions.versions)
    for component in components:
        tools = {line.removeprefix("tool").strip() for line in component.go_mod.splitlines()}
        for _, package in component.recipe.packages:
            assert package in tools, f"{component.label}: {package} is not a tool of its go.mod"
        if component.recipe.package:
            assert not component.go_mod, "nothing is pinned: its programs' sha256 is part of the key"
        elif component.recipe.wheel:
            assert f"{component.recipe.wheel}=={component.version} " in component.go_mod
            assert wheel_sums(component.go_mod).count("sha256:") == 2, "amd64 and arm64"
        else:
            module_sum(component.go_mod, component.go_sum, component.recipe.module)
        images = {output.name for output in component.recipe.outputs if output.kind == "image"}
        assert images == set(component.references) <= set(versions.images)
    assert set(versions.images) == {name for component in components for name in component.references}


def test_an_unsupported_minor_is_refused_with_those_there_are() -> None:
    with pytest.raises(SlipwayError, match=r"1\.36, 1\.37"):
        load_set("1.12.3")
