"""Twelve brokers: more than the configuration of the metadata log has members, so some of them observe it."""
import json
from concurrent.futures import ThreadPoolExecutor

from cluster import Cluster
from harness import kcat, wait_for

SETTINGS = {"reactors": 1, "memory.max.bytes": 256 << 20, "journal.bytes": 32 << 20}
VOTERS, BROKERS = 3, 12


def check_quorum(ctx, c, voters):
    """The controller knows of everybody how far it is, also of those that only observe."""
    def up_to_date():
        said = ctx.varve("cluster", "nodes", "--json", "-b", c.running()[0].bootstrap, check=False).stdout
        rows = [json.loads(line) for line in said.splitlines()]
        return (len(rows) == BROKERS and all(r["up"] and r["metadata_lag"] == 0 for r in rows)
                and {r["node"] for r in rows if r["role"] != "learner"} == voters)
    wait_for(f"{BROKERS} brokers without lag, of whom {voters} vote", up_to_date, 30)


def shown(c, node):
    m = c.metadata(node)
    return m and {t: {i: sorted(p.replicas) for i, p in parts.items()} for t, parts in m.topics.items()}


def wait_same(c, *topics, gone=()):
    def same():
        all_shown = [shown(c, n) for n in c.running()]
        return all(s is not None and s == all_shown[0] and set(topics) <= set(s) and not set(gone) & set(s) for s in all_shown)
    wait_for(f"every broker to show {topics}", same, 60)


def produce_and_read(c, topic, count):
    lines = [f"{topic} {i}" for i in range(count)]
    kcat("-P", "-t", topic, "-X", "acks=all", "-X", "partitioner=random", "-b", c.bootstrap, input="\n".join(lines) + "\n")
    got = kcat("-C", "-t", topic, "-e", "-q", "-b", c.running()[-1].bootstrap).stdout.splitlines()
    assert sorted(got) == sorted(lines), (len(got), count)


def test_twelve_brokers(ctx):
    c = Cluster(ctx, size=VOTERS, settings=SETTINGS)
    for node_id in range(VOTERS + 1, BROKERS + 1):
        c.make_node(node_id).spawn()
    c.wait_formed(120)
    c.create("wide", partitions=2 * BROKERS, min_insync_replicas=2)
    led = {p.leader for p in c.any_metadata(["wide"]).topics["wide"].values()}
    placed = {r for p in c.any_metadata(["wide"]).topics["wide"].values() for r in p.replicas}
    assert placed == set(range(1, BROKERS + 1)) and len(led) > BROKERS / 2, (placed, led)
    wait_same(c, "wide")
    check_quorum(ctx, c, {1, 2, 3})
    produce_and_read(c, "wide", 2000)

    # Without the controller, a learner and an observer; what happens meanwhile reaches everybody.
    first = c.controller()
    for node in (first, c.nodes[5], c.nodes[11]):
        node.kill9()
    wait_for("another controller", lambda: c.controller().id != first.id, 60)
    ctx.varve("topic", "create", "meanwhile", "--partitions", 9, "--replication-factor", 3, "-b", c.bootstrap)
    wait_same(c, "wide", "meanwhile")
    produce_and_read(c, "meanwhile", 500)
    for node in (first, c.nodes[5], c.nodes[11]):
        node.spawn()
    c.wait_formed(120)
    wait_same(c, "wide", "meanwhile")
    c.wait_in_sync(seconds=120)

    # An observer loses its disk and comes back as another one.
    c.nodes[12].kill9()
    wait_for("the loss to be noticed", lambda: 12 not in c.metadata(c.controller()).brokers, 30)
    c.nodes[12].wipe()
    c.nodes[12].spawn()
    c.wait_formed(120)
    wait_same(c, "wide", "meanwhile")
    c.wait_in_sync(seconds=120)

    # One becomes a voter. Then all of them stop and start.
    ctx.varve("cluster", "add", 12, "-b", c.bootstrap)
    check_quorum(ctx, c, {1, 2, 3, 12})
    ctx.varve("topic", "delete", "meanwhile", "-b", c.bootstrap)
    ctx.varve("topic", "create", "last", "--partitions", 12, "--replication-factor", 3, "-b", c.bootstrap)
    wait_same(c, "wide", "last", gone=["meanwhile"])
    produce_and_read(c, "last", 500)
    with ThreadPoolExecutor(BROKERS) as pool:  # one after the other, the last ones have nobody to hand over to
        assert set(pool.map(lambda n: n.stop(), c.nodes.values())) == {0}
    c.start(120)
    wait_same(c, "wide", "last", gone=["meanwhile"])
    c.wait_in_sync(seconds=120)


test_twelve_brokers.any_io = test_twelve_brokers.slow = True
