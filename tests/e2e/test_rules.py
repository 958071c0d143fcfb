"""The rules of Produce by raw requests: sequences, batch headers, limits, times, codecs, and topics that come and go."""
import gzip
import os
import random
import struct
import threading
import time

from harness import Skip, wait_for
from raw import Client, base_offset, batch, codec, record

OK, CORRUPT, UNKNOWN_TOPIC, TOO_LARGE = 0, 2, 3, 10
BAD_TIMESTAMP, OUT_OF_ORDER, BAD_EPOCH, INVALID_RECORD = 32, 45, 47, 87


def expect(got, error, offset=None):
    assert got[0] == error and (offset is None or got[1] == offset), f"expected error {error}, offset {offset}; got {got}"


def test_sequences(ctx):
    b = ctx.broker()
    c = Client(b)
    assert c.create("s") == [OK]
    one = lambda seq, n=1, epoch=0, pid=7: c.produce("s", batch(*[b"%d" % seq] * n, pid=pid, epoch=epoch, sequence=seq))  # noqa: E731
    for i in range(6):
        expect(one(i * 2, 2), OK, i * 2)
    for i in range(1, 6):  # the last five, also after a crash: the first answer again, nothing appended
        expect(one(i * 2, 2), OK, i * 2)
    expect(one(0, 2), OUT_OF_ORDER)   # outside the window
    expect(one(10, 1), OUT_OF_ORDER)  # the same start, another length
    expect(one(14), OUT_OF_ORDER)     # a gap
    b.kill9()
    b.start()
    c = Client(b)
    for i in range(1, 6):
        expect(one(i * 2, 2), OK, i * 2)
    expect(one(14), OUT_OF_ORDER)
    expect(one(12), OK, 12)
    expect(one(5, epoch=1), OUT_OF_ORDER)  # a new epoch begins with 0
    expect(one(0, epoch=1), OK, 13)
    expect(one(13, epoch=0), BAD_EPOCH)
    expect(one(10, 2, epoch=0), BAD_EPOCH)  # what the old epoch wrote is no duplicate any more
    expect(one(0, epoch=1), OK, 13)
    expect(one(1000, pid=8), OUT_OF_ORDER)  # a new producer begins with 0: what comes before this is still on its way
    expect(one(0, pid=8), OK, 14)
    assert c.create("w") == [OK]  # where records are gone, producers may have been forgotten: there they begin anywhere
    expect(c.produce("w", batch(b"plain")), OK, 0)
    ctx.varve("topic", "trim", "w", "--before", "1", "-b", b.bootstrap)
    old = lambda seq, n=1, pid=7: c.produce("w", batch(*[b"%d" % seq] * n, pid=pid, epoch=0, sequence=seq))  # noqa: E731
    expect(old(1000, pid=8), OK, 1)
    last = 2**31 - 2
    expect(old(last, 4, pid=9), OK, 2)      # 2147483646, 2147483647, 0, 1
    expect(old(2, pid=9), OK, 6)
    expect(old(last, 4, pid=9), OK, 2)
    expect(old(2**31 - 1, pid=10), OK, 7)
    expect(old(0, pid=10), OK, 8)
    assert b.stop() == 0
    b.start()
    c = Client(b)
    expect(old(0, pid=10), OK, 8)
    expect(old(last, 4, pid=9), OK, 2)
    assert sum(struct.unpack_from(">i", x, 57)[0] for x in c.batches("s")) == 15


def test_wrong_batches(ctx):
    b = ctx.broker()
    c = Client(b)
    c.create("w")
    good = batch(b"x")
    wrong = {
        "crc": (batch(b"x", crc=1), CORRUPT),
        "no records": (b"", INVALID_RECORD),
        "cut": (good[:-1], CORRUPT),
        "cut header": (good[:40], CORRUPT),
        "one byte": (b"\0", CORRUPT),
        "two batches": (good + good, INVALID_RECORD),
        "length 0": (batch(b"x", length=0), CORRUPT),
        "length -1": (batch(b"x", length=-1), CORRUPT),
        "length max": (batch(b"x", length=2**31 - 1), CORRUPT),
        "magic 0": (batch(b"x", magic=0), INVALID_RECORD),
        "magic 1": (batch(b"x", magic=1), INVALID_RECORD),
        "magic 3": (batch(b"x", magic=3), INVALID_RECORD),
        "count 2": (batch(b"x", count=2), INVALID_RECORD),
        "count 0": (batch(b"x", count=0), INVALID_RECORD),
        "count -1": (batch(b"x", count=-1), INVALID_RECORD),
        "count 0, delta -1": (batch(b"x", count=0, last_delta=-1), INVALID_RECORD),
        "count min": (batch(b"x", count=-2**31, last_delta=2**31 - 1), INVALID_RECORD),
        "delta -1": (batch(b"x", last_delta=-1), INVALID_RECORD),
        "delta max": (batch(b"x", last_delta=2**31 - 1), INVALID_RECORD),
        "base offset": (batch(b"x", base_offset=5), INVALID_RECORD),
        "control": (batch(b"x", attributes=0x20), INVALID_RECORD),
        "codec 5": (batch(b"x", attributes=5), INVALID_RECORD),
        "codec 7": (batch(b"x", attributes=7), INVALID_RECORD),
        "append time": (batch(b"x", attributes=8), BAD_TIMESTAMP),
        "far future": (batch(b"x", timestamp=2**63 - 1), BAD_TIMESTAMP),
        "pid without sequence": (batch(b"x", pid=1, epoch=0), INVALID_RECORD),
    }
    for what, (data, error) in wrong.items():
        got = c.produce("w", data)
        assert got[0] == error, f"{what}: expected {error}, got {got}"
    expect(c.produce("w", good), OK, 0)
    expect(c.produce("w", good, partition=1), UNKNOWN_TOPIC)
    expect(c.produce("w", good, partition=-1), UNKNOWN_TOPIC)
    expect(c.produce("w", good, partition=-2**31), UNKNOWN_TOPIC)
    expect(c.produce("../w", good), UNKNOWN_TOPIC)
    expect(c.produce("w", good, acks=2), 21)
    assert len(c.batches("w")) == 1


def test_bombs(ctx):
    """What grows without end when it is unpacked is refused where it must be unpacked, and costs bounded memory."""
    b = ctx.broker(settings={"max.decompressed.batch.bytes": 8 << 20})
    c = Client(b)
    assert c.create("compact", cleanup_policy="compact") == [OK]
    assert c.create("zip", compression_type="zstd") == [OK]
    bombs = {"zeros": gzip.compress(b"\0" * (64 << 20)), "one huge record": gzip.compress(record(b"\0" * (16 << 20), key=b"k")),
             "members": gzip.compress(b"\0" * (1 << 20)) * 40, "empty": gzip.compress(b""), "not gzip": os.urandom(500),
             "cut": gzip.compress(record(b"x" * 5000, key=b"k"))[:-12]}
    before = b.rss_kb()
    for what, payload in bombs.items():
        for topic in ("compact", "zip"):
            got = c.produce(topic, batch(b"x", records=payload, attributes=1))
            assert got[0] in (TOO_LARGE, CORRUPT, INVALID_RECORD), (what, topic, got)
    assert b.rss_kb() - before < 200_000, (before, b.rss_kb())
    expect(c.produce("compact", batch(b"x", records=gzip.compress(record(b"v", key=b"k")), attributes=1)), OK, 0)
    expect(c.produce("compact", batch(b"v")), INVALID_RECORD)  # no key
    expect(c.produce("zip", batch(b"x", records=gzip.compress(record(b"v")), attributes=1)), OK, 0)


def test_message_size_limit(ctx):
    b = ctx.broker()
    c = Client(b)
    limit = 2000
    c.create("m", max_message_bytes=limit)
    fill = next(n for n in range(1800, 2000) if len(batch(b"x" * n)) == limit)
    expect(c.produce("m", batch(b"x" * fill)), OK, 0)
    expect(c.produce("m", batch(b"x" * (fill + 1))), TOO_LARGE)
    expect(c.produce("m", batch(b"x" * fill)), OK, 1)


def test_log_append_time(ctx):
    b = ctx.broker()
    c = Client(b)
    c.create("a", message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000) - 1
    got = c.produce("a", batch(b"x", b"y", timestamp=1000, pid=3, epoch=0, sequence=0))
    expect(got, OK, 0)
    assert before <= got[2] <= int(time.time() * 1000) + 1, got
    one, = c.batches("a")
    attributes, _, base_time, max_time = struct.unpack_from(">hiqq", one, 21)
    assert attributes & 8 and max_time == got[2], (attributes, max_time, got)
    again = c.produce("a", batch(b"x", b"y", timestamp=1000, pid=3, epoch=0, sequence=0))
    assert again == got, (again, got)  # a duplicate has the first one's time


def test_every_codec_to_every_codec(ctx):
    """compression.type: what comes in any codec is stored in the topic's, and stays the same records."""
    b = ctx.broker()
    c = Client(b)
    names = ["uncompressed", "gzip", "snappy", "lz4", "zstd"]
    values = [b"value %d " % i * 20 for i in range(50)]
    sources, now = {}, int(time.time() * 1000)
    for n, name in enumerate(names):  # the broker's own output in each codec is the input of the next round
        c.create(f"from-{name}", compression_type=name)
        expect(c.produce(f"from-{name}", batch(*values, timestamp=now)), OK, 0)
        one, = c.batches(f"from-{name}")
        assert codec(one) == n, (name, codec(one))
        sources[name] = struct.pack(">q", 0) + one[8:]
    plain = sources["uncompressed"]
    for name in names:
        for n, target in enumerate(names):
            topic = f"{name}-{target}"
            c.create(topic, compression_type=target)
            expect(c.produce(topic, sources[name]), OK, 0)
            one, = c.batches(topic)
            assert codec(one) == n, (topic, codec(one))
            c.create(f"{topic}-back", compression_type="uncompressed")
            expect(c.produce(f"{topic}-back", struct.pack(">q", 0) + one[8:]), OK, 0)
            back, = c.batches(f"{topic}-back")
            assert back[21:] == plain[21:], topic


def test_thousands_of_partitions_in_one_request(ctx):
    b = ctx.broker()
    c = Client(b, timeout=60)
    assert c.create("many", partitions=1000) == [OK]
    one = batch(b"x")
    entries = b"".join(struct.pack(">ii", p, len(one)) + one for p in list(range(1000)) * 3 + list(range(1000, 3000)))
    body = struct.pack(">hhii", -1, -1, 30000, 1) + struct.pack(">h", 4) + b"many" + struct.pack(">i", 5000) + entries
    data = c.call(0, 8, body)
    assert data.count(struct.pack(">h", UNKNOWN_TOPIC) + b"\xff" * 16) >= 2000
    assert len(c.batches("many", 0)) == 3 and len(c.batches("many", 999)) == 3


def test_topic_made_again_under_load(ctx):
    """A topic that is deleted and made again while producers send, with kills: never a record of an older life."""
    b = ctx.broker(settings={"reactors": 2})
    c = Client(b)
    assert c.create("again", partitions=2) == [OK]
    stopping = threading.Event()

    def load(n):
        while not stopping.is_set():
            try:
                with Client(b) as p:
                    while not stopping.is_set():
                        p.produce("again", batch(b"load"), partition=n, timeout_ms=1000)
            except (OSError, EOFError):
                time.sleep(0.01)

    threads = [threading.Thread(target=load, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    try:
        for life in range(4 if ctx.quick else 12):
            if life % 4 == 3:
                b.kill9()
                b.start()
                c = Client(b)
            assert c.delete("again") == [OK]
            assert c.create("again", partitions=2) == [OK]
            got = c.produce("again", batch(b"life %d" % life), partition=1)
            expect(got, OK)
            values = [x for x in c.batches("again", 1) if b"life" in x]
            assert len(values) == 1 and b"life %d" % life in values[0], (life, len(values))
    finally:
        stopping.set()
        for t in threads:
            t.join()
    b.kill9()
    b.start()
    c = Client(b)
    values = [x for x in c.batches("again", 1) if b"life" in x]
    assert len(values) == 1
    for p in (0, 1):
        found = c.batches("again", p)
        assert [base_offset(x) for x in found] == list(range(len(found)))
    assert b.stop() == 0, b.trace()[-2000:]
    assert ctx.varve("dump", "--verify", b.data).returncode == 0


def test_two_thousand_topics(ctx):
    b = ctx.broker()
    c = Client(b, timeout=120)
    n = 300 if ctx.quick else 2000
    names = [f"t{i}" for i in range(n)]
    for at in range(0, n, 500):
        assert c.create(*names[at:at + 500]) == [OK] * len(names[at:at + 500])
    r = random.Random(5)
    some = r.sample(names, 50)
    for t in some:
        expect(c.produce(t, batch(t.encode())), OK, 0)
    for how in (b.kill9, b.stop):
        how()
        b.start(60)
        c = Client(b, timeout=120)
        for t in some:
            one, = c.batches(t)
            assert t.encode() in one
    assert c.create("t0") == [36]
