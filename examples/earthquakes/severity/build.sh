#!/bin/sh
# Builds severity.wasm beside this script, or at the path given. Needs clang with the wasm32
# target and wasm-ld (Debian: clang lld).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
clang --target=wasm32 -O2 -nostdlib -mbulk-memory -Wall -Wextra -Werror \
	-I "$here/../../../sdk/c" \
	-Wl,--no-entry,--strip-all,-z,stack-size=8192 \
	-o "${1:-$here/severity.wasm}" "$here/severity.c"
chmod 644 "${1:-$here/severity.wasm}"
