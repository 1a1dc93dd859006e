#!/usr/bin/env bash
# verify-release.sh BRIG: whether everything that names the version to be released names the same one.
set -euo pipefail

brig=$(realpath "$1")
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)
failed=0
wrong() { echo "verify-release: $*" >&2; failed=1; }

"$brig" --version | grep -qF "brig version $version" || wrong "$brig says $("$brig" --version | head -n 1), not $version"
"$brig" --version | grep -q "^commit: $(git rev-parse HEAD)\$" || wrong "$brig is not of this commit, or of changes to it"
[ -z "$(git status --porcelain)" ] || wrong "there are changes without a commit"
for lock in Cargo.lock fuzz/Cargo.lock; do
    grep -A 1 '^name = "brig"$' $lock | grep -qF "version = \"$version\"" || wrong "$lock: not $version"
done
for page in docs/man/*.8; do
    grep -q "^\.TH .*\"brig ${version//./\\.}\"" "$page" || wrong "$page: not $version: BRIG_BLESS=1 cargo test --test pages"
done
section=$(grep -m 1 -F "## [$version]" CHANGELOG.md || true)
[[ $section =~ ^'## ['[0-9.]+'] - '[0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] ||
    wrong "CHANGELOG.md: not \"## [$version] - DATE\", but \"$section\""
unreleased=$(sed -n '/^## \[Unreleased\]/,/^## \[[0-9]/{/^## /d;/./p}' CHANGELOG.md)
[ -z "$unreleased" ] || wrong "CHANGELOG.md: there is something under Unreleased"
tags=$(git tag --points-at HEAD)
[ -z "$tags" ] || [ "$tags" = "v$version" ] || wrong "this commit has the tag $tags, not v$version"
[ $failed = 0 ] || exit 1
echo "verify-release: brig $version, ${tags:-no tag yet}"
