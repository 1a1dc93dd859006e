where='{{range $name, $path := .GraphDriver.Data}}{{println $name $path}}{{end}}'
say <<'END'
## 4. Layers: what its files are

How many copies of busybox do ten containers need?
END
show 'for i in 1 2 3 4 5 6 7 8 9 10; do
    docker run --detach --net none --name ten-$i base sleep 10000 >/dev/null
    brig run --detach --image images:base ten-$i -- sleep 10000
done
docker ps --quiet | wc -l; find /var/lib/docker/overlay2/*/diff -name busybox -type f | wc -l
brig list | grep -c running; find store -name busybox -type f | wc -l'
so [ "$(tr '\n' ' ' </mnt/.out)" = '10 1 10 1 ' ]
show 'for i in 1 2 3 4 5 6 7 8 9 10; do docker rm --force ten-$i >/dev/null; brig delete --force ten-$i; done'
say <<'END'
One, with docker as with brig (each has its own). And yet each of the ten had a root filesystem that it could
write to. The trick is called **overlayfs**: directories stacked on each other, looked at from above.

### An image is a stack

Let us build an image, to have more than one layer to look at:
END
show 'mkdir letter; echo "Dear bob," >letter/begin
cat >letter/Dockerfile <<FILE
FROM base
COPY begin /letter
RUN echo "I am fine." >>/letter
CMD ["cat", "/letter"]
FILE
docker build --quiet --tag letter letter
docker run --rm letter'
has '^Dear bob,$'
has '^I am fine.$'
say <<'END'
The one step that has to execute something, `RUN`, did so in a container, and that was made by brig like any other.
`docker history` lists the steps, the last one first:
END
# The classic builder also shows part of a digest that depends on times.
rounded 's/file:[0-9a-f]*…/file:86f5c1a26f2d…/; s/^1.9[0-9]MB/1.98MB/'
show 'docker history --format "{{.Size}}\t{{.CreatedBy}}" letter'
lines 4
has '/bin/sh -c echo "I am fine." >>/letter'
say <<'END'
A step that has changed files left a layer, the others are only words in the config. Three layers, and each is
a directory of files. Docker calls the topmost UpperDir and those below it LowerDir:
END
show "docker inspect --format '$where' letter"
has '^LowerDir /var/lib/docker/overlay2/[0-9a-f]{64}/diff:/var/lib/docker/overlay2/[0-9a-f]{64}/diff$'
say <<'END'
The last directory of LowerDir is the one that `base` consists of, and so is not there twice. This is what
`docker pull` means by "Already exists".
END
show 'lower=$(docker inspect --format "{{.GraphDriver.Data.LowerDir}}" letter)
base=$(docker inspect --format "{{.GraphDriver.Data.UpperDir}}" base)
[ ${lower##*:} = $base ] && echo "the same directory"
ls $base
cat $(docker inspect --format "{{.GraphDriver.Data.UpperDir}}" letter)/letter'
has '^the same directory$'
has '^I am fine.$'
say <<'END'
### A container is one more layer

Or rather two. alice is a container of that image:
END
show "docker run --detach --name alice letter sleep 10000
docker inspect --format '$where' alice"
has '^LowerDir [^:]*-init/diff:[^:]*:[^:]*:[^:]*/diff$'
say <<'END'
At the top is a new and empty directory, UpperDir. Below it there is one whose name ends in `-init`, and then the
three of the image. MergedDir is where all of them are seen as one tree, and it is alice's `/`:
END
show 'upper=$(docker inspect --format "{{.GraphDriver.Data.UpperDir}}" alice); init=${upper%/diff}-init/diff
merged=$(docker inspect --format "{{.GraphDriver.Data.MergedDir}}" alice)
find $upper -mindepth 1 | wc -l
find $init -mindepth 1 -printf "%y  %P\n" | sort -k 2
cat $merged/letter'
so [ "$(head -n 1 /mnt/.out)" = 0 ]
has '^f  etc/hosts$'
has '^I am fine.$'
say <<'END'
A fresh container costs nothing. The init layer is for files that are different in each container and belong to no
image, like `hosts` and `hostname`, and for the directories to mount things on.

bob, from the image that we have written by hand, has the same under other names:
END
show 'brig run --detach --image images:base bob -- sleep 10000
brig state bob | grep overlay'
has 'run.brig.overlay.layers.*/store/layers/sha256-[0-9a-f]{64}/fs:init"'
has 'run.brig.overlay.upper.*data/upper"'
show 'cd store/containers/bob-*/
find init data/upper -printf "%y  %p\n" | sort -k 2
cd /mnt'
has '^f  init/etc/hosts$'
has '^d  data/upper$'
hasnt ' data/upper/'
say <<'END'
(The layers stand in the other order here: from the lowest up.) There is no MergedDir. Docker mounts alice's tree on
the host and passes the path on; bob's is mounted only in his own mount namespace, where nobody else can trip over it:
END
show 'grep -c " - overlay " /proc/self/mountinfo
bob=$(brig state bob | sed -n "s/.*\"pid\": *\([0-9]*\).*/\1/p")
grep -o "/ / .* - overlay" /proc/$bob/mountinfo'
so [ "$(head -n 1 /mnt/.out)" = 1 ]
has '^/ / .* - overlay$'
say <<'END'
### Copy on write

Both change a file, add one, and remove one:
END
show 'change="echo And there is more. >>/etc/motd; echo new >/etc/new; rm /bin/wget"
docker exec alice sh -c "$change"
brig exec bob sh -c "$change"
docker exec alice cat /etc/motd
brig exec bob cat /etc/motd'
so [ "$(grep -c '^And there is more.$' /mnt/.out)" = 2 ]
say <<'END'
And the layer, which others use as well?
END
show 'cat $base/etc/motd store/layers/*/fs/etc/motd'
lines 2
hasnt 'more'
say <<'END'
It is untouched. Before the first write, overlayfs copied the file up into the upper directory: **copy on write**. And
the removed file? It cannot be removed from a layer that others use, either. So the upper says that it is gone:
END
show 'upper_of_bob=store/containers/bob-*/data/upper
find $upper -mindepth 1 -printf "%y  %P\n" | sort -k 2
find $upper_of_bob -mindepth 1 -printf "%y  %P\n" | sort -k 2
stat -c "%F %t,%T" $upper/bin/wget $upper_of_bob/bin/wget'
lines 12
so [ "$(grep -c '^c  bin/wget$' /mnt/.out)" = 2 ]
so [ "$(grep -c '^f  etc/motd$' /mnt/.out)" = 2 ]
so [ "$(grep -c '^character special file 0,0$' /mnt/.out)" = 2 ]
so [ -L "$base/bin/wget" ]
say <<'END'
A character device with the numbers 0, 0 is a **whiteout**. It stands in front of what is below, and in the
container one sees neither.

### A list of changes is a layer

What the upper holds is, read aloud, a list of changes:
END
show 'docker diff alice | sort -k 2
brig diff bob'
so [ "$(grep -c '^C /etc/motd$' /mnt/.out)" = 2 ]
so [ "$(grep -c '^A /etc/new$' /mnt/.out)" = 2 ]
so [ "$(grep -c '^D /bin/wget$' /mnt/.out)" = 2 ]
lines 10
say <<'END'
And a list of changes is a layer. That is all there is to `commit`: the upper becomes a tar, and the config gets one
more line.
END
show 'docker commit --message "more news" alice news
brig commit --message "more news" bob images:news
docker rm --force alice
brig delete --force bob'
has '^sha256:'
say <<'END'
alice and bob are gone, their layers are not. Whoever comes next starts where they ended:
END
show 'docker run --rm news cat /etc/motd /etc/new
brig run --image images:news next -- cat /etc/motd /etc/new'
lines 6
show -e 1 'docker run --rm news ls /bin/wget'
has 'No such file'
show -e 1 'brig run --image images:news next -- ls /bin/wget'
has 'No such file'
say <<'END'
And `base` is what it has always been:
END
show 'docker run --rm base cat /etc/motd
brig run --image images:base next -- cat /etc/motd'
lines 2
hasnt more
say <<'END'
Two images of brig's, two layers, and the big one is used by both:
END
rounded 's/[0-9.]* MB\( *\)[0-9]* /1.98 MB\1270 /; s/[0-9]* \(second\|minute\)s* ago/20 seconds ago/'
show 'brig layers'
lines 3
so [ "$(awk '$3 == "MB" { print $5 }' /mnt/.out)" = 2 ]
say <<'END'
The history that `docker history` prints is a list in the config. Here is bob's. Nobody checks what it says:
END
show 'grep -ohE "\"(created_by|comment)\": ?\"[^\"]*\"" $(grep -l "more news" images/blobs/sha256/*)'
has 'tar of busybox'
has 'more news'
