# inside.py: run in a container: prints its environment. The tree without mounts, one path per line;
# environment variables, user, groups, working directory, limits. The exit status shows what the engine's
# defaults permit.
import ctypes
import hashlib
import os
import resource
import socket
import stat
import sys

# Created differently by each engine; the mount point of this script; and the root's own mode, which podman
# sets.
OWN = {"/", "/.host", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/run/.containerenv"}


def mount_points():
    with open("/proc/self/mountinfo") as file:
        return {line.split()[4] for line in file} - {"/"}


def describe(path):
    status = os.lstat(path)
    kind = stat.S_IFMT(status.st_mode)
    content = ""
    if stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            content = hashlib.sha256(file.read()).hexdigest()
    elif kind in (stat.S_IFCHR, stat.S_IFBLK):
        content = "%d:%d" % (os.major(status.st_rdev), os.minor(status.st_rdev))
    names = sorted(os.listxattr(path, follow_symlinks=False))
    names = [name for name in names if ".overlay." not in name]
    attributes = ["%s=%s" % (name, os.getxattr(path, name, follow_symlinks=False).hex()) for name in names]
    links = 1 if stat.S_ISDIR(status.st_mode) else status.st_nlink
    # Directories that a layer uses without an entry get a new time; mtab is the engine's.
    times = "-" if stat.S_ISDIR(status.st_mode) or path == "/etc/mtab" else status.st_mtime_ns // 10**9
    return [oct(status.st_mode), status.st_uid, status.st_gid, links, times, content, *attributes]


def tree():
    hidden = mount_points() | OWN
    for above, directories, files in os.walk("/"):
        directories[:] = [name for name in directories if os.path.join(above, name) not in hidden]
        for name in directories + files:
            path = os.path.join(above, name)
            if path not in hidden:
                try:
                    print(ascii(path), *describe(path))
                except PermissionError:
                    print(ascii(path), "is not for this user")


def works(attempt):
    try:
        attempt()
        return True
    except OSError:
        return False


def mount():
    libc = ctypes.CDLL("libc.so.6", use_errno=True)
    if libc.mount(b"none", b"/proc", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")


def bind_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 80))


def change_owner():
    with open("/tmp/.owned", "w"):
        pass
    os.chown("/tmp/.owned", 5, 6)
    os.unlink("/tmp/.owned")


def write(path):
    with open(path, "w") as file:
        file.write("0")


print("uid", os.getresuid(), "gid", os.getresgid(), "groups", sorted(set(os.getgroups())))
print("cwd", os.getcwd(), "umask", oct(os.umask(0o22)), "args", sys.argv[1:])
engines = {"TERM", "HOSTNAME", "container", "PYTHONHOME"}
for name in sorted(set(os.environ) - engines):
    print("env", name, os.environ[name])
print("files", resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 1024)
tree()
# Those with the same result in docker, podman and brig.
attempts = [change_owner, bind_port, lambda: os.chroot("/"), lambda: os.setgid(1), mount,
            lambda: write("/proc/sys/kernel/core_pattern"), lambda: os.open("/proc/kcore", os.O_RDONLY)]
sys.exit(sum(works(attempt) << index for index, attempt in enumerate(attempts)) + 1)
