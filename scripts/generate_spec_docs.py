# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/spec.md and docs/spec.schema.json from the spec's definitions."""

from __future__ import annotations

import pathlib

from ansible_collections.slipway.cluster.plugins.plugin_utils.core.spec import documenting

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs"


def main() -> None:
    """Both files, from scratch."""
    (DOCS / "spec.md").write_text(documenting.markdown(), encoding="utf-8")
    (DOCS / "spec.schema.json").write_text(documenting.schema(), encoding="utf-8")


if __name__ == "__main__":
    main()
