# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that run a playbook: apply, plan, verify, remove, maintain, reset and kubeconfig."""

from __future__ import annotations

import argparse
import collections.abc
import dataclasses
import json
import pathlib
import shutil
import sys
import time
import typing as t

from ansible_collections.slipway.cluster.plugins.module_utils.core.problems import Problem, SlipwayError
from ansible_collections.slipway.cluster.plugins.plugin_utils.core.plan_report import diff_lines, plan_lines
from slipway.report import RunLog, done_lines, explain_lines, problem_lines, summary_lines
from slipway.run import MAX_FORKS, Outcome, Run, inventory_paths, run_playbook

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_PENDING = 2
EXIT_INTERRUPTED = 130
READY_TASKS = "os_updates"

Runner = collections.abc.Callable[[Run, collections.abc.Callable[[t.Mapping[str, t.Any]], None]], Outcome]


@dataclasses.dataclass
class Console:
    """Shows a run while it goes: a line per phase and per problem, or Ansible's own output (``raw``), or nothing."""

    out: t.TextIO
    raw: bool = False
    quiet: bool = False
    log: RunLog = dataclasses.field(default_factory=RunLog)
    clock: collections.abc.Callable[[], float] = time.monotonic

    def handle(self, event: t.Mapping[str, t.Any]) -> None:
        """Take in one of ansible-runner's events."""
        lines = self.log.fold(event, self.clock())
        if self.raw:
            self._say([str(event["stdout"])] if event.get("stdout") else [])
        elif not self.quiet:
            self._say(lines)
            self._status(event)

    def _say(self, lines: t.Sequence[str]) -> None:
        if lines:
            self.clear()
            print("\n".join(lines), file=self.out, flush=True)

    def _status(self, event: t.Mapping[str, t.Any]) -> None:
        if event.get("event") == "playbook_on_task_start" and self.out.isatty():
            task = str((event.get("event_data") or {}).get("task", ""))
            shown = f"  … {task}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r\x1b[2K{shown}", end="", file=self.out, flush=True)

    def clear(self) -> None:
        """Take the status line away."""
        if not self.raw and not self.quiet and self.out.isatty():
            print("\r\x1b[2K", end="", file=self.out, flush=True)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs to the command line."""
    apply = _verb(subparsers, "apply", "make the cluster what the inventory says: install, scale, reconfigure")
    apply.add_argument("--check", action="store_true", help="change nothing, only say what would change")
    apply.add_argument("--diff", action="store_true", help="show the differences in files")
    apply.set_defaults(run=run_apply)

    plan = _verb(subparsers, "plan", "say what apply would change; exit code 2 when something would")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON and nothing else")
    plan.add_argument("--diff", action="store_true", help="show the differences in files")
    plan.add_argument("--explain", metavar="HOST", help="say which value of HOST's spec came from where")
    plan.set_defaults(run=run_plan)

    verify = _verb(subparsers, "verify", "check the running cluster, by what it answers")
    verify.add_argument("--full", action="store_true", help="ask the longer questions too, some minutes of them")
    verify.add_argument("--json", action="store_true", help="print the findings as JSON and nothing else")
    verify.set_defaults(run=run_verify)

    _register_removal(subparsers)
    reset = _verb(subparsers, "reset", "remove what Slipway put on the hosts, the cluster's data included")
    reset.add_argument("--confirm", metavar="CLUSTERNAME", help="the cluster's name; asked for when not given")
    reset.set_defaults(run=run_reset)

    kubeconfig = _verb(subparsers, "kubeconfig", "fetch a kubeconfig for people, valid for weeks")
    kubeconfig.add_argument("--output", metavar="FILE", help="where to write it (default: beside the inventory)")
    kubeconfig.set_defaults(run=run_kubeconfig)


def _register_removal(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    remove = _verb(subparsers, "remove", "take hosts out of the cluster for good: empty, leave etcd, reset, delete")
    remove.add_argument(
        "hosts", nargs="+", metavar="HOST", help="a host of the inventory, or a Node or etcd member outside it"
    )
    remove.add_argument(
        "--dead", action="store_true", help="those that cannot be reached are off for good; they are not contacted"
    )
    remove.add_argument("--confirm", metavar="CLUSTERNAME", help="the cluster's name; asked for when not given")
    remove.add_argument("--check", action="store_true", help="change nothing, only say what would change")
    remove.set_defaults(run=run_remove, diff=False)

    maintain = _verb(subparsers, "maintain", "take hosts out of service in turn, run tasks on them, give them back")
    maintain.add_argument(
        "--tasks", required=True, metavar="FILE", help="a file of Ansible tasks, or os_updates for the ready-made one"
    )
    maintain.add_argument(
        "--batch", metavar="N", help="workers at a time, a number or a share (default: slipway_batch, 10%%)"
    )
    maintain.add_argument(
        "--again", action="store_true", help="start an unfinished maintenance over, also on the hosts it had finished"
    )
    maintain.set_defaults(run=run_maintain)


def _verb(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument(
        "-i", "--inventory", action="append", required=True, metavar="INVENTORY", help="inventory file or directory"
    )
    parser.add_argument("-l", "--limit", help="only these hosts or groups, as Ansible's --limit")
    parser.add_argument(
        "-e", "--extra-vars", action="append", default=[], metavar="K=V", help="set a variable, or @FILE of them"
    )
    parser.add_argument("-t", "--tags", help="only these phases (Ansible's tags), separated by commas")
    parser.add_argument("--forks", type=int, default=MAX_FORKS, help=f"hosts at a time (default {MAX_FORKS})")
    parser.add_argument("-v", "--verbose", action="count", default=0, help="Ansible's own output; -vv and on: more")
    for option, metavar in (("--user", "NAME"), ("--private-key", "FILE")):
        parser.add_argument(option, metavar=metavar, help="as ansible-playbook's option of this name")
    for option in ("--become-password-file", "--vault-password-file"):
        parser.add_argument(option, metavar="FILE", help="as ansible-playbook's option of this name")
    return parser


def run_of(playbook: str, args: argparse.Namespace, extra: t.Mapping[str, t.Any] | None = None) -> Run:
    """The run that the arguments ask for; ``extra`` are variables of the verb's own."""
    own = (json.dumps(dict(extra)),) if extra else ()
    options: list[str] = []
    for name in ("user", "private_key", "become_password_file", "vault_password_file"):
        value = getattr(args, name)
        options += [f"--{name.replace('_', '-')}", value] if value else []
    return Run(
        playbook=f"slipway.cluster.{playbook}",
        inventories=inventory_paths(args.inventory),
        limit=args.limit,
        tags=args.tags,
        forks=args.forks,
        verbosity=max(0, args.verbose - 1),
        check=getattr(args, "check", False),
        diff=getattr(args, "diff", False),
        colour=sys.stdout.isatty(),
        extra_vars=(*args.extra_vars, *own),
        options=tuple(options),
    )


def execute(run: Run, console: Console, runner: Runner = run_playbook) -> int:
    """Run it and say how it ended, problems once and tables last; returns the exit code.

    In quiet mode only problems are said, on stderr.
    """
    outcome = runner(run, console.handle)
    log = console.log
    console.clear()
    if log.holding:
        _let_go(run, runner)
    if not outcome.interrupted:
        add_unsaid(log, outcome)
    failed = outcome.code != 0 or any(not problem.warning for problem in log.problems)
    if not console.quiet:
        _print(["", *summary_lines(log)] if log.hosts else [], console.out)
        told = done_lines(log) if failed and run.playbook == "slipway.cluster.apply" else []
        _print(["", *told] if told else [], console.out)
    _print(["", *problem_lines(log.problems)] if log.problems else [], sys.stderr if console.quiet else console.out)
    if outcome.interrupted:
        print("stopped; hosts may be ending a step they had begun. Run it again to go on.", file=sys.stderr)
        return EXIT_INTERRUPTED
    return EXIT_FAILED if failed else EXIT_DONE


def _let_go(run: Run, runner: Runner) -> None:
    """Take the name of a run that ended early off the hosts, so that nobody has to wait until its hold expires."""
    own = dataclasses.replace(run, playbook="slipway.cluster.release", limit=None, tags=None, check=False, diff=False)
    runner(own, lambda _event: None)


def add_unsaid(log: RunLog, outcome: Outcome) -> None:
    """Add to the log a problem for a run that failed, or did nothing, without any result saying why."""
    if log.problems and any(not problem.warning for problem in log.problems):
        return
    said = "\n".join(log.noise[-20:])
    if outcome.code != 0:
        found = f"ansible-playbook ended with code {outcome.code}" + (f" and said:\n{said}" if said else "")
        log.problems[Problem(where="run", found=found)] = []
    elif not log.hosts:
        problem = Problem(
            where="run",
            found="no host took part" + (f"; Ansible said:\n{said}" if said else ""),
            expected="hosts in the groups slipway_control_plane and slipway_workers",
            remedy="check the inventory, and --limit and --tags if given",
        )
        log.problems[problem] = []


def _print(lines: t.Sequence[str], out: t.TextIO) -> None:
    if lines:
        print("\n".join(lines), file=out, flush=True)


def _console(args: argparse.Namespace) -> Console:
    return Console(out=sys.stdout, raw=args.verbose > 0, quiet=getattr(args, "json", False))


def run_apply(args: argparse.Namespace) -> int:
    """``slipway apply``."""
    return _told(args, run_of("apply", args))


def _told(args: argparse.Namespace, run: Run) -> int:
    """Run it, and in check mode say what would be done."""
    console = _console(args)
    code = execute(run, console)
    if args.check:
        hosts = console.log.actions
        _print([f"{host}: {action}" for host in hosts for action in hosts[host]], sys.stdout)
    return code


def run_plan(args: argparse.Namespace) -> int:
    """``slipway plan``: 2 when changes are pending."""
    extra = {"slipway_explain": args.explain} if args.explain else None
    console = _console(args)
    code = execute(run_of("plan", args, extra), console)
    report = console.log.report
    if args.json:
        print(json.dumps(json_report(console.log), indent=2))
    elif report is not None:
        _print([*explain_lines(report), *(diff_lines(report) if args.diff else []), ""], sys.stdout)
        _print(plan_lines(report), sys.stdout)
    if code == EXIT_DONE and report is not None and report.get("pending"):
        return EXIT_PENDING
    return code


def json_report(log: RunLog) -> dict[str, t.Any]:
    """A run as JSON data: the report of its playbook, the problems, and who could not be reached."""
    return {
        **(log.report or {}),
        "problems": [{**problem.as_dict(), "hosts": hosts} for problem, hosts in log.problems.items()],
        "unreachable": [host for host, tally in log.hosts.items() if tally.unreachable],
    }


def run_verify(args: argparse.Namespace) -> int:
    """``slipway verify``."""
    console = _console(args)
    extra = {"slipway__verify_full": True} if args.full else None
    code = execute(run_of("verify", args, extra), console)
    if args.json:
        print(json.dumps(json_report(console.log), indent=2))
    elif console.log.report:
        _print(["", *str(console.log.report.get("table") or "").splitlines()], sys.stdout)
    return code


def _confirmed(args: argparse.Namespace, verb: str, warning: str) -> str:
    """The cluster's name as a person gave it: with --confirm, or asked for at a terminal."""
    name = args.confirm
    if name is None and sys.stdin.isatty():
        print(warning)
        name = input("Type the cluster's name to go on: ").strip()
    if not name:
        raise SlipwayError(
            Problem(
                where=verb,
                found="it was not confirmed",
                expected=f"the cluster's name, since {verb} removes its data",
                remedy="add --confirm CLUSTERNAME",
            )
        )
    return str(name)


def run_remove(args: argparse.Namespace) -> int:
    """``slipway remove``: asks for the cluster's name unless it is given, or nothing is going to be removed."""
    hosts = ", ".join(args.hosts)
    warning = f"This takes {hosts} out of the cluster, with what is stored there."
    name = args.confirm or "" if args.check else _confirmed(args, "remove", warning)
    extra = {"slipway_remove": args.hosts, "slipway_remove_dead": args.dead, "slipway_remove_confirm": name}
    return _told(args, run_of("remove_node", args, extra))


def run_maintain(args: argparse.Namespace) -> int:
    """``slipway maintain``: the file of tasks by its absolute path, or the name of a ready-made one."""
    tasks = args.tasks
    if tasks != READY_TASKS:
        path = pathlib.Path(tasks).expanduser().absolute()
        if not path.is_file():
            raise SlipwayError(
                Problem(
                    f"--tasks {tasks}", "no such file", f"a file of Ansible tasks, or {READY_TASKS}", "check the path"
                )
            )
        tasks = str(path)
    extra = {"slipway_maintain_tasks": tasks, "slipway_maintain_again": args.again}
    if args.batch:
        extra["slipway_maintain_batch"] = args.batch
    console = _console(args)
    code = execute(run_of("maintain", args, extra), console)
    _print(_maintained(console.log), sys.stdout)
    return code


def _maintained(log: RunLog) -> list[str]:
    """Who was maintained in this run, who before it, and who was not, as the cluster remembers it."""
    told = (log.report or {}).get("maintenance") or {}
    lines = ["", f"maintained: {', '.join(told['done']) or 'nobody'}"] if told else []
    if told.get("before"):
        lines.append(f"maintained before: {', '.join(told['before'])}")
    if told.get("open"):
        lines.append(f"not maintained: {', '.join(told['open'])}; run it again to go on with them")
    return lines


def run_reset(args: argparse.Namespace) -> int:
    """``slipway reset``: asks for the cluster's name unless it is given."""
    name = _confirmed(args, "reset", "This removes the cluster and its data from the hosts of this inventory.")
    return execute(run_of("reset", args, {"slipway_reset_confirm": name}), _console(args))


def run_kubeconfig(args: argparse.Namespace) -> int:
    """``slipway kubeconfig``: fetches the file and says where it lies."""
    extra = (
        {"slipway_kubeconfig_output": str(pathlib.Path(args.output).expanduser().absolute())} if args.output else None
    )
    console = _console(args)
    code = execute(run_of("kubeconfig", args, extra), console)
    if code == EXIT_DONE and console.log.report:
        print(f"kubeconfig: {console.log.report.get('kubeconfig')}")
    return code
