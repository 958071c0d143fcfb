"""Bytes that no client sends: connections close, the broker lives, healthy clients go on."""
import os
import random
import struct

from harness import Raw, kcat


def healthy(b):
    kcat("-b", b.bootstrap, "-P", "-t", "healthy", input="x\n")


def test_random_bytes(ctx):
    b = ctx.broker()
    r = random.Random(7)
    for i in range(300):
        with Raw(b) as c:
            try:
                c.send(r.randbytes(r.randrange(1, 4000)))
            except OSError:
                pass
    healthy(b)


def test_frame_sizes(ctx):
    b = ctx.broker()
    for size in (-1, -2147483648, 2147483647, 104857601):
        with Raw(b) as c:
            c.send(struct.pack(">i", size))
            assert c.closed(), size
    for size in (0, 1, 3, 7):
        with Raw(b) as c:
            c.send(struct.pack(">i", size) + b"\0" * size)
            assert c.closed(), size
    healthy(b)
    assert b.rss_kb() < 400_000


def captured_frames():
    path = os.path.join(os.path.dirname(__file__), "..", "unit", "data", "captures.tsv")
    with open(path) as f:
        return [bytes.fromhex(x.rstrip("\n").split("\t")[-1]) for x in f if x.strip() and not x.startswith(("#", "key"))]


def test_truncated_and_mutated_requests(ctx):
    b = ctx.broker()
    r = random.Random(11)
    frames = captured_frames()
    assert len(frames) > 50
    for frame in frames:
        for _ in range(2 if ctx.quick else 6):
            mutated = bytearray(frame)
            for _ in range(r.randrange(1, 4)):
                mutated[r.randrange(len(mutated))] = r.randrange(256)
            cut = bytes(mutated[: r.randrange(1, len(mutated) + 1)])
            with Raw(b) as c:
                c.send(struct.pack(">i", len(cut)) + cut)
        with Raw(b) as c:  # promised more than comes
            c.send(struct.pack(">i", len(frame)) + frame[: len(frame) // 2])
    assert b.alive(), b.trace()[-3000:]
    healthy(b)


def test_huge_counts(ctx):
    b = ctx.broker()
    before = b.rss_kb()
    for count in (0x7FFFFFFF, 0x7FFFFFFE, 100_000_000):
        with Raw(b) as c:  # Metadata v1 with an array that cannot be there
            c.request(3, 1, struct.pack(">i", count))
            assert c.closed()
    assert b.rss_kb() - before < 20_000
    healthy(b)


def test_unknown_api_and_version(ctx):
    b = ctx.broker()
    for key, version in ((999, 0), (0, 2), (0, 99), (1, 3), (4, 0)):
        with Raw(b) as c:
            c.request(key, version, b"")
            assert c.closed(), (key, version)
    with Raw(b) as c:  # an unknown ApiVersions version is answered in version 0 with error 35
        c.request(18, 99, b"", flexible=True)
        body = c.response()
        assert struct.unpack(">ih", body[:6]) == (1, 35), body
        count = struct.unpack(">i", body[6:10])[0]
        assert count >= 1
    healthy(b)


def test_many_idle_connections(ctx):
    b = ctx.broker()
    conns = [Raw(b) for _ in range(300)]
    healthy(b)
    for c in conns:
        c.close()
    healthy(b)
