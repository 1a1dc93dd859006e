# The path and file names of a container's cgroup.
if [ -n "$v2" ]; then
    procs='cat /sys/fs/cgroup/docker/$id/cgroup.procs'
    quota='cat /sys/fs/cgroup/docker/$id/cpu.max' quota_of_bob='cat /sys/fs/cgroup/bob/cpu.max' fifth='^20000 100000$'
    limit='cat /sys/fs/cgroup/docker/$id/memory.max' killed='grep "oom_kill " /sys/fs/cgroup/bob/memory.events'
    frozen='cat /sys/fs/cgroup/docker/$id/cgroup.freeze' is_frozen='^1$'
    directories='ls -d /sys/fs/cgroup/docker/$id /sys/fs/cgroup/bob'
else
    procs='cat /sys/fs/cgroup/cpu/docker/$id/cgroup.procs'
    quota='cd /sys/fs/cgroup/cpu/docker/$id; cat cpu.cfs_quota_us cpu.cfs_period_us; cd /mnt' fifth='^20000$'
    quota_of_bob='cat /sys/fs/cgroup/cpu/bob/cpu.cfs_quota_us'
    limit='cat /sys/fs/cgroup/memory/docker/$id/memory.limit_in_bytes'
    killed='grep "oom_kill " /sys/fs/cgroup/memory/bob/memory.oom_control'
    frozen='cat /sys/fs/cgroup/freezer/docker/$id/freezer.state' is_frozen='^FROZEN$'
    directories='ls -d /sys/fs/cgroup/cpu/docker/$id /sys/fs/cgroup/cpu/bob /sys/fs/cgroup/memory/docker/$id'
fi
say <<'END'
## 3. Cgroups: what a process may use

Namespaces hide; they do not limit. alice could still take the whole machine. What stops her is a **cgroup**: a
directory that the kernel fills with files. One of them lists processes, the others say what these may use.

### A fifth of a CPU

So let her have a fifth of a CPU: in each 100000 µs she may run for 20000.
END
show 'id=$(docker run --detach --name alice --cpu-period=100000 --cpu-quota=20000 base sleep 10000)
alice=$(docker inspect --format "{{.State.Pid}}" alice)'
pid "$alice" 4733 sleep.10000
show 'cat /proc/$alice/cgroup'
has ":/docker/$id\$"
say <<'END'
That is where she is: below /sys/fs/cgroup, in `docker`, in a directory named after her id. brig has made it, written
her pid into one file and the quota into another:
END
show "$procs
$quota"
has "^$alice\$"
has "$fifth"
if [ -n "$v2" ]; then
    say <<'END'
This machine has version 2 of cgroups: one directory for all kinds of resources. With version 1 there is one for each
kind, and the number stands in `cpu.cfs_quota_us`.
END
else
    say <<'END'
This machine has version 1 of cgroups: a tree for each kind of resource. With version 2 there is a single one, and
`cpu.max` takes the place of two files: it holds `20000 100000`.
END
fi
say <<'END'
There is no magic between the flag and the kernel: a number is written to a file. brig alone writes it for bob, and
can do so while he runs, as `docker update` can:
END
show "brig run --detach --image images:base bob -- sleep 10000
brig update --cpu-period 100000 --cpu-quota 20000 bob
$quota_of_bob"
has "$fifth"
say <<'END'
### Half a CPU, measured

`--cpus=0.5` is short for a quota of 50000. Does it hold? Both run a loop that would like to have everything:
END
show 'docker rm --force alice
id=$(docker run --detach --name alice --cpus=0.5 base sh -c "while :; do :; done")
brig update --cpu-quota 50000 bob
brig exec --detach bob sh -c "while :; do :; done"'
half='(4[0-9]|5[0-9])\.[0-9]+'
rounded 's/[45][0-9]\.[0-9]*%/50.00%/'
show -u "^alice $half%" 'docker stats --no-stream --format "{{.Name}} {{.CPUPerc}}" alice'
rounded 's/[45][0-9]\.[0-9]/50.0/'
show -u "^bob +$half" 'brig stats --no-stream --interval 2s bob | cut -c 1-11'
say <<'END'
Half a CPU it is: a loop gets its 50 ms, then the kernel takes it off the CPU until the next 100 ms begin. The file
`cpu.stat` beside the quota counts how often that has happened.
END
stat_of_bob=${quota_of_bob#cat }
so [ "$(sed -n 's/^nr_throttled //p' "${stat_of_bob%/*}/cpu.stat")" -gt 0 ]
say <<'END'
### Pause

A frozen cgroup gets no CPU at all. Its processes are not stopped by a signal, which they could notice. They are just
not run, and the loop that took half a CPU takes none:
END
show "docker pause alice
$frozen"
has "$is_frozen"
show -u '^alice 0\.00%' 'docker stats --no-stream --format "{{.Name}} {{.CPUPerc}}" alice'
show 'docker unpause alice'
say <<'END'
bob likewise:
END
show 'brig pause bob'
show -u '^bob +0\.0' 'brig stats --no-stream bob | cut -c 1-11'
show 'brig resume bob'
say <<'END'
### Memory, and who dies

Now 32 MiB, and inside, a program that wants a buffer of 64:
END
show "docker rm --force alice
id=\$(docker run --detach --name alice --memory=32m base sleep 10000)
$limit"
has '^33554432$'
show -e 137 'docker exec alice dd if=/dev/zero of=/dev/null bs=64M count=1'
say <<'END'
137 is 128 + 9, and 9 is SIGKILL: somebody has killed `dd`. Docker has heard who, the *out of memory* killer:
END
show -u '^oom alice$' 'docker events --since 1m --until 0s --filter event=oom --format "{{.Action}} {{.Actor.Attributes.name}}"'
show 'docker exec alice echo still here'
has '^still here$'
say <<'END'
There was no error from `malloc`. Memory is granted on first use, and by then there is nobody left to tell, so
the kernel picks a process of the cgroup and kills it. alice herself is small, and lives. bob, too:
END
show 'brig update --memory 32m bob'
show -e 137 'brig exec bob dd if=/dev/zero of=/dev/null bs=64M count=1'
show "$killed
brig exec bob echo still here"
so [ "$(awk '$1 == "oom_kill" { print $2 }' /mnt/.out)" -ge 1 ]
has '^still here$'
say <<'END'
### Gone with the container

While they run, there are directories for both. Afterwards there are none:
END
show "$directories"
show 'docker rm --force alice
brig delete --force bob'
show -e 2 "$directories"
hasnt '^/sys'
so [ "$(find /sys/fs/cgroup -type d \( -name bob -o -path '*/docker/*' \))" = '' ]
