#!/usr/bin/env bash
# test-deb.sh DEB DIR: installs the Debian package by apt in a new Debian, created in DIR by mmdebstrap, and
# makes podman run a container with brig there.
set -euo pipefail

deb=$(realpath "$1") dir=$2
mkdir -p "$dir"
dir=$(realpath "$dir")
version=$(dpkg-deb --field "$deb" Version)
debian=$(. /etc/os-release && echo "$VERSION_CODENAME")
[ -f "$dir/podman.tar" ] || {
    mmdebstrap --quiet --variant=apt --format=tar --include=podman,crun,busybox-static "$debian" "$dir/podman.tar.new"
    mv "$dir/podman.tar.new" "$dir/podman.tar"
}
# Mounts there end with this mount namespace.
[ "${INSIDE:-}" ] || INSIDE=1 exec unshare --mount --pid --fork --kill-child --propagation private "$0" "$deb" "$dir"

root=$dir/root
mkdir -p "$root"
mount -t tmpfs -o mode=755 root "$root"
tar -C "$root" -xf "$dir/podman.tar"
cp "$deb" "$root/root"
mount -t proc proc "$root/proc"
mount --rbind /sys "$root/sys"
mount --rbind /dev "$root/dev"
mount -t tmpfs run "$root/run"
inside() { chroot "$root" env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }

inside sh -ec "cd /root && apt-get -qq install ./$(basename "$deb")"
inside brig --version | grep -F "brig version $version"
# As described in /usr/share/doc/brig/engines.md, and without cgroups, which would be this machine's.
cat >"$root/etc/containers/containers.conf" <<END
[containers]
netns = "none"
cgroups = "disabled"
[engine]
runtime = "brig"
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["brig", "crun", "runc", "kata", "runsc", "youki", "krun"]
runtime_supports_nocgroup = ["brig", "crun", "krun"]
[engine.runtimes]
brig = ["/usr/bin/brig"]
END
mkdir -p "$root/root/box/bin"
cp "$root/bin/busybox" "$root/root/box/bin/sh"
# Not every kernel supports overlay on tmpfs.
podman() { inside podman --storage-driver vfs "$@"; }
tar -C "$root/root/box" -cf "$root/root/box.tar" .
podman import --quiet /root/box.tar box >/dev/null
name=$(podman info --format '{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}')
[ "$name" = 'brig /usr/bin/brig' ] || { echo "podman's runtime is $name" >&2; exit 1; }
said=$(podman run --rm --hostname installed box sh -c 'echo "pid $$ on $(hostname)"')
[ "$said" = 'pid 1 on installed' ] || { echo "the container said: $said" >&2; exit 1; }
podman run --detach --quiet --name two box sh -c 'sleep 60' >/dev/null
inside brig list
[ "$(podman exec two sh -c 'echo executed')" = executed ]
podman rm --force --time 0 two >/dev/null
inside apt-get -qq remove brig
[ ! -e "$root/usr/bin/brig" ] && [ -x "$root/usr/bin/crun" ]
echo "test-deb: $(basename "$deb") installed, podman ran containers with brig, removed"
