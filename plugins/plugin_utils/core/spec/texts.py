# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Texts with a meaning: names, labels, taints, networks. Each function returns the value or raises ValueError."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import typing as t
import urllib.parse

type IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
type IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

DNS_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DNS_NAME = rf"{DNS_LABEL}(\.{DNS_LABEL})*"
DIRECTORY = r"(/[A-Za-z0-9._-]+)+"
_QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


@dataclasses.dataclass(frozen=True, order=True)
class Taint:
    """A node taint. Two taints with the same key and effect cannot stand on one node, whatever their values."""

    key: str
    effect: str
    value: str = ""

    def __str__(self) -> str:
        return f"{self.key}={self.value}:{self.effect}" if self.value else f"{self.key}:{self.effect}"


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """Where people outside reach the API: a name or an address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def full(pattern: str, text: str) -> bool:
    """Whether the whole text matches the pattern."""
    return re.fullmatch(pattern, text) is not None


def dns_label(text: str) -> str:
    """One DNS label (RFC 1123): what cluster names are made of."""
    if not full(DNS_LABEL, text):
        raise ValueError("not a DNS label")
    return text


def dns_name(text: str) -> str:
    """A DNS name in lower case (RFC 1123 subdomain)."""
    if len(text) > 253 or not full(DNS_NAME, text):
        raise ValueError("not a DNS name")
    return text


def address(text: str) -> IPAddress:
    """An IP address that a node can be reached at: IPv4 for now, not loopback, link-local, multicast or 0.0.0.0."""
    found = ipaddress.ip_address(text)
    if found.version != 4:
        raise ValueError("IPv6 is not supported yet")
    if found.is_loopback or found.is_unspecified or found.is_multicast or found.is_link_local:
        raise ValueError("not an address other hosts can reach")
    return found


def resolver(text: str) -> str:
    """The address of a DNS server, which CoreDNS asks; a loopback address would make it ask itself."""
    if ipaddress.ip_address(text).is_loopback:
        raise ValueError("a loopback address is the pod itself for CoreDNS")
    return text


def networks(text: str) -> tuple[IPNetwork, ...]:
    """A CIDR without host bits. A tuple, because a dual-stack cluster has two."""
    try:
        found = ipaddress.ip_network(text)
    except ValueError as error:
        if "host bits set" in str(error):
            raise ValueError(f"has host bits set, the network is {ipaddress.ip_network(text, strict=False)}") from error
        raise ValueError("not a network in CIDR notation") from error
    if found.version != 4:
        raise ValueError("IPv6 is not supported yet")
    return (found,)


def bcrypt_password(text: str) -> str:
    """A password that bcrypt takes as a whole: it stops at 72 bytes and at a null byte."""
    if not 8 <= len(text.encode()) <= 72 or "\0" in text:
        raise ValueError("not 8 to 72 bytes")
    return text


def address_range(text: str) -> str:
    """IPv4 addresses as a CIDR or as FIRST-LAST."""
    if "/" in text:
        return str(networks(text)[0])
    first, dash, last = (part.strip() for part in text.partition("-"))
    ends = [address(first), address(last)] if dash else []
    if not ends or int(ends[0]) > int(ends[1]):
        raise ValueError("neither a CIDR nor FIRST-LAST")
    return f"{ends[0]}-{ends[1]}"


def range_ends(text: str) -> tuple[int, int]:
    """The first and the last address of what ``address_range`` gave, as numbers."""
    if "/" in text:
        network = ipaddress.ip_network(text)
        return int(network[0]), int(network[-1])
    first, _dash, last = text.partition("-")
    return int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))


def pem(text: str) -> str:
    """Something in PEM."""
    if "-----BEGIN " not in text or "-----END " not in text:
        raise ValueError("not in PEM")
    return text.strip() + "\n"


def directory(text: str) -> str:
    """An absolute path in its shortest form, of characters that mean nothing to a shell or a mount option."""
    if not full(DIRECTORY, text) or {".", ".."} & set(text.split("/")):
        raise ValueError("not an absolute path in its shortest form")
    return text


def version(text: str) -> str:
    """A Kubernetes minor (1.37) or patch (1.37.2) version; a leading v is dropped."""
    if not full(r"v?1\.(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*))?", text):
        raise ValueError("neither a minor nor a patch version")
    return text.removeprefix("v")


def host_or_address(text: str) -> str:
    """A DNS name or an IP address, as a certificate can carry it; a leading wildcard label is allowed."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text if text.startswith("*.") and dns_name(text[2:]) else dns_name(text)


def endpoint(text: str, default_port: int = 6443) -> Endpoint:
    """HOST or HOST:PORT; the port is 6443 if none is given. An IPv6 address with a port stands in brackets."""
    try:
        parts = urllib.parse.urlsplit(f"//{text}")
        port = parts.port
    except ValueError as error:
        raise ValueError("not HOST or HOST:PORT") from error
    if "//" in text or not parts.hostname or parts.path or parts.query or parts.username is not None or port == 0:
        raise ValueError("not HOST or HOST:PORT")
    return Endpoint(host_or_address(parts.hostname), port or default_port)


def url(text: str) -> str:
    """An http or https address without credentials; a slash at the end is dropped."""
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("not an http:// or https:// address")
    return text.rstrip("/")


def has_credentials(text: str) -> bool:
    """Whether an address carries a user or password, which would be shown wherever it is shown."""
    return "@" in urllib.parse.urlsplit(text).netloc if "://" in text else False


def registry_host(text: str) -> str:
    """A registry as image names write it: HOST[:PORT], or containerd's name for all others, _default."""
    if text == "_default":
        return text
    host, _unused, port = text.partition(":")
    dns_name(host)
    if ":" in text and not full("[1-9][0-9]{0,4}", port):
        raise ValueError("not HOST or HOST:PORT")
    return text


def label_key(text: str) -> str:
    """A label or taint key: [PREFIX/]NAME."""
    prefix, slash, name = text.rpartition("/")
    if not full(_QUALIFIED, name) or (slash and not (len(prefix) <= 253 and full(DNS_NAME, prefix))):
        raise ValueError("not [PREFIX/]NAME with a NAME of at most 63 letters, digits, '-', '_' and '.'")
    return text


def label_value(text: str) -> str:
    """A label or taint value: empty, or at most 63 letters, digits, '-', '_' and '.'."""
    if text and not full(_QUALIFIED, text):
        raise ValueError(
            "not at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
        )
    return text


def taint(text: str) -> Taint:
    """A taint as kubectl writes it: KEY[=VALUE]:EFFECT."""
    rest, colon, effect = text.rpartition(":")
    key, _unused, value = rest.partition("=")
    if not colon or effect not in TAINT_EFFECTS:
        raise ValueError(f"not KEY[=VALUE]:EFFECT with an EFFECT of {', '.join(TAINT_EFFECTS)}")
    return Taint(label_key(key), effect, label_value(value))


def node_name(text: str) -> str:
    """A Node name. At most 63 characters, because it becomes the value of the label kubernetes.io/hostname."""
    if len(text) > 63:
        raise ValueError("longer than 63 characters")
    return dns_name(text)


def is_node_name(text: str) -> bool:
    """Whether an inventory name can name a Node: an address could, but says nothing to a person and is no host name."""
    return valid(node_name, text) and not is_address(text)


def is_address(text: str) -> bool:
    """Whether the text is an IP address of any kind."""
    return valid(ipaddress.ip_address, text)


def valid(parse: t.Callable[[str], t.Any], text: str) -> bool:
    """Whether a parser takes the text."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def flag_name(text: str) -> str:
    """A command line flag without its dashes."""
    if not full("[a-z][a-z0-9-]*", text):
        raise ValueError("not a flag's name without dashes before it")
    return text


def batch(text: str) -> str:
    """How many at a time, as Ansible's serial takes it: a number from 1, or a share of all from 1% to 100%."""
    number = text.removesuffix("%")
    if not (number.isascii() and number.isdigit()) or not 1 <= int(number) <= (100 if number != text else 10**6):
        raise ValueError("neither a number from 1 nor a share from 1% to 100%")
    return text


def line(text: str) -> str:
    """One line that is not empty: paths, names of groups."""
    if not text or "\n" in text:
        raise ValueError("empty, or more than one line")
    return text
