#!/bin/sh
# Needs the Go toolchain. "shardmill plugin build . -o NAME.wasm" does the same.
set -eu
cd "$(dirname "$0")"
GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags="-s -w" -o NAME.wasm .
