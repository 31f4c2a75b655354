#!/bin/sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# First process of a lab host: makes a fresh root look like a machine that was installed and given an SSH key,
# then becomes systemd. Runs at each start; what a machine would keep is written at the first one only.
set -eu
exec 2>&1

seed=/mnt
marker=/etc/.slipway-lab-seeded

# podman binds these files from outside, and a bound file cannot be replaced by rename.
for name in hosts hostname resolv.conf; do
    [ -e "/etc/$name" ] || continue
    cp "/etc/$name" "/run/slipway-lab-$name"
    umount "/etc/$name" 2>/dev/null || continue
    [ -e "$marker" ] || cp "/run/slipway-lab-$name" "/etc/$name"
done

if [ ! -e "$marker" ]; then
    cp "$seed/hosts" "$seed/hostname" "$seed/machine-id" /etc/
    install -d -m 0700 /root/.ssh
    install -m 0600 "$seed/authorized_keys" /root/.ssh/authorized_keys
    install -m 0600 "$seed/ssh_host_ed25519_key" /etc/ssh/
    install -m 0644 "$seed/ssh_host_ed25519_key.pub" /etc/ssh/
    if [ -e "$seed/lab.network" ]; then
        cp "$seed/resolv.conf" /etc/
        cp "$seed/lab.network" /etc/systemd/network/
    fi
    touch "$marker"
fi
# An isolated host has no way out. The machine must still reach it, so its bridge keeps an address (podman's own
# internal networks take it away), and the host gives up the default route instead, at each start.
if [ -e "$seed/isolated" ] && [ ! -e "$seed/lab.network" ]; then
    ip route del default
fi

# This script itself lies there: lazily, then.
umount -l "$seed"
rm -f /run/slipway-lab-*

# On a machine systemd makes every mount shared; in a container it leaves them private.
mount --make-rshared /

exec /sbin/init
