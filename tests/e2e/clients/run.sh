#!/usr/bin/env bash
# The clients that come from other registries: clients/run.sh BIN_DIR RESULTS_FILE
# A client that cannot be had is named with the reason and counted as skipped.
set -uo pipefail
bin=$(cd "$1" && pwd) results=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d "${TMPDIR:-/tmp}/varve-clients.XXXXXX")
trap 'rm -rf "$work"' EXIT
note() { echo "$*" | tee -a "$results"; }
why() { tail -n 3 "$1" | tr '\n' ' ' | cut -c1-200; }

# Groups: short waits. What the broker's defaults are is not what these tests are about.
groups=(group.consumer.heartbeat.interval.ms=500 group.consumer.assignment.interval.ms=0 group.initial.rebalance.delay.ms=100)

# check NAME [KEY=VALUE...] COMMAND...: a fresh broker for each client; the command gets its address as last argument.
check() {
  local name=$1
  shift
  alone "$name" /usr/bin/python3 "$here/with_broker.py" "$bin" "$@"
}

alone() { # it starts its own brokers
  local name=$1
  shift
  if "$@" >"$work/$name.log" 2>&1; then
    note "pass clients/$name"
  else
    tail -n 40 "$work/$name.log"
    note "fail clients/$name"
  fi
}

# Groups mostly wait, so some run beside what follows.
beside() { check "$@" & }

# Two lanes beside each other: fetching packages waits for the network, a JVM is slow to start, groups wait. Each ends when
# everything that it began has ended.
python_and_node() {
  # Current librdkafka through confluent-kafka for Python.
  if python3 -m venv "$work/venv" >"$work/venv.log" 2>&1 && "$work/venv/bin/pip" -q install confluent-kafka >"$work/venv.log" 2>&1; then
    beside confluent-kafka-members "${groups[@]}" "$work/venv/bin/python" "$here/confluent_members.py"
    check confluent-kafka "$work/venv/bin/python" "$here/confluent_current.py"
    check confluent-kafka-groups "${groups[@]}" "$work/venv/bin/python" "$here/confluent_groups.py"
    alone confluent-kafka-failover "$work/venv/bin/python" "$here/confluent_failover.py" "$bin"
  else
    note "skip clients/confluent-kafka: $(why "$work/venv.log")"
  fi

  # aiokafka, the other Python client: a protocol implementation of its own.
  if python3 -m venv "$work/aio" >"$work/aio.log" 2>&1 && "$work/aio/bin/pip" -q install 'aiokafka[lz4,snappy,zstd]' >"$work/aio.log" 2>&1; then
    beside aiokafka "${groups[@]}" "$work/aio/bin/python" "$here/aiokafka_client.py"
  else
    note "skip clients/aiokafka: $(why "$work/aio.log")"
  fi

  # kafkajs and @platformatic/kafka: the oldest and the newest style of JavaScript client.
  mkdir -p "$work/js" && cp "$here"/*.mjs "$work/js/"
  for package in kafkajs @platformatic/kafka; do
    name=${package//[@\/]/-} && name=${name#-}
    if [ "$name" = platformatic-kafka ] && ! node -e 'process.exit(process.versions.node.split(".")[0] < 20 ? 1 : 0)'; then
      note "skip clients/$name: it needs Node.js 20 or newer, this is $(node --version)"
      continue
    fi
    if (cd "$work/js" && npm install --silent --no-audit --no-fund --no-package-lock "$package") >"$work/npm.log" 2>&1; then
      beside "$name-groups" "${groups[@]}" node "$work/js/${name}_groups.mjs"
      check "$name" node "$work/js/$name.mjs"
    else
      note "skip clients/$name: $(why "$work/npm.log")"
    fi
  done
  wait
}

java_and_tools() {
  # The Java client with its defaults, and Kafka's own tools.
  version=4.3.1
  cat >"$work/pom.xml" <<X
<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>t</groupId><artifactId>t</artifactId><version>1</version>
<dependencies><dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>$version</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>$version</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency></dependencies></project>
X
  if (cd "$work" && mvn -q -B dependency:copy-dependencies -DoutputDirectory="$work/jars") >"$work/mvn.log" 2>&1; then
    if javac -cp "$work/jars/*" -d "$work/classes" "$here"/Java*.java >"$work/javac.log" 2>&1; then
      beside java-members "${groups[@]}" java -cp "$work/classes:$work/jars/*" JavaMembers
      check java-client java -cp "$work/classes:$work/jars/*" JavaClient
      check java-groups "${groups[@]}" java -cp "$work/classes:$work/jars/*" JavaGroups
    else
      cat "$work/javac.log"
      note "fail clients/java-client (does not compile)"
    fi
    for script in "$here"/kafka_*.sh; do
      [ -e "$script" ] || continue
      name=$(basename "$script" .sh)
      if TMPDIR=$work "$script" "$bin" "$work/jars" >"$work/$name.log" 2>&1; then
        note "pass clients/$name"
      else
        tail -n 40 "$work/$name.log"
        note "fail clients/$name"
      fi
    done
  else
    note "skip clients/java-client: $(why "$work/mvn.log")"
  fi
  wait
}

python_and_node &
java_and_tools
wait

# Kills under those that can be had, all of them at once.
riders=()
[ ! -d "$work"/venv/lib/python3*/site-packages/confluent_kafka ] || riders+=(--client "librdkafka=$work/venv/bin/python $here/confluent_ride.py")
[ ! -d "$work/js/node_modules/kafkajs" ] || riders+=(--client "kafkajs=node $work/js/kafkajs_ride.mjs")
[ ! -e "$work/classes/JavaRide.class" ] || riders+=(--client "java=java -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp $work/classes:$work/jars/* JavaRide")
if [ ${#riders[@]} -gt 0 ]; then
  alone ride /usr/bin/python3 "$here/ride.py" "$bin" --kills 5 --away 1 "${riders[@]}"
else
  note "skip clients/ride: none of its clients can be had"
fi
