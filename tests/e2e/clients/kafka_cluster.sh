#!/usr/bin/env bash
# Kafka's command-line tools and its Java producer against a cluster of ours: kafka_cluster.sh BIN_DIR JARS_DIR
exec /usr/bin/python3 "$(dirname "$0")/kafka_cluster.py" "$@"
