#!/bin/sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# mmdebstrap's customize hook: turns a fresh root ($1) into that of a lab host.
set -eu
root=$1

# Identity belongs to a host, not to the image. An empty machine-id also keeps systemd from seeing a first boot,
# which would enable every unit again.
rm -f "$root"/etc/ssh/ssh_host_*
: > "$root/etc/machine-id"
rm -f "$root/var/lib/dbus/machine-id"

if [ -e "$root/usr/lib/systemd/system/haproxy.service" ] || [ -e "$root/lib/systemd/system/haproxy.service" ]; then
    systemctl --root "$root" disable haproxy.service
fi

# Timers that take the package lock at any moment.
systemctl --root "$root" mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer

mkdir -p "$root/etc/systemd/journald.conf.d" "$root/var/log/journal"
cat > "$root/etc/systemd/journald.conf.d/slipway-lab.conf" <<'EOF'
[Journal]
Storage=persistent
SystemMaxUse=200M
EOF

# Many Ansible connections at once; no reverse lookups on hosts without DNS.
mkdir -p "$root/etc/ssh/sshd_config.d"
cat > "$root/etc/ssh/sshd_config.d/slipway-lab.conf" <<'EOF'
PermitRootLogin prohibit-password
PasswordAuthentication no
UseDNS no
MaxStartups 100:30:200
MaxSessions 100
HostKey /etc/ssh/ssh_host_ed25519_key
EOF
