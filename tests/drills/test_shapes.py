# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other shapes: one control-plane host becomes three and five, etcd on its own hosts, two clusters in one inventory."""

from __future__ import annotations

import json
import ssl
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

import yaml

from slipway import lab as labs
from slipway.lab import Lab
from tests.cluster import scraping, support

STARTED = ("systemctl", "show", "--property=ActiveEnterTimestampMonotonic,MainPID", "kubelet.service")


def grown(lab: Lab, inventory: Path, *control_plane: str) -> None:
    """Apply with these control-plane hosts: each has a member, the second run changes nothing, nothing is left."""
    hosts = {*control_plane, "w1"}
    support.inventory_of(lab, hosts, inventory)
    first = support.ansible_run(inventory, "apply").require()
    print(f"{len(control_plane)} control-plane hosts: {first.seconds:.0f} s", flush=True)
    assert support.members(lab) == dict.fromkeys(control_plane, False)
    unchanged(inventory)
    support.wait_for("nodes and pods are ready", lambda: support.settled(lab, hosts), timeout=240)


def unchanged(inventory: Path, **extra_vars: t.Any) -> None:
    """The second run changes nothing and has at most six results per host."""
    second = support.ansible_run(inventory, "apply", extra_vars=extra_vars).require()
    assert {host: stats.changed for host, stats in second.stats.items()} == dict.fromkeys(second.stats, 0)
    assert max(stats.results for stats in second.stats.values()) <= 6
    print(f"second run: {second.seconds:.0f} s", flush=True)


def test_one_becomes_three_and_five_and_no_kubelet_is_restarted(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yml"
    with support.lab_of(support.lab_name("sh"), control_plane=5, workers=1) as lab:
        grown(lab, inventory, "cp1")
        started = support.everywhere(lab, lambda host: support.on(lab, host, *STARTED), ["cp1", "w1"])
        grown(lab, inventory, "cp1", "cp2", "cp3")
        grown(lab, inventory, "cp1", "cp2", "cp3", "cp4", "cp5")
        assert support.everywhere(lab, lambda host: support.on(lab, host, *STARTED), ["cp1", "w1"]) == started
        support.slipway("verify", "-i", str(inventory)).require()


def test_etcd_runs_on_hosts_of_its_own(tmp_path: Path) -> None:
    etcd = ("etcd1", "etcd2", "etcd3")
    with support.lab_of(support.lab_name("sh"), etcd=3, workers=1) as lab:
        support.ansible_run(lab.inventory, "apply").require()
        assert support.members(lab, "etcd1") == dict.fromkeys(etcd, False)
        assert {node["metadata"]["name"] for node in support.objects(lab, "nodes")} == {"cp1", "w1"}
        unchanged(lab.inventory)
        for host in (*etcd, "w1"):
            assert not support.pending("-i", str(lab.inventory), "--limit", host)
        labs.power(lab, ["etcd2"], "off", cut=True)
        support.wait_for("two of three take a write", lambda: unwritten(lab), timeout=30)
        labs.renew(lab, ["etcd2"])
        support.ansible_run(lab.inventory, "apply").require()
        assert support.members(lab, "etcd1") == dict.fromkeys(etcd, False)
        lost_and_found(lab, "etcd3")
        assert support.members(lab, "etcd1") == dict.fromkeys(etcd, False)
        support.slipway("verify", "-i", str(lab.inventory)).require()


def test_etcd_on_a_host_of_its_own_is_scraped_by_the_documented_credentials() -> None:
    with support.lab_of(support.lab_name("sh"), etcd=1, workers=0) as lab:
        scraped_and_closed_again(lab, ["etcd1"])
        renewed_by_its_keeper(lab, "etcd1")


def renewed_by_its_keeper(lab: Lab, host: str) -> None:
    """A host for etcd alone makes a new certificate when the old one is near its end, and etcd shows it by itself."""
    shown = (
        f"openssl s_client -connect {lab.host(host).address}:2379 </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )
    config = "/etc/slipway/certificates.json"
    old, kept = support.on(lab, host, "sh", "-c", shown), support.on(lab, host, "cat", config)
    assert old.startswith("serial="), old
    process = support.on(lab, host, "pidof", "etcd")
    support.on(lab, host, "sh", "-c", f'sed -i \'s/"renew_fraction": [0-9.]*/"renew_fraction": 1.0/\' {config}')
    support.wait_for(
        "another certificate",
        lambda: None if support.on(lab, host, "sh", "-c", shown) not in ("", old) else "the old one",
        timeout=120,
    )
    assert support.on(lab, host, "pidof", "etcd") == process
    assert support.pending("-i", str(lab.inventory)) != [], "the list was tampered with"
    support.on(lab, host, "sh", "-c", f"cat > {config} <<'END'\n{kept}\nEND")
    support.ansible_run(lab.inventory, "apply").require()
    assert support.pending("-i", str(lab.inventory)) == []
    print(f"{host}: renewed by its keeper", flush=True)


def scraped_and_closed_again(lab: Lab, hosts: t.Sequence[str]) -> None:
    """With the token and the CA of docs/monitoring.md, and not without; switched off, nothing is left of the gate."""
    wanted = {"slipway_metrics": {"endpoints": True}}
    support.ansible_run(lab.inventory, "apply", extra_vars=wanted).require()
    again = support.ansible_run(lab.inventory, "apply", extra_vars=wanted).require()
    assert {name: stats.changed for name, stats in again.stats.items()} == dict.fromkeys(again.stats, 0), again.actions
    files = scraping.run_commands(lab)
    context = ssl.create_default_context(cadata=files["ca.crt"])
    for host in hosts:
        url = f"https://{lab.host(host).address}:6446/metrics/etcd"
        for token, status in ((files["token"], 200), ("stranger", 401)):
            request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
            said, text = asked(request, context)
            assert said == status, (host, text)
            assert ("etcd_server_has_leader 1" in text) == (status == 200)
        print(f"{host}: scraped", flush=True)
    support.ansible_run(lab.inventory, "apply").require()
    for host in hosts:
        assert support.ask(lab, host, "ls", "/etc/slipway-metrics").returncode != 0
        assert support.ask(lab, host, "systemctl", "is-active", "slipway-metrics").returncode != 0


def asked(request: urllib.request.Request, context: ssl.SSLContext) -> tuple[int, str]:
    """Status and text of the answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(request, timeout=30) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def unwritten(lab: Lab) -> str | None:
    """None once a write is taken: one that was under way when the leader lost its power may time out."""
    said = support.ask(lab, "cp1", *support.KUBECTL, "create", "configmap", "written-by-two-of-three")
    return None if said.returncode == 0 or "already exists" in said.stderr else said.stderr


def lost_and_found(lab: Lab, host: str) -> None:
    """Somebody takes a member that is well out of etcd: the plan says it, and apply brings it back."""
    listed = json.loads(support.etcdctl(lab, "member", "list", "-w=json", host="etcd1"))["members"]
    (lost,) = [member["ID"] for member in listed if member["name"] == host]
    support.etcdctl(lab, "member", "remove", f"{lost:x}", host="etcd1")
    told = json.loads(support.slipway("plan", "--json", "-i", str(lab.inventory)).require(2).out)
    announced = [text for _module, text in support.announced(told, host)]
    assert "remove the data of a member that the cluster has removed" in announced
    assert "add the member as a learner" in announced
    assert [name for name in support.names(lab, "slipway_etcd") if name != host and told["hosts"][name]] == []
    support.ansible_run(lab.inventory, "apply").require()
    assert not support.pending("-i", str(lab.inventory))
    print(f"{host}: missing in etcd, and a member again", flush=True)


def test_two_clusters_in_one_inventory(tmp_path: Path) -> None:
    """Each has its own name and its parent group; what is in order is left alone, whichever is asked for."""
    inventory = tmp_path / "inventory.yml"
    with support.lab_of(support.lab_name("sh"), control_plane=2, workers=2) as lab:
        both = yaml.safe_load(lab.inventory.read_text(encoding="utf-8"))
        del both["all"]["vars"]["slipway_cluster_name"]
        for number, name in enumerate(("prod", "test"), 1):
            hosts: dict[str, dict[str, t.Any]] = {f"cp{number}": {}, f"w{number}": {}}
            both[name] = {"hosts": hosts, "vars": {"slipway_cluster_name": name}}
        inventory.write_text(yaml.safe_dump(both, sort_keys=False), encoding="utf-8")
        refused = support.ansible_run(inventory, "apply")
        assert refused.code != 0
        assert "slipway_cluster_name" in refused.problem_text()
        for name in ("prod", "test"):
            run = support.ansible_run(inventory, "apply", extra_vars={"slipway_target": name}).require()
            assert set(run.stats) == set(both[name]["hosts"])
        for name in ("prod", "test"):
            unchanged(inventory, slipway_target=name)
            assert not support.pending("-i", str(inventory), "-e", f"slipway_target={name}")
        for control_plane, worker in (("cp1", "w1"), ("cp2", "w2")):
            nodes = support.objects(lab, "nodes", host=control_plane)
            assert {node["metadata"]["name"] for node in nodes} == {control_plane, worker}
            assert support.members(lab, control_plane) == {control_plane: False}
