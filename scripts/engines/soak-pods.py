# soak-pods.py: the operations that soak-pods.sh runs with cri.py.
import collections, itertools, random, threading, traceback

PODS, SECONDS = int(os.environ["PODS"]), int(os.environ["SOAK_SECONDS"])
times, errors, late = collections.defaultdict(list), [], [0]
numbers, began = itertools.count(), time.monotonic()


def timed(what, do, /, *args, **fields):
    start = time.monotonic()
    got = do(*args, **fields)
    times[what].append((time.monotonic() - start) * 1000)
    return got


def one_pod(number, until):
    life = random.Random(number).uniform(15, 45)
    p = timed("RunPodSandbox", pod, name=f"soak-{number}")
    c = timed("create and start", stays, p, resources={"memory_limit_in_bytes": 33554432})
    end = min(time.monotonic() + life, until)
    while (now := time.monotonic()) < end:
        same(timed("exec", execs, c, f"echo {number}"), (str(number), "", 0))
        rest = now + 1 - time.monotonic()
        late[0] += rest < 0
        time.sleep(max(0, min(rest, end - time.monotonic())))
    timed("stop and remove", lambda: (call("StopContainer", container_id=c, timeout=0), remove(p)))
    made.pop(c)


def keep_one(first):
    # Not all at once.
    time.sleep(first * 0.2)
    while time.monotonic() < began + SECONDS:
        try:
            one_pod(next(numbers), began + SECONDS)
        except Exception:
            errors.append(traceback.format_exc())
            return


def resident():
    """Memory of containerd and its shims in MiB: the sum of their proportional set sizes."""
    total = 0
    for status in glob.glob("/proc/[0-9]*/comm"):
        try:
            if read(status).startswith("containerd"):
                rollup = read(status.replace("comm", "smaps_rollup"))
                total += int(re.search(r"^Pss: +(\d+)", rollup, re.M)[1])
        except (OSError, TypeError):
            pass
    return total / 1024


def of_pods():
    """Memory usage of the pods' cgroups in MiB."""
    usage = glob.glob("/sys/fs/cgroup/memory/kube/soak-*/memory.usage_in_bytes") or glob.glob("/sys/fs/cgroup/kube/soak-*/memory.current")
    total = 0
    for file in usage:
        try:
            total += int(read(file))
        except OSError:
            pass  # The pod has been removed meanwhile.
    return total / 2**20


def cpu():
    """CPU seconds of all processes of this environment."""
    file = "/sys/fs/cgroup/cpuacct/cpuacct.usage"
    if os.path.exists(file):
        return int(read(file)) / 1e9
    return int(re.search(r"usage_usec (\d+)", read("/sys/fs/cgroup/cpu.stat"))[1]) / 1e6


threads = [threading.Thread(target=keep_one, args=(i,), daemon=True) for i in range(PODS)]
used = cpu()
for thread in threads:
    thread.start()
shims, inside = [], []
while time.monotonic() < began + SECONDS and not errors:
    time.sleep(5)
    if time.monotonic() > began + min(20, SECONDS / 2):
        shims.append(resident())
        inside.append(of_pods())
for thread in threads:
    thread.join(120)
    assert not thread.is_alive(), "a call hangs"
used = cpu() - used
assert not errors, "".join(errors[:3])
print(f"{next(numbers)} pods, {len(times['exec'])} probes of which {late[0]} took longer than a second")
print("| ms | number | median | 95 % | longest |\n| --- | --- | --- | --- | --- |")
for name, all in times.items():
    all.sort()
    print(f"| {name} | {len(all)} | {all[len(all) // 2]:.0f} | {all[len(all) * 95 // 100]:.0f} | {all[-1]:.0f} |")
half = len(shims) // 2
print(f"| MiB of containerd and shims | first half | {max(shims[:half]):.0f} | second half | {max(shims[half:]):.0f} |")
print(f"| MiB of the pods' cgroups | first half | {max(inside[:half]):.0f} | second half | {max(inside[half:]):.0f} |")
print(f"| CPU time, all processes | | {used:.0f} s | | |")
for one in call("ListPodSandbox").items:
    remove(one.id)
same(glob.glob("/run/containerd/runc/*/*"), [])
same(host("find", "/sys/fs/cgroup", "-path", "*/kube/soak-*/*", "-type", "d"), "")
same(os.listdir("/run/netns"), [])
same([line for line in read("/proc/self/mounts").splitlines() if "k8s.io" in line], [])
same([line for line in host("ps", "-ww", "-eo", "args").splitlines() if line.startswith("sleep 100")], [])
