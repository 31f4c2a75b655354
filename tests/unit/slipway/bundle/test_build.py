# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Building bundles: done once, shared, mended, and never half there."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.lock import parse_lock_text
from slipway.bundle.build import Built, build_bundle
from slipway.bundle.files import sha256_of
from slipway.bundle.places import load_set
from slipway.bundle.verify import verify_bundle

from .conftest import Project, elf


def build(project: Project, output: Path | None = None, said: list[str] | None = None) -> Built:
    """Build the small project's only set."""
    versions = load_set("1.99", project.artifacts)
    lines = [] if said is None else said
    return build_bundle(versions, output or project.output, project.cache, lines.append, project.artifacts)


def names(directory: Path) -> list[str]:
    """All file names in a directory."""
    return sorted(path.name for path in directory.iterdir())


def test_a_bundle_holds_every_artefact_and_its_lock(project: Project) -> None:
    said: list[str] = []
    built = build(project, said=said)
    assert (built.compiled, built.changed) == (2, True)
    assert names(project.output / "artifacts") == [
        "tool-1.99.1-linux-amd64.tar.gz",
        "toolctl-1.99.1-linux-amd64.tar.gz",
        "web-0.5.0-linux-amd64.oci.tar",
    ]
    lock = parse_lock_text((project.output / "bundle.json").read_text(), "bundle.json")
    assert lock == built.lock == verify_bundle(project.output)
    tool = lock.artifact("tool", "amd64")
    assert (tool.module, tool.module_sum, tool.go) == ("example.test/tool@v1.99.1", "h1:kubernetes=", "go1.0")
    assert "-trimpath" in tool.flags
    assert "CGO_ENABLED=0" in tool.flags
    assert lock.artifact("toolctl", "amd64").purpose == "test"
    assert lock.artifact("web", "amd64").reference == "slipway.local/web:0.5.0"
    assert [line.split(":")[0] for line in said[::2]] == ["[1/2] kubernetes 1.99.1", "[2/2] web 0.5.0"]


def test_programs_come_out_of_the_archive_executable_and_owned_by_root(project: Project) -> None:
    build(project)
    with tarfile.open(project.output / "artifacts" / "tool-1.99.1-linux-amd64.tar.gz") as tar:
        (member,) = tar.getmembers()
        content = tar.extractfile(member)
        assert content is not None
        assert b"example.test/tool/v2" in content.read()
    assert (member.name, member.mode, member.uid, member.gid, member.mtime) == ("tool", 0o755, 0, 0, 0)


def test_a_second_build_does_nothing(project: Project) -> None:
    build(project)
    before = {path: path.stat().st_mtime_ns for path in project.output.rglob("*")}
    built = build(project)
    assert (built.compiled, built.changed) == (0, False)
    assert {path: path.stat().st_mtime_ns for path in project.output.rglob("*")} == before
    assert len(project.calls()) == 2


def test_two_bundles_share_the_files_of_what_is_equal(project: Project, tmp_path: Path) -> None:
    build(project)
    built = build(project, tmp_path / "other")
    assert (built.compiled, built.changed) == (0, True)
    for name in names(project.output / "artifacts"):
        assert (project.output / "artifacts" / name).samefile(tmp_path / "other" / "artifacts" / name)


def test_equal_inputs_give_equal_bytes(project: Project, tmp_path: Path) -> None:
    build(project)
    first = {path.name: sha256_of(path) for path in (project.output / "artifacts").iterdir()}
    shutil.rmtree(project.cache)
    build(project, tmp_path / "other")
    assert {path.name: sha256_of(path) for path in (tmp_path / "other" / "artifacts").iterdir()} == first


def test_only_what_changed_is_built_again(project: Project) -> None:
    build(project)
    go_sum = project.artifacts / "go" / "web" / "0.5.0" / "go.sum"
    go_sum.write_text(go_sum.read_text() + "example.test/other v1.0.0 h1:new=\n")
    built = build(project)
    assert built.compiled == 1
    assert project.calls()[-1].startswith(str(go_sum.parent))


def test_another_go_builds_everything_again(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    build(project)
    monkeypatch.setenv("FAKE_GO_VERSION", "go1.1")
    assert build(project).compiled == 2


def test_a_file_altered_in_place_is_told_and_mended(project: Project) -> None:
    build(project)
    altered = project.output / "artifacts" / "tool-1.99.1-linux-amd64.tar.gz"
    missing = project.output / "artifacts" / "web-0.5.0-linux-amd64.oci.tar"
    content = bytearray(altered.read_bytes())
    content[-1] ^= 1
    altered.chmod(0o644)
    altered.write_bytes(content)
    missing.unlink()
    with pytest.raises(SlipwayError) as caught:
        verify_bundle(project.output)
    found = {problem.where: problem.found for problem in caught.value.problems}
    assert found["artifacts/web-0.5.0-linux-amd64.oci.tar"] == "missing"
    assert found["artifacts/tool-1.99.1-linux-amd64.tar.gz"].startswith("altered: sha256 ")
    assert len(found) == 2
    assert build(project).changed
    verify_bundle(project.output)


def test_files_of_an_earlier_version_are_removed(project: Project) -> None:
    build(project)
    stale = project.output / "artifacts" / "tool-1.99.0-linux-amd64.tar.gz"
    shutil.copy(project.output / "artifacts" / "tool-1.99.1-linux-amd64.tar.gz", stale)
    index = project.output / "bundle.json"
    index.write_text(index.read_text().replace("tool-1.99.1-", "tool-1.99.0-"))
    assert build(project).changed
    assert not stale.exists()
    verify_bundle(project.output)


def test_without_network_it_says_so_and_keeps_what_was_finished(project: Project) -> None:
    project.fail("web", "example.test/web: dial tcp: lookup proxy.test: no such host")
    with pytest.raises(SlipwayError, match="GOPROXY") as caught:
        build(project)
    assert caught.value.problems[0].where == "web 0.5.0"
    assert not (project.output / "bundle.json").exists()
    project.mend()
    assert build(project).compiled == 1


def test_a_full_disk_is_said_in_words(project: Project) -> None:
    project.fail("web", "write /tmp/go-build/x.a: no space left on device")
    with pytest.raises(SlipwayError, match="no space left on the device"):
        build(project)
    assert [name for name in names(project.cache) if name.startswith((".tmp-", "web"))] == []


def test_a_compiler_error_is_shown(project: Project) -> None:
    project.fail("web", "web.go:3: undefined: x")
    with pytest.raises(SlipwayError, match="undefined: x"):
        build(project)


def test_a_killed_build_leaves_nothing_under_a_final_name(project: Project) -> None:
    hang = project.control / "hang-web"
    hang.touch()
    script = (
        "import sys; from pathlib import Path\n"
        "from slipway.bundle.build import build_bundle; from slipway.bundle.places import load_set\n"
        "a, c, o = map(Path, sys.argv[1:])\n"
        "build_bundle(load_set('1.99', a), o, c, print, a)"
    )
    argv = [sys.executable, "-c", script, str(project.artifacts), str(project.cache), str(project.output)]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True) as process:
        try:
            deadline = time.monotonic() + 30
            while not list(project.cache.glob(".tmp-web-*/programs/web")):
                assert time.monotonic() < deadline, "the build never reached its second component"
                time.sleep(0.05)
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    assert [name for name in names(project.cache) if name.startswith("web")] == []
    assert not (project.output / "bundle.json").exists()
    hang.unlink()
    assert build(project).compiled == 1
    assert [name for name in names(project.cache) if name.startswith(".tmp-")] == []
    verify_bundle(project.output)


def test_a_directory_of_other_things_is_refused(project: Project) -> None:
    project.output.mkdir()
    (project.output / "photos").touch()
    with pytest.raises(SlipwayError, match="not empty and not a bundle"):
        build(project)
    assert names(project.output) == ["photos"]
    assert project.calls() == []


def test_an_output_that_cannot_be_written_is_named(project: Project) -> None:
    project.output.parent.joinpath("file").touch()
    with pytest.raises(SlipwayError, match="cannot be written"):
        build(project, project.output.parent / "file" / "bundle")


def test_every_component_that_is_not_pinned_is_named(project: Project) -> None:
    (project.artifacts / "go" / "web" / "0.5.0" / "go.sum").unlink()
    (project.artifacts / "go" / "kubernetes" / "1.99.1" / "go.mod").unlink()
    with pytest.raises(SlipwayError) as caught:
        build(project)
    assert [problem.where for problem in caught.value.problems] == ["kubernetes 1.99.1", "web 0.5.0"]


def test_a_second_build_waits_for_the_first(project: Project) -> None:
    project.cache.mkdir()
    code = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX);"
        "f.write('4711'); f.flush(); print('held', flush=True); time.sleep(1)"
    )
    argv = [sys.executable, "-c", code, str(project.cache / "lock")]
    said: list[str] = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        build(project, said=said)
    assert "process 4711" in said[0]
    said.clear()
    build(project, said=said)
    assert said == []


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no bundle.json"), ("{", "not JSON"), ('{"format": 9}', "lock format 9")],
)
def test_verify_refuses_what_is_not_a_bundle(tmp_path: Path, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(SlipwayError, match=said):
        verify_bundle(tmp_path)


def test_verify_refuses_an_upstream_lock(project: Project) -> None:
    build(project)
    index = project.output / "bundle.json"
    text = index.read_text().replace('"source": "bundle"', '"source": "upstream"')
    index.write_text(text.replace('"file": "', '"url": "https://example.test/'))
    with pytest.raises(SlipwayError, match="source upstream"):
        verify_bundle(project.output)


BOX: dict[str, t.Any] = {
    "package": "box-static",
    "programs": {"box": "box"},
    "image": {"entrypoint": ["/bin/sh"], "links": ["bin/sh"]},
}


def boxed(project: Project, program: bytes | None) -> Project:
    """The project with an image of a program that the machine has, or has not."""
    versions = yaml.safe_load((project.artifacts / "sets" / "1.99.yml").read_text())
    versions["versions"]["box"] = "1.0.0"
    versions["images"]["box"] = {"bundle": "slipway.local/box:1.0.0", "upstream": "registry.test/box:1"}
    (project.artifacts / "sets" / "1.99.yml").write_text(yaml.safe_dump(versions))
    components = yaml.safe_load((project.artifacts / "components.yml").read_text())
    (project.artifacts / "components.yml").write_text(yaml.safe_dump({**components, "box": BOX}, sort_keys=False))
    if program is not None:
        (project.control / "box").write_bytes(program)
        (project.control / "box").chmod(0o755)
    return project


def test_a_program_of_the_machine_is_taken_as_it_is_and_known_by_its_bytes(project: Project) -> None:
    first = build(boxed(project, elf(interpreter=False)))
    made = first.lock.artifact("box", first.lock.artifacts[0].architecture)
    digest = hashlib.sha256(elf(interpreter=False)).hexdigest()
    assert (made.kind, made.reference) == ("image", "slipway.local/box:1.0.0")
    assert (made.module, made.module_sum) == ("box-static", f"sha256:{digest}")
    assert build(project).compiled == 0
    (project.control / "box").write_bytes(elf(interpreter=False) + b"newer")
    assert build(project).compiled == 1


@pytest.mark.parametrize(
    ("program", "said"), [(None, "the program box is missing"), (elf(interpreter=True), "box linked dynamically")]
)
def test_a_program_the_machine_lacks_is_named_with_its_package(
    project: Project, program: bytes | None, said: str
) -> None:
    with pytest.raises(SlipwayError) as caught:
        build(boxed(project, program))
    assert said in str(caught.value)
    assert "apt-get install box-static" in str(caught.value)
