#!/usr/bin/env bash
# vm-image.sh DIRECTORY IMAGE: creates an ext4 image of a small Debian with systemd, D-Bus, logind, AppArmor,
# an SELinux policy and an unprivileged lingering user. As root; DIRECTORY is for temporary files.
#
# The user is `tester`, uid 1000, with 65536 ids from 100000 on. Their user session is started at boot, with
# all controllers delegated to it. /payload/run is a service of the system instance. PACKAGES are additional
# packages for vm.sh, GUEST selects the Debian if it is not this machine's.
set -euo pipefail

root=$1/root image=$2
log=$1/log
suite=${GUEST:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
# This machine's Debian mirror, without other sources that it may have.
sources="deb http://deb.debian.org/debian $suite main"
[ -n "${GUEST:-}" ] || sources=$(apt-get indextargets --format '$(ORIGIN) $(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)' |
    sed -n 's/^Debian Packages /deb /p' | sort -u)
[ -n "$sources" ] || { echo "vm-image.sh: apt has no sources of Debian" >&2; exit 1; }
mmdebstrap --mode=root --variant=minbase --include="${PACKAGES// /,}" "$suite" "$root" - \
    <<<"$sources" >"$log" 2>&1 || { tail -n 40 "$log" >&2; exit 1; }

write() { mkdir -p "$(dirname "$root$1")" && cat >"$root$1"; }
echo guest | write /etc/hostname
echo "127.0.0.1 localhost guest" | write /etc/hosts
: | write /etc/machine-id
chroot "$root" useradd --create-home --uid 1000 --shell /bin/bash tester
for file in subuid subgid; do echo tester:100000:65536 | write /etc/$file; done
: | write /var/lib/systemd/linger/tester
# If the kernel has SELinux enabled: the files have no labels, so enforcing is not possible.
printf '%s\n' SELINUX=permissive SELINUXTYPE=default | write /etc/selinux/config
write /etc/systemd/system/user@.service.d/delegate.conf <<END
[Service]
Delegate=cpu cpuset io memory pids
END
write /etc/systemd/system/payload.service <<END
[Unit]
After=multi-user.target dbus.service systemd-logind.service user@1000.service
Requires=dbus.service user@1000.service
[Service]
# All controllers are available to cgroups created next to systemd's own.
Delegate=yes
ExecStart=/payload/vm-run
TasksMax=infinity
KillMode=process
END
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s ../payload.service "$root/etc/systemd/system/default.target.wants/payload.service"
ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
# Services that take long, because a process costs 40 times as much here, and are only useful on real
# machines.
for unit in apparmor.service systemd-udevd.service systemd-udev-trigger.service \
    systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-hwdb-update.service \
    systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service \
    systemd-tmpfiles-clean.timer systemd-sysusers.service systemd-random-seed.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service systemd-binfmt.service \
    systemd-timesyncd.service systemd-pstore.service systemd-firstboot.service \
    systemd-machine-id-commit.service systemd-rfkill.service systemd-rfkill.socket \
    getty@tty1.service serial-getty@ttyS0.service getty.target apt-daily.timer \
    apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
    fstrim.timer modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service \
    modprobe@efi_pstore.service modprobe@fuse.service modprobe@loop.service \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount \
    podman-restart.service podman-auto-update.timer podman-clean-transient.service \
    systemd-journal-flush.service systemd-ask-password-console.path \
    systemd-ask-password-wall.path; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
write /etc/systemd/journald.conf.d/volatile.conf <<END
[Journal]
Storage=volatile
END

truncate -s 1500M "$image"
/sbin/mke2fs -q -t ext4 -O ^has_journal -d "$root" "$image"
