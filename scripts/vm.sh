#!/usr/bin/env bash
# vm.sh [--systemd] CACHE PAYLOAD: boots a machine of Debian's cloud kernel with cgroup2 alone, or
# with CGROUPS=v1 with a hierarchy of cgroup v1 for each controller, runs there what the directory
# PAYLOAD has as payload/run, shows its output and exits with its status;
# 125 and the console's last lines when the machine told none.
#
# Without --systemd its userland is busybox in memory, and payload/run all that runs; with it, the
# Debian of vm-image.sh, and payload/run is a service of root's. Both can write to all their files,
# and forget it. Everything comes from apt packages; what is made of them is kept in CACHE. The
# guest has no network and no share of the host's files. VM_ARCH=aarch64 is another processor than this
# machine's, without --systemd. KERNEL=… takes another package than linux-image-cloud-amd64,
# SUITE=bookworm-backports takes it from a suite that this machine's apt need not know, SECONDS_MAX=… is
# another deadline, PACKAGES=… are more packages for the image, GUEST=trixie makes the image of another Debian
# than this machine's, FILES=DIR is what /dev/vda has. LSM=selinux has SELinux in force with --systemd,
# permissive, by Debian's policy, instead of AppArmor.
set -euo pipefail

processor=${VM_ARCH:-$(uname -m)}
# Debian's name of the architecture, QEMU's machine, the CPU under TCG, the console.
case $processor in
    # Under TCG, cx16 crashes newer kernels at random (QEMU 7.2).
    x86_64) debian=amd64 machine=q35 cpu=max,-cx16 console=ttyS0 ;;
    # Features of newer CPUs, e.g. pointer authentication, take most of the time under TCG.
    aarch64) debian=arm64 machine=virt cpu=cortex-a72 console=ttyAMA0 ;;
    *) echo "vm.sh: not written for $processor" >&2; exit 125 ;;
esac
foreign=
[ "$processor" = "$(uname -m)" ] || foreign=$debian
here=$(cd "$(dirname "$0")" && pwd)
systemd=
if [ "$1" = --systemd ]; then systemd=1; shift; fi
[ -z "$systemd" ] || [ -z "$foreign" ] || { echo "vm.sh: --systemd is only for this machine's processor" >&2; exit 125; }
cache=$1 payload=$2
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
kernel=${KERNEL:-linux-image-cloud-$debian}
packages="systemd systemd-sysv dbus dbus-user-session libpam-systemd apparmor uidmap procps kmod"
packages+=" iproute2 busybox-static selinux-policy-default${PACKAGES:+ $PACKAGES}"
# In the order of their dependencies.
modules=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci
    overlay virtio_blk virtio_console dummy)
# Modules with which CRIU inspects sockets and network namespaces, if the kernel has them.
for_criu=(libcrc32c nfnetlink nf_tables nf_defrag_ipv4 nf_defrag_ipv6 nf_conntrack nf_conntrack_netlink
    unix_diag inet_diag tcp_diag udp_diag raw_diag netlink_diag af_packet_diag)

# apt, with separate lists for another suite or architecture.
apt=()
suite=${SUITE:-${foreign:+$(. /etc/os-release && echo "$VERSION_CODENAME")}}
if [ -n "$suite" ]; then
    lists=$cache/apt-$suite
    mkdir -p "$lists/partial"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
        >"$lists.list"
    apt=(-o "Dir::Etc::SourceList=$lists.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State::Lists=$lists" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
        -o "APT::Architecture=$debian" -o "APT::Architectures=$debian")
    apt-get -qq "${apt[@]}" -o APT::Sandbox::User=root update
fi
depends() { apt-cache "${apt[@]}" depends "$kernel" | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1; }
kernel_image=$(depends)
if [ -z "$kernel_image" ]; then
    "${as_root[@]}" apt-get -qq update
    kernel_image=$(depends)
fi
[ -n "$kernel_image" ] || { echo "vm.sh: apt knows no $kernel" >&2; exit 125; }
candidate() { apt-cache "${apt[@]}" policy "$1" | sed -n 's/.*Candidate: //p'; }
version=$(candidate "$kernel_image")

# The kernel, and an initramfs with busybox, its modules and the init script.
build_kernel() {
    local work=$1 module file
    mkdir -p "$work/deb" "$work/root/bin" "$work/root/modules"
    (
        cd "$work/deb"
        apt-get -qq "${apt[@]}" -o APT::Sandbox::User=root download "$kernel_image=$version" ${foreign:+busybox-static}
        for file in *.deb; do dpkg-deb -x "$file" .; done
    )
    mv "$work/deb/boot/vmlinuz-"* "$work/vmlinuz"
    mkdir -p "$work"/root/{proc,sys,dev,root,run,payload}
    for module in "${modules[@]}" "${for_criu[@]}"; do
        # Built into newer kernels.
        ! grep -q "/$module.ko\$" "$work"/deb/lib/modules/*/modules.builtin || continue
        file=$(find "$work/deb/lib/modules" -name "$module.ko*" | head -n 1)
        [ -n "$file" ] || [[ " ${for_criu[*]} " != *" $module "* ]] || continue
        [ -n "$file" ] || { echo "vm.sh: $kernel_image has no module $module" >&2; return 1; }
        case $file in
            *.xz) busybox xz -dc "$file" >"$work/root/modules/$module.ko" ;;
            *) cp "$file" "$work/root/modules/$module.ko" ;;
        esac
        echo "$module.ko" >>"$work/root/modules/order"
    done
    if [ -n "$foreign" ]; then file=$(find "$work/deb" -path '*bin/busybox'); else file=/bin/busybox; fi
    cp "$file" "$work/root/bin/busybox"
    install -m 755 "$here/vm-init.sh" "$work/root/init"
    install -m 755 "$here/vm-run.sh" "$work/root/vm-run"
    (cd "$work/root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initrd"
    rm -rf --one-file-system "$work/deb" "$work/root"
}

build_image() {
    "${as_root[@]}" env PACKAGES="$packages" GUEST="${GUEST:-}" "$here/vm-image.sh" "$1" "$1/disk" || return
    "${as_root[@]}" rm -rf --one-file-system "$1/root"
}

# cached KIND KEY: prints CACHE/KIND-HASH, created by build_KIND if it is missing; older ones are removed.
cached() {
    local kind=$1 dir
    dir=$cache/$kind-$(sha256sum <<<"$2" | cut -c 1-16)
    (
        flock 9
        [ ! -d "$dir" ] || exit 0
        echo "vm: making its $kind" >&2
        "${as_root[@]}" rm -rf --one-file-system "$cache/$kind".new "$cache/$kind"-????????????????
        mkdir "$cache/$kind.new"
        # Not `if build`, which would disable errexit.
        build_"$kind" "$cache/$kind.new"
        mv "$cache/$kind.new" "$dir"
    ) 9>"$cache/lock" || exit 125
    echo "$dir"
}
if [ -n "$foreign" ]; then busybox=$(candidate busybox-static); else busybox=$(dpkg-query --show --showformat '${Version}' busybox-static); fi
boot=$(cached kernel "$kernel_image $version $busybox $(cat "$0" "$here/vm-init.sh" "$here/vm-run.sh")")
[ -z "$systemd" ] || image=$(cached image "${GUEST:-} $packages $(cat "$here/vm-image.sh")")

run=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf --one-file-system "$run"' EXIT
{ cat "$boot/initrd"; (cd "$payload" && find . | cpio --quiet -o -H newc -R 0:0); } >"$run/initrd"
truncate -s 64M "$run/disk" "$run/swap"
truncate -s 512M "$run/files"
/sbin/mke2fs -q -t ext4 -O ^has_journal ${FILES:+-d "$FILES"} "$run/files"

# A stock kernel does not boot with this host's kind of paravirtualised KVM.
accel=tcg,thread=multi
if [ -z "$foreign" ] && [ -w /dev/kvm ] && [ ! -e /sys/module/kvm_pvm ]; then accel=kvm cpu=host; fi

# /dev/vda: an ext4 with only FILES; /dev/vdb: swap; /dev/vdc: for tests to read from; /dev/vdd: systemd's
# root.
disks=()
disk() {
    disks+=(-drive "file=$2,if=none,id=$1,format=raw,cache=unsafe,snapshot=on"
        -device "virtio-blk-pci,drive=$1")
}
for name in files swap disk; do disk "$name" "$run/$name"; done
[ -z "$systemd" ] || disk root "$image/disk"
# Two memory nodes, for policies with several nodes.
memory=${MEMORY:-1024} nodes=()
for node in 0 1; do
    nodes+=(-object "memory-backend-ram,id=memory$node,size=$((memory / 2))M"
        -numa "node,nodeid=$node,cpus=$node,memdev=memory$node")
done
# A busy host's timer can seem broken to a kernel that checks it.
options="console=$console no_timer_check quiet panic=-1 mitigations=off psi=1"
unified=1
case ${CGROUPS:-v2} in
    # The kernel passes unknown options to init.
    v1) unified=0 options+=" systemd.legacy_systemd_cgroup_controller=1 cgroups=v1" ;;
    *) options+=" cgroup_no_v1=all" ;;
esac
# Without systemd's userland, apparmor_parser is missing.
case $systemd in
    1) options+=" systemd.unified_cgroup_hierarchy=$unified systemd.show_status=0"
        options+=" ${LSM:-apparmor}=1 security=${LSM:-apparmor}" ;;
    *) options+=" apparmor=0" ;;
esac
qemu=(
    -M "$machine" -accel "$accel" -cpu "$cpu" -smp 2 -m "$((memory / 2 * 2))" "${nodes[@]}"
    -nodefaults -no-user-config -display none -no-reboot
    -kernel "$boot/vmlinuz" -initrd "$run/initrd"
    -append "$options"
    -serial "file:$run/console"
    "${disks[@]}"
    -device virtio-serial-pci
    # Append, and use cat: a stdio chardev at the end of its input would block the guest, and a plain file as
    # stdout would be overwritten.
    -chardev file,id=out,path=/dev/stdout,append=on -device virtserialport,chardev=out,nr=1
    -chardev "file,id=status,path=$run/status" -device virtserialport,chardev=status,nr=2
)
ended=0
seconds=${SECONDS_MAX:-$([ -n "$foreign" ] && echo 2400 || echo 1200)}
timeout --kill-after 10 "$seconds" "qemu-system-$processor" "${qemu[@]}" </dev/null | cat || ended=$?
status=$(cat "$run/status" 2>/dev/null || true)
if [[ ! $status =~ ^[0-9]+$ ]]; then
    echo "vm: the guest told no exit status (qemu ended with $ended); its console's last lines:" >&2
    tail -n 40 "$run/console" >&2 || true
    exit 125
fi
exit "$status"
