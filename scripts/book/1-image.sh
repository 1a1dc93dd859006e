# An image by hand, so that nothing in it is a secret.
say <<'END'
# How containers work

A container is not a thing that the kernel knows. It is an ordinary process with three decisions made about
it: what it **sees** (namespaces), what it may **use** (cgroups), and what its **files** are (an overlay of
layers). This book makes each decision visible. There is no daemon in it: every command runs on brig alone,
and you can type them all.

`make book` has run all of these commands, put their answers here, and checked that each is what the text
says; `make book CHECK=1` only checks. So nothing here is true merely because somebody once wrote it down.
Process ids, digests, dates and inode numbers are renumbered, so that the file changes only if behaviour does;
measurements are rounded. `brig` stands for `brig --root /mnt/run --store /mnt/store`: the book keeps its
things together in /mnt, in a mount namespace of its own. The prompt `#` is root's.

1. [An image is a tar and three pieces of JSON](#1-an-image-is-a-tar-and-three-pieces-of-json)
2. [Namespaces: what a process sees](#2-namespaces-what-a-process-sees)
3. [Cgroups: what a process may use](#3-cgroups-what-a-process-may-use)
4. [Union file systems: what its files are](#4-union-file-systems-what-its-files-are)
5. [Exec is setns](#5-exec-is-setns)
6. [Volumes: the same directory, twice](#6-volumes-the-same-directory-twice)
7. [Networks: a cable between two containers](#7-networks-a-cable-between-two-containers)

## 1. An image is a tar and three pieces of JSON

What would be on a machine with one program? busybox is that program: a shell and some three hundred commands
in one static file, each command a link to it.
END
show 'mkdir -p rootfs/bin rootfs/etc rootfs/tmp
cp "$(command -v busybox)" rootfs/bin/busybox
for command in $(busybox --list | grep -vx busybox); do ln -s busybox rootfs/bin/$command; done
echo "Hello from the base layer." >rootfs/etc/motd
tar --sort=name --mtime=@0 --owner=0 --group=0 -C rootfs -cf layer.tar .'
say <<'END'
That tar is a **layer**. An image stores everything under the name of its own SHA-256 digest: ask for a name,
and you can tell whether you got what you asked for. A one-line function does it:
END
show 'mkdir -p images/blobs/sha256
store() { digest=$(sha256sum <$1 | cut -d" " -f1); size=$(stat -c %s $1); cp $1 images/blobs/sha256/$digest; }'
say <<'END'
Then the JSON. The *config* says how to run it and what its layers are, the *manifest* lists the files that
make it up, and the *index* gives it a name:
END
show 'store layer.tar; layer=$digest layer_size=$size
cat >config.json <<JSON
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
That was all. `images` is an OCI image layout, what `skopeo copy docker://… oci:images` would have made as
well, and it runs:
END
show 'brig run --image images:base hello -- cat /etc/motd'
has '^Hello from the base layer.$'
lines 1
