#!/usr/bin/env bash
# need.sh PACKAGE…: installs those of the Debian packages that are missing, as root or by sudo.
set -euo pipefail

missing=()
for package; do
    status=$(dpkg-query --show --showformat '${db:Status-Status}' "$package" 2>/dev/null || echo absent)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "no apt-get here: if a later step fails, install what Debian calls ${missing[*]}" >&2
    exit 0
fi

as_root=()
[ "$(id -u)" = 0 ] || as_root=(sudo)
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@" </dev/null
}
echo "installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# The package lists are fetched only if they are missing or too old to install from.
if ! apt install --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    if ! { apt update && apt install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
fi
