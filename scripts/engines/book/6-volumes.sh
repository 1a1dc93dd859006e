say <<'END'
## 6. Volumes: the same directory, twice

What a container writes goes with it. What should stay belongs elsewhere. alice gets two places for that: `/test`,
which docker is to find room for, and `/shared`, which is the host's /mnt/shared:
END
show 'mkdir shared; echo "from the host" >shared/one
docker run --detach --name alice -v /test -v /mnt/shared:/shared base sleep 10000
docker exec alice cat /shared/one
docker exec alice sh -c "echo from alice >/shared/two; echo kept >/test/three"
cat shared/two'
has '^from the host$'
has '^from alice$'
say <<'END'
Each side sees what the other writes. And `/test`? It, too, is a directory of the host, only that docker has chosen
which:
END
show 'docker inspect --format "{{range .Mounts}}{{println .Type .Destination .Source}}{{end}}" alice | grep . | sort
cat /var/lib/docker/volumes/*/_data/three'
has '^volume /test /var/lib/docker/volumes/[0-9a-f]{64}/_data$'
has '^bind /shared /mnt/shared$'
has '^kept$'
say <<'END'
Nothing is copied. A **bind mount** makes a directory visible at a second place, and the runtime makes it before the
program starts. In `config.json` it is one more entry in the list of mounts. bob's, by hand:
END
show 'brig bundle images:base bundle-of-bob
sed -i "s|\"mounts\": \[|&{ \"destination\": \"/shared\", \"source\": \"/mnt/shared\", \"options\": [\"bind\"] },|" bundle-of-bob/config.json
sed -i "s|\"sh\"\$|\"sleep\", \"10000\"|" bundle-of-bob/config.json
brig run --detach --bundle bundle-of-bob bob
brig exec bob cat /shared/one /shared/two
brig exec bob sh -c "echo from bob >/shared/four"'
has '^from alice$'
say <<'END'
By now three parties see one file: this shell, alice and bob. Its inode number tells.
END
number "$(stat -c %i shared/four)" 1066
show 'stat -c %i shared/four; docker exec alice stat -c %i /shared/four; brig exec bob stat -c %i /shared/four'
lines 3
so [ "$(uniq /mnt/.out | wc -l)" = 1 ]
say <<'END'
A volume is not part of the overlay. `diff` finds nothing new in it, only the directories that were made to mount it on;
and what was written stays when the containers go:
END
show 'docker diff alice | sort
brig diff bob'
hasnt '/(one|two|three|four)$'
show 'docker rm --force alice
brig delete --force bob
ls shared; cat /var/lib/docker/volumes/*/_data/three'
has '^four$'
has '^kept$'
show 'docker volume prune --force'
