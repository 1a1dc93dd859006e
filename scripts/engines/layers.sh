# layers.sh: exchanges images between brig and docker, podman, buildah, skopeo and umoci, in both directions; busybox
# and a Debian, $DEBIAN, created by mmdebstrap.
# needs: docker.io containerd podman conmon buildah skopeo umoci mmdebstrap iptables
# debian

[ "$(basename "$RUNTIME_PATH")" = brig ] || { echo "# brig alone has layers"; return 0; }
export PATIENCE=300
mkdir -p /run/world/docker /run/world/tools
echo '{}' >/run/world/docker/config.json
echo '{"storage-driver": "overlay2"}' >/etc/docker/daemon.json
docker=/usr/bin/docker
ln -s $docker /run/world/tools/docker
export PATH=/run/world/tools:$PATH DOCKER_HOST=unix:///run/docker.sock DOCKER_BUILDKIT=0
export DOCKER_CONFIG=/run/world/docker CONTAINERS_CONF=/run/world/containers.conf BUILDAH_ISOLATION=chroot
export CONTAINERS_STORAGE_CONF=/run/world/storage.conf
printf '[containers]\nlog_driver="k8s-file"\n[engine]\ncgroup_manager="cgroupfs"\nevents_logger="file"\n' >$CONTAINERS_CONF
printf '[storage]\ndriver="overlay"\nrunroot="/run/containers/storage"\ngraphroot="/var/lib/containers/storage"\n' >$CONTAINERS_STORAGE_CONF
dockerd --add-runtime "tested=$RUNTIME_PATH" --default-runtime tested >"$LOGS/dockerd.txt" 2>&1 </dev/null &
dockerd_pid=$!
within 30 docker info
docker load -qi /run/world/box.tar

brig() { "$RUNTIME_PATH" --root "/run/world/$c.state" --store "/run/world/$c.store" "$@"; }
umoci() { command umoci --log error "$@"; }
copy() { skopeo copy -q --insecure-policy "$@"; }
podman() { command podman --runtime "$RUNTIME_PATH" "$@"; }
# A Dockerfile with two layers on busybox, and the output of its container.
export steps='FROM box:1
RUN echo made >/root/made; rm /data/file; rm -r /data/sub; mkdir /data/sub; echo new >/data/sub/new
RUN ln /root/made /root/hard; mv /home/user /home/other; chmod 1700 /root; mkfifo /root/fifo
ENV A=b
CMD ["sh", "-c", "cat /root/hard; find /data /root /home | sort | xargs stat -c \"%n %A %u %h %s\"; echo $A; id -u"]
'
# A container of an image of brig's with changes of all kinds; the image: oci:/tmp/$c.made:v2.
changed() { brig run --keep --image /run/world/box.tar "$c" -- sh -c "$changes; $anew"; brig commit "$@" "$c" "/tmp/$c.made:v2"; }
export look='tail -n 1 /hard; ls -R /data; stat -c %a%F /root /fifo; readlink /bin/text; test ! -e /home; ls /deep'
export shown='x
/data:
new
700directory
644fifo
sh
er'
# shows DIR: mounts an overlay of a bundle's layers, without the bundle's own, at /tmp/$c.shown. The root's
# attributes are those of the bundle's own.
shows() {
    local layers
    layers=$(python3 -c 'import json, sys; print(":".join(reversed([layer for layer in json.load(open(sys.argv[1]))["annotations"]["run.brig.overlay.layers"].split(":") if layer[0] == "/"])))' "$1/config.json")
    mkdir "/tmp/$c.shown"
    case $layers in
        *:*) mount -t overlay -o "ro,lowerdir=$layers" overlay "/tmp/$c.shown" ;;
        *) mount --bind "$layers" "/tmp/$c.shown" ;;
    esac
}
# An image of Debian; debian: in a new layout, /tmp/$c.
umoci init --layout /run/world/debian
umoci new --image /run/world/debian:v1
umoci raw add-layer --image /run/world/debian:v1 "$DEBIAN"
umoci config --image /run/world/debian:v1 --config.cmd bash
debian() { cp -r /run/world/debian "/tmp/$c"; }
# same_tree: umoci unpacks the image to the same tree as brig's layers show.
same_tree() {
    umoci unpack --image "/tmp/$c:v1" "/tmp/$c.umoci"
    brig bundle "/tmp/$c:v1" "/tmp/$c.bundle"
    shows "/tmp/$c.bundle"
    python3 "$HERE/trees.py" "/tmp/$c.umoci/rootfs" "/tmp/$c.shown" "/tmp/$c.bundle/init"
}
# In the container: the host's python, with inside.py.
python=/usr/bin/python3
loader=$(ldd $python | grep -o '/[^ ]*/ld-linux[^ ]*')
libc=$(ldd $python | sed -n 's/.*=> \(.*\)\/libc\.so.*/\1/p')
# If /usr is merged these are links, and only /usr is mounted.
inside=(/.host"$(realpath "$loader")" --library-path /.host"$(realpath "$libc")" /.host"$(realpath $python)" /.host/inside.py)
# like_podman IMAGE [THEIRS]: podman and brig run inside.py in an image, as its own user and as root: the
# output about tree and process is the same, and the exit status, too. THEIRS: the image's name for podman.
like_podman() {
    local engine user made status flags
    made=$(podman pull -q "${2:-oci:$1}")
    for user in '' 0; do
        flags=(${user:+-u $user} --entrypoint '' -e PYTHONHOME=/.host/usr --mount type=bind,src=/usr,dst=/.host/usr,ro --mount "type=bind,src=$HERE/inside.py,dst=/.host/inside.py,ro")
        for engine in podman brig; do
            status=0
            case $engine in
                podman) podman run --rm --net none "${flags[@]}" "$made" "${inside[@]}" ;;
                brig) brig run --image "$1" "${flags[@]}" -- "${inside[@]}" ;;
            esac >"/tmp/$c.$engine" || status=$?
            sort -o "/tmp/$c.$engine" "/tmp/$c.$engine"
            echo "status $status" >>"/tmp/$c.$engine"
        done
        # It ran to the end.
        [ "$(wc -l <"/tmp/$c.brig")" -gt 100 ]
        [ "$status" -gt 1 ] && [ "$status" -lt 125 ]
        diff "/tmp/$c.podman" "/tmp/$c.brig"
    done
}
# Layers like those of distroless images: unmodified packages, a busybox with all kinds of files, a wheel, an
# npm tarball.
layers=/run/world/layers
mkdir -p $layers/root/{bin,etc,tmp,data,run,var}
for deb in "$PACKAGES"/*.deb; do dpkg-deb --fsys-tarfile "$deb" >"$layers/$(basename "$deb").tar"; done
cp /bin/busybox $layers/root/bin/busybox
ln -s ../run $layers/root/var/run
printf 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:5::/data:/bin/sh\n' >$layers/root/etc/passwd
printf 'root:x:0:\nweb:x:5:\nextra:x:2000:web\n' >$layers/root/etc/group
ln $layers/root/etc/group $layers/root/etc/hard
mknod $layers/root/data/null c 1 3
mkfifo $layers/root/data/fifo
chown -R 1000:5 $layers/root/data
chmod 2750 $layers/root/data
chmod 1777 $layers/root/tmp
python3 - $layers/root "$PACKAGES"/*.whl <<'END'
import os, struct, sys, zipfile
os.setxattr(sys.argv[1] + "/data", "user.a", b"v")
os.setxattr(sys.argv[1] + "/bin/busybox", "security.capability", struct.pack("<5I", 0x2000001, 1 << 13, 0, 0, 0))
zipfile.ZipFile(sys.argv[2]).extractall(sys.argv[1] + "/../wheel/opt/python")
END
tar --xattrs --xattrs-include='*' -C $layers/root -cf $layers/root.tar .
tar -C $layers/wheel -cf $layers/wheel.tar opt/python
shape() { python3 "$HERE/shapes.py" "$1" "$2" $layers/*.deb.tar $layers/root.tar $layers/wheel.tar "$PACKAGES"/*.tgz; }
export layers
forget() {
    umount "/tmp/$1.shown"
    rm -rf --one-file-system /tmp/"$1"* /run/world/"$1".*
    docker rm -f "$1"
}
export -f brig umoci copy podman changed shows debian same_tree shape like_podman

t 'docker build, docker save: it says the same' 'printf %s "$steps" | docker build -q -t built:$c -; docker save -o /tmp/$c.tar built:$c; is "$(docker run --rm --net none built:$c)" brig run --image /tmp/$c.tar $c'
t 'docker save of two images, by their names' 'docker tag box:1 other:$c; docker build -q -t built:$c - <<<"$steps"; docker save -o /tmp/$c.tar other:$c built:$c; is b brig run --image /tmp/$c.tar:built:$c $c -- sh -c "echo \$A"; is "" brig run --image /tmp/$c.tar:other:$c $c -- sh -c "echo \$A"; says "choose one with" brig run --image /tmp/$c.tar $c'
t 'skopeo copy from the docker daemon' 'docker build -q -t built:$c - <<<"$steps"; copy docker-daemon:built:$c oci:/tmp/$c:v1; is "$(docker run --rm --net none built:$c)" brig run --image /tmp/$c:v1 $c'
t 'buildah build, push: layout, archive, docker-archive, zstd' 'buildah pull -q docker-archive:/run/world/box.tar; printf %s "$steps" | buildah build -q --layers -t built:$c -f - /run/world/docker; expected=$(podman run --rm --net none built:$c); for to in oci:/tmp/$c.o:v1 oci-archive:/tmp/$c.a:v1 docker-archive:/tmp/$c.d:v1; do buildah push -q built:$c $to; is "$expected" brig run --image $to $c; done; buildah push -q --compression-format zstd built:$c oci:/tmp/$c.z:v1; grep -l zstd /tmp/$c.z/blobs/sha256/*; is "$expected" brig run --image /tmp/$c.z:v1 $c'
t 'podman save' 'podman load -qi /run/world/box.tar; printf %s "$steps" | podman build -q -t built:$c -f - /run/world/docker; for format in oci-archive docker-archive oci-dir; do podman save -q --format $format -o /tmp/$c.$format built:$c; is "$(podman run --rm --net none built:$c)" brig run --image /tmp/$c.$format $c; done'

for packed in gzip zstd none; do
    export packed
    t "umoci unpacks what brig commits: $packed" 'changed --compression $packed; [ $packed != zstd ] || skip "this umoci does not know zstd"; umoci unpack --image /tmp/$c.made:v2 /tmp/$c.umoci; brig bundle /tmp/$c.made:v2 /tmp/$c.bundle; shows /tmp/$c.bundle; python3 "$HERE/trees.py" /tmp/$c.umoci/rootfs /tmp/$c.shown /tmp/$c.bundle/init'
    t "skopeo, podman and buildah read what brig commits, and it runs: $packed" 'changed --compression $packed; copy oci:/tmp/$c.made:v2 oci:/tmp/$c.copy:v2; made=$(podman pull -q oci:/tmp/$c.copy:v2); is "$shown" podman run --rm --net none $made sh -c "$look"; buildah from --name $c oci:/tmp/$c.made:v2; is "$shown" buildah run $c -- sh -c "$look"; buildah rm $c; is "$shown" brig run --image /tmp/$c.copy:v2 again -- sh -c "$look"'
done
t 'docker loads what brig commits, and it runs' 'changed; copy oci:/tmp/$c.made:v2 docker-archive:/tmp/$c.tar:made:$c; docker load -qi /tmp/$c.tar; is "$shown" docker run --rm --net none made:$c sh -c "$look"'
t 'umoci repacks what brig commits' 'changed; umoci unpack --image /tmp/$c.made:v2 /tmp/$c.umoci; echo by umoci >/tmp/$c.umoci/rootfs/umoci; rm /tmp/$c.umoci/rootfs/data/new; umoci repack --image /tmp/$c.made:v3 /tmp/$c.umoci; is "by umoci" brig run --image /tmp/$c.made:v3 again -- sh -c "cat /umoci; ls /data"'
t 'the root itself is not a line of a diff, for docker and podman as for brig' 'for e in docker podman; do $e load -qi /run/world/box.tar; $e run --net none --name $c $image chmod 711 /; if $e diff $c | grep -x "C /"; then exit 1; fi; $e rm $c; done; brig run --keep --image /run/world/box.tar $c -- chmod 711 /; is "" brig diff $c'

t 'Debian: umoci unpack and brig bundle give the same tree' 'debian; same_tree'
t 'Debian: runs' 'debian; brig run --image /tmp/$c:v1 $c -- dpkg -l | grep "ii  bash"'
t 'Debian: sudo, su, apt, gcc, threads, a 32-bit program run; namespaces, mounts, keys, AF_ALG are refused' 'umoci init --layout /tmp/$c; umoci new --image /tmp/$c:v1; umoci raw add-layer --image /tmp/$c:v1 "$DEBIAN_TOOLS"; is confined brig run --image /tmp/$c:v1 -v "$HERE/confined.bash:/confined.bash:ro" $c -- bash /confined.bash'
t 'Debian, a layer of changes on top: the same tree' 'debian; umoci unpack --image /tmp/$c:v1 /tmp/$c.work; cd /tmp/$c.work/rootfs; rm -r usr/share/doc; rm etc/motd; mkdir etc/motd; touch etc/motd/x; ln bin/bash root/hard; chown 7:8 root; rm -r var/lib/apt; echo f >var/lib/apt; cd /; umoci repack --image /tmp/$c:v1 /tmp/$c.work; same_tree'
t 'Debian, a layer with lib/x alone: /lib stays a link, the same tree' 'debian; mkdir -p /tmp/$c.l/lib /tmp/$c.l/bin; echo x >/tmp/$c.l/lib/x; cp /bin/busybox /tmp/$c.l/bin/; tar -C /tmp/$c.l -cf /tmp/$c.tar lib/x bin/busybox; umoci raw add-layer --image /tmp/$c:v1 /tmp/$c.tar; same_tree; is "usr/lib x" brig run --image /tmp/$c:v1 $c -- sh -c "echo \$(readlink /lib) \$(busybox cat /usr/lib/x)"'
t 'Debian: what brig commits, podman and umoci have' 'debian; brig run --keep --image /tmp/$c:v1 $c -- sh -c "rm -r /usr/share/doc; echo n >/etc/n; chmod 4755 /usr/bin/env"; brig commit $c /tmp/$c.made:v1; made=$(podman pull -q oci:/tmp/$c.made:v1); is "n 4755" podman run --rm --net none $made sh -c "test ! -e /usr/share/doc; echo \$(cat /etc/n) \$(stat -c %a /usr/bin/env)"; umoci unpack --image /tmp/$c.made:v1 /tmp/$c.umoci; test ! -e /tmp/$c.umoci/rootfs/usr/share/doc; is n cat /tmp/$c.umoci/rootfs/etc/n'

# Tests run in a separate bash, to which arrays cannot be exported.
inside_is=$(declare -p inside)
export inside_is
for shaped in plain:'a distroless-like of Debian packages, a wheel, a tarball of npm' absolute:'names, links and whiteouts that begin with a slash' estargz:'eStargz-like: a gzip member a file, landmark, index, footer' many:'127 layers' v2s2:'docker v2s2 in a layout' nested:'an index in an index'; do
    export about=${shaped#*:}
    export shaped=${shaped%%:*}
    # This podman supports neither nested indexes nor docker's types in a layout: it runs the same image in
    # plain form.
    t "in podman and brig the same: $about" 'eval "$inside_is"; shape $shaped /tmp/$c; theirs=oci:/tmp/$c:v1; case $shaped in v2s2 | nested) shape plain /tmp/$c.plain; theirs=oci:/tmp/$c.plain:v1 ;; esac; like_podman /tmp/$c:v1 $theirs'
done
t 'in podman and brig the same: busybox in a docker-archive' 'eval "$inside_is"; like_podman /run/world/box.tar docker-archive:/run/world/box.tar'
t 'in podman and brig the same: busybox in an oci-archive' 'eval "$inside_is"; copy docker-archive:/run/world/box.tar oci-archive:/tmp/$c.a:v1; like_podman /tmp/$c.a:v1 oci-archive:/tmp/$c.a:v1'
t 'in podman and brig the same: Debian by mmdebstrap' 'eval "$inside_is"; debian; umoci config --image /tmp/$c:v1 --config.user games --config.workingdir /usr/games --config.env LANG=C.UTF-8; like_podman /tmp/$c:v1'
t 'in podman and brig the same: Debian in a docker-archive' 'eval "$inside_is"; copy oci:/run/world/debian:v1 docker-archive:/tmp/$c.tar:debian:$c; like_podman /tmp/$c.tar docker-archive:/tmp/$c.tar'
t 'in podman and brig the same: Debian in an oci-archive by zstd' 'eval "$inside_is"; copy --dest-compress-format zstd oci:/run/world/debian:v1 oci-archive:/tmp/$c.a:v1; like_podman /tmp/$c.a:v1 oci-archive:/tmp/$c.a:v1'
t 'in podman and brig the same: Debian, a wheel by umoci insert' 'eval "$inside_is"; debian; umoci insert --image /tmp/$c:v1 $layers/wheel/opt/python /opt/python; umoci insert --image /tmp/$c:v1 --opaque $layers/wheel/opt/python /usr/share/doc; like_podman /tmp/$c:v1'
t 'in podman and brig the same: Debian, changed by buildah' 'eval "$inside_is"; buildah from -q --name $c oci:/run/world/debian:v1; buildah run $c -- sh -c "useradd -m -G games someone; rm -r /usr/share/doc; mkdir /usr/share/doc; chmod 2755 /srv"; buildah copy -q $c $layers/wheel/opt/python /opt/python; buildah config --user someone --workingdir /home/someone --env A=b $c; buildah commit -q --rm $c oci:/tmp/$c:v1; like_podman /tmp/$c:v1'
t 'in podman and brig the same: by docker build and docker save' 'eval "$inside_is"; { printf %s "$steps"; echo "USER user"; echo "WORKDIR /home/other"; } | docker build -q -t built:$c -; docker save -o /tmp/$c.tar built:$c; like_podman /tmp/$c.tar docker-archive:/tmp/$c.tar'

# shellcheck disable=SC2178 # another one than the array of like_podman
flags='-e A=1 -u user -v /usr:/v:ro --tmpfs /t --read-only --cap-add net_raw --cap-drop chown -m 64m --cpus 1 --ulimit core=0 --sysctl net.core.somaxconn=5 --hostname h --add-host a:1.2.3.4 -w /data --device /dev/null:/dev/x -l a=b --security-opt no-new-privileges --shm-size 1m --group-add 7 --stop-signal INT'
export flags
t 'bundle and create --image make the same config and the same files' 'brig bundle /run/world/box.tar /tmp/$c.bundle $flags -- id; brig create --image /run/world/box.tar $flags $c -- id >/dev/null; diff -r /run/world/$c.store/containers/$c-0/init /tmp/$c.bundle/init; diff /run/world/$c.store/containers/$c-0/config.json /tmp/$c.bundle/config.json; brig delete --force $c; is "uid=1000(user) gid=1000(user) groups=7,1000(user),2000(extra)" brig run --bundle /tmp/$c.bundle again'

podman rm -aft0 >/dev/null
kill $dockerd_pid
wait $dockerd_pid || true
