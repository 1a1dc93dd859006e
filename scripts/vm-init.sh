#!/bin/busybox sh
# The guest's init, twice: in the initramfs it loads the modules and makes a real root of it
# (pivot_root refuses the initramfs), there it runs /payload/run and tells how that ended.
export PATH=/bin

if [ "$1" != root ]; then
    /bin/busybox --install -s /bin
    mount -t proc proc /proc
    mount -t devtmpfs devtmpfs /dev
    while read -r module; do insmod "/modules/$module" || echo "insmod $module: $?"; done </modules/order
    mount -t tmpfs -o size=75%,mode=755 tmpfs /root
    mkdir -p /root/proc /root/sys /root/dev /root/tmp /root/run /root/etc /root/root
    mkdir /root/usr
    ln -s ../bin /root/usr/bin
    cp -a /bin /init /payload /root/
    umount /proc /dev
    exec switch_root /root /init root
fi

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm /dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t mqueue mqueue /dev/mqueue
mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
mount --make-rshared /
ip link set lo up
hostname guest
echo guest >/etc/hostname
echo root:x:0:0:root:/root:/bin/sh >/etc/passwd
echo root:x:0: >/etc/group
mkswap /dev/vdb >/dev/null && swapon /dev/vdb

# Like a service of an ordinary host: not in the root cgroup, and its neighbours have controllers
# only if brig enables them.
mkdir -p /sys/fs/cgroup/tests/runner
echo $$ >/sys/fs/cgroup/tests/runner/cgroup.procs

# Ports 1 and 2 of the one virtio-serial device, whatever its own number is.
output=$(echo /dev/vport*p1) status=$(echo /dev/vport*p2)
{ /payload/run 2>&1; echo $? >/run/status; } | cat >"$output"
cat /run/status >"$status"
sync
echo o >/proc/sysrq-trigger
sleep 60
