#!/usr/bin/env bash
# vm-engines.sh BRIG CACHE: scripts/engines/guest.sh, the engines' rows that need systemd, in the guest of
# vm.sh with systemd. GUEST=trixie selects its Debian, TESTS=part of a row's name runs some; RUNTIME=runc runs
# the same rows with that Debian's runc.
set -euo pipefail

brig=$(realpath "$1") cache=$2
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$cache"
payload=$(mktemp -d "$cache/payload.XXXXXX")
trap 'rm -rf --one-file-system "$payload"' EXIT
mkdir -p "$payload/payload/engines"
cp "$brig" "$payload/payload/brig"
cp "$here"/engines/{lib.sh,guest.sh,cri.bash,cri.py,gpu.bash} "$payload/payload/engines/"
case ${RUNTIME:-brig} in brig) runtime=/payload/brig ;; *) runtime=/usr/bin/$RUNTIME ;; esac
cat >"$payload/payload/run" <<END
#!/bin/sh
export GUEST=1 ENGINE=guest LOGS=/run/logs RUNTIME_PATH=$runtime TESTS='${TESTS:-}' HOME=/root
exec bash -euo pipefail /payload/engines/lib.sh
END
chmod 755 "$payload/payload/run"
packages=$(sed -n 's/^# needs: //p' "$here/engines/guest.sh")
export GUEST=${GUEST:-trixie} PACKAGES=$packages MEMORY=2048 SECONDS_MAX=${SECONDS_MAX:-2400}
"$here/vm.sh" --systemd "$cache" "$payload"
