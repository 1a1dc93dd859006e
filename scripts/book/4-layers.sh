say <<'END'
## 4. Union file systems: what its files are

How many copies of busybox are on the disk by now? One. brig has unpacked the layer once into its store, and
no container ever writes there. Ten containers on that base:
END
containers+=(ten-{1..10})
show 'for i in 1 2 3 4 5 6 7 8 9 10; do brig run --detach --image images:base ten-$i -- sleep 10000; done
brig list | grep -c running
find store -name busybox -type f | wc -l'
so [ "$(tr '\n' ' ' <out)" = '10 1 ' ]
show 'for i in 1 2 3 4 5 6 7 8 9 10; do brig delete --force ten-$i; done'
say <<'END'
Each had a root filesystem of its own that it could write to. The trick is **overlayfs**: directories stacked
on each other, looked at from above. Meet bob:
END
show 'brig run --detach --image images:base bob -- sleep 10000'
learn bob 4722
show 'brig state bob | grep overlay
grep -o "/ / .* overlay" /proc/$bob/mountinfo'
has 'run.brig.overlay.layers.*/store/layers/sha256-[0-9a-f]{64}/fs:init"'
has 'run.brig.overlay.upper.*data/upper"'
has '^/ / .*- overlay overlay$'
say <<'END'
What `docker inspect` calls LowerDir are the `layers`, read-only: the image's, and `init`. UpperDir is
`upper`: whatever bob writes goes there. MergedDir is what bob sees as `/`. It is mounted only in his mount
namespace; the host's mounts know nothing of it:
END
show -e 1 'grep -c "overlay.*bob" /proc/self/mountinfo'
has '^0$'
show 'cd store/containers/bob-*/
find init data/upper -printf "%y  %p\n" | sort -k 2
cd /mnt'
has '^f  init/etc/hosts$'
has '^d  data/upper$'
hasnt ' data/upper/'
say <<'END'
The upper is empty: a fresh container costs nothing. The init layer holds what is different for each container
and belongs to no image: hosts, hostname, resolv.conf, and the directories on which /proc, /sys and /dev get
mounted.

Now bob changes a file, adds one, and removes one:
END
show 'brig exec bob sh -c "echo And from bob. >>/etc/motd; echo new >/etc/new; rm /bin/wget"
brig exec bob cat /etc/motd
cat store/layers/*/fs/etc/motd'
so [ "$(grep -c '^Hello from the base layer.$' out)" = 2 ]
so [ "$(grep -c '^And from bob.$' out)" = 1 ]
say <<'END'
The first answer is bob's, the second is the layer's: untouched. Before the first write, overlayfs copied the
file into the upper: **copy-on-write**. And the removed file? It cannot be removed from a layer that others
use. So the upper says that it is gone:
END
show 'find store/containers/bob-*/data/upper -mindepth 1 -printf "%y  %P\n" | sort -k 2
stat -c "%F %t,%T" store/containers/bob-*/data/upper/bin/wget
ls store/layers/*/fs/bin/wget | wc -l'
has '^f  etc/motd$'
has '^c  bin/wget$'
has '^character special file 0,0$'
has '^1$'
say <<'END'
A character device with the numbers 0, 0 is a **whiteout**. It stands in front of what is below, and bob sees
neither.

What the upper holds is, read aloud, a list of changes; and a list of changes is a layer. That is all there is
to `diff` and `commit`:
END
show 'brig diff bob'
has '^C /etc/motd$'
has '^A /etc/new$'
has '^D /bin/wget$'
lines 5
show 'brig commit --message "bob was here" bob images:bob'
has '^sha256:'
show 'brig delete --force bob'
say <<'END'
bob is gone, his layer is not. carol starts where he ended, and dave can still start where bob started:
END
show 'brig run --image images:bob carol -- cat /etc/motd /etc/new'
lines 3
has '^And from bob.$'
show -e 1 'brig run --image images:bob carol -- ls /bin/wget'
has 'No such file'
show 'brig run --image images:base dave -- ls /etc/motd /bin/wget'
lines 2
say <<'END'
Two images, two layers, and the big one is there once. This is what makes `docker pull` say "Already exists":
END
rounded 's/ \{3,\}/  /g; s/\(… *\)[0-9]\{7\} /\11980000 /; s/\(1980000 *\)[0-9]* /\1270 /'
show 'brig layers'
lines 3
so [ "$(awk 'NR > 1 && $2 > 1000000 { print $4 }' out)" = 2 ]
say <<'END'
And the history, as `docker history` would print it, is a list in the image's config, nothing that anybody
could not have written there:
END
show 'config=$(grep -l "bob was here" images/blobs/sha256/*)
grep -oE "\"(created_by|comment)\": ?\"[^\"]*\"" $config'
has 'tar of busybox'
has 'bob was here'
