#!/usr/bin/env bash
# dist-check.sh DIR: builds the results of `make dist` in DIR again, from the same commit, in another
# directory and with another CARGO_HOME, and compares all bytes.
set -euo pipefail

dist=$(realpath "$1")
cd "$(dirname "$0")/.."
[ -z "$(git status --porcelain --untracked-files=no)" ] || { echo "dist-check: there are changes without a commit" >&2; exit 1; }
again=$(mktemp -d)
trap 'rm -rf --one-file-system "$again"' EXIT
git clone --quiet --shared . "$again/elsewhere"
mkdir "$again/cargo"
config=${CARGO_HOME:-$HOME/.cargo}/config.toml
[ ! -e "$config" ] || cp "$config" "$again/cargo"
env -u CARGO_TARGET_DIR CARGO_HOME="$again/cargo" make -C "$again/elsewhere" --no-print-directory dist \
    DIST_ARCHES="${DIST_ARCHES:-x86_64 aarch64}"
diff -r "$dist" "$again/elsewhere/target/dist"
echo "dist-check: the same, byte for byte: $(cd "$dist" && echo *)"
