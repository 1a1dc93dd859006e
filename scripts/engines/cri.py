"""cri.py TEST: a client of containerd's CRI socket, like the kubelet; TEST is Python that uses the functions below.

`cri.py --schema PROGRAM FILE` takes the messages and calls out of the server itself: the compressed descriptor of
api.proto, which every Go program with the generated code of the CRI carries. So nothing is fetched, and it fits.
"""
import concurrent.futures, glob, json, os, pathlib, re, subprocess, sys, time, zlib

import grpc, websocket
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

SCHEMA, SOCKET = "/run/world/cri.schema", "unix:///run/containerd/containerd.sock"


def extract(program, to):
    data = pathlib.Path(program).read_bytes()
    for start in (found.start() for found in re.finditer(b"\x1f\x8b\x08", data)):
        try:
            schema = zlib.decompressobj(31).decompress(data[start : start + 200_000])
        except zlib.error:
            continue
        if schema.startswith(b"\n\tapi.proto") and b"\x12\x0aruntime.v1" in schema[:200]:
            file = descriptor_pb2.FileDescriptorProto.FromString(schema)
            # They only import options of the Go generator.
            del file.dependency[:]
            file.ClearField("options")
            for message in file.message_type:
                for field in message.field:
                    field.ClearField("options")
            return pathlib.Path(to).write_bytes(file.SerializeToString())
    sys.exit(f"{program} has no schema of runtime.v1")


def connect():
    file = descriptor_pb2.FileDescriptorProto.FromString(pathlib.Path(SCHEMA).read_bytes())
    if hasattr(message_factory, "GetMessages"):
        classes = message_factory.GetMessages([file])
    else:
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        classes = message_factory.GetMessageClassesForFiles([file.name], pool)
    KNOWN.update((name, set(kind.DESCRIPTOR.fields_by_name)) for name, kind in classes.items())
    channel = grpc.insecure_channel(SOCKET)
    calls = {}
    for service in file.service:
        for method in service.method:
            ask, answer = (classes[kind.lstrip(".")] for kind in (method.input_type, method.output_type))
            path = f"/{file.package}.{service.name}/{method.name}"
            send = channel.unary_unary(path, lambda request: request.SerializeToString(), answer.FromString)
            calls[method.name] = (ask, send)
    return calls


KNOWN = {}
CALLS = connect() if sys.argv[1] != "--schema" else {}
NAME = os.environ.get("c", "t")
pods, made = {}, {}


# Helpers for the tests.
def call(name, **fields):
    """Makes a call and returns the response; fields are those of the request, in JSON's notation."""
    ask, send = CALLS[name]
    return send(json_format.ParseDict(fields, ask()), timeout=40)


def knows(message, field):
    """Whether the server's schema contains it."""
    return field in KNOWN[f"runtime.v1.{message}"]


def version():
    return tuple(map(int, re.findall(r"\d+", call("Version").runtime_version)[:2]))


def refused(pattern, name, **fields):
    """Checks that the call fails with this text."""
    try:
        answer = call(name, **fields)
    except grpc.RpcError as error:
        if re.search(pattern, error.details()):
            return error
        raise
    raise AssertionError(f"{name} is not refused: {answer}")


def same(got, want):
    assert got == want, f"not {want!r} but {got!r}"


def has(text, pattern):
    assert re.search(pattern, text, re.M), f"no {pattern!r} in {text!r}"


def skip(why):
    print(why, flush=True)
    clean()
    os._exit(77)


def within(seconds, true, what="it"):
    end = time.monotonic() + seconds
    while not (got := true()):
        assert time.monotonic() < end, f"{what} is not so in time"
        time.sleep(0.05)
    return got


def read(path):
    return pathlib.Path(path).read_text().strip()


def together(do, on):
    with concurrent.futures.ThreadPoolExecutor(len(on)) as threads:
        return list(threads.map(do, on))


def bind(path, to, **more):
    """A mount of a path on the node."""
    return {"host_path": path, "container_path": to, **more}


def host(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=30).stdout.strip()


def pod(handler="", security={}, linux={}, name="", **config):
    """A running sandbox, removed after the test."""
    name = name or f"{NAME}-{len(pods)}"
    config = {
        "metadata": {"name": name, "uid": f"uid-{name}", "namespace": "default"},
        "log_directory": f"/var/log/pods/{name}",
        "linux": {"cgroup_parent": f"/kube/{name}", "security_context": security, **linux},
        **config,
    }
    os.makedirs(config["log_directory"], exist_ok=True)
    id = call("RunPodSandbox", config=config, runtime_handler=handler).pod_sandbox_id
    pods[id] = config
    return id


# In a guest with systemd.
SLICE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{NAME}.slice"


def kubelet_pod(**namespaces):
    """A pod as the kubelet makes it with `cgroupDriver: systemd`: in a slice that it makes by D-Bus, with a limit. The
    network is the node's, because there is no other in the guest."""
    manager = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
    unit = (os.path.basename(SLICE), "replace", "1", "MemoryMax", "t", "134217728", "0")
    host("busctl", "call", *manager, "StartTransientUnit", "ssa(sv)a(sa(sv))", *unit)
    return pod(security={"namespace_options": {"network": "NODE", **namespaces}}, linux={"cgroup_parent": SLICE})


def scope(id):
    return f"cri-containerd-{id}.scope"


def properties(unit, *names):
    return [host("systemctl", "show", "-P", name, unit) for name in names]


def files(unit, *names):
    return [read(f"/sys/fs/cgroup{SLICE}/{unit}/{name}") for name in names]


def children():
    """The cgroups in the pod's slice."""
    return {one.name for one in pathlib.Path(f"/sys/fs/cgroup{SLICE}").iterdir() if one.is_dir()}


def create(pod, *command, security={}, resources={}, attempt=0, **config):
    """A created container in the pod; a single argument is a shell script."""
    name = f"c{len(made)}"
    if len(command) == 1:
        command = ("sh", "-c", *command)
    config = {
        "metadata": {"name": name, "attempt": attempt},
        "image": {"image": os.environ["image"]},
        "command": list(command),
        "log_path": f"{name}.{attempt}.log",
        "linux": {"security_context": security, "resources": resources},
        **config,
    }
    id = call("CreateContainer", pod_sandbox_id=pod, config=config, sandbox_config=pods[pod]).container_id
    made[id] = os.path.join(pods[pod]["log_directory"], config["log_path"])
    return id


def run(pod, *command, **config):
    id = create(pod, *command, **config)
    call("StartContainer", container_id=id)
    return id


def stays(pod, **config):
    return run(pod, "sleep", "1000", **config)


def status(id):
    return call("ContainerStatus", container_id=id).status


def state(id):
    return ("created", "running", "exited", "unknown")[status(id).state]


def ends(id, code=0):
    within(20, lambda: state(id) == "exited", "the end")
    same(status(id).exit_code, code)
    return id


def says(pod, *command, **config):
    """The output of a container that exits with 0."""
    return log(ends(run(pod, *command, **config)))


def log(id, stream="stdout"):
    """One stream of the log; P marks a partial line."""
    text = ""
    for line in pathlib.Path(made[id]).read_bytes().decode().split("\n")[:-1]:
        stamp, source, tag, rest = line.split(" ", 3)
        has(stamp, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d)$")
        text += (rest + ("" if tag == "P" else "\n")) if source == stream else ""
    return text.strip()


def execs(id, *command, timeout=0):
    """ExecSync: stdout, stderr, exit code."""
    if len(command) == 1:
        command = ("sh", "-c", *command)
    got = call("ExecSync", container_id=id, cmd=list(command), timeout=timeout)
    return got.stdout.decode().strip(), got.stderr.decode().strip(), got.exit_code


def sh(id, script):
    out, err, code = execs(id, script)
    assert code == 0, f"exit code {code}: {script}: {out} {err}"
    return out


def info(id):
    return json.loads(call("ContainerStatus", container_id=id, verbose=True).info["info"])


def pid(id):
    return info(id)["pid"]


def cgroup(id, controller, v1, v2):
    """A file of the container's cgroup."""
    for line in read(f"/proc/{pid(id)}/cgroup").splitlines():
        number, names, path = line.split(":", 2)
        if controller in names.split(","):
            return read(f"/sys/fs/cgroup/{names}{path}/{v1}")
        if number == "0":
            unified = f"/sys/fs/cgroup{path}/{v2}"
    return read(unified)


class Stream:
    """The websocket of an URL of Exec, Attach or PortForward: a byte with the channel, then data."""

    def __init__(self, url):
        self.socket = websocket.create_connection(
            url.replace("http:", "ws:"), subprotocols=["v4.channel.k8s.io"], timeout=20
        )
        self.got = {}

    def send(self, channel, data):
        self.socket.send_binary(bytes([channel]) + (data if isinstance(data, bytes) else data.encode()))

    def size(self, rows, columns):
        self.send(4, json.dumps({"Width": columns, "Height": rows}))

    def next(self):
        """False at the end."""
        try:
            frame = self.socket.recv()
        except websocket.WebSocketConnectionClosedException:
            return False
        frame = frame if isinstance(frame, bytes) else frame.encode()
        if frame:
            self.got[frame[0]] = self.got.get(frame[0], b"") + frame[1:]
        return bool(frame) or self.socket.connected

    def text(self, channel):
        return self.got.get(channel, b"").decode().replace("\r", "")

    def see(self, pattern, channel=1):
        while not re.search(pattern, self.text(channel)):
            assert self.next(), f"ended without {pattern!r}: {self.got}"

    def see_in_time(self, pattern, cause):
        """Calls `cause` each second until the pattern is seen: containerd attaches to the output some time after
        it has answered."""
        self.socket.settimeout(1)
        for _ in range(20):
            cause()
            try:
                self.see(pattern)
                break
            except websocket.WebSocketTimeoutException:
                pass
        self.socket.settimeout(20)
        self.see(pattern)

    def end(self):
        """The exit code, from the status on channel 3."""
        while self.next():
            pass
        verdict = json.loads(self.text(3))
        if verdict["status"] == "Success":
            return 0
        if verdict.get("reason") != "NonZeroExitCode":
            return verdict["message"]
        return int(verdict["details"]["causes"][0]["message"])


def stream(id, *command, **options):
    """Exec with a stream."""
    options = options or {"stdout": True, "stderr": True}
    return Stream(call("Exec", container_id=id, cmd=list(command), **options).url)


def attach(id, **options):
    return Stream(call("Attach", container_id=id, **options).url)


def remove(pod):
    call("StopPodSandbox", pod_sandbox_id=pod)
    call("RemovePodSandbox", pod_sandbox_id=pod)
    pods.pop(pod, None)


def clean():
    for pod in list(pods):
        remove(pod)


if __name__ == "__main__":
    if sys.argv[1] == "--schema":
        extract(*sys.argv[2:])
    else:
        try:
            exec(compile(sys.argv[1], "test", "exec"), globals())
        finally:
            clean()
