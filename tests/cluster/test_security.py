# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who can read what, who runs as whom, what strangers are answered, and where keys are not."""

from __future__ import annotations

import base64
import collections.abc
import dataclasses
import http.client
import json
import os
import re
import socket
import ssl
import stat
import tempfile
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from slipway.lab import Lab
from tests.cluster import support

LOOK = Path(__file__).with_name("look_secrets.py")
STARTED = time.time()
OWN_USER = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
# Where each reader's own files lie; everything else is root's.
READERS = {
    "/etc/etcd/": "etcd",
    "/var/lib/etcd/": "etcd",
    "/etc/kubernetes/kube-apiserver/": "kube-apiserver",
    "/etc/kubernetes/kube-controller-manager/": "kube-controller-manager",
    "/etc/kubernetes/kube-scheduler/": "kube-scheduler",
    "/etc/kubernetes/metrics-server/": "65532",  # a pod that no account on the host is for
}
AUTHORITIES = (
    "/etc/kubernetes/pki/ca.key",
    "/etc/kubernetes/pki/front-proxy-ca.key",
    "/etc/kubernetes/pki/etcd/ca.key",
)


# --- files on hosts ---------------------------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class SecretFile:
    """A file with a secret in it, and the secret parts."""

    path: str
    mode: int
    owner: str
    group: str
    secrets: tuple[str, ...]


def secret_files(lab: Lab, host: str) -> list[SecretFile]:
    """Every file on a host with a secret in it."""
    answer = support.on(lab, host, "python3", "-", stdin=LOOK.read_text(encoding="utf-8"), timeout=240)
    return [
        SecretFile(path, int(entry["mode"], 8), entry["owner"], entry["group"], tuple(entry["secrets"]))
        for path, entry in sorted(json.loads(answer).items())
    ]


@pytest.fixture(scope="module")
def held(cluster: Lab) -> dict[str, list[SecretFile]]:
    """The secret files of every host."""
    return support.everywhere(cluster, lambda host: secret_files(cluster, host))


def test_the_search_finds_the_secrets_there_are(held: dict[str, list[SecretFile]]) -> None:
    paths = {file.path for file in held["cp1"]}
    expected = {
        *AUTHORITIES,
        "/etc/kubernetes/pki/sa.key",
        "/etc/kubernetes/pki/encryption.yaml",
        "/etc/kubernetes/kube-apiserver/encryption.yaml",
        "/etc/kubernetes/kube-controller-manager/ca.key",
        "/etc/etcd/pki/server.key",
        "/etc/ssh/ssh_host_ed25519_key",
    }
    assert expected - paths == set()
    for host in ("w1", "w2"):
        kubelet = [file.path for file in held[host] if file.path.startswith("/var/lib/kubelet/pki/")]
        assert any("kubelet-client" in path for path in kubelet)
        assert any("kubelet-server" in path for path in kubelet)


def test_every_secret_file_has_one_reader(held: dict[str, list[SecretFile]]) -> None:
    wrong = [
        f"{host}: {file.path}: {file.mode:04o} {file.owner}:{file.group}, expected 0600 {reader(file.path)}"
        for host, files in held.items()
        for file in files
        if file.mode & 0o177 or file.owner != reader(file.path)
    ]
    assert wrong == []


def reader(path: str) -> str:
    """Who alone reads a secret file."""
    return next((user for directory, user in READERS.items() if path.startswith(directory)), "root")


def test_workers_hold_no_authority(held: dict[str, list[SecretFile]]) -> None:
    keys = {part for file in held["cp1"] if file.path in AUTHORITIES for part in file.secrets}
    assert len(keys) == 3
    for host in ("w1", "w2"):
        assert [file.path for file in held[host] if keys & set(file.secrets)] == []


def test_joining_tokens_are_on_no_disk(held: dict[str, list[SecretFile]]) -> None:
    token = re.compile(r"[a-z0-9]{6}\.[a-z0-9]{16}")
    files = [(host, file) for host, found in held.items() for file in found if any(map(token.fullmatch, file.secrets))]
    assert [f"{host}: {file.path}" for host, file in files if not file.path.startswith("/run/")] == []


# --- processes --------------------------------------------------------------------------------------------------------
def main_pid(lab: Lab, host: str, unit: str) -> str:
    pid = support.on(lab, host, "systemctl", "show", "--value", "-p", "MainPID", unit).strip()
    assert pid != "0", f"{unit} does not run on {host}"
    return pid


@pytest.mark.parametrize("component", OWN_USER)
def test_runs_as_its_own_user_without_any_right(component: str, cluster: Lab) -> None:
    pid = main_pid(cluster, "cp1", f"{component}.service")
    lines = support.on(cluster, "cp1", "cat", f"/proc/{pid}/status").splitlines()
    status = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    own = [support.on(cluster, "cp1", "id", option, component).strip() for option in ("-u", "-g")]
    assert status["Uid"] == [own[0]] * 4
    assert status["Gid"] == [own[1]] * 4
    assert set(status["Groups"]) <= {own[1]}
    assert int(own[0]) > 0
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[capabilities][0], 16) == 0, capabilities
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"]


@pytest.mark.parametrize("component", OWN_USER)
def test_systemd_fences_it_in(component: str, cluster: Lab) -> None:
    shown = support.on(cluster, "cp1", "systemctl", "show", "--all", f"{component}.service")
    properties = dict(line.partition("=")[::2] for line in shown.splitlines())
    expected = {
        "User": component,
        "NoNewPrivileges": "yes",
        "CapabilityBoundingSet": "",
        "AmbientCapabilities": "",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "ProtectKernelTunables": "yes",
        "ProtectKernelModules": "yes",
        "ProtectControlGroups": "yes",
        "RestrictSUIDSGID": "yes",
        "LockPersonality": "yes",
        "UMask": "0077",
    }
    assert {name: properties.get(name) for name in expected} == expected


@pytest.mark.parametrize("component", OWN_USER)
def test_the_fence_holds(component: str, cluster: Lab) -> None:
    pid = main_pid(cluster, "cp1", f"{component}.service")
    inside = ("nsenter", f"--mount=/proc/{pid}/ns/mnt", "--")
    for path in ("/etc/kubernetes/test", "/usr/test", "/opt/slipway/test", "/root/test"):
        refused = support.ask(cluster, "cp1", *inside, "touch", path)
        assert refused.returncode != 0
        assert "Read-only file system" in refused.stderr or "No such file" in refused.stderr, refused.stderr
    assert support.on(cluster, "cp1", *inside, "ls", "/root") == ""


def test_no_component_can_read_another_ones_keys(cluster: Lab, held: dict[str, list[SecretFile]]) -> None:
    for user in OWN_USER:
        others = [file.path for file in held["cp1"] if file.owner != user]
        script = 'for path; do [ -r "$path" ] && echo "$path"; done; true'
        command = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "sh", "-c", script, "sh", *others)
        assert support.on(cluster, "cp1", *command) == "", f"{user} can read these"


# --- strangers --------------------------------------------------------------------------------------------------------
def anonymous(address: str, port: int, path: str, method: str = "GET") -> int:
    """The status a stranger gets over HTTPS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPSConnection(address, port, timeout=30, context=context)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_strangers_may_ask_whether_the_api_server_is_well(path: str, cluster: Lab) -> None:
    assert anonymous(cluster.host("cp1").address, 6443, path) == 200


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/healthz",
        "/livez/etcd",
        "/readyz/etcd",
        "/version",
        "/api",
        "/api/v1",
        "/apis",
        "/api/v1/nodes",
        "/api/v1/namespaces/kube-system/secrets",
        "/api/v1/namespaces/kube-public/configmaps",
        "/api/v1/namespaces/kube-public/configmaps/cluster-info",
        "/metrics",
        "/metrics/slis",
        "/openapi/v2",
        "/openapi/v3",
        "/openid/v1/jwks",
        "/.well-known/openid-configuration",
        "/debug/pprof/",
        "/logs/",
        "/flagz",
        "/statusz",
    ],
)
def test_strangers_may_ask_nothing_else(path: str, cluster: Lab) -> None:
    assert anonymous(cluster.host("cp1").address, 6443, path) in (401, 403)


def test_strangers_may_not_write(cluster: Lab) -> None:
    address = cluster.host("cp1").address
    for path in ("/api/v1/namespaces", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "/livez"):
        assert anonymous(address, 6443, path, "POST") in (401, 403, 405), path


@pytest.mark.parametrize("host", ["cp1", "w1"])
@pytest.mark.parametrize("path", ["/pods", "/metrics", "/healthz", "/configz", "/logs/", "/run/default/x/y"])
def test_a_kubelet_answers_no_stranger(path: str, host: str, cluster: Lab) -> None:
    assert anonymous(cluster.host(host).address, 10250, path) == 401


@pytest.mark.parametrize("port", [2379, 2380])
def test_etcd_answers_nobody_without_a_certificate(port: int, cluster: Lab) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)):
        anonymous(cluster.host("cp1").address, port, "/version")


# SSH, the kubelet; kube-proxy's health for load balancers says nothing but whether it is well.
NODE_PORTS = {22, 10250, 10256}
PORTS = {"cp1": NODE_PORTS | {6443, 2379, 2380}, "w1": NODE_PORTS, "w2": NODE_PORTS}


@pytest.mark.parametrize("host", PORTS)
def test_nothing_else_listens_to_the_network(host: str, cluster: Lab) -> None:
    lines = support.on(cluster, host, "ss", "-tlnH").splitlines()
    listening = [line.split()[3].rpartition(":")[::2] for line in lines]
    outside = {int(port) for address, port in listening if not address.startswith(("127.", "[::1]"))}
    # For some minutes after a first apply one host may still give artefacts to those who were told its token.
    seeding = support.ask(cluster, host, "systemctl", "is-active", "slipway-seed.service").returncode == 0
    assert outside == PORTS[host] | ({6445} if seeding else set())
    for port in (10255, 10249, 10257, 10259, 6444):
        with socket.socket() as probe:
            probe.settimeout(5)
            assert probe.connect_ex((cluster.host(host).address, port)) != 0, port


# --- secrets in etcd --------------------------------------------------------------------------------------------------
def stored(lab: Lab, key: str) -> bytes:
    """What etcd holds under a key."""
    value = json.loads(support.etcdctl(lab, "get", f"/registry/{key}", "-w", "json"))["kvs"][0]["value"]
    return base64.b64decode(value)


@pytest.fixture
def planted(cluster: Lab) -> collections.abc.Iterator[bytes]:
    """A text in a Secret and in a ConfigMap of the same name."""
    text = "plain-to-see-4711"
    try:
        for kind in (("secret", "generic"), ("configmap",)):
            support.kubectl(cluster, "create", *kind, "planted", "-n", "default", f"--from-literal=text={text}")
        yield text.encode()
    finally:
        support.kubectl(cluster, "delete", "secret/planted", "configmap/planted", "-n", "default", "--ignore-not-found")


def test_a_secret_is_encrypted_in_etcd(cluster: Lab, planted: bytes) -> None:
    assert planted in stored(cluster, "configmaps/default/planted"), "the search must be able to find it"
    secret = stored(cluster, "secrets/default/planted")
    assert secret.startswith(b"k8s:enc:secretbox:v1:")
    assert planted not in secret
    assert base64.b64encode(planted) not in secret
    read = support.kubectl(cluster, "get", "secret", "planted", "-n", "default", "-o", "jsonpath={.data.text}")
    assert base64.b64decode(read) == planted


def test_every_secret_is_encrypted_in_etcd(cluster: Lab, planted: bytes) -> None:
    found = json.loads(support.etcdctl(cluster, "get", "/registry/secrets/", "--prefix", "-w", "json"))["kvs"]
    assert len(found) >= 1
    plain = [base64.b64decode(entry["key"]) for entry in found if not _encrypted(entry["value"])]
    assert plain == []


def _encrypted(value: str) -> bool:
    return base64.b64decode(value).startswith(b"k8s:enc:secretbox:v1:")


# --- keys are not on the controller -----------------------------------------------------------------------------------
@dataclasses.dataclass(frozen=True)
class Mended:
    """A run that made every module act again: all it said, and the module arguments that reached the hosts."""

    output: str
    arguments: dict[str, str]


def private_part(secret: str) -> str:
    """The characters of a secret that no other text has: of a key in base64 those of its private number alone.

    The rest of a private key is not secret: its kind, and the public key, which every certificate shows.
    """
    if len(secret) < 60:
        return secret
    packed = base64.b64decode(secret)
    key = serialization.load_der_private_key(packed, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    size = (key.key_size + 7) // 8
    start = packed.index(key.private_numbers().private_value.to_bytes(size, "big"))
    return secret[-(-start // 3) * 4 : (start + size) // 3 * 4]


@pytest.fixture(scope="module")
def needles(held: dict[str, list[SecretFile]]) -> dict[str, str]:
    """The private part of every secret of the cluster, by itself and in base64 once more; where each was found."""
    found = {}
    for host, files in held.items():
        for file in files:
            if file.path.startswith(("/etc/kubernetes/", "/etc/etcd/", "/etc/slipway/")):
                for part in map(private_part, file.secrets):
                    assert len(part) >= 32
                    found[part] = f"{host}: {file.path}"
                    # The same inside base64 of the whole file, at any of the three alignments.
                    for shift in range(3):
                        again = base64.b64encode((" " * shift + part).encode()).decode()[4:-4]
                        found[again] = f"{host}: {file.path} in base64"
    assert {path for path in AUTHORITIES if f"cp1: {path}" in found.values()} == set(AUTHORITIES)
    return found


@pytest.fixture(scope="module")
def mended(cluster: Lab, needles: dict[str, str]) -> Mended:
    """Damage every host, and mend it while Ansible keeps the module files, with their arguments, on the hosts."""
    damage = {
        "cp1": "rm /etc/sysctl.d/90-slipway.conf /etc/kubernetes/kube-controller-manager/ca.key"
        " /etc/kubernetes/pki/etcd/root-client.crt /etc/kubernetes/pki/etcd/root-client.key",
        "w1": "rm /etc/sysctl.d/90-slipway.conf",
        "w2": "chmod 0644 /etc/kubernetes/kubelet.yaml && echo '# edited' >> /etc/kubernetes/kubelet.yaml",
    }
    for host, script in damage.items():
        support.shell(cluster, host, script)
    options = ("-vvvv", "-e", "ansible_pipelining=false", "-i", str(cluster.inventory))
    said = support.slipway("apply", *options, env={"ANSIBLE_KEEP_REMOTE_FILES": "1"}).require()
    kept = "cd /root/.ansible/tmp && cat */AnsiballZ_*.py && rm -rf /root/.ansible/tmp"
    arguments = support.everywhere(cluster, lambda host: support.shell(cluster, host, kept))
    return Mended(said.out + said.err, arguments)


def test_what_was_damaged_is_mended(cluster: Lab, mended: Mended, held: dict[str, list[SecretFile]]) -> None:
    before = {file.path: file for file in held["cp1"]}
    after = {file.path: file for file in secret_files(cluster, "cp1")}
    copy = "/etc/kubernetes/kube-controller-manager/ca.key"
    assert after[copy] == before[copy]
    new = "/etc/kubernetes/pki/etcd/root-client.key"
    assert (after[new].mode, after[new].owner) == (before[new].mode, before[new].owner)
    assert after[new].secrets != before[new].secrets
    assert all(after[path] == before[path] for path in AUTHORITIES)
    shown = support.on(cluster, "w2", "stat", "-c", "%a %U", "/etc/kubernetes/kubelet.yaml").strip()
    assert "edited" not in support.on(cluster, "w2", "cat", "/etc/kubernetes/kubelet.yaml")
    assert shown.endswith("root")
    support.slipway("plan", "-i", str(cluster.inventory)).require()


def test_no_key_is_in_any_modules_argument(mended: Mended, needles: dict[str, str]) -> None:
    for host, text in mended.arguments.items():
        assert "slipway.cluster.probe" in text or "AnsiballZ" in text, "the search must have something to look at"
        assert found_in(text, needles) == [], host
    assert "kube-controller-manager/ca.key" in mended.arguments["cp1"], "the paths of keys are arguments"


def test_no_key_is_in_what_a_run_says_or_returns(applied: support.Run, mended: Mended, needles: dict[str, str]) -> None:
    events = json.dumps(applied.events, default=str)
    assert "kube-controller-manager/ca.key" in events, "the search must have something to look at"
    assert found_in(events, needles) == []
    assert "kube-controller-manager/ca.key" in mended.output
    assert found_in(mended.output, needles) == []
    assert "PRIVATE KEY-----" not in events + mended.output


def found_in(text: str, needles: dict[str, str]) -> list[str]:
    """Where the secrets that are in the text were found."""
    return sorted({where for needle, where in needles.items() if needle in text})


def new_files() -> collections.abc.Iterator[Path]:
    """Every file that a run may have written on this machine since this session began."""
    places = [support.ROOT, Path.home() / ".ansible", Path(os.environ.get("ANSIBLE_HOME", "/nonexistent"))]
    places += [Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/dev/shm")]
    for place in dict.fromkeys(places):
        for directory, folders, names in os.walk(place):
            folders[:] = [name for name in folders if name not in {".git", ".venv", ".bundle"}]
            yield from (path for name in names if is_new(path := Path(directory) / name))


def is_new(path: Path) -> bool:
    """Whether a plain file was written since this session began."""
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and status.st_mtime >= STARTED and status.st_size < 1 << 28


def test_no_key_is_in_any_file_of_the_controller(
    cluster: Lab, mended: Mended, needles: dict[str, str], tmp_path: Path
) -> None:
    own = tmp_path / "planted"
    own.write_text(next(needle for needle, where in needles.items() if where.endswith(AUTHORITIES)), encoding="utf-8")
    support.slipway("kubeconfig", "-i", str(cluster.inventory), "--output", str(cluster.kubeconfig)).require()
    packed = [needle.encode() for needle in needles]
    found, looked = [], 0
    for path in new_files():
        try:
            content = path.read_bytes()
        except OSError:
            continue
        looked += 1
        if any(needle in content for needle in packed):
            found.append(path)
    assert found == [own], "only what this test planted itself, to see that the search finds it"
    assert looked > 5
