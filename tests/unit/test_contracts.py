# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Promises that the whole tree keeps and no linter checks. Each failure lists every place that breaks its promise."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

from ansible_collections.slipway.cluster.plugins.plugin_utils.core import preflight

ROOT = pathlib.Path(__file__).parents[2]
MODULE_UTILS = ROOT / "plugins/module_utils"
PLUGIN_UTILS = ROOT / "plugins/plugin_utils"
COLLECTION = "ansible_collections.slipway.cluster.plugins"
PURE = (MODULE_UTILS / "core", PLUGIN_UTILS / "core")
PURE_NAMES = (f"{COLLECTION}.module_utils.core", f"{COLLECTION}.plugin_utils.core")
IMPURE = {"ansible", "glob", "os", "random", "secrets", "shutil", "socket", "subprocess", "tempfile", "time", "urllib"}
PURE_PATHS = {"PurePath", "PurePosixPath", "PureWindowsPath"}
LICENCE = (
    "# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)",
    "# SPDX-License-Identifier: GPL-3.0-or-later",
)
MAX_FUNCTION_LINES = 60
MAX_MODULE_LINES = 300
MAX_ROLE_MAIN_LINES = 40
MAX_ROLES = 12


def python_files(*directories: pathlib.Path) -> list[pathlib.Path]:
    return sorted(
        path for directory in directories for path in directory.rglob("*.py") if "__pycache__" not in path.parts
    )


def name(path: pathlib.Path) -> str:
    return str(path.relative_to(ROOT))


@functools.cache
def tree(path: pathlib.Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def dotted(path: pathlib.Path) -> str:
    parts = path.relative_to(ROOT / "plugins").with_suffix("").parts
    return ".".join((COLLECTION, *(part for part in parts if part != "__init__")))


def imports(path: pathlib.Path) -> t.Iterator[tuple[str, tuple[str, ...], int]]:
    """Absolute module name, the names taken from it, and the line of every import."""
    package = dotted(path) if path.name == "__init__.py" else dotted(path).rpartition(".")[0]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, (), node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: len(package.split(".")) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            yield module, tuple(alias.name for alias in node.names), node.lineno


def is_ours_and_impure(module: str, names: tuple[str, ...]) -> bool:
    if not module.startswith(COLLECTION):
        return False
    candidates = [module] if module.startswith(PURE_NAMES) else [f"{module}.{taken}" for taken in names] or [module]
    return not all(candidate.startswith(PURE_NAMES) for candidate in candidates)


@pytest.mark.parametrize("path", python_files(*PURE), ids=name)
def test_the_core_is_pure(path: pathlib.Path) -> None:
    broken = []
    for module, names, line in imports(path):
        if (module.split(".")[0] in IMPURE and module != "urllib.parse") or is_ours_and_impure(module, names):
            broken.append(f"line {line}: imports {module}")
        if module == "pathlib" and not (names and set(names) <= PURE_PATHS):
            broken.append(f"line {line}: pathlib, of which only the pure paths are thinking")
    for node in ast.walk(tree(path)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"open", "print", "input"}
        ):
            broken.append(f"line {node.lineno}: calls {node.func.id}()")
        if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}:
            broken.append(f"line {node.lineno}: asks the clock")
    assert broken == []


def test_the_purity_check_can_fail() -> None:
    assert is_ours_and_impure(f"{COLLECTION}.module_utils.host.machine", ("Machine",))
    assert is_ours_and_impure(f"{COLLECTION}.module_utils", ("host",))
    assert not is_ours_and_impure(f"{COLLECTION}.module_utils", ("core",))
    assert not is_ours_and_impure(f"{COLLECTION}.module_utils.core.problems", ("Problem",))


@pytest.mark.parametrize("path", python_files(MODULE_UTILS), ids=name)
def test_what_travels_to_hosts_is_standard_library_only(path: pathlib.Path) -> None:
    allowed = (f"{COLLECTION}.module_utils", "ansible.module_utils")
    foreign = [
        f"line {line}: {module}"
        for module, _names, line in imports(path)
        if module.split(".")[0] not in sys.stdlib_module_names and not module.startswith(allowed)
    ]
    assert foreign == []


def python39() -> str | None:
    candidates = ["python3.9", *map(str, sorted(pathlib.Path.home().glob(".pyenv/versions/3.9.*/bin/python3.9")))]
    for candidate in candidates:
        try:
            subprocess.run([candidate, "-c", "import sys; assert sys.version_info[:2] == (3, 9)"], check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    return None


IMPORT_ALL = """
import importlib, importlib.util, pathlib, sys, types
root, files = pathlib.Path(sys.argv[1]), sys.argv[2:]
for depth, parts in enumerate([(), ("slipway",), ("slipway", "cluster"), ("slipway", "cluster", "plugins")]):
    package = types.ModuleType(".".join(("ansible_collections", *parts)))
    package.__path__ = [str(root)] if depth == 3 else []
    sys.modules[package.__name__] = package
for file in files:
    source = (root / file).read_text(encoding="utf-8")
    compile(source, file, "exec")
    if file.startswith("module_utils/core/"):
        importlib.import_module("ansible_collections.slipway.cluster.plugins." + file[:-3].replace("/", "."))
"""


def test_what_travels_to_hosts_runs_on_python_39() -> None:
    """The pure part is imported there, the rest compiled; without a Python 3.9, all of it is parsed as 3.9."""
    paths = python_files(MODULE_UTILS, ROOT / "plugins/modules")
    python = python39()
    if python is None:
        for path in paths:
            ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 9))
        return
    files = [str(path.relative_to(ROOT / "plugins")) for path in paths]
    command = [python, "-B", "-c", IMPORT_ALL, str(ROOT / "plugins"), *files]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    assert result.returncode == 0


def test_functions_are_short() -> None:
    long = [
        f"{name(path)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in python_files(ROOT / "plugins", ROOT / "src", ROOT / "scripts")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []


def test_modules_are_shells() -> None:
    lengths = {name(path): len(path.read_text().splitlines()) for path in python_files(ROOT / "plugins/modules")}
    assert {path: length for path, length in lengths.items() if length > MAX_MODULE_LINES} == {}


def test_every_python_file_states_its_licence() -> None:
    directories = [ROOT / part for part in ("plugins", "src", "scripts", "tests", "molecule")]
    without = []
    for path in python_files(*directories):
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#!")]
        if lines and tuple(lines[:2]) != LICENCE and path.name != "__init__.py":
            without.append(name(path))
    assert without == []


def test_the_version_stands_in_one_place() -> None:
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    assert importlib.metadata.version("slipway") == version, "run `make venv`"
    repeated = [
        f"{name(path)}:{node.lineno}"
        for path in python_files(ROOT / "plugins", ROOT / "src")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value == version
    ]
    assert repeated == []


def test_nothing_but_the_lab_knows_about_podman() -> None:
    suffixes = {".py", ".yml", ".j2", ".sh"}
    knowing = [
        name(path)
        for part in ("plugins", "roles", "playbooks", "src/slipway")
        for path in sorted((ROOT / part).rglob("*"))
        if path.suffix in suffixes
        and not path.is_relative_to(ROOT / "src/slipway/lab")
        and not path.is_relative_to(ROOT / "src/slipway/bundle")
        and re.search(r"\bpodman\b", path.read_text(encoding="utf-8"))
    ]
    assert knowing == []


def test_sanity_ignores_nothing() -> None:
    assert [name(path) for path in (ROOT / "tests/sanity").glob("ignore*") if path.read_text().strip()] == []


# --- roles and playbooks ----------------------------------------------------------------------------------------------
ROLES = sorted(path for path in (ROOT / "roles").glob("*") if path.is_dir())
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
GATE = "slipway.cluster.gate"
BLOCKS = ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks", "handlers")


def load(path: pathlib.Path) -> list[dict[str, t.Any]]:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or []


def tasks(entries: t.Sequence[dict[str, t.Any]]) -> t.Iterator[dict[str, t.Any]]:
    """Every task of a task file or a playbook, also within blocks; a block itself counts as one."""
    for entry in entries:
        if "hosts" not in entry and not any("import_playbook" in key for key in entry):
            yield entry
        for key in BLOCKS:
            yield from tasks(entry.get(key) or [])


def task_faults(task: dict[str, t.Any]) -> list[str]:
    words = {key.rpartition(".")[2] for key in task}
    faults = []
    if words & {"shell", "raw"}:
        faults.append("uses a shell")
    if "ignore_errors" in task:
        faults.append("ignores errors")
    if task.get("failed_when") is False:
        faults.append("cannot fail")
    if words & {"import_tasks", "import_role"} and "when" in task:
        faults.append("imports under a condition, which is copied to every task: include instead")
    return faults


def task_files() -> list[pathlib.Path]:
    files = [path for role in ROLES for part in ("tasks", "handlers") for path in sorted((role / part).rglob("*.yml"))]
    return [*files, *PLAYBOOKS, *sorted((ROOT / "playbooks").glob("*/*.yml"))]


def test_tasks_are_honest() -> None:
    faults = [
        f"{name(path)}: {task.get('name')}: {fault}"
        for path in task_files()
        for task in tasks(load(path))
        for fault in task_faults(task)
    ]
    assert faults == []


@pytest.mark.parametrize(
    ("task", "count"),
    [
        ({"name": "x", "ansible.builtin.shell": "true"}, 1),
        ({"name": "x", "slipway.cluster.host": {}, "ignore_errors": True, "failed_when": False}, 2),
        ({"name": "x", "ansible.builtin.import_tasks": "y.yml", "when": "z"}, 1),
        ({"name": "x", "ansible.builtin.command": {"argv": ["true"]}, "failed_when": "x.rc > 1"}, 0),
    ],
)
def test_dishonest_tasks_are_found(task: dict[str, t.Any], count: int) -> None:
    (found,) = list(tasks([{"hosts": "all", "tasks": [task]}]))
    assert len(task_faults(found)) == count


def test_roles_are_few_thin_and_typed() -> None:
    faults = [f"{len(ROLES)} roles"] if len(ROLES) > MAX_ROLES else []
    for role in ROLES:
        if not (role / "meta/argument_specs.yml").is_file():
            faults.append(f"{role.name}: no meta/argument_specs.yml")
        main = role / "tasks/main.yml"
        if not main.is_file():
            faults.append(f"{role.name}: no tasks/main.yml")
        elif len(main.read_text().splitlines()) > MAX_ROLE_MAIN_LINES:
            faults.append(f"{role.name}: tasks/main.yml is longer than {MAX_ROLE_MAIN_LINES} lines")
    assert faults == []


def test_a_red_cluster_does_not_hide_the_docker_hosts_nor_one_of_them_the_others() -> None:
    """Ansible ends a playbook after a play in which every host of a batch has failed."""
    cluster, docker, verdict = [play for play in load(ROOT / "playbooks/verify.yml") if "hosts" in play]
    assert [set(task) & {"block", "rescue"} for task in cluster["tasks"]] == [{"block", "rescue"}]
    (kept,) = [task["ansible.builtin.set_fact"] for task in cluster["tasks"][0]["rescue"]]
    assert "serial" not in docker
    (told,) = verdict["tasks"]
    assert "ansible.builtin.fail" in told
    assert [told["when"]] == [f"{name} | default(false)" for name in kept]


def test_plays_gather_no_facts() -> None:
    gathering = [
        f"{name(path)}: {play.get('name')}"
        for path in PLAYBOOKS
        for play in load(path)
        if "hosts" in play and play.get("gather_facts") is not False
    ]
    assert gathering == []


def test_who_asks_etcd_at_a_gate_says_who_was_down() -> None:
    """Else a host that is down, or declared absent, holds up all others until the gate's time is over."""
    gates = [(path, task[GATE]) for path in task_files() for task in tasks(load(path)) if GATE in task]
    asking = [(name(path), gate) for path, gate in gates if "etcd_endpoints" in gate]
    assert len(asking) >= 3
    assert [path for path, gate in asking if "etcd_down" not in gate] == []


def test_turns_are_in_the_order_of_the_inventory() -> None:
    """``group_by`` adds hosts as they answer, so the group alone would make the order of turns a matter of luck."""
    turns = 0
    for path in PLAYBOOKS:
        for play in load(path):
            for group in re.findall(r"if '(\w+)' in groups", play.get("hosts", "")) if "serial" in play else ():
                inventory = InventoryManager(loader=DataLoader(), sources=["w3,w1,w2,"])
                inventory.add_group(group)
                for host in ("w2", "w1", "w3"):
                    inventory.add_host(host, group)
                templar = Templar(loader=DataLoader(), variables={"groups": inventory.groups})
                pattern = templar.template(trust_as_template(play["hosts"]))
                assert [host.name for host in inventory.get_hosts(pattern)] == ["w3", "w1", "w2"], play["name"]
                turns += 1
    assert turns == 5


@pytest.mark.parametrize("verb", ["apply", "plan", "verify", "reset", "kubeconfig"])
def test_every_verb_has_its_playbook(verb: str) -> None:
    assert (ROOT / f"playbooks/{verb}.yml").is_file()


# --- documentation ----------------------------------------------------------------------------------------------------
PAGES = (*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")))


def anchors(text: str) -> set[str]:
    """What headings are called in links."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_link_in_the_documentation_leads_somewhere() -> None:
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    links = [(page, link) for page, text in texts.items() for link in re.findall(r"\]\(([^)\s]+)\)", text)]
    broken = []
    for page, link in links:
        path, _hash, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if "://" not in link and not (target.exists() and (not anchor or anchor in anchors(texts.get(target, "")))):
            broken.append(f"{name(page)}: {link}")
    assert len(links) > 20
    assert broken == []


def test_the_documentation_names_the_go_that_bundles_are_built_with() -> None:
    """The newest that a go.mod asks for; `make deps` looks for the same."""
    asked = re.findall(r"^go ([\d.]+)$", "\n".join(map(_text, ROOT.glob("artifacts/go/*/*/go.mod"))), re.MULTILINE)
    newest = max(asked, key=_numbers)
    assert [page for page in ("README.md", "docs/bundle.md") if f"Go {newest} or newer" not in _text(ROOT / page)] == []


def test_the_documentation_names_the_memory_and_disk_that_preflight_asks_for() -> None:
    units = {"MiB": preflight.MIB, "GiB": preflight.GIB}
    rows = re.findall(r"^\|.* (\d+) ([MG]iB) \| (\d+) ([MG]iB) \|", _text(ROOT / "docs/requirements.md"), re.MULTILINE)
    told = [(int(first) * units[one], int(second) * units[other]) for first, one, second, other in rows]
    memory = [(floor.least, floor.good) for floor in preflight.MEMORY]
    disk = [(space.new, space.installed) for space in preflight.SPACE]
    assert sorted(told) == sorted([*memory, *disk])


def test_no_plugin_was_added_after_this_version() -> None:
    version = yaml.safe_load(_text(ROOT / "galaxy.yml"))["version"]
    plugins = python_files(*(path for path in (ROOT / "plugins").iterdir() if not path.name.endswith("_utils")))
    told = {name(path): re.findall(r"version_added: (\S+)", _text(path)) for path in plugins}
    later = {path: added for path, added in told.items() if any(_numbers(each) > _numbers(version) for each in added)}
    assert later == {}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _text(path: pathlib.Path) -> str:
    return path.read_text(encoding="utf-8")
