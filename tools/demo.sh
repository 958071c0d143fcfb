#!/usr/bin/env bash
# Shows Varve at work, set-up included: installs what is missing, builds, streams real log lines
# through a broker with kcat and varve, kills the broker with -9 while they send, and counts.
#
#   tools/demo.sh [--lines N]            at least N lines, 200,000 by default
#   tools/demo.sh --cluster [--lines N]  three brokers instead: tools/demo_cluster.sh
#
# Everything lives in a temporary folder and on free loopback ports; at the end nothing runs and
# nothing is left but the build folder. Exit 1 if one acknowledged line is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
lines=200000 cluster=no
while [ $# -gt 0 ]; do
  case $1 in
    --lines) lines=${2:?--lines needs a number}; shift 2 ;;
    --cluster) cluster=yes; shift ;;
    *) echo "usage: tools/demo.sh [--cluster] [--lines N]" >&2; exit 2 ;;
  esac
done
[ $cluster = no ] || exec tools/demo_cluster.sh "$lines"

. tools/demo_lib.sh

at=none broker=
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-demo.XXXXXX")
cleanup() {
  pkill -P $$ 2>/dev/null || true # the producers' subshells
  pkill -f -- "-b $at" 2>/dev/null || true
  [ -z "$broker" ] || kill -9 "$broker" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

say "1. Packages and build"
build

port=$(free_port)
at=127.0.0.1:$port
start_broker() {
  "$bin/varved" --data "$work/data" --listen "$at" >>"$work/varved.log" 2>&1 &
  broker=$!
  disown "$broker"
  until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
    kill -0 "$broker" 2>/dev/null || { cat "$work/varved.log" >&2; exit 1; }
    sleep 0.02
  done
}

say "2. One broker, no configuration but a folder and a port"
start_broker
cat "$work/varved.log"

echo "a topic, and two members of a group that will read it:"
"$bin/varve" topic create lines --partitions 3 -b "$at"
member() { "$bin/varve" consume lines -G readers --group-protocol classic --session-timeout 6000 -b "$at" >"$work/member.$1" 2>"$work/member.$1.err" & }
group() { "$bin/varve" group describe readers -b "$at"; }
member 1; member_1=$!
member 2; member_2=$!
disown "$member_1" "$member_2"

say "3. Real input"
input=$work/input
real_input "$input"
LC_ALL=C awk -v d="$work" '{ f = NR % 2 ? "kcat" : "varve"; n[f]++; print f, n[f], $0 >(d "/sent." f) }' "$input"
echo "$(wc -l <"$input") lines of /var/log/dpkg.log and /usr/share/doc/*/copyright, $(du -h "$input" | cut -f1)"

say "4. kcat and varve stream them, two members of a group read along; the broker is killed with -9 twice, and a member, too"
until "$bin/varve" group members readers -b "$at" 2>/dev/null | awk '$1 == "readers" && $6 > 0 { n++ } END { exit n != 2 }'; do sleep 0.1; done # a new group waits 3 seconds for more members
# kcat gives up when its only broker dies, so a script sends in parts and a part again when kcat
# fails: lines may arrive twice then, which is kcat's choice; varve keeps trying and sends each once.
split -n l/8 -a 1 --numeric-suffixes "$work/sent.kcat" "$work/part."
kcat_stream() {
  local part
  for part in "$work"/part.*; do
    until paced "$part" $((lines / 160 + 1)) | kcat -b "$at" -P -t lines -z lz4 -X enable.idempotence=true -X log_level=2 2>>"$work/kcat.err"; do
      echo again >>"$work/kcat.again"
      sleep 0.1
    done
  done
}
kcat_stream &
kcat_job=$!
paced "$work/sent.varve" $((lines / 160 + 1)) | "$bin/varve" produce lines -z zstd -b "$at" 2>"$work/varve.err" &
varve_job=$!
for round in 1 2; do
  sleep 2.5
  kill -0 "$kcat_job" 2>/dev/null && kill -0 "$varve_job" 2>/dev/null || { echo "the producers ended before kill $round" >&2; cat "$work"/*.err >&2; exit 1; }
  if [ "$round" = 2 ]; then group; fi # what member 2 had lies there until its session is over
  kill -9 "$broker"
  while kill -0 "$broker" 2>/dev/null; do sleep 0.01; done
  echo "kill $round: kill -9 $broker while both send; starting it again"
  : >"$work/varved.log"
  start_broker
  grep 'recovery:' "$work/varved.log" || true
  if [ "$round" = 1 ]; then
    kill -9 "$member_2"
    echo "and kill -9 $member_2, member 2 of the group; what it had waits, as LAG shows:"
  fi
done
wait "$kcat_job" || { echo "kcat failed" >&2; cat "$work/kcat.err" >&2; exit 1; }
wait "$varve_job" || { echo "varve produce gave up" >&2; cat "$work/varve.err" >&2; exit 1; }
echo "kcat: every part acknowledged, $(wc -l <"$work/kcat.again" 2>/dev/null || echo 0) of 8 sent again after a kill"
echo "varve: $(tail -n 1 "$work/varve.err")"

say "5. What was acknowledged, against what can be read"
kcat -b "$at" -C -t lines -e -q >"$work/read.kcat"
"$bin/varve" consume lines -o beginning -e -b "$at" >"$work/read.varve" 2>/dev/null
LC_ALL=C sort "$work/sent.kcat" "$work/sent.varve" >"$work/acknowledged"
LC_ALL=C sort "$work/read.kcat" >"$work/read.all"
LC_ALL=C sort "$work/read.varve" | cmp -s - "$work/read.all" || { echo "kcat and varve read different lines" >&2; exit 1; }
LC_ALL=C uniq "$work/read.all" >"$work/read.sorted"
twice=$(($(wc -l <"$work/read.all") - $(wc -l <"$work/read.sorted")))
echo "kcat and varve read the same $(wc -l <"$work/read.all") records, $twice of them lines that kcat sent again"
if LC_ALL=C uniq -d "$work/read.all" | grep -q '^varve '; then
  echo "varve's idempotent producer left duplicates" >&2
  exit 1
fi
acknowledged=$(wc -l <"$work/acknowledged")
read_lines=$(wc -l <"$work/read.sorted")
lost=$(LC_ALL=C comm -23 "$work/acknowledged" "$work/read.sorted" | wc -l)
extra=$(LC_ALL=C comm -13 "$work/acknowledged" "$work/read.sorted" | wc -l)

say "6. The group: who is left has taken over"
for _ in $(seq 200); do
  group >"$work/group" 2>/dev/null || true
  awk '$1 == "readers" { rows++; behind += $6 != "0"; n[$7]++ } END { exit rows != 3 || behind || length(n) != 1 || "-" in n }' "$work/group" && break
  sleep 0.1
done
cat "$work/group"
grep rebalanced "$work/member.1.err" | cut -c1-150
kill -TERM "$member_1"
while kill -0 "$member_1" 2>/dev/null; do sleep 0.05; done
missed=$(LC_ALL=C sort -u "$work/member.1" "$work/member.2" | LC_ALL=C comm -23 "$work/acknowledged" - | wc -l)
echo "the two members have read $(cat "$work/member.1" "$work/member.2" | wc -l) records; of $acknowledged acknowledged lines they missed $missed"
[ "$missed" = 0 ] || exit 1

say "7. What lies on disk"
segment=$work/data/lines-0/00000000000000000000.log
kill -TERM "$broker"
while kill -0 "$broker" 2>/dev/null; do sleep 0.05; done
broker=
"$bin/varve" dump "$segment" | cut -c1-360 | head -n 4 || true
"$bin/varve" dump --records "$segment" | grep '^|' | head -n 3 | cut -c1-160 || true
"$bin/varve" dump --verify "$work/data" && echo "verified: every batch, index and digest"

say "$acknowledged acknowledged, $read_lines read, $lost lost"
if [ "$lost" != 0 ] || [ "$extra" != 0 ] || [ "$read_lines" != "$acknowledged" ]; then
  echo "lost $lost, unexpected $extra" >&2
  exit 1
fi
