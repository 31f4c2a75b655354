# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does what docs/monitoring.md says: runs its commands, and finds what its scrape_configs would scrape, and how.

Discovery and relabelling follow Prometheus' documentation (kubernetes_sd_config, relabel_config): of both there is here
what the page uses, and a KeyError or AssertionError for anything else.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import typing as t

import yaml

from slipway.lab import Lab
from tests.cluster import support

PAGE = support.ROOT / "docs" / "monitoring.md"
INSIDE = "/var/run/secrets/kubernetes.io/serviceaccount"
Labels = dict[str, str]
Item = t.Mapping[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Target:
    """What one job scrapes: whether it shows the token, checks the certificate, and for which name it has to be."""

    job: str
    url: str
    token: bool
    verified: bool
    name: str


def blocks(language: str) -> list[str]:
    """The page's code blocks of a language."""
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def run_commands(lab: Lab) -> dict[str, str]:
    """Run every command of the page; the files that they write, by name."""
    files = {}
    for line in "".join(blocks("sh")).splitlines():
        command, _, file = line.strip().partition(" > ")
        said = support.kubectl(lab, *shlex.split(command.removeprefix("kubectl ")))
        if file:
            files[file] = said.strip()
    return files


def targets(lab: Lab) -> list[Target]:
    """What a Prometheus with the page's configuration scrapes now."""
    nodes, pods = support.objects(lab, "nodes"), support.objects(lab, "pods", "-A")
    return [target for job in configured() for target in _of(job, nodes, pods)]


def jobs() -> list[str]:
    """The names of the page's jobs."""
    return [job["job_name"] for job in configured()]


def configured() -> list[Item]:
    """The page's jobs."""
    config = next(text for text in blocks("yaml") if text.startswith("scrape_configs:"))
    return t.cast("list[Item]", yaml.safe_load(config)["scrape_configs"])


def _of(job: Item, nodes: t.Sequence[Item], pods: t.Sequence[Item]) -> list[Target]:
    known = {"job_name", "scheme", "metrics_path", "tls_config", "authorization"}
    assert set(job) <= known | {"kubernetes_sd_configs", "relabel_configs"}
    token = job.get("authorization")
    assert token in (None, {"credentials_file": f"{INSIDE}/token"})
    tls = job.get("tls_config", {})
    assert tls.get("ca_file", f"{INSIDE}/ca.crt") == f"{INSIDE}/ca.crt"
    found = []
    for labels in _discovered(job, nodes, pods):
        kept = _relabelled(labels, job.get("relabel_configs", ()))
        if kept is not None:
            url = f"{job.get('scheme', 'http')}://{kept['__address__']}{job.get('metrics_path', '/metrics')}"
            found.append(Target(job["job_name"], url, bool(token), "ca_file" in tls, tls.get("server_name", "")))
    return found


def _discovered(job: Item, nodes: t.Sequence[Item], pods: t.Sequence[Item]) -> list[Labels]:
    found: list[Labels] = []
    for config in job["kubernetes_sd_configs"]:
        if config["role"] == "node":
            found += [_node(item) for item in nodes]
        else:
            assert config["role"] == "pod"
            names = config["namespaces"]["names"]
            found += [each for item in pods if item["metadata"]["namespace"] in names for each in _pod(item)]
    return found


def _node(item: Item) -> Labels:
    addresses = {each["type"]: each["address"] for each in item["status"]["addresses"]}
    port = item["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
    return {
        "__address__": f"{addresses['InternalIP']}:{port}",
        **_labels("node", item),
        **{f"__meta_kubernetes_node_address_{kind}": address for kind, address in addresses.items()},
    }


def _pod(item: Item) -> list[Labels]:
    """One for each port of a container, one without a port for a container that declares none."""
    address = item["status"].get("podIP", "")
    common = {**_labels("pod", item), "__meta_kubernetes_pod_ip": address}
    found = []
    for container in item["spec"]["containers"]:
        ports = container.get("ports") or [{}]
        for port in ports:
            name = {"__meta_kubernetes_pod_container_port_name": port.get("name", "")} if port else {}
            where = f"{address}:{port['containerPort']}" if port else address
            found.append({"__address__": where, **common, **name})
    return found


def _labels(role: str, item: Item) -> Labels:
    found = {}
    for name, value in (item["metadata"].get("labels") or {}).items():
        plain = re.sub(r"[^a-zA-Z0-9_]", "_", name)
        found[f"__meta_kubernetes_{role}_label_{plain}"] = value
        found[f"__meta_kubernetes_{role}_labelpresent_{plain}"] = "true"
    return found


def _relabelled(labels: Labels, rules: t.Iterable[Item]) -> Labels | None:
    """The target's labels after the rules, None if it is dropped."""
    result = dict(labels)
    for rule in rules:
        match = re.fullmatch(
            rule.get("regex", "(.*)"), ";".join(result.get(name, "") for name in rule["source_labels"])
        )
        action = rule.get("action", "replace")
        assert action in ("keep", "replace")
        if action == "replace" and match:
            result[rule["target_label"]] = match.expand(re.sub(r"\$(\d)", r"\\\1", rule["replacement"]))
        elif action == "keep" and not match:
            return None
    return result
