# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Targets of users, directories, files, links and units: every step there is, and that carrying them out ends it."""

from __future__ import annotations

import base64
import dataclasses
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change, diffs
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.module_utils.core.state import (
    Absent,
    Directory,
    File,
    HostState,
    Link,
    SeenPath,
    SeenState,
    SeenUnit,
    Unit,
    User,
    content_bytes,
    digest_of,
    open_placeholders,
    plan_state,
    resolve,
)
from tests.unit.plugins.simulate import carry_out, names, seen_file, sha256, steps

ROOT = ("root", "root")


def paths(**found: SeenPath) -> SeenState:
    return SeenState(paths={f"/{name}": path for name, path in found.items()})


def directory(mode: str = "0755", owner: str = "root") -> SeenPath:
    return SeenPath("directory", mode, owner, owner)


def file(text: str, mode: str = "0644", owner: str = "root") -> SeenPath:
    return SeenPath("file", mode, owner, owner, sha256(text), text=text)


BINARY = base64.b64encode(b"\0\xff").decode()
PLACE = "ca: @@ca@@\n"

CASES: list[tuple[str, HostState, SeenState, list[str]]] = [
    ("nothing", HostState(), SeenState(frozenset({"x"}), {"/x": directory()}), []),
    ("a user", HostState(users=(User("etcd"),)), SeenState(), ["create user etcd"]),
    ("a user that is there", HostState(users=(User("etcd"),)), SeenState(frozenset({"etcd"})), []),
    ("a directory", HostState(directories=(Directory("/d"),)), SeenState(), ["create directory /d"]),
    ("the same directory", HostState(directories=(Directory("/d"),)), paths(d=directory()), []),
    ("its mode", HostState(directories=(Directory("/d", "0700"),)), paths(d=directory()), ["set owner and mode of /d"]),
    (
        "its owner",
        HostState(directories=(Directory("/d", owner="etcd", group="etcd"),)),
        paths(d=directory()),
        ["set owner and mode of /d"],
    ),
    ("a file", HostState(files=(File("/f", "a"),)), SeenState(), ["write /f"]),
    ("the same file", HostState(files=(File("/f", "a"),)), paths(f=file("a")), []),
    ("its content", HostState(files=(File("/f", "b"),)), paths(f=file("a")), ["write /f"]),
    ("its mode alone", HostState(files=(File("/f", "a", "0600"),)), paths(f=file("a")), ["set owner and mode of /f"]),
    ("content and mode", HostState(files=(File("/f", "b", "0600"),)), paths(f=file("a")), ["write /f"]),
    ("a link where a file belongs", HostState(files=(File("/f", "a"),)), paths(f=SeenPath("link", target="/x")),
     ["write /f"]),
    ("a device where a file belongs", HostState(files=(File("/f", "a"),)), paths(f=SeenPath("other")), ["write /f"]),
    ("a file made once", HostState(files=(File("/f", "a", create_only=True),)), SeenState(), ["write /f"]),
    ("a file made once and changed", HostState(files=(File("/f", "a", create_only=True),)), paths(f=file("b")), []),
    (
        "a file made once with another mode",
        HostState(files=(File("/f", "a", "0600", create_only=True),)),
        paths(f=file("b")),
        ["set owner and mode of /f"],
    ),
    ("a placeholder on a bare host", HostState(files=(File("/f", PLACE),)), SeenState(), ["write /f"]),
    ("a placeholder that nobody can fill yet", HostState(files=(File("/f", PLACE),)), paths(f=file("ca: x\n")), []),
    (
        "a secret that nobody knows yet is another one",
        HostState(files=(File("/f", PLACE, "0600", secret=True),)),
        paths(f=file("ca: x\n", "0600")),
        ["write /f"],
    ),
    ("bytes", HostState(files=(File("/f", BINARY, encoding="base64"),)), paths(f=file("a")), ["write /f"]),
    (
        "the same bytes",
        HostState(files=(File("/f", BINARY, encoding="base64"),)),
        paths(f=SeenPath("file", "0644", *ROOT, sha256(b"\0\xff"))),
        [],
    ),
    ("a link", HostState(links=(Link("/l", "/x"),)), SeenState(), ["link /l"]),
    ("the same link", HostState(links=(Link("/l", "/x"),)), paths(l=SeenPath("link", target="/x")), []),
    ("another link", HostState(links=(Link("/l", "/x"),)), paths(l=SeenPath("link", target="/y")), ["link /l"]),
    ("what must not be", HostState(absent=(Absent("/f"),)), paths(f=file("a")), ["remove /f"]),
    ("what is not", HostState(absent=(Absent("/f"),)), SeenState(), []),
]  # fmt: skip


@pytest.mark.parametrize(("target", "seen", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_steps_of_users_and_paths(target: HostState, seen: SeenState, expected: list[str]) -> None:
    assert steps(target, seen) == expected


def unit(active: str = "active", digest: str = "d1", *, enabled: bool = True, reload: bool = False) -> SeenUnit:
    return SeenUnit(True, active, enabled, digest, reload)


def of_version(seen: SeenUnit, runs: str, starts: str = "2") -> SeenUnit:
    return dataclasses.replace(seen, program="/o/current/u", starts=f"/o/{starts}/u", runs=f"/o/{runs}/u")


UNITS: list[tuple[Unit, SeenUnit | None, list[str]]] = [
    (Unit("u", "d1"), None, ["enable u", "start u"]),
    (Unit("u", "d1"), unit(), []),
    (Unit("u", "d1"), unit(enabled=False), ["enable u"]),
    (Unit("u", "d1"), unit("inactive", ""), ["start u"]),
    (Unit("u", "d1"), unit("failed", ""), ["start u"]),
    (Unit("u", "d2"), unit(), ["restart u"]),
    (Unit("u", "d1"), unit("activating", ""), ["restart u"]),
    (Unit("u", "d1"), unit("reloading"), []),
    (Unit("u", "d1"), unit(reload=True), []),
    (Unit("u", "d1"), of_version(unit(), "2"), []),
    (Unit("u", "d1"), of_version(unit(), "1"), ["restart u"]),
    (Unit("u", "d2"), of_version(unit(), "1"), ["restart u"]),
    (Unit("u"), of_version(unit(digest="", reload=True), "1"), ["restart u"]),
    (Unit("u", enabled=False, running=False), of_version(unit(), "1"), ["disable u", "stop u"]),
    (Unit("u"), unit(digest=""), []),
    (Unit("u", "d1", anew="for nobody"), unit(), ["restart u"]),
    (Unit("u", "d2", anew="for nobody"), unit(), ["restart u"]),
    (Unit("u", "d1", anew="for nobody"), unit("failed", ""), ["start u"]),
    (Unit("u"), unit(digest="", reload=True), ["restart u"]),
    (Unit("u", enabled=False), unit(), ["disable u"]),
    (Unit("u", enabled=False, running=False), unit(), ["disable u", "stop u"]),
    (Unit("u", enabled=False, running=False), unit("activating"), ["disable u", "stop u"]),
    (Unit("u", enabled=False, running=False), unit("failed", enabled=False), []),
    (Unit("u", enabled=False, running=False), None, []),
    (Unit("u", running=False), unit("inactive"), []),
]


@pytest.mark.parametrize(("want", "seen", "expected"), UNITS)
def test_steps_of_units(want: Unit, seen: SeenUnit | None, expected: list[str]) -> None:
    assert steps(HostState(units=(want,)), SeenState(units={"u": seen} if seen else {})) == expected


def test_a_unit_without_a_digest_is_restarted_when_its_file_changes() -> None:
    target = HostState(files=(File("/etc/systemd/system/x.timer", "new"),), units=(Unit("x.timer"),))
    before = SeenState(
        paths={"/etc/systemd/system/x.timer": file("old")}, units={"x.timer": unit(digest="")}
    )  # fmt: skip
    assert steps(target, before) == ["write /etc/systemd/system/x.timer", "restart x.timer"]
    assert steps(dataclasses.replace(target, units=(Unit("x.timer", running=False),)), before)[1:] == ["stop x.timer"]


def test_the_order_is_one_in_which_it_can_be_done() -> None:
    target = HostState(
        (User("u"),), (Directory("/d"),), (File("/d/f", ""),), (Link("/l", "/d/f"),), (Absent("/old"),), (Unit("s"),)
    )
    assert steps(target, paths(old=file(""))) == [
        "create user u",
        "create directory /d",
        "write /d/f",
        "link /l",
        "remove /old",
        "enable s",
        "start s",
    ]


def test_a_unit_that_goes_is_ended_before_its_file() -> None:
    path = "/etc/systemd/system/x.service"
    target = HostState(absent=(Absent(path),), units=(Unit("x.service", enabled=False, running=False),))
    seen = SeenState(paths={path: file("")}, units={"x.service": unit()})
    assert steps(target, seen) == ["disable x.service", "stop x.service", f"remove {path}"]
    assert steps(target, SeenState()) == []


def test_everything_in_the_way_is_named_at_once() -> None:
    target = HostState(
        directories=(Directory("/a"), Directory("/ok")), files=(File("/b", ""),), links=(Link("/c", "/x"),)
    )
    seen = paths(a=SeenPath("link", target="/data"), b=directory(), c=file(""), ok=directory())
    with pytest.raises(SlipwayError) as caught:
        plan_state(target, seen)
    assert [(each.where, each.found, each.expected) for each in caught.value.problems] == [
        ("/a", "is a link", "a directory"),
        ("/b", "is a directory", "a file"),
        ("/c", "is a file", "a link"),
    ]


def test_texts_are_shown_and_secrets_are_not() -> None:
    seen = paths(open=file("old\n"), secret=file("old\n", "0600"), bytes=file("old\n"))
    target = HostState(
        files=(
            File("/open", "new\n"),
            File("/secret", "password\n", "0600", secret=True),
            File("/bytes", BINARY, encoding="base64"),
        )
    )
    changes = plan_state(target, seen)
    assert diffs(changes) == [
        {"before": "old\n", "after": "new\n", "before_header": "write /open", "after_header": "write /open"}
    ]
    assert [change.secret for change in changes] == [False, True, False]
    assert not any("password" in change.before + change.after for change in changes)


def test_a_restart_and_a_new_mode_say_from_what_to_what() -> None:
    target = HostState(directories=(Directory("/d", "0700"),), units=(Unit("u", "d2"),))
    seen = SeenState(paths={"/d": directory()}, units={"u": unit(digest="")})
    assert [(change.before, change.after) for change in plan_state(target, seen)] == [
        ("root:root 0755\n", "root:root 0700\n"),
        ("running with unknown input\n", "running with d2\n"),
    ]


def test_a_restart_for_another_program_names_both() -> None:
    (change,) = plan_state(HostState(units=(Unit("u", "d1"),)), SeenState(units={"u": of_version(unit(), "1")}))
    assert (change.before, change.after) == ("running /o/1/u\n", "running /o/2/u\n")


def test_a_change_speaks_in_its_sentence_or_its_name() -> None:
    assert Change("n").text() == "n"
    assert Change("n", "a sentence").text() == "a sentence"
    assert diffs([Change("n", before="same", after="same"), Change("s", after="x", secret=True)]) == []


# --- placeholders -----------------------------------------------------------------------------------------------------
def test_placeholders_are_filled_once_and_only_known_ones() -> None:
    target = HostState(files=(File("/f", "@@a@@ @@b-1.x@@ @@unknown@@ @@A@@ a@@b"),))
    filled = resolve(target, {"a": "@@b-1.x@@", "b-1.x": "2"})
    assert filled.files[0].content == "@@b-1.x@@ 2 @@unknown@@ @@A@@ a@@b"
    assert open_placeholders(filled.files[0]) == ["b-1.x", "unknown"]
    assert open_placeholders(File("/f", "@@a@@", encoding="base64")) == []


def test_content_is_bytes_of_its_encoding() -> None:
    assert content_bytes(File("/f", "ä")) == "ä".encode()
    assert content_bytes(File("/f", BINARY, encoding="base64")) == b"\0\xff"


def test_a_digest_depends_on_where_one_part_ends() -> None:
    assert digest_of("ab", "c") != digest_of("a", "bc")
    assert digest_of("a") == digest_of("a")
    assert len(digest_of("a")) == 16


# --- data -------------------------------------------------------------------------------------------------------------
def test_a_sum_has_each_part_once() -> None:
    one = HostState(users=(User("a"),), files=(File("/f", "1"),))
    two = HostState(users=(User("b"), User("a")), files=(File("/f", "1"), File("/g", "2")))
    assert one + two == HostState(users=(User("a"), User("b")), files=(File("/f", "1"), File("/g", "2")))
    assert one + HostState() == one


BAD: list[tuple[dict[str, t.Any], list[str]]] = [
    ({"file": []}, ["target: unknown part file"]),
    ({"files": [{"path": "/f"}]}, ["target: "]),
    ({"files": [{"path": "/f", "content": "", "colour": "red"}]}, ["target: "]),
    ({"directories": [{"path": "d"}]}, ["d: is relative"]),
    ({"links": [{"path": "l", "target": "x"}]}, ["l: is relative"]),
    ({"directories": [{"path": "/d", "mode": 493}]}, ["/d: mode 493"]),
    ({"files": [{"path": "/f", "content": "", "mode": "644"}]}, ["/f: mode '644'"]),
    ({"files": [{"path": "/f", "content": "", "mode": "0888"}]}, ["/f: mode '0888'"]),
    ({"files": [{"path": "/f", "content": {"a": 1}}]}, ["/f: content is a dict"]),
    ({"files": [{"path": "/f", "content": "", "encoding": "latin1"}]}, ["/f: encoding 'latin1'"]),
    (
        {"files": [{"path": "/f", "content": ""}, {"path": "/f", "content": "x"}], "absent": [{"path": "/f"}]},
        ["/f: stands in the target more than once"],
    ),
    (
        {"files": [{"path": "f", "content": "", "mode": 1}], "directories": [{"path": "/d", "mode": ""}]},
        ["f: is relative", "/d: mode ''", "f: mode 1"],
    ),
]


@pytest.mark.parametrize(("data", "expected"), BAD)
def test_a_target_that_cannot_be_meant_is_refused(data: dict[str, t.Any], expected: list[str]) -> None:
    with pytest.raises(SlipwayError) as caught:
        HostState.from_data(data)
    found = [problem.text() for problem in caught.value.problems]
    assert len(found) == len(expected)
    assert all(text.startswith(start) for text, start in zip(found, expected, strict=True))


def test_no_data_is_no_target() -> None:
    assert HostState.from_data({}) == HostState()
    assert HostState.from_data({"files": None}) == HostState()


# --- properties -------------------------------------------------------------------------------------------------------
WORDS = st.text("abc", min_size=1, max_size=3)
OWNERS = st.sampled_from(["root", "etcd"])
MODES = st.sampled_from(["0600", "0644", "0700", "0755"])
TEXTS = st.text(st.sampled_from("ab\n@"), max_size=6)
PLACES = st.sampled_from([f"/{letter}" for letter in "abcdefghij"])
PARTS = st.one_of(
    st.builds(Directory, PLACES, MODES, OWNERS, OWNERS),
    st.builds(File, PLACES, TEXTS, MODES, OWNERS, OWNERS, secret=st.booleans(), create_only=st.booleans()),
    st.builds(Link, PLACES, PLACES),
    st.builds(Absent, PLACES),
)
DIGESTS = st.sampled_from(["", "d1", "d2"])


@st.composite
def targets(draw: st.DrawFn) -> HostState:
    parts = draw(st.lists(PARTS, unique_by=lambda part: part.path, max_size=8))
    units = draw(st.lists(st.builds(Unit, WORDS, DIGESTS, st.booleans(), st.booleans()), unique_by=lambda u: u.name))
    return HostState(
        users=tuple(draw(st.lists(st.builds(User, WORDS), unique_by=lambda user: user.name, max_size=3))),
        directories=tuple(part for part in parts if isinstance(part, Directory)),
        files=tuple(part for part in parts if isinstance(part, File)),
        links=tuple(part for part in parts if isinstance(part, Link)),
        absent=tuple(part for part in parts if isinstance(part, Absent)),
        units=tuple(units),
    )


SEEN_PATHS = st.one_of(
    st.builds(SeenPath, st.just("directory"), MODES, OWNERS, OWNERS),
    st.builds(seen_file, st.builds(File, PLACES, TEXTS, MODES, OWNERS, OWNERS)),
    st.builds(SeenPath, st.just("link"), target=PLACES),
    st.builds(SeenPath, st.just("other"), MODES, OWNERS, OWNERS),
)
STATES = st.builds(
    SeenState,
    st.frozensets(WORDS),
    st.dictionaries(PLACES, SEEN_PATHS),
    st.dictionaries(
        WORDS,
        st.builds(
            SeenUnit,
            st.just(True),  # a strategy's value
            st.sampled_from(["active", "inactive", "failed", "activating"]),
            st.booleans(),
            DIGESTS,
            st.booleans(),
            st.just("/o/current/u"),
            PLACES,
            PLACES,
            st.tuples(PLACES),
        ),
    ),
)


@given(targets())
def test_a_target_survives_its_data(target: HostState) -> None:
    assert HostState.from_data(json.loads(json.dumps(target.to_data()))) == target


@given(STATES)
def test_an_observation_survives_its_data(seen: SeenState) -> None:
    assert SeenState.from_data(json.loads(json.dumps(seen.to_data()))) == seen


@given(targets(), STATES)
def test_what_was_carried_out_leaves_nothing_to_do(target: HostState, seen: SeenState) -> None:
    try:
        changes = plan_state(target, seen)
    except SlipwayError:
        return
    assert len(names(changes)) == len(set(names(changes)))
    assert plan_state(target, carry_out(changes, seen)) == []


@given(targets(), st.data())
def test_a_run_that_was_cut_off_is_finished_by_the_next(target: HostState, data: st.DataObject) -> None:
    changes = plan_state(target, SeenState())
    done = data.draw(st.integers(0, len(changes)))
    halfway = carry_out(changes[:done], SeenState())
    rest = plan_state(target, halfway)
    assert set(names(rest)) <= {*names(changes), *(f"restart {unit.name}" for unit in target.units)}
    assert plan_state(target, carry_out(rest, halfway)) == []


@given(targets(), targets())
def test_a_sum_wants_what_both_want(one: HostState, two: HostState) -> None:
    both = one + two
    for name in ("users", "directories", "files", "links", "absent", "units"):
        assert set(getattr(both, name)) == {*getattr(one, name), *getattr(two, name)}
    assert both + two == both
