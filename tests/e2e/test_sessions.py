"""Fetch sessions (KIP-227) by raw frames (Fetch 11): a large session that waits, other connections, a restart, crowds that ask for sessions."""
import struct

from harness import kcat
from raw import Client, Reader, batch, string

ID_NOT_FOUND, BAD_EPOCH = 70, 71


def body(session, epoch, parts=(), forget=(), wait_ms=0, max_bytes=1 << 20):
    """parts: [(partition, offset)] of topic t"""
    out = struct.pack(">iiiibii", -1, wait_ms, 1, max_bytes, 0, session, epoch) + struct.pack(">i", 1 if parts else 0)
    if parts:
        out += string("t") + struct.pack(">i", len(parts)) + b"".join(struct.pack(">iiqqi", p, -1, at, -1, 1 << 20) for p, at in parts)
    out += struct.pack(">i", 1 if forget else 0)
    if forget:
        out += string("t") + struct.pack(f">i{len(forget)}i", len(forget), *forget)
    return out + string("")


def response(data):
    """(error, session, {partition: (error, high watermark, record bytes)})"""
    r = Reader(data)
    _, _, error, session = r.get("iihi")  # correlation id, throttle time
    out = {}
    for _ in range(r.get("i")):
        r.string()
        for _ in range(r.get("i")):
            partition, code, high, _, _ = r.get("ihqqq")
            assert r.get("i") <= 0
            r.get("i")
            assert partition not in out
            out[partition] = code, high, r.bytes(r.get("i"))
    return error, session, out


def fetch(c, *args, **kw):
    return response(c.call(1, 11, body(*args, **kw)))


def test_a_large_session(ctx):
    b = ctx.broker(settings={"reactors": 2})
    c, other = Client(b), Client(b)
    assert c.create("t", partitions=1000) == [0]
    error, session, parts = fetch(c, 0, 0, [(p, 0) for p in range(1000)])
    assert error == 0 and session > 0 and len(parts) == 1000
    assert fetch(c, session, 1) == (0, session, {})
    c.request(1, 11, body(session, 2, wait_ms=60000))  # waits for any of them
    assert other.produce("t", batch(b"x"), partition=777)[0] == 0
    error, same, parts = response(c.response())
    assert (error, same, list(parts)) == (0, session, [777]) and parts[777][1] == 1
    # Another connection goes on with it, the first one is too late then.
    error, same, parts = fetch(other, session, 3, [(777, 1)], [5, 6])
    assert (error, same, parts) == (0, session, {})
    assert fetch(c, session, 3)[0] == BAD_EPOCH
    for p in (5, 999):
        assert other.produce("t", batch(b"y"), partition=p)[0] == 0
    assert list(fetch(c, session, 4)[2]) == [999]
    # It does not survive a restart: the client makes another one.
    b.kill9()
    b.start()
    c = Client(b)
    assert fetch(c, session, 5) == (ID_NOT_FOUND, 0, {})
    error, fresh, parts = fetch(c, session, 0, [(5, 0), (777, 0)])
    assert error == 0 and fresh > 0 and list(parts) == [5, 777] and all(parts[p][1] == 1 and parts[p][2] for p in parts)


def test_crowds_that_ask_for_sessions(ctx):
    b = ctx.broker(settings={"max.incremental.fetch.session.cache.slots": 10})
    c = Client(b)
    assert c.create("t", partitions=50) == [0]
    made = [fetch(c, 0, 0, [(p, 0) for p in range(50)])[1] for _ in range(300)]
    made = [s for s in made if s]
    assert 0 < len(made) <= 10 and len(set(made)) == len(made)
    for s in made:
        assert fetch(c, s, 1) == (0, s, {})
    assert c.produce("t", batch(b"x"))[0] == 0  # those without one are served as well
    error, session, parts = fetch(c, 0, 0, [(0, 0)])
    assert (error, session) == (0, 0) and parts[0][2]
    assert kcat("-b", b.bootstrap, "-C", "-t", "t", "-o", "beginning", "-e", "-q").stdout == "x\n"
