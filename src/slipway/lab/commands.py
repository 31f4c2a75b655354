# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""`slipway lab`: the lab's verbs on the command line."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import typing as t

import yaml

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from slipway.lab import control
from slipway.lab.model import DEFAULT_DRIVER, DEFAULT_SYSTEM, DRIVERS, SYSTEMS, LabSpec

_DEFAULT = "lab"


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ``lab`` and its verbs; each sets ``run``, a callable from the parsed arguments to the exit code."""
    lab = subparsers.add_parser(
        "lab", help="systemd hosts on this machine, for trying and testing", description=__doc__
    )
    verbs = lab.add_subparsers(dest="lab_verb", required=True, metavar="VERB")
    _add_up(verbs)
    _verb(verbs, "down", "remove a lab: hosts, volumes, network, files", _run_down)
    _add_status(verbs)
    _add_ssh(verbs)
    _add_power(verbs)
    _add_renew(verbs)
    listing = verbs.add_parser("list", help="all labs on this machine")
    listing.add_argument("--json", action="store_true", help="print JSON")
    listing.set_defaults(run=_run_list)


_Verbs = argparse._SubParsersAction  # noqa: SLF001 - argparse has no public name for what add_subparsers returns


def _verb(
    verbs: _Verbs[argparse.ArgumentParser], name: str, text: str, run: t.Callable[[argparse.Namespace], int]
) -> argparse.ArgumentParser:
    """A verb that means one lab."""
    parser = verbs.add_parser(name, help=text)
    parser.add_argument("--name", default=_DEFAULT, help="name of the lab (default: %(default)s)")
    parser.set_defaults(run=run)
    return parser


def _add_up(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "up", "make a lab, or mend and start an existing one", _run_up)
    parser.add_argument("--control-plane", type=int, default=1, metavar="N", help="hosts cp1.. (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="hosts w1.. (default: %(default)s)")
    parser.add_argument("--etcd", type=int, default=0, metavar="N", help="hosts etcd1.. (default: %(default)s)")
    parser.add_argument("--docker", type=int, default=0, metavar="N", help="hosts docker1.. (default: %(default)s)")
    parser.add_argument("--registry", type=int, default=0, metavar="N", help="hosts registry1.. (default: %(default)s)")
    parser.add_argument("--os", default=DEFAULT_SYSTEM, choices=list(SYSTEMS), help="system (default: %(default)s)")
    parser.add_argument(
        "--host-os", action="append", default=[], metavar="HOST=OS", help="another system for one host; repeatable"
    )
    parser.add_argument(
        "--driver", default=DEFAULT_DRIVER, choices=list(DRIVERS), help="what the hosts are (default: %(default)s)"
    )
    parser.add_argument("--isolated", action="store_true", help="no default route on the hosts (air-gapped)")
    parser.add_argument("--bare-packages", action="store_true", help="without the OS packages a cluster needs")
    parser.add_argument("--subnet", metavar="CIDR", help="a /24 for the hosts (default: the first free one)")
    parser.add_argument(
        "-e", "--extra-vars", action="append", metavar="KEY=VALUE", help="a variable of all hosts, its value as YAML"
    )


def _add_status(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "status", "the hosts of a lab; exit code 1 unless all of them run", _run_status)
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_ssh(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "ssh", "a shell, or one command, on a host", _run_ssh)
    parser.add_argument("host", metavar="HOST")
    parser.add_argument("command", nargs="*", metavar="CMD", help="after --")


def _add_power(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(verbs, "power", "switch a host off, on, or off and on again", _run_power)
    parser.add_argument("host", metavar="HOST", help="host names with commas between, or all")
    parser.add_argument("action", choices=["off", "on", "cycle"])
    parser.add_argument("--cut", action="store_true", help="cut the power instead of shutting down")


def _add_renew(verbs: _Verbs[argparse.ArgumentParser]) -> None:
    parser = _verb(
        verbs, "renew", "a new machine in the place of a host: same name and address, empty disks", _run_renew
    )
    parser.add_argument("host", metavar="HOST", help="host names with commas between")


def _say(text: str) -> None:
    print(text, flush=True)


def spec_from(args: argparse.Namespace) -> LabSpec:
    """The lab that the arguments of ``up`` ask for."""
    pairs = _pairs("--host-os", args.host_os)
    fields = {field.name for field in dataclasses.fields(LabSpec)} - {"host_os"}
    return LabSpec(host_os=tuple(pairs), **{key: value for key, value in vars(args).items() if key in fields})


def extra_vars_from(values: t.Sequence[str] | None) -> dict[str, t.Any] | None:
    """Variables from ``KEY=VALUE`` arguments, values read as YAML; None when there are no arguments."""
    if values is None:
        return None
    found = {}
    for key, text in _pairs("--extra-vars", values):
        try:
            found[key] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SlipwayError(Problem("--extra-vars", f"{key}: {error}", "a value in YAML")) from error
    return found


def _pairs(option: str, values: t.Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for value in values:
        key, equals, text = value.partition("=")
        if not (key and equals):
            raise SlipwayError(Problem(option, repr(value), "NAME=VALUE"))
        pairs.append((key, text))
    return pairs


def _run_up(args: argparse.Namespace) -> int:
    control.up(spec_from(args), extra_vars=extra_vars_from(args.extra_vars), say=_say)
    return 0


def _run_down(args: argparse.Namespace) -> int:
    control.down(args.name, say=_say)
    return 0


def _run_status(args: argparse.Namespace) -> int:
    lab = control.load(args.name)
    hosts = control.status(lab)
    if args.json:
        print(json.dumps([dataclasses.asdict(status) for status in hosts], indent=2))
    else:
        rows = [(status.host.name, status.host.address, status.host.os, status.power, status.state) for status in hosts]
        print(table(("HOST", "ADDRESS", "OS", "POWER", "STATE"), rows))
        print(f"inventory {lab.inventory}")
        if lab.kubeconfig.exists():
            print(f"kubeconfig {lab.kubeconfig}")
    return 0 if all(status.power == "on" and status.state == "running" for status in hosts) else 1


def _run_ssh(args: argparse.Namespace) -> int:
    lab = control.load(args.name)
    command = control.ssh_command(lab, args.host) + (["--", *args.command] if args.command else [])
    os.execvp(command[0], command)  # noqa: S606 - ssh takes over the terminal, no shell is wanted


def _run_power(args: argparse.Namespace) -> int:
    lab = control.load(args.name)
    names = [host.name for host in lab.hosts] if args.host == "all" else args.host.split(",")
    control.power(lab, names, args.action, cut=args.cut, say=_say)
    return 0


def _run_renew(args: argparse.Namespace) -> int:
    control.renew(control.load(args.name), args.host.split(","), say=_say)
    return 0


def _run_list(args: argparse.Namespace) -> int:
    found = control.labs()
    if args.json:
        print(json.dumps([dataclasses.asdict(lab) for lab in found], indent=2))
    elif found:
        rows = [(lab.name, str(lab.hosts), str(lab.running), lab.directory) for lab in found]
        print(table(("LAB", "HOSTS", "RUNNING", "DIRECTORY"), rows))
    else:
        print("no labs on this machine; `slipway lab up` makes one")
    return 0


def table(header: t.Sequence[str], rows: t.Sequence[t.Sequence[str]]) -> str:
    """Left-aligned columns under a header."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join(line.rstrip() for line in lines)
