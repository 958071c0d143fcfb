# What demo.sh and demo_cluster.sh share: building, ports, real input. To be sourced from the top folder.
# shellcheck shell=bash disable=SC2154

say() { printf '\n\033[1m%s\033[0m\n' "$*" | if [ -t 1 ]; then cat; else sed 's/\x1b\[[0-9]*m//g'; fi; }

# Installs what is missing and builds; the binaries lie in $bin afterwards. Output of the build goes to $work.
build() {
  tools/deps.sh
  { cmake --preset release && cmake --build --preset release -j "$(nproc)" --target varved varve; } >"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log" >&2; exit 1; }
  bin=$PWD/build/bin
  ls -l "$bin/varved" "$bin/varve" | awk '{printf "%s  %.1f MB\n", $NF, $5 / 1e6}'
}

free_port() { # a loopback port that nothing listens on
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# $lines lines of the package manager's log, and the copyright texts of the packages for the rest, into $1.
real_input() {
  cat /var/log/dpkg.log /usr/share/doc/*/copyright 2>/dev/null | LC_ALL=C tr -d '\000\r' >"$work/found" || true
  [ -s "$work/found" ] || { echo "no input found in /var/log/dpkg.log and /usr/share/doc" >&2; exit 1; }
  : >"$work/enough"
  while [ "$(wc -l <"$work/enough")" -lt "$lines" ]; do cat "$work/found" >>"$work/enough"; done
  head -n "$lines" "$work/enough" >"$1"
}

paced() { LC_ALL=C awk -v step="$2" '{print} NR % step == 0 {fflush(); system("sleep 0.1")}' "$1"; }
