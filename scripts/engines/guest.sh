# guest.sh: engines with systemd: containerd's shim and its CRI plugin with SystemdCgroup, podman's quadlet. `make
# test-vm-engines`: vm-engines.sh runs it in a guest booted by systemd, in which processes are slow.
# needs: containerd podman conmon catatonit netavark runc python3-grpcio python3-protobuf python3-websocket

export PATIENCE=300
echo "# guest: $(dpkg-query -W -f '${Package} ${Version}, ' systemd containerd podman conmon runc)Linux $(uname -r)"
mkdir -p /etc/containers/systemd /home/tester/.config/containers/systemd
cat >/etc/containers/containers.conf <<END
[containers]
netns = "none"
[engine]
runtime = "tested"
runtime_supports_json = ["tested"]
[engine.runtimes]
tested = ["$RUNTIME_PATH"]
END
SYSTEMD_CGROUP=true
# shellcheck source=/dev/null
. "$HERE/cri.bash"
ctr image import /run/world/box.tar >/dev/null
podman load -qi /run/world/box.tar
export box=$image

# containerd's shim with the kubelet's option: the container's cgroup is a scope.
up() { ctr run -d --runc-binary "$RUNTIME_PATH" --runc-systemd-cgroup --cgroup "${slice:-system.slice}:brig:$c" "$@"; }
stays() { up "$@" $box "$c" sleep 1000; }
pid() { ctr task ls | awk -v id="$c" '$1 == id { print $2 }'; }
status() { ctr task ls | awk -v id="$c" '$1 == id { print $3 }'; }
has_status() { [ "$(status)" = "$1" ]; }
property() { systemctl show -P "$1" "$2"; }
cgroup() { cut -d : -f 3 "/proc/$1/cgroup"; }

# quadlet: unit NAME.container <<END creates and starts a unit.
unit() { cat >"/etc/containers/systemd/$1"; systemctl daemon-reload; systemctl start "${2:-${1%.*}}"; }
of() { podman inspect -f "{{.State.Pid}}" "${1:-systemd-$c}"; }
gone() { ! podman container exists "$1"; }
tester() { setpriv --reuid 1000 --regid 1000 --init-groups env HOME=/home/tester USER=tester XDG_RUNTIME_DIR=/run/user/1000 DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/1000/bus "$@"; }
forget() {
    ctr task kill -s KILL "$1"
    ctr task rm -f "$1"
    ctr container rm "$1"
    systemctl stop "$1"
    rm -f "/etc/containers/systemd/$1".*
}
export -f up stays pid status has_status property cgroup unit of gone tester

t 'containerd, SystemdCgroup: the container is a scope' 'stays; is active systemctl is-active brig-$c.scope; is /system.slice/brig-$c.scope cgroup $(pid); grep -q $c <<<"$(property Description brig-$c.scope)"'
t 'containerd, SystemdCgroup: limits are properties of the scope' 'stays --memory-limit 67108864 --cpus 0.5; is 67108864 property MemoryMax brig-$c.scope; is 500ms property CPUQuotaPerSecUSec brig-$c.scope; is 67108864 cat /sys/fs/cgroup/system.slice/brig-$c.scope/memory.max'
t 'containerd, SystemdCgroup: a slice of its own' 'slice=made-$c.slice stays; is active systemctl is-active made-$c.slice; is /made.slice/made-$c.slice/brig-$c.scope cgroup $(pid)'
t 'containerd, SystemdCgroup: exec, metrics, pause, resume' 'stays; is hi ctr task exec --exec-id e $c echo hi; ctr task exec -d --exec-id f $c sleep 1000; is 2 grep -c . /sys/fs/cgroup/system.slice/brig-$c.scope/cgroup.procs; ctr task metrics $c | grep memory.usage; ctr task pause $c; is PAUSED status; grep "frozen 1" /sys/fs/cgroup/system.slice/brig-$c.scope/cgroup.events; ctr task resume $c; is RUNNING status'
t 'containerd, SystemdCgroup: the scope ends with the container' 'stays; ctr task kill -s KILL $c; within 30 has_status STOPPED; ctr task rm $c || test $? = 137; within 10 test ! -e /sys/fs/cgroup/system.slice/brig-$c.scope; is inactive property ActiveState brig-$c.scope'
py 'CRI, SystemdCgroup: two containers of a pod are scopes in the slice that the kubelet made' '
p = kubelet_pod()
a, b = stays(p), stays(p)
same(children(), {scope(one) for one in (p, a, b)})
for c in (a, b):
    same(read(f"/proc/{pid(c)}/cgroup"), f"0::{SLICE}/{scope(c)}")
    same(properties(scope(c), "ActiveState", "Slice"), ["active", os.path.basename(SLICE)])
same(sh(a, "cat /proc/self/cgroup"), "0::/")
same(files("", "memory.max"), ["134217728"])'
py 'CRI, SystemdCgroup: limits are properties of the scope, and values of the cgroup' '
c = stays(kubelet_pod(), resources={"memory_limit_in_bytes": 67108864, "memory_swap_limit_in_bytes": 67108864, "cpu_shares": 512, "cpu_period": 100000, "cpu_quota": 50000, "cpuset_cpus": "0", "unified": {"memory.high": "50331648", "pids.max": "100"}})
same(properties(scope(c), "MemoryMax", "MemorySwapMax", "MemoryHigh", "TasksMax", "CPUQuotaPerSecUSec", "AllowedCPUs"), ["67108864", "0", "50331648", "100", "500ms", "0"])
same(files(scope(c), "memory.max", "memory.swap.max", "memory.high", "pids.max", "cpu.max", "cpuset.cpus"), ["67108864", "0", "50331648", "100", "50000 100000", "0"])
same(properties(scope(c), "CPUWeight"), files(scope(c), "cpu.weight"))'
py 'CRI, SystemdCgroup: UpdateContainerResources, of a running and of a created container; daemon-reload keeps it' '
p = kubelet_pod()
c, d = (make(p, "sleep", "1000", resources={"memory_limit_in_bytes": 67108864, "cpu_shares": 512}) for make in (run, create))
for one in (c, d):
    call("UpdateContainerResources", container_id=one, linux={"memory_limit_in_bytes": 100663296, "cpu_quota": 20000, "cpu_period": 100000, "cpu_shares": 2048, "cpuset_cpus": "1"})
call("StartContainer", container_id=d)
host("systemctl", "daemon-reload")
for one in (c, d):
    same(properties(scope(one), "MemoryMax", "CPUQuotaPerSecUSec", "AllowedCPUs"), ["100663296", "200ms", "1"])
    same(files(scope(one), "memory.max", "cpu.max", "cpuset.cpus"), ["100663296", "20000 100000", "1"])
    same(properties(scope(one), "CPUWeight"), files(scope(one), "cpu.weight"))'
py 'CRI, SystemdCgroup: ExecSync, ContainerStats, PodSandboxStats' '
p = kubelet_pod()
c = stays(p)
same(execs(c, "echo out; echo err >&2; exit 9"), ("out", "err", 9))
same(sh(c, "cat /proc/self/cgroup"), "0::/")
same(files(scope(c), "cgroup.procs"), [str(pid(c))])
got = call("ContainerStats", container_id=c).stats
assert got.memory.working_set_bytes.value > 0 and got.cpu.usage_core_nano_seconds.value > 0, got
same(call("PodSandboxStats", pod_sandbox_id=p).stats.attributes.id, p)'
py 'CRI, SystemdCgroup: devices stay allowed and forbidden after daemon-reload' '
os.mknod("/tmp/kmsg", 0o20666, os.makedev(1, 11))
c = stays(kubelet_pod(), devices=[{"host_path": "/tmp/kmsg", "container_path": "/dev/mine", "permissions": "r"}], security={"capabilities": {"add_capabilities": ["MKNOD", "SYSLOG"]}})
for _ in range(2):
    sh(c, ": >/dev/null; : </dev/mine; rm -f /dev/disk; mknod /dev/disk b 254 0")
    for path in ("/dev/mine", "/dev/disk"):
        has(execs(c, f": >>{path}")[1], "Operation not permitted")
    host("systemctl", "daemon-reload")'
py 'CRI, SystemdCgroup: OOMKilled; a process of exec that is killed for memory leaves the container as it is' '
p = kubelet_pod()
c = run(p, "dd if=/dev/zero of=/dev/null bs=64M", resources={"memory_limit_in_bytes": 16777216, "memory_swap_limit_in_bytes": 16777216})
within(20, lambda: state(c) == "exited")
within(5, lambda: status(c).reason == "OOMKilled", status(c).reason)
c = stays(p, resources={"memory_limit_in_bytes": 16777216, "memory_swap_limit_in_bytes": 16777216})
same(execs(c, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M")[2], 137)
time.sleep(2)
same((state(c), properties(scope(c), "ActiveState"), execs(c, "echo still")[0]), ("running", ["active"], "still"))'
py 'CRI, SystemdCgroup: a pod with a user namespace' '
ids = [{"host_id": 200000, "container_id": 0, "length": 65536}]
users = {"namespace_options": {"network": "NODE", "userns_options": {"mode": "POD", "uids": ids, "gids": ids}}}
p = kubelet_pod(**users["namespace_options"])
c = stays(p, security=users)
same(sh(c, "cat /proc/self/uid_map").split(), ["0", "200000", "65536"])
same(children(), {scope(p), scope(c)})'
py 'CRI, SystemdCgroup: StopContainer with its grace; a removed pod leaves no scope, and the kubelet no slice' '
p = kubelet_pod()
c, d = run(p, "trap \"exit 12\" TERM; echo up; while :; do sleep 0.1; done"), stays(p)
within(20, lambda: log(c) == "up")
call("StopContainer", container_id=c, timeout=20)
same((state(c), status(c).exit_code), ("exited", 12))
call("RemoveContainer", container_id=c)
same(children(), {scope(p), scope(d)})
remove(p)
same(children(), set())
for one in (p, c, d):
    same(properties(scope(one), "LoadState", "ActiveState"), ["not-found", "inactive"])
host("systemctl", "stop", os.path.basename(SLICE))
assert not os.path.exists(f"/sys/fs/cgroup{SLICE}")'
py 'CRI, SystemdCgroup: a container whose scope systemd stops' '
p = kubelet_pod()
c = stays(p)
host("systemctl", "stop", scope(c))
within(20, lambda: state(c) == "exited")
same(children(), {scope(p)})
call("RemoveContainer", container_id=c)'
py 'CRI, SystemdCgroup: a new containerd takes the pods over' '
c = run(kubelet_pod(), "trap \"exit 8\" TERM; while :; do sleep 0.1; done")
host("bash", "-c", "begin")
CALLS.update(connect())
within(20, lambda: call("Status").status.conditions[0].status)
same((state(c), execs(c, "echo still")[0]), ("running", "still"))
call("StopContainer", container_id=c, timeout=20)
same(status(c).exit_code, 8)'
export image=localhost/box:1
t 'quadlet: a .container unit, in the cgroup of its service' 'unit $c.container <<<"[Container]
Image=$image
Exec=sh -c \"trap : TERM; sleep 1000 & wait; exit 0\""; is active systemctl is-active $c; is tested podman inspect -f "{{.OCIRuntime}}" systemd-$c; cgroup $(of) | grep -x "/system.slice/$c.service/libpod-payload-.*"; is sh podman exec systemd-$c cat /proc/1/comm; systemctl stop $c; is inactive property ActiveState $c; gone systemd-$c; test ! -e /sys/fs/cgroup/system.slice/$c.service'
t 'quadlet: the exit code is the unit'"'"'s' 'unit $c.container <<<"[Container]
Image=$image
Exec=sh -c \"sleep 1; exit 3\""; within 60 is failed systemctl is-active $c; is 3 property ExecMainStatus $c'
t 'quadlet: Restart=always' 'unit $c.container <<<"[Container]
Image=$image
Exec=sleep 1000
[Service]
Restart=always"; first=$(of); kill -KILL $first; within 60 sh -c "test \$(systemctl show -P NRestarts $c) = 1 && systemctl is-active $c"; test "$(of)" != $first'
t 'quadlet: limits, a .volume unit, environment, read-only' 'unit v$c.volume v$c-volume <<<"[Volume]"; unit $c.container <<<"[Container]
Image=$image
Exec=sleep 1000
PidsLimit=50
PodmanArgs=--memory 64m
Volume=v$c.volume:/v
Environment=A=b
ReadOnly=true"; is 50 cat /sys/fs/cgroup$(cgroup $(of))/pids.max; is 67108864 cat /sys/fs/cgroup$(cgroup $(of))/memory.max; podman exec systemd-$c sh -c "echo \$A >/v/f"; is b podman run --rm -v systemd-v$c:/v $image cat /v/f; says Read-only podman exec systemd-$c touch /x'
t 'quadlet: Notify=true, ready when the container says so' 'unit $c.container <<<"[Container]
Rootfs=/:O
Exec=sh -c \"sleep 2; systemd-notify --ready --status=said; sleep 1000\"
Notify=true"; is active systemctl is-active $c; is said property StatusText $c'
t 'quadlet: Notify=healthy, by a health check from a timer' 'unit $c.container <<<"[Container]
Image=$image
Exec=sh -c \"sleep 3; touch /tmp/well; sleep 1000\"
HealthCmd=test -e /tmp/well
HealthInterval=2s
Notify=healthy"; is active systemctl is-active $c; is healthy podman inspect -f "{{.State.Health.Status}}" systemd-$c'
t 'quadlet: a .pod with a container' 'unit p$c.pod p$c-pod <<<"[Pod]
PodName=p$c"; unit $c.container <<<"[Container]
Image=$image
Exec=sleep 1000
Pod=p$c.pod"; is active systemctl is-active $c; is "$(readlink /proc/$(of p$c-infra)/ns/net)" readlink /proc/$(of)/ns/net; systemctl stop p$c-pod; gone systemd-$c'
t 'quadlet of a user'"'"'s systemd' 'printf "[Container]\nImage=%s\nExec=sleep 1000\n" $image >/home/tester/.config/containers/systemd/$c.container; chown -R 1000:1000 /home/tester/.config; tester podman load -qi /run/world/box.tar; tester systemctl --user daemon-reload; tester systemctl --user start $c; is active tester systemctl --user is-active $c; p=$(tester podman inspect -f "{{.State.Pid}}" systemd-$c); cgroup $p | grep "/user@1000.service/app.slice/$c.service/libpod-payload-"; is "0 1000 1" sh -c "set -- \$(head -n 1 /proc/$p/uid_map); echo \$*"; tester systemctl --user stop $c; is "" tester podman ps -aq'
t 'podman with systemd'"'"'s cgroup manager: a scope, exec, stop' 'podman run -d --name $c --memory 64m $image sleep 1000; id=$(podman inspect -f "{{.Id}}" $c); cgroup $(of $c) | grep -x "/machine.slice/libpod-$id.scope\(/container\)\?"; is 67108864 property MemoryMax libpod-$id.scope; is hi podman exec $c echo hi; podman rm -ft0 $c; within 10 test ! -e /sys/fs/cgroup/machine.slice/libpod-$id.scope'
