# book.sh: the book, docs/how-containers-work.md: runs every command of book/*.sh, with dockerd and its
# runtime brig, and with brig alone, and writes text and transcript to $LOGS/book.md. Fails at the first
# command whose exit status or output contradicts the text around it. `make book` and `make book CHECK=1`;
# not a table of tests: engines.sh runs it only by name. The pages consist of
#   say <<'END'                        text
#   show [-e STATUS] [-u REGEX] CMD    CMD as typed, run in this shell, and its output; -u: repeated, at
#                                      most a dozen times, until the output matches
#   has REGEX, hasnt REGEX, lines N, so COMMAND…    expectations of that output, or of any command
# Values that differ between runs (pids, digests, inode numbers) are renumbered in the book, by order of
# appearance: the file changes only when behaviour does. Expectations are compared with the original output.
# needs: docker.io containerd iptables nftables busybox-static iproute2 procps

fenced=''
filter=''
last_namespace=4026530000
shown='(no command yet)'
declare -A digests=() namespaces=()

broken() {
    printf 'book: %s\n  command: %s\n' "$1" "$shown" >&2
    [ ! -s /mnt/.out ] || sed 's/^/  | /' /mnt/.out >&2
    exit 1
}
brig() { "$RUNTIME_PATH" --root /mnt/run --store /mnt/store "$@"; }
# Replaces the number $1 with $2 in the book.
number() { printf 's/\\b%s\\b/%s/g\n' "$1" "$2" >>/mnt/.numbers; }
# Registers a new pid: a process with that command line.
pid() {
    so grep -qa "^$3" "/proc/$1/cmdline"
    number "$1" "$2"
}

# Replaces each digest or namespace with the same invented number throughout the book. Only the first twelve
# digits of a digest matter.
renumber() {
    local found
    while read -r found; do
        found=${found:0:12}
        [ -z "${digests[$found]-}" ] || continue
        digests[$found]=$(printf 'brig %s' "${#digests[@]}" | sha256sum | cut -c1-12)
        printf 's/\\b%s[0-9a-f]{52}/%s…/g\ns/\\b%s\\b/%s/g\n' \
            "$found" "${digests[$found]}" "$found" "${digests[$found]}" >>/mnt/.numbers
    done < <(grep -oE '\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b' "$1" | grep '[a-f]' || true)
    while read -r found; do
        [ -z "${namespaces[$found]-}" ] || continue
        namespaces[$found]=$((++last_namespace))
        printf 's/\\b%s\\b/@%s/g\n' "$found" "${namespaces[$found]}" >>/mnt/.numbers.ns
    done < <(grep -oE '\b402653[0-9]{4}\b' "$1" || true)
    sed -E -f /mnt/.numbers -f /mnt/.numbers.ns "$1" | sed -E -e 's/@(402653)/\1/g' -e 's/[[:space:]]+$//'
}
say() {
    [ -z "$fenced" ] || printf '```\n\n' >>/mnt/.book.md
    fenced=''
    cat >>/mnt/.book.md
    echo >>/mnt/.book.md
}
# Whether $1 is a complete command.
complete() { [ -z "$(bash -n <<<"$1" 2>&1)" ]; }
show() {
    local expected=0 status=0 until='' failed line command=''
    while :; do
        case $1 in
            -e) expected=$2 ;;
            -u) until=$2 ;;
            *) break ;;
        esac
        shift 2
    done
    shown=$1
    : >/mnt/.out
    [ -n "$fenced" ] || printf '```console\n' >>/mnt/.book.md
    fenced=yes
    while IFS= read -r line; do
        command+=${command:+$'\n'}$line
        if complete "$command"; then
            typed "$command"
            command=''
        fi
    done <<<"$1"
    filter=''
    [ -z "$command" ] || broken "incomplete"
    [ "$status" = "$expected" ] || broken "ended with $status, not $expected"
    [ "$expected" = 0 ] || printf '# echo $?\n%s\n' "$expected" >>/mnt/.book.md
}
# Runs one command and prints its output. The first failure is recorded, because errexit would end the script
# before it is reported.
typed() {
    local try
    for try in {1..12}; do
        set +e
        trap 'failed=$?; [ "$status" != 0 ] || status=$failed' ERR
        eval "$1" >/mnt/.one 2>&1 </dev/null
        trap - ERR
        set -e
        if [ -z "$until" ] || grep -qE -e "$until" /mnt/.one; then break; fi
        status=0
        sleep 0.5
    done
    cat /mnt/.one >>/mnt/.out
    [ -z "$until" ] || grep -qE -e "$until" /mnt/.one || broken "does not say, in a dozen tries: $until"
    renumber /mnt/.one >/mnt/.told
    { sed '1s/^/# /; 2,$s/^/> /' <<<"$1" && tidy; } >>/mnt/.book.md
}
# Removes blank lines at the end.
tidy() {
    local text
    text=$(sed "$filter" /mnt/.told)
    [ -z "$text" ] || printf '%s\n' "$text"
}
# Sets the sed script for the next output, which contains measurements.
rounded() { filter=$1; }
has() { grep -qE -e "$1" /mnt/.out || broken "does not say: $1"; }
hasnt() { ! grep -qE -e "$1" /mnt/.out || broken "should not say: $1"; }
lines() { [ "$(wc -l </mnt/.out)" = "$1" ] || broken "not $1 lines"; }
so() { "$@" >/mnt/.one 2>&1 || broken "not so: $*"; }
not() { ! "$@"; }
eventually() {
    local tries
    for tries in {1..100}; do
        if "$@" >/mnt/.out 2>&1; then return; fi
        sleep 0.1
    done
    broken "not so within ten seconds: $*"
}

# The book takes a minute. This process is PID 1 here: whatever still runs after five minutes is killed.
{ sleep 300 && echo "book: not done after five minutes" >&2 && kill -KILL -1; } &

cat >/etc/docker/daemon.json <<END
{ "runtimes": { "brig": { "path": "$RUNTIME_PATH" } }, "default-runtime": "brig", "storage-driver": "overlay2" }
END
hostname host
mount -t tmpfs -o mode=755 book /mnt
cd /mnt
: >.out
: >.book.md
: >.numbers
v2=''
[ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ] || v2=yes
# Pids that cannot be confused with other numbers in the book.
echo 700000 >/proc/sys/kernel/ns_last_pid
start_dockerd dockerd
# shellcheck disable=SC2034 # the last page asks
mounts_before=$(awk '{ print $5 }' /proc/self/mountinfo)

for page in "$HERE"/book/*.sh; do
    echo "book: $(basename "$page" .sh)" >&2
    # The kernel may reuse the inode numbers of deleted containers' namespaces.
    namespaces=()
    : >.numbers.ns
    # shellcheck source=/dev/null
    . "$page"
done
say </dev/null
stop_dockerd
# Without blank lines at the end, and without consecutive ones.
printf '%s\n' "$(cat -s .book.md)" >"$LOGS/book.md"
echo "every page holds"
