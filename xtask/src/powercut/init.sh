#!/bin/busybox sh
# The guest's first process: mounts the disk and serves the volume that is on it. It says on the
# console where it is; the host waits for these lines, and for the address that the server prints.
bb=/bin/busybox
$bb mount -t devtmpfs dev /dev
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t tmpfs tmp /tmp
while read -r module; do
    $bb insmod "/modules/$module.ko" || echo "guest: cannot load $module"
done < /modules/order
$bb ip link set lo up
$bb ip addr add 10.0.2.15/24 dev eth0
$bb ip link set eth0 up

echo "guest: mounting"
if ! $bb mount -t ext4 /dev/vda /disk; then
    echo "guest: cannot mount its disk"
    $bb poweroff -f
fi
echo "guest: opening"
. /serve
echo "guest: the server ended ($?)"
$bb sync
$bb poweroff -f
