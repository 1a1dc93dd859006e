# bench.sh: the run time of podman and docker with brig, runc and crun as their runtime, interleaved: medians, and
# ratios to brig's. `make bench-engines`; ROUNDS=n. Not a table of tests: engines.sh runs it only by name.
# needs: podman conmon docker.io containerd runc crun busybox-static
# without: cgroup2

rounds=${ROUNDS:-15}
runtimes=(brig runc crun)
mkdir -p /run/world/times
ln -sf "$RUNTIME_PATH" /run/world/brig
path() { case $1 in brig) echo "$RUNTIME_PATH" ;; *) command -v "$1" ;; esac; }
json=$(for name in "${runtimes[@]}"; do printf '"%s-it":{"path":"%s"},' "$name" "$(path "$name")"; done)
echo "{\"runtimes\":{${json%,}},\"storage-driver\":\"overlay2\"}" >/etc/docker/daemon.json
export CONTAINERS_CONF=/run/world/containers.conf
printf '[containers]\nlog_driver="k8s-file"\n[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\nruntime_supports_json=["brig","runc","crun"]\n' >$CONTAINERS_CONF
start_dockerd dockerd
docker load -qi /run/world/box.tar >/dev/null
podman load -qi /run/world/box.tar >/dev/null

# The measured commands, with a runtime's name in $r.
podman_run() { podman --runtime "$(path "$r")" run --rm --net none $image true; }
docker_run() { docker run --runtime "$r-it" --rm --net none $image true; }
podman_exec() { podman --runtime "$(path "$r")" exec "keep-$r" true; }
docker_exec() { docker exec "keep-$r" true; }
# shellcheck disable=SC2046 # several pids
twenty() { for _ in $(seq 20); do "$1" & done; wait $(jobs -p | grep -vx "$dockerd_pid"); }
podman_20() { twenty podman_run; }
docker_20() { twenty docker_run; }

median() { sort -n | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
for r in "${runtimes[@]}"; do
    podman --runtime "$(path "$r")" run -d --net none --name "keep-$r" $image sleep 10000 >/dev/null
    docker run --runtime "$r-it" -d --net none --name "keep-$r" $image sleep 10000 >/dev/null
done
printf '%-14s %10s %10s %10s %12s %12s\n' "ms, median" "${runtimes[@]}" runc/brig crun/brig
for what in podman_run docker_run podman_exec docker_exec podman_20 docker_20; do
    case $what in *_20) turns=$(((rounds + 4) / 5)) ;; *) turns=$rounds ;; esac
    for r in "${runtimes[@]}"; do $what >/dev/null; done
    for ((i = 0; i < turns; i++)); do
        for r in "${runtimes[@]}"; do
            began=${EPOCHREALTIME/[.,]/}
            $what >/dev/null
            echo $((${EPOCHREALTIME/[.,]/} - began)) >>"/run/world/times/$what.$r"
        done
    done
    for r in "${runtimes[@]}"; do median <"/run/world/times/$what.$r"; done | tr '\n' ' ' |
        awk -v what="$what" '{ printf "%-14s %10.1f %10.1f %10.1f %12.2f %12.2f\n", what, $1/1000, $2/1000, $3/1000, $2/$1, $3/$1 }'
done
cp -r /run/world/times "$LOGS/"
podman rm -aft0 >/dev/null
stop_dockerd
