# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A listener in a process of its own, and callers, over the loopback."""

from __future__ import annotations

import json
import os
import pathlib
import socket
import time
import typing as t

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.slipway.cluster.plugins.module_utils.core.reach import (
    Listen,
    Port,
    Target,
    percentile,
    silent_resolvers,
    slow_disk,
)
from ansible_collections.slipway.cluster.plugins.module_utils.host import reach
from ansible_collections.slipway.cluster.plugins.modules import reach as module


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[None]:
    # Listeners are found by name on the whole machine, where labs and other tests may have theirs.
    monkeypatch.setattr(reach, "PROCESS", f"reach-{os.getpid()}")
    monkeypatch.setattr(reach, "UDP_SECONDS", 0.4)
    monkeypatch.setattr(reach, "RESOLVER_SECONDS", 0.2)
    monkeypatch.setattr(reach, "LINGER_SECONDS", 1.0)
    yield
    reach.end_listeners()


def free(kind: int) -> int:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def ports() -> tuple[int, int]:
    return free(socket.SOCK_STREAM), free(socket.SOCK_DGRAM)


def gone() -> bool:
    end = time.monotonic() + 10
    while reach.listeners() and time.monotonic() < end:
        time.sleep(0.05)
    return not reach.listeners()


def target(ports: tuple[int, int], size: int = 1500) -> Target:
    tcp, udp = ports
    both = (Port(tcp, "tcp", "the API server", answers=True), Port(udp, "udp", "pods", answers=True))
    return Target("cp1", "127.0.0.1", size, both)


def wanted(ports: tuple[int, int], *callers: str) -> list[Listen]:
    return [Listen(ports[0], "tcp", frozenset(callers)), Listen(ports[1], "udp", frozenset(callers))]


def test_the_listener_ends_when_everybody_has_called(ports: tuple[int, int]) -> None:
    reach.listen(wanted(ports, "w1", "w2"), 30)
    assert reach.try_all("w1", [target(ports)]) == []
    assert reach.try_all("w1", [target(ports)]) == [], "the second has not called yet"
    assert reach.try_all("w2", [target(ports)]) == []
    assert gone()


def test_it_ends_by_itself_when_nobody_calls(ports: tuple[int, int]) -> None:
    reach.listen(wanted(ports, "w1"), 1)
    assert gone()


def test_a_new_run_ends_the_listener_of_an_earlier_one(ports: tuple[int, int]) -> None:
    for _run in range(2):
        reach.listen(wanted(ports, "w1"), 30)
        assert len(reach.listeners()) == 1, "it can be found as soon as it is there"
    assert reach.try_all("w1", [target(ports)]) == []
    assert gone()


def test_who_connects_and_says_nothing_keeps_nobody_waiting(ports: tuple[int, int]) -> None:
    reach.listen(wanted(ports, "w1"), 30)
    silent = [socket.create_connection(("127.0.0.1", ports[0])) for _number in range(5)]
    assert reach.try_all("w1", [target(ports)]) == []
    assert gone()
    for connection in silent:
        connection.close()


def test_a_port_in_use_is_left_to_whoever_has_it(ports: tuple[int, int]) -> None:
    with socket.create_server(("127.0.0.1", ports[0])):
        reach.listen([Listen(ports[0], "tcp", frozenset({"w1"}))], 30)
        assert reach.listeners() == []
        assert (
            reach.try_all("w1", [Target("cp1", "127.0.0.1", 1500, (Port(ports[0], "tcp", "x", answers=False),))]) == []
        )


def test_a_datagram_port_in_use_is_not_shared(ports: tuple[int, int]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", ports[1]))
        reach.listen([Listen(ports[1], "udp", frozenset({"w1"}))], 30)
        assert reach.listeners() == []


def test_each_blocked_port_is_named_with_both_hosts_and_what_it_is_for(ports: tuple[int, int]) -> None:
    refused, unanswered = reach.try_all("w1", [target(ports)])
    assert refused.where == unanswered.where == "w1 to cp1"
    assert refused.found == f"port {ports[0]}/tcp of cp1 (127.0.0.1) cannot be reached from w1: Connection refused"
    assert refused.expected == "a free way for the API server"
    assert unanswered.found.endswith("no answer")


def test_a_packet_that_does_not_pass_whole_is_told_from_a_blocked_port(ports: tuple[int, int]) -> None:
    reach.listen(wanted(ports, "w1"), 30)
    # The loopback's own limit is 65536 bytes; a datagram that large and whole cannot be sent.
    (found,) = reach.try_all("w1", [target(ports, size=65600)])
    assert "packets of 65600 bytes do not arrive at cp1" in found.found
    assert "slipway_network.mtu" in found.remedy


def test_a_tunnel_is_open_if_its_other_end_reports_the_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    through = Target("w1", "10.0.0.51", 1500, (Port(8472, "udp", "pods", answers=False, through="127.0.0.3"),))
    port = free(socket.SOCK_DGRAM)
    monkeypatch.setattr(reach, "_DISCARD_PORT", port)
    (absent,) = reach.try_all("cp1", [through])
    assert absent.found.endswith("cannot be reached from cp1: nothing comes back through the tunnel"), (
        "no such interface"
    )
    monkeypatch.setattr(reach, "TUNNEL", "lo")
    assert reach.try_all("cp1", [through]) == []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.5", port))
        (silent,) = reach.try_all("cp1", [through])
    assert silent.where == "cp1 to w1"
    assert silent.found.startswith("port 8472/udp of w1 (10.0.0.51) cannot be reached from cp1")
    assert silent.expected == "a free way for pods"


def test_a_port_that_drops_costs_its_seconds_once(monkeypatch: pytest.MonkeyPatch, ports: tuple[int, int]) -> None:
    monkeypatch.setattr(reach, "CONNECT_SECONDS", 0.5)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as full:
        # A queue that is full answers no further call.
        full.bind(("127.0.0.1", ports[0]))
        full.listen(0)
        callers = [socket.socket(socket.AF_INET, socket.SOCK_STREAM) for _number in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", ports[0]))
        begin = time.monotonic()
        found = reach.try_all(
            "w1", [Target("cp1", "127.0.0.1", 1500, (Port(ports[0], "tcp", "x", answers=False),) * 9)]
        )
        assert time.monotonic() - begin < 9 * 0.5, "all at the same time"
        for caller in callers:
            caller.close()
    assert len(found) == 9
    assert all(each.found.endswith("no answer within 0.5 s") for each in found)


def test_the_disk_is_measured_where_the_directory_will_be(tmp_path: pathlib.Path) -> None:
    seconds = reach.fsync_seconds(str(tmp_path / "not" / "yet"))
    assert seconds > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("took", "budget"), [(0.06, 0.1), (0.06, 0.0), (0.003, 0.05)])
def test_a_disk_that_is_too_slow_for_many_writes_has_a_figure(
    took: float, budget: float, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "FSYNC_SECONDS", budget)
    monkeypatch.setattr("os.fdatasync", lambda _file: time.sleep(took))
    assert reach.fsync_seconds(str(tmp_path)) >= took


def test_of_resolvers_one_answer_is_enough() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert reach.silent(["127.0.0.254", "::1"]) == ["127.0.0.254", "::1"]
    assert reach.silent([]) == []


@pytest.mark.parametrize(("seconds", "found"), [(0.01, []), (0.052, ["1 % of small writes took 52 ms"])])
def test_a_slow_disk_is_a_warning_with_its_figure(seconds: float, found: list[str]) -> None:
    told = slow_disk("cp1", "/var/lib/etcd", seconds)
    assert [each.found.partition(" or more")[0] for each in told] == found
    assert all(each.warning for each in told)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.5], 0.5), ([1.0] * 12 + [2.0], 2.0), ([0.0] * 99 + [5.0], 5.0), ([float(n) for n in range(200)], 198.0)],
)
def test_percentile(values: list[float], expected: float) -> None:
    assert percentile(values, 0.99) == expected


def test_silent_resolvers_are_a_warning() -> None:
    assert silent_resolvers([]) == []
    (told,) = silent_resolvers(["10.0.0.53", "10.0.0.54"])
    assert told.warning
    assert told.found == "no answer from 10.0.0.53, 10.0.0.54"


def call(capsys: pytest.CaptureFixture[str], *, check: bool = False, **arguments: t.Any) -> dict[str, t.Any]:
    with patch_module_args({**arguments, "_ansible_check_mode": check}), pytest.raises(SystemExit):
        module.main()
    return t.cast("dict[str, t.Any]", json.loads(capsys.readouterr().out))


def test_the_module_listens_and_tries_but_not_in_check_mode(
    capsys: pytest.CaptureFixture[str], ports: tuple[int, int], tmp_path: pathlib.Path
) -> None:
    listen = [{"port": ports[0], "protocol": "tcp", "callers": ["w1"]}]
    port = {"port": ports[0], "protocol": "tcp", "purpose": "the API server", "answers": True}
    targets = [{"host": "cp1", "address": "127.0.0.1", "size": 1500, "ports": [port]}]
    assert call(capsys, check=True, step="try", name="w1", targets=targets)["problems"] == []
    refused = call(capsys, step="try", name="w1", targets=targets)
    assert refused["failed"] is True
    assert refused["problems"][0]["where"] == "w1 to cp1"
    settled = call(capsys, step="try", name="w1", targets=targets, settled=True)
    assert settled["problems"] == [], "they would be said twice"
    assert settled["closed"] == [{**refused["problems"][0], "warning": True}]
    listening = call(capsys, step="listen", name="cp1", listen=listen, seconds=20, disk=str(tmp_path))
    assert all(problem["warning"] for problem in listening["problems"])
    assert call(capsys, step="try", name="w1", targets=targets)["problems"] == []
    assert gone()
