#!/usr/bin/env bash
# Installs the compilers by which the tests build guests of sdk/rust, sdk/assemblyscript and
# sdk/zig, each only if it is missing: Rust's wasm targets by rustup, the others into .bin.
set -euo pipefail
cd "$(dirname "$0")/.."

zig_version=0.14.1

if ! command -v rustup >/dev/null; then
  echo "rustup is needed for the guests in Rust: install it from https://rustup.rs" >&2
  exit 1
fi
missing=()
for target in wasm32-unknown-unknown wasm32-wasip1; do
  [ -d "$(rustc --print sysroot)/lib/rustlib/$target/lib" ] || missing+=("$target")
done
((${#missing[@]} == 0)) || rustup target add "${missing[@]}"

if [ "$(.bin/zig/ziglang/zig version 2>/dev/null)" != "$zig_version" ]; then
  rm -rf .bin/zig
  python3 -m pip install -q --no-deps --target .bin/zig "ziglang==$zig_version"
fi

dir=.bin/assemblyscript
if ! cmp -s scripts/assemblyscript/package-lock.json $dir/package-lock.json || [ ! -f $dir/node_modules/.package-lock.json ]; then
  mkdir -p $dir
  cp scripts/assemblyscript/package.json scripts/assemblyscript/package-lock.json $dir/
  (cd $dir && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error)
fi
