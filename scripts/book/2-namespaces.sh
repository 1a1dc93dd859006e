say <<'END'
## 2. Namespaces: what a process sees

Here is a container that will be with us for a while. Her name is alice, and she sleeps.
END
show 'brig run --detach --image images:base alice -- sleep 10000'
learn alice 4711
show 'alice=$(brig state alice | sed -n "s/.*\"pid\": *\([0-9]*\).*/\1/p"); echo $alice'
has '^[0-9]+$'
say <<'END'
4711 is her process id, as the host knows it. `$alice` stands for it from here on, and so `$bob` and others later. She is an
ordinary process, and the host sees her like any other. The last line is the interesting one: one process, two
numbers.
END
show 'tr "\0" " " </proc/$alice/cmdline; echo
grep NSpid /proc/$alice/status'
has '^sleep 10000'
has "$alice.*[[:space:]]1$"
say <<'END'
To the host she is 4711, to herself she is 1: the first process of her world, and as far as she can see there
are hardly any others.
END
show 'brig exec alice ps'
has '^ +1 0 +sleep 10000$'
lines 3
say <<'END'
PID 1 has duties. It inherits orphans, and when it ends, the kernel ends everybody else in the namespace. That
is why the container ends with its first process.

A **namespace** is one such private view. There are eight kinds, and /proc/PID/ns shows which of them a
process is in: same number, same view. On the left this shell, on the right alice:
END
show 'for kind in pid mnt uts ipc net cgroup user time; do
    printf "%-20s %s\n" "$(readlink /proc/self/ns/$kind)" "$(readlink /proc/$alice/ns/$kind)"
done'
lines 8
for kind in pid mnt uts ipc net cgroup; do
    so [ "$(readlink /proc/self/ns/$kind)" != "$(readlink "/proc/$alice/ns/$kind")" ]
done
for kind in user time; do
    so [ "$(readlink /proc/self/ns/$kind)" = "$(readlink "/proc/$alice/ns/$kind")" ]
done
say <<'END'
Six differ: processes, mounts, names, message queues, network, cgroups. Two are the host's, for alice's
`config.json` lists only those six; that list is what an engine writes and a runtime obeys. `uts` is the
simplest one. It holds the hostname, and nothing else:
END
host=$(hostname)
show 'brig exec alice hostname'
has '^alice$'
so [ "$(hostname)" = "$host" ]
say <<'END'
And `net` holds interfaces, addresses, routes, ports. A new one is an empty room with a loopback in it:
END
show 'brig exec alice ls /sys/class/net'
has '^lo$'
so [ "$(nsenter -t "$alice" -n ip -o link | grep -cv ': \(lo\|[a-z0-9]*tnl0\|sit0\|gre.*\|erspan0\|ip.*\)[:@]')" = 0 ]
