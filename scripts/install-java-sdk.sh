#!/usr/bin/env bash
# Installs the AWS SDK for Java 2 for the tests of internal/compat/clients, in the versions of
# java/pom.xml there, unless it is there already. Needs mvn, which fetches it from Maven Central.
# Every file has to have the checksum of java/jars.sha256.
#
#   scripts/install-java-sdk.sh [DIR]     default .bin/java-sdk; tests find another one by SHARDMILL_JAVA_SDK=DIR
#
# After a change of java/pom.xml: scripts/install-java-sdk.sh --update, which writes java/jars.sha256 anew.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
from=$root/internal/compat/clients/java
update=
[ "${1:-}" != --update ] || { update=yes; shift; }
dir=$(realpath -m "${1:-$root/.bin/java-sdk}")
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

# The list of checksums is copied last, when everything is installed and checked.
if [ -z "$update" ] && cmp -s "$from/jars.sha256" "$dir/jars.sha256"; then
  exit
fi
mkdir -p "$dir"
rm -f "$dir"/*.jar "$dir/jars.sha256"
mvn --quiet --batch-mode -Dstyle.color=never --file "$from/pom.xml" "$plugin:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$dir"
cd "$dir"
if [ -n "$update" ]; then
  LC_ALL=C sha256sum ./*.jar >"$from/jars.sha256"
fi
sha256sum --check --strict --quiet "$from/jars.sha256"
if [ "$(ls | wc -l)" != "$(wc -l <"$from/jars.sha256")" ]; then
  echo "$dir holds files that $from/jars.sha256 does not list" >&2
  exit 1
fi
cp "$from/jars.sha256" .
