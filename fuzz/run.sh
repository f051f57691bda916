#!/usr/bin/env bash
# Fuzzes every target for some seconds (the first argument; 5 unless given): starts from the corpus in the tree, keeps
# new inputs under `target/`. A crash leaves its input there and fails. Works with a stable compiler: the flags are
# those of `cargo fuzz --sanitizer none`.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-5}
target=${CARGO_TARGET_DIR:-target}
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
  -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1"
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --locked --target "$triple" --target-dir "$target"
for source in fuzz_targets/*.rs; do
  name=$(basename "$source" .rs)
  mkdir -p "corpus/$name" "$target/corpus/$name" "$target/artifacts/$name"
  printf '%s: ' "$name"
  # Offers of real clients are seeds, too.
  seeds=("corpus/$name")
  [ "$name" != sdp ] || seeds+=(../tests/offers)
  "$target/$triple/release/$name" "$target/corpus/$name" "${seeds[@]}" -max_total_time="$seconds" -timeout=5 \
    -rss_limit_mb=1024 -max_len=16384 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="$target/artifacts/$name/" 2>"$target/$name.log" || { cat "$target/$name.log"; exit 1; }
  sed -n 's/^stat::number_of_executed_units: *//p' "$target/$name.log"
done
