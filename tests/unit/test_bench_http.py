# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is made of wrk's words."""

from __future__ import annotations

import dataclasses

import pytest

from scripts import bench_http

SAID = """Running 10s test @ http://127.0.0.1/hostname
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.06ms    3.35ms  55.98ms   88.10%
    Req/Sec     6.51k   520.45     7.62k    70.00%
  Latency Distribution
     50%  950.00us
     75%    3.43ms
     90%    6.69ms
     99%    1.02s
  64788 requests in 10.01s, 9.45MB read
{more}Requests/sec:   6472.36
Transfer/sec:      0.94MB
"""
ERRORS = "  Socket errors: connect 1, read 2, write 0, timeout 3\n  Non-2xx or 3xx responses: 40\n"


def test_its_figures_are_read_in_milliseconds() -> None:
    found = bench_http.parse("a", SAID.format(more=""), 0.26)
    assert found == bench_http.Measurement("a", 6472.36, 0.95, 1020.0, 0, 0.3)


def test_what_failed_is_counted() -> None:
    assert bench_http.parse("a", SAID.format(more=ERRORS), 0).failed == 46


def test_other_words_are_no_measurement() -> None:
    with pytest.raises(ValueError, match="unable to connect"):
        bench_http.parse("a", "unable to connect to 127.0.0.1:80 Connection refused\n", 0)


def test_ways_are_compared_by_medians() -> None:
    one = bench_http.Measurement("NodePort", 1000.0, 1.0, 9.0, 0, 0)
    other = bench_http.Measurement("Traefik", 400.0, 2.0, 30.0, 2, 0)
    found = [one, dataclasses.replace(one, per_second=3000.0), dataclasses.replace(one, per_second=800.0), other]
    text = [line.split() for line in bench_http.rows(found)[1:]]
    assert text == [["NodePort", "1000", "1.0", "9.0", "0", "1.00"], ["Traefik", "400", "2.0", "30.0", "2", "0.40"]]
