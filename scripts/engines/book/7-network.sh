say <<'END'
## 7. Networks: a switch and two cables

A container begins in an empty room: a network namespace with a loopback. The runtime leaves it at that; cables are the
engine's job. Docker has laid some:
END
show 'docker run --detach --name alice base sleep 10000
docker run --detach --name anna base sleep 10000
docker inspect --format "{{.Name}} {{.NetworkSettings.IPAddress}}" alice anna'
has '^/alice 172\.17\.0\.2$'
has '^/anna 172\.17\.0\.3$'
say <<'END'
There is a switch, which is called a **bridge** and, with docker, docker0. And there are cables, which are called **veth
pairs**: two interfaces, and what goes in at one comes out at the other. One end of each is in the switch:
END
first=$(bridge link show | sed -n '1s/.*\(veth[0-9a-f]*\)@.*/\1/p')
second=$(bridge link show | sed -n '2s/.*\(veth[0-9a-f]*\)@.*/\1/p')
number "$first" veth1a2b3c4
number "$second" veth5d6e7f8
show 'ip address show docker0 | grep -o "inet .* scope global"
bridge link show | grep -o "veth[^@]*\|master docker0" | paste - -'
has '^inet 172.17.0.1/16 '
lines 3
so [ -n "$first" ]
so [ -n "$second" ]
say <<'END'
The other ends are in the containers, where they are called eth0. An end knows the number of its peer, so that we
can follow the cable:
END
number "$(cat "/sys/class/net/$first/ifindex")" 5
number "$(cat "/sys/class/net/$second/ifindex")" 7
show 'docker exec alice cat /sys/class/net/eth0/iflink
grep -l "^$(docker exec alice cat /sys/class/net/eth0/iflink)$" /sys/class/net/veth*/ifindex'
has '^/sys/class/net/veth'
lines 2
say <<'END'
alice has a page, and anna would like to read it:
END
show 'docker exec alice sh -c "mkdir /www; echo Greetings from alice >/www/index.html"
docker exec --detach alice httpd -f -p 80 -h /www'
eventually docker exec alice wget -q -O - http://127.0.0.1/
show 'docker exec anna wget -q -O - http://172.17.0.2/'
has '^Greetings from alice$'
say <<'END'
From anna's eth0 through her cable into the switch, and through the other one to alice. The host is at the same switch,
as 172.17.0.1, and passes on what is meant for the rest of the world, under its own address:
END
show 'iptables -t nat -S POSTROUTING | grep docker0'
has 'MASQUERADE'
show 'docker rm --force alice anna'
say <<'END'
### We are the engine

With brig alone there is nobody to lay cables, so we do it. A switch, and because this host has a dockerd, which
lets nothing pass through bridges but what it knows of, a word with the firewall:
END
show 'ip link add brig0 type bridge
ip address add 10.1.0.1/24 dev brig0
ip link set brig0 up
iptables --insert FORWARD --in-interface brig0 --jump ACCEPT'
say <<'END'
And for bob and ben a cable each, one end into the switch, the other into the namespace. The kernel takes a
process id for that:
END
show 'brig run --detach --pid-file bob.pid --image images:base bob -- sleep 10000
brig run --detach --pid-file ben.pid --image images:base ben -- sleep 10000
plug() {
    ip link add to-$1 type veth peer name eth0 netns $(cat $1.pid)
    ip link set to-$1 master brig0 up
    nsenter --target $(cat $1.pid) --net ip address add $2/24 dev eth0
    nsenter --target $(cat $1.pid) --net ip link set eth0 up
}
plug bob 10.1.0.2
plug ben 10.1.0.3
bridge link show | grep -o "to-[^@]*\|master brig0" | paste - -'
has '^to-bob.master brig0$'
has '^to-ben.master brig0$'
show 'brig exec bob sh -c "mkdir /www; echo Greetings from bob >/www/index.html"
brig exec --detach bob httpd -f -p 80 -h /www'
eventually brig exec ben wget -q -O - http://10.1.0.2/
show 'brig exec ben wget -q -O - http://10.1.0.2/'
has '^Greetings from bob$'
say <<'END'
A dozen lines of shell, and it is a network. When bob ends, his namespace goes, his end of the cable with it, and so the
other end, too:
END
show 'brig delete --force bob'
unplugged() { ! ip link show to-bob; }
eventually unplugged
show 'bridge link show | grep -o "to-[^@]*\|master brig0" | paste - -'
has '^to-ben.master brig0$'
hasnt bob
say <<'END'
### A network of our own for an image

brig run takes a network namespace that already exists, and `ip netns` makes one that stays. This is the recipe of
[images.md](images.md#network), command by command:
END
# Runs the page itself, so that it cannot become outdated. ip_forward is set by dockerd here, too.
forward=$(cat /proc/sys/net/ipv4/ip_forward)
recipe() { show "$(sed -n "/^## Network/,\$s/^    # //p" <<<"$IMAGES_PAGE" | sed -n "$1" | sed 's/IMAGE/images:base/')"; }
recipe 1,8p
rounded 's/time=[0-9.]*/time=0.100/; s/= [0-9./]* ms/= 0.100\/0.100\/0.100 ms/'
recipe 9p
has '1 packets received'
say <<'END'
And what the host does for the world beyond, and in place of `docker run --publish`:
END
recipe '10,$p'
so [ "$(nft list table ip brig | grep -c 'masquerade\|dnat to 10.88.7.2:80')" = 2 ]
show 'brig run --detach --image images:base --network ns:/run/netns/web web -- httpd -f -p 80 -h /etc'
eventually wget -q -O - http://10.88.7.2/motd
# From another host, simulated by a namespace behind a cable. Docker's firewall must let it pass.
so ip netns add far
so ip link add veth-far type veth peer name eth0 netns far
so ip address add 10.88.8.1/24 dev veth-far
so ip link set veth-far up
so ip -n far address add 10.88.8.2/24 dev eth0
so ip -n far link set eth0 up
so ip -n far route add default via 10.88.8.1
so iptables --insert FORWARD --jump ACCEPT
far() { ip netns exec far busybox wget -q -O - http://10.88.8.1:8080/motd; }
eventually far
so iptables --delete FORWARD --jump ACCEPT
so ip netns delete far
show 'brig delete --force web
ip netns delete web
nft delete table ip brig'
echo "$forward" >/proc/sys/net/ipv4/ip_forward
# `ip netns` leaves a mount on its directory.
so umount /run/netns
say <<'END'
## What is left

We clean up, and look around:
END
show 'brig delete --force ben
ip link delete brig0
iptables --delete FORWARD --in-interface brig0 --jump ACCEPT
docker ps --all --quiet
brig list'
lines 1
say <<'END'
No process, no cgroup, no mount, no interface. What is left is three decisions about a process: what it sees, what it
may use, what its files are. Everything else is convenience.

To go on: [design.md](design.md) tells how brig makes these decisions in one go, without a gap that a malicious image
could use; [layers.md](layers.md) has the rules of the store, [engines.md](engines.md) how docker, podman and the
others are told to use brig, and [security.md](security.md) what all this protects from, and what it does not.
END
so [ "$(awk '{ print $5 }' /proc/self/mountinfo)" = "$mounts_before" ]
so [ "$(find /sys/fs/cgroup -type d \( -name bob -o -name ben -o -path '*/docker/*' \))" = '' ]
so [ "$(pgrep -f '^sleep [0-9]{4}')" = '' ]
so [ "$(find /sys/class/net -name 'veth*')" = '' ]
