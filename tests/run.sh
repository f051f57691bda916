#!/usr/bin/env bash
# Runs every check that has to pass: installs missing packages, then checks format and lints, and runs unit and
# integration tests, type checks of the pages' scripts, and browser tests. Requires the Rust toolchain, Node and Python.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n=== %s ===\n' "$*"; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Chromium and Firefox (with ffmpeg's libraries for its H.264) for the pages, NSS tools to add certificates to its store, a font with Chinese, iproute2 for the network
# namespaces of the roaming test, GStreamer's RTSP server as an independent camera implementation, proxies, OpenSSL and libfaketime; g++ builds
# libFuzzer.
install_packages() {
  local wanted=(chromium firefox-esr ffmpeg libnss3-tools fonts-noto-cjk fonts-dejavu-core iproute2 python3-gi gir1.2-gst-rtsp-server-1.0
    gir1.2-gst-plugins-base-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
    g++ nginx-light haproxy caddy openssl faketime)
  local missing=() package
  for package in "${wanted[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return
  # Another installation may be under way.
  as_root apt-get -o DPkg::Lock::Timeout=300 update -qq
  DEBIAN_FRONTEND=noninteractive as_root apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

step "packages"
install_packages
(cd tests/browser && npm ci --no-audit --no-fund --silent)
export RUST_BACKTRACE=0

step "format"
cargo fmt --check

step "vendored files"
(cd web/vendor && sha256sum --check --quiet SHA256SUMS)

step "lints"
cargo clippy --locked --all-targets -- --deny warnings

# Runs beside the tests, which wait most of the time. They are built before, and need the build folder's lock only to
# find that out.
beside() {
  sleep 5
  RUSTDOCFLAGS="--deny warnings" nice -n 19 cargo doc --locked --no-deps --document-private-items --quiet
  nice -n 19 fuzz/run.sh 5
}

step "unit and integration tests; beside them: documentation, and fuzzing, 5 s for each target"
cargo test --locked --no-run
beside_log=$(mktemp)
beside >"$beside_log" 2>&1 &
beside_id=$!
# With those that need a package or IPv6: here nothing is skipped.
cargo test --locked -- --include-ignored
step "documentation and fuzzing"
wait "$beside_id" || { cat "$beside_log"; exit 1; }
cat "$beside_log"
rm "$beside_log"

step "licenses, banned crates and sources"
if command -v cargo-deny >/dev/null; then
  cargo deny --offline check licenses bans sources
else
  python3 tests/check-crates.py
fi

step "types of the pages' scripts"
(cd tests/browser && npm run --silent types)

step "texts in both languages"
node tests/browser/check-texts.js

step "browser tests"
cargo build --locked
target_folder=$(cargo metadata --format-version 1 --no-deps --locked | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')
(cd tests/browser && GATEHOUSE_BIN="$target_folder/debug/gatehouse" npm test --silent)

step "all passed"
