#!/usr/bin/env bash
# kafka-configs.sh for client quotas, against us and against Apache Kafka: both must say the same. kafka_quotas.sh BIN_DIR JARS_DIR
set -euo pipefail
bin=$(cd "$1" && pwd) jars=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-quotas.XXXXXX")
kafka=
cleanup() {
  if [ -n "$kafka" ]; then kill -9 "$kafka" 2>/dev/null || true; fi
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

cat >"$work/commands.sh" <<'X'
configs() { echo "> $*"; java -XX:TieredStopAtLevel=1 -cp "$jars/*" kafka.admin.ConfigCommand --bootstrap-server "$1" "${@:2}" 2>&1 | grep -v "^	at" || true; }
b=$1
configs "$b" --alter --add-config producer_byte_rate=1024,consumer_byte_rate=2048,request_percentage=12.5 --entity-type users --entity-name u1 --entity-type clients --entity-name c1
configs "$b" --alter --add-config producer_byte_rate=1000000 --entity-type users --entity-default
configs "$b" --alter --add-config controller_mutation_rate=10,consumer_byte_rate=5 --entity-type clients --entity-name c1
configs "$b" --alter --delete-config consumer_byte_rate --entity-type clients --entity-name c1
configs "$b" --alter --add-config connection_creation_rate=500 --entity-type ips --entity-name 127.0.0.1
configs "$b" --alter --add-config connection_creation_rate=400 --entity-type ips --entity-default
configs "$b" --describe --entity-type users --entity-name u1 --entity-type clients --entity-name c1
configs "$b" --describe --entity-type users --entity-default
configs "$b" --describe --entity-type clients
configs "$b" --describe --entity-type ips
X
run() { jars=$jars bash "$work/commands.sh" "$1" | sed "s/$1/BOOTSTRAP/"; }
export -f run
export jars work

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
X
java -cp "$jars/*" kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$work/server.properties" >"$work/kafka.log" 2>&1
java -Xmx512m -cp "$jars/*" kafka.Kafka "$work/server.properties" >>"$work/kafka.log" 2>&1 &
kafka=$!
for _ in $(seq 120); do
  if "$bin/varve" cluster describe -b "127.0.0.1:$port" >"$work/cluster" 2>/dev/null; then break; fi
  sleep 1
done

run "127.0.0.1:$port" >"$work/theirs"
/usr/bin/python3 "$here/with_broker.py" "$bin" bash -c 'run "$1"' run >"$work/ours"
grep -q 'producer_byte_rate=1024.0' "$work/theirs" || { echo "FAILED: Kafka itself says nothing"; cat "$work/theirs" "$work/kafka.log"; exit 1; }
sorted() { /usr/bin/python3 -c 'import sys; print("\n".join(sorted(" ".join(sorted(l.replace(",", " ").split())) for l in sys.stdin)))' <"$1"; }
diff <(sorted "$work/theirs") <(sorted "$work/ours") || { echo "FAILED: what we say differs from Kafka"; exit 1; }
cat "$work/ours"
echo ok
