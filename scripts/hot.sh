#!/usr/bin/env bash
# hot.sh BRIG HOT DIR: prints the functions of BRIG, which has symbols, in the order in which a container's life first calls
# them, without the hashes in their names. HOT is benches/hot.rs, built. DIR is made, and removed.
set -euo pipefail

brig=$1
hot=$2
dir=$3
here=$(dirname "${BASH_SOURCE[0]}")
id=hot-$$
traced() { "$hot" "$dir/symbols" "$brig" --root "$dir/run" "$@" </dev/null; }
trap '"$brig" --root "$dir/run" delete --force $id >/dev/null 2>&1 || true; rm -rf --one-file-system "$dir"' EXIT

mkdir -p "$dir"
nm --defined-only "$brig" >"$dir/symbols"
"$here/hello-bundle.sh" "$dir/bundle"
sed -i "s/\"args\": .*/\"args\": [\"sleep\", \"1000\"],/" "$dir/bundle/config.json"
bundle=(--bundle "$dir/bundle")
# What is called most comes first.
{
    traced state $id 2>/dev/null || true
    traced create "${bundle[@]}" $id
    traced state $id
    traced start $id
    traced exec $id true
    traced kill $id KILL
    traced delete $id
    sed -i 's/"args": .*/"args": ["true"],/' "$dir/bundle/config.json"
    traced run "${bundle[@]}" $id
    traced list
} | sed -E 's/17h[0-9a-f]{16}E$//; s/Cs[0-9A-Za-z]+_/C/g' | awk '!seen[$0]++'
