# trees.py A B [ROOT]: checks that two trees have the same paths, and each the same type, permissions, owner,
# size, content, target, device number, attributes, time. Prints the first differences. ROOT replaces B
# itself.
import hashlib
import os
import stat
import sys


def content(path, status):
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    return "%x" % status.st_rdev if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode) else ""


def describe(path):
    status = os.lstat(path)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    # overlayfs's own.
    names = [name for name in names if ".overlay." not in name]
    attributes = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
    links = 1 if stat.S_ISDIR(status.st_mode) else status.st_nlink
    return (oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns, links,
            content(path, status), attributes)


def tree(root, itself):
    found = {b".": describe(itself)}
    for above, directories, files in os.walk(os.fsencode(root)):
        for name in directories + files:
            path = os.path.join(above, name)
            found[os.path.relpath(path, os.fsencode(root))] = describe(path)
    return found


one, other = tree(sys.argv[1], sys.argv[1]), tree(sys.argv[2], sys.argv[-1])
differences = [path for path in sorted(one.keys() | other.keys()) if one.get(path) != other.get(path)]
for path in differences[:20]:
    print(path, one.get(path), other.get(path), sep="\n    ")
print(len(one), "and", len(other), "paths,", len(differences), "differences")
sys.exit(bool(differences) or len(one) < 10)
