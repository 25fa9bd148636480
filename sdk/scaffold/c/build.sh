#!/bin/sh
# Needs clang with the wasm32 target, and wasm-ld (Debian: clang lld).
set -eu
cd "$(dirname "$0")"
clang --target=wasm32 -O2 -nostdlib -mbulk-memory -Wall -Wextra -c -o transform.o transform.c
wasm-ld --no-entry --strip-all -o NAME.wasm transform.o
