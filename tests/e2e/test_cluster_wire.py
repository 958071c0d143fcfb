"""Connections between brokers, and from a client to its leader, that are slow, are reset in the middle of a frame, or go silent."""
import itertools
import os
import socket
import struct
import time

from checker import Load
from cluster import Cluster
from harness import wait_for
from raw import Client, Reader, batch, produce_body
from test_cluster_disk import same_copies
from test_cluster_kill import settle
from wire import Wires, delayed, reset_after, silent, whole


def wired(ctx):
    c = Cluster(ctx, start=False)
    wires = Wires(c)
    c.start()
    c.create("t", partitions=2, min_insync_replicas=2)
    return c, wires


def sockets(node):
    return sum(os.readlink(f"/proc/{node.process.pid}/fd/{fd}").startswith("socket:") for fd in os.listdir(f"/proc/{node.process.pid}/fd"))


def test_reset_at_every_byte(ctx):
    """N6: between brokers; of hellos, appends, answers. Frames are whole or nothing, and what was cut off comes again."""
    c, wires = wired(ctx)
    with Load(c, "t") as load:
        for first, step in ((0, 1), (300, 7), (5000, 1013)):
            wires.rule = reset_after(itertools.count(first, step))
            time.sleep(2.5)
            wires.rule = whole  # or nothing would go on for long
            load.wait_acks(50)
        print(f"{wires.resets} connections were reset")
        assert wires.resets > 50, wires.resets
        settle(c, load)
        for node in c.nodes.values():
            assert node.alive() and node.starts == 1 and " ERROR " not in node.trace(), node.trace()[-3000:]
    load.check()
    same_copies(ctx, c)


def test_late_and_uneven(ctx):
    """N5: every piece late by something else, the answers too; slower, and right."""
    c, wires = wired(ctx)
    with Load(c, "t", rate=100) as load:
        wires.rule = delayed(0.05, 0.15)
        load.wait_acks(100)
        before = {i: p.epoch for i, p in c.metadata(c.nodes[1]).topics["t"].items()}
        time.sleep(4)
        load.wait_acks(50)
        assert {i: p.epoch for i, p in c.metadata(c.nodes[1]).topics["t"].items()} == before, "leaders change though they answer"
        wires.rule = delayed(0.1, 0.9)  # later than heartbeats allow
        time.sleep(3)
        wires.rule = whole
        settle(c, load)
    load.check()
    same_copies(ctx, c)


def test_half_open(ctx):
    """N7: nothing arrives any more, and nobody is told: noticed in time, others lead, no socket stays behind."""
    c, wires = wired(ctx)
    with Load(c, "t") as load:
        had = {n.id: sockets(n) for n in c.nodes.values()}
        for _ in range(3):
            wires.rule = silent
            time.sleep(1)
            stalled = load.acks()
            time.sleep(2)
            assert load.acks() == stalled, "single brokers acknowledge"
            wires.rule = whole
            load.wait_acks(50, 30)
        settle(c, load)
        wait_for("sockets to be closed", lambda: all(sockets(n) <= had[n.id] + 6 for n in c.nodes.values()), 30)
        wait_for("connections to be closed", lambda: wires.connections() <= 30, 30)
    load.check()


def produce_frame(topic, data):
    body = produce_body([(topic, 0, data)], -1, 10000)
    head = struct.pack(">hhih", 0, 8, 7, 4) + b"test"
    return struct.pack(">i", len(head) + len(body)) + head + body


def new_producer(node):
    with Client.__new__(Client) as c:
        c.sock = socket.create_connection(node.address, timeout=10)
        r = Reader(c.call(22, 1, struct.pack(">hi", -1, 60000)))
        r.get("i")
        r.get("i")
        error, pid, epoch = r.get("hqh")
        assert error == 0, error
        return pid, epoch


def cut_off(node, data):
    """Sends it and resets the connection."""
    with socket.create_connection(node.address, timeout=10) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.sendall(data)
        time.sleep(0.002)


def test_a_client_is_cut_off_at_every_byte(ctx):
    """N6, N8: of a produce request that is sent again after each: one copy of each record, also when only the answer was lost; without
    idempotence at most one for each time that it was sent whole."""
    c = Cluster(ctx)
    c.create("t", min_insync_replicas=2)
    c.create("plain", min_insync_replicas=2)
    leader = c.leader("t")
    pid, epoch = new_producer(leader)
    length = len(produce_frame("t", batch(b"r000", pid=pid, epoch=epoch, sequence=0)))
    with Client(leader) as again:
        for k in range(length + 1):
            data = batch(b"r%03d" % k, pid=pid, epoch=epoch, sequence=k)
            cut_off(leader, produce_frame("t", data)[:k])
            error, offset, _ = again.produce("t", data)
            assert error in (0, 46) and (error or offset == k), (k, error, offset)
        got = [x[-5:-1] for x in again.batches("t")]
        assert got == [b"r%03d" % k for k in range(length + 1)], got[:3]
    other = c.leader("plain")
    whole_frame = produce_frame("plain", batch(b"r"))
    for k in range(len(whole_frame)):
        cut_off(other, whole_frame[:k])
    with Client(other) as reader:
        assert reader.batches("plain") == []
        cut_off(other, whole_frame)
        wait_for("what arrived whole", lambda: len(reader.batches("plain")) >= 1, 10)
        time.sleep(0.5)
        assert len(reader.batches("plain")) == 1


for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test.any_io = test.slow = True
test_a_client_is_cut_off_at_every_byte.slow = False
