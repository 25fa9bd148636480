#!/bin/sh
# Needs Zig 0.14.
set -eu
cd "$(dirname "$0")"
zig build-exe transform.zig -target wasm32-freestanding -fno-entry -rdynamic -O ReleaseFast -fstrip -femit-bin=NAME.wasm
