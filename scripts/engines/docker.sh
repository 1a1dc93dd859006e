# docker.sh: dockerd with its containerd, the runtime by --add-runtime; overlay2, bridge, iptables.
# needs: docker.io containerd iptables tini uidmap
# suite needs: docker-cli docker-compose docker-buildx

# shellcheck source=/dev/null
. "$HERE/gpu.bash"
cat >/etc/docker/daemon.json <<END
{
    "runtimes": {"tested": {"path": "$RUNTIME_PATH"}},
    "default-runtime": "tested",
    "experimental": true,
    "init-path": "$(command -v tini-static || command -v docker-init || command -v tini)",
    "features": {"cdi": true},
    "storage-driver": "overlay2"
}
END
# dockerd's embedded BuildKit ignores the runtimes in daemon.json.
export DOCKER_BUILDKIT_RUNC_COMMAND=$RUNTIME_PATH
start_dockerd dockerd
docker load -qi /run/world/box.tar

# Without a network, unless the test requests one.
run() { docker run --rm --net none "$@"; }
up() { docker run -d --net none --name "$c" "$@" >/dev/null; }
stays() { up "$@" $image sleep 1000; }
look() { docker inspect -f "{{.$1}}" "$c"; }
status() { look State.Status; }
forget() { docker rm -fv "$1"; }
cgroup_file() { cat "/sys/fs/cgroup/$1$(sed -n "s/^[0-9]*:\(.*,\)\?$1\(,.*\)\?://p" "/proc/$(look State.Pid)/cgroup")/$2"; }
page() { exec 3<>"/dev/tcp/$1/$2" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3; }
build() { mkdir -p "/tmp/$c"; cat >"/tmp/$c/Dockerfile"; echo copied >"/tmp/$c/file"; tar -C "/tmp/$c" -cf "/tmp/$c/add.tar" file; docker build -q "$@" -t "built:$c" "/tmp/$c"; }
export -f run up stays look status cgroup_file page build

t 'info: the runtime, without a warning about its version' 'docker info | grep "Runtimes:.*tested"; docker info | grep "Default Runtime: tested"'
t 'run says what the program says' 'is hello run $image echo hello'
t 'run: stdout and stderr apart' 'is out run $image sh -c "echo out; echo err >&2" 2>/tmp/err; grep -x err /tmp/err'
t 'run: exit code of the program' 'exits 3 run $image sh -c "exit 3"; exits 137 run $image sh -c "kill -9 \$\$"|| exits 143 run --init $image sh -c "kill \$\$"'
t 'run: 125 for an error of docker, or of the config' 'exits 125 run --nonsense $image true; exits 125 run --cpuset-cpus 999 $image true; exits 125 run --sysctl net.nonsense=1 $image true || exits 127 run --sysctl net.nonsense=1 $image true'
t 'run: 126 and its text' 'exits 126 run $image /etc/passwd; says "permission denied" run $image /etc/passwd; exits 126 run $image /etc'
t 'run: 127 and its text' 'exits 127 run $image nonsense; says "executable file not found in .PATH" run $image nonsense; exits 127 run $image /no/such; says "no such file or directory" run $image /no/such'
t 'run: stdin' 'is 5 run -i $image wc -c <<<"four"; is 5000000 run -i $image wc -c < <(head -c 5000000 /dev/zero)'
t 'run: a lot of stdout' 'test "$(run $image head -c 5000000 /dev/zero | wc -c)" = 5000000'
t 'run -w makes the directory' 'is /new/one run -w /new/one $image pwd'
t 'run -e, --entrypoint, --user' 'is "1 1000" run -e A=1 --user user --entrypoint sh $image -c "echo \$A \$(id -u)"'
t 'run -it: size, input, control-c, exit code' 'typing "size 31 77
see /
type stty size\\r
see 31 77
type echo sl''eeps; sleep 100\\r
see sleeps
wait 0.3
type \\x03
type echo \$?\\r
see 130
type exit 5\\r
code 5" docker run --rm --net none -it $image sh'
t 'run -it: a change of size' 'typing "size 20 50
see /
wait 1
size 33 66
type sleep 1; stty size\\r
see 33 66
type exit\\r
code 0" docker run --rm --net none -it $image sh'
t 'run -it: detach keys, attach again' 'typing "see /
type \\x10
wait 0.2
type \\x11
end" docker run -it --name $c $image sh; is running status; typing "type echo a\$((1))b\\r
see a1b
type exit 7\\r
end" docker attach $c; is 7 docker wait $c'
t 'run -d, logs, logs -f' 'up $image sh -c "echo one; sleep 1; echo two >&2"; is one docker logs -f $c; says two docker logs $c'
t 'start -ai' 'docker create -i --net none --name $c $image sh -c "read x; echo got \$x; exit 4"; test "$(echo hey | { docker start -ai $c || test $? = 4; })" = "got hey"'
t 'create, start -a, start again' 'docker create --net none --name $c $image echo made; is made docker start -a $c; is made docker start -a $c'
t 'inspect' 'stays; is "running true 0" docker inspect -f "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}" $c; grep -q sleep /proc/$(look State.Pid)/cmdline; is tested look HostConfig.Runtime; docker kill $c; docker wait $c; is "exited 137" docker inspect -f "{{.State.Status}} {{.State.ExitCode}}" $c'

t 'exec, exit codes' 'stays; is hi docker exec $c echo hi; exits 9 docker exec $c sh -c "exit 9"; exits 137 docker exec $c sh -c "kill -9 \$\$"'
t 'exec: 126 and 127 with their texts' 'stays; exits 126 docker exec $c /etc/passwd; exits 126 docker exec $c nonsense || exits 127 docker exec $c nonsense; says "permission denied" docker exec $c /etc/passwd; says "executable file not found in .PATH" docker exec $c nonsense'
t 'exec -i' 'stays; is 4 docker exec -i $c wc -c <<<abc'
t 'exec -it: size, input, exit code' 'stays; typing "size 25 99
see /
type stty size\\r
see 25 99
type exit 6\\r
code 6" docker exec -it $c sh'
t 'exec -it: detach keys leave it running' 'stays; typing "see /
type touch /tmp/there; sleep 4321\\r
wait 0.5
type \\x10
wait 0.2
type \\x11
end" docker exec -it $c sh; docker exec $c test -e /tmp/there; docker top $c | grep "sleep 4321"'
t 'exec -u, -w, -e' 'stays; is "1000 1000 /tmp v" docker exec -u user -w /tmp -e V=v $c sh -c "echo \$(id -u) \$(id -g) \$(pwd) \$V"; is "1000 2000" docker exec -u user $c id -G'
t 'exec -d, --privileged' 'stays; docker exec -d $c touch /tmp/done; within 5 docker exec $c test -e /tmp/done; docker exec --privileged $c mount -t tmpfs x /tmp || skip "no CAP_SYS_RESOURCE: $(docker exec --privileged $c true 2>&1)"'
t 'exec: same namespaces and cgroup as init' 'stays; docker exec $c sh -c "for n in ipc mnt net pid uts; do test \$(readlink /proc/1/ns/\$n) = \$(readlink /proc/self/ns/\$n) || exit 1; done; cmp /proc/1/cgroup /proc/self/cgroup"'
t 'exec: many at once' 'stays; for i in 1 2 3 4 5 6 7 8; do docker exec $c echo $i & done >/tmp/many; wait; is 8 wc -l </tmp/many'
t 'exec in a stopped or paused container is an error' 'stays; docker pause $c; if docker exec $c true; then exit 1; fi; docker unpause $c; docker kill $c; docker wait $c; if docker exec $c true; then exit 1; fi'

t 'diff says what brig diff says' 'up $image sh -c "$changes; $anew"; docker wait $c; same_diff docker "$changes; $anew"'
t 'stop: TERM is enough, KILL after the time, --stop-signal' 'up $image sh -c "trap \"exit 12\" TERM; echo up; while :; do sleep 0.1; done"; within 10 lines 1 up docker logs $c; docker stop -t 10 $c; is 12 docker wait $c; forget() { docker rm -f $1; }; forget $c; up $image sh -c "trap : TERM; while :; do sleep 0.1; done"; docker stop -t 1 $c; is 137 docker wait $c; forget $c; up --stop-signal USR1 $image sh -c "trap \"exit 11\" USR1; echo up; while :; do sleep 0.1; done"; within 10 lines 1 up docker logs $c; docker stop $c; is 11 docker wait $c'
t 'kill by every spelling' 'up $image sh -c "trap \"echo got\" HUP; echo up; while :; do sleep 0.1; done"; within 10 lines 1 up docker logs $c; n=0; for s in HUP SIGHUP 1 hup; do docker kill -s $s $c; n=$((n+1)); within 10 lines $n got docker logs $c; done'
t 'kill with a real-time signal' 'up $image sh -c "trap \"echo got\" 35; echo up; while :; do sleep 0.1; done"; within 10 lines 1 up docker logs $c; n=0; for s in RTMIN+1 SIGRTMIN+1 35; do docker kill -s $s $c; n=$((n+1)); within 10 lines $n got docker logs $c; done'
t 'a signal to docker run goes on to the program' 'docker run --net none --name $c $image sh -c "trap \"exit 12\" TERM; echo ready; while :; do sleep 0.1; done" >/tmp/said & within 10 grep ready /tmp/said; kill $!; exits 12 wait $!'
t 'kill of a stopped container is an error' 'up $image true; docker wait $c; if docker kill $c; then exit 1; fi'
t 'rm, rm -f' 'stays; if docker rm $c; then exit 1; fi; docker rm -f $c; if docker inspect $c; then exit 1; fi'
t 'restart, restart policy' 'stays; a=$(look State.Pid); docker restart -t 0 $c; test $a != $(look State.Pid); docker rm -f $c; up --restart=on-failure:2 $image sh -c "echo ran; exit 1"; within 20 is 3 sh -c "docker logs $c | wc -l"; within 10 is 2 look RestartCount'
t 'restart policies always, unless-stopped' 'for policy in always unless-stopped; do up --restart=$policy $image sleep 1000; a=$(look State.Pid); kill -KILL $a; within 20 sh -c "test \$(docker inspect -f {{.State.Status}} $c) = running -a \$(docker inspect -f {{.State.Pid}} $c) != $a"; docker stop -t 0 $c; sleep 1; is exited status; docker rm $c; done'
t 'pause, unpause' 'up $image sh -c "i=0; while :; do i=\$((i+1)); echo \$i >/tmp/t; sleep 0.05; done"; docker pause $c; is paused status; f=$(look GraphDriver.Data.MergedDir)/tmp/t; a=$(cat $f); sleep 0.3; is "$a" cat $f; docker unpause $c; is running status; within 5 sh -c "test $a != \$(cat $f)"'
t 'stop and rm -f of a paused container' 'stays; docker pause $c; docker rm -f $c'
t 'top' 'stays; docker top $c | grep "sleep 1000"; docker top $c -o pid,comm | grep sleep'
t 'stats' 'stays --memory 64m; docker stats --no-stream --format "{{.MemUsage}} {{.PIDs}}" $c | grep -E "/ 64MiB 1$"'
t 'update' 'stays --memory 64m; docker update --memory 128m --memory-swap 256m --cpu-shares 300 --cpus 0.5 --pids-limit 50 $c; is "134217728 300 50000 50" echo $(cgroup_file memory memory.limit_in_bytes) $(cgroup_file cpu cpu.shares) $(cgroup_file cpu cpu.cfs_quota_us) $(cgroup_file pids pids.max)'
t 'events, OOM' 'up --memory 16m $image sh -c "dd if=/dev/zero of=/dev/null bs=64M; exit 1"; docker wait $c; is true look State.OOMKilled; docker events --since 1m --until $(($(date +%s) + 1)) --filter container=$c | tee /tmp/events; grep "container oom" /tmp/events; grep "container die" /tmp/events'
t 'cp, diff, commit, export, import' 'stays; echo here >/tmp/in; docker cp /tmp/in $c:/root/there; docker cp $c:/root/there /tmp/out; is here cat /tmp/out; docker diff $c | grep "A /root/there"; docker commit $c made:$c; is here run made:$c cat /root/there; docker export $c | docker import - imported:$c; is here run imported:$c /bin/cat /root/there'
t 'healthcheck' 'stays --health-cmd "test -e /tmp/well" --health-interval 500ms --health-retries 1; within 10 is unhealthy look State.Health.Status; docker exec $c touch /tmp/well; within 10 is healthy look State.Health.Status'
t '--init' 'run --init $image sh -c "cat /proc/1/comm" | grep -E "docker-init|tini"'
t '--gpus: a hook that needs PATH and changes the root before the pivot' 'is "a driver of the host prestart all" run --gpus all $image sh -c "echo \$(cat /usr/lib/driver /etc/hooked) \$NVIDIA_VISIBLE_DEVICES"; says Read-only run --gpus all $image sh -c "echo x >/usr/lib/driver"'
t 'a device by its CDI name, with hooks' '[ "$(docker version -f "{{.Server.Version}}" | cut -d . -f 1)" -ge 25 ] || skip "dockerd knows CDI since 25"; is "1:7 a driver of the host createRuntime all" run --device brig.test/gpu=all $image sh -c "echo \$(stat -c %t:%T /dev/gpu0) \$(cat /usr/lib/driver.1 /etc/hooked) \$GPU"; says Read-only run --device brig.test/gpu=all $image touch /usr/share/of-the-host'
t 'ps, rename, wait' 'stays; docker ps --filter name=$c --format "{{.Status}}" | grep Up; docker rename $c n$c; docker rename n$c $c'

t '-v: directory, file, ro, named' 'mkdir -p /tmp/v; echo 1 >/tmp/v/a; is 1 run -v /tmp/v:/v $image cat /v/a; is 1 run -v /tmp/v/a:/etc/a $image cat /etc/a; says Read-only run -v /tmp/v:/v:ro $image touch /v/c; is "of the image" run -v $c:/data $image cat /data/file; run -v $c:/data $image sh -c "echo changed >/data/file"; is changed run -v $c:/data $image cat /data/file'
t '-v: propagation' 'mkdir -p /tmp/p; mount -t tmpfs x /tmp/p; mount --make-shared /tmp/p; mkdir /tmp/p/m; stays -v /tmp/p:/p:rslave; mount -t tmpfs x /tmp/p/m; touch /tmp/p/m/f; docker exec $c test -e /p/m/f; docker rm -f $c; umount -R /tmp/p'
t '-v: rshared' 'mkdir -p /tmp/q; mount -t tmpfs x /tmp/q; mount --make-shared /tmp/q; mkdir /tmp/q/m; stays --cap-add sys_admin --security-opt seccomp=unconfined -v /tmp/q:/q:rshared; docker exec $c mount -t tmpfs y /q/m; grep " /tmp/q/m " /proc/self/mountinfo; docker rm -f $c; umount -R /tmp/q'
t '--mount, --volumes-from' 'mkdir -p /tmp/v; echo 1 >/tmp/v/a; is 1 run --mount type=bind,src=/tmp/v,dst=/v,readonly $image cat /v/a; run --mount type=tmpfs,dst=/t,tmpfs-size=1m $image grep " /t " /proc/mounts | grep size=1024k; stays -v /vol; docker exec $c sh -c "echo v >/vol/x"; is v run --volumes-from $c $image cat /vol/x'
t '--mount bind-nonrecursive, bind-propagation' 'mkdir -p /tmp/n; mount -t tmpfs x /tmp/n; mkdir /tmp/n/m; mount -t tmpfs y /tmp/n/m; touch /tmp/n/m/f; run -v /tmp/n:/n $image test -e /n/m/f; is "" run --mount type=bind,src=/tmp/n,dst=/n,bind-nonrecursive $image ls /n/m; run --mount type=bind,src=/tmp/n,dst=/n,bind-propagation=rprivate $image sh -c "grep \" /n \" /proc/self/mountinfo | grep -v shared: | grep -v master:"; umount -R /tmp/n'
t '--tmpfs, --read-only' 'run --tmpfs /t:size=2m,mode=1700 $image grep " /t " /proc/mounts | grep size=2048k; says Read-only run --read-only $image touch /x; run --read-only --tmpfs /run $image touch /run/x'
t '--device, --device-cgroup-rule' 'is 1:7 run --device /dev/full:/dev/mine $image stat -c %t:%T /dev/mine; says "not permitted" run --device /dev/fuse:/dev/mine:w $image sh -c "exec 3</dev/mine"; run --device-cgroup-rule "c 1:11 r" $image sh -c "mknod /tmp/f c 1 7"'
t 'default devices' 'run $image sh -c "echo >/dev/null; head -c 1 /dev/zero /dev/urandom /dev/random >/dev/null; test -c /dev/tty; test -L /dev/stdin; test -L /dev/fd; test -L /dev/ptmx"'
t '--ulimit, --sysctl' 'is "100 200" run --ulimit nofile=100:200 $image sh -c "echo \$(ulimit -Sn) \$(ulimit -Hn)"; is 123 run --sysctl kernel.msgmax=123 $image cat /proc/sys/kernel/msgmax'
t '--cap-drop, --cap-add' 'is 0000000000000000 run --cap-drop all $image sh -c "grep CapEff /proc/self/status | cut -f 2"; is 0000000000003000 run --cap-drop all --cap-add net_admin --cap-add net_raw $image sh -c "grep CapEff /proc/self/status | cut -f 2"'
t '--privileged' 'grep -q "CapEff:.*1ffffffffff" /proc/self/status || skip "docker 20.10 asks for every capability, and this host lacks some"; run --privileged $image mount -t tmpfs x /tmp'
t '--security-opt' 'echo "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":30}]}" >/tmp/s.json; says Read-only run --security-opt seccomp=/tmp/s.json $image mkdir /tmp/x; is 0 run --security-opt seccomp=unconfined $image sh -c "grep Seccomp: /proc/self/status | cut -f 2"; is "2 1" run --security-opt no-new-privileges $image sh -c "echo \$(grep Seccomp: /proc/self/status | cut -f 2) \$(grep NoNewPrivs /proc/self/status | cut -f 2)"'
t '--security-opt systempaths=unconfined' 'is 1 run --security-opt systempaths=unconfined $image sh -c "grep -c \" /proc\" /proc/mounts"; says Read-only run $image sh -c "echo 1 >/proc/sys/kernel/msgmax"'
t '--user, --group-add' 'is "5 6" run --user 5:6 $image sh -c "echo \$(id -u) \$(id -g)"; run --group-add extra --group-add 7 $image id -G | grep 2000 | grep -w 7; says "unable to find user" run --user nobodyknows $image true'
t '--hostname, --domainname, --shm-size, --oom-score-adj' 'is box1 run --hostname box1 $image hostname; is dom run --domainname dom $image cat /proc/sys/kernel/domainname; run --shm-size 3m $image grep /dev/shm /proc/mounts | grep size=3072k; is 500 run --oom-score-adj 500 $image cat /proc/self/oom_score_adj'
t '--memory and its friends' 'stays --memory 64m --memory-reservation 32m --memory-swappiness 10 --oom-kill-disable; is "67108864 33554432 10" echo $(cgroup_file memory memory.limit_in_bytes) $(cgroup_file memory memory.soft_limit_in_bytes) $(cgroup_file memory memory.swappiness); cgroup_file memory memory.oom_control | grep "oom_kill_disable 1"'
t '--memory-swap, --kernel-memory' 'stays --memory 64m --memory-swap 128m; f=/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes; ! test -e $f || is 134217728 cgroup_file memory memory.memsw.limit_in_bytes; docker rm -f $c; stays --memory 64m --memory-swap -1; docker rm -f $c; stays --memory 64m --kernel-memory 50m'
t '--blkio-weight' 'stays --blkio-weight 300 2>/tmp/said; if grep discarded /tmp/said; then skip "docker says that this kernel has none"; fi; cgroup_file blkio blkio.weight | grep 300'
t '--cpus, --cpu-quota, --cpu-shares, --cpuset, --pids-limit' 'stays --cpu-quota 20000 --cpu-period 50000 --cpu-shares 300 --cpuset-cpus 0 --cpuset-mems 0 --pids-limit 7; is "20000 50000 300 0 7" echo $(cgroup_file cpu cpu.cfs_quota_us) $(cgroup_file cpu cpu.cfs_period_us) $(cgroup_file cpu cpu.shares) $(cgroup_file cpuset cpuset.cpus) $(cgroup_file pids pids.max); docker rm -f $c; stays --cpus 0.5; is 50000 cgroup_file cpu cpu.cfs_quota_us'
t '--device-read-bps' '[[ $(docker version -f "{{.Server.Version}}") != 26.* ]] || skip "docker 26.1 sets no such limit, whatever the runtime"; stays --device-read-bps /dev/vda:1mb || skip "no disk /dev/vda"; cgroup_file blkio blkio.throttle.read_bps_device | grep 1048576'
t '--cgroup-parent, --cgroupns' 'stays --cgroup-parent /mine; grep :/mine/ /proc/$(look State.Pid)/cgroup; is / run --cgroupns private $image sh -c "grep pids /proc/self/cgroup | cut -d : -f 3"; run --cgroupns host $image grep docker /proc/self/cgroup'
t 'no cgroup is left' 'stays; id=$(look Id); find /sys/fs/cgroup -name "$id" | grep .; docker rm -f $c; is "" find /sys/fs/cgroup -name "$id"'

t '--net none, host' 'is lo run $image ls /sys/class/net; is "$(readlink /proc/self/ns/net)" docker run --rm --net host $image readlink /proc/self/ns/net'
t '--net bridge' 'docker run --rm $image ip addr | grep "inet 172\\."; docker run --rm $image ping -c 1 172.17.0.1'
t '--net container:X' 'docker run -d --name $c $image sleep 1000; is "$(docker exec $c readlink /proc/self/ns/net)" docker run --rm --net container:$c $image readlink /proc/self/ns/net'
t '-p: a published port' 'docker run -d --name $c -p 8082:80 $image sh -c "mkdir /www; echo page >/www/index.html; httpd -f -p 80 -h /www"; ip=$(look NetworkSettings.IPAddress); within 10 page $ip 80; page $ip 80 | grep page; page 127.0.0.1 8082 | grep page'
t 'a network of ones own, names' 'docker network create n$c; docker run -d --net n$c --name $c $image sleep 1000; docker run --rm --net n$c $image ping -c 1 $c; docker rm -f $c; docker network rm n$c'
t '--pid, --ipc, --uts of the host and of a container' 'is "$(readlink /proc/self/ns/pid)" run --pid host $image readlink /proc/self/ns/pid; is "$(readlink /proc/self/ns/ipc)" run --ipc host $image readlink /proc/self/ns/ipc; is engines run --uts host $image hostname; stays --ipc shareable; for n in pid ipc; do is "$(docker exec $c readlink /proc/self/ns/$n)" run --$n container:$c $image readlink /proc/self/ns/$n; done'
t '--ipc none, private' 'if run --ipc none $image grep " /dev/shm " /proc/mounts; then exit 1; fi; run --ipc private $image grep " /dev/shm tmpfs" /proc/mounts'
t '--pid host: rm -f ends all' 'up --pid host $image sh -c "sleep 7654 & sleep 7654"; within 5 pgrep -f "sleep 7654"; docker rm -f $c; within 5 sh -c "! pgrep -f \"^sleep 7654\""'
t '20 at once' 'for i in $(seq 20); do run $image echo $i & done >/tmp/twenty; wait; is 20 wc -l </tmp/twenty'

t 'build: FROM RUN COPY ADD ENV EXPOSE VOLUME WORKDIR CMD' 'printf "FROM box:1\nENV A=1\nRUN echo \$A >/root/ran && id -u\nCOPY file /root/copied\nADD add.tar /root/added/\nEXPOSE 80\nVOLUME /vol\nWORKDIR /work\nCMD [\"sh\",\"-c\",\"cat /root/ran /root/copied /root/added/file; pwd\"]\n" | build; is "1
copied
copied
/work" run built:$c'
t 'build: VOLUME is one when it runs, with what the image has there' 'printf "FROM box:1\nRUN mkdir /vol && echo of the build >/vol/f\nVOLUME /vol\nCMD [\"sh\",\"-c\",\"grep -c \\\\\" /vol \\\\\" /proc/mounts; cat /vol/f\"]\n" | build; is "1
of the build" run built:$c'
t 'build: ENTRYPOINT, USER, ARG, two stages' 'printf "FROM box:1 AS one\nARG W=x\nUSER user\nRUN id -u >/tmp/id; echo \$W >/tmp/w\nFROM box:1\nCOPY --from=one /tmp /tmp\nENTRYPOINT [\"cat\"]\nCMD [\"/tmp/id\"]\n" | build --build-arg W=y; is 1000 run built:$c; is y run built:$c /tmp/w'
t 'build: a failing RUN ends it with its code' 'if printf "FROM box:1\nRUN exit 7\n" | build >/tmp/said 2>&1; then exit 1; fi; grep "non-zero code: 7" /tmp/said'
t 'build: RUN of a missing program' 'if printf "FROM box:1\nRUN [\"nonsense\"]\n" | build >/tmp/said 2>&1; then exit 1; fi; grep "executable file not found in .PATH" /tmp/said'

counts() { up "$@" $image sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.1; done'; within 5 docker exec "$c" test -s /tmp/n; }
with_criu() { criu check >/dev/null 2>&1 || skip 'criu check does not succeed here'; }
grows() { local before; before=$(docker exec "$c" cat /tmp/n); sleep 0.5; [ "$(docker exec "$c" cat /tmp/n)" -gt "$before" ]; }
# dockerd does not expect the checkpoint before containerd has garbage-collected how it was stored (moby issue
# 42900).
start_from() {
    local said end=$((SECONDS + 10))
    until said=$(docker start --checkpoint "$1" "$2" 2>&1); do
        [[ $said = *'already exists'* && $SECONDS -lt $end ]] || { echo "$said"; return 1; }
        sleep 0.05
    done
}
export -f counts with_criu grows start_from
t 'checkpoint create --leave-running' 'with_criu; counts; docker checkpoint create --leave-running $c one; is running status; grows; docker checkpoint ls $c | grep one'
t 'checkpoint create, start --checkpoint' 'with_criu; counts; docker checkpoint create $c one; within 5 eval "[ \$(status) = exited ]"; start_from one $c; is running status; grows'

t 'build by BuildKit: RUN, --mount, a failing RUN' 'docker buildx version || [ "$(docker version -f "{{.Client.Version}}" | cut -d . -f 1)" -lt 23 ] || skip "no plugin buildx here"; export DOCKER_BUILDKIT=1; printf "FROM box:1\nRUN --mount=type=tmpfs,target=/t --mount=type=bind,source=file,target=/b cat /b >/t/x && cp /t/x /x\nRUN id -u >>/x && grep -c . /proc/self/cgroup\nCMD cat /x\n" | build; is "copied
0" run built:$c; if printf "FROM box:1\nRUN exit 7\n" | build >/tmp/said 2>&1; then exit 1; fi; grep "exit code: 7" /tmp/said'

# A web server that becomes healthy after a while, and a service that waits for it.
compose() { docker compose -f "/tmp/$c.yaml" -p "p$c" "$@"; }
export -f compose
t 'compose: up --wait, health, limits, exec, run, restart, down' 'docker compose version || skip "no plugin compose here"
cat >/tmp/$c.yaml <<END
services:
  web:
    image: box:1
    init: true
    command: [sh, -c, "mkdir /www; sleep 1; echo page >/www/index.html; exec httpd -f -p 80 -h /www"]
    healthcheck: {test: [CMD, test, -e, /www/index.html], interval: 500ms, retries: 20}
    restart: unless-stopped
    deploy: {resources: {limits: {memory: 64M, pids: 20}}}
    tmpfs: /t
    volumes: ["data:/data"]
    cap_drop: [ALL]
    cap_add: [NET_BIND_SERVICE]
  client:
    image: box:1
    command: [sh, -c, "wget -q -O - http://web/ && exec sleep 1000"]
    depends_on: {web: {condition: service_healthy}}
    read_only: true
    user: user
    volumes: ["data:/data:ro"]
volumes: {data: }
END
compose up -d --wait --wait-timeout 40
within 5 sh -c "docker compose -f /tmp/$c.yaml -p p$c logs client | grep page"
is 1000 compose exec -T client id -u
says Read-only compose exec -T client touch /data/x
is "of the image" compose run -T --rm --no-deps client cat /data/file
docker inspect -f "{{.HostConfig.Memory}} {{.HostConfig.Runtime}}" p$c-web-1 | grep "67108864 tested"
compose restart -t 1 web
within 20 is healthy docker inspect -f "{{.State.Health.Status}}" p$c-web-1
compose pause; compose unpause
compose down -t 1 -v
is "" docker ps -aq --filter label=com.docker.compose.project=p$c'

t 'nothing is left of the runtime' 'docker ps -aq | xargs -r docker rm -f >/dev/null; is "" sh -c "find /run/docker/runtime-* /var/run/docker/runtime-* -mindepth 2 -maxdepth 2 2>/dev/null"'

# Without a daemon for a while.
stop_dockerd
start_dockerd dockerd-live --live-restore
t 'live-restore: containers outlive dockerd, and the next one has them' '
stays
docker run -d --net none --name $c-2 $image sh -c "sleep 2; exit 5"
pid=$(look State.Pid)
kill $(cat /run/docker.pid)
within 20 sh -c "! test -e /run/docker.pid"
grep -q sleep /proc/$pid/cmdline
sleep 2
start_dockerd dockerd-again --live-restore
is "running $pid" docker inspect -f "{{.State.Status}} {{.State.Pid}}" $c
is hi docker exec $c echo hi
within 5 is exited docker inspect -f "{{.State.Status}}" $c-2
docker update --memory 64m --memory-swap 128m $c
docker pause $c; docker unpause $c
docker stop -t 0 $c
is 137 docker wait $c
docker rm $c $c-2'

# Remapped ids: restart the daemon with --userns-remap.
stop_dockerd
for file in passwd group subuid subgid; do cp /etc/$file /run/world/$file; done
echo 'remapped:x:300000:300000::/:/bin/false' >>/run/world/passwd
echo 'remapped:x:300000:' >>/run/world/group
echo 'remapped:300000:65536' | tee /run/world/subuid >/run/world/subgid
for file in passwd group subuid subgid; do mount --bind /run/world/$file /etc/$file; done
if start_dockerd dockerd-remap --userns-remap remapped; then
    docker load -qi /run/world/box.tar
    t 'remap: root is another one outside' 'is "0 300000 65536" run $image sh -c "echo \$(cat /proc/self/uid_map)"; is 0 run $image stat -c %u /bin/busybox'
    t 'remap: exec, volumes, bridge, limits' 'docker run -d --name $c --memory 64m --tmpfs /t -v $c:/data $image sleep 1000; is 0 docker exec $c id -u; docker exec $c touch /data/x /t/x /root/x; docker exec $c ip addr | grep "inet 172"'
    t 'remap: --userns host' 'is 0 run --userns host $image sh -c "set -- \$(cat /proc/self/uid_map); echo \$2"'
else
    t 'remap' 'skip "dockerd --userns-remap does not start: $(tail -n 1 /run/world/logs/dockerd-remap.txt)"'
fi
stop_dockerd
