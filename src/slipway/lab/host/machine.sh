#!/bin/sh
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# First process of a lab host that is a virtual machine: gives the machine the container's place in the network and
# becomes QEMU. So the host is off when the container is, and killing the container cuts the host's power.
set -eu
exec 2>&1

disk=/var/disk
if [ ! -e "$disk" ]; then
    qemu-img convert -O raw /machine/disk.qcow2 "$disk.new"
    mv "$disk.new" "$disk"
fi
tar -cf /run/seed.tar -C /mnt . -C /etc resolv.conf

address=$(cat /sys/class/net/eth0/address)
ip address flush dev eth0
ip link set eth0 address "02:52:${address#02:51:}"
ip link add lab type bridge
ip tuntap add machine mode tap
for port in eth0 machine; do
    ip link set "$port" master lab up
done
ip link set lab up

# A machine that is virtual itself may have /dev/kvm and no virtualisation in its processor: what that offers does not
# carry a kernel. Emulated processors are quicker without what they would only imitate at length: vector registers for
# checksums, microcode for copies, and a new layout of memory for every program.
accelerator=tcg,thread=multi
processor=max,-avx,-avx2,-erms,-fsrm
settings="root=/dev/vda rw init=/usr/sbin/slipway-lab-init net.ifnames=0 console=ttyS0 panic=5"
if [ -e /dev/kvm ] && grep -qwE 'svm|vmx' /proc/cpuinfo; then
    accelerator=kvm
    processor=host
else
    settings="$settings norandmaps"
fi
echo "accelerator: $accelerator"

mkfifo /run/monitor.in /run/monitor.out
exec qemu-system-x86_64 -name "$(hostname)" -machine q35 -accel "$accelerator" -cpu "$processor" -smp 2 -m 4096 \
    -nodefaults -no-user-config -display none -serial file:/dev/stdout \
    -chardev pipe,id=monitor,path=/run/monitor -mon chardev=monitor \
    -drive "if=none,id=root,file=$disk,format=raw" -device virtio-blk-pci,drive=root \
    -drive if=none,id=seed,file=/run/seed.tar,format=raw,readonly=on -device virtio-blk-pci,drive=seed \
    -netdev tap,id=net,ifname=machine,script=no,downscript=no -device "virtio-net-pci,netdev=net,mac=$address" \
    -device virtio-rng-pci \
    -kernel /machine/vmlinuz -initrd /machine/initrd.img -append "$settings"
