#!/bin/sh
# Process 1 of the user-mode kernel that `run` boots: makes vcan0, runs the tests, keeps their exit code, powers off.
# LABD_ROOT, LABD_OUT and LABD_MODULES come from the kernel's command line; pytest's arguments from a file, a line each.
# The modules stand in the order of their dependencies.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 LABD_VCAN=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
# Not on /tmp: the checkout may be there.
mount -t tmpfs -o size=512m tmpfs /dev/shm
export TMPDIR=/dev/shm
for module in net/can/can net/can/can-raw net/can/can-bcm net/can/can-gw net/can/j1939/can-j1939 \
    drivers/net/can/dev/can-dev drivers/net/can/vcan drivers/net/can/slcan/slcan; do
    insmod "$LABD_MODULES/kernel/$module.ko"
done
ip link set lo up
ip link add dev vcan0 type vcan && ip link set vcan0 mtu 72 up
cd "$LABD_ROOT" && xargs -d '\n' .venv/bin/python -m pytest --color=no -p no:cacheprovider --timeout 400 tests/vcan <"$LABD_OUT/arguments"
echo $? >"$LABD_OUT/exit-code"
sync
echo o >/proc/sysrq-trigger
while :; do sleep 1; done
