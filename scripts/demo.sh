#!/usr/bin/env bash
# demo.sh BRIG DIR: the whole lifecycle of the container fixtures/bundles/hello, shown and checked: fails if
# anything differs from the text. `make demo` runs it as root in a new mount namespace. DIR is emptied first
# and can be inspected afterwards.
set -euo pipefail

brig=$1
dir=$2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bundle=$dir/hello
root=$dir/run
output=$dir/output.txt
id=hello
[ -t 1 ] || [ "${COLOR:-}" = yes ] && bold=$'\e[1m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m' || bold='' green='' red='' plain=''

part() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
ok() { printf '  %sok%s  %s\n' "$green" "$plain" "$*"; }
fail() {
    printf '  %sNO  %s%s\n' "$red" "$*" "$plain" >&2
    exit 1
}
# is WHAT COMMAND…: WHAT holds if COMMAND succeeds.
is() {
    local what=$1
    shift
    if "$@" >/dev/null 2>&1; then ok "$what"; else fail "not so: $what"; fi
}
is_not() {
    local what=$1
    shift
    if "$@" >/dev/null 2>&1; then fail "not so: $what"; else ok "$what"; fi
}
# Shows a command as a user would type it, without --root.
typed() { printf '  %s$ brig %s%s\n' "$bold" "$*" "$plain"; }
show() {
    typed "$@"
    "$brig" --root "$root" "$@" </dev/null
}
told() { sed -n "s|^ *$1 *= ||p" "$output"; }
within() { [ "$2" -ge "$1" ] && [ "$2" -le "$3" ]; }
cgroups() { find /sys/fs/cgroup -maxdepth 3 -type d -name brig-hello; }
has_cgroups() { [ -n "$(cgroups)" ]; }
# Processes in the container's PID namespace. Exited ones wait for the host's PID 1 to reap them.
has_processes() {
    local process
    for process in /proc/[0-9]*; do
        [ "$(readlink "$process/ns/pid")" = "$pid_namespace" ] || continue
        if ! grep -q '^State:.*zombie' "$process/status"; then return 0; fi
    done
    return 1
}
mounts() { awk '{ print $5 }' /proc/self/mountinfo | sort; }
# Everything about the layers that a write could change.
fingerprint() {
    (cd "$bundle/layers" && find . -printf '%p %y %m %U %G %s %l %T@\n' | sort && find . -type f -exec cksum {} + | sort) | cksum
}
wait_for() {
    local tries
    for tries in $(seq 300); do
        if grep -q "$1" "$output"; then return; fi
        sleep 0.1
    done
    cat "$output" >&2
    fail "the container did not say \"$1\" within 30 s"
}
undo() { "$brig" --root "$root" delete --force "$id"; }

if grep -qF " $(realpath -m "$dir")" /proc/self/mountinfo; then fail "something is mounted in $dir: not touched"; fi
[ ! -e "$root" ] || undo
rm -rf --one-file-system "$dir"
mkdir -p "$dir"
# An overlay cannot have its upper on an overlay: inside a container, use a tmpfs.
[ "$(stat -f -c %T "$dir")" != overlayfs ] || mount -t tmpfs demo "$dir"
trap undo EXIT
"$here/hello-bundle.sh" "$bundle"
: >"$output"
mounts_before=$(mounts)
layers_before=$(fingerprint)

part "The bundle: $bundle"
cat <<END
  config.json   what to run, and within which limits
  layers/base   read-only: busybox and its $(find "$bundle/layers/base/bin" -type l | wc -l) commands
  layers/init   read-only: /etc/hosts, /etc/hostname, /etc/resolv.conf
  upper         what the container writes: $(find "$bundle/upper" -mindepth 1 | wc -l) files so far
END

part "Create: everything is set up, the program waits"
typed create --bundle "$bundle" "$id"
if ! "$brig" --root "$root" create --bundle "$bundle" "$id" >"$output" 2>&1 </dev/null; then
    cat "$output" >&2
    fail "create"
fi
typed state "$id"
"$brig" --root "$root" state "$id" >"$dir/state.txt"
sed 's/^/  /' "$dir/state.txt"
pid=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$dir/state.txt")
pid_namespace=$(readlink "/proc/$pid/ns/pid")
is "created, not yet running" grep -q '"status": *"created"' "$dir/state.txt"
is "its first process exists: $pid" has_processes
is "it has cgroups of its own: $(cgroups | wc -l)" has_cgroups

part "Start: the container speaks"
show start "$id"
wait_for "Waiting to be told to end"
cat "$output"
echo
is "its first process is PID 1 there, $pid here" [ "$(told pid)" = 1 ]
is "its hostname is its own; here it is $(hostname)" [ "$(told hostname)" = hello ]
is "both layers are there: base has the program, init has /etc/hostname" [ "$(told /etc/hostname)" = hello ]
is "CPU: held to 20 %, measured $(told cpu_percent) %" within 5 "$(told cpu_percent)" 25
is "memory: what took more than 32 MiB was killed, the rest lives on" \
    [ "$(told hog_status)" = "137 (killed by signal 9)" ]

part "Namespaces        this shell    the container"
for name in pid mnt uts ipc net cgroup user time; do
    ours=$(readlink /proc/self/ns/$name) theirs=$(readlink "/proc/$pid/ns/$name")
    [ "$ours" = "$theirs" ] && same='   the same, as config.json asks for no other' || same=''
    printf '  %-10s %16s %16s%s\n' "$name" "${ours//[!0-9]/}" "${theirs//[!0-9]/}" "$same"
    case $name in
        user | time) [ "$ours" = "$theirs" ] || fail "a new $name namespace that nobody asked for" ;;
        *) [ "$ours" != "$theirs" ] || fail "the $name namespace is the host's" ;;
    esac
done

part "Layers: what the container changed is in upper, and only there"
(cd "$bundle/upper" && find . -mindepth 1 ! -type d -printf '  upper/%P: %y, %s bytes\n' | sed 's/: c, 0 bytes/: whiteout/; s/: f,/: file,/')
is "the changed /etc/motd was copied up" grep -q "Changed by the container" "$bundle/upper/etc/motd"
is "the deleted /etc/issue is a whiteout: a device 0, 0" [ "$(stat -c '%F %t %T' "$bundle/upper/etc/issue")" = "character special file 0 0" ]
is "the layers are as they were" [ "$(fingerprint)" = "$layers_before" ]
is "nothing of it is mounted on the host" [ "$(mounts)" = "$mounts_before" ]

part "Kill and delete"
show list
show kill "$id" TERM
wait_for "SIGTERM: goodbye"
tail -n 1 "$output"
for _ in $(seq 100); do
    "$brig" --root "$root" state "$id" >"$dir/state.txt"
    if grep -q '"status": *"stopped"' "$dir/state.txt"; then break; fi
    sleep 0.05
done
is "stopped" grep -q '"status": *"stopped"' "$dir/state.txt"
show delete "$id"
trap - EXIT
is_not "brig knows no container $id any more" "$brig" --root "$root" state "$id"
is "no state is left" [ -z "$(ls -A "$root")" ]
is_not "no cgroup is left" has_cgroups
is "no mount is left" [ "$(mounts)" = "$mounts_before" ]
is_not "no process is left" has_processes
is "upper is still there, for the next run" test -f "$bundle/upper/etc/motd"
printf '\n%sThat was all. Look around in %s, or go on with the README.%s\n' "$bold" "$dir" "$plain"
