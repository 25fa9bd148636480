#!/usr/bin/env bash
# Installs what the tests need beyond Go, each only if it is missing. Debian, as root.
#   clang, wasm-ld  build the C guest and compare it with the one that is kept
#   aws, boto3      the AWS CLI and the Python SDK, which the compatibility tests run
#   curl            a shell bootstrap of the Runtime API tests
#   npm packages    the AWS SDK for JavaScript (install-js-sdk.sh)
#   java, mvn       the AWS SDK for Java (install-java-sdk.sh) and the client of Java handlers (install-java-ric.sh)
#   Rust, Zig, asc  the compilers of the guests (install-sdks.sh)
#   staticcheck     into .bin
set -euo pipefail
cd "$(dirname "$0")/.."

staticcheck_version=v0.8.2
awscli_version=1.45.11
boto3_version=1.43.11

missing=()
command -v clang   >/dev/null || missing+=(clang)
command -v wasm-ld >/dev/null || missing+=(lld)
command -v curl    >/dev/null || missing+=(curl)
command -v python3 >/dev/null || missing+=(python3 python3-pip)
command -v node    >/dev/null || missing+=(nodejs npm)
command -v javac   >/dev/null || missing+=(default-jdk-headless)
command -v mvn     >/dev/null || missing+=(maven)
if ((${#missing[@]})); then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}"
fi
if ! command -v aws >/dev/null || ! python3 -c 'import boto3' 2>/dev/null; then
  python3 -m pip install -q "awscli==$awscli_version" "boto3==$boto3_version"
fi
scripts/install-js-sdk.sh
scripts/install-java-sdk.sh
scripts/install-sdks.sh
scripts/install-java-ric.sh
if ! .bin/staticcheck -version 2>/dev/null | grep -q "$staticcheck_version\|${staticcheck_version#v}"; then
  GOBIN="$PWD/.bin" go install "honnef.co/go/tools/cmd/staticcheck@$staticcheck_version"
fi
