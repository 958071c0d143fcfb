#!/usr/bin/env bash
# run.sh - two brokers under the same load, in turn: A B B A. See README.md here.
#
#   run.sh BUILD                        one build, its figures alone
#   run.sh BUILD BUILD2                 two builds of varved
#   run.sh BUILD floor                  varved and the least that a durable broker must do (floor.c); floor-copy: that writes everything twice
#   run.sh BUILD kafka:JARS             varved and Apache Kafka (KRaft, one node) from a folder of its jars
#   run.sh BUILD kafka-flush:JARS       ... that syncs before it acknowledges (log.flush.interval.messages=1)
#
# PAIRS=3 rounds of A B B A; SCALE=1 multiplies the seconds; WORKLOADS as in the table below;
# VARVED_ARGS, VARVED_ARGS2 more arguments for the brokers. Data goes to $TMPDIR, which should be on the disk to be measured.
set -euo pipefail
[ $# -ge 1 ] || { sed -n 's/^# \{0,1\}//;2,13p' "$0"; exit 2; }
bin=$(cd "$1" && pwd)/bin
specs=("$@") pairs=${PAIRS:-3} scale=${SCALE:-1}
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-bench.XXXXXX")
declare -A pid port
cleanup() {
  for p in "${pid[@]}"; do kill -9 "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
fail() { echo "run.sh: $*" >&2; exit 1; }

# name: connections, requests in flight on each, batch bytes, seconds, partitions;
# names that begin with "read": connections, -, bytes of one fetch, seconds, how many of the newest records
workloads=${WORKLOADS:-"1k:64:1:1024:3:1 1k-100:64:1:1024:3:100 16k:16:4:16384:3:1 64k:8:2:65536:3:1 512k:4:2:524288:3:1 read:4:-:1048576:3:100000"}

free_ports() {
  /usr/bin/python3 -c '
import socket
s = [socket.socket() for _ in range(2)]
for x in s: x.bind(("127.0.0.1", 0))
print(*(x.getsockname()[1] for x in s))'
}
now_ms() { date +%s%3N; }
varve() { "$bin/varve" "$@"; }
rss_mb() { awk '/^VmRSS/ { printf "%.1f", $2 / 1024 }' "/proc/$1/status"; }

start_varved() { # variant, build, arguments
  "$2/bin/varved" --data "$work/$1-data" --listen "127.0.0.1:${port[$1]}" ${3:-} >"$work/$1.log" 2>&1 &
  pid[$1]=$!
}
start_kafka() { # variant, jars, control port, more lines
  cat >"$work/$1.properties" <<X
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$3
listeners=PLAINTEXT://127.0.0.1:${port[$1]},CONTROLLER://127.0.0.1:$3
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$work/$1-data
offsets.topic.replication.factor=1
message.max.bytes=2000000
$4
X
  java -cp "$2/*" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$work/$1.properties" >"$work/$1.log" 2>&1 || fail "storage format"
  begin=$(now_ms)
  # What Kafka's own start script sets.
  java -Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -Djava.awt.headless=true \
    -cp "$2/*" kafka.Kafka "$work/$1.properties" >>"$work/$1.log" 2>&1 &
  pid[$1]=$!
}
start_floor() { # variant, "copy" or nothing
  mkdir -p "$work/$1-data"
  "$bin/floor" "$work/$1-data" "${port[$1]}" $2 >"$work/$1.log" 2>&1 &
  pid[$1]=$!
}
start() { # variant, spec, arguments
  read -r "port[$1]" control < <(free_ports)
  begin=$(now_ms)
  case $2 in
  floor) start_floor "$1" "" ;;
  floor-copy) start_floor "$1" copy ;;
  kafka:*) start_kafka "$1" "${2#*:}" "$control" "" ;;
  kafka-flush:*) start_kafka "$1" "${2#*:}" "$control" "log.flush.interval.messages=1" ;;
  *) start_varved "$1" "$(cd "$2" && pwd)" "${3:-}" ;;
  esac
  case $2 in floor*)
    until varve bench produce one --count 1 -b "127.0.0.1:${port[$1]}" >/dev/null 2>&1; do
      kill -0 "${pid[$1]}" 2>/dev/null || { tail -n 5 "$work/$1.log" >&2; fail "$2 does not start"; }
    done
    return ;;
  esac
  until varve topic create "one" --partitions 1 -b "127.0.0.1:${port[$1]}" >/dev/null 2>&1; do
    kill -0 "${pid[$1]}" 2>/dev/null || { tail -n 5 "$work/$1.log" >&2; fail "$2 does not start"; }
  done
  echo "start $1 $2: $(($(now_ms) - begin)) ms to the first topic, RSS $(rss_mb "${pid[$1]}") MB"
  varve topic create "hundred" --partitions 100 -b "127.0.0.1:${port[$1]}" >/dev/null
}

load() { # variant, workload line -> one JSON document
  local name connections depth bytes seconds count
  IFS=: read -r name connections depth bytes seconds count <<<"$2"
  local to=(-b "127.0.0.1:${port[$1]}" --server-pid "${pid[$1]}" --seconds $((seconds * scale)) --connections "$connections" --json)
  case $name in read*)
    varve bench consume one --partition 0 --fetch "$bytes" --count "$count" "${to[@]}"
    return ;;
  esac
  topic=one
  if [ "$count" -gt 1 ]; then topic=hundred; fi
  varve bench produce $topic --in-flight "$depth" --batch "$bytes" --record $((bytes < 1100 ? bytes - 100 : 1000)) "${to[@]}"
}

start A "${specs[0]}" "${VARVED_ARGS:-}"
variants=(A)
order="A"
if [ $# -ge 2 ]; then
  start B "${specs[1]}" "${VARVED_ARGS2:-}"
  variants+=(B)
  order="A B B A"
fi
for w in $workloads; do # the same warm-up for both: a JVM needs it
  for v in "${variants[@]}"; do
    case "$v/${specs[1]:-}/$w" in B/floor*/read*|B/floor*/*-100:*) continue ;; esac
    load "$v" "$w" >/dev/null
  done
done
for round in $(seq "$pairs"); do
  for w in $workloads; do
    for v in $order; do
      case "$v/${specs[1]:-}/$w" in B/floor*/read*|B/floor*/*-100:*) continue ;; esac # it has one partition and keeps nothing
      echo "${w%%:*} $v $round $(load "$v" "$w")"
    done
  done
done | tee "$work/results"
for v in "${variants[@]}"; do echo "after load $v: RSS $(rss_mb "${pid[$v]}") MB"; done

# Medians, and the ratios A / B of neighbours.
/usr/bin/python3 - "$work/results" <<'X'
import json, statistics as st, sys
runs = {}
for line in open(sys.argv[1]):
    name, variant, _, rest = line.split(" ", 3)
    d = json.loads(rest)
    runs.setdefault(name, []).append((variant, d["server"]["cpu_s_per_gb"], d["server"]["cpu_us_per_request"], d["mb_per_s"], d["p50_us"], d["p99_us"]))
print("\nworkload      CPU-s/GB A        B   us/request A        B   MB/s A       B   p99 us A       B | A/B of CPU: median (min-max)   A/B of MB/s")
for name, rows in runs.items():
    med = lambda v, i: st.median([r[i] for r in rows if r[0] == v] or [float("nan")])
    text = "%-12s %11.3f %8.3f %14.1f %8.1f %8.0f %7.0f %10.0f %7.0f" % (name, *(med(v, i) for i in (1, 2, 3, 5) for v in "AB"))
    pairs = [(x, y) if x[0] == "A" else (y, x) for x, y in zip(rows[::2], rows[1::2]) if x[0] != y[0]]
    if pairs:
        cpu, mbs = [a[1] / b[1] for a, b in pairs if b[1]], [a[3] / b[3] for a, b in pairs]
        text += " | %.2f (%.2f-%.2f)   %.2f (%.2f-%.2f)" % (st.median(cpu), min(cpu), max(cpu), st.median(mbs), min(mbs), max(mbs))
    print(text)
X
