#!/usr/bin/env bash
# Installs the runtime interface client for Java, which the tests of Java handlers run, with what it
# needs, in the version of runtime/lambda/testdata/java/pom.xml, unless it is there already. Needs
# mvn, which fetches it from Maven Central.
#
#   scripts/install-java-ric.sh [DIR]     default .bin/java-ric; tests find another one by SHARDMILL_JAVA_RIC=DIR
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
from=$root/runtime/lambda/testdata/java
dir=$(realpath -m "${1:-$root/.bin/java-ric}")
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1

# The description is copied last, when everything is installed and checked.
if cmp -s "$from/pom.xml" "$dir/pom.xml"; then
  exit
fi
mkdir -p "$dir"
rm -f "$dir"/*.jar "$dir/pom.xml"
mvn --quiet --batch-mode -Dstyle.color=never --file "$from/pom.xml" "$plugin:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$dir"
(cd "$dir" && sha256sum --check --strict --quiet "$from/jars.sha256")
cp "$from/pom.xml" "$dir/"
