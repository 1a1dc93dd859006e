# podman-rootless.sh: podman as an unprivileged user, with slirp4netns and newuidmap.
# needs: podman conmon uidmap slirp4netns fuse-overlayfs catatonit netavark
# suite needs: passt

# A user of this environment only: the host's user databases are covered.
for file in passwd group subuid subgid; do cp /etc/$file /run/world/$file 2>/dev/null || : >/run/world/$file; done
echo 'ordinary:x:1500:1500::/run/world/home:/bin/bash' >>/run/world/passwd
echo 'ordinary:x:1500:' >>/run/world/group
echo 'ordinary:300000:65536' | tee -a /run/world/subuid >>/run/world/subgid
for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || skip "no /etc/$file"
    mount --bind /run/world/$file /etc/$file
done
for node in fuse:10:229 net/tun:10:200; do
    IFS=: read -r name major minor <<<"$node"
    mknod -m 666 "/run/world/${name#*/}" c "$major" "$minor"
    mount --bind "/run/world/${name#*/}" "/dev/$name"
done
mkdir -p /run/world/home /run/user/1500
chown 1500:1500 /run/world/home /run/user/1500
chmod 700 /run/user/1500
chmod 755 /run/world
AS=(setpriv --reuid 1500 --regid 1500 --clear-groups)
export HOME=/run/world/home XDG_RUNTIME_DIR=/run/user/1500 USER=ordinary LOGNAME=ordinary
export CONTAINERS_CONF=/run/world/containers.conf CONTAINERS_STORAGE_CONF=/run/world/storage.conf
unset DBUS_SESSION_BUS_ADDRESS
cat >$CONTAINERS_CONF <<END
[containers]
netns = "none"
log_driver = "k8s-file"
[engine]
runtime = "tested"
cgroup_manager = "cgroupfs"
events_logger = "file"
infra_image = "localhost/pause:1"
runtime_supports_json = ["tested"]
[engine.runtimes]
tested = ["$RUNTIME_PATH"]
END
cat >$CONTAINERS_STORAGE_CONF <<END
[storage]
driver = "overlay"
runroot = "/run/user/1500/containers"
graphroot = "/run/world/home/storage"
END
cd /run/world/home
"${AS[@]}" podman load -qi /run/world/box.tar
printf 'FROM box:1\nENTRYPOINT ["sleep","1000"]\n' | "${AS[@]}" podman build -q --isolation chroot -t localhost/pause:1 -

run() { podman run --rm "$@"; }
up() { podman run -d --name "$c" "$@" >/dev/null; }
stays() { up "$@" $image sleep 1000; }
status() { podman inspect -f '{{.State.Status}}' "$c"; }
forget() { "${AS[@]}" podman rm -f -i -v -t 0 "$1"; }
page() { exec 3<>"/dev/tcp/$1/$2" && printf 'GET / HTTP/1.0\r\n\r\n' >&3 && cat <&3; }
build() { mkdir -p "/tmp/$c"; cat >"/tmp/$c/Dockerfile"; echo copied >"/tmp/$c/file"; podman build -q --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$@" -t "built:$c" "/tmp/$c"; }
export -f run up stays status page build

t 'run says what the program says' 'is hello run $image echo hello'
t 'run: exit codes' 'exits 3 run $image sh -c "exit 3"; exits 126 run $image /etc/passwd; exits 127 run $image nonsense; exits 127 run $image /no/such'
t 'run: texts of 126 and 127' 'says "permission denied" run $image /etc/passwd; says "executable file.* not found in .PATH" run $image nonsense'
t 'run: root inside is the user outside' 'is "0 1500 1" run $image sh -c "set -- \$(head -n 1 /proc/self/uid_map); echo \$*"'
t 'run: ids of /etc/subuid' 'is "1 300000 65536" run $image sh -c "set -- \$(tail -n 1 /proc/self/uid_map); echo \$*"'
t 'run -i: stdin' 'is 5 run -i $image wc -c <<<"four"'
t 'run -it' 'typing "size 31 77
see /
type stty size\\r
see 31 77
type exit 5\\r
code 5" podman run --rm -it $image sh'
t 'run -d, logs, wait' 'up $image sh -c "echo one; exit 4"; is 4 podman wait $c; is one podman logs $c'
t 'attach' 'up -i $image sh -c "read x; echo got \$x"; is "got hey" podman attach $c <<<hey'
t 'exec' 'stays; is hi podman exec $c echo hi; exits 9 podman exec $c sh -c "exit 9"; exits 127 podman exec $c nonsense; exits 126 podman exec $c /etc/passwd'
t 'exec -it' 'stays; typing "size 25 99
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
t 'run -it: detach keys, attach again' 'typing "see /
type \\x10
wait 0.2
type \\x11
code 0" podman run -it --name $c $image sh; is running status; typing "type echo a\$((1))b\\r
see a1b
type exit 7\\r
end" podman attach $c; is 7 podman wait $c'
t 'exec -u, -w, -e, -d' 'stays; is "1000 1000 /tmp v" podman exec -u user -w /tmp -e V=v $c sh -c "echo \$(id -u) \$(id -g) \$(pwd) \$V"; podman exec -d $c touch /tmp/d; within 5 podman exec $c test -e /tmp/d'
t 'stop: TERM, then KILL' 'up $image sh -c "trap : TERM; while :; do sleep 0.1; done"; podman stop -t 1 $c; is 137 podman wait $c; podman start $c; podman kill $c; is 137 podman wait $c'
t 'kill, restart, rm -f' 'stays; podman kill -s KILL $c; podman wait $c; podman restart -t 0 $c; is running status; podman rm -f -t 0 $c; if podman container exists $c; then exit 1; fi'
t 'kill by every spelling' 'up $image sh -c "trap \"echo got\" HUP; trap \"echo got\" 35; echo up; while :; do sleep 0.1; done"; within 10 lines 1 up podman logs $c; n=0; for s in HUP SIGHUP 1 RTMIN+1; do podman kill -s $s $c; n=$((n+1)); within 10 lines $n got podman logs $c; done'
t 'restart policy' 'up --restart=on-failure:2 $image sh -c "echo ran; exit 1"; within 20 is 3 sh -c "podman logs $c | wc -l"'
t 'events, export, import' 'up $image sh -c "echo new >/root/new"; podman wait $c; podman events --stream=false --filter container=$c | grep died; podman export $c | podman import -q - imported:$c; is new podman run --rm imported:$c /bin/cat /root/new'
t 'top, cp, diff, commit' 'stays; podman top $c | grep sleep; echo here >/tmp/in; podman cp /tmp/in $c:/root/there; podman diff $c | grep "A /root/there"; podman commit -q $c made:$c; is here run made:$c cat /root/there'
t 'healthcheck run' 'stays --health-cmd "test -e /tmp/well" --health-interval disable; exits 1 podman healthcheck run $c; podman exec $c touch /tmp/well; podman healthcheck run $c'
t '--init' 'is podman-init run --init $image sh -c "cat /proc/1/comm"'
t '-v, ro, named' 'mkdir -p /tmp/v; echo 1 >/tmp/v/a; is 1 run -v /tmp/v:/v $image cat /v/a; says Read-only run -v /tmp/v:/v:ro $image touch /v/b; is "of the image" run -v $c:/data $image cat /data/file'
t '-v of a mount with flags the user may not clear' 'is 0 run -v /run/user/1500:/r $image sh -c "touch /r/x; echo \$?"'
t '-v :U, :O, rslave, nosuid' 'mkdir -p /tmp/u; is 1000 run --user user -v /tmp/u:/u:U $image stat -c %u /u; mkdir -p /tmp/o; echo 1 >/tmp/o/a; is 2 run -v /tmp/o:/o:O $image sh -c "echo 2 >/o/a; cat /o/a"; is 1 cat /tmp/o/a; run -v /tmp/o:/v:rslave,nosuid,nodev,noexec $image grep " /v " /proc/self/mountinfo | grep nosuid,nodev,noexec'
t '--tmpfs, --read-only' 'is "of the image" run --tmpfs /data $image cat /data/file; says Read-only run --read-only $image touch /x'
t '--device' 'run --device /dev/fuse $image test -c /dev/fuse'
t 'default devices' 'run $image sh -c "echo >/dev/null; head -c 1 /dev/zero /dev/urandom >/dev/null; test -c /dev/tty"'
t '--sysctl, --hostname, --shm-size, --umask' 'is "123 h 0077" run --sysctl kernel.msgmax=123 --hostname h --shm-size 3m --umask 077 $image sh -c "echo \$(cat /proc/sys/kernel/msgmax) \$(hostname) \$(umask)"'
t '--cap-drop, --cap-add, --privileged' 'is 0000000000000400 run --cap-drop all --cap-add net_bind_service $image sh -c "grep CapEff /proc/self/status | cut -f 2"; run --privileged $image sh -c "mount -t tmpfs x /tmp"'
t '--security-opt seccomp, no-new-privileges' 'is 0 run --security-opt seccomp=unconfined $image sh -c "grep Seccomp: /proc/self/status | cut -f 2"; is "2 1" run --security-opt no-new-privileges $image sh -c "echo \$(grep Seccomp: /proc/self/status | cut -f 2) \$(grep NoNewPrivs /proc/self/status | cut -f 2)"'
t '--user, --group-add' 'is "1000 7 1000 2000" run --user user --group-add 7 $image sh -c "echo \$(id -u) \$(id -G | tr \" \" \"\\n\" | sort -n)" || says "1000" run --user user --group-add 7 $image id'
t '--ulimit' 'is 100 run --ulimit nofile=100:200 --ulimit nproc=50:60 $image sh -c "ulimit -Sn"'
t '--userns keep-id' 'is "1500 1500" run --userns keep-id $image sh -c "echo \$(id -u) \$(id -g)"; mkdir -p /tmp/k; run --userns keep-id -v /tmp/k:/k $image touch /k/mine; is 1500 stat -c %u /tmp/k/mine'
t '--userns auto' 'run --userns auto:size=1000 $image true; is 1000 run --userns auto:size=1000 $image sh -c "set -- \$(cat /proc/self/uid_map); echo \$3"'
t '--uidmap' 'is 0 run --uidmap 0:1:5000 $image id -u'
t '--net none, host' 'is lo run --net none $image ls /sys/class/net; is "$(readlink /proc/self/ns/net)" run --net host $image readlink /proc/self/ns/net'
t '--net slirp4netns, -p' 'up --net slirp4netns -p 8081:80 $image sh -c "mkdir /www; echo page >/www/index.html; httpd -f -p 80 -h /www"; podman exec $c ip addr | grep "inet 10\\.0\\.2"; within 10 page 127.0.0.1 8081; page 127.0.0.1 8081 | grep page'
t '--net bridge, a network of ones own' 'podman network create n$c; up --net n$c $image sleep 1000 || skip "no bridge for unprivileged users here: $(podman logs $c 2>&1 | tail -n 1)"; podman exec $c ip addr | grep "inet 10\\."; podman rm -ft0 $c; podman network rm n$c'
t '--pid, --ipc, --uts of host and of a container' 'is "$(readlink /proc/self/ns/pid)" run --pid host $image readlink /proc/self/ns/pid; is engines run --uts host $image hostname; stays; for n in pid ipc net; do is "$(podman exec $c readlink /proc/self/ns/$n)" run --$n container:$c $image readlink /proc/self/ns/$n; done'
t '--cgroups=disabled or none of ones own' 'run --cgroupns host $image cat /proc/self/cgroup >/dev/null'
t '--preserve-fds' 'is deep run --preserve-fds 1 $image sh -c "cat <&3" 3< <(echo deep)'
t 'pod' 'podman pod create --name p$c --hostname podhost >/dev/null; podman run -d --pod p$c --name $c $image sleep 1000; is podhost podman exec $c hostname; podman pod rm -ft0 p$c'
t 'play kube' 'printf "apiVersion: v1\nkind: Pod\nmetadata:\n  name: k$c\nspec:\n  containers:\n  - name: one\n    image: box:1\n    command: [sleep, \"1000\"]\n" >/tmp/kube.yaml; podman play kube --network none /tmp/kube.yaml; is 0 podman exec k$c-one id -u; podman play kube --down /tmp/kube.yaml'
t 'build' 'printf "FROM box:1\nENV A=1\nRUN echo \$A >/root/ran\nCOPY file /root/copied\nWORKDIR /work\nUSER user\nRUN id -u >/tmp/id\nCMD [\"sh\",\"-c\",\"cat /root/ran /root/copied /tmp/id; pwd\"]\n" | build; says "1000" run built:$c'
t 'build: a failing RUN' 'if printf "FROM box:1\nRUN exit 7\n" | build >/tmp/said 2>&1; then exit 1; fi; grep "exit status 7" /tmp/said'
t 'build: VOLUME, ADD, ENTRYPOINT' 'mkdir -p /tmp/$c; tar -C /run/world/box/data -cf /tmp/$c/add.tar file; printf "FROM box:1\nRUN mkdir /vol && echo of the build >/vol/f\nVOLUME /vol\nADD add.tar /added/\nENTRYPOINT [\"cat\"]\nCMD [\"/vol/f\",\"/added/file\"]\n" | build; is "of the build
of the image" run built:$c'
t '10 at once' 'for i in $(seq 10); do run $image echo $i & done >/tmp/ten; wait; is 10 wc -l </tmp/ten'
t 'unshare: brig below podman unshare' 'podman unshare sh -c "id -u" | grep -x 0'
t 'nothing is left running' 'podman rm -aft0 >/dev/null; within 5 sh -c "! pgrep -ax conmon"; is 0 sh -c "ls $XDG_RUNTIME_DIR/brig 2>/dev/null | wc -l"'
