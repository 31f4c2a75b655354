#!/bin/sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# mmdebstrap's customize hook for hosts that are virtual machines: the root ($1) is to start on a disk of its own.
set -eu
root=$1

echo "/dev/vda / ext4 errors=remount-ro 0 1" > "$root/etc/fstab"
systemctl --root "$root" enable systemd-networkd.service

# What a lab gives a host at its first start comes as an archive on a second disk.
cat > "$root/usr/sbin/slipway-lab-init" <<'EOF'
#!/bin/sh
set -eu
mount -t tmpfs tmpfs /mnt
tar -xf /dev/vdb -C /mnt
exec /bin/sh /mnt/init.sh
EOF
chmod 0755 "$root/usr/sbin/slipway-lab-init"
