say <<'END'
## 7. Networks: a cable between two containers

Every container has begun with an empty room, a network namespace with a loopback. A runtime leaves it at
that: cables are the engine's job. So we are the engine now. It takes a switch and two cables.

The switch is a **bridge**, Docker's is called docker0:
END
show 'ip link add brig0 type bridge
ip address add 10.1.0.1/24 dev brig0
ip link set brig0 up'
say <<'END'
A cable is a **veth pair**: two interfaces, and what goes in at one comes out at the other. One end goes into
the switch, the other into a container's namespace. The kernel takes a process id for that:
END
show 'brig run --detach --image images:base heidi -- sleep 10000'
learn heidi 4766
show 'brig run --detach --image images:base ivan -- sleep 10000'
learn ivan 4777
show 'plug() {
    ip link add to-$1 type veth peer name eth0 netns $2
    ip link set to-$1 master brig0 up
    nsenter --target $2 --net ip address add $3/24 dev eth0
    nsenter --target $2 --net ip link set eth0 up
}
plug heidi $heidi 10.1.0.2
plug ivan $ivan 10.1.0.3
bridge link show | grep -o "to-.* master brig0"'
has '^to-heidi@'
has '^to-ivan@'
so brig exec heidi ip -4 address show eth0
say <<'END'
heidi has a page, and ivan would like to read it:
END
show 'brig exec heidi sh -c "mkdir /www; echo Greetings from 10.1.0.2 >/www/index.html"
brig exec --detach heidi httpd -f -p 80 -h /www'
eventually brig exec ivan wget -q -O - http://10.1.0.2/
show 'brig exec ivan wget -q -O - http://10.1.0.2/'
has '^Greetings from 10.1.0.2$'
say <<'END'
From ivan's eth0 through his cable into the switch, through hers to heidi; and this shell, at 10.1.0.1, is a
third party at the same switch. (For the world beyond an engine adds a default route and a NAT rule.) When
heidi ends, her namespace goes, her end of the cable with it, and so the other end, too:
END
show 'brig delete --force heidi'
eventually [ ! -e /sys/class/net/to-heidi ]
unplugged() { ! ip link show to-heidi; }
eventually unplugged
show 'bridge link show | grep -o "to-.* master brig0"'
has '^to-ivan@'
hasnt heidi
show 'brig delete --force ivan
brig delete --force eve
ip link delete brig0
brig list'
lines 1
say <<'END'
And with that everything is as it was: no process, no cgroup, no mount, no interface.

What is left is three decisions about a process: what it sees, what it may use, what its files are. Everything
else is convenience. To go on: [design.md](design.md) tells how brig makes them in one go, without a gap that
a malicious image could use; [layers.md](layers.md) has the rules of the store, and [security.md](security.md)
what all this protects from, and what it does not.
END
so [ "$(awk '{ print $5 }' /proc/self/mountinfo)" = "$mounts_before" ]
for id in alice bob eve grace heidi ivan; do
    eventually ended "${!id}"
    so [ -z "$(find /sys/fs/cgroup -maxdepth 4 -type d -name "$id")" ]
done
