#!/usr/bin/env bash
# criu.sh DIR: creates DIR/criu, a command that runs the CRIU of Debian's SUITE (trixie) on a host whose own
# is too old for its kernel, or missing, and DIR/tar, because CRIU uses options of GNU tar. Their packages are
# downloaded by apt with separate lists and only unpacked: nothing is installed. They run with their own
# dynamic loader and libraries, wherever DIR is copied to. An existing result is kept.
set -euo pipefail

suite=${SUITE:-trixie}
mkdir -p "$1"
dir=$(cd "$1" && pwd)
exec 9>"$dir/lock"
flock 9
[ ! -x "$dir/tar" ] || exit 0

lists=$dir/apt
mkdir -p "$lists/lists/partial" "$lists/archives/partial" "$dir/root"
# As if nothing were installed: then apt downloads all dependencies.
: >"$lists/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian $suite main" \
    >"$lists/sources.list"
apt=(-qq -o "Dir::Etc::SourceList=$lists/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State::Lists=$lists/lists" -o "Dir::State::status=$lists/status"
    -o "Dir::Cache::archives=$lists/archives" -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
    -o APT::Sandbox::User=root -o APT::Install-Recommends=false -o Acquire::Languages=none)
apt-get "${apt[@]}" update
apt-get "${apt[@]}" --download-only --yes install criu tar >&2
for package in "$lists"/archives/*.deb; do dpkg-deb -x "$package" "$dir/root"; done
rm -rf --one-file-system "$lists"

cd "$dir/root"
loader=$(find . -name 'ld-linux-*.so.*' | head -n 1)
# Until bookworm, some are in /lib and some in /usr/lib.
libraries=
for library in libc.so.6 libnet.so.1; do
    libraries+=:\$root/$(dirname "$(find lib usr/lib -name "$library" 2>/dev/null | head -n 1)")
done
for name in criu tar; do
    program=$(find . -path "*bin/$name" | head -n 1)
    [ -n "$loader" ] && [ -n "$program" ] || { echo "criu.sh: $suite's packages have no $name" >&2; exit 1; }
    cat >"$dir/$name.new" <<END
#!/bin/sh
root=\${0%/*}/root
exec "\$root/$loader" --library-path "${libraries#:}" "\$root/$program" "\$@"
END
    chmod 755 "$dir/$name.new"
    mv "$dir/$name.new" "$dir/$name"
done
