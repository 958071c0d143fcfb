#!/usr/bin/env bash
# Kafka's dump tool on our files, ours on the same ones: kafka_dump.sh BIN_DIR JARS_DIR
# Sealed and active segments, compacted ones, every codec, idempotent producers, after a clean stop. Both tools must print
# the same bytes, and Kafka's must find nothing wrong with our indexes.
set -euo pipefail
bin=$(cd "$1" && pwd) jars=$(cd "$2" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-kafka-dump.XXXXXX")
broker=
cleanup() {
  if [ -n "$broker" ]; then kill -9 "$broker" 2>/dev/null || true; fi
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
kafka_dump() { java -cp "$jars/*" org.apache.kafka.tools.DumpLogSegments "$@" 2>"$work/java.err" || { cat "$work/java.err" >&2; fail "DumpLogSegments $*"; }; }

port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$bin/varved" --data "$work/data" --listen "127.0.0.1:$port" --set log.cleaner.backoff.ms=100 >"$work/log" 2>&1 &
broker=$!
for _ in $(seq 100); do
  "$bin/varve" topic list -b "127.0.0.1:$port" >/dev/null 2>&1 && break
  kill -0 "$broker" 2>/dev/null || { cat "$work/log" >&2; fail "varved does not start"; }
  sleep 0.1
done
for codec in none gzip snappy lz4 zstd; do
  "$bin/varve" topic create "$codec" -b "127.0.0.1:$port" --config segment.bytes=1048576 >/dev/null
  # Noise, so that the codecs leave enough for several segments; small batches, so that the indexes have entries.
  /usr/bin/python3 -c '
import random
random.seed(1)
for i in range(20000): print(f"key{i % 100}:{i} " + "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=220)))' |
    kcat -b "127.0.0.1:$port" -P -t "$codec" -z "$codec" -K : -H one=1 -H two=2 -X enable.idempotence=true -X batch.num.messages=200
done
for codec in none gzip snappy lz4 zstd; do
  "$bin/varve" topic create "compacted-$codec" -b "127.0.0.1:$port" --config segment.bytes=1048576 --config cleanup.policy=compact \
    --config min.cleanable.dirty.ratio=0.1 >/dev/null
  # Few keys that come often, many that come seldom, and tombstones.
  /usr/bin/python3 -c '
import random
random.seed(2)
for i in range(12000): print(f"key{int(random.expovariate(0.01))}:" + ("" if i % 17 == 0 else f"{i} " + "".join(random.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=220))))' |
    kcat -b "127.0.0.1:$port" -P -t "compacted-$codec" -z "$codec" -K : -Z -H one=1 -X enable.idempotence=true -X batch.num.messages=200
  for _ in $(seq 100); do
    grep -q "compacted-$codec-0: compacted" "$work/log" && break
    sleep 0.1
  done
  grep -q "compacted-$codec-0: compacted" "$work/log" || fail "compacted-$codec was not compacted"
done
kill "$broker"
wait "$broker" || fail "varved did not stop cleanly: $?"
broker=

"$bin/varve" dump --verify "$work/data" || fail "our own verification"
count=0
for codec in {,compacted-}{none,gzip,snappy,lz4,zstd}; do
  mapfile -t files < <(find "$work/data/$codec-0" -name '*.log' -o -name '*.index' -o -name '*.timeindex' -o -name '*.snapshot' | sort)
  segments=$(printf '%s\n' "${files[@]}" | grep -c '\.log$')
  [ "$segments" -ge 2 ] || fail "$codec: $segments segments, none of them sealed"
  list=$(IFS=,; echo "${files[*]}")
  for options in "" "--print-data-log"; do
    # Kafka ends lines of snapshots without a batch, and the summary of bad indexes, in its own way: nothing else may differ.
    # shellcheck disable=SC2086
    kafka_dump --files "$list" $options | sed 's/ *$//' >"$work/kafka"
    "$bin/varve" dump ${options:+--records} "${files[@]}" | sed 's/ *$//' >"$work/ours"
    cmp "$work/kafka" "$work/ours" || { diff "$work/kafka" "$work/ours" | head -n 6 | cut -c1-300 >&2; fail "$codec $options: the outputs differ"; }
  done
  kafka_dump --files "$list" --index-sanity-check >"$work/sanity"
  if grep -E 'Mismatches|Found |not found|Non-consecutive|error' "$work/sanity" "$work/java.err" >&2; then fail "$codec: Kafka finds our indexes wrong"; fi
  count=$((count + ${#files[@]}))
done
echo "$count files: Kafka's tool and ours print the same"
