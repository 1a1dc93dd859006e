say <<'END'
## 5. Exec is setns

`docker exec` seems to put a process *into* a container. But there is no inside, there are only namespaces, and the
system call setns(2) enters those of somebody else. alice and bob each get a visitor:
END
show 'docker run --detach --name alice base sleep 10000
brig run --detach --pid-file bob.pid --image images:base bob -- sleep 10000
alice=$(docker inspect --format "{{.State.Pid}}" alice); bob=$(cat bob.pid)
docker exec --detach alice sleep 3333
brig exec --detach bob sleep 4444'
pid "$alice" 4744 sleep.10000
pid "$bob" 4755 sleep.10000
eventually pgrep -f '^sleep 3333'
show 'visitor=$(pgrep -f "^sleep 3333") guest=$(pgrep -f "^sleep 4444")
docker exec alice ps
brig exec bob ps'
pid "$visitor" 4766 sleep.3333
pid "$guest" 4777 sleep.4444
has ' sleep 3333$'
has ' sleep 4444$'
say <<'END'
alice and her visitor, bob and his: the same numbers, so the same views.
END
show 'for kind in pid mnt uts ipc net cgroup; do
    for process in $alice $visitor $bob $guest; do printf "%-20s " $(readlink /proc/$process/ns/$kind); done; echo
done'
for kind in pid mnt uts ipc net cgroup; do
    so not differ $kind "$alice" "$visitor"
    so not differ $kind "$bob" "$guest"
done
for kind in pid mnt uts ipc net; do so differ $kind self "$visitor"; done
say <<'END'
So it can be done without docker and without brig. util-linux has a program that does nothing but setns and exec:
END
show 'nsenter --target $bob --mount --uts --pid hostname'
has '^bob$'
say <<'END'
An exec does this and, on top of it, what makes it safe: the visitor gets the container's capabilities, not those of
whoever called, and its cgroup, so that one limit is for both.
END
show 'grep -h CapEff /proc/self/status /proc/$alice/status /proc/$visitor/status /proc/$bob/status /proc/$guest/status
diff /proc/$alice/cgroup /proc/$visitor/cgroup && diff /proc/$bob/cgroup /proc/$guest/cgroup && echo "same cgroups"'
has '^same cgroups$'
so [ "$(sed -n 2p /mnt/.out)" = "$(sed -n 3p /mnt/.out)" ]
so [ "$(sed -n 4p /mnt/.out)" = "$(sed -n 5p /mnt/.out)" ]
so [ "$(sed -n 1p /mnt/.out)" != "$(sed -n 2p /mnt/.out)" ]
say <<'END'
The first line is this shell's, root of the host. (Each bit is one of some forty capabilities. Docker's default set is
larger than that of brig, which took podman's.)

### Sharing one namespace on purpose

A visitor enters all of a container's namespaces. A new container can also share just one, and have the rest to itself.
alice has a page to offer, but only on her own loopback:
END
show 'docker exec alice sh -c "mkdir /www; echo alice was here first >/www/index.html"
docker exec --detach alice httpd -f -p 127.0.0.1:80 -h /www'
eventually docker exec alice wget -q -O - http://127.0.0.1/
show 'docker run --rm --net container:alice base wget -q -O - http://127.0.0.1/'
has '^alice was here first$'
say <<'END'
The second container has its own files, its own processes and its own PID 1. But its 127.0.0.1 is alice's. In
`config.json` it is one line: the network namespace has a path. So that is how it is done by hand:
END
show 'brig exec bob sh -c "mkdir /www; echo bob was here first >/www/index.html"
brig exec --detach bob httpd -f -p 127.0.0.1:80 -h /www
sed -i "s|\"type\": \"network\"|\"type\": \"network\", \"path\": \"/proc/$bob/ns/net\"|" bundle/config.json
grep "\"type\": \"network\"" bundle/config.json'
has "/proc/$bob/ns/net"
eventually brig exec bob wget -q -O - http://127.0.0.1/
show 'sed -i "s|\"sh\"\$|\"wget\", \"-q\", \"-O\", \"-\", \"http://127.0.0.1/\"|" bundle/config.json
brig run --bundle bundle neighbour'
has '^bob was here first$'
say <<'END'
The containers of a pod in Kubernetes are such neighbours, nothing more.
END
show 'docker rm --force alice
brig delete --force bob'
for process in "$alice" "$visitor" "$bob" "$guest"; do eventually [ ! -e "/proc/$process" ]; done
