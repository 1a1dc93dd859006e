# In a container of a Debian image: what the default profile must allow, and what it must refuse.
set -euo pipefail
cd /tmp
exec 3>&1 >log 2>&1
trap 'cat log >&3' ERR
echo 'root ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/root
[ "$(sudo -n id -u)" = 0 ]
useradd someone
[ "$(su someone -c 'id -u')" = 1000 ]
apt-get check
printf '#include <pthread.h>\nvoid *f(void *x) { return x; }\nint main(void) { pthread_t t; return pthread_create(&t, 0, f, 0) || pthread_join(t, 0); }\n' >threads.c
gcc -pthread threads.c -o threads
./threads
gcc -m32 -pthread threads.c -o threads32
./threads32
python3 -c 'import threading as t; x = t.Thread(target=print); x.start(); x.join()'
refused() { if "$@"; then echo "not refused: $*"; false; fi; }
refused unshare -U true
refused mount -t tmpfs none /mnt
refused keyctl show
refused python3 -c 'import socket; socket.socket(38, 5, 0)'
refused python3 -c 'import socket; socket.socket(40, 1, 0)'
echo confined >&3
