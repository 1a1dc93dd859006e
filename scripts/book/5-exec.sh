say <<'END'
## 5. Exec is setns

`docker exec` seems to put a process *into* a container. But there is no inside, there are only namespaces,
and the system call setns(2) enters those of somebody else. Eve gets a visitor:
END
show 'brig run --detach --image images:base eve -- sleep 10000'
learn eve 4733
show 'brig exec --detach --pid-file visitor.pid eve sleep 5000; visitor=$(cat visitor.pid)'
number "$visitor" 4744
show 'for kind in pid mnt uts ipc net cgroup; do
    printf "%-20s %s\n" "$(readlink /proc/$eve/ns/$kind)" "$(readlink /proc/$visitor/ns/$kind)"
done
brig exec eve ps'
for kind in pid mnt uts ipc net cgroup; do
    so [ "$(readlink "/proc/$eve/ns/$kind")" = "$(readlink "/proc/$visitor/ns/$kind")" ]
    so [ "$(readlink "/proc/self/ns/$kind")" != "$(readlink "/proc/$visitor/ns/$kind")" ]
done
has '^ +1 0 +sleep 10000$'
has '^ +[0-9]+ 0 +sleep 5000$'
say <<'END'
All six are eve's. So one can do it without brig. util-linux has a program that does nothing but setns and
exec:
END
show 'nsenter --target $eve --mount --uts --pid hostname'
has '^eve$'
say <<'END'
`brig exec` does this and, on top of it, what makes it safe: the visitor gets eve's
capabilities, not the caller's, and her cgroup, so that her limits are for both of them:
END
so grep -qx "$visitor" "$(cgroup pids "$eve")/cgroup.procs"
show 'grep -h CapEff /proc/$eve/status /proc/$visitor/status'
lines 2
so [ "$(uniq out | wc -l)" = 1 ]
show 'diff /proc/$eve/cgroup /proc/$visitor/cgroup && echo "the same cgroups"'
has '^the same cgroups$'
say <<'END'
### Sharing one namespace on purpose

`docker run --net container:eve` is the same call, for one namespace of six. In `config.json` it is a path.
eve serves a page, to her own loopback only:
END
show 'brig exec eve sh -c "mkdir /www; echo Eve was here first. >/www/index.html"
brig exec --detach eve httpd -f -p 127.0.0.1:80 -h /www'
show 'brig bundle images:base frank
sed -i "s|\"type\": \"network\"|\"type\": \"network\", \"path\": \"/proc/$eve/ns/net\"|" frank/config.json
grep "\"type\": \"network\"" frank/config.json'
has "/proc/$eve/ns/net"
eventually brig exec eve wget -q -O - http://127.0.0.1/
show 'sed -i "s|\"sh\"\$|\"wget\", \"-q\", \"-O\", \"-\", \"http://127.0.0.1/\"|" frank/config.json
brig run --bundle frank frank'
has '^Eve was here first.$'
say <<'END'
frank has his own files, his own processes and his own name. But his 127.0.0.1 is eve's. The containers of a
pod in Kubernetes are such neighbours, nothing more.
END
