#!/usr/bin/env bash
# Runs the tour of README.md as a reader would paste it, in a copy of the tree, and checks that it
# ends with the transformed record.
set -euo pipefail
cd "$(dirname "$0")/.."
block=$(awk '/check-readme.sh runs the next block/ {seen=1; next} seen && /^```sh/ {on=1; next} on && /^```/ {exit} on' README.md)
[ -n "$block" ] || { echo 'README.md has no tour' >&2; exit 1; }
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
git ls-files -z | xargs -0 cp --parents -t "$dir"
cd "$dir"
printf '%s\n' "$block" 'kill %1; wait %1' > tour.sh
bash -e tour.sh | tee out
grep -q '"severity": "micro"}' out
