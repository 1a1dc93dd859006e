#!/usr/bin/env bash
# engines-root.sh SUITE DIR PACKAGE…: creates DIR/root, a root filesystem of Debian's SUITE with these
# packages, by mmdebstrap with separate apt lists: nothing is installed on this machine. It is kept for a
# week.
set -euo pipefail

suite=$1 dir=$2
shift 2
key=$(printf '%s\n' "$suite" "$@" | sort | sha256sum)
mkdir -p "$dir"
exec 9>"$dir/lock"
flock 9
if [ "$(cat "$dir/key" 2>/dev/null)" = "$key" ] && [ -n "$(find "$dir/key" -mtime -7)" ]; then exit 0; fi
"$(dirname "$0")/need.sh" mmdebstrap
rm -rf --one-file-system "$dir/key" "$dir/root" "$dir/root.new"
echo "unpacking the engines of $suite" >&2
# A mirror may be outdated longer than its lists are valid. Mounts for the packages' scripts end with this
# namespace.
unshare --mount --propagation private timeout -k 10 900 mmdebstrap --quiet --mode=root --variant=essential \
    --include="$(IFS=,; echo "$*")" --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "2"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$dir/root.new" >&2
mv "$dir/root.new" "$dir/root"
echo "$key" >"$dir/key"
