#!/bin/sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# mmdebstrap's customize hook for the root ($1) that runs a virtual machine: puts the machine's kernel, initial
# ramdisk and disk there, made of the machine's root ($2).
set -eu
root=$1
guest=$2

mkdir "$root/machine"
cp "$guest"/boot/vmlinuz-* "$root/machine/vmlinuz"
cp "$guest"/boot/initrd.img-* "$root/machine/initrd.img"
mke2fs -q -t ext4 -d "$guest" "$root/machine/disk" 20G
# A copy without the empty parts, since archives of images know no holes.
chroot "$root" qemu-img convert -O qcow2 /machine/disk /machine/disk.qcow2
rm "$root/machine/disk"
