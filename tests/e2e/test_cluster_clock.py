"""Brokers of a cluster whose wall clocks are wrong by years."""
import hashlib
import os
import socket
import time

from checker import Load
from cluster import Cluster, killed_at
from harness import Skip, wait_for
from raw import Client, batch
from test_cluster_damage import elect_there
from test_cluster_kill import settle
from test_cluster_wire import new_producer

TEN_YEARS = 10 * 365 * 24 * 3600


def wrong_clock(ctx, node, seconds):
    library = os.path.join(ctx.bin, "libclock-fault.so")
    if not os.path.exists(library) or ctx.sanitized:
        raise Skip("the library that sets clocks wrong was not built, or cannot be preloaded under a sanitizer")
    node.wrapper = ["env", f"LD_PRELOAD={library}", f"VARVE_CLOCK_SECONDS={seconds}"]


def log_starts(c, topic):
    return {n.id: min(int(f[:-4]) for f in os.listdir(os.path.join(n.data, f"{topic}-0")) if f.endswith(".log")) for n in c.nodes.values()}


def test_clocks_wrong_by_ten_years(ctx):
    """C1: one broker starts ten years ahead and leads, another ten behind: no record is too old for that, the quorum does not notice."""
    c = Cluster(ctx, settings={"log.retention.check.interval.ms": 300})
    c.create("t", segment_bytes=1048576, retention_ms=86400000, min_insync_replicas=2)
    lines = "\n".join(hashlib.sha256(str(i).encode()).hexdigest() * 14 for i in range(3500)) + "\n"
    ctx.varve("produce", "t", "--acks", "all", "-b", c.bootstrap, input=lines)
    wait_for("some segments", lambda: all(len(os.listdir(os.path.join(n.data, "t-0"))) > 10 for n in c.nodes.values()))
    ahead, behind = c.leader("t"), next(n for n in c.nodes.values() if n is not c.leader("t"))
    for node, seconds in ((ahead, TEN_YEARS), (behind, -TEN_YEARS)):
        assert node.stop() == 0
        wrong_clock(ctx, node, seconds)
        node.start()
        c.wait_in_sync("t")
    ctx.varve("cluster", "move", "t", "--replicas", ",".join(map(str, [ahead.id] + [n for n in c.nodes if n != ahead.id])), "-b", c.bootstrap)
    elect_there(c, ahead, "t", 0)
    wait_for("it to say so", lambda: "ahead of most other brokers" in ahead.trace(ahead.log_start), 20)
    time.sleep(3)  # ten rounds
    assert c.leader("t") is ahead and set(log_starts(c, "t").values()) == {0}, log_starts(c, "t")
    assert "ahead of most" not in behind.trace() + next(n for n in c.nodes.values() if n not in (ahead, behind)).trace()
    # The one that is behind takes all clients for ahead of their time, and would refuse their records (INVALID_TIMESTAMP), as Kafka does.
    c.create("u", partitions=3, min_insync_replicas=2, message_timestamp_after_max_ms=2 ** 62)
    with Load(c, "u") as load:
        load.wait_acks(200)
        ahead.kill9()
        load.wait_acks(100)
        ahead.start()
        settle(c, load)
    load.check()
    assert ctx.varve("consume", "t", "--exit", "-b", c.bootstrap).stdout == lines


def test_records_of_long_ago_are_not_doubled(ctx):
    """A producer that copies old records says so in their timestamps; that does not make its retries those of a stranger, on any leader."""
    c = Cluster(ctx)
    c.create("t", min_insync_replicas=2, retention_ms=-1)
    pid, epoch = new_producer(c.leader("t"))
    long_ago = int(time.time() * 1000) - 30 * 24 * 3600 * 1000
    sent = [batch(b"old %d" % i, pid=pid, epoch=epoch, sequence=i, timestamp=long_ago) for i in range(5)]

    def produce(data):
        with Client.__new__(Client) as raw:
            raw.sock = socket.create_connection(c.leader("t").address, timeout=10)
            return raw.produce("t", data, timeout_ms=5000)[:2]
    assert [produce(x) for x in sent] == [(0, i) for i in range(5)]
    for _ in range(2):
        c.wait_in_sync("t")
        victim = c.leader("t")
        killed_at(victim)
        assert wait_for("an answer", lambda: (a := produce(sent[4]))[0] != 6 and a, 20) in ((0, 4), (46, -1))
        assert wait_for("an answer", lambda: (a := produce(sent[3]))[0] != 6 and a, 20) in ((0, 3), (46, -1))
        victim.start()
    with Client(c.leader("t")) as raw:
        assert len(raw.batches("t")) == 5


test_records_of_long_ago_are_not_doubled.any_io = test_clocks_wrong_by_ten_years.any_io = test_clocks_wrong_by_ten_years.slow = True
