#!/usr/bin/env bash
# tools/demo.sh --cluster: three brokers, a replicated topic, real log lines streamed into it by kcat and varve; leaders are killed
# with -9 in mid-stream. Shows how long nothing was acknowledged, and counts.
#
#   tools/demo_cluster.sh [N]     N lines, 200,000 by default
#
# Everything lives in a temporary folder and on free loopback ports; at the end nothing runs and nothing is left but the build folder.
# Exit 1 if one acknowledged line is missing or there twice, or if the stream paused for more than a second.
set -euo pipefail
cd "$(dirname "$0")/.."
lines=${1:-200000}
. tools/demo_lib.sh

declare -A pid=()
jobs_of_ours=()
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-demo.XXXXXX")
cleanup() {
  local p
  for p in "${jobs_of_ours[@]}"; do pkill -P "$p" 2>/dev/null || true; kill "$p" 2>/dev/null || true; done
  for p in "${pid[@]}"; do kill -9 "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
now_ms() { local t=$EPOCHREALTIME; t=${t/[.,]/}; echo $((10#$t / 1000)); }

say "1. Packages and build"
build

say "2. Three brokers on empty folders: no format step, they find each other"
client=() peer=() voters= at=
for n in 1 2 3; do
  client[n]=$(free_port)
  peer[n]=$(free_port)
  voters+=${voters:+,}$n@127.0.0.1:${peer[n]}
  at+=${at:+,}127.0.0.1:${client[n]}
done
start_broker() { # start_broker N
  "$bin/varved" --data "$work/data.$1" --listen "127.0.0.1:${client[$1]}" --node-id "$1" --set "controller.quorum.voters=$voters" >>"$work/varved.$1" 2>&1 &
  pid[$1]=$!
  disown "${pid[$1]}"
}
echo "varved --node-id N --data DATA --listen 127.0.0.1:PORT --set controller.quorum.voters=$voters"
for n in 1 2 3; do start_broker $n; done
cluster() { local what=$1; shift; "$bin/varve" cluster "$what" "$@" -b "$at"; }
wait_for() { # wait_for SECONDS WHAT COMMAND...
  local end=$(($(now_ms) + $1 * 1000)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ "$(now_ms)" -lt "$end" ] || { echo "waited in vain for $what" >&2; tail -n 20 "$work"/varved.* >&2; exit 1; }
    sleep 0.05
  done
}
three_up() { [ "$(cluster nodes 2>/dev/null | grep -c ' up ')" = 3 ] && cluster status >/dev/null; }
wait_for 30 "three brokers" three_up
cluster nodes
"$bin/varve" topic create lines --partitions 3 --replication-factor 3 --config min.insync.replicas=2 -b "$at"
wait_for 30 "the topic" cluster status
cluster partitions lines

say "3. Real input"
real_input "$work/input"
LC_ALL=C awk -v d="$work" '{ f = NR % 2 ? "kcat" : "varve"; n[f]++; print f, n[f], $0 >(d "/sent." f) }' "$work/input"
echo "$(wc -l <"$work/input") lines of /var/log/dpkg.log and /usr/share/doc/*/copyright, $(du -h "$work/input" | cut -f1)"

say "4. kcat and varve stream them; two leaders are killed with -9 in the middle"
step=$((lines / 320 + 1)) # of each half in 0.1 s: 16 seconds
(set +e; paced "$work/sent.kcat" $step | kcat -b "$at" -P -t lines -z lz4 -X enable.idempotence=true -X log_level=2 2>"$work/kcat.err"; echo $? >"$work/kcat.code") &
kcat_job=$!
(set +e; LC_ALL=C awk '{ print $2 ":" $0 }' "$work/sent.varve" >"$work/keyed"; paced "$work/keyed" $step | "$bin/varve" produce lines -k : -z zstd --report -b "$at" >"$work/acks" 2>"$work/varve.err"; echo $? >"$work/varve.code") &
varve_job=$!
jobs_of_ours+=("$kcat_job" "$varve_job")
leader() { cluster partitions "lines:$1" --json 2>/dev/null | sed -n 's/.*"leader":\(-\?[0-9]*\).*/\1/p'; }
pauses=()
killing() { # killing PARTITION: its leader dies; what the producer saw is told
  local victim at_ms
  sleep 3
  kill -0 "$kcat_job" 2>/dev/null && kill -0 "$varve_job" 2>/dev/null || { echo "the producers ended before the kill" >&2; cat "$work"/*.err >&2; exit 1; }
  victim=$(leader "$1")
  echo "node $victim leads lines-$1, with $(wc -l <"$work/acks") lines of varve acknowledged: kill -9 ${pid[$victim]}"
  at_ms=$(now_ms)
  kill -9 "${pid[$victim]}"
  sleep 2
  # The longest silence after the kill, in each partition.
  awk -v at="$at_ms" '{ p = $2; b = p in last && last[p] > at ? last[p] : at
                        if ($4 > at && p in last && $4 - b > longest[p]) longest[p] = $4 - b
                        last[p] = $4 }
       END { for (p in longest) print p, longest[p] }' "$work/acks" | sort -n >"$work/pauses"
  awk -v w="$1" '{ printf "partition %d: nothing was acknowledged for %d ms%s\n", $1, $2, $1 == w ? "; its leader was killed" : "" }' "$work/pauses"
  awk 'NF == 2 { n++ } $2 > 1000 { bad = 1 } END { exit bad || n != 3 }' "$work/pauses" || { echo "the stream did not go on within a second" >&2; exit 1; }
  pauses+=("$(awk -v w="$1" '$1 == w { print $2 }' "$work/pauses")")
  cluster status || true
  cluster explain "lines-$1" || true
  start_broker "$victim"
  wait_for 60 "node $victim in sync again" cluster status
  echo "node $victim was started again and has caught up:"
  cluster partitions lines
}
killing 0
killing 1
wait "$kcat_job" "$varve_job" || true
[ "$(cat "$work/kcat.code")" = 0 ] || { echo "kcat failed" >&2; cat "$work/kcat.err" >&2; exit 1; }
[ "$(cat "$work/varve.code")" = 0 ] || { echo "varve produce gave up" >&2; cat "$work/varve.err" >&2; exit 1; }
echo "kcat: every line acknowledged"
echo "varve: $(tail -n 1 "$work/varve.err")"

say "5. What was acknowledged, against what can be read"
kcat -b "$at" -C -t lines -e -q >"$work/read.kcat"
"$bin/varve" consume lines -o beginning -e -b "$at" >"$work/read.varve" 2>/dev/null
LC_ALL=C sort "$work/sent.kcat" "$work/sent.varve" >"$work/acknowledged"
LC_ALL=C sort "$work/read.kcat" >"$work/read.sorted"
LC_ALL=C sort "$work/read.varve" | cmp -s - "$work/read.sorted" || { echo "kcat and varve read different lines" >&2; exit 1; }
acknowledged=$(wc -l <"$work/acknowledged")
read_lines=$(wc -l <"$work/read.sorted")
lost=$(LC_ALL=C comm -23 "$work/acknowledged" "$work/read.sorted" | wc -l)
twice=$(LC_ALL=C comm -13 "$work/acknowledged" "$work/read.sorted" | wc -l)
echo "kcat and varve read the same $read_lines records; both send with idempotence, so each line is there once"

say "6. The three copies"
for n in 1 2 3; do kill -TERM "${pid[$n]}"; done
for n in 1 2 3; do while kill -0 "${pid[$n]}" 2>/dev/null; do sleep 0.05; done; done
pid=()
"$bin/varve" dump --compare "$work/data.1" "$work/data.2" | grep '^lines'
"$bin/varve" dump --compare "$work/data.1" "$work/data.3" | grep '^lines'
for n in 1 2 3; do "$bin/varve" dump --verify "$work/data.$n"; done

say "$acknowledged acknowledged, $read_lines read, $lost lost, $twice twice; leaders killed: the stream paused for ${pauses[0]} and ${pauses[1]} ms"
if [ "$lost" != 0 ] || [ "$twice" != 0 ] || [ "$read_lines" != "$acknowledged" ]; then
  echo "lost $lost, there twice $twice" >&2
  exit 1
fi
