#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET…]: each fuzzer of fuzz/ for that long, from its corpus; finds stay below
# fuzz/artifacts, which is not committed: what is found becomes a file of the corpus. Without a nightly
# compiler the corpus alone is replayed, by `make check`: that is told, and no failure.
set -euo pipefail

seconds=$1
shift
here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here/fuzz"
if ! rustup run nightly rustc --version >/dev/null 2>&1; then
    echo "skipped: no fuzzing without a nightly compiler (rustup toolchain install nightly)"
    exit 0
fi
"$here/scripts/need.sh" g++
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/target}/fuzz
export PATH=$PATH:$CARGO_TARGET_DIR/tools/bin
cargo fuzz --version >/dev/null 2>&1 ||
    cargo install --quiet --locked --target-dir "$CARGO_TARGET_DIR/tools/build" --root "$CARGO_TARGET_DIR/tools" cargo-fuzz
[ $# -gt 0 ] || set -- $(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' Cargo.toml)
rustup run nightly cargo fuzz build --sanitizer none -O
failed=0
for target; do
    # What it learns in a run is not for the committed corpus.
    learnt=$CARGO_TARGET_DIR/learnt/$target
    mkdir -p "$learnt"
    if rustup run nightly cargo fuzz run --sanitizer none -O "$target" "$learnt" "corpus/$target" -- \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 \
        >"$learnt.log" 2>&1; then
        echo "ok $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$learnt.log") runs"
    else
        echo "not ok $target"
        tail -n 40 "$learnt.log"
        failed=1
    fi
done
exit $failed
