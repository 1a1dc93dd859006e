# buildah.sh: buildah as root, with the runtime for each RUN.
# needs: buildah conmon

export CONTAINERS_CONF=/run/world/containers.conf CONTAINERS_STORAGE_CONF=/run/world/storage.conf
export BUILDAH_ISOLATION=oci BUILDAH_RUNTIME=$RUNTIME_PATH
cat >$CONTAINERS_CONF <<END
[containers]
netns = "host"
[engine]
cgroup_manager = "cgroupfs"
END
cat >$CONTAINERS_STORAGE_CONF <<END
[storage]
driver = "overlay"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
END
buildah pull -q docker-archive:/run/world/box.tar

from() { buildah from --name "$c" --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$@" $image >/dev/null; }
in_it() { buildah run "$c" -- "$@"; }
forget() { buildah rm "$1"; }
build() { mkdir -p "/tmp/$c"; cat >"/tmp/$c/Dockerfile"; echo copied >"/tmp/$c/file"; tar -C "/tmp/$c" -cf "/tmp/$c/add.tar" file; buildah build --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 "$@" -t "built:$c" "/tmp/$c"; }
# A file of an image that was built.
file() { buildah from --name "f$c" "built:$c" >/dev/null; cat "$(buildah mount "f$c")/$1"; buildah rm "f$c" >/dev/null; }
export -f from in_it build file

t 'run' 'from; is hello in_it echo hello'
t 'run: exit code' 'from; exits 3 in_it sh -c "exit 3"'
t 'run: a missing program' 'from; says "executable file.* not found in .PATH" in_it nonsense; if in_it nonsense; then exit 1; fi'
t 'run: a file that is not executable' 'from; says "permission denied" in_it /etc/passwd'
t 'run: stdin' 'from; is 4 in_it wc -c <<<abc'
t 'run -t' 'from; typing "see /
type tty\\r
see /dev/pts/0
type exit 4\\r
end" buildah run -t $c -- sh'
t 'run changes the working container' 'from; in_it touch /root/made; test -e $(buildah mount $c)/root/made'
t 'run --user, --workingdir, --env, --hostname' 'from; is "1000 /tmp e h" buildah run --user user --workingdir /tmp --env E=e --hostname h $c -- sh -c "echo \$(id -u) \$(pwd) \$E \$(hostname)"'
t 'run -v, --mount' 'mkdir -p /tmp/v; echo 1 >/tmp/v/a; from; is 1 buildah run -v /tmp/v:/v $c -- cat /v/a; is 1 buildah run --mount type=bind,src=/tmp/v,dst=/v $c -- cat /v/a; buildah run --mount type=tmpfs,dst=/t $c -- touch /t/x'
t 'run --cap-add, --cap-drop' 'from; is 0000000000000000 buildah run --cap-drop all $c -- sh -c "grep CapEff /proc/self/status | cut -f 2"'
t 'run --network none' 'from; is lo buildah run --network none $c -- ls /sys/class/net'
t 'from --memory, --cpu-shares' 'from --memory 64m --cpu-shares 100; is 67108864 in_it cat /sys/fs/cgroup/memory/memory.limit_in_bytes'
t 'from --shm-size, --ulimit, --cgroup-parent' 'buildah from --name $c --ulimit nofile=100:200 --ulimit nproc=1024:1024 --shm-size 3m --cgroup-parent /mine $image; is 100 in_it sh -c "ulimit -Sn"; in_it grep /dev/shm /proc/mounts | grep size=3072k; in_it grep ":/mine/" /proc/self/cgroup || in_it cat /proc/self/cgroup | grep ":/"'
t 'from --pid, --ipc, --uts host' 'from --pid host --ipc host --uts host; is "$(readlink /proc/self/ns/pid)" in_it readlink /proc/self/ns/pid; is "$(readlink /proc/self/ns/ipc)" in_it readlink /proc/self/ns/ipc; is engines in_it hostname'
t 'from --userns-uid-map' 'from --userns-uid-map 0:100000:65536 --userns-gid-map 0:100000:65536; is "0 100000 65536" in_it sh -c "set -- \$(cat /proc/self/uid_map); echo \$*"'
t 'from --security-opt seccomp' 'from --security-opt seccomp=unconfined; is 0 in_it sh -c "grep Seccomp: /proc/self/status | cut -f 2"'
t 'config, commit' 'from; in_it sh -c "echo x >/root/x"; buildah config --env A=b --cmd true $c; buildah commit -q $c built:$c; is x file /root/x'
t 'build: FROM RUN COPY ADD ENV EXPOSE VOLUME WORKDIR CMD ENTRYPOINT' 'printf "FROM box:1\nENV A=1\nRUN echo \$A >/root/ran\nCOPY file /root/copied\nADD add.tar /root/added/\nEXPOSE 80\nVOLUME /vol\nWORKDIR /work\nENTRYPOINT [\"cat\"]\nCMD [\"/root/ran\"]\nRUN pwd >/root/pwd\n" | build; is 1 file /root/ran; is copied file /root/added/file; is /work file /root/pwd'
t 'build: layers' 'printf "FROM box:1\nRUN echo 1 >/a\nRUN cat /a /a >/b\n" | build --layers; is "1
1" file /b'
t 'build: RUN --mount of cache, tmpfs, secret' 'echo hidden >/tmp/secret; printf "FROM box:1\nRUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/t --mount=type=secret,id=s cat /run/secrets/s >/t/x && cp /t/x /cache/x && cp /cache/x /said\n" | build --secret id=s,src=/tmp/secret; is hidden file /said'
t 'build: a failing RUN' 'if printf "FROM box:1\nRUN exit 7\n" | build >/tmp/said 2>&1; then exit 1; fi; grep "exit status 7" /tmp/said'
t 'build --isolation rootless' 'printf "FROM box:1\nRUN echo 1 >/a\n" | build --isolation rootless; is 1 file /a'
t 'nothing is left' 'is "" find /sys/fs/cgroup -name "buildah*"; is "" sh -c "ls /run/brig 2>/dev/null || true"'
