#!/usr/bin/env bash
# hot.sh BRIG HOT DIR: prints the functions of BRIG, which has symbols, in the order in which they are first
# called in a container's lifecycle. HOT is the built benches/hot.rs. DIR is created, and removed.
set -euo pipefail

brig=$1
hot=$2
dir=$3
here=$(dirname "${BASH_SOURCE[0]}")
id=hot-$$
traced() { "$hot" "$dir/symbols" "$brig" --root "$dir/run" "$@" </dev/null; }
trap '"$brig" --root "$dir/run" delete --force $id >/dev/null 2>&1 || true; rm -rf --one-file-system "$dir"' EXIT

mkdir -p "$dir"
# Clones made by LLVM have the name of the original function.
nm --defined-only --demangle "$brig" | sed 's/ \[clone .*//' >"$dir/symbols"
"$here/hello-bundle.sh" "$dir/bundle"
sed -i "s/\"args\": .*/\"args\": [\"sleep\", \"1000\"],/" "$dir/bundle/config.json"
bundle=(--bundle "$dir/bundle")
# The most frequent and small commands come first: their pages must not be shared with functions that only
# create needs.
"$brig" --root "$dir/run" create "${bundle[@]}" $id </dev/null
{
    traced state $id
    traced start $id
    traced exec $id true
    traced list
    traced kill $id KILL
    traced delete $id
    traced create "${bundle[@]}" $id
    "$brig" --root "$dir/run" delete --force $id
    sed -i 's/"args": .*/"args": ["true"],/' "$dir/bundle/config.json"
    traced run "${bundle[@]}" $id
} | awk '!seen[$0]++'
