"""confluent_failover.py BIN_DIR [KILLS [PROTOCOL...]]: current librdkafka's groups while their coordinators are killed, see failover.py."""
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from cluster import Cluster  # noqa: E402
from failover import GROUP_PARTITIONS, failover  # noqa: E402


def main():
    harness.use_ports_apart()
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    with harness.told(harness.Context(sys.argv[1], "", False)) as ctx:
        c = Cluster(ctx, settings={"offsets.topic.num.partitions": GROUP_PARTITIONS, "group.initial.rebalance.delay.ms": 0})
        for protocol in sys.argv[3:] or ["classic", "consumer"]:
            failover(c, protocol, kills)


if __name__ == "__main__":
    main()
