# containerd.sh: containerd and its shim with ctr.
# needs: containerd

cat >/etc/containerd/config.toml <<END
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
END
containerd >"$LOGS/containerd.txt" 2>&1 </dev/null &
containerd_pid=$!
within 30 ctr version || { tail -n 20 "$LOGS/containerd.txt"; exit 1; }
ctr image import /run/world/box.tar >/dev/null
export image=docker.io/library/box:1 RUNTIME_PATH

run() { ctr run --rm --runc-binary "$RUNTIME_PATH" "$@"; }
up() { ctr run -d --runc-binary "$RUNTIME_PATH" "$@"; }
stays() { up "$@" $image "$c" sleep 1000; }
execs() { ctr task exec --exec-id "e$RANDOM" "$@"; }
pid() { ctr task ls | awk -v id="$c" '$1 == id { print $2 }'; }
status() { ctr task ls | awk -v id="$c" '$1 == id { print $3 }'; }
has_status() { [ "$(status)" = "$1" ]; }
forget() { ctr task kill -s KILL "$1"; ctr task rm -f "$1"; ctr container rm "$1"; }
# got COUNT: the container has noted that many signals.
got() { is "$1" execs $c sh -c "wc -l </tmp/got"; }
# follow FILE: ctr writes all events there, from now on: it is subscribed when it has seen one.
follow() {
    ctr events >"$1" &
    within 10 sh -c "ctr namespace label default seen=\$\$; grep /namespaces/update $1"
}
# with_criu: skips a test if CRIU does not work. Since 1.7 the task may end after its checkpoint, with runc as
# well.
with_criu() {
    criu check >/dev/null 2>&1 || skip 'criu check does not succeed here'
    [[ $(containerd --version) == *' 1.6.'* ]] || skip 'a task may end after its checkpoint, whatever the runtime'
}
export -f with_criu run up stays execs pid status has_status forget got follow

t 'run says what the program says' 'is hello run $image $c echo hello'
t 'run: exit code' 'exits 3 run $image $c sh -c "exit 3"'
t 'run: a missing program, one that is not executable' 'says "executable file not found in .PATH" run $image $c nonsense; says "permission denied" run $image $c-2 /etc/passwd; says "no such file or directory" run $image $c-3 /no/such; is "" sh -c "ctr task ls -q | grep $c"||true'
# stdin that ends before ctr has a task is lost: a race in ctr.
t 'run: stdin' 'is 5 run $image $c wc -c < <(echo four; sleep 1)'
t 'run -t: a terminal' 'typing "size 31 77
see /
type stty size\\r
see 31 77
type exit\\r
end" ctr run --rm -t --runc-binary $RUNTIME_PATH $image $c sh'
t 'run -d, task ls, pid' 'stays; is RUNNING status; grep -q sleep /proc/$(pid)/cmdline'
t 'task attach' 'up $image $c sh -c "sleep 2; echo later"; is later ctr task attach $c'
t 'run --null-io, --log-uri' 'is "" run --null-io $image $c echo hello; run --log-uri file:///tmp/log.$c $image $c-2 echo logged; within 5 grep logged /tmp/log.$c'
t 'task exec: output, exit code' 'stays; is hi execs $c echo hi; exits 9 execs $c sh -c "exit 9"'
t 'task exec: a missing program' 'stays; says "executable file not found in .PATH" execs $c nonsense'
t 'task exec -t' 'stays; typing "see /
type tty\\r
see /dev/pts/0
type exit\\r
end" ctr task exec -t --exec-id x $c sh'
t 'task exec --user, --cwd' 'stays; is "1000 /tmp" execs --user 1000 --cwd /tmp $c sh -c "echo \$(id -u) \$(pwd)"'
t 'task ps' 'stays; ctr task ps $c | grep -w $(pid)'
t 'task kill by every spelling' 'up $image $c sh -c "trap \"echo got >>/tmp/got\" HUP; >/tmp/got; while :; do sleep 0.1; done"; n=0; within 10 got 0; for s in HUP SIGHUP 1; do ctr task kill -s $s $c; n=$((n+1)); within 10 got $n; done'
t 'task kill, task delete' 'stays; ctr task kill -s KILL $c; within 5 has_status STOPPED; ctr task rm $c || test $? = 137; ctr container rm $c'
t 'task kill --all' 'stays; execs -d $c sleep 1000; ctr task kill --all -s KILL $c; within 5 has_status STOPPED'
t 'task pause, resume' 'stays; ctr task pause $c; is PAUSED status; ctr task resume $c; is RUNNING status'
t 'task metrics' 'stays; ctr task metrics $c | grep -E "memory.usage_in_bytes +[0-9]+"; ctr task metrics $c | grep pids.current'
t 'task checkpoint, and it runs on' 'with_criu; stays; ctr task checkpoint $c; is RUNNING status'
t 'container checkpoint, and a task that starts from it' 'with_criu; stays; ctr container checkpoint --rw --task --image $c ck/$c:1; ctr task kill -s KILL $c; within 5 has_status STOPPED; ctr task rm $c || test $? = 137; ctr container rm $c; ctr container restore --rw --live $c ck/$c:1 & within 10 has_status RUNNING; is hi execs $c echo hi'
t 'events: exit' 'follow /tmp/events; run $image $c true; within 10 grep /tasks/exit /tmp/events; within 10 grep /tasks/delete /tmp/events; kill %1'
t 'OOM event' 'follow /tmp/oom; run --memory-limit 16777216 $image $c sh -c "dd if=/dev/zero of=/dev/null bs=64M; sleep 0.5; true"; within 10 grep /tasks/oom /tmp/oom; kill %1'
t 'run --env, --cwd' 'is "1 /tmp" run --env A=1 --cwd /tmp $image $c sh -c "echo \$A \$(pwd)"'
t 'run --mount' 'mkdir -p /tmp/v; echo 1 >/tmp/v/a; is 1 run --mount type=bind,src=/tmp/v,dst=/v,options=rbind:ro $image $c cat /v/a; says Read-only run --mount type=bind,src=/tmp/v,dst=/v,options=rbind:ro $image $c-2 touch /v/b'
t 'run --mount with rro: read-only with what is mounted below' 'mkdir -p /tmp/n; mount -t tmpfs x /tmp/n; mkdir /tmp/n/m; mount -t tmpfs y /tmp/n/m; run --mount type=bind,src=/tmp/n,dst=/v,options=rbind:ro $image $c touch /v/m/f; says Read-only run --mount type=bind,src=/tmp/n,dst=/v,options=rbind:rro $image $c-2 touch /v/m/g; umount -R /tmp/n'
t 'run --read-only' 'says Read-only run --read-only $image $c touch /x'
t 'run --privileged' 'grep -q "CapEff:.*1ffffffffff" /proc/self/status || skip "this host lacks capabilities"; run --privileged $image $c mount -t tmpfs x /tmp'
t 'run --cap-drop, --cap-add' 'run --cap-add CAP_SYS_ADMIN $image $c mount -t tmpfs x /tmp'
t 'run --seccomp' 'is 2 run --seccomp $image $c sh -c "grep Seccomp: /proc/self/status | cut -f 2"'
t 'run --seccomp-profile' 'echo "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":30}]}" >/tmp/s.json; says Read-only run --seccomp --seccomp-profile /tmp/s.json $image $c mkdir /tmp/x'
t 'run --allow-new-privs, --no-pivot' 'is 1 run $image $c sh -c "grep NoNewPrivs /proc/self/status | cut -f 2"; is 0 run --allow-new-privs $image $c-2 sh -c "grep NoNewPrivs /proc/self/status | cut -f 2"; is hello run --no-pivot $image $c-3 echo hello'
t 'run --memory-limit, --cpus, --cgroup' 'stays --memory-limit 67108864 --cpus 0.5 --cgroup /mine/$c; grep :/mine/$c /proc/$(pid)/cgroup; is 67108864 cat /sys/fs/cgroup/memory/mine/$c/memory.limit_in_bytes; is 50000 cat /sys/fs/cgroup/cpu/mine/$c/cpu.cfs_quota_us'
t 'run --net-host' 'is "$(readlink /proc/self/ns/net)" run --net-host $image $c readlink /proc/self/ns/net'
t 'run --with-ns' 'ip netns add w$c; run --with-ns network:/run/netns/w$c $image $c ls /sys/class/net; ip netns del w$c'
t 'run --device' 'is 1:7 run --device /dev/full $image $c stat -c %t:%T /dev/full'
t 'run --uidmap' 'is "0 100000 65536" run --uidmap 0:100000:65536 --gidmap 0:100000:65536 $image $c sh -c "echo \$(cat /proc/self/uid_map)" || skip "ctr says: $(run --uidmap 0:100000:65536 --gidmap 0:100000:65536 $image $c-2 true 2>&1 | tail -n 1)"'
t 'run --rootfs' 'is hello run --rootfs /run/world/box $c /bin/echo hello'
t 'run --pid-file' 'stays --pid-file /tmp/pid; is "$(pid)" cat /tmp/pid'
t 'run --runtime-root' 'run --runc-root /run/world/states $image $c true'
t '10 at once' 'for i in $(seq 10); do run $image $c-$i echo $i & done >/tmp/ten; wait; is 10 wc -l </tmp/ten'
t 'nothing is left of the runtime' 'for i in $(ctr task ls -q); do ctr task rm -f $i || true; done; is "" sh -c "find /run/containerd/runc/default -mindepth 1 2>/dev/null"'
kill $containerd_pid
wait $containerd_pid || true
