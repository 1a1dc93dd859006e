#!/usr/bin/env bash
# conformance.sh CHECKOUT BRIG [REFERENCE]: runs the validation programs of a built checkout of
# opencontainers/runtime-tools against brig, and side by side against a reference runtime, to distinguish
# brig's faults from the suite's. ONLY="name …" runs some of them; LOGS=DIR is the directory for output;
# TELL=1 also shows the output of brig's failed programs.
#
# They run in new namespaces, with an overlay of / as their root and a private /dev: the suite starts
# containers without a mount namespace, and cleans up by removing directories whatever is mounted in them.
# They share the host's cgroups, because brig must be tested with those; the suite's cgroups are recognised by
# their names and removed.
set -euo pipefail

PATIENCE=${PATIENCE:-120} # seconds that a program may take
FLOOR=${FLOOR:-36}        # programs that brig has to pass; docs/conformance.md tells of the others
# These inspect or kill a program immediately after start, and expect it to have run for a while (or not to
# have exited yet): each has five tries, with any runtime.
RACES="killsig pidfile poststart"

# Executes one program in its namespaces.
inside() {
    local program=$1 runtime=$2 scratch=$3 device
    mount -t tmpfs tmpfs "$scratch"
    mkdir "$scratch"/{upper,work,root}
    mount -t overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
    cd "$scratch/root"
    mkdir suite old
    mount --bind "$suite" suite
    mount -o remount,bind,ro suite
    install "$runtime" runtime
    mount -t proc proc proc
    mount -t sysfs sysfs sys
    mount --rbind /sys/fs/cgroup sys/fs/cgroup
    if mountpoint -q /sys/kernel/security; then
        mount --rbind /sys/kernel/security sys/kernel/security
    fi
    # The suite expects a second network interface.
    { ip link add dummy0 type dummy || ip link add dummy0 type veth; } 2>/dev/null || true
    mount -t tmpfs -o mode=755 tmpfs dev
    mkdir dev/pts dev/shm
    mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
    for device in null zero full random urandom tty; do cp -a "/dev/$device" dev; done
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    mount -t tmpfs tmpfs run
    mount -t tmpfs -o mode=1777 tmpfs tmp
    pivot_root . old
    umount -l old
    cd /suite
    RUNTIME=/runtime exec "validation/$program/$program.t" </dev/null
}

# The result of a program, from its TAP output: "ok 3/3", "not ok 2/3". Some count no tests, or only failed
# ones, and report a failure by their exit status or by an error in a comment.
judge() {
    local log=$1 status=$2 passed failed
    passed=$(grep -c '^ok ' "$log" || true)
    failed=$(grep -c '^not ok ' "$log" || true)
    if [ "$status" = 124 ] || [ "$status" = 137 ]; then
        echo "not ok, no end"
    elif [ "$status" != 0 ] || [ "$failed" != 0 ] ||
        { [ "$passed" = 0 ] && grep -Eq '^ *"?error"?: *"?[^ "]' "$log"; }; then
        echo "not ok $passed/$((passed + failed))"
    else
        echo "ok $passed/$passed"
    fi
}

# Removes cgroups of the suite that did not exist before.
remove_cgroups() {
    find /sys/fs/cgroup -mindepth 2 -depth -type d -regextype posix-extended \
        -regex '.*/([^/]*[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|cgrouptest|testdir|runtime-tools)(/.*)?' 2>/dev/null |
        { grep -vxFf "$logs/cgroups.before" || true; } |
        while read -r directory; do rmdir "$directory" 2>/dev/null || true; done || true
}

run() {
    local program=$1 runtime=$2 log=$3 tries=1 status verdict
    case " $RACES " in *" $program "*) tries=5 ;; esac
    while [ $tries -gt 0 ]; do
        status=0
        timeout -k 5 "$PATIENCE" unshare --mount --propagation private --pid --fork --kill-child \
            --net --ipc --uts --mount-proc "$0" --inside "$program" "$runtime" "$logs/scratch" >"$log" 2>&1 || status=$?
        verdict=$(judge "$log" "$status")
        tries=$((tries - 1))
        case $verdict in ok*) tries=0 ;; esac
    done
    echo "$verdict"
}

if [ "${1-}" = --inside ]; then
    inside "$2" "$3" "$4"
fi

suite=$(realpath "$1")
brig=$(realpath "$2")
reference=${3:+$(realpath "$(command -v "$3")")}
export suite
[ -x "$suite/runtimetest" ] || {
    echo "$suite: has no runtimetest: build it and the validation programs there first" >&2
    exit 2
}
logs=${LOGS:-$(mktemp -d)}
mkdir -p "$logs/scratch"
find /sys/fs/cgroup -mindepth 2 -type d >"$logs/cgroups.before" 2>/dev/null || true
trap remove_cgroups EXIT

programs=() passed=0 total=0 behind=0
for path in "$suite"/validation/*/*.t; do programs+=("$(basename "$path" .t)"); done
for program in ${ONLY:-${programs[@]}}; do
    ours=$(run "$program" "$brig" "$logs/$program.brig")
    theirs=
    if [ -n "$reference" ]; then
        theirs=$(run "$program" "$reference" "$logs/$program.reference")
    fi
    total=$((total + 1))
    case $ours in ok*) passed=$((passed + 1)) ;; esac
    case $ours/$theirs in ok*) ;; */ok*) behind=$((behind + 1)) ;; esac
    printf '%-32s %-16s %s\n' "$program" "$ours" "$theirs"
    case ${TELL-}/$ours in 1/not*) grep -v '^ok ' "$logs/$program.brig" | tail -n 30 | sed 's/^/    /' ;; esac
    remove_cgroups
done
echo "$passed of $total programs pass; what they say is in $logs"
[ $behind = 0 ] || echo "$behind that the reference passes do not pass with brig"
[ $behind = 0 ] && { [ -n "${ONLY-}" ] || [ $passed -ge $FLOOR ]; }
