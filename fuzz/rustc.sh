#!/bin/sh
# Compiles our own crates with the coverage that libFuzzer wants, the flags of `cargo fuzz --sanitizer none`. The
# crates that they depend on are those of every other debug build. A wrapper for RUSTC_WORKSPACE_WRAPPER.
case " $* " in
  # Build scripts are not linked with libFuzzer.
  *" --crate-name build_script_build "*) exec "$@" ;;
esac
exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing
