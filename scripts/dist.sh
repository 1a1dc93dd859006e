#!/usr/bin/env bash
# dist.sh TREE ARCH DIR: creates a tarball, a Debian package and an SBOM in DIR from TREE, the result of `make
# install PREFIX=/usr` with the binary for ARCH. Reproducible: the same commit results in the same bytes,
# wherever it is built. Called by `make dist`.
set -euo pipefail

tree=$(realpath "$1") arch=$2
mkdir -p "$3"
out=$(realpath "$3")
cd "$(dirname "$0")/.."
case $arch in x86_64) debian=amd64 ;; aarch64) debian=arm64 ;; *) echo "dist.sh: not written for $arch" >&2; exit 2 ;; esac
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH LC_ALL=C
umask 022
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
name=brig-$version-$arch
work=$(mktemp -d)
trap 'rm -rf --one-file-system "$work"' EXIT

scripts/parts.py licences "$arch-unknown-linux-gnu" >"$work/THIRD-PARTY-LICENSES"
scripts/parts.py sbom "$arch-unknown-linux-gnu" >"$out/$name.cdx.json"

# The files for /usr/local or another prefix; README.md explains the installation.
cp -r "$tree/usr" "$work/$name"
cp LICENSE README.md CHANGELOG.md "$work/THIRD-PARTY-LICENSES" "$work/$name"
tar -C "$work" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=gnu \
    --mode=u+rwX,go+rX,go-w -cf - "$name" | gzip -9n >"$out/$name.tar.gz"

# Installable beside any other runtime: it replaces nothing, and is configured in engines by name.
package=$work/package
doc=$package/usr/share/doc/brig
mkdir -p "$package/DEBIAN" "$doc"
cp -r "$tree/usr" "$package"
mv "$package/usr/share/zsh/site-functions" "$package/usr/share/zsh/vendor-completions"
cp README.md docs/engines.md "$work/THIRD-PARTY-LICENSES" "$doc"
cp CHANGELOG.md "$doc/changelog"
gzip -9n "$package"/usr/share/man/man8/*.8 "$doc/changelog" "$doc/THIRD-PARTY-LICENSES"
cat >"$doc/copyright" <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: brig

Files: *
Copyright: the authors of brig
License: Apache-2.0
 The text is in /usr/share/common-licenses/Apache-2.0. What the binary contains of others is listed, with its
 licenses, in /usr/share/doc/brig/THIRD-PARTY-LICENSES.gz.
END
cat >"$package/DEBIAN/control" <<END
Package: brig
Version: $version
Architecture: $debian
Maintainer: The authors of brig
Installed-Size: $(find "$package/usr" -type f -printf '%s\n' | awk '{ size += int(($1 + 1023) / 1024) } END { print size }')
Section: admin
Priority: optional
Suggests: criu, uidmap
Description: OCI container runtime, one static binary without a daemon
 The program that Docker, containerd, Podman and CRI-O call to start each container. It is installed beside
 runc and crun; /usr/share/doc/brig/engines.md has the lines of containers.conf, daemon.json and config.toml
 that name it. It also runs images by itself.
END
(cd "$package" && find usr -type f -print0 | sort -z | xargs -0 md5sum >DEBIAN/md5sums)
chmod -R u+rwX,go+rX,go-w "$package"
find "$package" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --build --root-owner-group -Zxz --threads-max=1 "$package" "$out/brig_${version}_$debian.deb" >/dev/null
