# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the keeper: real keys and files; an API server that keeps requests and one Lease in memory."""

from __future__ import annotations

import base64
import dataclasses
import fcntl
import json
import os
import pathlib
import subprocess
import time
import typing as t

import pytest

from ansible_collections.slipway.cluster.plugins.module_utils.core.pki import (
    Authority,
    Certificate,
    Copy,
    PkiWant,
    plan_pki,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host import pki
from ansible_collections.slipway.cluster.plugins.module_utils.host.keeper import Paths, main, run_keeper
from ansible_collections.slipway.cluster.plugins.module_utils.host.machine import Machine, Output

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files are given to root")

SIGNER = "kubernetes.io/kubelet-serving"


class Cluster(Machine):
    """Answers kubectl and systemctl; everything else is done for real."""

    def __init__(self) -> None:
        self.up = True
        self.requests: list[dict[str, t.Any]] = []
        self.approved: list[str] = []
        self.lease: dict[str, t.Any] | None = None
        self.restarted: list[str] = []
        self.race = False
        self.unready = 0

    def run(self, argv: t.Sequence[str], **options: t.Any) -> Output:
        if argv[0].endswith("/kubectl"):
            return self.kubectl(list(argv[2:]), options.get("stdin"))
        if argv[0] == "systemctl":
            self.restarted += [argv[2]] if argv[1] == "restart" else []
            return Output(0, "", "")
        return super().run(argv, **options)

    def kubectl(self, argv: list[str], stdin: str | None) -> Output:
        if not self.up:
            return Output(
                1, "", "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host"
            )
        if argv[:2] == ["get", "csr"]:
            return Output(0, json.dumps({"items": self.requests}), "")
        if argv[:2] == ["get", "--raw"]:
            self.unready -= 1
            return Output(int(self.unready >= 0), "", "readyz check failed")
        if argv[:2] == ["certificate", "approve"]:
            self.approved += argv[2:]
            return Output(0, "", "")
        if argv[:2] == ["get", "lease"]:
            return Output(0, json.dumps(self.lease) if self.lease else "", "")
        return self.write_lease(argv[0], json.loads(stdin or ""))

    def wait(self, what: str, predicate: t.Callable[[], str | None], **options: t.Any) -> None:
        super().wait(what, predicate, **{**options, "interval": 0.01, "timeout": 0.2})

    def write_lease(self, verb: str, body: dict[str, t.Any]) -> Output:
        current = self.lease["metadata"]["resourceVersion"] if self.lease else ""
        if self.race or (verb == "create") == bool(current) or body["metadata"].get("resourceVersion", "") != current:
            return Output(1, "", "Error from server (Conflict)")
        body["metadata"]["resourceVersion"] = str(int(current or 0) + 1)
        self.lease = body
        return Output(0, "", "")


@dataclasses.dataclass
class Host:
    root: pathlib.Path
    paths: Paths
    cluster: Cluster

    def run(self, verb: str = "run") -> int:
        return run_keeper(verb, self.cluster, self.paths)

    @property
    def state(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", json.loads(pathlib.Path(self.paths.state).read_text()))

    def want(self, **fields: t.Any) -> None:
        """Hold what is wanted, then want it with ``fields``."""
        leaf = Certificate("api", f"{self.root}/api.crt", f"{self.root}/api.key", "ca", "api", usages=("server",))
        ca = Authority("ca", f"{self.root}/ca.crt", f"{self.root}/ca.key")
        want = PkiWant((ca,), certificates=(leaf,), copies=(Copy(leaf.certificate, f"{self.root}/copy.crt"),))
        machine = Machine()
        first = dataclasses.replace(want, generate=True)
        for change in plan_pki(first, pki.observe_pki(machine, first), now=int(time.time())):
            pki.apply_pki(machine, first, change)
        pathlib.Path(self.paths.certificates).write_text(json.dumps({**want.to_data(), **fields}))

    def certificate(self) -> bytes:
        return (self.root / "api.crt").read_bytes()


@pytest.fixture
def host(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(pki, "RUN_DIRECTORY", str(tmp_path / "run"))
    paths = Paths(
        **{
            name: str(tmp_path / name)
            for name in ("nodes", "certificates", "state", "metrics", "kubectl", "kubeconfig")
        },
        node_name=str(tmp_path / "node-name"),
        lock=str(tmp_path / "run" / "lock"),
    )
    for name, text in (("nodes", '{"w1": ["10.0.0.21"]}'), ("kubectl", ""), ("kubeconfig", ""), ("node-name", "cp1\n")):
        (tmp_path / name).write_text(text)
    return Host(tmp_path, paths, Cluster())


def csr(name: str, node: str = "w1", address: str = "10.0.0.21") -> dict[str, t.Any]:
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "/dev/null"]
    subject = ["-subj", f"/O=system:nodes/CN=system:node:{node}", "-addext", f"subjectAltName=IP:{address}"]
    pem = subprocess.run(["openssl", "req", "-new", *key, *subject], capture_output=True, check=True).stdout
    spec = {
        "signerName": SIGNER,
        "username": f"system:node:{node}",
        "groups": ["system:nodes"],
        "usages": ["digital signature", "server auth"],
        "request": base64.b64encode(pem).decode(),
    }
    return {"metadata": {"name": name}, "spec": spec, "status": {}}


def test_good_requests_are_approved_and_others_are_named_once(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    settled = {**csr("csr-old"), "status": {"conditions": [{"type": "Approved"}]}}
    host.cluster.requests = [csr("csr-1"), csr("csr-2", address="10.0.0.99"), settled, csr("csr-3")]
    assert host.run() == 0
    assert host.cluster.approved == ["csr-1", "csr-3"]
    assert host.state["refused"] == {"csr-2": "10.0.0.99 is not on the list of this node"}
    assert "csr-2 stays pending: 10.0.0.99" in capsys.readouterr().out
    assert host.run() == 0
    assert "csr-2" not in capsys.readouterr().out
    host.cluster.requests = []
    host.run()
    assert host.state["refused"] == {}


def test_approve_alone_touches_nothing_else(host: Host) -> None:
    host.want(renew_fraction=1.0)
    host.cluster.requests = [csr("csr-1")]
    before = host.certificate()
    assert host.run("approve") == 0
    assert host.cluster.approved == ["csr-1"]
    assert host.certificate() == before
    assert not pathlib.Path(host.paths.state).exists()


def test_without_an_api_server_renewal_goes_on(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.want(renew_fraction=1.0)
    host.cluster.up = False
    before = host.certificate()
    assert host.run() == 0
    assert "the API server is not there" in capsys.readouterr().out
    assert host.certificate() != before
    assert (host.root / "copy.crt").read_bytes() == host.certificate()
    assert host.state["failure"] == ""
    assert host.state["last_renewal"] == pytest.approx(time.time(), abs=30)


def test_before_anything_is_installed_it_does_nothing_and_says_so(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (host.paths.nodes, host.paths.kubectl):
        pathlib.Path(path).unlink()
    assert host.run() == 0
    said = capsys.readouterr().out
    assert "nothing is renewed" in said
    assert "nothing is approved" in said


def test_a_host_for_etcd_alone_renews_and_says_nothing_of_an_api_server(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.want(renew_fraction=1.0)
    before = host.certificate()
    pathlib.Path(host.paths.nodes).write_text("{}")
    for path in (host.paths.kubectl, host.paths.kubeconfig):
        pathlib.Path(path).unlink()
    assert host.run() == 0
    assert host.certificate() != before
    assert "API server" not in capsys.readouterr().out


def test_what_is_fresh_stays_and_is_measured(host: Host) -> None:
    host.want()
    before = host.certificate()
    assert host.run() == 0
    assert host.certificate() == before
    assert host.state["certificates"]["api"] == pytest.approx(365, abs=0.1)
    assert 'slipway_certificate_days_left{name="api"} 36' in pathlib.Path(host.paths.metrics).read_text()


def test_a_held_lock_puts_renewal_off(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.want(renew_fraction=1.0)
    before = host.certificate()
    lock = pathlib.Path(host.paths.lock)
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w", encoding="utf-8") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert host.run() == 0
    assert "is held" in capsys.readouterr().out
    assert host.certificate() == before
    host.run()
    assert host.certificate() != before


def test_a_failure_is_kept_and_does_not_stop_the_rest(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.want()
    (host.root / "ca.key").write_text("nonsense")
    host.cluster.requests = [csr("csr-1")]
    assert host.run() == 1
    assert host.cluster.approved == ["csr-1"]
    assert "not a readable private key" in host.state["failure"]
    assert "slipway_keeper_failing 1" in pathlib.Path(host.paths.metrics).read_text()
    assert "renewal failed" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["certificates", "nodes"])
def test_a_list_that_is_not_json_is_a_failure_in_words(host: Host, file: str) -> None:
    (host.root / file).write_text("{")
    assert host.run() == 1
    assert "is not JSON" in host.state["failure"]


def test_units_are_restarted_once_under_the_lease(host: Host) -> None:
    host.want(renew_fraction=1.0, restart=["a.service", "b.service"])
    host.run()
    assert host.cluster.restarted == ["a.service", "b.service"]
    assert host.state["restart"] == []
    assert host.cluster.lease is not None
    assert host.cluster.lease["spec"]["holderIdentity"] is None


def test_the_lease_is_kept_until_the_api_server_is_ready(host: Host) -> None:
    host.want(renew_fraction=1.0, restart=["a.service"])
    host.cluster.unready = 3
    assert host.run() == 0
    assert host.cluster.unready == -1
    assert host.cluster.lease is not None
    assert host.cluster.lease["spec"]["holderIdentity"] is None
    host.cluster.unready = 1000
    assert host.run() == 1
    assert host.cluster.lease["spec"]["holderIdentity"] == "cp1"
    assert "/readyz" in host.state["failure"]


def test_a_host_waits_for_its_turn_and_takes_over_from_one_that_has_gone(host: Host) -> None:
    host.want(renew_fraction=1.0, restart=["a.service"])
    held = {"holderIdentity": "cp2", "leaseDurationSeconds": 60, "renewTime": "2999-01-01T00:00:00.000000Z"}
    host.cluster.lease = {"metadata": {"resourceVersion": "5"}, "spec": held}
    host.run()
    assert host.cluster.restarted == []
    assert host.state["restart"] == ["a.service"]
    host.want(restart=["a.service"])
    host.cluster.lease["spec"]["renewTime"] = "2020-01-01T00:00:00.000000Z"
    host.run()
    assert host.cluster.restarted == ["a.service"]
    assert host.state["restart"] == []


def test_a_lost_race_for_the_lease_restarts_nothing(host: Host) -> None:
    host.want(renew_fraction=1.0, restart=["a.service"])
    host.cluster.race = True
    host.run()
    assert host.cluster.restarted == []
    assert host.state["restart"] == ["a.service"]


def test_the_command_line_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["frobnicate"]) == 2
    assert "approve|run" in capsys.readouterr().err
