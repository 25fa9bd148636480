#!/usr/bin/env bash
# Installs the AWS SDK for JavaScript for the tests of internal/compat/clients, in the versions of
# js/package-lock.json there, unless it is there already.
#
#   scripts/install-js-sdk.sh [DIR]     default .bin/js-sdk; tests find another one by SHARDMILL_JS_SDK=DIR
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
from=$root/internal/compat/clients/js
dir=$(realpath -m "${1:-$root/.bin/js-sdk}")

# npm writes the hidden lock file when, and only when, everything is installed.
if cmp -s "$from/package-lock.json" "$dir/package-lock.json" && [ -f "$dir/node_modules/.package-lock.json" ]; then
  exit
fi
mkdir -p "$dir"
cp "$from/package.json" "$from/package-lock.json" "$dir/"
cd "$dir"
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
