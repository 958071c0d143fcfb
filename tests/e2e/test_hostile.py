"""Clients that misbehave with good bytes: too slow, too many, too fast, half gone. Healthy clients go on, memory stays
bounded, and SIGTERM still ends the broker in time."""
import contextlib
import os
import resource
import socket
import struct
import threading
import time

from harness import Raw, wait_for
from raw import Client, batch, produce_body, produce_response


def frame(key, version, body, correlation=1, client=b"raw"):
    head = struct.pack(">hhih", key, version, correlation, len(client)) + client
    return struct.pack(">i", len(head) + len(body)) + head + body


def raise_own_limit(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < n:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(n, hard), hard))


def healthy(b, topic="healthy"):
    with Client(b, timeout=30) as c:
        c.create(topic)
        got = c.produce(topic, batch(b"x"))
        assert got[0] == 0, got
        error, _, data = c.fetch(topic, got[1])
        assert error == 0 and data, (error, data)


def fill(b, topic, megabytes):
    with Client(b, timeout=60) as c:
        assert c.create(topic) == [0]
        one = batch(os.urandom(900_000))
        for _ in range(megabytes):
            assert c.produce(topic, one)[0] == 0


def test_request_split_at_every_byte(ctx):
    b = ctx.broker()
    healthy(b)
    data = frame(0, 8, produce_body([("healthy", 0, batch(b"split"))]))
    with Client(b) as c:
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(1, len(data)):
            c.send(data[:at])
            c.send(data[at:])
            assert produce_response(c.response())[0][0] == 0, at
        for byte in data:
            c.send(bytes([byte]))
        assert produce_response(c.response())[0][0] == 0
        assert len(c.batches("healthy")) == len(data) + 1


def test_thousand_requests_in_one_send(ctx):
    """Of all kinds, more than may be in work: answered in order."""
    b = ctx.broker()
    healthy(b)
    one = batch(b"x")
    with Client(b, timeout=60) as c:
        kinds = [lambda i: frame(0, 8, produce_body([("healthy", 0, one)]), i), lambda i: frame(18, 0, b"", i),
                 lambda i: frame(3, 1, struct.pack(">i", 0), i), lambda i: frame(1, 11, c.fetch_body("healthy", 0), i)]
        data = b"".join(kinds[i % 4 if i >= 500 else 0](i) for i in range(1000))
        sender = threading.Thread(target=c.send, args=(data,))
        sender.start()
        for i in range(1000):
            assert struct.unpack(">i", c.response()[:4])[0] == i
        sender.join()
    healthy(b)


def test_half_closed(ctx):
    """The end of a client's bytes ends the connection, as in Kafka; what came before that is carried out."""
    b = ctx.broker()
    healthy(b)
    for acks in (-1, 1, 0):
        with Client(b) as c:
            c.send(b"".join(frame(0, 8, produce_body([("healthy", 0, batch(b"x"))], acks), i) for i in range(20)))
            c.sock.shutdown(socket.SHUT_WR)
            while c.sock.recv(4096):
                pass
    with Client(b) as c:
        wait_for("the records", lambda: c.fetch("healthy", 0)[1] == 61)
    for cut in (1, 4, 9, 30):  # in the middle of a frame there is nothing to answer
        with Client(b) as c:
            c.send(frame(0, 8, produce_body([("healthy", 0, batch(b"x"))]))[:cut])
            c.sock.shutdown(socket.SHUT_WR)
            assert c.closed(), cut


def test_producers_that_hang_up(ctx):
    """acks=all and gone at once; acks=0 as fast as it goes: no harm, and what was sent completely is there."""
    b = ctx.broker(settings={"reactors": 2})
    healthy(b)
    one = batch(b"gone")
    for i in range(200):
        c = Client(b)
        c.send(frame(0, 8, produce_body([("healthy", 0, one)])))
        if i % 2:
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
        c.close()
    with Client(b, timeout=60) as c:
        c.create("flood")
        n = 3000
        data = frame(0, 8, produce_body([("flood", 0, batch(b"y" * 200))], acks=0)) * 100
        for _ in range(n // 100):
            c.send(data)
        got = c.produce("flood", batch(b"last"))
        assert got[:2] == (0, n), got
    with Client(b) as c:  # without acknowledgements the only answer to an error is the end
        c.send(frame(0, 8, produce_body([("none-such", 0, one)], acks=0)))
        assert c.closed()
    healthy(b)


def test_connections_without_requests(ctx):
    raise_own_limit(4096)
    b = ctx.broker()
    before = b.rss_kb()
    conns = [Raw(b) for _ in range(2000)]
    healthy(b)
    assert b.rss_kb() - before < 60_000, (before, b.rss_kb())
    for c in conns[::2]:
        c.close()
    healthy(b)
    assert b.stop() == 0


def test_connection_storm(ctx):
    b = ctx.broker()
    end = time.monotonic() + (2 if ctx.quick else 5)
    while time.monotonic() < end:
        with contextlib.ExitStack() as stack:
            for i in range(50):
                c = stack.enter_context(Raw(b))
                if i % 3 == 0:
                    c.send(frame(18, 0, b""))
    healthy(b)


def test_slow_requests_are_closed(ctx):
    """Half a size field, half a header, half a body, drop by drop: closed by the deadline, the others never notice."""
    b = ctx.broker(settings={"receive.timeout.ms": 1500})
    whole = frame(0, 8, produce_body([("healthy", 0, batch(b"x" * 500))]))
    slow = [Raw(b, timeout=30) for _ in range(60)]
    for i, c in enumerate(slow):
        c.send(whole[:(1, 3, 4, 9, 40, 300)[i % 6]])
    healthy(b)

    def drip():
        with contextlib.suppress(OSError):
            for byte in whole[300:]:
                slow[5].send(bytes([byte]))
                time.sleep(0.1)
    dripping = threading.Thread(target=drip)
    dripping.start()
    for c in slow:
        assert c.closed()
        c.close()
    dripping.join()
    healthy(b)


def test_promises_of_large_requests(ctx):
    """Sizes that use up all memory for requests, and then nothing: others wait, but not for all of receive.timeout.ms."""
    b = ctx.broker(settings={"receive.timeout.ms": 30000, "reactors": 1})
    healthy(b)
    before = b.rss_kb()
    conns = []
    for size in [100 << 20] * 3 + [1 << (39 - k) for k in range(13, 27) for _ in range(4)] + [1000] * 100:
        c = Raw(b, timeout=60)
        c.send(struct.pack(">i", size) + b"\0\0\0\x08")
        conns.append(c)
    with Client(b, timeout=20) as c:  # its own patience is the bound
        assert c.produce("healthy", batch(b"patient"))[0] == 0
    assert b.rss_kb() - before < 100_000
    for c in conns:
        c.close()
    healthy(b)


def slow_readers(b, n, megabytes):
    """Connections that have asked for much and take nothing."""
    conns = []
    for _ in range(n):
        c = Client(b, timeout=30)
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        c.send(b"".join(frame(1, 11, c.fetch_body("big", 0, max_bytes=megabytes << 20), i) for i in range(20)))
        conns.append(c)
    return conns


def test_clients_that_do_not_read(ctx):
    b = ctx.broker(settings={"send.timeout.ms": 3000, "queued.max.response.bytes": 64 << 20})
    fill(b, "big", 40)
    before = b.rss_kb()
    conns = slow_readers(b, 40, 40)
    peak = before
    for _ in range(20):
        healthy(b)
        peak = max(peak, b.rss_kb())
    assert ctx.sanitized or peak - before < 300_000, (before, peak)
    for c in conns:
        c.close()
    healthy(b)


def test_stop_under_all_of_that(ctx):
    """SIGTERM ends the broker within shutdown.timeout.ms whatever clients do; what was acknowledged is there."""
    b = ctx.broker(settings={"shutdown.timeout.ms": 2000, "reactors": 2})
    fill(b, "big", 20)
    healthy(b)
    conns = slow_readers(b, 10, 20) + [Raw(b) for _ in range(100)]
    for i, c in enumerate(conns[10:]):
        c.send(frame(0, 8, produce_body([("healthy", 0, batch(b"x" * 500))]))[:i])
    for _ in range(10):  # fetches that wait
        c = Client(b)
        c.send(frame(1, 11, c.fetch_body("healthy", 1, wait_ms=600_000, min_bytes=1 << 20)))
        conns.append(c)
    acked, stopping = [], threading.Event()

    def load():
        with contextlib.suppress(OSError, EOFError), Client(b) as c:
            while not stopping.is_set():
                error, offset, _ = c.produce("healthy", batch(b"n"))
                if error == 0:
                    acked.append(offset)
    threads = [threading.Thread(target=load) for _ in range(3)]
    for t in threads:
        t.start()
    wait_for("acknowledgements", lambda: len(acked) > 50)
    assert b.stop(30) == 0, b.trace()[-2000:]
    stopping.set()
    for t in threads:
        t.join()
    for c in conns:
        c.close()
    b.start()
    with Client(b) as c:
        assert len(acked) == len(set(acked)) and max(acked) < len(c.batches("healthy"))
    healthy(b)


def test_kill_under_all_of_that(ctx):
    b = ctx.broker(settings={"reactors": 2})
    fill(b, "big", 10)
    healthy(b)
    for _ in range(3):
        conns = slow_readers(b, 5, 10) + [Raw(b) for _ in range(50)]
        for i, c in enumerate(conns[5:]):
            c.send(frame(0, 8, produce_body([("healthy", 0, batch(b"x" * 500))]))[:i * 3])
        healthy(b)
        b.kill9()
        for c in conns:
            c.close()
        b.start()
        healthy(b)
    assert ctx.varve("dump", "--verify", b.data).returncode == 0
