"""Everything at once: topics come, grow, change and go while clients write in every codec, read, wait and hang up."""
import contextlib
import gzip
import random
import struct
import threading
import time

from raw import Client, batch, record, string

NAMES = [f"c{i}" for i in range(6)]
CODECS = ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"]


class Worker(threading.Thread):
    """Does one thing again and again on connections of its own; errors in answers are part of the game."""

    def __init__(self, b, stopping, seed, act):
        super().__init__()
        self.b, self.stopping, self.random, self.act, self.done, self.fault = b, stopping, random.Random(seed), act, 0, None

    def run(self):
        while not self.stopping.is_set():
            try:
                with Client(self.b, timeout=30) as c:
                    for _ in range(self.random.randrange(1, 40)):
                        if self.stopping.is_set():
                            break
                        self.act(c, self.random)
                        self.done += 1
            except (OSError, EOFError):
                time.sleep(0.01)
            except Exception as e:  # an answer that does not parse, say
                self.fault = e
                return


def admin(c, r):
    t = r.choice(NAMES)
    what = r.randrange(8)
    if what < 3:
        c.create(t, partitions=r.randrange(1, 4), compression_type=r.choice(CODECS),
                 cleanup_policy=r.choice(["delete", "compact", "delete"]), segment_bytes=1 << 20)
    elif what < 5:
        c.delete(t)
    elif what == 5:  # CreatePartitions 1
        c.call(37, 1, struct.pack(">i", 1) + string(t) + struct.pack(">ii", r.randrange(1, 6), -1) + struct.pack(">ib", 5000, 0))
    elif what == 6:  # IncrementalAlterConfigs 0
        c.call(44, 0, struct.pack(">ib", 1, 2) + string(t) + struct.pack(">i", 1) + string("compression.type") + b"\0"
               + string(r.choice(CODECS)) + b"\0")
    else:
        c.call(3, 1, struct.pack(">i", -1))


def write(c, r):
    values = [r.randbytes(r.choice([1, 100, 3000])) * 3 for _ in range(r.choice([1, 5, 40]))]
    records = b"".join(record(v, i, key=b"k%d" % i if r.random() < 0.9 else None) for i, v in enumerate(values))
    zipped = r.random() < 0.5
    data = batch(*values, records=gzip.compress(records) if zipped else records, attributes=1 if zipped else 0)
    acks = r.choice([-1, -1, 1])
    if r.random() < 0.02:
        c.request(0, 8, b"")  # hangs up with a request on its way
        raise EOFError
    c.produce(r.choice(NAMES), data, partition=r.randrange(4), acks=acks, timeout_ms=r.choice([0, 1, 5000]))


def read(c, r):
    if r.random() < 0.05:
        c.send_frame(struct.pack(">hhih", 1, 11, 1, 0) + c.fetch_body(r.choice(NAMES), 0, wait_ms=3000, min_bytes=1 << 30))
        raise EOFError
    error, high, data = c.fetch(r.choice(NAMES), r.choice([0, 0, 1, 7, 50]), partition=r.randrange(4),
                                max_bytes=r.choice([1, 2000, 1 << 20]), wait_ms=r.choice([0, 5, 50]), min_bytes=r.choice([0, 1, 1 << 20]))
    assert error or high >= 0
    body = struct.pack(">ibi", -1, 0, 1) + string(r.choice(NAMES))  # ListOffsets 2
    c.call(2, 2, body + struct.pack(">iiq", 1, r.randrange(4), r.choice([-1, -2, 0, int(time.time() * 1000)])))


def test_churn(ctx):
    b = ctx.broker(settings={"reactors": 2, "journal.bytes": 32 << 20, "shutdown.timeout.ms": 3000})
    with Client(b) as c:
        c.create("steady", partitions=2)
    kept = {}

    def steady(c, r):
        p = r.randrange(2)
        error, offset, _ = c.produce("steady", batch(b"s" * 200), partition=p)
        assert error in (0, 6), error
        if error == 0:
            assert (p, offset) not in kept
            kept[p, offset] = True

    for life in range(2 if ctx.quick else 4):
        stopping = threading.Event()
        workers = [Worker(b, stopping, life * 100 + i, act)
                   for i, act in enumerate([admin, admin, write, write, write, read, read, steady])]
        for w in workers:
            w.start()
        time.sleep(5)
        if life % 2:
            assert b.stop(60) == 0, b.trace()[-3000:]
        else:
            with contextlib.suppress(OSError):
                b.kill9()
        stopping.set()
        for w in workers:
            w.join(60)
            assert w.fault is None, (w.act.__name__, w.fault)
            assert w.done > 0, w.act.__name__
        b.start()
        with Client(b) as c:
            for p in range(2):
                have = len(c.batches("steady", p))
                assert all(offset < have for q, offset in kept if q == p)
    assert b.stop() == 0, b.trace()[-3000:]
    assert ctx.varve("dump", "--verify", b.data).returncode == 0
