#!/usr/bin/env bash
# engines.sh BRIG DIR [ENGINE…]: runs real engines with brig as their runtime, one table of tests for each:
# scripts/engines/ENGINE.sh. RUNTIME=runc, crun or a path runs the same tables with another runtime;
# TESTS=part of a test's name runs some. As root; called by `make test-engines`.
#
# SUITE=trixie, or sid, uses the engines of that Debian, in a root filesystem below DIR: engines-root.sh. A
# row that fails there with brig is repeated with that suite's runc, and fails the run only if runc passes it,
# and brig fails again.
#
# Each engine runs in new mount, network, pid, ipc, uts and cgroup namespaces, with a private /run, /tmp and
# /var/lib, and in cgroups below one directory of ours. Logs are left in DIR.
set -euo pipefail

[ $# -ge 2 ] && [ -f "$1" ] || { echo "usage: engines.sh BRIG DIR [ENGINE…]" >&2; exit 2; }
brig=$(realpath "$1")
dir=$(realpath -m "$2")
shift 2
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
engines=("${@:-podman}")
[ $# -gt 0 ] || mapfile -t engines < <(cd "$here/engines" && printf '%s\n' *.sh | sed 's/\.sh$//; /^lib$/d; /^bench/d; /^book$/d; /^soak/d; /^guest$/d')
suite=${SUITE:-} root='' tools=(busybox-static hostname iproute2 procps python3 util-linux)
[ -z "$suite" ] || dir=$dir/$suite

# suite_root: creates the suite's root, $root, with the packages of all tables; or prints why it cannot.
suite_root() {
    local packages
    mapfile -t packages < <(sed -n 's/^# \(suite \)\?needs: //p' "$here"/engines/{podman,podman-rootless,buildah,docker,containerd,cri}.sh | tr ' ' '\n' | sort -u)
    mkdir -p "$dir/world"
    if ! "$here/engines-root.sh" "$suite" "$dir" "${tools[@]}" criu runc "${packages[@]}" 2>"$dir/root.txt"; then
        tail -n 5 "$dir/root.txt" >&2
        echo "ok 1 engines of $suite # SKIP they cannot be unpacked here: $(tail -n 1 "$dir/root.txt")"
        echo 1..1
        echo "# engines of $suite: 0 passed, 1 skipped, 0 failed"
        exit 0
    fi
    root=$dir/root
    # Tables with images of Debian test brig's images, not the engine.
    mapfile -t engines < <(printf '%s\n' "${engines[@]}" | while read -r one; do grep -q '^# debian$' "$here/engines/$one.sh" || echo "$one"; done)
}
[ -z "$suite" ] || suite_root

# program NAME: its path, in the suite's root or here.
program() { find "$root"/usr/sbin/ "$root"/usr/bin/ "$root"/usr/local/bin/ -maxdepth 1 -name "$1" | head -n 1; }

case ${RUNTIME:-brig} in
    brig) runtime=$brig ;;
    /*) runtime=$RUNTIME ;;
    *)
        [ -n "$root" ] || "$here/need.sh" "$RUNTIME"
        runtime=$(program "$RUNTIME")
        [ -n "$runtime" ] || { echo "engines.sh: no $RUNTIME here" >&2; exit 2; }
        ;;
esac
[ -n "$root" ] || "$here/need.sh" "${tools[@]}"

# The cgroup hierarchies mounted here: this process's directory, type, options.
hierarchies() {
    local id names path mount type options super
    while IFS=: read -r id names path; do
        while read -r mount type super; do
            case $type in
                cgroup2) [ -z "$names" ] || continue ;;
                *) [[ ,$super, == *,$names,* ]] || continue ;;
            esac
            printf '%s %s %s %s\n' "$mount" "$path" "$type" "${names:--}"
            break
        done < <(sed -n 's/^[^ ]* [^ ]* [^ ]* [^ ]* \([^ ]*\) .* - \(cgroup2\?\) [^ ]* \(.*\)/\1 \2 \3/p' /proc/self/mountinfo)
    done </proc/self/cgroup
}
mapfile -t hierarchies < <(hierarchies)
name=brig-engines-$$

remove_cgroups() {
    local line mount path left tries
    for tries in 1 2 3 4 5; do
        left=0
        for line in "${hierarchies[@]}"; do
            read -r mount path _ <<<"$line"
            path=$mount${path%/}/$name
            [ -d "$path" ] || continue
            find "$path" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
        done
        [ $left = 1 ] || return 0
        sleep 0.2
    done
    echo "cgroups $name are left" >&2
}
trap remove_cgroups EXIT

# enter ENGINE: moves this process into new cgroups, one directory for each engine.
enter() {
    local line mount path own file
    for line in "${hierarchies[@]}"; do
        read -r mount path _ <<<"$line"
        own=$mount${path%/}/$name
        [ -e "$mount${path%/}/cgroup.procs" ] || { echo "no cgroups in $mount" >&2; exit 1; }
        mkdir -p "$own/$1"
        for own in "$own" "$own/$1"; do
            for file in cpuset.cpus cpuset.mems; do
                [ ! -e "$own/$file" ] || cat "$own/../$file" >"$own/$file"
            done
            # Benchmarks get their CPU time on a busy machine, too.
            case $1 in book | bench | bench-layers) [ ! -e "$own/cpu.shares" ] || echo 100000 >"$own/cpu.shares" ;; esac
        done
        echo 0 >"$own/cgroup.procs"
    done
}

# run_engine ENGINE RUNTIME LOGS: runs its table, or only the rows in LOGS/rows.
run_engine() (
    enter "$1"
    export RUNTIME_PATH=$2 ENGINE=$1 LOGS=$3 TESTS=${TESTS:-} ROOT=$root
    [ "$1" != book ] || export IMAGES_PAGE=$(cat "$here/../docs/images.md")
    export HIERARCHIES=$(printf '%s\n' "${hierarchies[@]}")
    export WITHOUT=$(sed -n 's/^# without: //p' "$here/engines/$1.sh")
    # Debian's crun refuses hosts with both cgroup versions.
    [ "$(basename "$2")" != crun ] || WITHOUT=cgroup2
    mkdir -p "$LOGS"
    rm -f "$LOGS"/*.txt "$LOGS/failed"
    exec unshare --cgroup --mount --net --pid --ipc --uts --fork --kill-child --mount-proc \
        --propagation private bash -euo pipefail "$here/engines/lib.sh"
)

# again ENGINE RUNTIME ROWS TO: repeats the rows in that file, with their logs in TO; TO/failed lists those
# that fail.
again() {
    mkdir -p "$4"
    cp "$3" "$4/rows"
    echo "# $1: $(wc -l <"$4/rows") rows again, with $(basename "$2")"
    run_engine "$1" "$2" "$4" >"$4.txt" 2>&1 || true
    rm "$4/rows"
    [ -e "$4/failed" ] || { tail -n 5 "$4.txt" >&2; return 1; }
}

# only_brig ENGINE: succeeds if some row failed with brig twice, and passes with the suite's runc. Prints
# those rows.
only_brig() {
    local logs=$dir/$1 row
    [ -s "$logs/failed" ] || return 0
    again "$1" "$(program runc)" "$logs/failed" "$logs.runc" || : >"$logs.runc/failed"
    while read -r row; do echo "# $1: runc fails as well: $row"; done <"$logs.runc/failed"
    grep -vxFf "$logs.runc/failed" "$logs/failed" >"$logs.only" || return 1
    again "$1" "$brig" "$logs.only" "$logs.again" || cp "$logs.only" "$logs.again/failed"
    while read -r row; do
        grep -qxF -- "$row" "$logs.again/failed" || echo "# $1: passes when it is tried again: $row"
    done <"$logs.only"
    while read -r row; do echo "# $1: only brig fails: $row"; done <"$logs.again/failed"
    [ -s "$logs.again/failed" ]
}

# The versions of the tested programs.
versions() {
    local packages
    read -ra packages <<<"$1 runc"
    echo "# ${suite:-this host}: $(dpkg-query ${root:+"--admindir=$root/var/lib/dpkg"} -W -f '${Package} ${Version}, ' "${packages[@]}" 2>/dev/null | sed 's/, $//')"
}

mkdir -p "$dir"
# For checkpoints: Debian's own CRIU may be too old for this kernel.
if [ -z "$suite" ] && ! criu check >/dev/null 2>&1 && "$here/criu.sh" "$here/../target/criu" >/dev/null; then
    export PATH=$(realpath "$here/../target/criu"):$PATH
fi
failed=()
for engine in "${engines[@]}"; do
    needs=$(sed -n "s/^# \(needs${suite:+\|suite needs}\): //p" "$here/engines/$engine.sh" | tr '\n' ' ')
    # shellcheck disable=SC2086
    [ -n "$suite" ] || "$here/need.sh" $needs
    versions "$needs"
    # A Debian as the contents of an image.
    if grep -q '^# debian$' "$here/engines/$engine.sh"; then
        export DEBIAN=$dir/debian.tar
        [ -f "$DEBIAN" ] || { mmdebstrap --quiet --variant=minbase --format=tar bookworm "$DEBIAN.new" && mv "$DEBIAN.new" "$DEBIAN"; }
        # The same with common tools, and tests of what a container may not do.
        export DEBIAN_TOOLS=$dir/debian-tools.tar
        [ -f "$DEBIAN_TOOLS" ] || { mmdebstrap --quiet --variant=minbase --format=tar --include=sudo,gcc,gcc-multilib,python3-minimal,keyutils bookworm "$DEBIAN_TOOLS.new" && mv "$DEBIAN_TOOLS.new" "$DEBIAN_TOOLS"; }
        # Typical contents of layers: Debian packages, a wheel, an npm tarball.
        export PACKAGES=$dir/packages
        [ -d "$PACKAGES" ] || (
            command -v pip >/dev/null || "$here/need.sh" python3-pip
            command -v npm >/dev/null || "$here/need.sh" npm
            rm -rf "$PACKAGES.new"
            mkdir "$PACKAGES.new"
            cd "$PACKAGES.new"
            apt-get -qq -o APT::Sandbox::User=root download base-files netbase tzdata libc6
            pip -q download --no-deps six
            npm pack --silent ms >/dev/null
            mv "$PACKAGES.new" "$PACKAGES"
        )
    fi
    if run_engine "$engine" "$runtime" "$dir/$engine"; then continue; fi
    if [ -z "$suite" ] || [ "$runtime" != "$brig" ] || only_brig "$engine"; then failed+=("$engine"); fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "engines with failures: ${failed[*]}; what their tests said is in $dir" >&2
    exit 1
fi
