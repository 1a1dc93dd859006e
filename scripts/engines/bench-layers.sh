# bench-layers.sh: compares the cost of brig's images with umoci, skopeo and podman: medians, interleaved, and ratios to
# brig's: on a tmpfs wall and CPU time, on disk including `sync -f` for every tool. `make bench-layers`;
# ROUNDS=n. Not a table of tests: engines.sh runs it only by name.
# needs: podman conmon runc skopeo umoci mmdebstrap time
# debian

rounds=${ROUNDS:-5}
# On the disk of the build; the rows "in memory" use a tmpfs.
work=$LOGS/work
rm -rf --one-file-system "$work"
mkdir -p "$work" /run/world/times /run/world/memory
mount -t tmpfs -o size=6g tmpfs /run/world/memory
cd "$work"
export CONTAINERS_CONF=/run/world/containers.conf CONTAINERS_STORAGE_CONF=/run/world/storage.conf
printf '[containers]\nlog_driver="k8s-file"\n[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime_supports_json=["brig","runc"]\n' >$CONTAINERS_CONF
printf '[storage]\ndriver="overlay"\nrunroot="/run/containers/storage"\ngraphroot="%s/podman"\n' "$work" >$CONTAINERS_STORAGE_CONF
# The store is where one is.
brig=("$RUNTIME_PATH" --root /run/world/state --store store)

# layout NAME ARCHIVE…: an image with these layers.
layout() {
    local name=$1
    shift
    umoci init --layout "$name"
    umoci new --image "$name:v1"
    for archive; do umoci raw add-layer --image "$name:v1" "$archive"; done
    umoci config --image "$name:v1" --config.cmd /bin/true
}
layout debian "$DEBIAN" 2>/dev/null
# The same in four layers of equal size, as far as archives permit.
python3 - "$DEBIAN" <<'END'
import sys, tarfile
source = tarfile.open(sys.argv[1])
parts = [tarfile.open("part%d.tar" % n, "w", format=tarfile.PAX_FORMAT) for n in range(4)]
sizes = [0] * 4
for member in source:
    # A hard link must refer to a file in its own layer, or in one below.
    part = 3 if member.islnk() else sizes.index(min(sizes)) if member.isreg() else 0
    sizes[part] += member.size
    parts[part].addfile(member, source.extractfile(member) if member.isreg() else None)
[part.close() for part in parts]
END
layout four part?.tar 2>/dev/null
mkdir big && head -c 512M /dev/urandom >big/file && tar -C big -cf big.tar file && rm -r big
layout big big.tar 2>/dev/null
rm -f big.tar part?.tar
skopeo copy -q --insecure-policy --dest-compress-format zstd --dest-compress oci:big:v1 oci:big-zstd:v1
skopeo copy -q --insecure-policy --dest-compress-format zstd --dest-compress oci:four:v1 oci:four-zstd:v1
skopeo copy -q --insecure-policy docker-archive:/run/world/box.tar oci:box:v1
podman load -qi /run/world/box.tar >/dev/null

# The measured commands, and the removal of their results.
fresh() { rm -rf --one-file-system store state umoci bundle copy; }
# shellcheck disable=SC2120 # turn hands the image on.
brig_bundle() { "${brig[@]}" bundle "$work/${1:-debian}:v1" bundle; }
brig_again() { "${brig[@]}" bundle "$work/debian:v1" "bundle$RANDOM$RANDOM"; }
umoci_unpack() { umoci --log error unpack --image "$work/${1:-debian}:v1" umoci; }
skopeo_tar() {
    skopeo copy -q --insecure-policy "oci:$work/${1:-debian}:v1" dir:copy && mkdir copy/rootfs &&
        for layer in $(python3 -c 'import json; [print(layer["digest"][7:]) for layer in json.load(open("copy/manifest.json"))["layers"]]'); do
            tar -C copy/rootfs --xattrs --numeric-owner -xpzf "copy/$layer"
        done
}
one_core() { taskset -c 0 "${brig[@]}" bundle "$work/four:v1" bundle; }
brig_run() { "${brig[@]}" run --image "$work/box:v1" run -- true; }
podman_runc() { podman --runtime /usr/sbin/runc run --rm --net none $image true; }
podman_brig() { podman --runtime "$RUNTIME_PATH" run --rm --net none $image true; }

median() { sort -n | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
# turn NAME COMMAND…: one more measurement; with `sync` set it includes writing to disk.
sync=
turn() {
    local name=$1 began times=/run/world/times
    local TIMEFORMAT='%U %S'
    shift
    began=${EPOCHREALTIME/[.,]/}
    { time { "$@" >/dev/null 2>&1 && { [ ! "$sync" ] || sync -f .; }; }; } 2>$times/cpu || return
    echo $((${EPOCHREALTIME/[.,]/} - began)) >>"$times/$name"
    awk '{ print ($1 + $2) * 1000000 }' $times/cpu >>"$times/$name.cpu"
}
# table TITLE NAME…: medians of wall time and CPU time, and the ratio to the first one.
table() {
    local title=$1 name first='' first_cpu=''
    shift
    printf '\n%s\n  %-28s %13s %8s %13s %8s\n' "$title" '' wall '' CPU ''
    for name; do
        local us cpu
        us=$(median <"/run/world/times/$name") cpu=$(median <"/run/world/times/$name.cpu")
        first=${first:-$us} first_cpu=${first_cpu:-$cpu}
        awk -v name="$name" -v us="$us" -v first="$first" -v cpu="$cpu" -v first_cpu="$first_cpu" 'BEGIN {
            printf "  %-28s %10.1f ms %8.2f %10.1f ms %8.2f\n", name, us / 1000, us / first, cpu / 1000, cpu / first_cpu }'
    done
}
# The peak memory of the largest process.
memory() { command time -f %M -o mem "$@" >/dev/null 2>&1; awk -v name="${name:-$1}" '{ printf "  %-28s %10.1f MiB\n", name, $1 / 1024 }' mem; }
# The same four layers in memory and on disk.
for place in memory disk; do
    for ((i = 0; i < rounds; i++)); do
        cd "$work"
        [ $place = disk ] && sync=1 || { sync= && cd /run/world/memory; }
        for what in brig_bundle umoci_unpack skopeo_tar; do
            fresh
            turn ${place}_$what $what four
        done
        fresh
        turn ${place}_one_core one_core
        fresh
        turn ${place}_brig_zstd brig_bundle four-zstd
    done
    fresh
    table "a Debian in four layers, $place" ${place}_{brig_bundle,umoci_unpack,skopeo_tar,one_core,brig_zstd}
done
cd "$work"
sync=1
for ((i = 0; i < rounds; i++)); do
    for what in brig_bundle umoci_unpack skopeo_tar; do
        fresh
        turn $what $what
        [ $what != brig_bundle ] || for j in 1 2 3 4 5; do turn brig_again brig_again; done
    done
    rm -rf --one-file-system bundle[0-9]*
done
sync=
table 'bundle of a Debian in one layer, nothing in the store, disk' brig_bundle umoci_unpack skopeo_tar
table 'bundle of the same image again' brig_again umoci_unpack
fresh
for what in brig_run podman_runc podman_brig; do $what; done
for ((i = 0; i < rounds * 4; i++)); do
    for what in brig_run podman_runc podman_brig; do turn $what $what; done
done
table 'run of busybox, unpacked before' brig_run podman_runc podman_brig

# A container of each with the same 100000 small files, in memory.
cd /run/world/memory
fresh
"${brig[@]}" run --keep --image "$work/box:v1" many -- true
upper=$(echo store/containers/many-*/data/upper)
python3 - "$upper/many" 100000 <<'END'
import os, random, sys
chance = random.Random(1)
words = ["".join(chance.choices("abcdefghijklmnopqrstuvwxyz", k=chance.randint(2, 9))) for _ in range(2000)]
for number in range(int(sys.argv[2])):
    directory = f"{sys.argv[1]}/{number // 100}"
    if number % 100 == 0:
        os.makedirs(directory)
    with open(f"{directory}/{number}", "w") as file:
        file.write(" ".join(chance.choices(words, k=chance.randint(20, 300))))
END
printf '[storage]\ndriver="overlay"\nrunroot="/run/containers/storage2"\ngraphroot="/run/world/memory/podman"\n' >storage.conf
export CONTAINERS_STORAGE_CONF=/run/world/memory/storage.conf
podman load -qi /run/world/box.tar >/dev/null
podman --runtime "$RUNTIME_PATH" run --name many --net none $image true
cp -a "$upper/many" "$(podman inspect many --format '{{.GraphDriver.Data.UpperDir}}')/"
brig_commit() { "${brig[@]}" commit many out:v2; }
brig_commit_plain() { "${brig[@]}" commit --compression none many out:v2; }
podman_commit() { podman commit -q many many:v2; }
for ((i = 0; i < rounds; i++)); do
    for what in brig_commit brig_commit_plain podman_commit; do
        rm -rf --one-file-system out
        turn $what $what
        podman rmi -f many:v2 >/dev/null 2>&1
    done
done
table 'commit of 100000 small files, memory' brig_commit brig_commit_plain podman_commit
printf '\npeak memory\n'
rm -rf --one-file-system out
name='brig commit' memory "${brig[@]}" commit many out:v2
"${brig[@]}" delete many
podman rm -aft0 >/dev/null
podman rmi -af >/dev/null
fresh
export CONTAINERS_STORAGE_CONF=/run/world/storage.conf
cd "$work"
for image in debian big big-zstd four-zstd; do
    fresh
    name="brig bundle $image" memory "${brig[@]}" bundle "$work/$image:v1" bundle
    [[ $image = *-zstd ]] || name="umoci unpack $image" memory umoci unpack --image $image:v1 umoci
    name="skopeo copy $image" memory skopeo copy -q --insecure-policy oci:$image:v1 dir:copy
done

printf '\ncontainers of one image, and what each adds to the disk\n'
fresh
used() { sync -f . && du -s --block-size=1 store | cut -f 1; }
brig_bundle >/dev/null
before=$(used)
for i in $(seq 10); do "${brig[@]}" run --keep --image debian:v1 "c$i" -- /bin/sh -c "head -c 100000 /dev/zero | tr '\\0' x >/file"; done
awk -v image="$before" -v after="$(used)" 'BEGIN { printf "  the image %d, ten containers that write 100000 bytes each %d more: %d each\n", image, after - image, (after - image) / 10 }'
for i in $(seq 10); do "${brig[@]}" delete "c$i"; done
podman rm -aft0 >/dev/null
podman rmi -af >/dev/null
cp -r /run/world/times "$LOGS/"
cd /
rm -rf --one-file-system "$work"
