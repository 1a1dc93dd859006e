say <<'END'
## 6. Volumes: the same directory, twice

What a container writes goes with it. What should stay belongs elsewhere: `docker run -v /mnt/shared:/shared`
is one more entry in the list of mounts.
END
show 'mkdir shared; echo "from the host" >shared/one
brig bundle images:base grace
sed -i "s|\"mounts\": \[|&{ \"destination\": \"/shared\", \"source\": \"/mnt/shared\", \"options\": [\"bind\"] },|" grace/config.json
sed -i "s|\"sh\"\$|\"sleep\", \"10000\"|" grace/config.json
brig run --detach --bundle grace grace'
learn grace 4755
show 'brig exec grace cat /shared/one
brig exec grace sh -c "echo from grace >/shared/two"
cat shared/two
stat -c %i shared/two | cmp - <(brig exec grace stat -c %i /shared/two) && echo "one file, one inode"'
has '^from the host$'
has '^from grace$'
has '^one file, one inode$'
say <<'END'
No copy, no synchronisation: a **bind mount** makes a directory visible at a second place. It is no part of the
overlay: `diff` has nothing to say about it, and the file outlives the container.
END
show 'brig diff grace'
lines 0
show 'brig delete --force grace
cat shared/two'
has '^from grace$'
