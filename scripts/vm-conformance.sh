#!/usr/bin/env bash
# vm-conformance.sh CHECKOUT BRIG [REFERENCE]: conformance.sh in the guest of vm.sh with systemd, AppArmor,
# all capabilities, and cgroup v1 with every controller: for programs that need features a host may not have.
# REFERENCE is the name of a Debian package and of its program. VM_CACHE is the directory for the guest.
set -euo pipefail

suite=$(realpath "$1") brig=$(realpath "$2") reference=${3-}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$VM_CACHE"
payload=$(mktemp -d "$VM_CACHE/payload.XXXXXX")
trap 'rm -rf --one-file-system "$payload"' EXIT
mkdir "$payload/payload"
cp "$brig" "$payload/payload/brig"
cp "$here/conformance.sh" "$payload/payload"
# The profile that the suite uses, which allows everything.
cat >"$payload/payload/run" <<END
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LOGS=/run/logs FLOOR=${FLOOR:-40} PATIENCE=300 TELL=1 ONLY='${ONLY-}'
echo 'profile acme_secure_profile flags=(attach_disconnected) { file, capability, network, mount, umount, signal, ptrace, unix, pivot_root, }' |
    apparmor_parser --replace
mkdir /data && mount -o ro /dev/vda /data && /payload/conformance.sh /data /payload/brig $reference
END
chmod 755 "$payload/payload/run"
export CGROUPS=v1 FILES=$suite PACKAGES=$reference SECONDS_MAX=${SECONDS_MAX:-3600}
"$here/vm.sh" --systemd "$VM_CACHE" "$payload"
