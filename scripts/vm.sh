#!/usr/bin/env bash
# vm.sh CACHE PAYLOAD: boots a machine of Debian's cloud kernel with cgroup2 alone, runs there what
# the directory PAYLOAD has as payload/run, shows its output and exits with its status; 125 and the
# console's last lines when the machine told none.
#
# Everything comes from apt packages; what is made of them is kept in CACHE. The guest has no
# network and no share of the host's files. KERNEL=… takes another package than
# linux-image-cloud-amd64, SECONDS_MAX=… another deadline.
set -euo pipefail

[ "$(dpkg --print-architecture)" = amd64 ] || { echo "vm.sh: only written for amd64" >&2; exit 125; }
here=$(cd "$(dirname "$0")" && pwd)
cache=$1 payload=$2
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
kernel=${KERNEL:-linux-image-cloud-amd64}
# In the order in which they need each other.
modules=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci
    overlay virtio_blk virtio_console)

depends() { apt-cache depends "$kernel" | sed -n 's/.*Depends: \(linux-image-[0-9][^ ]*\).*/\1/p' | head -n 1; }
image=$(depends)
if [ -z "$image" ]; then
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get -qq update
    image=$(depends)
fi
[ -n "$image" ] || { echo "vm.sh: apt knows no $kernel" >&2; exit 125; }
version=$(apt-cache policy "$image" | sed -n 's/.*Candidate: //p')
busybox=$(dpkg-query --show --showformat '${Version}' busybox-static)
key=$(echo "$image $version $busybox" | cat - "$0" "$here/vm-init.sh" | sha256sum | cut -c 1-16)
base=$cache/$key

# The kernel, and an initramfs of busybox, its modules and the init script.
build() {
    local work=$base.new
    rm -rf --one-file-system "$work"
    mkdir -p "$work/deb" "$work/root/bin" "$work/root/modules"
    (cd "$work/deb" && apt-get -qq -o APT::Sandbox::User=root download "$image=$version")
    dpkg-deb -x "$work"/deb/*.deb "$work/deb"
    mv "$work/deb/boot/vmlinuz-"* "$work/vmlinuz"
    mkdir -p "$work"/root/{proc,sys,dev,root,run,payload}
    local module file
    for module in "${modules[@]}"; do
        # Newer kernels have some of them built in.
        ! grep -q "/$module.ko\$" "$work"/deb/lib/modules/*/modules.builtin || continue
        file=$(find "$work/deb/lib/modules" -name "$module.ko*" | head -n 1)
        [ -n "$file" ] || { echo "vm.sh: $image has no module $module" >&2; return 1; }
        case $file in
            *.xz) busybox xz -dc "$file" >"$work/root/modules/$module.ko" ;;
            *) cp "$file" "$work/root/modules/$module.ko" ;;
        esac
        echo "$module.ko" >>"$work/root/modules/order"
    done
    cp /bin/busybox "$work/root/bin/busybox"
    install -m 755 "$here/vm-init.sh" "$work/root/init"
    (cd "$work/root" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initrd"
    rm -rf --one-file-system "$work/deb" "$work/root"
    mv "$work" "$base"
}
if [ ! -d "$base" ]; then
    echo "vm: making the guest of $image $version"
    rm -rf --one-file-system "$cache"/????????????????
    build
fi

run=$(mktemp -d "$cache/run.XXXXXX")
trap 'rm -rf --one-file-system "$run"' EXIT
{ cat "$base/initrd"; (cd "$payload" && find . | cpio --quiet -o -H newc -R 0:0); } >"$run/initrd"
truncate -s 64M "$run/disk" "$run/swap"
truncate -s 512M "$run/files"
/sbin/mke2fs -q -t ext4 -O ^has_journal "$run/files"

# A stock kernel does not come up where KVM is this host's kind of paravirtualisation.
accel=tcg,thread=multi
if [ -w /dev/kvm ] && [ ! -e /sys/module/kvm_pvm ]; then accel=kvm; fi
# Under TCG, cx16 crashes newer kernels at random (QEMU 7.2).
cpu=max,-cx16
[ $accel != kvm ] || cpu=host

# /dev/vda: an empty ext4; /dev/vdb: swap; /dev/vdc: for the tests to read from.
disks=()
for disk in files swap disk; do
    disks+=(-drive "file=$run/$disk,if=none,id=$disk,format=raw,cache=unsafe"
        -device "virtio-blk-pci,drive=$disk")
done
machine=(
    -M q35 -accel "$accel" -cpu "$cpu" -smp 2 -m "${MEMORY:-1024}"
    -nodefaults -no-user-config -display none -no-reboot
    -kernel "$base/vmlinuz" -initrd "$run/initrd"
    -append "console=ttyS0 quiet panic=-1 mitigations=off psi=1 cgroup_no_v1=all"
    -serial "file:$run/console"
    "${disks[@]}"
    -device virtio-serial-pci
    # Append, and cat: a stdio chardev at the end of its input would block the guest, and a plain
    # file as stdout would be overwritten.
    -chardev file,id=out,path=/dev/stdout,append=on -device virtserialport,chardev=out,nr=1
    -chardev "file,id=status,path=$run/status" -device virtserialport,chardev=status,nr=2
)
ended=0
timeout --kill-after 10 "${SECONDS_MAX:-1200}" qemu-system-x86_64 "${machine[@]}" </dev/null | cat || ended=$?
status=$(cat "$run/status" 2>/dev/null || true)
if [[ ! $status =~ ^[0-9]+$ ]]; then
    echo "vm: the guest told no exit status (qemu ended with $ended); its console's last lines:" >&2
    tail -n 40 "$run/console" >&2 || true
    exit 125
fi
exit "$status"
