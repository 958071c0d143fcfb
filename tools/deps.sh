#!/usr/bin/env bash
# Installs the Debian packages that are missing: what the build and the demo need, with --tests
# also what the tests need, with --clients also what fetches the clients of other registries.
# Quiet when there is nothing to do. Uses sudo when not root.
set -euo pipefail

packages=(gcc libc6-dev cmake ninja-build pkg-config liburing-dev libisal-dev libzstd-dev liblz4-dev
  libsnappy-dev libdeflate-dev libxxhash-dev libpcre2-dev libprotobuf-c-dev protobuf-c-compiler libjansson-dev
  uthash-dev kcat procps)
for arg in "$@"; do
  case $arg in
    --tests) packages+=(check ccache librdkafka-dev clang libclang-rt-dev python3 python3-confluent-kafka util-linux e2fsprogs valgrind) ;;
    --clients) packages+=(python3-venv nodejs npm default-jdk-headless maven) ;;
    *) echo "usage: tools/deps.sh [--tests] [--clients]" >&2; exit 2 ;;
  esac
done

have() { # a package, or for the tools that machines often bring themselves, the command
  case $1 in
    nodejs) command -v node >/dev/null && return ;;
    npm) command -v npm >/dev/null && return ;;
    maven) command -v mvn >/dev/null && return ;;
    default-jdk-headless) command -v javac >/dev/null && return ;;
  esac
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}
missing=()
for package in "${packages[@]}"; do have "$package" || missing+=("$package"); done
[ ${#missing[@]} -eq 0 ] && exit 0

run=()
if [ "$(id -u)" != 0 ]; then
  command -v sudo >/dev/null || { echo "deps.sh: not root and no sudo; please install: ${missing[*]}" >&2; exit 1; }
  run=(sudo)
fi
echo "installing Debian packages: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
  "${run[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends install "${missing[@]}" </dev/null >"$log" 2>&1
}
"${run[@]}" apt-get -qq update </dev/null >"$log" 2>&1 || { cat "$log" >&2; echo "deps.sh: apt-get update failed; trying with the lists that are there" >&2; }
install || { cat "$log" >&2; echo "deps.sh: could not install ${missing[*]}" >&2; exit 1; }
