#!/usr/bin/env bash
# need.sh PACKAGE…: installs missing Debian packages, as root or with sudo. rust-std:TRIPLE is Rust's standard
# library for another target.
set -euo pipefail

missing=()
for package; do
    if [[ $package = rust-std:* ]]; then
        triple=${package#*:}
        [ ! -d "$(rustc --print sysroot)/lib/rustlib/$triple/lib" ] || continue
        command -v rustup >/dev/null && rustup target add "$triple" && continue
        echo "no standard library for $triple: install it by \"rustup target add $triple\", or libstd-rust-dev of that architecture" >&2
        exit 1
    fi
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
policy=/usr/sbin/policy-rc.d
trap 'rm -f "$log"; [ -z "$policy" ] || "${as_root[@]}" rm -f "$policy"' EXIT
# Only the programs of a package are needed, not its daemons: 101 forbids starting any.
if [ -e "$policy" ]; then
    policy=''
else
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
fi
# The package lists are fetched only if they are missing or too old to install from.
if ! apt install --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
    if ! { apt update && apt install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
fi
