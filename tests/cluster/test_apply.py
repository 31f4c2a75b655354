# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From bare hosts to a cluster: what check mode says, what apply does, what a second one finds to do."""

from __future__ import annotations

import base64
import collections
import contextlib
import http.client
import json

import pytest

from slipway.lab import Lab
from tests.cluster import support
from tests.cluster.conftest import Checked

HOSTS = ("cp1", "w1", "w2")
FIRST_RESULTS = {"cp1": 25, "w1": 15, "w2": 15}
SETTLED_RESULTS = 6


def test_check_mode_on_bare_hosts_succeeds(checked: Checked) -> None:
    checked.run.require()


def test_plan_on_bare_hosts_finds_much_to_do(planned: support.Said) -> None:
    report = json.loads(planned.require(2).out)
    assert report["pending"] is True
    assert report["problems"] == report["unreachable"] == []


def test_plan_and_check_mode_on_bare_hosts_touch_nothing(
    bare: dict[str, support.Fingerprint], checked: Checked
) -> None:
    changed = support.difference(bare, checked.after)
    assert not changed, "\n".join(changed)


def test_a_fingerprint_sees_what_apply_does(lab: Lab, bare: dict[str, support.Fingerprint], cluster: Lab) -> None:
    # Otherwise equal fingerprints would mean nothing.
    changed = "\n".join(support.difference(bare, support.fingerprints(lab)))
    for trace in ("/etc/kubernetes/kubelet.yaml", "unit kubelet.service", "nft ", "interface ", "/etc/passwd", "/opt/"):
        assert trace in changed, f"{trace} is not among what apply changed"


def test_check_mode_shows_differences(checked: Checked) -> None:
    texts = [
        entry["after"]
        for event in checked.run.events
        if event.get("event") == "runner_on_ok"
        for entry in (event["event_data"]["res"] or {}).get("diff") or ()
        if "after" in entry
    ]
    assert any("kind: KubeletConfiguration" in text for text in texts)
    assert not any("PRIVATE KEY" in text for text in texts)


def test_apply_succeeds(applied: support.Run) -> None:
    applied.require()


def test_the_joining_token_is_in_nothing_that_apply_said(cluster: Lab, applied: support.Run) -> None:
    kind = "type=bootstrap.kubernetes.io/token"
    tokens = support.objects(cluster, "secrets", "-n", "kube-system", "--field-selector", kind)
    secrets = [base64.b64decode(token["data"]["token-secret"]).decode() for token in tokens]
    assert len(secrets) == 1, "one token for all who joined, for some minutes"
    assert [secret for secret in secrets if secret in json.dumps(applied.events, default=str)] == []


def test_the_seed_gives_nothing_to_strangers_and_ends_by_itself(cluster: Lab) -> None:
    blob = support.shell(cluster, "cp1", "ls /var/lib/slipway/blobs").split()[0]
    ends = "systemctl show --value -p RuntimeMaxUSec slipway-seed.service"
    assert support.shell(cluster, "cp1", ends).strip() == "15min", "it serves for a while"
    for path in (f"/{blob}", f"/{blob}?here", "/", "/../token"):
        connection = http.client.HTTPConnection(cluster.host("cp1").address, 6445, timeout=20)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Authorization": "Bearer guessed"})
            assert connection.getresponse().status == 403


@pytest.mark.parametrize("host", HOSTS)
def test_apply_does_what_check_mode_announced(host: str, checked: Checked, applied: support.Run) -> None:
    announced, done = checked.run.of(host), applied.of(host)
    assert surplus(announced, done) == ([], []), "announced and not done, done and not announced"
    assert announced == done, "the same actions, but in another order"
    assert len(done) > 20


@pytest.mark.parametrize("host", HOSTS)
def test_apply_does_what_plan_announced(host: str, planned: support.Said, applied: support.Run) -> None:
    assert surplus(support.announced(json.loads(planned.out), host), applied.of(host)) == ([], [])


def surplus(left: list[tuple[str, str]], right: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], ...]:
    """What only the left list has, and what only the right one has, however often each has it."""
    counted, other = collections.Counter(left), collections.Counter(right)
    return sorted((counted - other).elements()), sorted((other - counted).elements())


@pytest.mark.parametrize("host", HOSTS)
def test_the_first_apply_has_few_results(host: str, applied: support.Run) -> None:
    assert 0 < applied.stats[host].results <= FIRST_RESULTS[host], applied.tasks()
    seen = [event for event in applied.events if event.get("event") in support.RESULTS]
    assert sum(event["event_data"]["host"] == host for event in seen) == applied.stats[host].results


def test_what_runs_is_what_was_asked_for(cluster: Lab) -> None:
    nodes = support.objects(cluster, "nodes")
    kubelets = {node["metadata"]["name"]: node["status"]["nodeInfo"]["kubeletVersion"] for node in nodes}
    assert kubelets == dict.fromkeys(HOSTS, "v1.37.0")
    runtimes = {node["status"]["nodeInfo"]["containerRuntimeVersion"] for node in nodes}
    assert runtimes == {"containerd://2.3.4"}
    assert "v1.37.0" in support.kubectl(cluster, "version")


@pytest.fixture(scope="module")
def second(cluster: Lab) -> support.Said:
    """The same playbook again, by Ansible's own command."""
    return support.command("ansible-playbook", "-v", "-i", str(cluster.inventory), "slipway.cluster.apply")


def test_a_second_apply_changes_nothing(second: support.Said) -> None:
    numbers = support.recap(second.require().out)
    assert {host: stats.changed for host, stats in numbers.items()} == dict.fromkeys(HOSTS, 0), second.out
    assert all(0 < stats.results <= SETTLED_RESULTS for stats in numbers.values()), numbers


def test_the_command_runs_the_same_playbook(cluster: Lab, second: support.Said) -> None:
    said = support.slipway("apply", "-i", str(cluster.inventory), "-v").require()
    assert support.recap(said.out) == support.recap(second.out)
    assert headings(said.out) == headings(second.out)


def headings(text: str) -> list[str]:
    """The plays and tasks that Ansible named, in order."""
    return [line.rstrip(" *") for line in text.splitlines() if line.startswith(("PLAY [", "TASK ["))]


def test_plan_finds_nothing_to_do(cluster: Lab) -> None:
    said = support.slipway("plan", "-i", str(cluster.inventory)).require()
    lines = [line for line in said.out.splitlines() if line.startswith(HOSTS)]
    assert [line.split(maxsplit=1)[1] for line in lines if "nothing to do" in line] == ["= nothing to do"] * 3, said.out


def test_plan_as_json_is_empty(cluster: Lab) -> None:
    said = support.slipway("plan", "--json", "-i", str(cluster.inventory)).require()
    report = json.loads(said.out)
    assert report["pending"] is False
    assert report["hosts"] == {host: [] for host in HOSTS}
    assert [warning for warning in report["warnings"] if "cannot be reached" in warning["found"]] == []
    assert report["problems"] == report["unreachable"] == []


def everything(lab: Lab) -> list[str]:
    """Every object that verify could leave behind, and all namespaces and nodes."""
    kinds = (
        "namespaces,nodes,pods,services,deployments,daemonsets,jobs,configmaps,secrets,serviceaccounts,endpointslices"
    )
    listing = support.kubectl(lab, "get", kinds, "-A", "-o", "name")
    roles = support.kubectl(lab, "get", "clusterroles,clusterrolebindings,roles,rolebindings", "-A", "-o", "name")
    return sorted([*listing.split(), *roles.split()])


def test_verify_finds_all_well_and_leaves_nothing_behind(cluster: Lab) -> None:
    trees = ("/etc", "/usr/local", "/opt", "/root")
    before, hosts_before = everything(cluster), support.fingerprints(cluster, *trees)
    said = support.slipway("verify", "--json", "-i", str(cluster.inventory)).require()
    report = json.loads(said.out)
    assert report["problems"] == []
    assert len(report["checks"]) > 10, report
    assert [check for check in report["checks"] if check.get("ok") is not True] == []
    assert everything(cluster) == before
    left = support.difference(hosts_before, support.fingerprints(cluster, *trees))
    assert [line for line in left if any(f": {tree}/" in line for tree in trees)] == []
