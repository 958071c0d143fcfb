#!/usr/bin/env bash
# Our CLI, and with it libvarve, against Apache Kafka: kafka_peer.sh BIN_DIR JARS_DIR
# One broker with KRaft on loopback. Topics, configs, every codec there and back, a restart of the
# broker in mid-stream, and our dump tool on Kafka's own files. Exits 0 when all of it holds.
set -euo pipefail
bin=$(cd "$1" && pwd) jars=$(cd "$2" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-peer.XXXXXX")
kafka=
cleanup() {
  if [ -n "$kafka" ]; then kill -9 "$kafka" 2>/dev/null || true; fi
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() { echo "FAILED: $*" >&2; tail -n 20 "$work/kafka.log" >&2; exit 1; }

read -r port control < <(/usr/bin/python3 -c '
import socket
a, b = socket.socket(), socket.socket()
a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0))
print(a.getsockname()[1], b.getsockname()[1])')
cat >"$work/server.properties" <<X
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$control
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$control
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$work/logs
num.partitions=2
offsets.topic.replication.factor=1
X
java -cp "$jars/*" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$work/server.properties" >"$work/kafka.log" 2>&1 || fail "storage format"

varve() { "$bin/varve" "$@" -b "127.0.0.1:$port"; }
start() {
  java -Xmx512m -cp "$jars/*" kafka.Kafka "$work/server.properties" >>"$work/kafka.log" 2>&1 &
  kafka=$!
  for _ in $(seq 120); do
    if varve cluster describe >"$work/cluster" 2>/dev/null; then return; fi
    kill -0 "$kafka" 2>/dev/null || fail "Kafka does not start"
    sleep 0.5
  done
  fail "Kafka does not answer"
}
start
cat "$work/cluster"

# Topics and configs.
varve topic create t --partitions 3 --config retention.ms=3600000
varve topic describe t | tee "$work/t" | grep -q 'config retention.ms=3600000' || fail "config at creation"
varve topic alter t --config max.message.bytes=2000000
varve topic alter t --partitions 5
varve topic describe t >"$work/t"
grep -q 'partitions 5' "$work/t" || fail "more partitions"
grep -q 'config max.message.bytes=2000000' "$work/t" || fail "changed config"
if varve topic create t >/dev/null 2>"$work/err"; then fail "a topic twice"; fi
grep -q TOPIC_ALREADY_EXISTS "$work/err" || fail "no reason given: $(cat "$work/err")"
varve topic delete t
if varve topic list | grep -q '^t '; then fail "deleted topic is listed"; fi

# Every codec there and back, in order.
seq 1 100000 | sed 's/$/ the quick brown fox jumps over the lazy dog/' >"$work/in"
for codec in none gzip snappy lz4 zstd; do
  varve topic create "z-$codec" --partitions 1 >/dev/null
  varve produce "z-$codec" -z "$codec" <"$work/in" >/dev/null
  varve consume "z-$codec" -o beginning -e >"$work/out"
  cmp "$work/in" "$work/out" || fail "$codec"
  echo "codec $codec: 100000 lines there and back"
done

# Keys choose partitions; the sum over all of them is complete.
varve topic create keyed --partitions 4 >/dev/null
sed 's/ /:/' "$work/in" | varve produce keyed -k : >/dev/null
varve consume keyed -o beginning -e -f '%k %s\n' | sort -n >"$work/out"
cmp "$work/in" "$work/out" || fail "keys"
echo "keys: 100000 lines over 4 partitions"

# Kafka dies while we send, and comes back: nothing lost, nothing twice (idempotent).
varve topic create crash --partitions 2 >/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do cat "$work/in"; done >"$work/long"
varve produce crash <"$work/long" >"$work/sent" 2>&1 &
producer=$!
for _ in $(seq 200); do # some of it is there
  if [ "$(varve topic describe crash 2>/dev/null | awk '$1 ~ /^[0-9]+$/ { n += $7 } END { print n + 0 }')" -gt 0 ]; then break; fi
done
kill -9 "$kafka"; wait "$kafka" 2>/dev/null || true
kill -0 "$producer" 2>/dev/null || fail "all was sent before the restart"
start
wait "$producer" || fail "producing over a restart: $(cat "$work/sent")"
varve consume crash -o beginning -e | sort >"$work/out"
sort "$work/long" | cmp - "$work/out" || fail "lost or doubled over a restart"
echo "restart: 1000000 lines, each once"

# Our dump tool agrees with Kafka's files.
kill "$kafka"; wait "$kafka" 2>/dev/null || true
kafka=
for dir in "$work"/logs/z-*-0 "$work"/logs/crash-*; do
  "$bin/varve" dump --verify "$dir" >"$work/dump" 2>&1 || { tail -n 5 "$work/dump"; fail "dump --verify $dir"; }
done
echo "dump: Kafka's own files verify"
