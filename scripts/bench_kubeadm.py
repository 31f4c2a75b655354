# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's peer: kubeadm on hosts of a lab, with the programs of the same bundle, as its documentation says.

The steps are those of https://kubernetes.io/docs/setup/production-environment/tools/kubeadm/: install a runtime and the
kubelet, init, a pod network, join control planes one after the other, join workers. Images are imported, not pulled.
Where the documentation leaves a choice it is the one that Slipway makes: containerd, kube-proxy with nftables, flannel,
and the settings of the lab's inventory.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import hashlib
import json
import secrets
import subprocess
import tarfile
import tempfile
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from slipway import lab as labs
from slipway.bundle.archive import Image, write_image
from slipway.lab import Lab
from slipway.lab.control import ssh_command
from slipway.lab.files import lab_vars

REGISTRY = "registry.k8s.io"
POD_CIDR = "10.244.0.0/16"
SERVICE_CIDR = "10.96.0.0/12"
ENDPOINT = "cluster-endpoint"
KUBECTL = ("/usr/bin/kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
DIRECTORY = "/root/bench"
SOCKET = "unix:///run/containerd/containerd.sock"
STATIC_PODS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
EVERYWHERE = ("containerd", "runc", "cni-plugins", "crictl", "kubelet", "kubectl", "kubeadm", "flannel")

PREPARE = f"""
cd {DIRECTORY}
mkdir -p /opt/cni/bin /etc/cni/net.d
for archive in containerd runc flannel crictl; do tar -xzf $archive-*.tar.gz -C /usr/local/bin; done
tar -xzf cni-plugins-*.tar.gz -C /opt/cni/bin
for archive in kubelet kubectl kubeadm; do tar -xzf $archive-*.tar.gz -C /usr/bin; done
cp -r root/. /
sysctl -q -p /etc/sysctl.d/k8s.conf
systemctl daemon-reload
systemctl -q enable --now containerd kubelet flanneld
for image in *.tar; do ctr -n k8s.io images import --local $image >/dev/null; done
"""

CONTAINERD_UNIT = """[Unit]
Description=containerd
After=network.target local-fs.target
[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=5
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
[Install]
WantedBy=multi-user.target
"""

# The unit of Kubernetes' packages with kubeadm's drop-in.
KUBELET_UNIT = """[Unit]
Description=kubelet
Wants=network-online.target
After=network-online.target
[Service]
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=/usr/bin/kubelet --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \\
  --kubeconfig=/etc/kubernetes/kubelet.conf --config=/var/lib/kubelet/config.yaml $KUBELET_KUBEADM_ARGS
Restart=always
StartLimitInterval=0
RestartSec=10
[Install]
WantedBy=multi-user.target
"""

# Waits for the kubelet's certificate, which it uses, by starting again.
FLANNEL_UNIT = """[Unit]
Description=flannel
[Service]
EnvironmentFile=/etc/flannel/environment
ExecStart=/usr/local/bin/flanneld --kube-subnet-mgr --kubeconfig-file=/etc/kubernetes/kubelet.conf \\
  --net-config-path=/etc/flannel/net-conf.json --iface=${ADDRESS} --ip-masq
Restart=always
StartLimitInterval=0
RestartSec=1
[Install]
WantedBy=multi-user.target
"""

FLANNEL_RIGHTS = """
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: flannel}
rules:
  - {apiGroups: [""], resources: [pods], verbs: [get]}
  - {apiGroups: [""], resources: [nodes], verbs: [get, list, watch]}
  - {apiGroups: [""], resources: [nodes/status], verbs: [patch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: flannel}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: flannel}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "system:nodes"}]
"""


class Clock:
    """Seconds by phase, in the order they were done."""

    def __init__(self) -> None:
        self.phases: dict[str, float] = {}

    @contextlib.contextmanager
    def phase(self, name: str) -> collections.abc.Iterator[None]:
        """Book what is done inside to one phase."""
        started = time.monotonic()
        yield
        self.phases[name] = self.phases.get(name, 0) + time.monotonic() - started


# --- what is at hand before the clock starts --------------------------------------------------------------------------
def bundle_of(directory: Path) -> dict[str, t.Any]:
    """The lock of a bundle."""
    return t.cast("dict[str, t.Any]", json.loads((directory / "bundle.json").read_text(encoding="utf-8")))


def entry(bundle: t.Mapping[str, t.Any], name: str) -> dict[str, t.Any]:
    """One artefact of a bundle."""
    return next(dict(artifact) for artifact in bundle["artifacts"] if artifact["name"] == name)


def images(lab: Lab, directory: Path, cache: Path) -> Path:
    """The directory of the images that kubeadm wants, made of the bundle's programs; made once for each bundle.

    kube-proxy's has nft and its libraries from one of the lab's hosts beside it.
    """
    digest = hashlib.sha256((directory / "bundle.json").read_bytes()).hexdigest()[:12]
    target = cache / f"kubeadm-{digest}"
    if target.is_dir():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    bundle = bundle_of(directory)
    version, etcd = f"v{bundle['versions']['kubernetes']}", bundle["versions"]["etcd"]
    with tempfile.TemporaryDirectory(dir=cache) as work:
        made = Path(work) / "made"
        made.mkdir()
        for name in STATIC_PODS:
            _image(made, name, version, _unpacked(directory, bundle, name, Path(work)))
        _image(made, "etcd", etcd, _unpacked(directory, bundle, "etcd", Path(work)))
        proxy = _unpacked(directory, bundle, "kube-proxy", Path(work)) | _packet_filter(lab, Path(work) / "nft")
        _image(made, "kube-proxy", version, proxy)
        made.rename(target)
    return target


def _unpacked(directory: Path, bundle: t.Mapping[str, t.Any], name: str, work: Path) -> dict[str, Path]:
    """The programs of an archive by their place in an image."""
    with tarfile.open(directory / entry(bundle, name)["file"]) as archive:
        archive.extractall(work, filter="data")
        return {f"usr/local/bin/{program}": work / program for program in archive.getnames()}


def _packet_filter(lab: Lab, work: Path) -> dict[str, Path]:
    """nft and the libraries it is linked against, as a host of the lab has them."""
    work.mkdir()
    script = "tar -ch /usr/sbin/nft $(ldd /usr/sbin/nft | grep -o '/[^ ]*') 2>/dev/null"
    packed = subprocess.run([*ssh_command(lab, lab.hosts[0].name), script], capture_output=True, check=True).stdout
    with tempfile.TemporaryFile() as stream:
        stream.write(packed)
        stream.seek(0)
        with tarfile.open(fileobj=stream) as archive:
            archive.extractall(work, filter="data")
    return {str(path.relative_to(work)): path for path in work.rglob("*") if path.is_file()}


def _image(target: Path, name: str, tag: str, files: t.Mapping[str, Path]) -> None:
    image = Image(f"{REGISTRY}/{name}:{tag}", "amd64", (f"/usr/local/bin/{name}",))
    write_image(target / f"{name}.tar", files, image)


@dataclasses.dataclass(frozen=True)
class AtHand:
    """What lies ready before the clock runs: versions, and the archives and images of every host."""

    versions: t.Mapping[str, str]
    files: t.Mapping[str, t.Sequence[Path]]


def at_hand(lab: Lab, directory: Path, cache: Path) -> AtHand:
    """Everything out of a bundle that kubeadm's hosts need; control planes need more of it."""
    made = images(lab, directory, cache)
    work = cache / "renamed"
    work.mkdir(exist_ok=True)
    bundle = bundle_of(directory)
    versions: dict[str, str] = bundle["versions"]
    files = [directory / entry(bundle, name)["file"] for name in EVERYWHERE]
    for name, place in (("coredns", "coredns/coredns:v"), ("pause", "pause:")):
        _rename(directory / entry(bundle, name)["file"], work / f"{name}.tar", f"{REGISTRY}/{place}{versions[name]}")
        files.append(work / f"{name}.tar")
    files.append(made / "kube-proxy.tar")
    more = [made / f"{name}.tar" for name in (*STATIC_PODS, "etcd")]
    leads = set(control_plane(lab))
    return AtHand(versions, {host.name: files + more if host.name in leads else files for host in lab.hosts})


def _rename(source: Path, target: Path, reference: str) -> None:
    """An OCI archive under another name."""
    with tarfile.open(source) as old, tarfile.open(target, "w") as new:
        for member in old:
            content = old.extractfile(member) if member.isfile() else None
            if member.name == "index.json" and content is not None:
                index = json.load(content)
                notes = index["manifests"][0]["annotations"]
                index["manifests"][0]["annotations"] = dict.fromkeys(notes, reference)
                with tempfile.TemporaryFile() as stream:
                    member.size = stream.write(json.dumps(index).encode())
                    stream.seek(0)
                    new.addfile(member, stream)
            else:
                new.addfile(member, content)


def control_plane(lab: Lab) -> list[str]:
    """The names of the hosts that shall be control planes."""
    return [host.name for host in lab.hosts if host.group == "slipway_control_plane"]


# --- files of a host --------------------------------------------------------------------------------------------------
def containerd_config(pause: str) -> str:
    """/etc/containerd/config.toml: systemd's cgroups, and a CNI configuration from the pod CIDR the kubelet tells."""
    return f"""version = 3
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = '{pause}'
[plugins.'io.containerd.cri.v1.runtime']
restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dirs = ['/opt/cni/bin']
conf_dir = '/etc/cni/net.d'
conf_template = '/etc/flannel/cni-conflist.template'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
runtime_type = 'io.containerd.runc.v2'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
SystemdCgroup = true
"""


def conflist() -> dict[str, t.Any]:
    """The pod network of a node: a bridge, over which flannel's VXLAN fits."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": "{{.PodCIDR}}"}]]}
    bridge = {"type": "bridge", "bridge": "cni0", "mtu": 1450, "isDefaultGateway": True, "hairpinMode": True}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "backend": "nftables"}
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [{**bridge, "ipam": ipam}, ports]}


def host_files(lab: Lab, host: str, versions: t.Mapping[str, str]) -> dict[str, str]:
    """Contents by path, everything an administrator writes before kubeadm runs."""
    address = lab.host(host).address
    backend = {"Type": "vxlan"}
    return {
        "etc/containerd/config.toml": containerd_config(f"{REGISTRY}/pause:{versions['pause']}"),
        "etc/systemd/system/containerd.service": CONTAINERD_UNIT,
        "etc/systemd/system/kubelet.service": KUBELET_UNIT,
        "etc/systemd/system/flanneld.service": FLANNEL_UNIT,
        "etc/flannel/environment": f"ADDRESS={address}\nNODE_NAME={host}\n",
        "etc/flannel/net-conf.json": json.dumps({"Network": POD_CIDR, "EnableNFTables": True, "Backend": backend}),
        "etc/flannel/cni-conflist.template": json.dumps(conflist()),
        "etc/sysctl.d/k8s.conf": "net.ipv4.ip_forward = 1\n",
        "etc/crictl.yaml": f"runtime-endpoint: {SOCKET}\n",
    }


# --- kubeadm's files --------------------------------------------------------------------------------------------------
def _registration(lab: Lab, host: str) -> dict[str, t.Any]:
    return {
        "name": host,
        "criSocket": SOCKET,
        "imagePullPolicy": "Never",
        "kubeletExtraArgs": [{"name": "node-ip", "value": lab.host(host).address}],
        # Container hosts: no modules to look at, cgroup version 1, and conntrack's program is not needed by nftables.
        "ignorePreflightErrors": ["all"],
    }


def _document(version: str, kind: str, **content: t.Any) -> str:
    return yaml.safe_dump({"apiVersion": version, "kind": kind, **content}, sort_keys=False)


def init_config(lab: Lab, versions: t.Mapping[str, str], token: str, key: str) -> str:
    """For kubeadm init, with the lab's settings of kubelet and kube-proxy."""
    first = control_plane(lab)[0]
    variables = lab_vars(lab)
    return "---\n".join(
        [
            _document(
                "kubeadm.k8s.io/v1beta4",
                "InitConfiguration",
                bootstrapTokens=[{"token": token, "ttl": "1h0m0s"}],
                certificateKey=key,
                localAPIEndpoint={"advertiseAddress": lab.host(first).address},
                nodeRegistration=_registration(lab, first),
            ),
            _document(
                "kubeadm.k8s.io/v1beta4",
                "ClusterConfiguration",
                kubernetesVersion=f"v{versions['kubernetes']}",
                controlPlaneEndpoint=f"{ENDPOINT}:6443",
                networking={"podSubnet": POD_CIDR, "serviceSubnet": SERVICE_CIDR},
                dns={"imageTag": f"v{versions['coredns']}"},
                etcd={"local": {"imageTag": versions["etcd"]}},
            ),
            _document(
                "kubelet.config.k8s.io/v1beta1",
                "KubeletConfiguration",
                cgroupDriver="systemd",
                **variables["slipway_kubelet"],
            ),
            _document(
                "kubeproxy.config.k8s.io/v1alpha1",
                "KubeProxyConfiguration",
                mode="nftables",
                **variables["slipway_kube_proxy"],
            ),
        ]
    )


def join_config(lab: Lab, host: str, token: str, digest: str, key: str) -> str:
    """For kubeadm join; ``digest`` is of the CA's public key, ``key`` opens the control plane's certificates."""
    discovery = {"token": token, "apiServerEndpoint": f"{ENDPOINT}:6443", "caCertHashes": [f"sha256:{digest}"]}
    endpoint = {"advertiseAddress": lab.host(host).address}
    more = {"controlPlane": {"localAPIEndpoint": endpoint, "certificateKey": key}} if host in control_plane(lab) else {}
    return _document(
        "kubeadm.k8s.io/v1beta4",
        "JoinConfiguration",
        discovery={"bootstrapToken": discovery},
        nodeRegistration=_registration(lab, host),
        **more,
    )


# --- the run ----------------------------------------------------------------------------------------------------------
def on(lab: Lab, host: str, script: str, stdin: str | None = None) -> str:
    """What a script of sh says on a host; RuntimeError with its last words if it fails."""
    done = labs.ssh(lab, host, ["sh", "-euc", script], stdin=stdin, timeout=900)
    if done.returncode != 0:
        raise RuntimeError(f"{host}: rc {done.returncode}\n{(done.stdout + done.stderr)[-4000:]}")
    return done.stdout


def everywhere(hosts: t.Sequence[str], function: t.Callable[[str], object]) -> None:
    """Call it for all hosts at once."""
    with ThreadPoolExecutor(max_workers=max(1, len(hosts))) as pool:
        list(pool.map(function, hosts))


def send(lab: Lab, host: str, files: t.Sequence[Path], written: t.Mapping[str, str]) -> None:
    """Put files into the host's work directory, and those with given contents below its ``root``."""
    with tempfile.TemporaryDirectory() as work:
        for name, content in written.items():
            path = Path(work) / "root" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
        argv = ["tar", "-cf", "-", "-C", work, "root"]
        for file in files:
            argv += ["-C", str(file.parent), file.name]
        command = f"mkdir -p {DIRECTORY} && tar -xf - -C {DIRECTORY}"
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as packing:
            subprocess.run([*ssh_command(lab, host), command], stdin=packing.stdout, check=True)


def bring_up(lab: Lab, ready: AtHand, clock: Clock) -> None:
    """From bare hosts to joined nodes; RuntimeError if a step fails."""
    token = f"{secrets.token_hex(3)}.{secrets.token_hex(8)}"
    key = secrets.token_hex(32)
    first, *others = control_plane(lab)
    workers = [host.name for host in lab.hosts if host.group == "slipway_workers"]

    def prepare(host: str) -> None:
        send(lab, host, ready.files[host], host_files(lab, host, ready.versions))
        on(lab, host, f"echo '{lab.host(first).address} {ENDPOINT}' >>/etc/hosts\n{PREPARE}")

    def join(host: str) -> None:
        config = join_config(lab, host, token, digest, key)
        on(lab, host, "cat >/root/join.yaml; kubeadm join --config /root/join.yaml 2>&1", stdin=config)

    with clock.phase("Prepare hosts and start the container runtime"):
        everywhere([host.name for host in lab.hosts], prepare)
    with clock.phase("kubeadm init, pod network"):
        script = "cat >/root/init.yaml; kubeadm init --config /root/init.yaml --upload-certs --skip-token-print 2>&1"
        on(lab, first, script, stdin=init_config(lab, ready.versions, token, key))
        on(lab, first, f"{' '.join(KUBECTL)} apply -f -", stdin=FLANNEL_RIGHTS)
        public = "openssl x509 -pubkey -noout -in /etc/kubernetes/pki/ca.crt | openssl pkey -pubin -outform der"
        digest = on(lab, first, f"{public} | sha256sum").split()[0]
    with clock.phase("kubeadm join of control planes"):
        for host in others:
            join(host)
    with clock.phase("kubeadm join of workers"):
        everywhere(workers, join)
