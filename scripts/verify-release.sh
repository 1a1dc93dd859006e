#!/usr/bin/env bash
# verify-release.sh BRIG: checks that everything that contains the version to be released contains the same
# one.
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
    wrong "CHANGELOG.md: $version has no date yet: \"$section\" instead of \"## [$version] - YYYY-MM-DD\""
unreleased=$(sed -n '/^## \[Unreleased\]/,/^## \[[0-9]/{/^## /d;/./p}' CHANGELOG.md)
[ -z "$unreleased" ] || wrong "CHANGELOG.md: there is something under Unreleased, which belongs to $version"
for name in $(grep -ohE 'brig[-_][0-9]+\.[0-9]+\.[0-9]+' README.md docs/*.md | sort -u); do
    [ "${name:5}" = "$version" ] || wrong "README.md or docs: $name is not of $version"
done
tags=$(git tag --points-at HEAD | paste -sd ' ')
if [[ " $tags " != *" v$version "* ]]; then
    wrong "this commit does not have the tag v$version; its tags: ${tags:-none}"
elif ! git cat-file tag "v$version" 2>/dev/null | grep -q '^-----BEGIN .*SIGNATURE-----$'; then
    wrong "the tag v$version is not signed: git tag --sign --force v$version"
fi
[ $failed = 0 ] || exit 1
echo "verify-release: brig $version, v$version"
