# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""As the action ``host``: a host may have waited long for others before its first component."""

from __future__ import annotations

from ansible_collections.slipway.cluster.plugins.action.host import ActionModule

__all__ = ["ActionModule"]
