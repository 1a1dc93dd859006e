#!/usr/bin/env bash
# vm-tests.sh TEST-BINARY [LIBTEST-ARGS…]: runs the integration tests, a static binary of them, in
# the guest of vm.sh, against the static binaries BRIG and BRIG_TEST_INIT. As cargo's runner it
# gets the test binary's path. VM_CACHE is where the guest is kept.
set -euo pipefail

binary=$(realpath "$1")
shift
here=$(cd "$(dirname "$0")" && pwd)
# A process costs up to 40 times what it does on the host. What is about many processes, and not
# about what the guest is there for, is for the host alone.
skipped=(
    crash::                     # kills brig at each of its system calls
    run::three_hundred_runs     # 300 runs
    invalid::                   # exact lines, with the paths of the host's cgroups
    netdev::                    # makes devices by iproute2 and the veth module
    idmap::files_have           # tmpfs has no id-mapped mounts before Linux 6.3
    idmap::in_a_user_namespace  # the same
    idmap::ridmap               # the same
    mounts_show_in_the_container_alone  # mounts attached nowhere need Linux 6.15
    hooks::a_hook_has_exactly   # its shell is run by another name, by which busybox would go
)

payload=$(mktemp -d "$VM_CACHE/payload.XXXXXX")
trap 'rm -rf --one-file-system "$payload"' EXIT
mkdir "$payload/payload"
cp "$binary" "$payload/payload/integration"
cp "$BRIG" "$payload/payload/brig"
cp "$BRIG_TEST_INIT" "$payload/payload/brig-test-init"
{
    echo "#!/bin/sh"
    echo "mkdir /data && mount -t ext4 /dev/vda /data && cd /payload || exit"
    echo "export BRIG=/payload/brig BRIG_TEST_INIT=/payload/brig-test-init"
    echo "export BRIG_TEST_DIR=/data BRIG_TEST_DISK=/dev/vdc"
    printf '%q ' exec ./integration "${skipped[@]/#/--skip=}" "$@"; echo
} >"$payload/payload/run"
chmod 755 "$payload/payload/run"
echo "in the guest without: ${skipped[*]}"
"$here/vm.sh" "$VM_CACHE" "$payload"
