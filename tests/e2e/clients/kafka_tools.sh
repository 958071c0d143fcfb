#!/usr/bin/env bash
# Kafka's command-line tools on varved: kafka_tools.sh BIN_DIR JARS_DIR
# The same commands (kafka_tools.txt) go to varved and to Apache Kafka, in one Java process for each. What the tools print must be
# the same, but for ids, addresses, sizes, epochs, the wording of errors, and what `mask` says.
set -euo pipefail
bin=$(cd "$1" && pwd) jars=$(cd "$2" && pwd) here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-tools.XXXXXX")
kafka= broker=
cleanup() {
  for p in $kafka $broker; do kill -9 "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() { echo "FAILED: $*" >&2; exit 1; }
java_quick() { java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$work/classes:$jars/*" "$@"; }

read -r port control ours < <(/usr/bin/python3 -c '
import socket
s = [socket.socket() for _ in range(3)]
for x in s: x.bind(("127.0.0.1", 0))
print(*(x.getsockname()[1] for x in s))')
cat >"$work/server.properties" <<P
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$control
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$control
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$work/kafka
offsets.topic.replication.factor=1
group.initial.rebalance.delay.ms=0
P
# Without the feature that makes Kafka set min.insync.replicas for all brokers by itself.
java_quick kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$work/server.properties" --feature eligible.leader.replicas.version=0 \
  >"$work/kafka.log" 2>&1 || { cat "$work/kafka.log" >&2; fail "storage format"; }
java_quick -Xmx512m kafka.Kafka "$work/server.properties" >>"$work/kafka.log" 2>&1 &
kafka=$!
"$bin/varved" --data "$work/varve" --listen "127.0.0.1:$ours" --set group.initial.rebalance.delay.ms=0 >"$work/varved.log" 2>&1 &
broker=$!
javac -cp "$jars/*" -d "$work/classes" "$here/KafkaTools.java"
echo '{"version":1,"partitions":[{"topic":"data","partition":0,"offset":4},{"topic":"one","partition":1,"offset":-1},{"topic":"one","partition":2,"offset":99}]}' >"$work/records.json"
echo '{"version":1,"partitions":[{"topic":"one","partition":0,"replicas":[1]}]}' >"$work/same.json"
for x in varve kafka; do
  mkdir "$work/$x.files"
  cp "$work"/*.json "$work/$x.files"
  echo '{"version":1,"partitions":[{"topic":"one","partition":0,"replicas":[1],"log_dirs":["'"$work/$x"'"]}]}' >"$work/$x.files/dirs.json"
done

tools() { # tools ADDRESS FILES OUTPUT: what is printed for all commands
  for _ in $(seq 120); do
    "$bin/varve" topic create data -b "$1" >/dev/null 2>&1 && break
    sleep 0.5
  done
  seq 10 | "$bin/varve" produce data -b "$1" >/dev/null || fail "records for $1"
  java_quick KafkaTools "$1" "$2" <"$here/kafka_tools.txt" >"$3" 2>"$3.err" || { cat "$3.err" >&2; fail "KafkaTools $1"; }
}
mask() {
  # Ids, addresses, folders; numbers that differ; the wording of errors: their class is compared. Kafka lists the hours behind
  # log.retention.ms in fewer, and local.retention in more places; it has more loggers, features and levels of metadata.version.
  sed -E -e 's/\b[A-Za-z0-9_-]{22}\b/ID/g; s/127\.0\.0\.1( *):?[0-9]+/ADDRESS/g' -e 's#"(/[^"]*)"#"DIR"#g' \
    -e 's/(errors\.[A-Za-z]+Exception): .*/\1/; s/^(Error while executing (topic|config) command).*/\1/' \
    -e 's/"size":[1-9][0-9]*/"size":N/g; s/(Epoch|HighWatermark): +[0-9]+/\1: N/; s/^(CurrentVoters: +..."id": 1).*/\1/' \
    -e 's/^(1 +)\tID\t.*/\1 ID/; s/SupportedMinVersion: [^ ]+ +//; s/following feature had an error.*//' \
    -e 's/(, )?DEFAULT_CONFIG:log\.(retention\.hours|roll\.hours|roll\.jitter\.hours|local\.retention\.(bytes|ms))=-?[0-9]+//' \
    -e '/time -3$/{n;s/:[0-9]+$/:NEWEST/}' -e 's#(log directory to) /[^ ]+#\1 DIR#' -e '/^Feature: metadata/!{/^Feature: /d}' -e '/LoggingController/d; s/^(  root)=[A-Z]+/\1/' \
    -e 's/^([0-9]+ *\t[0-9]+ *\t-1 *\t[0-9]+ *\t).*/producer/' "$1" | awk '/^partition: / { print | "sort"; next } { close("sort"); print; fflush() }' # in no order
}
tools "127.0.0.1:$ours" "$work/varve.files" "$work/ours"
tools "127.0.0.1:$port" "$work/kafka.files" "$work/theirs"
count=$(grep -c '^> ' "$work/ours")
[ "$count" -ge 60 ] || fail "only $count commands were run"
diff <(mask "$work/theirs") <(mask "$work/ours") >"$work/diff" || { cat "$work/diff" >&2; fail "the tools print something else (<: of Kafka)"; }

# Groups: two that have members, of both protocols, and one that the tool makes.
printf 'data,0,3\n' >"$work/one.csv"
printf '"tool","data",0,9\n"tool","one",1,0\n' >"$work/two.csv"
cp "$work"/*.csv "$work/varve.files"
cp "$work"/*.csv "$work/kafka.files"
groups() { # groups ADDRESS FILES OUTPUT
  local members=() protocol
  "$bin/varve" topic create one --partitions 5 -b "$1" >/dev/null || fail "a topic for $1"
  seq 10 | "$bin/varve" produce data -b "$1" >/dev/null 2>&1 || fail "records for $1"
  for protocol in classic consumer; do
    "$bin/varve" consume -G "live-$protocol" data --group-protocol "$protocol" -b "$1" >/dev/null 2>>"$3.members" &
    members+=($!)
  done
  for _ in $(seq 300); do
    [ "$("$bin/varve" group describe live-classic live-consumer -b "$1" 2>/dev/null | grep -c ' data .* 20  *20  *0 .*varve')" = 2 ] && break
    sleep 0.1
  done
  java_quick KafkaTools "$1" "$2" <"$here/kafka_groups.txt" >"$3" 2>"$3.err" || { cat "$3.err" "$3.members" >&2; fail "KafkaTools $1"; }
  kill "${members[@]}"
  wait "${members[@]}" || true
}
mask_groups() { # ids; widths; times. The same rows in any order within an answer
  sed -E -e 's/varve-[0-9a-f-]{36}/MEMBER/g; s/\b[A-Za-z0-9_-]{22}\b/MEMBER/g; s/127\.0\.0\.1:[0-9]+/ADDRESS/g; s/ +/ /g; s/ $//' \
    -e 's/(errors\.[A-Za-z]+Exception): .*/\1/; s/(Valid states are:).*/\1/; s/^(live-consumer .* Stable) [0-9]+ [0-9]+ 1$/\1 EPOCHS 1/' \
    -e 's/^(live-consumer MEMBER .* 1) [0-9]+ (data:0) [0-9]+ /\1 E \2 E /' "$1" | awk '/^>/ { close("sort"); print; fflush(); next } { print | "sort" }'
}
groups "127.0.0.1:$ours" "$work/varve.files" "$work/ours.groups" &
first=$!
groups "127.0.0.1:$port" "$work/kafka.files" "$work/theirs.groups"
wait $first || fail "groups"
more=$(grep -c '^> ' "$work/ours.groups")
diff <(mask_groups "$work/theirs.groups") <(mask_groups "$work/ours.groups") >"$work/diff" || { cat "$work/diff" >&2; fail "the tools print something else about groups (<: of Kafka)"; }
count=$((count + more))

# Every version that is offered is one of Kafka's.
for x in ours theirs; do
  address=127.0.0.1:$ours
  [ $x = ours ] || address=127.0.0.1:$port
  echo api-versions | java_quick KafkaTools "$address" "$work" | grep -E '^\s+[A-Z].*\([0-9]+\): [0-9]' | sed -E 's/,? *$//' | sort >"$work/versions.$x"
done
[ "$(wc -l <"$work/versions.ours")" -ge 30 ] || fail "few APIs: $(cat "$work/versions.ours")"
other=$(comm -23 "$work/versions.ours" "$work/versions.theirs")
[ -z "$other" ] || fail "versions that Kafka does not offer: $other"
echo "$count commands: the tools print the same on varved and on Kafka; $(wc -l <"$work/versions.ours") APIs at Kafka's versions"
