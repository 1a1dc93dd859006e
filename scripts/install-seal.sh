#!/usr/bin/env bash
# install-seal.sh BIN [DESTDIR]: installs a systemd unit that mounts BIN, the directory of brig, on /run/brig-seal. Without
# DESTDIR it is mounted at once, or mounted anew; without systemd, until the next boot.
set -euo pipefail

bin=$1 destdir=${2:-}
unit=$destdir/etc/systemd/system/brig-seal.service
[ -n "$destdir" ] || [ -x "$bin/brig" ] || { echo "$bin/brig does not exist: run \`make install\` first" >&2; exit 1; }
text=$(sed "s|@BIN@|$bin|" "$(dirname "$0")/brig-seal.service")
commands() { sed -n "s/^Exec$1=//p" <<<"$text"; }

if [ -n "$destdir" ] || [ -d /run/systemd/system ]; then
    install -d "$(dirname "$unit")"
    printf '%s\n' "$text" >"$unit"
    chmod 644 "$unit"
fi
[ -z "$destdir" ] || exit 0
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl enable brig-seal.service
    systemctl restart brig-seal.service
else
    if mountpoint -q /run/brig-seal; then commands Stop | bash -e; fi
    commands Start | bash -e
    echo "there is no systemd: $bin is mounted on /run/brig-seal until the next boot"
fi
