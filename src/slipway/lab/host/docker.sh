#!/bin/sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# mmdebstrap's customize hook for Docker hosts: the packages are installed ($1 is the root), and nobody has set Docker up.
set -eu
systemctl --root "$1" disable docker.service docker.socket containerd.service
