#!/usr/bin/env bash
# vm-tests.sh TEST-BINARY [LIBTEST-ARGS…]: runs the integration tests, a static binary of them, in
# the guest of vm.sh, against the static binaries BRIG and BRIG_TEST_INIT. As cargo's runner it
# gets the test binary's path. VM_CACHE is where the guest is kept; VM_FLAVOUR=--systemd is the one
# with systemd, where only those tests run that are about it, unless others are named; with LSM=selinux too, those
# about SELinux. CGROUPS=v1 and LSM are vm.sh's. CRIU_SUITE=bookworm takes CRIU 3.17 of that suite instead of trixie's.
#
# VM_COMMAND='systemctl status; brig --version' has the guest's root run that instead of the tests:
# `VM_COMMAND=… make test-vm-systemd`. For a quick look with debug builds, leave make out:
#   export RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' T=x86_64-unknown-linux-gnu
#   export BRIG=$CARGO_TARGET_DIR/$T/debug/brig BRIG_TEST_INIT=$CARGO_TARGET_DIR/$T/debug/brig-test-init
#   export VM_CACHE=/some/where VM_FLAVOUR=--systemd
#   export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER=$PWD/scripts/vm-tests.sh
#   cargo build --target $T --bins && cargo test --target $T --test integration -- FILTER
set -euo pipefail

binary=$(realpath "$1")
shift
here=$(cd "$(dirname "$0")" && pwd)
flavour=${VM_FLAVOUR:-}
mkdir -p "$VM_CACHE"
# A process costs up to 40 times as much as on the host. Tests with many processes that do not need the
# guest's features run on the host only.
skipped=(
    crash::brig_killed          # at each of its system calls
    crash::a_child_killed       # at each of its own
    run::three_hundred_runs     # 300 runs
    images::three_hundred_layers # 300 layers
    invalid::                   # exact lines, with the paths of the host's cgroups
    netdev::                    # makes devices by iproute2 and the veth module
    network_devices_are_given_again # the same
    idmap::files_have           # tmpfs has no id-mapped mounts before Linux 6.3
    idmap::in_a_user_namespace  # the same
    idmap::ridmap               # the same
    mounts_show_in_the_container_alone  # mounts attached nowhere need Linux 6.15
    hooks::a_hook_has_exactly   # its shell is run by another name, by which busybox would go
    exec::without_a_final       # a cpuset forgets what a process had asked for before Linux 6.2
    images_commit::export_is_the_whole  # the tar of busybox has no --xattrs
    spec::a_capability_that     # the setpriv of busybox cannot drop one
    spec::features_are_the_same # nor be another user
    spec::every_memory_policy   # MPOL_WEIGHTED_INTERLEAVE is of Linux 6.9
    cve_binary::cve_2019_5736_e # they hunt brig for 20 s, in which the guest starts too few processes
)
tests=("$@")
if [ -n "$flavour" ] && [ "${LSM:-}" = selinux ] && [ $# = 0 ]; then
    tests=(selinux::)
elif [ -n "$flavour" ] && [ $# = 0 ]; then
    tests=(cgroups cgroup_ _cgroup systemd rootless session:: apparmor exec:: lifecycle:: kill::)
fi

payload=$(mktemp -d "$VM_CACHE/payload.XXXXXX")
trap 'rm -rf --one-file-system "$payload"' EXIT
mkdir "$payload/payload"
cp "$binary" "$payload/payload/integration"
cp "$BRIG" "$payload/payload/brig"
cp "$BRIG_TEST_INIT" "$payload/payload/brig-test-init"
# If it does not take memory from tests that do not need it.
if [ -z "$flavour" ] || [[ ${tests[*]} == *criu* ]]; then
    criu=$here/../target/criu${CRIU_SUITE:+-$CRIU_SUITE}
    SUITE=${CRIU_SUITE:-trixie} "$here/criu.sh" "$criu" && cp -a "$criu" "$payload/payload/criu" ||
        echo "in the guest without CRIU" >&2
    # Before 3.19 CRIU always locks the network, which is not needed here.
    for name in ${CRIU_SUITE:+iptables-restore ip6tables-restore}; do
        printf '#!/bin/sh\nexec cat >/dev/null\n' >"$payload/payload/criu/$name"
        chmod 755 "$payload/payload/criu/$name"
    done
fi
{
    echo "#!/bin/sh"
    echo "mkdir /data && mount -t ext4 /dev/vda /data && cd /payload || exit"
    # On the disk, where it is linked into each container: a copy is open for writing in what another test forks.
    echo "cp /payload/brig-test-init /data/ || exit"
    echo "export BRIG=/payload/brig BRIG_TEST_INIT=/data/brig-test-init"
    echo "export BRIG_TEST_CRIU=/payload/criu"
    echo "export BRIG_TEST_EXPENDABLE=1 BRIG_TEST_DIR=/data BRIG_TEST_DISK=/dev/vdc PATH=/payload:\$PATH"
    [ "${VM_ARCH:-$(uname -m)}" = "$(uname -m)" ] || echo "export BRIG_TEST_SLOWNESS=4"
    if [ -n "${VM_COMMAND:-}" ]; then
        echo "$VM_COMMAND"
    else
        printf '%q ' exec unshare --mount --propagation private \
            ./integration "${skipped[@]/#/--skip=}" "${tests[@]}"; echo
    fi
} >"$payload/payload/run"
chmod 755 "$payload/payload/run"
[ -n "${VM_COMMAND:-}" ] || echo "in the guest without: ${skipped[*]}"
"$here/vm.sh" $flavour "$VM_CACHE" "$payload"
