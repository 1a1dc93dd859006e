say <<'END'
# How containers work

A container is not a thing that the kernel knows. It is an ordinary process about which three decisions were
made: what it **sees** (namespaces), what it may **use** (cgroups), and what its **files** are (an overlay of
layers). This book makes each decision visible, and it does so twice: first with docker, as most people meet
containers, then with brig alone. Between docker and the kernel there are usually four programs. The last of them
makes the container, and in this book that is always brig:

    docker ── dockerd ── containerd ── its shim ── brig ── kernel
                                                   brig ── kernel

In each chapter, *alice* is docker's container and *bob* is brig's own. You will have trouble telling them apart,
and that is the point.

Every command here was run by `make book`, which wrote the answers into this file and checked that each is what
the text says. Process ids, digests and inode numbers are renumbered, and measurements are rounded, so that the
file changes only if behaviour does. `brig` stands for `brig --root /mnt/run --store /mnt/store`; dockerd has
`"default-runtime": "brig"` in its daemon.json. The prompt `#` is root's, and the machine is called `host`.

1. [An image is a tar and some JSON](#1-an-image-is-a-tar-and-some-json)
2. [Namespaces: what a process sees](#2-namespaces-what-a-process-sees)
3. [Cgroups: what a process may use](#3-cgroups-what-a-process-may-use)
4. [Layers: what its files are](#4-layers-what-its-files-are)
5. [Exec is setns](#5-exec-is-setns)
6. [Volumes: the same directory, twice](#6-volumes-the-same-directory-twice)
7. [Networks: a switch and two cables](#7-networks-a-switch-and-two-cables)

## 1. An image is a tar and some JSON

What would be on a machine with a single program? busybox is that program: a shell and some three hundred commands
in one static file, and each command is a link to it. We pack it into a tar:
END
show 'mkdir -p rootfs/bin rootfs/etc rootfs/tmp
cp /bin/busybox rootfs/bin/busybox
for command in $(busybox --list | grep -vx busybox); do ln -s busybox rootfs/bin/$command; done
echo "Hello from the base layer." >rootfs/etc/motd
tar --sort=name --mtime=@0 --owner=0 --group=0 -C rootfs -cf layer.tar .
sha256sum layer.tar'
layer=$(cut -d ' ' -f 1 /mnt/.one)
say <<'END'
That tar is a **layer**. Docker makes an image of it if we add how to run it, and calls the image `base`:
END
show 'docker import --change "ENV PATH=/bin" --change "CMD sh" layer.tar base
docker run --rm base cat /etc/motd
docker inspect --format "{{.RootFS.Layers}}" base'
has '^Hello from the base layer.$'
has "^\[sha256:$layer\]\$"
say <<'END'
The last line is the number that `sha256sum` printed. Everything in an image is named after its own SHA-256
digest: who asks for a name can tell whether he got what he asked for.

### By hand

What has docker added? A few lines of JSON. Let us write them ourselves, into a directory called `images`. First the
tar, under its name:
END
show 'mkdir -p images/blobs/sha256
store() { digest=$(sha256sum <$1 | cut -d" " -f1); size=$(stat -c %s $1); cp $1 images/blobs/sha256/$digest; }
store layer.tar; layer=$digest layer_size=$size'
say <<'END'
The *config* says how to run the image and what its layers are, the *manifest* which files make it up, and the
*index* gives it a name:
END
show 'cat >config.json <<JSON
{ "architecture": "amd64", "os": "linux", "config": { "Cmd": ["sh"], "Env": ["PATH=/bin"] },
  "rootfs": { "type": "layers", "diff_ids": ["sha256:$layer"] },
  "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "tar of busybox" }] }
JSON
store config.json; type=application/vnd.oci.image
cat >manifest.json <<JSON
{ "schemaVersion": 2, "mediaType": "$type.manifest.v1+json",
  "config": { "mediaType": "$type.config.v1+json", "digest": "sha256:$digest", "size": $size },
  "layers": [{ "mediaType": "$type.layer.v1.tar", "digest": "sha256:$layer", "size": $layer_size }] }
JSON
store manifest.json
cat >images/index.json <<JSON
{ "schemaVersion": 2, "manifests": [{ "mediaType": "$type.manifest.v1+json", "digest": "sha256:$digest",
  "size": $size, "annotations": { "org.opencontainers.image.ref.name": "base" } }] }
JSON
echo "{ \"imageLayoutVersion\": \"1.0.0\" }" >images/oci-layout'
say <<'END'
That was all. `images` is an OCI image layout, just as `skopeo copy docker://… oci:images` would have made it, and
it runs:
END
show 'brig run --image images:base hello -- cat /etc/motd'
has '^Hello from the base layer.$'
lines 1
