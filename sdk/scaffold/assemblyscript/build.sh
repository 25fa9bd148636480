#!/bin/sh
# Needs Node.js. Takes asc from the PATH, or else installs it here.
set -eu
cd "$(dirname "$0")"
if command -v asc >/dev/null; then
  asc transform.ts -o NAME.wasm -O3 --runtime incremental
else
  [ -d node_modules ] || npm install --no-audit --no-fund
  npm run build
fi
