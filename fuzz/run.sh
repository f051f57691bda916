#!/usr/bin/env bash
# Fuzzes every target for some seconds (the first argument; 5 unless given): starts from the corpus in the tree, keeps
# new inputs under `target/fuzz`. A crash leaves its input there and fails. Works with a stable compiler. With `all` as
# the second argument, the crates that we depend on are instrumented, too: takes minutes to build, finds more.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-5}
target=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
work=$target/fuzz
if [ "${2:-}" = all ]; then
  flags=$(sed -n '/^exec/,$p' rustc.sh | tr -d '\\\n')
  export RUSTFLAGS="${flags#*\"\$@\"} -Copt-level=1"
  # With a target named, build scripts are built without the flags.
  triple=$(rustc -vV | sed -n 's/^host: //p')
  cargo build --locked --package gatehouse-fuzz --target-dir "$work/all" --target "$triple"
  programs=$work/all/$triple/debug
else
  RUSTC_WORKSPACE_WRAPPER="$PWD/rustc.sh" cargo build --locked --package gatehouse-fuzz --target-dir "$target"
  programs=$target/debug
fi
for source in fuzz_targets/*.rs; do
  name=$(basename "$source" .rs)
  mkdir -p "corpus/$name" "$work/corpus/$name" "$work/artifacts/$name"
  printf '%s: ' "$name"
  # Offers of real clients are seeds, too.
  seeds=("corpus/$name")
  [ "$name" != sdp ] || seeds+=(../tests/offers)
  "$programs/$name" "$work/corpus/$name" "${seeds[@]}" -max_total_time="$seconds" -timeout=5 \
    -rss_limit_mb=1024 -max_len=16384 -verbosity=0 -print_final_stats=1 \
    -artifact_prefix="$work/artifacts/$name/" 2>"$work/$name.log" || { cat "$work/$name.log"; exit 1; }
  sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log"
done
