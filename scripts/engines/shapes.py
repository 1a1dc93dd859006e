# shapes.py SHAPE OUT LAYER…: an image layout OUT, tag v1, in a form that the tools at hand do not create. The
# layers are tar files, possibly compressed.
#   plain     the usual form
#   v2s2      docker's media types
#   nested    an index in an index in the layout's index, with a platform that is not this one
#   estargz   gzip members, one for each file, landmarks, its own index and a footer
#   absolute  names, targets of hard links and whiteouts begin with a slash
#   many      127 layers, each of which changes the previous one
import gzip
import hashlib
import io
import json
import os
import platform
import sys
import tarfile
import zlib

ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
OCI = "application/vnd.oci.image."
DOCKER = "application/vnd.docker."
CONFIG = {"Env": ["PATH=/usr/bin:/bin", "SHAPE=x"], "WorkingDir": "/usr", "User": "1000:5"}


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def rewritten(data, change):
    """The archive with changed entries."""
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(data)) as old, \
            tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new:
        for entry in old:
            content = old.extractfile(entry) if entry.isreg() else None
            entry.pax_headers = {key: value for key, value in entry.pax_headers.items() if key.startswith("SCHILY")}
            change(entry)
            new.addfile(entry, content)
    return out.getvalue()


def absolute(entry):
    entry.name = "/" + entry.name.lstrip("./")
    if entry.islnk():
        entry.linkname = "/" + entry.linkname.lstrip("./")


def made(entries):
    """An archive of (name, content or None for a directory)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.mtime = 1700000000
            if content is None:
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


def estargz(data):
    """In the format of containerd's stargz-snapshotter: (compressed, uncompressed archive)."""
    parts, whole, toc = [], b"", []

    def add(entry, content):
        nonlocal whole
        raw = entry.tobuf(tarfile.PAX_FORMAT) + content + b"\0" * (-len(content) % 512)
        whole += raw
        toc.append({"name": entry.name, "size": entry.size})
        parts.append(gzip.compress(raw, 1, mtime=0))

    landmark = tarfile.TarInfo(".prefetch.landmark")
    landmark.size = 1
    add(landmark, b"\x0f")
    with tarfile.open(fileobj=io.BytesIO(data)) as old:
        for entry in old:
            add(entry, old.extractfile(entry).read() if entry.isreg() else b"")
    text = json.dumps({"version": 1, "entries": toc}).encode()
    index = tarfile.TarInfo("stargz.index.json")
    index.size = len(text)
    offset = sum(map(len, parts))
    add(index, text)
    end = b"\0" * 1024
    # The footer: an empty member with the index's position in its extra field.
    extra = b"SG" + (22).to_bytes(2, "little") + b"%016xSTARGZ" % offset
    footer = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff" + len(extra).to_bytes(2, "little") + extra
    footer += b"\x01\0\0\xff\xff" + b"\0" * 8
    return b"".join(parts) + gzip.compress(end, 1, mtime=0) + footer, whole + end


def layers_of(shape, files):
    """(compressed, diff id) of each layer."""
    archives = []
    for file in files:
        with open(file, "rb") as opened:
            data = opened.read()
        # npm's and others' are compressed already.
        archives.append(zlib.decompress(data, 31) if data[:2] == b"\x1f\x8b" else data)
    if shape == "absolute":
        archives = [rewritten(archive, absolute) for archive in archives]
        archives.append(made([("/usr/share/.wh.misc", b""), ("/new/file", b"x"), ("/run/.wh..wh..opq", b"")]))
    if shape == "many":
        for number in range(127 - len(archives)):
            content = b"%d" % number
            entries = [("many/all", content), ("many/%d" % number, content)]
            # Every third one hides a file of the third before it.
            entries += [("many/.wh.%d" % (number - 3), b"")] * (number % 3 == 0 and number >= 3)
            archives.append(made(entries))
    if shape == "estargz":
        return [(packed, digest(whole)) for packed, whole in map(estargz, archives)]
    return [(gzip.compress(archive, 1, mtime=0), digest(archive)) for archive in archives]


def main(shape, out, *files):
    layers = layers_of(shape, files)
    config = json.dumps({
        "architecture": ARCH, "os": "linux", "config": CONFIG,
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, diff_id in layers]},
        "history": [{"created_by": "shapes.py"} for _ in layers],
    }).encode()
    os.makedirs(out + "/blobs/sha256")

    def blob(media_type, data, **more):
        name = digest(data)
        with open(out + "/blobs/sha256/" + name[7:], "wb") as file:
            file.write(data)
        return {"mediaType": media_type, "digest": name, "size": len(data), **more}

    docker = shape == "v2s2"
    kinds = [DOCKER + "container.image.v1+json", DOCKER + "image.rootfs.diff.tar.gzip",
             DOCKER + "distribution.manifest.v2+json"] if docker else \
        [OCI + "config.v1+json", OCI + "layer.v1.tar+gzip", OCI + "manifest.v1+json"]
    manifest = {"schemaVersion": 2, "mediaType": kinds[2], "config": blob(kinds[0], config),
                "layers": [blob(kinds[1], packed) for packed, _ in layers]}
    top = blob(kinds[2], json.dumps(manifest).encode())
    if shape == "nested":
        top["platform"] = {"os": "linux", "architecture": ARCH}
        other = dict(top, platform={"os": "linux", "architecture": "s390x"})
        for _ in range(2):
            index = {"schemaVersion": 2, "mediaType": OCI + "index.v1+json", "manifests": [other, top]}
            top = blob(OCI + "index.v1+json", json.dumps(index).encode())
    top["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    with open(out + "/index.json", "w") as file:
        json.dump({"schemaVersion": 2, "manifests": [top]}, file)
    with open(out + "/oci-layout", "w") as file:
        file.write('{"imageLayoutVersion":"1.0.0"}')


main(*sys.argv[1:])
