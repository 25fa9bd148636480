#!/bin/sh
# Needs Rust with the target wasm32-unknown-unknown: rustup target add wasm32-unknown-unknown
set -eu
cd "$(dirname "$0")"
cargo build --quiet --release --target wasm32-unknown-unknown
cp "${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/release/plugin.wasm" NAME.wasm
