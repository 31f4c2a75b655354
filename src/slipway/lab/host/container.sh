#!/bin/sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# mmdebstrap's customize hook for hosts that are containers: nothing in the root ($1) reaches through to the machine.
set -eu
root=$1

# Units that reach the machine's own kernel, terminals and binary formats.
systemctl --root "$root" mask \
    getty.target console-getty.service getty@tty1.service \
    systemd-binfmt.service proc-sys-fs-binfmt_misc.automount proc-sys-fs-binfmt_misc.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount

# Debian's own kernel settings would be written to the machine's kernel; files that are added later still count.
mkdir -p "$root/etc/sysctl.d"
for file in "$root"/usr/lib/sysctl.d/*.conf; do
    [ -e "$file" ] && ln -sf /dev/null "$root/etc/sysctl.d/$(basename "$file")"
done

echo "ReadKMsg=no" >> "$root/etc/systemd/journald.conf.d/slipway-lab.conf"
