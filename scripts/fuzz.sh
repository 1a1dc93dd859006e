#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET…]: runs each fuzzer of fuzz/ for that long, from its corpus, as many concurrently as
# there are processors. Findings are written below fuzz/artifacts, which is not committed: add them to the
# corpus. Without a nightly compiler only the corpus is replayed, by `make check`, with a message, and that is
# not a failure.
set -euo pipefail

seconds=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
CARGO_TARGET_DIR=$(realpath -m "${CARGO_TARGET_DIR:-$here/target}")/fuzz
export CARGO_TARGET_DIR
cd "$here/fuzz"
if ! rustup run nightly rustc --version >/dev/null 2>&1; then
    echo "skipped: no fuzzing without a nightly compiler (rustup toolchain install nightly)"
    exit 0
fi
"$here/scripts/need.sh" g++
export PATH=$PATH:$CARGO_TARGET_DIR/tools/bin
cargo fuzz --version >/dev/null 2>&1 ||
    cargo install --quiet --locked --root "$CARGO_TARGET_DIR/tools" --target-dir "$CARGO_TARGET_DIR/tools/build" cargo-fuzz ||
    { echo "skipped: no fuzzing without cargo-fuzz, which could not be installed"; exit 0; }
# shellcheck disable=SC2046 # several names
[ $# -gt 0 ] || set -- $(sed -n '/^\[\[bin\]\]/{n;s/^name = "\(.*\)"$/\1/p}' Cargo.toml)
rustup run nightly cargo fuzz build --sanitizer none -O

one() {
    # Inputs learnt in a run are not added to the committed corpus.
    local target=$1 learnt=$CARGO_TARGET_DIR/learnt/$1
    mkdir -p "$learnt" "artifacts/$target"
    if "$CARGO_TARGET_DIR/$host/release/$target" "$learnt" "corpus/$target" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="artifacts/$target/" >"$learnt.log" 2>&1; then
        echo "ok $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$learnt.log") runs"
    else
        echo "not ok $target"
        tail -n 40 "$learnt.log"
        return 1
    fi
}
export -f one
host=$(rustc -vV | sed -n "s/^host: //p")
export seconds host
printf '%s\n' "$@" | xargs -P "$(nproc)" -I TARGET bash -c 'one TARGET'
