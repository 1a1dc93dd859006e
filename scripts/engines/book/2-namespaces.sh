say <<'END'
## 2. Namespaces: what a process sees

Here are two containers that do nothing but sleep. What is interesting about them is who they are, so we note their
process ids:
END
show 'docker run --detach --name alice base sleep 10000
alice=$(docker inspect --format "{{.State.Pid}}" alice)
brig run --detach --pid-file bob.pid --image images:base bob -- sleep 10000
bob=$(cat bob.pid)'
pid "$alice" 4711 sleep.10000
pid "$bob" 4722 sleep.10000
show 'echo $alice $bob'
has "^$alice $bob\$"
say <<'END'
These are ordinary processes. The host's `ps` lists both, and nothing about them looks special:
END
rounded 's/^ *\(PID\|47[0-9]*\) /\1 /; s/^PID/ PID/'
show 'ps -o pid,args -p $alice,$bob'
lines 3
say <<'END'
### PID 1

Seen from inside it is another story: there, alice is alone in the world, and she is number 1.
END
show 'docker exec alice ps
brig exec bob ps'
so [ "$(grep -cE '^ +1 (root|0) +sleep 10000$' /mnt/.out)" = 2 ]
lines 6
say <<'END'
One process, two numbers; the kernel keeps both.
END
show 'grep NSpid /proc/$alice/status /proc/$bob/status'
so [ "$(grep -cE '[[:space:]]1$' /mnt/.out)" = 2 ]
say <<'END'
PID 1 has privileges. A signal that it has not asked for is not delivered to it, not even KILL, if it comes from
its own world. Here alice and bob are told to die, and do not:
END
show 'docker exec alice kill -KILL 1
brig exec bob kill -KILL 1
ps -o comm -p $alice,$bob'
so [ "$(grep -c '^sleep$' /mnt/.out)" = 2 ]
say <<'END'
And it has a duty: the world ends with it. When PID 1 is done the kernel kills everybody else in there, here a sleep
that had hours to go. That is why a container ends when its first process does:
END
show 'docker run --rm base sh -c "sleep 20000 & echo done"
brig run --image images:base brief -- sh -c "sleep 20000 & echo done"'
lines 2
show -e 1 'pgrep -f "^sleep 20000"'
say <<'END'
### Same number, same view

A **namespace** is one such private view. There are eight kinds, and /proc/PID/ns tells which ones a process
is in. To the left this shell, then alice, then bob:
END
show 'for kind in pid mnt uts ipc net cgroup user time; do
    for process in self $alice $bob; do printf "%-20s " $(readlink /proc/$process/ns/$kind); done; echo
done'
lines 8
differ() { [ "$(readlink "/proc/$2/ns/$1")" != "$(readlink "/proc/$3/ns/$1")" ]; }
for kind in pid mnt uts ipc net; do
    so differ $kind self "$alice"
    so differ $kind self "$bob"
    so differ $kind "$alice" "$bob"
done
for kind in user time; do
    so not differ $kind self "$alice"
    so not differ $kind self "$bob"
done
so differ cgroup self "$bob"
if [ -n "$v2" ]; then
    so differ cgroup self "$alice"
    say <<'END'
Six differ: processes, mounts, names, message queues, network, cgroups. Two are the host's. (With version 1 of
cgroups, docker would leave that namespace to the host as well.)
END
else
    so not differ cgroup self "$alice"
    say <<'END'
Five differ for alice: processes, mounts, names, message queues, network. The others are the host's. bob has a
cgroup namespace as well; docker makes one only on machines with version 2 of cgroups, which this is not.
END
fi
say <<'END'
Who decided that? The engine, in writing. It hands the runtime a `config.json`, and the namespaces are a list in it.
Here is the one that dockerd wrote for alice:
END
show 'id=$(docker inspect --format "{{.Id}}" alice)
grep -o "\"namespaces\":[^]]*]" /run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/$id/config.json'
has '"network"'
hasnt '"user"'
say <<'END'
bob's was made by brig, of the image; `brig bundle` leaves it to be read, and edited:
END
show 'brig bundle images:base bundle
grep -A 20 "\"namespaces\"" bundle/config.json | grep -o "\"type\": .*"'
lines 6
say <<'END'
The simplest namespace is `uts`. It holds the host name, and little else. (Docker takes the id for it, unless it is told
a name.)
END
show 'hostname
docker exec alice hostname
brig exec bob hostname'
so [ "$(sed -n 1p /mnt/.out)" = host ]
so [ "$(sed -n 2p /mnt/.out)" = "${id:0:12}" ]
so [ "$(sed -n 3p /mnt/.out)" = bob ]
say <<'END'
`net` holds interfaces, addresses, routes and ports. A new one is an empty room with a loopback in it, and so is
bob's. Docker has put an eth0 into alice's; [the last chapter](#7-networks-a-switch-and-two-cables) shows how.
END
show 'docker exec alice ls /sys/class/net
brig exec bob ls /sys/class/net'
so [ "$(grep -c '^lo$' /mnt/.out)" = 2 ]
so [ "$(grep -c '^eth0$' /mnt/.out)" = 1 ]
show 'docker rm --force alice
brig delete --force bob'
eventually [ ! -e "/proc/$alice" ]
so [ ! -e "/proc/$bob" ]
