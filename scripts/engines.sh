#!/usr/bin/env bash
# engines.sh BRIG DIR [ENGINE…]: real engines with brig as their runtime, one table of features for
# each: scripts/engines/ENGINE.sh. RUNTIME=runc, crun or a path runs the same tables with another
# runtime; TESTS=part of a test's name runs some. As root; `make test-engines` calls it.
#
# Each engine gets a world that ends with it: mount, network, pid, ipc, uts and cgroup namespaces, an
# own /run, /tmp and /var/lib, and cgroups below one directory of ours. Logs are left in DIR.
set -euo pipefail

[ $# -ge 2 ] && [ -f "$1" ] || { echo "usage: engines.sh BRIG DIR [ENGINE…]" >&2; exit 2; }
brig=$(realpath "$1")
dir=$(realpath -m "$2")
shift 2
here=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
engines=("${@:-podman}")
[ $# -gt 0 ] || mapfile -t engines < <(cd "$here/engines" && printf '%s\n' *.sh | sed 's/\.sh$//; /^lib$/d; /^bench/d; /^book$/d')

case ${RUNTIME:-brig} in
    brig) runtime=$brig ;;
    /*) runtime=$RUNTIME ;;
    *) runtime=$(command -v "$RUNTIME") || { "$here/need.sh" "$RUNTIME" && runtime=$(command -v "$RUNTIME"); } ;;
esac
"$here/need.sh" busybox-static hostname iproute2 procps python3 util-linux

# The hierarchies of cgroups that are mounted here: directory of this process, type, options.
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

# enter ENGINE: this process goes into cgroups of its own, one directory for each engine.
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
            # What is measured gets its CPU on a busy machine, too.
            case $1 in book | bench | bench-layers) [ ! -e "$own/cpu.shares" ] || echo 100000 >"$own/cpu.shares" ;; esac
        done
        echo 0 >"$own/cgroup.procs"
    done
}

mkdir -p "$dir"
# For checkpoints: Debian's own CRIU may be too old for this kernel.
if ! criu check >/dev/null 2>&1 && "$here/criu.sh" "$here/../target/criu" >/dev/null; then
    export PATH=$(realpath "$here/../target/criu"):$PATH
fi
failed=()
for engine in "${engines[@]}"; do
    # shellcheck source=/dev/null
    packages=$(sed -n 's/^# needs: //p' "$here/engines/$engine.sh")
    "$here/need.sh" $packages
    # A Debian to be the content of an image.
    if grep -q '^# debian$' "$here/engines/$engine.sh"; then
        export DEBIAN=$dir/debian.tar
        [ -f "$DEBIAN" ] || { mmdebstrap --quiet --variant=minbase --format=tar bookworm "$DEBIAN.new" && mv "$DEBIAN.new" "$DEBIAN"; }
        # The same with what people run in containers, and what a container may not do.
        export DEBIAN_TOOLS=$dir/debian-tools.tar
        [ -f "$DEBIAN_TOOLS" ] || { mmdebstrap --quiet --variant=minbase --format=tar --include=sudo,gcc,gcc-multilib,python3-minimal,keyutils bookworm "$DEBIAN_TOOLS.new" && mv "$DEBIAN_TOOLS.new" "$DEBIAN_TOOLS"; }
        # What registries bring, as layers: Debian packages, a wheel, a tarball of npm's.
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
    if ! (
        enter "$engine"
        export RUNTIME_PATH=$runtime ENGINE=$engine LOGS=$dir/$engine TESTS=${TESTS:-}
        [ "$engine" != book ] || export IMAGES_PAGE=$(cat "$here/../docs/images.md")
        export HIERARCHIES=$(printf '%s\n' "${hierarchies[@]}")
        export WITHOUT=$(sed -n 's/^# without: //p' "$here/engines/$engine.sh")
        # Debian's crun refuses hosts that have both versions of cgroups.
        [ "$(basename "$runtime")" != crun ] || WITHOUT=cgroup2
        mkdir -p "$LOGS"
        rm -f "$LOGS"/*.txt
        exec unshare --cgroup --mount --net --pid --ipc --uts --fork --kill-child --mount-proc \
            --propagation private bash -euo pipefail "$here/engines/lib.sh"
    ); then failed+=("$engine"); fi
done
if [ ${#failed[@]} -gt 0 ]; then
    echo "engines with failures: ${failed[*]}; what their tests said is in $dir" >&2
    exit 1
fi
