# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which steps lead from what a host has to what it should have."""

from __future__ import annotations

import dataclasses
import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.slipway.cluster.plugins.module_utils.core.artifacts import (
    ACTIVATE,
    FETCH,
    LINK,
    UNPACK,
    Artifact,
    ArtifactsSeen,
    ArtifactsWant,
    SeenComponent,
    left_alone,
    missing_blobs,
    plan_artifacts,
    plan_seed,
)
from ansible_collections.slipway.cluster.plugins.module_utils.core.change import Change
from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError

ETCD = Artifact("etcd", "archive", "3.7.0", "amd64", "a" * 64, 10, programs=("etcd", "etcdctl"))
KUBELET = Artifact("kubelet", "binary", "1.37.0", "amd64", "b" * 64, 20, programs=("kubelet",))
COREDNS = Artifact("coredns", "image", "1.14.6", "amd64", "c" * 64, 30, reference="slipway.local/coredns:1.14.6")
WANT = ArtifactsWant((ETCD, KUBELET, COREDNS), {"/usr/local/bin/etcdctl": "etcdctl"})
DONE = ArtifactsSeen(
    {"etcd": SeenComponent("3.7.0", {"3.7.0": "a" * 64}), "kubelet": SeenComponent("1.37.0", {"1.37.0": "b" * 64})},
    images={COREDNS.reference: "c" * 64},
    links={"/usr/local/bin/etcdctl": "/opt/slipway/etcd/current/etcdctl"},
)


def names(want: ArtifactsWant, seen: ArtifactsSeen) -> list[str]:
    return [change.name for change in plan_artifacts(want, seen)]


def test_a_bare_host_gets_all_bytes_before_any_version_is_switched() -> None:
    assert names(WANT, ArtifactsSeen()) == [
        "fetch etcd 3.7.0",
        "unpack etcd 3.7.0",
        "fetch kubelet 1.37.0",
        "unpack kubelet 1.37.0",
        "fetch image coredns 1.14.6",
        "activate etcd 3.7.0",
        "activate kubelet 1.37.0",
        "link /usr/local/bin/etcdctl",
    ]


def test_a_host_that_has_everything_gets_nothing() -> None:
    assert names(WANT, DONE) == []


def test_a_seeded_host_announces_no_fetching_whether_or_not_the_bytes_are_there_yet() -> None:
    want = dataclasses.replace(WANT, seeded=True)
    with_blobs = ArtifactsSeen(blobs=frozenset({"a" * 64, "b" * 64, "c" * 64}))
    assert names(want, ArtifactsSeen()) == names(want, with_blobs)
    assert not [name for name in names(want, ArtifactsSeen()) if name.startswith("fetch")]


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(
            dataclasses.replace(DONE, components={**DONE.components, "etcd": SeenComponent("3.6.0", {"3.6.0": "x"})}),
            ["fetch etcd 3.7.0", "unpack etcd 3.7.0", "activate etcd 3.7.0"],
            id="an older version in use",
        ),
        pytest.param(
            dataclasses.replace(
                DONE, components={**DONE.components, "etcd": SeenComponent("3.6.0", {"3.7.0": "a" * 64, "3.6.0": "x"})}
            ),
            ["activate etcd 3.7.0"],
            id="the wanted version installed and not in use",
        ),
        pytest.param(
            dataclasses.replace(
                DONE, components={**DONE.components, "etcd": SeenComponent("3.7.0", {"3.7.0": "f" * 64})}
            ),
            ["fetch etcd 3.7.0", "unpack etcd 3.7.0"],
            id="other bytes under the same version",
        ),
        pytest.param(
            dataclasses.replace(DONE, components={**DONE.components, "etcd": SeenComponent("3.7.0", {})}),
            ["fetch etcd 3.7.0", "unpack etcd 3.7.0"],
            id="a version without a stamp",
        ),
        pytest.param(
            dataclasses.replace(
                DONE, components={"kubelet": DONE.components["kubelet"]}, blobs=frozenset({ETCD.sha256})
            ),
            ["unpack etcd 3.7.0", "activate etcd 3.7.0"],
            id="bytes that came before",
        ),
        pytest.param(
            dataclasses.replace(DONE, images={COREDNS.reference: ""}),
            ["fetch image coredns 1.14.6"],
            id="an image of that name from elsewhere",
        ),
        pytest.param(
            dataclasses.replace(DONE, images={}, blobs=frozenset({COREDNS.sha256})), [], id="an image not yet imported"
        ),
        pytest.param(
            dataclasses.replace(DONE, links={"/usr/local/bin/etcdctl": "/opt/slipway/old/current/etcdctl"}),
            ["link /usr/local/bin/etcdctl"],
            id="a link of ours to something else",
        ),
        pytest.param(dataclasses.replace(DONE, links={"/usr/local/bin/etcdctl": ""}), [], id="somebody's own etcdctl"),
    ],
)
def test_only_what_is_missing_is_planned(seen: ArtifactsSeen, expected: list[str]) -> None:
    assert names(WANT, seen) == expected


def test_what_is_somebody_elses_is_named() -> None:
    assert left_alone(WANT, dataclasses.replace(DONE, links={"/usr/local/bin/etcdctl": ""})) == [
        "/usr/local/bin/etcdctl"
    ]
    assert left_alone(WANT, DONE) == []


def test_missing_blobs_are_those_that_must_come_from_elsewhere() -> None:
    seen = dataclasses.replace(DONE, components={}, blobs=frozenset({ETCD.sha256}))
    assert missing_blobs(WANT, seen) == [KUBELET]


def carried_out(changes: t.Sequence[Change], seen: ArtifactsSeen) -> ArtifactsSeen:
    """What a host has after the changes: a model of the host's side."""
    components = dict(seen.components)
    blobs, links, images = set(seen.blobs), dict(seen.links), dict(seen.images)
    for change in changes:
        if change.data[0] == LINK:
            links[change.data[1]] = change.data[2]
            continue
        verb, artifact = change.data
        component = components.get(artifact.name, SeenComponent())
        if verb == FETCH:
            blobs.add(artifact.sha256)
        elif verb == UNPACK:
            stamps = {**component.stamps, artifact.version: artifact.sha256}
            components[artifact.name] = dataclasses.replace(component, stamps=stamps)
        elif verb == ACTIVATE:
            components[artifact.name] = dataclasses.replace(component, current=artifact.version)
    return ArtifactsSeen(components, frozenset(blobs), images, links)


VERSIONS = st.sampled_from(["", "3.6.0", "3.7.0"])
STAMPS = st.dictionaries(st.sampled_from(["3.6.0", "3.7.0", "1.37.0"]), st.sampled_from(["a" * 64, "b" * 64]))
SEEN = st.builds(
    ArtifactsSeen,
    st.dictionaries(st.sampled_from(["etcd", "kubelet"]), st.builds(SeenComponent, VERSIONS, STAMPS)),
    st.frozensets(st.sampled_from(["a" * 64, "b" * 64, "c" * 64])),
    st.dictionaries(st.just(COREDNS.reference), st.sampled_from(["", "c" * 64])),
    st.dictionaries(st.just("/usr/local/bin/etcdctl"), st.sampled_from(["", "/opt/slipway/x/current/y"])),
)


@given(seen=SEEN, seeded=st.booleans())
def test_a_plan_that_was_carried_out_leaves_nothing_to_plan(seen: ArtifactsSeen, seeded: bool) -> None:
    want = dataclasses.replace(WANT, seeded=seeded)
    assert plan_artifacts(want, carried_out(plan_artifacts(want, seen), seen)) == []


@given(seen=SEEN)
def test_an_observation_survives_json(seen: ArtifactsSeen) -> None:
    assert ArtifactsSeen.from_data(json.loads(json.dumps(seen.to_data()))) == seen


def test_a_target_survives_json_and_entries_may_say_more_than_is_needed() -> None:
    data = json.loads(json.dumps(WANT.to_data()))
    data["artifacts"][0]["module_sum"] = "h1:x"
    assert ArtifactsWant.from_data(data) == WANT


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "zip"}, "kind zip"),
        ({"sha256": "A" * 64}, "lower case"),
        ({"name": "../etc"}, "a plain file name"),
        ({"version": "current"}, "a plain file name"),
        ({"programs": ["../../sbin/init"]}, "a plain file name"),
        ({"programs": []}, "names no programs"),
        ({"kind": "image"}, "without a reference"),
        ({"url": "file:///etc/shadow"}, "http or https"),
        ({"sha256": None}, "has no sha256"),
    ],
)
def test_a_wrong_entry_is_refused_in_words(change: dict[str, t.Any], words: str) -> None:
    with pytest.raises(SlipwayError, match=words):
        ArtifactsWant.from_data({"artifacts": [{**ETCD.to_data(), **change}]})


def test_all_problems_of_a_target_come_at_once() -> None:
    data = {
        "artifacts": [ETCD.to_data(), {**ETCD.to_data(), "version": "3.6.0"}, {**KUBELET.to_data(), "kind": "zip"}],
        "links": {"/usr/local/bin/helm": "helm"},
    }
    with pytest.raises(SlipwayError) as caught:
        ArtifactsWant.from_data(data)
    text = str(caught.value)
    assert "kind zip" in text
    assert "wanted 2 times" in text
    assert "no artefact has the program helm; expected one of etcd, etcdctl, kubelet" in text


def test_a_seed_gets_each_blob_once_and_not_what_it_holds() -> None:
    arm = dataclasses.replace(ETCD, architecture="arm64", sha256="d" * 64)
    changes = plan_seed([ETCD, ETCD, arm, KUBELET, COREDNS], {KUBELET.sha256})
    assert [change.name for change in changes] == [
        "seed etcd 3.7.0 (amd64)",
        "seed etcd 3.7.0 (arm64)",
        "seed image coredns 1.14.6",
        "serve artefacts to other hosts",
    ]
    assert plan_seed([ETCD], {ETCD.sha256}, serve=False) == []
