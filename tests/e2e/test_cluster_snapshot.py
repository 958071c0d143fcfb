"""The metadata log begins with a snapshot: brokers that were away, that lost their disk or that are new get what it stands for."""
import glob
import os
import re

from cluster import Cluster
from harness import kcat, wait_for

SETTINGS = {"metadata.log.max.record.bytes.between.snapshots": 1500}


def starts(c):
    """Where the metadata log was made to begin, as the controllers said it."""
    said = "\n".join(n.trace() for n in c.nodes.values())
    return [int(x) for x in re.findall(r"the metadata log begins at offset (\d+) now", said)]


def fill(ctx, c, prefix, moves=2):
    """Topics, until the log's start has moved so often."""
    made, before = [], len(starts(c))
    while len(starts(c)) < before + moves:
        assert len(made) < 200, "no snapshot was made"
        name = f"{prefix}-{len(made)}"
        ctx.varve("topic", "create", name, "--partitions", 2, "--replication-factor", 3, "--config=retention.ms=1234567", "-b", c.bootstrap)
        made.append(name)
    return made


def shown(c, node):
    m = c.metadata(node)
    return m and {t: {i: sorted(p.replicas) for i, p in parts.items()} for t, parts in m.topics.items()}


def wait_same(c):
    first = c.running()[0]
    for node in c.running():
        wait_for(f"node {node.id} to show what node {first.id} shows", lambda n=node: shown(c, n) and shown(c, n) == shown(c, first), 60)
    c.wait_in_sync()


def test_away_while_snapshots_are_made(ctx):
    c = Cluster(ctx, settings=SETTINGS)
    c.create("gone", partitions=2)
    c.create("t", min_insync_replicas=2)
    kcat("-P", "-t", "t", "-X", "acks=all", "-b", c.bootstrap, input="\n".join(map(str, range(100))) + "\n")
    three = c.nodes[3]
    three.kill9()  # down
    wait_for("a controller", lambda: c.controller().id != 3, 30)
    ctx.varve("topic", "delete", "gone", "-b", c.bootstrap)
    fill(ctx, c, "down")
    three.spawn()
    c.wait_formed()
    wait_same(c)
    wait_for("the log of the deleted topic to go", lambda: not glob.glob(os.path.join(three.data, "gone-*")), 30)
    assert "is kept and not served" not in three.trace(three.log_start)
    two = c.nodes[2]  # without its disk
    two.kill9()
    two.wipe()
    two.spawn()
    c.wait_formed()
    wait_same(c)
    c.add(4)  # new
    wait_same(c)
    c.kill_all()
    c.start()
    wait_same(c)
    assert len(kcat("-C", "-t", "t", "-e", "-q", "-b", c.bootstrap).stdout.split()) == 100


def test_paused_while_snapshots_are_made(ctx):
    """It goes on with an image that another one takes the place of, without a restart."""
    c = Cluster(ctx, settings=SETTINGS)
    c.create("gone", partitions=2)
    c.create("t", min_insync_replicas=2)
    node = next(n for n in c.nodes.values() if n is not c.controller())
    node.pause()
    wait_for("leaders elsewhere", lambda: c.leader("t") is not node and c.leader("gone") is not node, 30)
    ctx.varve("topic", "delete", "gone", "-b", c.bootstrap)
    fill(ctx, c, "paused", moves=3)
    node.resume()
    c.wait_formed()
    wait_same(c)
    assert "metadata is here again" in node.trace()
    wait_for("the log of the deleted topic to go", lambda: not glob.glob(os.path.join(node.data, "gone-*")), 30)
    kcat("-P", "-t", "t", "-X", "acks=all", "-b", c.bootstrap, input="\n".join(map(str, range(100))) + "\n")
    assert len(kcat("-C", "-t", "t", "-e", "-q", "-b", node.bootstrap).stdout.split()) == 100


def test_alone_and_killed(ctx):
    """A broker alone makes them, too, and starts from one after every kill."""
    b = ctx.broker(settings=SETTINGS)
    names = []
    for life in range(4):
        for i in range(12):
            names.append(f"t-{life}-{i}")
            ctx.varve("topic", "create", names[-1], "-b", b.bootstrap)
            if i % 3 == 0:
                ctx.varve("topic", "delete", names.pop(), "-b", b.bootstrap)
        b.kill9()
        b.start()
        listed = ctx.varve("topic", "list", "-b", b.bootstrap).stdout
        assert all(re.search(rf"\b{n}\b", listed) for n in names), listed
        assert len(re.findall(r"\bt-\d+-\d+\b", listed)) == len(names), listed
    assert "the metadata log begins at offset" in b.trace()
