# podman.sh: podman as root, with conmon, netavark and buildah's code for `podman build`.
# needs: podman conmon netavark aardvark-dns iptables catatonit
# suite needs: docker-cli nftables

# shellcheck source=/dev/null
. "$HERE/gpu.bash"

export CONTAINERS_CONF=/run/world/containers.conf CONTAINERS_STORAGE_CONF=/run/world/storage.conf
cat >$CONTAINERS_CONF <<END
[containers]
netns = "none"
log_driver = "k8s-file"
[engine]
runtime = "tested"
cgroup_manager = "cgroupfs"
events_logger = "file"
# The number of seconds that conmon stays after an exec by its service, by default 300.
exit_command_delay = 1
network_backend = "netavark"
infra_image = "localhost/pause:1"
runtime_supports_json = ["tested"]
runtime_supports_nocgroup = ["tested"]
[engine.runtimes]
tested = ["$RUNTIME_PATH"]
END
cat >$CONTAINERS_STORAGE_CONF <<END
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
END
# Ids for --userns auto, in this environment only. Newer libraries require their user to exist.
{ cat /etc/passwd; echo containers:x:399999:399999::/:/bin/false; } >/run/world/passwd
mount --bind /run/world/passwd /etc/passwd
for file in subuid subgid; do
    echo containers:400000:1000000 >/run/world/$file
    [ ! -e /etc/$file ] || mount --bind /run/world/$file /etc/$file
done
podman load -qi /run/world/box.tar
# A replacement for the pause image: its program needs no arguments.
printf 'FROM box:1\nENTRYPOINT ["sleep","1000"]\n' | podman build -q --isolation chroot -t localhost/pause:1 -

# Without a network, unless the test requests one.
run() { podman run --rm "$@"; }
# A container that keeps running, $c.
up() { podman run -d --name "$c" "$@" >/dev/null; }
stays() { up "$@" $image sleep 1000; }
status() { podman inspect -f '{{.State.Status}}' "$c"; }
forget() { podman rm -f -i -v -t 0 "$1"; }
within_container() { podman exec "$c" "$@"; }
cgroup_file() { cat "/sys/fs/cgroup/$1$(sed -n "s/^[0-9]*:\(.*,\)\?$1\(,.*\)\?://p" "/proc/$(podman inspect -f '{{.State.Pid}}' "$c")/cgroup")/$2"; }
page() { exec 3<>"/dev/tcp/$1/$2" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3; }
export -f page run up stays status within_container cgroup_file

t 'run says what the program says' 'is hello run $image echo hello'
t 'run: stdout and stderr apart' 'is out run $image sh -c "echo out; echo err >&2" 2>/tmp/err; grep -x err /tmp/err'
t 'run: exit code of the program' 'exits 3 run $image sh -c "exit 3"'
t 'run: exit code of a signal' 'exits 137 run $image sh -c "kill -9 \$\$"|| exits 143 run --init $image sh -c "kill \$\$"'
t 'run: 125 for an error of podman' 'exits 125 run --nonsense $image true'
t 'run: 125 for a refused config' 'exits 125 run --cpuset-cpus 999 $image true'
t 'run: 126 for a file that is not executable' 'exits 126 run $image /etc/passwd'
t 'run: 126 with its text' 'says "permission denied" run $image /etc/passwd; says "OCI permission denied" run $image /etc/passwd'
t 'run: 126 for a directory' 'exits 126 run $image /etc'
t 'run: 127 for a missing program' 'exits 127 run $image nonsense'
t 'run: 127 with its text' 'says "executable file.* not found in .PATH" run $image nonsense; says "OCI runtime attempted to invoke a command that was not found" run $image nonsense'
t 'run: 127 for a missing path' 'exits 127 run $image /no/such; says "no such file or directory" run $image /no/such'
t 'run -w' 'is /data/sub run -w /data/sub $image pwd; exits 126 run -w /no/such $image pwd'
t 'run: stdin' 'is 5 run -i $image wc -c <<<"four"'
t 'run: a lot of stdin' 'is 5000000 run -i $image wc -c < <(head -c 5000000 /dev/zero)'
t 'run: a lot of stdout' 'test "$(run $image head -c 5000000 /dev/zero | wc -c)" = 5000000'
t 'run -e, --env-file' 'echo B=2 >/tmp/env; is "1 2" run -e A=1 --env-file /tmp/env $image sh -c "echo \$A \$B"'
t 'run --entrypoint' 'is x run --entrypoint echo $image x'
t 'run -t: a terminal with its size' 'typing "size 31 77
see 31 77
code 0" podman run --rm -it $image sh -c "sleep 0.5; stty size"'
t 'run -it: input, control-c, exit code' 'typing "see /
type echo \$((40+2))\\r
see 42
type echo sl''eeps; sleep 100\\r
see sleeps
wait 0.3
type \\x03
type echo \$?\\r
see 130
type exit 5\\r
code 5" podman run --rm -it $image sh'
t 'run -it: a change of size' 'typing "size 20 50
see /
size 33 66
type sleep 1; stty size\\r
see 33 66
type exit\\r
code 0" podman run --rm -it $image sh'
t 'run -it: detach keys, attach again' 'typing "see /
type \\x10
wait 0.2
type \\x11
code 0" podman run -it --name $c $image sh; is running status; typing "type echo a\$((1))b\\r
see a1b
type exit 7\\r
end" podman attach $c; is 7 podman wait $c'
t 'run -d, logs' 'up $image sh -c "echo one; echo two >&2"; podman wait $c; is "one" podman logs $c; says two podman logs $c; podman logs --tail 1 -t $c'
t 'logs -f ends with the container' 'up $image sh -c "echo a; sleep 1; echo b"; is "a
b" podman logs -f $c'
t 'attach gets output and exit code' 'up -i $image sh -c "read x; echo got \$x; exit 4"; test "$(echo hey | { podman attach $c || test $? = 4; })" = "got hey"'
t 'create, start -a' 'podman create --name $c $image echo made; is made podman start -a $c; is made podman start -a $c'
t 'start -ai' 'podman create -i --name $c $image cat; is typed podman start -ai $c <<<typed'
t 'state in inspect' 'stays; is "running true 0" podman inspect -f "{{.State.Status}} {{.State.Running}} {{.State.ExitCode}}" $c; podman kill $c; podman wait $c; is "exited 137" podman inspect -f "{{.State.Status}} {{.State.ExitCode}}" $c'
t 'inspect: pid is the init' 'stays; grep -q sleep /proc/$(podman inspect -f "{{.State.Pid}}" $c)/cmdline'
t 'ps' 'stays; podman ps --filter name=$c --format "{{.Status}}" | grep Up'

t 'exec' 'stays; is hi podman exec $c echo hi'
t 'exec: exit codes' 'stays; exits 9 podman exec $c sh -c "exit 9"; exits 137 podman exec $c sh -c "kill -9 \$\$"'
t 'exec: 126 and 127' 'stays; exits 126 podman exec $c /etc/passwd; exits 127 podman exec $c nonsense; exits 127 podman exec $c /no/such'
t 'exec: texts of 126 and 127' 'stays; says "permission denied" podman exec $c /etc/passwd; says "executable file.* not found in .PATH" podman exec $c nonsense'
t 'exec -i' 'stays; is 4 podman exec -i $c wc -c <<<abc'
t 'exec -it: size, input, exit code' 'stays; typing "size 25 99
see /
type stty size\\r
see 25 99
type exit 6\\r
code 6" podman exec -it $c sh'
t 'exec -it: detach keys leave it running' 'stays; typing "see /
type touch /tmp/there; sleep 4321\\r
wait 0.5
type \\x10
wait 0.2
type \\x11
end" podman exec -it $c sh; podman exec $c test -e /tmp/there; podman exec $c ps | grep "sleep 4321"'
t 'exec --preserve-fds' 'stays; is deep podman exec --preserve-fds 1 $c sh -c "cat <&3" 3< <(echo deep)'
t 'exec -t without a terminal' 'stays; is /dev/pts/0 podman exec -t $c tty'
t 'exec -u, -w, -e' 'stays; is "1000 1000 /tmp v" podman exec -u user -w /tmp -e V=v $c sh -c "echo \$(id -u) \$(id -g) \$(pwd) \$V"'
t 'exec -u with groups of the image' 'stays; is "1000 2000" podman exec -u user $c id -G'
t 'exec: no such directory' 'stays; says "no/such" podman exec -w /no/such $c true; if podman exec -w /no/such $c true; then exit 1; fi'
t 'exec -d' 'stays; podman exec -d $c sh -c "echo x >/tmp/done"; within 5 podman exec $c grep x /tmp/done'
t 'exec --privileged' 'stays; is "$(run --privileged $image grep CapEff /proc/self/status)" podman exec --privileged $c grep CapEff /proc/self/status'
t 'exec: same namespaces and cgroup as init' 'stays; test "$(podman exec $c sh -c "readlink /proc/1/ns/* ")" = "$(podman exec $c sh -c "readlink /proc/self/ns/*")"; podman exec $c sh -c "cmp /proc/1/cgroup /proc/self/cgroup"'
t 'exec: many at once' 'stays; for i in 1 2 3 4 5 6 7 8; do podman exec $c echo $i & done >/tmp/many; wait; is 8 wc -l </tmp/many'
t 'exec in a stopped container' 'up $image true; podman wait $c; if podman exec $c true; then exit 1; fi'

t 'stop: TERM is enough' 'up $image sh -c "trap \"exit 12\" TERM; echo up; while :; do sleep 0.1; done"; within 10 lines 1 up podman logs $c; podman stop -t 10 $c; is 12 podman wait $c'
t 'stop: KILL after the time' 'up $image sh -c "trap : TERM; while :; do sleep 0.1; done"; podman stop -t 1 $c; is 137 podman wait $c'
t 'stop --stop-signal' 'up --stop-signal USR1 $image sh -c "trap \"exit 11\" USR1; echo up; while :; do sleep 0.1; done"; within 10 lines 1 up podman logs $c; podman stop $c; is 11 podman wait $c'
t 'kill by every spelling' 'up $image sh -c "trap \"echo got\" HUP; echo up; while :; do sleep 0.1; done"; within 10 lines 1 up podman logs $c; n=0; for s in HUP SIGHUP 1 hup; do podman kill -s $s $c; n=$((n+1)); within 10 lines $n got podman logs $c; done'
t 'kill with a real-time signal' 'up $image sh -c "trap \"echo got\" 35; echo up; while :; do sleep 0.1; done"; within 10 lines 1 up podman logs $c; n=0; for s in RTMIN+1 SIGRTMIN+1 35; do podman kill -s $s $c; n=$((n+1)); within 10 lines $n got podman logs $c; done'
t 'a signal to podman run goes on to the program' 'podman run --name $c $image sh -c "trap \"exit 12\" TERM; echo ready; while :; do sleep 0.1; done" >/tmp/said & within 10 grep ready /tmp/said; kill $!; exits 12 wait $!'
t 'kill takes all of the pid namespace along' 'up $image sh -c "sleep 1000 & sleep 1000"; podman kill $c; is 137 podman wait $c'
t 'kill of a stopped container is an error' 'up $image true; podman wait $c; if podman kill $c; then exit 1; fi'
t 'rm -f of a running container' 'stays; podman rm -f -t 0 $c; if podman container exists $c; then exit 1; fi'
t 'rm of a running container is an error' 'stays; if podman rm $c; then exit 1; fi; is running status'
t 'rm of a created container' 'podman create --name $c $image true; podman init $c; podman rm $c'
t 'init, then start' 'podman create --name $c $image echo later; podman init $c; is initialized status || is created status; podman start $c; podman wait $c; is later podman logs $c'
t 'restart' 'stays; a=$(podman inspect -f "{{.State.Pid}}" $c); podman restart -t 0 $c; test $a != $(podman inspect -f "{{.State.Pid}}" $c); is running status'
t 'restart policy' 'up --restart=on-failure:2 $image sh -c "echo ran; exit 1"; within 20 is 3 sh -c "podman logs $c | wc -l"'
t 'restart policy always' 'up --restart=always $image sleep 1000; a=$(podman inspect -f "{{.State.Pid}}" $c); kill -KILL $a; within 20 sh -c "test \$(podman inspect -f {{.State.Status}} $c) = running -a \$(podman inspect -f {{.State.Pid}} $c) != $a"; podman stop -t 0 $c; sleep 1; is exited status'
t 'wait' 'up $image sh -c "sleep 1; exit 6"; is 6 podman wait $c'
t 'pause, unpause' 'up $image sh -c "i=0; while :; do i=\$((i+1)); echo \$i >/tmp/t; sleep 0.05; done"; sleep 0.3; podman pause $c; is paused status; a=$(cat $(podman mount $c)/tmp/t); sleep 0.3; is "$a" cat $(podman mount $c)/tmp/t; podman unpause $c; is running status; sleep 0.3; test "$a" != "$(cat $(podman mount $c)/tmp/t)"'
t 'exec in a paused container is an error' 'stays; podman pause $c; if podman exec $c true; then exit 1; fi; podman unpause $c; podman exec $c true'
t 'rm -f of a paused container' 'stays; podman pause $c; podman rm -f -t 0 $c'
t 'top' 'up $image sh -c "sleep 1000; true"; podman top $c pid comm args | grep "sleep 1000"; podman top $c -eo pid,comm | grep sleep'
t 'stats' 'stays --memory 64m; podman stats --no-stream --format "{{.MemUsage}} {{.PIDs}}" $c | grep -E "/ 67.*MB 1$"'
t 'update' 'podman update --help >/dev/null; stays --memory 64m; podman update --memory 128m --pids-limit 50 $c || podman update --memory 128m $c; is 134217728 cgroup_file memory memory.limit_in_bytes'
t 'events' 'stays; podman kill $c; podman wait $c; podman events --stream=false --filter container=$c | grep died'
t 'OOM' 'up --memory 16m $image sh -c "dd if=/dev/zero of=/dev/null bs=64M"; is 137 podman wait $c'
t 'OOM of a child is seen by its exit code' 'is 137 run --memory 16m $image sh -c "dd if=/dev/zero of=/dev/null bs=64M; echo \$?"'
t 'cp in and out' 'stays; echo here >/tmp/in; podman cp /tmp/in $c:/tmp/there; podman cp $c:/tmp/there /tmp/out; is here cat /tmp/out'
t 'cp out of a stopped container' 'up $image sh -c "echo left >/root/f"; podman wait $c; podman cp $c:/root/f /tmp/f; is left cat /tmp/f'
t 'diff' 'up $image sh -c "echo x >/root/new; rm /data/file"; podman wait $c; podman diff $c | grep "A /root/new"; podman diff $c | grep "D /data/file"'
t 'diff says what brig diff says, and what brig commits runs' 'up $image sh -c "$changes; $timed"; podman wait $c; same_diff podman "$changes; $timed"; made=$(podman pull -q oci:/tmp/$c.image:made); is x run $made tail -n 1 /hard; if run $made cat /data/file; then exit 1; fi'
t 'commit' 'up $image sh -c "echo new >/root/new"; podman wait $c; podman commit -q $c made:$c; is new podman run --rm made:$c cat /root/new'
t 'export, import' 'up $image sh -c "echo new >/root/new"; podman wait $c; podman export $c | podman import -q - imported:$c; is new podman run --rm imported:$c /bin/cat /root/new'
t 'healthcheck run' 'stays --health-cmd "test -e /tmp/well" --health-interval disable; exits 1 podman healthcheck run $c; podman exec $c touch /tmp/well; podman healthcheck run $c'
t 'healthcheck: unhealthy after retries, healthy again, a timeout' 'health() { podman inspect -f "{{.State.Health.Status}}" $c; }; stays --health-cmd "test -e /tmp/well" --health-interval disable --health-retries 2 --health-start-period 0s; for i in 1 2; do exits 1 podman healthcheck run $c; done; is unhealthy health; podman exec $c touch /tmp/well; podman healthcheck run $c; is healthy health; podman rm -ft0 $c; stays --health-cmd "sleep 5" --health-timeout 1s --health-interval disable; if podman healthcheck run $c; then exit 1; fi'
t '--init: an init of podman reaps' 'is podman-init run --init $image sh -c "cat /proc/1/comm"'

t '-v: a directory of the host' 'mkdir -p /tmp/v; echo 1 >/tmp/v/a; is 1 run -v /tmp/v:/v $image cat /v/a; run -v /tmp/v:/v $image touch /v/b; test -e /tmp/v/b'
t '-v ro' 'mkdir -p /tmp/v; says "Read-only" run -v /tmp/v:/v:ro $image touch /v/c'
t '-v: one file' 'echo 1 >/tmp/one; is 1 run -v /tmp/one:/etc/one $image cat /etc/one'
t '-v: a named volume gets what the image has there' 'is "of the image" run -v $c:/data $image cat /data/file; run -v $c:/data $image sh -c "echo changed >/data/file"; is changed run -v $c:/data $image cat /data/file; podman volume rm $c'
t '-v nosuid,nodev,noexec' 'mkdir -p /tmp/v; run -v /tmp/v:/v:nosuid,nodev,noexec $image grep " /v " /proc/self/mountinfo | grep nosuid,nodev,noexec'
t '-v: a volume over the working directory' 'mkdir -p /tmp/w; is /w run -v /tmp/w:/w -w /w $image pwd'
t '-v rslave: what the host mounts later shows' 'mkdir -p /tmp/p; mount -t tmpfs x /tmp/p; mount --make-shared /tmp/p; mkdir /tmp/p/m; stays -v /tmp/p:/p:rslave; mount -t tmpfs x /tmp/p/m; touch /tmp/p/m/f; podman exec $c test -e /p/m/f; podman rm -ft0 $c; umount -R /tmp/p'
t '-v rshared: what the container mounts shows on the host' 'mkdir -p /tmp/q; mount -t tmpfs x /tmp/q; mount --make-shared /tmp/q; mkdir /tmp/q/m; stays --cap-add sys_admin --security-opt apparmor=unconfined --security-opt seccomp=unconfined -v /tmp/q:/q:rshared; podman exec $c mount -t tmpfs y /q/m; grep " /tmp/q/m " /proc/self/mountinfo; podman rm -ft0 $c; umount -R /tmp/q'
t '--mount type=bind' 'mkdir -p /tmp/v; echo 1 >/tmp/v/a; is 1 run --mount type=bind,src=/tmp/v,dst=/v,ro $image cat /v/a'
t '--mount type=tmpfs' 'run --mount type=tmpfs,dst=/t,tmpfs-size=1m $image grep " /t " /proc/self/mountinfo | grep size=1024k'
t '--mount type=devpts, image, volume' 'run --mount type=devpts,dst=/pts $image grep " /pts devpts" /proc/mounts; is "of the image" run --mount type=image,src=$image,dst=/box $image cat /box/data/file; is "of the image" run --mount type=volume,src=$c,dst=/data $image cat /data/file; podman volume rm $c'
t '--mount bind-nonrecursive' 'mkdir -p /tmp/n; mount -t tmpfs x /tmp/n; mkdir /tmp/n/m; mount -t tmpfs y /tmp/n/m; touch /tmp/n/m/f; run -v /tmp/n:/n $image test -e /n/m/f; is "" run --mount type=bind,src=/tmp/n,dst=/n,bind-nonrecursive $image ls /n/m; umount -R /tmp/n'
t '-v: readonly with what is mounted below' 'mkdir -p /tmp/n; mount -t tmpfs x /tmp/n; mkdir /tmp/n/m; mount -t tmpfs y /tmp/n/m; says Read-only run -v /tmp/n:/n:ro $image touch /n/f; run -v /tmp/n:/n:ro,rslave $image touch /n/m/f; umount -R /tmp/n'
t '--volumes-from' 'stays -v /data; podman exec $c sh -c "echo v >/data/x"; is v run --volumes-from $c $image cat /data/x'
t '-v :O, an overlay' 'mkdir -p /tmp/o; echo 1 >/tmp/o/a; is 2 run -v /tmp/o:/o:O $image sh -c "echo 2 >/o/a; cat /o/a"; is 1 cat /tmp/o/a'
t '-v :U, chowned' 'mkdir -p /tmp/u; is 1000 run --user user -v /tmp/u:/u:U $image stat -c %u /u'
t '-v :idmap: ids of the container for a directory of the host' '[ "$(basename $RUNTIME_PATH)" = brig ] || $RUNTIME_PATH features | grep -q idmap || skip "this runtime maps no ids of mounts"; mkdir -p /tmp/i; touch /tmp/i/root; is 0 run --uidmap 0:100000:65536 -v /tmp/i:/i:idmap $image stat -c %u /i/root; run --uidmap 0:100000:65536 -v /tmp/i:/i:idmap $image touch /i/mine; is 0 stat -c %u /tmp/i/mine; is 65534 run --uidmap 0:100000:65536 -v /tmp/i:/i $image stat -c %u /i/root'
t '--secret: a file, with owner and mode, and a variable' 'echo hidden | podman secret create s$c - >/dev/null; is "hidden 1000 400" run --secret s$c,uid=1000,mode=0400,target=mine --user user $image sh -c "echo \$(cat /run/secrets/mine) \$(stat -c \"%u %a\" /run/secrets/mine)"; is hidden run --secret s$c,type=env,target=S $image sh -c "echo \$S"; podman secret rm s$c'
t '--tmpfs has what the image has there' 'is "of the image" run --tmpfs /data $image cat /data/file'
t '--tmpfs with options' 'run --tmpfs /t:size=2m,mode=1700 $image sh -c "stat -c %a /t; grep \" /t \" /proc/mounts" | tee /tmp/x; grep 1700 /tmp/x; grep size=2048k /tmp/x'
t '--tmpfs notmpcopyup' 'is 0 run --tmpfs /data:notmpcopyup $image sh -c "ls /data | wc -l"'
t '--read-only' 'says "Read-only" run --read-only $image touch /x; run --read-only $image touch /tmp/x /run/x'
t '--read-only --read-only-tmpfs=false' 'says "Read-only" run --read-only --read-only-tmpfs=false $image touch /tmp/x'
t '--device' 'is 1:7 run --device /dev/full:/dev/mine $image stat -c %t:%T /dev/mine; says "No space" run --device /dev/full:/dev/mine $image sh -c "echo >/dev/mine"'
t '--device r, w' 'says "not permitted" run --device /dev/fuse:/dev/mine:w $image sh -c "exec 3</dev/mine"; run --device /dev/fuse:/dev/mine:r $image sh -c "exec 3</dev/mine"'
t '--device-cgroup-rule' 'run --cap-add mknod --device-cgroup-rule "c 1:7 rwm" $image sh -c "mknod /tmp/f c 1 7; head -c 1 /tmp/f" >/dev/null; says "not permitted" run --cap-add mknod $image sh -c "mknod /tmp/f c 1 11; head -c 1 /tmp/f"'
t 'default devices' 'run $image sh -c "echo >/dev/null; head -c 1 /dev/zero /dev/urandom /dev/random >/dev/null; test -c /dev/tty; test -L /dev/stdin; test -L /dev/fd; test -L /dev/ptmx"'
t '--ulimit' 'is "100 200" run --ulimit nofile=100:200 --ulimit nproc=50:60 $image sh -c "echo \$(ulimit -Sn) \$(ulimit -Hn)"'
t '--sysctl' 'is 123 run --sysctl kernel.msgmax=123 $image cat /proc/sys/kernel/msgmax; is 1 run --net bridge --sysctl net.ipv4.ip_forward=1 $image cat /proc/sys/net/ipv4/ip_forward'
t '--cap-drop all' 'is 0000000000000000 run --cap-drop all $image sh -c "grep CapEff /proc/self/status | cut -f 2"'
t '--cap-add, as root and as a user' 'is 0000000000003000 run --cap-drop all --cap-add net_admin,net_raw $image sh -c "grep CapEff /proc/self/status | cut -f 2"; is 0000000000001000 run --user user --cap-drop all --cap-add net_admin $image sh -c "grep CapEff /proc/self/status | cut -f 2"'
t '--privileged' 'is 1 run --privileged $image sh -c "mount -t tmpfs x /mnt 2>/dev/null || mount -t tmpfs x /tmp; grep -c \" /sys sysfs rw\" /proc/mounts"; run --privileged $image test -e /dev/kmsg'
# brig in a container, on an overlay, with the cgroups that it finds there.
cat >/run/world/nested <<'END'
set -eu
mkdir -p /b/rootfs/proc /b/rootfs/dev /b/rootfs/sys /b/rootfs/tmp
cp -a /bin /etc /b/rootfs
brig spec --bundle /b
sed -i 's/"terminal": true/"terminal": false/; s/"args": .*/"args": ["sleep", "100"],/' /b/config.json
brig run --detach --bundle /b inner
brig exec inner id -u
brig pause inner && brig resume inner
brig delete --force inner
sed -i 's/"args": .*/"args": ["echo", "done"],/' /b/config.json
brig run --bundle /b inner
END
nested() { run -v "$RUNTIME_PATH:/bin/brig:ro" -v /run/world/nested:/nested:ro "$@" $image sh /nested; }
export -f nested
t 'brig in --privileged' '[[ ${RUNTIME_PATH##*/} = brig* ]] || skip "brig alone is static"; is "0 done" echo $(nested --privileged); is "0 done" echo $(nested --privileged --userns auto)'
t 'brig with CAP_SYS_ADMIN says what is missing' '[[ ${RUNTIME_PATH##*/} = brig* ]] || skip "brig alone is static"; says "mkdir.*Read-only file system" nested --cap-add sys_admin --security-opt seccomp=unconfined'
t '--security-opt seccomp=FILE' 'echo "{\"defaultAction\":\"SCMP_ACT_ALLOW\",\"syscalls\":[{\"names\":[\"mkdir\",\"mkdirat\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":30}]}" >/tmp/s.json; says "Read-only" run --security-opt seccomp=/tmp/s.json $image mkdir /tmp/x; is 2 run --security-opt seccomp=/tmp/s.json $image sh -c "grep Seccomp: /proc/self/status | cut -f 2"'
t '--security-opt seccomp=unconfined' 'is 0 run --security-opt seccomp=unconfined $image sh -c "grep Seccomp: /proc/self/status | cut -f 2"'
t 'default seccomp profile' 'is 2 run $image sh -c "grep Seccomp: /proc/self/status | cut -f 2"; says "not permitted|denied" run $image unshare -m true'
t 'no-new-privileges' 'is 1 run --security-opt no-new-privileges $image sh -c "grep NoNewPrivs /proc/self/status | cut -f 2"'
t '--security-opt mask, unmask' 'is 0 run --security-opt mask=/data $image sh -c "ls /data | wc -l"; is 0 run $image sh -c "cat /proc/kcore | wc -c"; is 1 run --security-opt unmask=ALL $image sh -c "mount | grep -c ^proc"'
t 'masked and read-only paths' 'says "Read-only" run $image sh -c "echo 1 >/proc/sys/kernel/msgmax"; is 0 run $image sh -c "cat /proc/timer_list /proc/keys 2>/dev/null | wc -c"'
t '--user by name, number, group' 'is "1000 1000" run --user user $image sh -c "echo \$(id -u) \$(id -g)"; is "5 6" run --user 5:6 $image sh -c "echo \$(id -u) \$(id -g)"; is /home/user run --user user $image sh -c "echo \$HOME"'
t '--user that does not exist' 'says "unable to find user" run --user nobodyknows $image true'
t '--group-add' 'is "0 7 2000" run --group-add extra --group-add 7 $image id -G'
t '--umask' 'is 0077 run --umask 077 $image sh -c umask'
t '--hostname' 'is box1 run --hostname box1 $image hostname; is box1 run --hostname box1 $image cat /etc/hostname'
t '--shm-size' 'run --shm-size 3m $image grep /dev/shm /proc/mounts | grep size=3072k'
t '--oom-score-adj' 'is 500 run --oom-score-adj 500 $image cat /proc/self/oom_score_adj'
t '--personality' 'is i686 run --personality=LINUX32 $image uname -m'
t '--systemd=always' 'run --systemd=always $image sh -c "grep \" /run tmpfs\" /proc/mounts && grep \" /sys/fs/cgroup/systemd cgroup rw\" /proc/mounts"; is 37 run --systemd=always $image sh -c "exit 37" || exits 37 run --systemd=always $image sh -c "exit 37"'
t '--security-opt proc-opts' 'run --security-opt proc-opts=hidepid=2 $image grep " /proc proc .*hidepid=" /proc/mounts'
t '--timezone, /etc/hosts, /etc/resolv.conf' 'run --net bridge --add-host there:10.1.2.3 --dns 10.9.9.9 $image sh -c "grep 10.1.2.3 /etc/hosts && grep 10.9.9.9 /etc/resolv.conf"'

t '--memory' 'is 67108864 run --cgroupns host --memory 64m $image cat /sys/fs/cgroup/memory/memory.limit_in_bytes'
t '--memory-reservation, --memory-swappiness' 'stays --memory 64m --memory-reservation 32m --memory-swappiness 10; is 33554432 cgroup_file memory memory.soft_limit_in_bytes; is 10 cgroup_file memory memory.swappiness'
t '--memory-swap' 'stays --memory 64m --memory-swap 128m; f=/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes; ! test -e $f || is 134217728 cgroup_file memory memory.memsw.limit_in_bytes; podman rm -ft0 $c; stays --memory 64m --memory-swap -1'
t '--oom-kill-disable' 'stays --memory 64m --oom-kill-disable; cgroup_file memory memory.oom_control | grep "oom_kill_disable 1"'
t '--cpus' 'stays --cpus 0.5; is 50000 cgroup_file cpu cpu.cfs_quota_us; is 100000 cgroup_file cpu cpu.cfs_period_us'
t '--cpu-quota, --cpu-period, --cpu-shares' 'stays --cpu-quota 20000 --cpu-period 50000 --cpu-shares 300; is "20000 50000 300" echo $(cgroup_file cpu cpu.cfs_quota_us) $(cgroup_file cpu cpu.cfs_period_us) $(cgroup_file cpu cpu.shares)'
t '--cpuset-cpus, --cpuset-mems' 'stays --cpuset-cpus 0 --cpuset-mems 0; is 0 cgroup_file cpuset cpuset.cpus; is 0 podman exec $c sh -c "grep Cpus_allowed_list /proc/self/status | cut -f 2"'
t '--pids-limit' 'stays --pids-limit 7; is 7 cgroup_file pids pids.max; says "fork|temporarily" run --pids-limit 3 $image sh -c "sleep 1 & sleep 1 & sleep 1 & sleep 1 & wait"'
t '--blkio-weight-device, --device-read-bps' 'stays --device-read-bps /dev/vda:1mb || skip "no disk /dev/vda"; cgroup_file blkio blkio.throttle.read_bps_device | grep 1048576'
t '--blkio-weight' 'stays --blkio-weight 300; cgroup_file blkio blkio.bfq.weight 2>/dev/null || cgroup_file blkio blkio.weight'
t '--device-write-iops, --device-write-bps' 'stays --device-write-iops /dev/vda:100 --device-write-bps /dev/vda:2mb || skip "no disk /dev/vda"; cgroup_file blkio blkio.throttle.write_iops_device | grep " 100$"; cgroup_file blkio blkio.throttle.write_bps_device | grep 2097152'
t '--cgroup-parent' 'stays --cgroup-parent /mine/own; grep /mine/own/libpod- /proc/$(podman inspect -f "{{.State.Pid}}" $c)/cgroup'
t '--cgroupns private' 'is / run --cgroupns private $image sh -c "grep pids /proc/self/cgroup | cut -d : -f 3"'
t '--cgroupns host' 'run --cgroupns host $image grep libpod /proc/self/cgroup'
t '--cgroupns container:X' 'stays --cgroupns private; is "$(podman exec $c readlink /proc/self/ns/cgroup)" run --cgroupns container:$c $image readlink /proc/self/ns/cgroup'
t '--cgroups=no-conmon' 'run --cgroups=no-conmon $image true'
t '--cgroups=disabled' '[ "$(basename $RUNTIME_PATH)" != runc ] || skip "runc cannot do without"; stays --cgroups=disabled; is "$(sed "s/^[0-9]*://" /proc/$(cat $(podman inspect -f "{{.ConmonPidFile}}" $c))/cgroup)" sed "s/^[0-9]*://" /proc/$(podman inspect -f "{{.State.Pid}}" $c)/cgroup; podman exec $c true; podman stop -t 0 $c'
t '/sys/fs/cgroup in the container' 'run $image sh -c "ls /sys/fs/cgroup/memory/memory.usage_in_bytes /sys/fs/cgroup/pids"'
t 'no cgroup is left' 'stays; id=$(podman inspect -f "{{.Id}}" $c); find /sys/fs/cgroup -name "libpod-$id" | grep .; podman rm -ft0 $c; is "" find /sys/fs/cgroup -name "libpod-$id"'

t '--net none' 'is lo run --net none $image ls /sys/class/net'
t '--net host' 'is "$(readlink /proc/self/ns/net)" run --net host $image readlink /proc/self/ns/net'
t '--net bridge' 'run --net bridge $image ip addr | grep "inet 10\\."; run --net bridge --cap-add net_raw $image ping -c 1 10.88.0.1'
t '--net container:X' 'stays --net bridge; is "$(podman exec $c readlink /proc/self/ns/net)" run --net container:$c $image readlink /proc/self/ns/net'
t '--net ns:PATH' 'ip netns add mine; run --net ns:/run/netns/mine $image ls /sys/class/net; ip netns del mine'
t '-p: a published port' 'up --net bridge -p 8080:80 $image sh -c "mkdir /www; echo page >/www/index.html; httpd -f -p 80 -h /www"; ip=$(podman inspect -f "{{.NetworkSettings.IPAddress}}" $c); within 10 page $ip 80; page $ip 80 | grep page; page 127.0.0.1 8080 | grep page'
t 'a network of ones own, names' 'podman network create n$c; up --net n$c --network-alias web $image sleep 1000; podman run --rm --cap-add net_raw --net n$c $image ping -c 1 $(podman inspect -f "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}" $c); podman rm -ft0 $c; podman network rm n$c'
t '--pid host' 'is "$(readlink /proc/self/ns/pid)" run --pid host $image readlink /proc/self/ns/pid'
t '--pid host: rm -f ends all' 'up --pid host $image sh -c "sleep 7654 & sleep 7654"; within 5 pgrep -f "sleep 7654"; podman rm -ft0 $c; within 5 sh -c "! pgrep -f \"^sleep 7654\""'
t '--pid container:X' 'stays; is "$(podman exec $c readlink /proc/self/ns/pid)" run --pid container:$c $image readlink /proc/self/ns/pid; run --pid container:$c $image ps | grep "sleep 1000"'
t '--ipc host, container:X' 'is "$(readlink /proc/self/ns/ipc)" run --ipc host $image readlink /proc/self/ns/ipc; stays --ipc shareable; is "$(podman exec $c readlink /proc/self/ns/ipc)" run --ipc container:$c $image readlink /proc/self/ns/ipc'
t '--ipc none, private' 'run --ipc private $image grep " /dev/shm " /proc/mounts; if run --ipc none $image grep " /dev/shm " /proc/mounts; then exit 1; fi'
t '--uts host, container:X' 'is engines run --uts host $image hostname; stays --hostname other; is other run --uts container:$c $image hostname'
t '--userns auto' 'grep -q containers /etc/subuid || skip "no user containers in /etc/subuid"; run --userns auto $image cat /proc/self/uid_map; is 0 run --userns auto $image id -u; test $(run --userns auto $image cat /proc/self/uid_map | awk "{print \$2}") != 0'
t '--uidmap, --gidmap' 'is "0 100000 65536" run --uidmap 0:100000:65536 --gidmap 0:200000:65536 $image sh -c "echo \$(cat /proc/self/uid_map)"; is 0 run --uidmap 0:100000:65536 $image stat -c %u /bin/busybox; run --uidmap 0:100000:65536 --user user $image id -u'
t '--userns: exec, volumes, limits' 'stays --uidmap 0:100000:65536 --memory 64m --tmpfs /t -v $c:/data; is 0 podman exec $c id -u; podman exec $c touch /data/x /t/x /root/x'
t '--userns container:X' 'stays --uidmap 0:100000:65536; is "$(podman exec $c readlink /proc/self/ns/user)" run --userns container:$c $image readlink /proc/self/ns/user'
t '--userns with --net bridge, sysctl, hostname' 'is 1 run --uidmap 0:100000:65536 --net bridge --hostname h --sysctl net.ipv4.ip_forward=1 $image cat /proc/sys/net/ipv4/ip_forward'
t '--rootfs' 'mkdir -p /tmp/root; cp -a /run/world/box/. /tmp/root; is hello podman run --rm --rootfs /tmp/root echo hello; is hello podman run --rm --rootfs /tmp/root:O echo hello'
t '--preserve-fds' 'is deep run --preserve-fds 1 $image cat <&- 0</dev/null 3< <(echo deep) || is deep run --preserve-fds 1 $image sh -c "cat <&3" 3< <(echo deep)'
t '--rootfs :O: what is written is not in the directory' 'mkdir -p /tmp/rooted; cp -a /run/world/box/. /tmp/rooted; podman run -d --name $c --rootfs /tmp/rooted:O sleep 1000 >/dev/null; podman exec $c touch /new; podman rm -ft0 $c; test ! -e /tmp/rooted/new'
t '--annotation, --label' 'stays --annotation a=b --label l=m; is "b m" podman inspect -f "{{.Config.Annotations.a}} {{.Config.Labels.l}}" $c'
t '--pidfile, --cidfile' 'stays --pidfile /tmp/pid --cidfile /tmp/cid; is "$(podman inspect -f "{{.State.Pid}}" $c)" cat /tmp/pid'
t '--hooks-dir' 'mkdir -p /tmp/h; printf "#!/bin/sh\ncat >/tmp/h/told\n" >/tmp/h/x; chmod +x /tmp/h/x; echo "{\"version\":\"1.0.0\",\"hook\":{\"path\":\"/tmp/h/x\"},\"when\":{\"always\":true},\"stages\":[\"prestart\"]}" >/tmp/h/x.json; podman --hooks-dir /tmp/h run --rm $image true; grep "\"status\"" /tmp/h/told; grep "\"pid\"" /tmp/h/told'
t 'a device by its CDI name, with hooks that need PATH and change the root before the pivot' 'is "1:7 a driver of the host createRuntime all" run --device brig.test/gpu=all $image sh -c "echo \$(stat -c %t:%T /dev/gpu0) \$(cat /usr/lib/driver.1 /etc/hooked) \$GPU"; podman run --name $c --device brig.test/gpu=all $image sh -c "echo x >/usr/share/of-the-host" || test $? = 1; is "a driver of the host" cat /run/world/driver; podman logs $c 2>&1 | grep Read-only'
# Their output is read from the logs: conmon logs a line and yet loses it for the attached podman, if the
# container writes before conmon has accepted podman's connection (1 of 1200 here).
t '20 at once' 'for i in $(seq 20); do podman run --name $c-$i $image echo $i >/dev/null & pids[i]=$!; done; for i in $(seq 20); do wait ${pids[i]}; is $i podman logs $c-$i; done; for i in $(seq 20); do podman rm $c-$i; done'

t 'pod: shared network, ipc, uts' 'podman pod create --name p$c --infra=false >/dev/null; podman run -d --pod p$c --name $c $image sleep 1000; podman pod rm -ft0 p$c'
t 'pod with an infra container' 'podman pod create --name p$c --net bridge --hostname podhost >/dev/null; podman run -d --pod p$c --name $c $image sleep 1000; is podhost podman exec $c hostname; is "$(podman exec $c readlink /proc/self/ns/net)" podman run --rm --pod p$c $image readlink /proc/self/ns/net; podman pod pause p$c; podman pod unpause p$c; podman pod stop -t 0 p$c; podman pod start p$c; podman pod rm -ft0 p$c'
t 'play kube, down' 'printf "apiVersion: v1\nkind: Pod\nmetadata:\n  name: k$c\nspec:\n  containers:\n  - name: one\n    image: box:1\n    command: [sleep, \"1000\"]\n    resources:\n      limits:\n        memory: 64Mi\n    securityContext:\n      runAsUser: 1000\n" >/tmp/kube.yaml; podman play kube --network none /tmp/kube.yaml; is 1000 podman exec k$c-one id -u; podman play kube --down /tmp/kube.yaml'
t 'generate kube' 'stays; podman generate kube $c | grep "kind: Pod"'

t 'play kube: init containers, a volume, probes, exec, restart; two containers' 'cat >/tmp/kube.yaml <<END
apiVersion: v1
kind: Pod
metadata: {name: k$c}
spec:
  restartPolicy: OnFailure
  initContainers:
  - {name: first, image: "box:1", command: [sh, -c, "echo of the first >/shared/x"], volumeMounts: [{name: shared, mountPath: /shared}]}
  containers:
  - name: one
    image: box:1
    command: [sh, -c, "cat /shared/x; exec sleep 1000"]
    volumeMounts: [{name: shared, mountPath: /shared}]
    securityContext: {readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
  - name: two
    image: box:1
    command: [sleep, "1000"]
    volumeMounts: [{name: shared, mountPath: /shared, readOnly: true}]
  volumes: [{name: shared, emptyDir: {}}]
END
podman play kube --network none /tmp/kube.yaml
within 5 is "of the first" podman logs k$c-one
is "of the first" podman exec k$c-two cat /shared/x
says Read-only podman exec k$c-two touch /shared/y
is 0000000000000000 podman exec k$c-one sh -c "grep CapEff /proc/self/status | cut -f 2"
podman play kube --down /tmp/kube.yaml'
t 'system service, with the client of docker: run, exec, logs, cp, stop, rm' 'test -x /usr/bin/docker || skip "no docker here"; docker() { /usr/bin/docker "$@"; }; podman system service -t 30 unix:///tmp/$c.sock & within 10 test -S /tmp/$c.sock; export DOCKER_HOST=unix:///tmp/$c.sock; is hello docker run --rm --net none $image echo hello; exits 3 docker run --name $c-3 --net none $image sh -c "exit 3"; docker rm $c-3; docker run -d --net none --name $c --memory 64m $image sh -c "echo one; sleep 1000"; is hi docker exec $c echo hi; exits 9 docker exec $c sh -c "exit 9"; is one docker logs $c; docker top $c | grep "sleep 1000"; echo here >/tmp/in; docker cp /tmp/in $c:/root/there; is here docker exec $c cat /root/there; docker pause $c; docker unpause $c; docker stop -t 0 $c; is 137 docker wait $c; docker rm $c'

build() { mkdir -p "/tmp/$c"; cat >"/tmp/$c/Dockerfile"; echo copied >"/tmp/$c/file"; tar -C /tmp/$c -cf /tmp/$c/add.tar file; podman build -q --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$@" -t "built:$c" "/tmp/$c"; }
export -f build
t 'build: FROM RUN COPY ADD ENV EXPOSE VOLUME WORKDIR CMD' 'printf "FROM box:1\nENV A=1\nRUN echo \$A >/root/ran && id -u\nCOPY file /root/copied\nADD add.tar /root/added/\nEXPOSE 80\nVOLUME /vol\nWORKDIR /work\nCMD [\"sh\",\"-c\",\"cat /root/ran /root/copied /root/added/file; pwd\"]\n" | build; is "1
copied
copied
/work" run built:$c'
t 'build: ENTRYPOINT, USER, ARG' 'printf "FROM box:1\nARG W=x\nUSER user\nRUN id -u >/tmp/id; echo \$W >/tmp/w\nENTRYPOINT [\"cat\"]\nCMD [\"/tmp/id\"]\n" | build --build-arg W=y; is 1000 run built:$c; is y run built:$c /tmp/w'
t 'build: VOLUME is one when it runs, with what the image has there' 'printf "FROM box:1\nRUN mkdir /vol && echo of the build >/vol/f\nVOLUME /vol\nCMD [\"sh\",\"-c\",\"grep -c \\\\\" /vol \\\\\" /proc/mounts; cat /vol/f\"]\n" | build; is "1
of the build" run built:$c'
t 'build: a failing RUN ends it with its code' 'if printf "FROM box:1\nRUN exit 7\n" | build >/tmp/said 2>&1; then exit 1; fi; grep "exit status 7" /tmp/said'
t 'build: RUN of a missing program' 'if printf "FROM box:1\nRUN [\"nonsense\"]\n" | build >/tmp/said 2>&1; then exit 1; fi; grep "executable file.* not found in .PATH" /tmp/said'
t 'build: two stages' 'printf "FROM box:1 AS one\nRUN echo first >/f\nFROM box:1\nCOPY --from=one /f /g\nCMD cat /g\n" | build; is first run built:$c'
t 'build: RUN --mount' 'printf "FROM box:1\nRUN --mount=type=tmpfs,target=/t --mount=type=bind,source=file,target=/b cat /b >/t/x && cp /t/x /x\nCMD cat /x\n" | build; is copied run built:$c'
t 'build: limits' 'printf "FROM box:1\nRUN cat /sys/fs/cgroup/memory/memory.limit_in_bytes >/limit || true\n" | build --memory 64m --cpu-shares 100'
t 'build --isolation chroot' 'printf "FROM box:1\nRUN echo hi >/x\nCMD cat /x\n" | build --isolation chroot; is hi run built:$c'

t 'info names the runtime' 'is tested podman info -f "{{.Host.OCIRuntime.Name}}"; podman info -f "{{.Host.OCIRuntime.Version}}" | grep "version"'
# Counts as long as it runs, and shows the count.
counts() { up "$@" $image sh -c 'i=0; while :; do i=$((i+1)); echo $i >/tmp/n; sleep 0.1; done'; within 5 podman exec "$c" test -s /tmp/n; }
# with_criu: skips a test if CRIU does not work.
with_criu() { criu check >/dev/null 2>&1 || skip 'criu check does not succeed here'; }
grows() { local before; before=$(podman exec "$c" cat /tmp/n); sleep 0.5; [ "$(podman exec "$c" cat /tmp/n)" -gt "$before" ]; }
export -f counts with_criu grows
t 'checkpoint, restore' 'with_criu; counts; podman container checkpoint $c; is exited status; podman container restore $c; is running status; grows'
t 'checkpoint --leave-running' 'with_criu; counts; podman container checkpoint --leave-running $c; is running status; grows'
t 'checkpoint --export, rm, restore --import' 'with_criu; counts; podman container checkpoint --export /tmp/$c.tar.gz $c; podman rm $c; podman container restore --import /tmp/$c.tar.gz; is running status; grows'
t 'checkpoint --export -R, restore --import under another name, twice, beside it' 'with_criu; counts; first=$c; podman container checkpoint -R --export /tmp/$c.tar.gz $c; for c in $first-2 $first-3; do podman container restore --import /tmp/$first.tar.gz --name $c; is running status; grows; done; c=$first; grows; podman rm -ft0 $c-2 $c-3'
t 'checkpoint --export out of a pod, restore --import into another' 'with_criu; podman pod create --name p$c --net bridge --hostname podhost >/dev/null; podman run -d --pod p$c --name $c $image sh -c "i=0; while :; do i=\$((i+1)); echo \$i >/tmp/n; sleep 0.1; done"; within 5 podman exec $c test -s /tmp/n; podman container checkpoint --export /tmp/$c.tar.gz $c; podman pod rm -ft0 p$c; q=$(podman pod create --name q$c --net bridge --hostname other); podman container restore --import /tmp/$c.tar.gz --pod $q --name $c; is running status; grows; podman pod rm -ft0 q$c'
t 'checkpoint --pre-checkpoint, checkpoint --with-previous' 'with_criu; criu check --feature mem_dirty_track >/dev/null 2>&1 || skip "no soft-dirty memory in this kernel"; counts; podman container checkpoint -P -e /tmp/$c.1.tar.gz $c; podman container checkpoint --with-previous -e /tmp/$c.2.tar.gz $c; podman rm $c; podman container restore -i /tmp/$c.2.tar.gz --import-previous /tmp/$c.1.tar.gz; is running status; grows'
t 'checkpoint --print-stats' 'with_criu; counts; podman container checkpoint --print-stats $c | grep -i freezing; podman container restore --print-stats $c | grep -i forking'
t 'checkpoint, restore with -t' 'with_criu; counts -t; podman container checkpoint $c; podman container restore $c; is running status; grows'
t 'nothing is left running' 'podman rm -aft0 >/dev/null; within 5 sh -c "! pgrep -ax conmon"; is 0 sh -c "ls /run/brig 2>/dev/null | wc -l"'
