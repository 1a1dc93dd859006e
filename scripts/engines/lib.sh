# lib.sh: run by engines.sh in new namespaces: prepares the engine's environment, then runs its table,
# ENGINE.sh. A test there is one line:
#
#     t 'the claim' 'bash that succeeds if it holds'
#
# with $c as the name of a container, which is removed afterwards; helpers are functions of the table. A test
# that is not possible on this host says `skip why`.

HERE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
[ -t 1 ] && red=$'\e[31m' plain=$'\e[0m' || red='' plain=''
count=0 passed=0 skipped=0 failures=()

# Directories that engines write to, each a tmpfs.
own=(/tmp /var/tmp /var/lib/containers /var/lib/docker /var/lib/containerd /var/lib/cni /var/log /etc/cni /etc/containerd /etc/docker)

# enter_root: makes the suite's root the root directory, below an overlay in memory, and restarts this script
# in it. Not by chroot, in which user namespaces cannot be created. The host's tree is at /host until the
# environment is complete.
enter_root() {
    local world=${ROOT%/root}/world dir
    mount -t tmpfs -o mode=755 engines "$world"
    mkdir "$world"/{upper,work,root}
    mount -t overlay -o "lowerdir=$ROOT,upperdir=$world/upper,workdir=$world/work" engines "$world/root"
    for dir in proc sys dev; do mount --rbind "/$dir" "$world/root/$dir"; done
    mkdir "$world/root/host"
    cd "$world/root" || exit
    mkdir -p "${own[@]/#/.}"
    pivot_root . host
    export ROOT='' LOGS=/host$LOGS RUNTIME_PATH=/host$RUNTIME_PATH
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    exec bash -euo pipefail "/host$HERE/lib.sh"
}
[ -z "${ROOT:-}" ] || enter_root

# The engines' data is in memory that ends with this mount namespace.
make_world() {
    local mount path type names dir
    mount -t tmpfs -o mode=755 engines /run
    # Copies files that are needed later from directories that will be covered.
    mkdir -p /run/lock /run/user /run/world/{bin,logs,here}
    mount --bind "$LOGS" /run/world/logs
    mount --bind "$HERE" /run/world/here
    # Not a mount: runc 1.2 executes itself from an overlay of its directory.
    cp "$RUNTIME_PATH" /run/world/bin/
    export RUNTIME_PATH=/run/world/bin/$(basename "$RUNTIME_PATH") LOGS=/run/world/logs
    [[ $HERE != /host/* ]] || umount -l /host
    export HERE=/run/world/here
    if [ -n "${DEBIAN:-}" ]; then
        touch /run/world/debian.tar
        mount --bind "$DEBIAN" /run/world/debian.tar
        touch /run/world/debian-tools.tar
        mount --bind "$DEBIAN_TOOLS" /run/world/debian-tools.tar
        mkdir /run/world/packages
        mount --bind "$PACKAGES" /run/world/packages
        export DEBIAN=/run/world/debian.tar DEBIAN_TOOLS=/run/world/debian-tools.tar PACKAGES=/run/world/packages
    fi
    cd /
    for dir in "${own[@]}"; do
        [ ! -d "$dir" ] || mount -t tmpfs -o mode=755 engines "$dir"
    done
    chmod 1777 /tmp /var/tmp
    # Private devices: crun changes the owner of the null device that it has as stdin.
    mkdir -p /run/world/dev
    for dir in null:3 zero:5 full:7 random:8 urandom:9; do
        mknod -m 666 "/run/world/dev/${dir%:*}" c 1 "${dir#*:}"
        mount --bind "/run/world/dev/${dir%:*}" "/dev/${dir%:*}"
    done
    ip link set lo up
    hostname engines
    # podman inspects everything that mountinfo has below /sys, covered or not.
    umount -R -l /sys
    # A new mount of each hierarchy has our own cgroup as its root.
    mount -t sysfs sysfs /sys
    if [ "$(wc -l <<<"$HIERARCHIES")" = 1 ] && [[ $HIERARCHIES == *' cgroup2 '* ]]; then
        mount -t cgroup2 cgroup2 /sys/fs/cgroup
        mkdir /sys/fs/cgroup/engine
        echo 0 >/sys/fs/cgroup/engine/cgroup.procs
        sed 's/\(^\| \)/ +/g' /sys/fs/cgroup/cgroup.controllers >/sys/fs/cgroup/cgroup.subtree_control
        return
    fi
    mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
    while read -r mount path type names; do
        [ "$type" != "$WITHOUT" ] || continue
        mkdir -p "$mount"
        case $type in
            cgroup2) mount -t cgroup2 cgroup2 "$mount" ;;
            *) case $names in name=*) names=none,$names ;; esac; mount -t cgroup -o "$names" cgroup "$mount" ;;
        esac
    done <<<"$HIERARCHIES"
}

# podman 5 warns on hosts with cgroup v1.
export PODMAN_IGNORE_CGROUPSV1_WARNING=1
# An image with only busybox: $image, the tree /run/world/box, and /run/world/box.tar for `load`.
make_image() {
    local box=/run/world/box applet work=/run/world/box.d layer
    mkdir -p $box/{bin,etc,tmp,proc,sys,dev,root,home/user,data/sub,run,var} $work
    cp /bin/busybox $box/bin/busybox
    for applet in $(/bin/busybox --list); do [ "$applet" = busybox ] || ln -s busybox "$box/bin/$applet"; done
    chmod 1777 $box/tmp
    printf 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n' >$box/etc/passwd
    printf 'root:x:0:\nuser:x:1000:\nextra:x:2000:user\n' >$box/etc/group
    echo 'of the image' >$box/data/file
    echo no program >$box/bin/text
    ln -s /run $box/var/run
    chown -R 1000:1000 $box/home/user
    tar -C $box -cf $work/layer.tar .
    layer=$(sha256sum <$work/layer.tar)
    printf '{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]},"history":[{"created_by":"engines"}]}' "${layer%% *}" >$work/config.json
    echo '[{"Config":"config.json","RepoTags":["box:1"],"Layers":["layer.tar"]}]' >$work/manifest.json
    tar -C $work -cf /run/world/box.tar manifest.json config.json layer.tar
}
export image=box:1

# AS: the command prefix for running tests as another user than root.
AS=()
# forget: the cleanup after a test with a container $c, unless the table overrides it.
forget() { :; }

t() {
    local name=$1 code=0 log began took
    case $name in *"$TESTS"*) ;; *) return 0 ;; esac
    [ ! -e "$LOGS/rows" ] || grep -qxF -- "$name" "$LOGS/rows" || return 0
    count=$((count + 1))
    export c=t$count
    log=$LOGS/$count.txt
    printf '# %s\n%s\n' "$name" "$2" >"$log"
    began=${EPOCHREALTIME/[.,]/}
    timeout -k 5 "${PATIENCE:-60}" "${AS[@]}" bash -euo pipefail -c "$2" >>"$log" 2>&1 </dev/null || code=$?
    took=$(((${EPOCHREALTIME/[.,]/} - began) / 1000))
    case $code in
        0) passed=$((passed + 1)); echo "ok $count $ENGINE: $name ($took ms)" ;;
        77) skipped=$((skipped + 1)); echo "ok $count $ENGINE: $name # SKIP $(tail -n 1 "$log")" ;;
        *)
            failures+=("$name")
            echo "${red}not ok $count $ENGINE: $name${plain} # exit code $code"
            sed 's/^/    /' "$log" | tail -n 25
            ;;
    esac
    case $2 in *'$c'*) forget "$c" >/dev/null 2>&1 || true ;; esac
}

# Helpers for tests.
skip() { echo "$*"; exit 77; }
# exits CODE COMMAND…: expects this exit code, and shows the output.
exits() {
    local want=$1 code=0
    shift
    "$@" || code=$?
    [ $code = "$want" ] || { echo "exit code $code, not $want: $*"; return 1; }
}
# is TEXT COMMAND…: expects exactly this on stdout.
is() {
    local want=$1 got
    shift
    got=$("$@")
    [ "${got//$'\r'/}" = "$want" ] || { echo "not \"$want\" but \"$got\": $*"; return 1; }
}
# says PATTERN COMMAND…: expects a match on stdout or stderr, with any exit code.
says() {
    local want=$1 got
    shift
    got=$("$@" 2>&1) || true
    grep -Eq -- "$want" <<<"$got" || { echo "no \"$want\" in \"$got\": $*"; return 1; }
}
# within SECONDS COMMAND…: repeats until it succeeds.
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || { echo "not so in time: $*"; "$@"; return 1; }
        sleep 0.05
    done
}
# lines COUNT PATTERN COMMAND…: expects that many lines of stdout and stderr to match.
lines() {
    local count=$1 pattern=$2
    shift 2
    [ "$("$@" 2>&1 | grep -c -- "$pattern")" = "$count" ]
}
# typing STEPS COMMAND…: see person.py.
typing() { python3 "$HERE/person.py" "$@"; }
# same_diff ENGINE SCRIPT: the container $c of the engine has run a script; brig runs it in the same image,
# and its diff is the same.
same_diff() {
    [ "$(basename "$RUNTIME_PATH")" = brig ] || skip "brig alone has a diff of its own"
    local brig=("$RUNTIME_PATH" --root "/tmp/$c.state" --store "/tmp/$c.store")
    "${brig[@]}" run --keep --image /run/world/box.tar "brig-$c" -- sh -c "$2"
    "$1" diff "$c" | LC_ALL=C sort -k 2 >"/tmp/$c.theirs"
    "${brig[@]}" diff "brig-$c" | LC_ALL=C sort -k 2 >"/tmp/$c.ours"
    "${brig[@]}" commit "brig-$c" "/tmp/$c.image:made"
    "${brig[@]}" delete "brig-$c"
    grep -q . "/tmp/$c.ours"
    diff -u "/tmp/$c.theirs" "/tmp/$c.ours"
}
# Changes of all kinds; a directory that is removed and recreated, which docker reports as changed, like brig,
# and podman as deleted; one with a new time, which is changed for podman, as for brig, and not for docker.
export changes='echo x >>/etc/passwd; rm /data/file; mv /home /moved; chmod 700 /root; mkdir -p /deep/er; ln /etc/passwd /hard; mkfifo /fifo; rm /bin/text; ln -s sh /bin/text; touch /bin/busybox'
export timed='echo t >/tmp/t; rm /tmp/t' anew='rm -r /data; mkdir /data; echo n >/data/new'
export -f skip exits is says within lines typing same_diff

# start_dockerd NAME [OPTION…]: with /etc/docker/daemon.json; sets $dockerd_pid, and logs to NAME.txt.
start_dockerd() {
    local log=$LOGS/$1.txt
    shift
    export DOCKER_HOST=unix:///run/docker.sock DOCKER_BUILDKIT=0 DOCKER_CONFIG=/run/world/docker
    mkdir -p $DOCKER_CONFIG /run/world/tools
    # podman reads it, too, and requires it.
    echo '{}' >$DOCKER_CONFIG/config.json
    # Another docker than Debian's may precede it in PATH.
    ln -sf "$([ -x /usr/bin/docker ] && echo /usr/bin/docker || command -v docker)" /run/world/tools/docker
    export PATH=/run/world/tools:$PATH
    dockerd "$@" >"$log" 2>&1 </dev/null &
    dockerd_pid=$!
    within 30 docker info || { tail -n 20 "$log"; return 1; }
}
stop_dockerd() {
    docker ps -aq | xargs -r docker rm -f >/dev/null
    kill "$(cat /run/docker.pid)"
    within 30 test ! -e /run/docker.pid
}
export -f start_dockerd

# A guest is isolated already: vm-engines.sh.
if [ -n "${GUEST:-}" ]; then mkdir -p /run/world "$LOGS"; export HERE; else make_world; fi
make_image
# shellcheck source=/dev/null
. "$HERE/$ENGINE.sh"
printf '%s\n' "${failures[@]}" | sed '/^$/d' >"$LOGS/failed"
[ "$count" != 0 ] || exit 0
echo "1..$count"
echo "# $ENGINE with $RUNTIME_PATH: $passed passed, $skipped skipped, ${#failures[@]} failed in $SECONDS s"
[ ${#failures[@]} = 0 ]
