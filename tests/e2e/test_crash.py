"""kill -9 under load: nothing acknowledged is lost, duplicated or reordered."""
import os
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

from harness import Raw, kcat, wait_for


class Stream(threading.Thread):
    """An idempotent acks=all producer that counts what was acknowledged, value by value."""

    def __init__(self, bootstrap, topic, name, partition=-1, pause=0.0):
        super().__init__()
        self.p = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2,
                           "message.timeout.ms": 120000, "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20,
                           "log_level": 2})
        self.topic, self.label, self.partition, self.pause = topic, name, partition, pause
        self.acked, self.errors, self.sent = {}, [], 0
        self.stopping = threading.Event()

    def report(self, err, msg):
        if err is not None:
            self.errors.append(str(err))
        else:
            self.acked[int(msg.value().split()[1])] = (msg.partition(), msg.offset())

    def run(self):
        extra = {} if self.partition < 0 else {"partition": self.partition}
        while not self.stopping.is_set():
            try:
                self.p.produce(self.topic, f"{self.label} {self.sent}".encode(), callback=self.report, **extra)
                self.sent += 1
            except BufferError:
                self.p.poll(0.05)
            self.p.poll(0)
            if self.pause:
                time.sleep(self.pause)
        self.p.flush(120)


def consume_all(bootstrap, topic, partitions):
    """Every record: {partition: [(offset, value)]}, read to the high watermark."""
    c = Consumer({"bootstrap.servers": bootstrap, "group.id": "none", "enable.auto.commit": False,
                  "auto.offset.reset": "earliest", "log_level": 2})
    result = {}
    try:
        for p in range(partitions):
            low, high = c.get_watermark_offsets(TopicPartition(topic, p), timeout=30)
            result[p] = []
            if high == low:
                continue
            c.assign([TopicPartition(topic, p, low)])
            while not result[p] or result[p][-1][0] < high - 1:
                m = c.poll(30)
                assert m is not None, f"no record within 30 s at {topic}-{p} after {len(result[p])} of {high}"
                assert m.error() is None, m.error()
                result[p].append((m.offset(), m.value()))
    finally:
        c.close()
    return result


def check(streams, records):
    for p, rows in records.items():
        assert [o for o, _ in rows] == list(range(len(rows))), f"offsets of partition {p} are not dense"
    where = {}
    for p, rows in records.items():
        last = {}
        for offset, value in rows:
            label, n = value.decode().split()
            assert (label, int(n)) not in where, f"duplicate: {value} at {p}/{offset} and {where[(label, int(n))]}"
            where[(label, int(n))] = (p, offset)
            assert last.get(label, -1) < int(n), f"reordered: {value} behind {last.get(label)} in partition {p}"
            last[label] = int(n)
    for s in streams:
        assert not s.errors, f"{len(s.errors)} delivery errors, first: {s.errors[0]}"
        assert s.acked, "nothing was acknowledged"
        for n, place in s.acked.items():
            assert where.get((s.label, n)) == place, f"acknowledged {s.label} {n} at {place}, found at {where.get((s.label, n))}"


def kill_loop(ctx, kills, settings, topic_partitions, streams_n):
    b = ctx.broker(settings={"num.partitions": topic_partitions, **settings})
    kcat("-b", b.bootstrap, "-L", "-t", "s")
    streams = [Stream(b.bootstrap, "s", f"p{i}") for i in range(streams_n)]
    for s in streams:
        s.start()
    for k in range(kills):
        before = sum(len(s.acked) for s in streams)
        wait_for("acknowledgements after the restart", lambda: sum(len(s.acked) for s in streams) > before + 100, 60)
        b.kill9()
        b.start()
    for s in streams:
        s.stopping.set()
    for s in streams:
        s.join(150)
        assert not s.is_alive(), "a producer did not finish"
    check(streams, consume_all(b.bootstrap, "s", topic_partitions))
    assert b.stop() == 0, b.trace()[-2000:]
    b.start()
    check(streams, consume_all(b.bootstrap, "s", topic_partitions))
    ctx.varve("dump", "--verify", b.data)


def test_kill_loop(ctx):
    kill_loop(ctx, 3 if ctx.quick else 10, {}, 3, 2)


def test_kill_loop_small_segments_and_journal(ctx):
    kill_loop(ctx, 3 if ctx.quick else 8, {"log.segment.bytes": 1048576, "journal.bytes": 64 * 1024 * 1024, "reactors": 2}, 4, 2)


def test_stop_and_start_again(ctx):
    b = ctx.broker()
    kcat("-b", b.bootstrap, "-P", "-t", "again", input="".join(f"{i}\n" for i in range(5000)))
    for _ in range(3):
        assert b.stop() == 0, b.trace()[-2000:]
        b.start()
        assert kcat("-b", b.bootstrap, "-C", "-t", "again", "-e", "-q").stdout.split() == [str(i) for i in range(5000)]


def test_kill_during_recovery(ctx):
    b = ctx.broker()
    for round_ in range(3):
        kcat("-b", b.bootstrap, "-P", "-t", "r", input="".join(f"{round_}-{i}\n" for i in range(20000)))
        b.kill9()
        for delay in (0.0, 0.01, 0.03, 0.08):
            b.spawn()
            time.sleep(delay)
            b.kill9()
        b.start()
    got = kcat("-b", b.bootstrap, "-C", "-t", "r", "-e", "-q").stdout.split()
    assert got == [f"{r}-{i}" for r in range(3) for i in range(20000)], len(got)


def test_topics_survive(ctx):
    """Creation is acknowledged only when durable; deletion stays deleted."""
    b = ctx.broker()
    for i in range(20):
        ctx.varve("topic", "create", f"t{i}", "--partitions", 3, "-b", b.bootstrap)
        if i % 2:
            ctx.varve("topic", "delete", f"t{i}", "-b", b.bootstrap)
        if i % 7 == 0:
            b.kill9()
            b.start()
    b.kill9()
    b.start()
    listed = ctx.varve("topic", "list", "-b", b.bootstrap, "--json").stdout
    for i in range(20):
        assert (f'"t{i}"' in listed) == (i % 2 == 0), (i, listed)
    with Raw(b):
        pass
    # A folder is made with its first bytes, and files follow the journal when the broker has a quiet moment.
    for i in range(0, 20, 2):
        kcat("-b", b.bootstrap, "-P", "-t", f"t{i}", "-p", "0", input="record\n")
    want = sorted(f"t{i}-0" for i in range(0, 20, 2))
    wait_for(f"the folders {want}", lambda: sorted(d for d in os.listdir(b.data) if d.startswith("t") and d.endswith("-0")) == want)
