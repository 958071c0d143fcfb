"""Coordinators of groups and their partition of __consumer_offsets: damage, and loading after kill -9."""
import os
import struct

from harness import wait_for
from raw import Client, Reader, string
from test_dump import files, flip

NOT_AVAILABLE, LOADING = 15, 14


def commit(c, group, topic, offset, partitions=1):
    parts = b"".join(struct.pack(">iqi", p, offset, -1) + string("") for p in range(partitions))
    body = string(group) + struct.pack(">i", -1) + string("") + struct.pack(">h", -1) + struct.pack(">i", 1) + string(topic)
    return struct.unpack(">h", c.call(8, 7, body + struct.pack(">i", partitions) + parts)[-2:])[0]


def committed(c, group, topic):
    """(error of the group, offset of partition 0)"""
    r = Reader(c.call(9, 5, string(group) + struct.pack(">i", 1) + string(topic) + struct.pack(">ii", 1, 0)))
    r.get("ii")
    offset = None
    for _ in range(r.get("i")):
        r.string()
        for _ in range(r.get("i")):
            _, offset, _ = r.get("iqi")
            r.string(), r.get("h")
    return r.get("h"), offset


def partition_of(group, partitions=50):
    h = 0
    for x in group.encode():
        h = (h * 31 + x) & 0xFFFFFFFF
    return abs(h - (1 << 32) if h >> 31 else h) % partitions


def loaded(c, group):
    return wait_for("the group to load", lambda: committed(c, group, "t")[0] != LOADING)


def test_groups_load_after_kill(ctx):
    b = ctx.broker()
    with Client(b) as c:
        assert c.create("t", partitions=100) == [0]
        c.call(10, 0, string("g"))
        for i in range(30):
            assert commit(c, f"g{i}", "t", i + 1, 100) == 0
    b.kill9()
    b.start()
    with Client(b) as c:
        for i in range(30):
            loaded(c, f"g{i}")
            assert committed(c, f"g{i}", "t") == (0, i + 1)


def test_a_damaged_partition_of_offsets_is_refused(ctx):
    """An older committed offset is never passed off as the newest: its groups are refused, the others served."""
    b = ctx.broker(settings={"scrub.bytes.per.second": 0})
    groups = [f"group-{i}" for i in range(8)]
    with Client(b) as c:
        assert c.create("t", partitions=100) == [0]
        c.call(10, 0, string("g"))
        for n in range(1, 21):
            for g in groups:
                assert commit(c, g, "t", n, 100) == 0
    assert b.stop() == 0
    hit = groups[0]
    flip(files(os.path.join(b.data, f"__consumer_offsets-{partition_of(hit)}"), ".log")[0], 50000)
    b.start()
    with Client(b) as c:
        for g in groups:
            loaded(c, g)
            same = partition_of(g) == partition_of(hit)
            error, offset = committed(c, g, "t")
            assert error == (NOT_AVAILABLE if same else 0), (g, error, offset)
            assert same or offset == 20
            assert commit(c, g, "t", 21) == (NOT_AVAILABLE if same else 0)
    said = b.trace(b.log_start)
    assert f"__consumer_offsets-{partition_of(hit)}: loading stopped at offset" in said, said[-2000:]


def all_committed(c, group):
    """(error of the group, {partition: offset}) of its one topic"""
    r = Reader(c.call(9, 5, string(group) + struct.pack(">i", -1)))
    r.get("ii")
    found = {}
    for _ in range(r.get("i")):
        r.string()
        for _ in range(r.get("i")):
            partition, offset, _ = r.get("iqi")
            r.string(), r.get("h")
            found[partition] = offset
    return r.get("h"), found


def test_all_offsets_of_a_large_group(ctx):
    """More of them than a request's arena has room for; while others have the memory the client is told to try again."""
    b = ctx.broker(settings={"reactors": 1, "request.arena.max.bytes": 131072, "queued.max.request.bytes": 1 << 20})
    with Client(b, 60) as c, Client(b) as other:
        assert c.create("t", partitions=2000) == [0]
        c.call(10, 0, string("g"))
        assert commit(c, "g", "t", 7, partitions=2000) == 0
        assert all_committed(c, "g") == (0, {p: 7 for p in range(2000)})
        other.send(struct.pack(">ihhi", 900000, 3, 1, 1))  # the rest does not come
        wait_for("its memory to be taken", lambda: all_committed(c, "g") == (LOADING, {}))
        assert committed(c, "g", "t") == (0, 7), "what is small goes on"
        other.close()
        wait_for("it to be free", lambda: all_committed(c, "g") == (0, {p: 7 for p in range(2000)}))


def test_members_with_large_metadata(ctx):
    """The leader is told the metadata of all, and DescribeGroups shows it, although a request's arena has no room for it."""
    b = ctx.broker(settings={"request.arena.max.bytes": 131072, "group.initial.rebalance.delay.ms": 1000})
    metadata = bytes(50000)
    members = [Client(b, 60) for _ in range(6)]
    members[0].call(10, 0, string("g"))
    for m in members:  # version 3: without MEMBER_ID_REQUIRED
        m.request(11, 3, string("g") + struct.pack(">ii", 30000, 30000) + string("") + string("x") + struct.pack(">i", 1) + string("p")
                  + struct.pack(">i", len(metadata)) + metadata)
    answers = [m.response() for m in members]
    assert all(struct.unpack_from(">h", a, 8)[0] == 0 for a in answers), [a[:20] for a in answers]
    assert sum(len(a) > 6 * len(metadata) for a in answers) == 1
    ids = []
    for m, a in zip(members, answers):
        r = Reader(a)
        r.get("ii")
        _, generation = r.get("hi")
        r.string(), r.string()
        ids.append((len(a), m, generation, r.string()))
    for _, m, generation, member in sorted(ids, key=lambda i: i[0]):  # the leader last
        m.request(14, 2, string("g") + struct.pack(">i", generation) + string(member) + struct.pack(">i", 0))
    assert all(struct.unpack_from(">h", m.response(), 8)[0] == 0 for m in members)
    described = members[0].call(15, 4, struct.pack(">i", 1) + string("g") + b"\0")
    assert struct.unpack_from(">h", described, 12)[0] == 0 and len(described) > 6 * len(metadata), described[:40]
    for m in members:
        m.close()
