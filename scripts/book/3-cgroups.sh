cpu=$(cgroup cpu "$alice") memory=$(cgroup memory "$alice") freezer=$(cgroup freezer "$alice")
say <<'END'
## 3. Cgroups: what a process may use

Namespaces hide; they do not limit. alice could still take the whole machine. What stops her is a **cgroup**:
a directory that the kernel fills with files. One of them lists processes, the others say what these may use.
brig has made it:
END
if [ -n "$v2" ]; then
    show 'cpu=/sys/fs/cgroup$(sed -n "s/^0:://p" /proc/$alice/cgroup) memory=$cpu freezer=$cpu
cat $cpu/cgroup.procs'
else
    show 'cat /proc/$alice/cgroup'
    has ':cpu:.*/alice$'
    show 'cpu=/sys/fs/cgroup/cpu$(sed -n "s/.*:cpu://p" /proc/$alice/cgroup)
memory=/sys/fs/cgroup/memory$(sed -n "s/.*:memory://p" /proc/$alice/cgroup)
freezer=/sys/fs/cgroup/freezer$(sed -n "s/.*:freezer://p" /proc/$alice/cgroup)
cat $cpu/cgroup.procs'
fi
has "^$alice\$"
if [ -n "$v2" ]; then
    say <<'END'
This machine has version 2 of cgroups: one hierarchy for all kinds of resources. Version 1 has one for each
kind, and the quota below stands in two files, `cpu.cfs_quota_us` and `cpu.cfs_period_us`.
END
else
    say <<'END'
This machine has version 1 of cgroups: a hierarchy for each kind of resource. With version 2 there is one
directory for all, `cpu.max` takes the place of two files below and holds `20000 100000`, and the rest of the
page is the same.
END
fi
say <<'END'
### A fifth of a CPU

`docker run --cpu-period=100000 --cpu-quota=20000` means: in each 100000 µs, run for 20000 at most. It ends up
in a file. So let us look at the file:
END
show 'brig update --cpu-period 100000 --cpu-quota 20000 alice'
if [ -n "$v2" ]; then
    show 'cat $cpu/cpu.max'
    has '^20000 100000$'
else
    show 'cat $cpu/cpu.cfs_quota_us $cpu/cpu.cfs_period_us'
    has '^20000$'
    has '^100000$'
fi
say <<'END'
There is no magic between the flag and the kernel: a number is written to a file. Now half a CPU (`docker run
--cpus=0.5`), and a loop that would like more. The shares see to it that a busy machine really grants alice
the half that she may have: they are what counts when there is not enough for all, as the quota counts always.
END
show 'brig update --cpu-quota 50000 --cpu-share 100000 alice
brig exec --detach alice sh -c "while :; do :; done"'
sleep 1
rounded 's/\b\(4[0-9]\|5[0-5]\)\.[0-9]/50.0/'
show 'brig stats --no-stream --interval 4s alice | cut -c 1-13'
has '^ID +CPU %'
so within 40 "$(awk '/^alice/ { print $2 }' out)" 55
say <<'END'
Half a CPU it is: the loop gets its 50 ms, then the kernel takes it off the CPU until the next 100 ms begin.
`cpu.stat` counts how often that has happened.
END
so [ "$(sed -n 's/^nr_throttled //p' "$cpu/cpu.stat")" -gt 0 ]
say <<'END'
### Pause

A frozen cgroup gets no CPU at all. Its processes are not stopped by a signal that they could notice; they are
just not run.
END
show 'brig pause alice'
if [ -n "$v2" ]; then
    show 'cat $cpu/cgroup.freeze'
    has '^1$'
else
    show 'cat $freezer/freezer.state'
    has '^FROZEN$'
fi
before=$(grep -E '^(usage_usec|nr_periods)' "$cpu/cpu.stat" | head -1)
used() { brig stats --no-stream --interval 1s alice | awk '/^alice/ { print $2 }'; }
so within 0 "$(used)" 0.5
show 'brig stats --no-stream alice | cut -c 1-13
brig resume alice'
has '^alice +0.0'
say <<'END'
### Memory, and who dies

32 MiB, and a program that wants a buffer of 64:
END
show 'brig update --memory 32m alice'
show -e 137 'brig exec alice dd if=/dev/zero of=/dev/null bs=64M count=1'
if [ -n "$v2" ]; then
    show 'cat $memory/memory.max; grep oom_kill $memory/memory.events'
else
    show 'cat $memory/memory.limit_in_bytes; grep "oom_kill " $memory/memory.oom_control'
fi
has '^33554432$'
so [ "$(awk '$1 == "oom_kill" { print $2 }' out)" -ge 1 ]
say <<'END'
There was no error from `malloc`. Memory is granted on first use, and by then there is nobody left to tell, so
the kernel picks a process of the cgroup and kills it: 137 is 128 + 9, and 9 is SIGKILL. alice herself is
small, and lives:
END
show 'brig exec alice echo "still here"'
has '^still here$'
say <<'END'
### Gone with the container
END
show 'brig delete --force alice'
show -e 2 'ls -d $cpu $memory'
hasnt '^/sys'
so [ ! -e "$cpu" ]
so [ ! -e "$memory" ]
eventually ended "$alice"
