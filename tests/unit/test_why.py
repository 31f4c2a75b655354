# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why tests failed, in few lines."""

from __future__ import annotations

import pytest

from tests.conftest import LONGEST, condensed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("one", ["one"]),
        ("one\n\n  \ntwo  ", ["one", "two"]),
        ("\n".join("abcde"), ["a", "b", "c", "d", "e"]),
        ("\n".join("abcdefgh"), ["a", "b", "... 3 lines ...", "f", "g", "h"]),
        ("x" * 1000, ["x" * LONGEST]),
    ],
)
def test_first_and_last_lines_are_kept(text: str, expected: list[str]) -> None:
    assert condensed(text, 2, 3) == expected
