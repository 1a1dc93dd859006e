# cri.sh: containerd's CRI plugin, with a client that makes the kubelet's calls: cri.py. Tests are Python.
# needs: containerd containernetworking-plugins python3-grpcio python3-protobuf python3-websocket

# shellcheck source=/dev/null
. "$HERE/cri.bash"

py 'Version, Status' '
answer = call("Version")
same((answer.runtime_name, answer.runtime_api_version), ("containerd", "v1"))
conditions = {one.type: one.status for one in call("Status").status.conditions}
same([conditions[name] for name in ("RuntimeReady", "NetworkReady")], [True, True])'
py 'RunPodSandbox: an address, the bridge, status; StopPodSandbox, RemovePodSandbox' '
p = pod(hostname="inside")
got = call("PodSandboxStatus", pod_sandbox_id=p).status
same(got.state, 0)
has(got.network.ip, r"^10\.88\.")
c = stays(p)
same(sh(c, "hostname"), "inside")
has(sh(c, "ip -4 addr show eth0"), got.network.ip)
sh(c, "ping -c 1 10.88.0.1")
call("StopPodSandbox", pod_sandbox_id=p)
same(call("PodSandboxStatus", pod_sandbox_id=p).status.state, 1)
same(state(c), "exited")
remove(p)
same([one for one in call("ListPodSandbox").items if one.id == p], [])
same([one for one in call("ListContainers").containers if one.id == c], [])'
py 'RunPodSandbox with the network of the node' '
p = pod(security={"namespace_options": {"network": "NODE"}})
c = stays(p, security={"namespace_options": {"network": "NODE"}})
same(sh(c, "readlink /proc/self/ns/net"), os.readlink("/proc/self/ns/net"))
same(sh(c, "hostname"), "engines")'
py 'a port of the node' '
if not os.path.exists("/sbin/iptables"): skip("no iptables here")
path = pathlib.Path("/run/world/cni/10-pods.conflist")
old = path.read_text()
new = json.loads(old)
new["plugins"].append({"type": "portmap", "capabilities": {"portMappings": True}})
path.write_text(json.dumps(new))
try:
    within(10, lambda: "portmap" in call("Status", verbose=True).info["cniconfig"])
    p = pod(port_mappings=[{"container_port": 80, "host_port": 8080}])
    c = run(p, "echo found >/tmp/x; httpd -f -p 80 -h /tmp")
    within(5, lambda: execs(c, "wget -q -O - http://127.0.0.1/x")[0] == "found")
    address = call("PodSandboxStatus", pod_sandbox_id=p).status.network.ip
    has(host("iptables", "-t", "nat", "-S"), f"--dport 8080 .*{address}:80")
    within(10, lambda: host("busybox", "wget", "-q", "-O", "-", "http://10.88.0.1:8080/x") == "found")
    clean()
finally:
    path.write_text(old)'
py 'RuntimeClass: a handler by name, and one that does not exist' '
p = pod("class")
same(call("PodSandboxStatus", pod_sandbox_id=p).status.runtime_handler, "class")
same(os.listdir("/run/world/class/k8s.io"), [p])
same(says(p, "echo hello"), "hello")
config = dict(pods[p], metadata={"name": "bad", "uid": "u", "namespace": "n"})
refused("no runtime for .nonsense. is configured", "RunPodSandbox", config=config, runtime_handler="nonsense")'
py 'CreateContainer, StartContainer, ContainerStatus, ListContainers: every state' '
p = pod()
c = create(p, "sleep 3; exit 7", labels={"app": "one"}, annotations={"note": "two"})
same(state(c), "created")
call("StartContainer", container_id=c)
same(state(c), "running")
same([one.id for one in call("ListContainers", filter={"pod_sandbox_id": p}).containers], [c])
ends(c, 7)
got = status(c)
same((got.reason, dict(got.labels), dict(got.annotations)), ("Error", {"app": "one"}, {"note": "two"}))
assert got.created_at < got.started_at < got.finished_at, got
d = ends(run(p, "true"))
same(status(d).reason, "Completed")
call("RemoveContainer", container_id=c)
refused("not found", "ContainerStatus", container_id=c)'
py 'StartContainer: a missing program, one that is not executable, an invalid directory' '
p = pod()
for command, why in (("nonsense", "executable file not found in .PATH"), ("/etc/passwd", "permission denied"), ("/no/such", "no such file or directory")):
    c = create(p, command, "x")
    refused(why, "StartContainer", container_id=c)
    got = status(c)
    same((got.state, got.exit_code, got.reason), (2, 128, "StartError"))
    has(got.message, why)'
py 'logs: stdout, stderr, long lines, ReopenContainerLog' '
p = pod()
c = ends(run(p, "echo out; echo err >&2; head -c 40000 /dev/zero | tr \\\\0 x; echo; printf end"))
out = log(c).splitlines()
same((out[0], len(out[1]), out[2]), ("out", 40000, "end"))
same(log(c, "stderr"), "err")
c = run(p, "while :; do echo tick; sleep 0.1; done")
within(5, lambda: "tick" in log(c))
os.rename(made[c], made[c] + ".old")
call("ReopenContainerLog", container_id=c)
within(5, lambda: "tick" in log(c))'
py 'ExecSync: stdout, stderr, exit code, a missing program' '
c = stays(pod())
same(execs(c, "echo out; echo err >&2; exit 9"), ("out", "err", 9))
same(execs(c, "sh", "-c", "kill -9 $$")[2], 137)
same(len(execs(c, "head -c 1000000 /dev/zero | tr \\\\0 x")[0]), 1000000)
refused("executable file not found in .PATH", "ExecSync", container_id=c, cmd=["nonsense"])
refused("permission denied", "ExecSync", container_id=c, cmd=["/etc/passwd"])'
py 'ExecSync: timeout' '
c = stays(pod())
began = time.monotonic()
error = refused("timeout 1s exceeded", "ExecSync", container_id=c, cmd=["sleep", "77"], timeout=1)
same(error.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
assert time.monotonic() - began < 6
same(execs(c, "pgrep -f \"sleep 7[7]\"")[0], "")'
py 'ExecSync in a container that has ended' '
c = ends(run(pod(), "true"))
refused("not running|not found|CONTAINER_EXITED", "ExecSync", container_id=c, cmd=["true"])'
py '20 ExecSync at once' '
c = stays(pod())
same([one[0] for one in together(lambda i: execs(c, f"echo {i}"), range(20))], [str(i) for i in range(20)])'
py 'Exec, a stream: stdout, stderr, exit code' '
c = stays(pod())
s = stream(c, "sh", "-c", "echo out; echo err >&2; exit 3")
same((s.end(), s.text(1), s.text(2)), (3, "out\n", "err\n"))
same(stream(c, "true").end(), 0)
has(stream(c, "nonsense").end(), "executable file not found in .PATH")'
py 'Exec, a stream: stdin' '
s = stream(stays(pod()), "sh", "-c", "read a; echo got $a", stdin=True, stdout=True, stderr=True)
s.send(0, "hello\n")
same((s.end(), s.text(1)), (0, "got hello\n"))'
py 'Exec, a stream: a terminal, its size, ctrl-c' '
s = stream(stays(pod()), "sh", stdin=True, stdout=True, tty=True)
s.size(31, 77)
s.send(0, "tty; sleep 0.5; stty size\n")
s.see("/dev/pts/")
s.see("31 77")
s.send(0, "sleep 100\n")
time.sleep(0.5)
s.send(0, "\x03")
s.send(0, "echo code $?\n")
s.see("code 130")
s.send(0, "exit 4\n")
same(s.end(), 4)'
py 'Attach: output and stdin' '
p = pod()
c = run(p, "while read a; do echo got $a; done; exit 5", stdin=True)
s = attach(c, stdin=True, stdout=True, stderr=True)
s.see_in_time("got one", lambda: s.send(0, "one\n"))
t = attach(c, stdin=True, stdout=True)
t.see_in_time("got two", lambda: s.send(0, "two\n"))
s.see("got two")
has(log(c), "got one")'
py 'Attach: a terminal' '
c = run(pod(), "sh", "-i", stdin=True, tty=True)
s = attach(c, stdin=True, stdout=True, tty=True)
s.size(29, 66)
s.send(0, "sleep 0.5; stty size; test -t 1 && echo ter\"\"minal\n")
s.see("29 66")
s.see("terminal")
s.send(0, "exit 6\n")
ends(c, 6)
has(log(c), "29 66")'
py 'stdin_once: the first Attach that ends is the end of stdin' '
c = run(pod(), "wc -c", stdin=True, stdin_once=True)
s = attach(c, stdin=True, stdout=True)
s.send(0, "four\n")
time.sleep(0.3)
s.socket.close()
ends(c)
same(log(c), "5")'
py 'PortForward' '
p = pod()
c = run(p, "echo body >/tmp/page; httpd -f -p 127.0.0.1:80 -h /tmp")
within(5, lambda: execs(c, "wget -q -O - http://127.0.0.1/page")[0] == "body")
s = Stream(call("PortForward", pod_sandbox_id=p, port=[80]).url + "?port=80")
s.send(0, "GET /page HTTP/1.0\r\n\r\n")
s.see("200 OK(.|\n)*body", 0)'
py 'UpdateContainerResources: memory, cpu, cpuset, shares' '
c = stays(pod(), resources={"memory_limit_in_bytes": 67108864, "cpu_shares": 512, "cpu_period": 100000, "cpu_quota": 50000, "oom_score_adj": 900})
files = lambda: (
    cgroup(c, "memory", "memory.limit_in_bytes", "memory.max"), cgroup(c, "cpu", "cpu.cfs_quota_us", "cpu.max").split()[0],
    cgroup(c, "cpuset", "cpuset.cpus", "cpuset.cpus"))
same(read(f"/proc/{pid(c)}/oom_score_adj"), "900")
same(files()[:2], ("67108864", "50000"))
shares = cgroup(c, "cpu", "cpu.shares", "cpu.weight")
call("UpdateContainerResources", container_id=c, linux={"memory_limit_in_bytes": 134217728, "cpu_quota": 20000, "cpu_period": 100000, "cpu_shares": 2048, "cpuset_cpus": "0"})
same(files(), ("134217728", "20000", "0"))
assert int(cgroup(c, "cpu", "cpu.shares", "cpu.weight")) > int(shares)
same(info(c)["runtimeSpec"]["linux"]["resources"]["memory"]["limit"], 134217728)'
py 'cgroup_parent: one that the kubelet made, with its limit, and that it removes itself' '
pod()
parent = next(path for path in ("/sys/fs/cgroup/memory", "/sys/fs/cgroup") if glob.glob(path + "/memory*"))
file = "memory.limit_in_bytes" if parent.endswith("memory") else "memory.max"
parent = pathlib.Path(parent, "kube", NAME)
parent.mkdir(parents=True)
(parent / file).write_text("33554432")
p = pod(linux={"cgroup_parent": f"/kube/{NAME}"})
c = stays(p)
has(read(f"/proc/{pid(c)}/cgroup"), f"/kube/{NAME}/{c}$")
same(sorted(one.name for one in parent.iterdir() if one.is_dir()), sorted([p, c]))
same(execs(c, "dd if=/dev/zero of=/dev/null bs=64M count=1")[2], 137)
remove(p)
same(([one for one in parent.iterdir() if one.is_dir()], read(parent / file)), ([], "33554432"))
parent.rmdir()'
py 'UpdateContainerResources of a created container' '
c = create(pod(), "sleep", "1000", resources={"memory_limit_in_bytes": 67108864})
call("UpdateContainerResources", container_id=c, linux={"memory_limit_in_bytes": 134217728})
call("StartContainer", container_id=c)
same(cgroup(c, "memory", "memory.limit_in_bytes", "memory.max"), "134217728")'
py 'UpdateContainerResources: a limit below what is used is refused' '
c = run(pod(), "head -c 40000000 /dev/zero >/dev/shm/x; touch /tmp/done; sleep 100", resources={"memory_limit_in_bytes": 134217728})
within(10, lambda: execs(c, "test -e /tmp/done")[2] == 0)
try:
    call("UpdateContainerResources", container_id=c, linux={"memory_limit_in_bytes": 8388608})
except grpc.RpcError as error:
    print(error.details())
    same((state(c), cgroup(c, "memory", "memory.limit_in_bytes", "memory.max")), ("running", "134217728"))
else:
    skip("this kernel takes it")'
py 'ContainerStats, ListContainerStats, PodSandboxStats' '
p = pod()
c = run(p, "while :; do :; done")
stats = lambda: call("ContainerStats", container_id=c).stats
within(20, lambda: stats().cpu.usage_core_nano_seconds.value > 100_000_000)
assert stats().memory.working_set_bytes.value > 0
same([one.attributes.id for one in call("ListContainerStats", filter={"pod_sandbox_id": p}).stats], [c])
same(call("PodSandboxStats", pod_sandbox_id=p).stats.attributes.id, p)'
py 'OOMKilled' '
c = run(pod(), "dd if=/dev/zero of=/dev/null bs=64M", resources={"memory_limit_in_bytes": 16777216})
within(20, lambda: state(c) == "exited")
within(5, lambda: status(c).reason == "OOMKilled", status(c).reason)'
py 'the pid namespace: of the container, of the pod, of the node, of another container' '
p = pod(security={"namespace_options": {"pid": "CONTAINER"}})
c = stays(p, security={"namespace_options": {"pid": "CONTAINER"}})
same(sh(c, "cat /proc/1/cmdline | tr \\\\0 \" \""), "sleep 1000")
d = stays(p, security={"namespace_options": {"pid": "TARGET", "target_id": c}})
same(sh(d, "readlink /proc/self/ns/pid"), os.readlink(f"/proc/{pid(c)}/ns/pid"))
p = pod(security={"namespace_options": {"pid": "POD"}})
c, d = (stays(p, security={"namespace_options": {"pid": "POD"}}) for _ in range(2))
has(sh(c, "ps"), "(?s)sleep 100000.*sleep 1000.*sleep 1000")
assert sh(c, "readlink /proc/self/ns/pid") == sh(d, "readlink /proc/self/ns/pid") != os.readlink("/proc/self/ns/pid")
call("StopContainer", container_id=d, timeout=0)
same(state(c), "running")
p = pod(security={"namespace_options": {"pid": "NODE"}})
c = stays(p, security={"namespace_options": {"pid": "NODE"}})
same(sh(c, "readlink /proc/self/ns/pid"), os.readlink("/proc/self/ns/pid"))
call("StopContainer", container_id=c, timeout=0)
same(status(c).exit_code, 137)'
py 'ipc: one of the pod, with its /dev/shm, and that of the node' '
p = pod()
c, d = stays(p), stays(p)
sh(c, "echo shared >/dev/shm/x")
same(sh(d, "cat /dev/shm/x"), "shared")
same(sh(c, "readlink /proc/self/ns/ipc"), sh(d, "readlink /proc/self/ns/ipc"))
p = pod(security={"namespace_options": {"ipc": "NODE"}})
c = stays(p, security={"namespace_options": {"ipc": "NODE"}})
same(sh(c, "readlink /proc/self/ns/ipc"), os.readlink("/proc/self/ns/ipc"))'
py 'hostname, resolv.conf, environment, working directory' '
p = pod(hostname="web", dns_config={"servers": ["10.0.0.10"], "searches": ["cluster.local"], "options": ["ndots:5"]})
same(says(p, "hostname; pwd; echo $A", envs=[{"key": "A", "value": "b c"}], working_dir="/tmp/new"), "web\n/tmp/new\nb c")
same(says(p, "cat /etc/resolv.conf"), "search cluster.local\nnameserver 10.0.0.10\noptions ndots:5")'
py 'run_as_user, run_as_group, run_as_username, supplemental_groups' '
p = pod()
same(says(p, "id -u; id -g; id -G", security={"run_as_user": {"value": 1000}, "run_as_group": {"value": 2000}, "supplemental_groups": [3000]}).splitlines()[:2], ["1000", "2000"])
same(sorted(says(p, "id -G", security={"run_as_username": "user", "supplemental_groups": [3000]}).split()), ["1000", "2000", "3000"])
c = stays(p, security={"run_as_user": {"value": 1000}})
same(sh(c, "id -u; grep Groups: /proc/self/status | grep -c 2000"), "1000\n1")'
py 'readonly_rootfs' '
pathlib.Path("/tmp/last").touch()
mounts = [bind("/tmp/last", "/dev/termination-log")]
c = ends(run(pod(), "echo why >/dev/termination-log; touch /x", security={"readonly_rootfs": True}, mounts=mounts), 1)
has(log(c, "stderr"), "Read-only")
same(read("/tmp/last"), "why")'
py 'capabilities: added, dropped, all dropped' '
p = pod()
caps = lambda script, **change: says(p, script, security={"capabilities": change})
has(caps("ip link set lo mtu 1400 && echo set", add_capabilities=["NET_ADMIN"]), "set")
same(caps("grep CapEff /proc/self/status | cut -f 2", drop_capabilities=["ALL"]), "0000000000000000")
same(caps("grep CapBnd /proc/self/status | cut -f 2", drop_capabilities=["ALL"], add_capabilities=["NET_BIND_SERVICE"]), "0000000000000400")
same(caps("chown 1:1 /tmp 2>&1 || echo no", drop_capabilities=["CHOWN"])[-2:], "no")'
py 'seccomp: RuntimeDefault, Unconfined, Localhost, also for exec' '
p = pod()
mode = "grep Seccomp: /proc/self/status | cut -f 2"
same(says(p, mode, security={"seccomp": {"profile_type": "RuntimeDefault"}}), "2")
same(says(p, mode, security={"seccomp": {"profile_type": "Unconfined"}}), "0")
pathlib.Path("/tmp/profile.json").write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 122}]}))
c = stays(p, security={"seccomp": {"profile_type": "Localhost", "localhost_ref": "/tmp/profile.json"}})
has(execs(c, "mkdir /tmp/x")[1], "[Qq]uota")'
py 'no_new_privs, and without' '
p = pod()
for wanted in (True, False):
    c = stays(p, security={"no_new_privs": wanted})
    has(read(f"/proc/{pid(c)}/status"), f"NoNewPrivs:.{wanted:d}$")
    has(sh(c, "cat /proc/self/status"), f"NoNewPrivs:.{wanted:d}$")'
py 'masked and read-only paths: the defaults, own ones, none' '
p = pod()
masks = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"]
c = stays(p, security={"masked_paths": masks, "readonly_paths": ["/proc/sys", "/proc/sysrq-trigger"]})
same(sh(c, "cat /proc/keys /proc/timer_list; ls /sys/firmware"), "")
has(execs(c, "echo 0 >/proc/sys/net/ipv4/ip_forward")[1], "Read-only")
c = stays(p, security={"masked_paths": ["/data"], "readonly_paths": ["/home"]})
same(sh(c, "ls /data"), "")
has(execs(c, "touch /home/x")[1], "Read-only")
assert sh(c, "wc -c </proc/modules; mount | grep -c \"/proc/\" || true").splitlines()[-1] == "0"'
py 'sysctls of the pod' '
p = pod(linux={"sysctls": {"net.ipv4.ip_unprivileged_port_start": "80", "kernel.shm_rmid_forced": "1"}})
c = stays(p, security={"run_as_user": {"value": 1000}})
same(sh(c, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"), "80\n1")
sh(c, "nc -l -p 81 & sleep 0.2; kill $!")
config = dict(next(iter(pods.values())), metadata={"name": "bad", "uid": "u", "namespace": "n"})
config["linux"] = dict(config["linux"], sysctls={"kernel.nonsense": "1"})
refused("nonsense", "RunPodSandbox", config=config)'
py 'privileged' '
p = pod(security={"privileged": True})
c = stays(p, security={"privileged": True})
same(sh(c, "grep CapBnd /proc/self/status"), next(line for line in read("/proc/self/status").splitlines() if "CapBnd" in line))
same(sh(c, "grep Seccomp: /proc/self/status | cut -f 2"), "0")
sh(c, "mount -t tmpfs x /tmp; touch /proc/sys/net/ipv4/ip_forward")
same(sh(c, "test -e /dev/kmsg && echo there || true"), "there" if os.path.exists("/dev/kmsg") else "")
has(sh(c, "cat /proc/self/mountinfo"), " /sys rw,")'
py 'privileged_without_host_devices' '
p = pod("class", security={"privileged": True})
c = stays(p, security={"privileged": True})
sh(c, "test -c /dev/null; test ! -e /dev/kmsg")'
py 'mounts: read-only, writable, a file, a missing source is created' '
os.makedirs("/tmp/vol/sub", exist_ok=True)
pathlib.Path("/tmp/vol/file").write_text("of the node")
c = stays(pod(), mounts=[bind("/tmp/vol", "/ro", readonly=True), bind("/tmp/vol", "/rw"), bind("/tmp/vol/file", "/etc/file"), bind("/tmp/made/here", "/made")])
same(sh(c, "cat /ro/file /etc/file"), "of the nodeof the node")
has(execs(c, "touch /ro/x")[1], "Read-only")
sh(c, "touch /rw/y /made/z")
assert os.path.exists("/tmp/vol/y") and os.path.exists("/tmp/made/here/z")'
py 'mounts: a service account below /var/run, a link; what a monitor of nodes has of them' '
os.makedirs("/tmp/account", exist_ok=True)
pathlib.Path("/tmp/account/token").write_text("secret")
to = "/var/run/secrets/kubernetes.io/serviceaccount"
c = stays(pod(), mounts=[bind("/tmp/account", to, readonly=True), bind("/", "/host", readonly=True), bind("/proc", "/host.proc", readonly=True), bind("/sys", "/host.sys", readonly=True)])
same(sh(c, f"cat {to}/token /run{to[8:]}/token"), "secretsecret")
same(sh(c, "cat /host/proc/1/comm /host.proc/1/comm").split(), [read("/proc/1/comm")] * 2)
for path in ("/host", "/host.sys", to):
    has(execs(c, f"touch {path}/x")[1], "Read-only|denied|not permitted")'
py 'mounts: a /dev of the node, which stays as it is' '
os.makedirs("/tmp/nodes")
host("mount", "-t", "tmpfs", "x", "/tmp/nodes")
for name, minor in (("null", 3), ("zero", 5), ("of-the-node", 7)):
    os.mknod(f"/tmp/nodes/{name}", 0o20666, os.makedev(1, minor))
    os.chmod(f"/tmp/nodes/{name}", 0o666)
p = pod(security={"privileged": True})
c = stays(p, security={"privileged": True}, mounts=[bind("/tmp/nodes", "/dev")])
same(sh(c, "stat -c %t:%T /dev/of-the-node"), "1:7")
same(execs(c, "echo in >/dev/null; echo out")[0], "out")
remove(p)
print(os.listdir("/tmp/nodes"))
assert {"null", "zero", "of-the-node"} <= set(os.listdir("/tmp/nodes"))'
py 'mounts: propagation' '
os.makedirs("/tmp/shared", exist_ok=True)
host("mount", "-t", "tmpfs", "x", "/tmp/shared")
host("mount", "--make-shared", "/tmp/shared")
p = pod(security={"privileged": True})
private, slave, shared = (stays(p, mounts=[bind("/tmp/shared", "/s", propagation="PROPAGATION_" + how)], security={"privileged": True}) for how in ("PRIVATE", "HOST_TO_CONTAINER", "BIDIRECTIONAL"))
os.makedirs("/tmp/shared/a")
host("mount", "-t", "tmpfs", "x", "/tmp/shared/a")
pathlib.Path("/tmp/shared/a/file").touch()
same([sh(c, "ls /s/a") for c in (private, slave, shared)], ["", "file", "file"])
sh(shared, "mkdir /s/b; mount -t tmpfs y /s/b; touch /s/b/back")
same(os.listdir("/tmp/shared/b"), ["back"])
sh(slave, "mkdir /s/c; mount -t tmpfs y /s/c; touch /s/c/back")
same(os.listdir("/tmp/shared/c"), [])'
py 'devices, with their permissions' '
os.mknod("/tmp/kmsg", 0o20666, os.makedev(1, 11))
c = stays(pod(), devices=[{"host_path": "/tmp/kmsg", "container_path": "/dev/mine", "permissions": "r"}], security={"capabilities": {"add_capabilities": ["SYSLOG"]}})
same(sh(c, "stat -c %t:%T /dev/mine; : </dev/mine && echo opened"), "1:b\nopened")
has(execs(c, ": >>/dev/mine")[1], "Operation not permitted")'
py 'StopContainer: TERM, the grace, KILL' '
p = pod()
c = run(p, "trap \"echo bye; exit 12\" TERM; echo up; while :; do sleep 0.1; done")
within(5, lambda: log(c) == "up")
call("StopContainer", container_id=c, timeout=20)
same((state(c), status(c).exit_code, log(c)), ("exited", 12, "up\nbye"))
c = run(p, "trap : TERM; echo up; while :; do sleep 0.1; done")
within(5, lambda: log(c) == "up")
began = time.monotonic()
call("StopContainer", container_id=c, timeout=2)
assert 2 <= time.monotonic() - began < 8
same(status(c).exit_code, 137)
call("StopContainer", container_id=c, timeout=2)'
py 'restart: a second attempt in the same pod' '
p = pod()
first = ends(run(p, "echo first; exit 1"), 1)
same(log(ends(run(p, "echo second", attempt=1))), "second")
same(log(first), "first")
call("RemoveContainer", container_id=first)'
py 'init containers, one after the other, with a volume' '
p = pod()
os.makedirs("/tmp/empty", exist_ok=True)
mounts = [bind("/tmp/empty", "/shared")]
for word in ("one", "two"):
    ends(run(p, f"echo {word} >>/shared/x", mounts=mounts))
same(says(p, "cat /shared/x", mounts=mounts), "one\ntwo")'
py 'a sandbox that is killed: not ready, its containers can be removed' '
p = pod()
c = stays(p)
os.kill(json.loads(call("PodSandboxStatus", pod_sandbox_id=p, verbose=True).info["info"])["pid"], 9)
within(10, lambda: call("PodSandboxStatus", pod_sandbox_id=p).status.state == 1)
remove(p)
refused("not found", "ContainerStatus", container_id=c)'
py 'RunPodSandbox that fails leaves nothing' '
before = set(os.listdir("/run/containerd/runc/k8s.io")) if os.path.isdir("/run/containerd/runc/k8s.io") else set()
p = pod()
config = dict(pods[p], metadata={"name": "bad", "uid": "u", "namespace": "n"}, linux=dict(pods[p]["linux"], cgroup_parent="/kube/bad", sysctls={"net.nonsense": "1"}))
refused("nonsense", "RunPodSandbox", config=config)
remove(p)
same(set(os.listdir("/run/containerd/runc/k8s.io")), before)
same(glob.glob("/sys/fs/cgroup/*/kube/bad/*/") , [])'
py '10 pods at once' '
all = together(lambda i: pod(name=f"many-{i}"), range(10))
same(together(lambda i: says(all[i], f"echo {i}"), range(10)), [str(i) for i in range(10)])
together(remove, all)'
py 'pods with a user namespace, and a volume with ids of its own' '
ids = [{"host_id": 200000, "container_id": 0, "length": 65536}]
users = {"namespace_options": {"userns_options": {"mode": "POD", "uids": ids, "gids": ids}}}
p = pod(security=users)
c = stays(p, security=users)
if os.readlink(f"/proc/{pid(c)}/ns/user") == os.readlink("/proc/self/ns/user"):
    skip("containerd 1.6 knows no pods with a user namespace: it takes the call and makes none")
same(sh(c, "cat /proc/self/uid_map").split(), ["0", "200000", "65536"])
same(read(f"/proc/{pid(c)}/status").split("Uid:")[1].split()[0], "200000")
same(sh(c, "stat -c %u /bin/busybox"), "0")
if knows("Mount", "uidMappings") and version() >= (2, 0):
    os.makedirs("/tmp/mapped", exist_ok=True)
    pathlib.Path("/tmp/mapped/file").write_text("of the node")
    mounts = [bind("/tmp/mapped", "/vol", uidMappings=ids, gidMappings=ids)]
    same(says(p, "cat /vol/file; stat -c :%u /vol/file; touch /vol/new", security=users, mounts=mounts), "of the node:0")
    same(os.stat("/tmp/mapped/new").st_uid, 0)'
py 'mounts: read-only with what is mounted below' '
handlers = getattr(call("Status"), "runtime_handlers", [])
if not handlers: skip("this containerd does not say what runtimes can do")
print(handlers)
assert all(one.features.recursive_read_only_mounts for one in handlers if one.name == "brig"), handlers
os.makedirs("/tmp/above", exist_ok=True)
host("mount", "-t", "tmpfs", "x", "/tmp/above")
os.makedirs("/tmp/above/below")
host("mount", "-t", "tmpfs", "y", "/tmp/above/below")
p = pod()
c = stays(p, mounts=[bind("/tmp/above", "/ro", readonly=True), bind("/tmp/above", "/rro", readonly=True, recursive_read_only=True)])
sh(c, "touch /ro/below/x")
for path in ("/rro/x", "/rro/below/x"):
    has(execs(c, f"touch {path}")[1], "Read-only")
remove(p)
host("umount", "-R", "/tmp/above")'
py 'what the runtime can do, as features say' '
handlers = getattr(call("Status"), "runtime_handlers", [])
if not handlers: skip("this containerd does not say what runtimes can do")
same({(one.name, one.features.user_namespaces, one.features.recursive_read_only_mounts) for one in handlers if one.name != "runc"}, {(name, True, True) for name in ("", "brig", "class")})'
py 'image volumes' '
if not knows("Mount", "image") or version() < (2, 1): skip("containerd knows image volumes since 2.1")
c = stays(pod(), mounts=[{"container_path": "/box", "image": {"image": os.environ["image"]}, "readonly": True}])
same(sh(c, "cat /box/data/file"), "of the image")
has(execs(c, "touch /box/x")[1], "Read-only")'
py 'a device by its CDI name, with hooks that need PATH and change the root before the pivot' '
if not knows("ContainerConfig", "CDI_devices"): skip("this containerd knows no CDI devices")
c = stays(pod(), CDI_devices=[{"name": "brig.test/gpu=all"}])
same(sh(c, "echo $(stat -c %t:%T /dev/gpu0) $(cat /usr/lib/driver.1 /etc/hooked) $GPU"), "1:7 a driver of the host createRuntime all")'
py 'a new containerd takes the pods over' '
c = run(pod(), "trap \"exit 8\" TERM; while :; do sleep 0.1; done")
host("bash", "-c", "kill $(cat /run/world/containerd.pid); while kill -0 $(cat /run/world/containerd.pid); do sleep 0.1; done 2>/dev/null; begin")
CALLS.update(connect())
within(20, lambda: call("Status").status.conditions[0].status)
same((state(c), execs(c, "echo still")[0]), ("running", "still"))
call("StopContainer", container_id=c, timeout=20)
same(status(c).exit_code, 8)'
py 'nothing is left: states, cgroups, namespaces, mounts, processes' '
for one in call("ListPodSandbox").items:
    remove(one.id)
same(glob.glob("/run/containerd/runc/*/*") + glob.glob("/run/world/class/*/*"), [])
same(host("find", "/sys/fs/cgroup", "-path", "*/kube/*/*", "-type", "d"), "")
same(os.listdir("/run/netns"), [])
same([line for line in read("/proc/self/mounts").splitlines() if "k8s.io" in line], [])
same([line for line in host("ps", "-ww", "-eo", "comm,args").splitlines() if line.startswith("sleep ") and "100" in line], [])'
kill "$(cat /run/world/containerd.pid)"
