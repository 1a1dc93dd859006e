#!/bin/busybox sh
# The guest's init, in the initramfs: loads the modules and switches to a real root, because pivot_root
# refuses the initramfs. That is systemd's if the machine has a disk with one (/dev/vdd), or else a tmpfs in
# which this file is init again.
export PATH=/bin

if [ "$1" != root ]; then
    /bin/busybox --install -s /bin
    mount -t proc proc /proc
    mount -t devtmpfs devtmpfs /dev
    while read -r module; do insmod "/modules/$module" || echo "insmod $module: $?"; done </modules/order
    # Below it is what the kernel unpacked from the payload.
    if [ -b /dev/vdd ]; then
        mount -t ext4 /dev/vdd /root
        mkdir -p /root/payload
        mount -t tmpfs -o size=75%,mode=755 tmpfs /root/payload
        cp -a /payload/. /vm-run /root/payload/
        umount /proc /dev
        exec switch_root /root /sbin/init
    fi
    mount -t tmpfs -o size=75%,mode=755 tmpfs /root
    mkdir -p /root/proc /root/sys /root/dev /root/tmp /root/run /root/etc /root/root /root/mnt
    mkdir /root/usr
    ln -s ../bin /root/usr/bin
    cp -a /bin /init /payload /root/
    cp /vm-run /root/payload/
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
if [ "$cgroups" = v1 ]; then
    mount -t tmpfs tmpfs /sys/fs/cgroup
    for controller in $(awk '/^[^#]/ && $4 == 1 { print $1 }' /proc/cgroups); do
        mkdir "/sys/fs/cgroup/$controller"
        mount -t cgroup -o "$controller" cgroup "/sys/fs/cgroup/$controller"
    done
    # Otherwise new cpusets are empty, and accept no processes.
    echo 1 >/sys/fs/cgroup/cpuset/cgroup.clone_children
else
    mount -t cgroup2 -o nsdelegate cgroup2 /sys/fs/cgroup
fi
mount --make-rshared /
ip link set lo up
hostname guest
echo guest >/etc/hostname
echo root:x:0:0:root:/root:/bin/sh >/etc/passwd
echo root:x:0: >/etc/group

# Like a service on a usual host: not in the root cgroup, and its siblings have controllers only if brig
# enables them.
for hierarchy in $(awk '$3 ~ "^cgroup" { print $2 }' /proc/mounts); do
    mkdir -p "$hierarchy/tests/runner"
    echo $$ >"$hierarchy/tests/runner/cgroup.procs"
done
exec /payload/vm-run
