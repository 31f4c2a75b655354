# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lab: systemd hosts in containers on one machine, reached over SSH like any other hosts.

Tests, drills and Molecule use the functions exported here; the command is in ``slipway.lab.commands``. Nothing
outside this package knows that the hosts are containers: what leaves it is an inventory.
"""

from __future__ import annotations

from slipway.lab.control import SshResult, down, labs, load, power, renew, ssh, status, up
from slipway.lab.model import Lab, LabHost, LabSpec

__all__ = ["Lab", "LabHost", "LabSpec", "SshResult", "down", "labs", "load", "power", "renew", "ssh", "status", "up"]
