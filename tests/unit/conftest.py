# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Properties are about what is true, not about how fast a busy machine finds out."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("slipway", deadline=None)
hypothesis.settings.load_profile("slipway")
