#!/usr/bin/env bash
# book.sh BRIG DIR FILE|check: runs every command of the book on BRIG and writes the book, text and
# transcript, to FILE; with `check` it writes nothing. Fails at the first command that does not end,
# or answer, as the text around it says. `make book` and `make book CHECK=1` run it as root, in mount
# and network namespaces of its own. DIR is emptied first; all is below it. The pages are book/*.sh:
#   say <<'END'            text
#   show [-e STATUS] CMD   CMD as typed, run in this shell, and what it printed
#   has REGEX, hasnt REGEX, lines N, so COMMAND…    what must be true of that, or at all
# What differs from run to run (pids, digests, dates, inode numbers) is renumbered in the book, by
# order of appearance: the file changes when behaviour does. The expectations see what was printed.
set -euo pipefail

program=$(realpath "$1")
dir=$(realpath -m "$2")
target=$3
start=$PWD
pages=$(cd "$(dirname "${BASH_SOURCE[0]}")/book" && pwd)
containers=()
fenced=''
filter=''
last_namespace=4026530000
shown='(no command yet)'
declare -A digests=() namespaces=()

broken() {
    printf 'book: %s\n  command: %s\n' "$1" "$shown" >&2
    [ ! -s "$dir/out" ] || sed 's/^/  | /' "$dir/out" >&2
    exit 1
}
brig() { "$program" --root /mnt/run --store /mnt/store "$@"; }
# The pid of container $1 in variable $1; in the book it is $2.
learn() {
    local pid
    containers+=("$1")
    pid=$(brig state "$1" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')
    printf -v "$1" %s "$pid"
    number "$pid" "$2"
}
number() { printf 's/\\b%s\\b/%s/g\n' "$1" "$2" >>"$dir/numbers"; }

# The same digest or namespace gets the same invented number all through the book.
renumber() {
    local found
    while read -r found; do
        [ -z "${digests[$found]-}" ] || continue
        digests[$found]=$(printf 'brig %s' "${#digests[@]}" | sha256sum | cut -c1-12)
        printf 's/%s/%s…/g\n' "$found" "${digests[$found]}" >>"$dir/numbers"
    done < <(grep -oE '\b[0-9a-f]{64}\b' "$1" || true)
    while read -r found; do
        [ -z "${namespaces[$found]-}" ] || continue
        namespaces[$found]=$((++last_namespace))
        printf 's/\\b%s\\b/@%s/g\n' "$found" "${namespaces[$found]}" >>"$dir/numbers.ns"
    done < <(grep -oE '\b402653[0-9]{4}\b' "$1" || true)
    sed -E -f "$dir/numbers" -f "$dir/numbers.ns" "$1" | sed -E \
        -e 's/@(402653)/\1/g' -e 's/[[:space:]]+$//' \
        -e 's/20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z/2026-01-01T00:00:00Z/g'
}
say() {
    [ -z "$fenced" ] || printf '```\n\n' >>"$dir/book.md"
    fenced=''
    cat >>"$dir/book.md"
    echo >>"$dir/book.md"
}
# Whether $1 is all of a command, not the beginning of one.
complete() { [ -z "$(bash -n <<<"$1" 2>&1)" ]; }
show() {
    local expected=0 status=0 failed line command=''
    if [ "$1" = -e ]; then
        expected=$2
        shift 2
    fi
    shown=$1
    : >"$dir/out"
    [ -n "$fenced" ] || printf '```console\n' >>"$dir/book.md"
    fenced=yes
    while IFS= read -r line; do
        command+=${command:+$'\n'}$line
        if complete "$command"; then
            type "$command"
            command=''
        fi
    done <<<"$1"
    filter=''
    [ -z "$command" ] || broken "incomplete"
    [ "$status" = "$expected" ] || broken "ended with $status, not $expected"
    [ "$expected" = 0 ] || printf '# echo $?\n%s\n' "$expected" >>"$dir/book.md"
}
# One command and its output. The first failure counts; errexit would end the script before it is told.
type() {
    set +e
    trap 'failed=$?; [ "$status" != 0 ] || status=$failed' ERR
    eval "$1" >"$dir/out.one" 2>&1 </dev/null
    trap - ERR
    set -e
    cat "$dir/out.one" >>"$dir/out"
    renumber "$dir/out.one" >"$dir/out.told"
    { sed '1s/^/# /; 2,$s/^/> /' <<<"$1" && sed "$filter" "$dir/out.told"; } >>"$dir/book.md"
}
# The next output's sed script, for what is measured.
rounded() { filter=$1; }
has() { grep -qE -e "$1" "$dir/out" || broken "does not say: $1"; }
hasnt() { ! grep -qE -e "$1" "$dir/out" || broken "should not say: $1"; }
lines() { [ "$(wc -l <"$dir/out")" = "$1" ] || broken "not $1 lines"; }
so() { "$@" >"$dir/out.one" 2>&1 || broken "not so: $*"; }
within() { awk -v low="$1" -v value="$2" -v high="$3" 'BEGIN { exit !(low <= value && value <= high) }'; }
# Ended ones wait for the host's PID 1 to collect them.
ended() { [ ! -e "/proc/$1" ] || grep -q '^State:.*zombie' "/proc/$1/status"; }
eventually() {
    local tries
    for tries in $(seq 100); do
        if "$@" >"$dir/out" 2>&1; then return; fi
        sleep 0.1
    done
    broken "not so within ten seconds: $*"
}
# The directory of a container's cgroup (by pid) for a controller.
cgroup() {
    if [ -n "$v2" ]; then
        echo "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$2/cgroup")"
    else
        echo "/sys/fs/cgroup/$1$(sed -nE "s/^[0-9]+:([^:]*,)?$1(,[^:]*)?://p" "/proc/$2/cgroup")"
    fi
}
gone() {
    local id=$1
    brig delete --force "$id" >/dev/null
}
cleanup() {
    local id
    for id in "${containers[@]}"; do
        gone "$id" 2>/dev/null || true
    done
}

! grep -qF " $dir" /proc/self/mountinfo || broken "something is mounted in $dir: not touched"
rm -rf --one-file-system "$dir"
mkdir -p "$dir"
# An overlay cannot have its upper on an overlay: where this is already a container, use a tmpfs.
[ "$(stat -f -c %T "$dir")" != overlayfs ] || mount -t tmpfs book "$dir"
# Paths are as long as they are told to be, wherever the checkout is.
mount --bind "$dir" /mnt
cd /mnt
dir=/mnt
: >out
: >book.md
v2=''
[ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] || v2=yes
# Where the script itself is in the hierarchies is no concern of the reader's.
sed -n 's/^[0-9]*:[^:]*:\(\/..*\)/s|\1||/p' /proc/self/cgroup | sort -ru >numbers
trap cleanup EXIT
# shellcheck disable=SC2034 # the last page asks
mounts_before=$(awk '{ print $5 }' /proc/self/mountinfo)

for page in "$pages"/*.sh; do
    echo "book: $(basename "$page" .sh)" >&2
    # The kernel may use the numbers of deleted containers' namespaces again.
    namespaces=()
    : >numbers.ns
    # shellcheck source=/dev/null
    . "$page"
done
say </dev/null
if [ "$target" = check ]; then
    echo "every page holds"
else
    # No blank lines at the end, nor two in a row.
    printf '%s\n' "$(cat -s book.md)" >"$start/$target"
    echo "written: $target"
fi
