"""cleanup.policy=compact: the last value of every key stays through kill -9, tombstones go, and files stay sound."""
import json
import random
import threading
import time

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from harness import kcat, wait_for

CLEANER = {"log.cleaner.backoff.ms": 50}


def read_all(b, topic):
    """[(offset, key, value)] up to the high watermark; the end may lie behind the last record."""
    c = Consumer({"bootstrap.servers": b.bootstrap, "group.id": "none", "enable.auto.commit": False, "enable.partition.eof": True,
                  "log_level": 2})
    rows = []
    try:
        low, _ = c.get_watermark_offsets(TopicPartition(topic, 0), timeout=30)
        c.assign([TopicPartition(topic, 0, low)])
        while True:
            m = c.poll(30)
            assert m is not None, f"neither a record nor the end within 30 s after {len(rows)}"
            if m.error():
                assert m.error().code() == KafkaError._PARTITION_EOF, (m.error(), len(rows))
                break
            rows.append((m.offset(), m.key().decode(), m.value().decode() if m.value() is not None else None))
    finally:
        c.close()
    offsets = [r[0] for r in rows]
    assert offsets == sorted(set(offsets)), "offsets are not ascending"
    return rows


def ends(rows):
    return {key: value for _, key, value in rows}


def test_compaction(ctx):
    """Constant updates of few keys while the broker is killed again and again."""
    b = ctx.broker(settings={**CLEANER, "log.retention.check.interval.ms": 200})
    ctx.varve("topic", "create", "t", "--config", "cleanup.policy=compact", "--config", "segment.bytes=1048576", "--config",
              "min.cleanable.dirty.ratio=0.01", "-b", b.bootstrap)
    p = Producer({"bootstrap.servers": b.bootstrap, "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 120000,
                  "compression.type": "lz4", "retry.backoff.ms": 20, "reconnect.backoff.max.ms": 200, "log_level": 2})
    acked, errors, sent, stop = {}, [], [0], threading.Event()
    rng = random.Random(1)
    noise = [bytes(rng.randrange(33, 126) for _ in range(900)) for _ in range(64)]

    def report(err, m):
        if err is not None:
            errors.append(str(err))
        else:
            key, n = m.key().decode(), int(m.value().split()[0])
            acked[key] = max(acked.get(key, -1), n)

    def write():
        while not stop.is_set():
            try:
                p.produce("t", key=f"k{rng.randrange(50)}", value=b"%d %s" % (sent[0], rng.choice(noise)), callback=report)
                sent[0] += 1
            except BufferError:
                p.poll(0.05)
            p.poll(0)
            if sent[0] % 50 == 0:
                time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for i in range(3):
            goal = sent[0] + 3000
            wait_for("updates", lambda: sent[0] >= goal, 60)
            b.kill9()
            b.start()
    finally:
        stop.set()
        writer.join()
    p.flush(120)
    assert not errors, errors[:3]
    assert len(acked) == 50
    # What is left: one record of each key, and what lies in segments that are not compacted yet (the newest one, 1 MiB).
    wait_for("compaction", lambda: len(read_all(b, "t")) < 50 + 2500, 60)
    rows = read_all(b, "t")
    for key, value in ends(rows).items():
        assert int(value.split()[0]) == acked[key], (key, value[:20], acked[key])
    assert sent[0] > 9000 and len(ends(rows)) == 50, (sent[0], len(rows), rows[:1], rows[-1:])
    b.kill9()
    b.start()
    again = read_all(b, "t")
    assert ends(again) == ends(rows)
    # Reading may begin anywhere, in a gap too.
    for offset in range(0, again[-1][0], max(1, again[-1][0] // 7)):
        out = kcat("-b", b.bootstrap, "-C", "-t", "t", "-o", offset, "-c", "1", "-q", "-f", "%o\\n").stdout
        assert int(out) == min(r[0] for r in again if r[0] >= offset), (offset, out)
    assert len(ctx.varve("consume", "t", "-o", "beginning", "-e", "-f", "%o\\n", "-b", b.bootstrap).stdout.split()) == len(again)
    assert b.stop() == 0
    ctx.varve("dump", "--verify", b.data)


def test_tombstones(ctx):
    """max.compaction.lag.ms rolls and compacts what lies still; a key without value goes, and does not come back."""
    b = ctx.broker(settings=CLEANER)
    ctx.varve("topic", "create", "t", "--config", "cleanup.policy=compact", "--config", "min.cleanable.dirty.ratio=1", "--config",
              "max.compaction.lag.ms=100", "--config", "delete.retention.ms=100", "-b", b.bootstrap)
    produce = lambda line, *more: kcat("-b", b.bootstrap, "-P", "-t", "t", "-K", ":", *more, input=line + "\n")
    produce("gone:1")
    produce("stays:1")
    produce("stays:2")
    produce("gone:", "-Z")
    assert ends(read_all(b, "t")) == {"gone": None, "stays": "2"}
    wait_for("the old values to go", lambda: [r[2] for r in read_all(b, "t")] == ["2", None])
    b.kill9()
    b.start()

    def tombstone_gone():
        produce(f"other:{time.time()}")  # a log in which nothing is dirty is not looked at
        return "gone" not in [r[1] for r in read_all(b, "t")]

    wait_for("the tombstone to go", tombstone_gone)
    assert ends(read_all(b, "t"))["stays"] == "2"
    refused = kcat("-b", b.bootstrap, "-P", "-t", "t", "-X", "message.timeout.ms=5000", input="no key\n", check=False)
    assert refused.returncode != 0 or "INVALID_RECORD" in refused.stderr or "Broker" in refused.stderr, refused.stderr
    assert b.stop() == 0
    ctx.varve("dump", "--verify", b.data)


def test_explain(ctx):
    """What `varve topic describe` and `explain` say of segments, and when they go."""
    b = ctx.broker(settings=CLEANER)
    v = lambda *a, **kw: ctx.varve(*a, "-b", b.bootstrap, **kw)
    v("topic", "create", "both", "--config", "cleanup.policy=compact,delete", "--config", "segment.bytes=1048576", "--config",
      "retention.ms=3600000", "--config", "min.cleanable.dirty.ratio=0.5")
    v("topic", "create", "kept", "--partitions", 2, "--config", "retention.ms=-1")
    kcat("-b", b.bootstrap, "-P", "-t", "both", "-K", ":", input="".join(f"k{i % 5}:{'x' * 5000}\n" for i in range(500)))  # 2.5 MB

    def described():
        return json.loads(v("topic", "describe", "both", "--json").stdout)["partitions"][0]

    wait_for("a compaction", lambda: described()["compaction"]["last_run"] and described()["compaction"]["state"] == "clean")
    run = described()["compaction"]["last_run"]
    assert not run["failed"] and run["records_after"] == 5 < run["records_before"] and run["bytes_after"] < run["bytes_before"], run
    assert "records stayed" in v("topic", "describe", "both").stdout
    told = json.loads(v("topic", "explain", "both", "--json").stdout)
    segments = told["list"]
    assert told["compacts"] and told["deletes"] and len(segments) == told["segments"] == described()["segments"], told
    assert [s["compaction"] for s in segments] == ["clean"] * (len(segments) - 1) + ["active"], segments
    assert segments[-1]["retention"] == "active" and segments[0]["base"] == 0 and segments[-1]["end"] == 500, segments
    assert all(s["retention"] in ("young", "unlimited") for s in segments[:-1]), segments
    assert sum(s["size_bytes"] for s in segments) == told["size_bytes"], told
    newest = segments[-2]
    assert newest["retention_due_ms"] == newest["newest_timestamp"] + 3600000, newest
    text = v("topic", "explain", "both").stdout
    assert "older than retention.ms" in text and "compacted" in text, text
    assert [json.loads(line)["partition"] for line in v("topic", "explain", "kept", "--json").stdout.splitlines()] == [0, 1]
    assert json.loads(v("topic", "explain", "kept", "--partition", 1, "--json").stdout)["list"][0]["retention"] == "active"
    assert v("topic", "explain", "nothing", check=False).returncode == 1
