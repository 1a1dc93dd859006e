#!/usr/bin/env bash
# hello-bundle.sh DIR: creates a runnable copy of fixtures/bundles/hello in DIR, which must not exist. Adds
# what cannot be committed: busybox with a link for every applet, and empty directories.
set -euo pipefail

bundle=$1
busybox=$(command -v busybox)
mkdir -p "$(dirname "$bundle")"
cp -R "$(dirname "${BASH_SOURCE[0]}")/../fixtures/bundles/hello" "$bundle"

base=$bundle/layers/base
mkdir -p "$base"/{dev,proc,root,sys,tmp} "$bundle/upper"
cp "$busybox" "$base/bin/busybox"
"$busybox" --list | while read -r applet; do
    [ -e "$base/bin/$applet" ] || ln -s busybox "$base/bin/$applet"
done
chmod -R u=rwX,go=rX "$bundle"
chmod 700 "$base/root"
chmod 1777 "$base/tmp"
