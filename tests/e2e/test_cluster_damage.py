"""Damage beyond single bits, on one of three brokers and on all: folders and segments in each other's place, files that are gone, a journal
that was durable, the cluster's own topics. It is told apart from what is absent, put right from the others, and where nobody has it
any more it is said, and nothing else suffers."""
import json
import os
import re
import shutil
import subprocess
import time

from cluster import Cluster
from harness import kcat, wait_for
from raw import Client, batch
from test_cluster_disk import same_copies
from test_reassign import elect
from test_mend import SETTINGS, all_there, digest, filled, flip, segment, whole_again


def folder(node, partition, topic="t"):
    return os.path.join(node.data, f"{topic}-{partition}")


def logs(node, partition, topic="t"):
    """{file: digest} of the segments of a partition, on `node`."""
    at = folder(node, partition, topic)
    return {f: digest(os.path.join(at, f)) for f in sorted(os.listdir(at)) if f.endswith(".log")} if os.path.isdir(at) else {}


def values(partition, count=3000):
    return "".join(f"p{partition} {i} {'x' * 100}\n" for i in range(count))


def two_partitions(ctx):
    """Three brokers and t, whose partitions 0 and 1 hold different records at the same offsets, in files everywhere."""
    c = Cluster(ctx, settings=SETTINGS)
    c.create("t", partitions=2)
    for i in range(2):
        kcat("-b", c.bootstrap, "-P", "-t", "t", "-p", i, "-X", "acks=all", input=values(i))
    c.wait_in_sync("t")
    return c


def elect_there(c, node, topic, partition):
    """At once: by itself it would not come back before clients have found the node again."""
    def leads():
        leader = c.leader(topic, partition)
        if leader is not node:
            elect(leader, topic, [partition])
        return leader is node
    wait_for(f"node {node.id} to lead", leads, 60)


def read(c, partition, node=None):
    """All of a partition; with `node`: led by it."""
    if node:
        c.context.varve("cluster", "move", f"t:{partition}", "--replicas", ",".join(map(str, [node.id] + [n for n in c.nodes if n != node.id])), "-b", c.bootstrap)
        elect_there(c, node, "t", partition)
    return kcat("-b", c.bootstrap, "-C", "-t", "t", "-p", partition, "-e", "-q").stdout


def test_folders_of_two_partitions_are_swapped(ctx):
    """D15: a folder belongs to whom its manifest names; nothing of one partition is served as the other's."""
    c = two_partitions(ctx)
    node = c.nodes[2]
    assert node.stop() == 0
    os.rename(folder(node, 0), folder(node, 9))
    os.rename(folder(node, 1), folder(node, 0))
    os.rename(folder(node, 9), folder(node, 1))
    node.start()
    c.wait_in_sync("t")
    for i in range(2):
        assert read(c, i, node) == values(i), i
    same_copies(ctx, c)


def test_a_folder_holds_a_copy_of_another(ctx):
    """D15: the other's folder in the place of its own, which is gone: put aside, and filled from the others."""
    c = two_partitions(ctx)
    node = c.nodes[3]
    assert node.stop() == 0
    shutil.rmtree(folder(node, 0))
    shutil.copytree(folder(node, 1), folder(node, 0))
    node.start()
    wait_for("partition 0 as it was", lambda: logs(node, 0) and logs(node, 0) == logs(c.nodes[1], 0), 60)
    assert any(f.startswith("t-0.") and f.endswith("-stray") for f in os.listdir(node.data)), os.listdir(node.data)
    for i in range(2):
        assert read(c, i, node) == values(i), i
    same_copies(ctx, c)


def test_segments_are_swapped(ctx):
    """D15: two complete segments of one partition under each other's names."""
    c, lines = filled(ctx)
    node = c.leader("t")
    before = logs(node, 0)
    first, second = list(before)[:2]
    assert node.stop() == 0
    at = folder(node, 0)
    os.rename(os.path.join(at, first), os.path.join(at, "x"))
    os.rename(os.path.join(at, second), os.path.join(at, first))
    os.rename(os.path.join(at, "x"), os.path.join(at, second))
    node.start()
    for name in (first, second):
        whole_again(node, os.path.join(at, name), before[name])
    c.wait_in_sync("t")
    all_there(ctx, c, lines)


def test_everything_but_the_records_is_gone(ctx):
    """D13: indexes, snapshots, manifest, epochs: made again; then the whole folder: filled again, never an empty topic."""
    c, lines = filled(ctx)
    node, other = c.nodes[1], c.nodes[2]
    before = logs(node, 0)
    assert node.stop() == 0
    for f in os.listdir(folder(node, 0)):
        if not f.endswith(".log"):
            os.unlink(os.path.join(folder(node, 0), f))
    assert other.stop() == 0
    shutil.rmtree(folder(other, 0))
    node.start()
    other.start()
    c.wait_in_sync("t")
    for n in (node, other):
        wait_for(f"the segments of node {n.id}", lambda n=n: logs(n, 0) == before, 60)
    all_there(ctx, c, lines)
    same_copies(ctx, c)


def fetch_error(c, offset):
    """What the leader answers to a fetch there."""
    leader = c.leader("t")
    with Client(leader) as raw:
        return raw.fetch("t", offset, max_bytes=1)[0]


def test_damaged_everywhere(ctx):
    """D18: the same committed batch of all three copies. It is never skipped in silence, nothing else suffers, and one good copy is enough."""
    c, lines = filled(ctx)
    c.create("u")
    at = 300000
    good = digest(segment(c.nodes[1]))
    c.kill_all()  # while somebody has it in memory it is not lost
    for node in c.nodes.values():
        flip(segment(node), at)
    c.start()
    c.wait_in_sync("t")
    said = {}

    def told():
        for node in c.nodes.values():
            said[node.id] = re.findall(r"(\S+\.log): damaged from byte (\d+) to (\d+): offsets (\d+) to (\d+)", node.trace())
        return all(said.values())
    wait_for("all to find it", told, 60)
    (path, start, end, first, last) = said[1][0]
    assert path == segment(c.nodes[1]) and int(start) <= at < int(end), said
    first, last = int(first), int(last)
    assert {(int(x[0][3]), int(x[0][4])) for x in said.values()} == {(first, last)}, said
    wait_for("somebody to say that nobody has it", lambda: any(f"no other replica has offset {first} readable" in n.trace() for n in c.nodes.values()), 60)

    def suffers_only_this():
        total = lines.count("\n")
        assert fetch_error(c, first) == fetch_error(c, last) == 56, (fetch_error(c, first), fetch_error(c, last))
        before = kcat("-b", c.bootstrap, "-C", "-t", "t", "-o", "0", "-c", first, "-q", "-f", "%o\n").stdout.split()
        assert before == [str(i) for i in range(first)], (len(before), first)
        behind = kcat("-b", c.bootstrap, "-C", "-t", "t", "-o", last + 1, "-c", total - last - 1, "-q", "-f", "%o\n").stdout.split()
        assert behind == [str(i) for i in range(last + 1, total)], (len(behind), total)
        for topic in ("t", "u"):
            with Client(c.leader(topic)) as raw:
                error, offset, _ = raw.produce(topic, batch(b"more"))
                assert error == 0 and (topic == "u" or offset >= total), (topic, error, offset)

    suffers_only_this()
    # A consumer that reads on from the beginning does not arrive behind it.
    with open(os.path.join(c.nodes[1].root, "consumed"), "w+") as out:
        p = subprocess.Popen([os.path.join(ctx.bin, "varve"), "consume", "t", "--exit", "-b", c.bootstrap], stdout=out, stderr=subprocess.PIPE)
        time.sleep(3)
        p.kill()
        err = p.communicate()[1]
        out.seek(0)
        assert out.read().count("\n") == first, err
    c.kill_all()
    c.start()
    c.wait_in_sync("t")
    suffers_only_this()
    flip(segment(c.nodes[3]), at)  # the operator finds a good copy
    c.nodes[3].stop()
    c.nodes[3].start()
    for node in c.nodes.values():
        whole_again(node, segment(node), good)
    got = ctx.varve("consume", "t", "--exit", "-b", c.bootstrap).stdout
    assert got.startswith(lines) and got.count("more\n") == 2, len(got)
    assert all(n.alive() and n.starts <= 4 for n in c.nodes.values())


def test_a_damaged_journal(ctx):
    """D11, D14: what was durable in the journal is not there: the disk counts as lost, the node has no vote until it was filled again."""
    c = two_partitions(ctx)
    node = c.nodes[2]
    piece = os.path.join(node.data, "journal-0", "000000.vj")

    def groups():
        return [g for g in map(json.loads, ctx.varve("dump", "--json", piece).stdout.splitlines()) if g["isvalid"] and not g["checkpointed"]]
    for _ in range(20):  # until a kill comes before the checkpoint
        kcat("-b", c.bootstrap, "-P", "-t", "t", "-p", 0, "-X", "acks=all", input="more\n")
        time.sleep(0.15)  # an IDLE group says that it is durable
        node.kill9()
        live = [g for g in groups() if g["flags"] == "-" and g["seq"] <= max(x["durableSeq"] for x in groups())]
        if live:
            break
        node.start()
        c.wait_in_sync("t")
    else:
        raise AssertionError("a checkpoint always came first")
    flip(piece, live[0]["position"] + 90)
    node.start()
    assert "the disk is lost" in node.trace(node.log_start), node.trace(node.log_start)[-2000:]
    c.wait_in_sync(seconds=120)
    assert read(c, 0, node).startswith(values(0)) and read(c, 1, node) == values(1)
    (aside,) = (d for d in os.listdir(node.data) if d.startswith("damaged."))
    shutil.rmtree(os.path.join(node.data, aside))
    same_copies(ctx, c)


def test_one_copy_of_varve_meta(ctx):
    """D14: of the two copies one is enough, and it is made whole."""
    c = two_partitions(ctx)
    for node, copy in ((c.nodes[1], 0), (c.nodes[2], 1)):
        assert node.stop() == 0
        path = os.path.join(node.data, "varve.meta")
        with open(path, "r+b") as f:
            f.seek(copy * 4096)
            f.write(b"\xa5" * 4096)
        node.start()
        assert "the disk is lost" not in node.trace() and not [d for d in os.listdir(node.data) if d.startswith("damaged.")]
        c.wait_in_sync("t")
        assert node.stop() == 0
        with open(path, "rb") as f:
            assert f.read(4096) == f.read(4096), "the damaged copy is as it was"
        node.start()
    c.wait_in_sync("t")
    assert read(c, 0) == values(0)


def test_the_metadata_log_is_damaged(ctx):
    """D14: of one of three, wherever in it: mended before the broker makes anything of it; no topic is forgotten."""
    c = two_partitions(ctx)
    for node in (c.controller(), next(n for n in c.nodes.values() if n is not c.controller())):
        assert node.stop() == 0
        path = segment(node, "__cluster_metadata")
        size = os.path.getsize(path)
        for at in (70, size // 2, size - 10):
            flip(path, at)
        node.start()
        c.wait_formed()
        c.wait_in_sync()
        assert set(c.metadata(node).topics) >= {"t"}
        ctx.varve("topic", "create", f"after-{node.id}", "--replication-factor", 3, "-b", c.bootstrap)
        wait_for("node to learn of it", lambda: f"after-{node.id}" in c.metadata(node).topics, 30)
        wait_for("it to be mended", lambda: "__cluster_metadata-0" in node.trace(node.log_start) and "whole again" in node.trace(node.log_start), 60)
    for i in range(2):
        assert read(c, i) == values(i)
    same_copies(ctx, c)


def test_offsets_are_damaged_where_they_are_coordinated(ctx):
    """A coordinator that loads what it cannot read does not answer as if nothing was committed."""
    c = Cluster(ctx, settings={**SETTINGS, "offsets.topic.num.partitions": 1, "group.initial.rebalance.delay.ms": 0})
    c.create("t")
    kcat("-b", c.bootstrap, "-P", "-t", "t", "-X", "acks=all", input="".join(f"{i}\n" for i in range(100)))
    kcat("-b", c.bootstrap, "-G", "g", "-X", "auto.offset.reset=earliest", "-e", "t")
    c.wait_in_sync("__consumer_offsets")

    def committed():
        p = ctx.varve("group", "offsets", "g", "--json", "-b", c.bootstrap, check=False)
        return p.returncode == 0 and [json.loads(line)["offset"] for line in p.stdout.splitlines() if '"partition"' in line]
    assert wait_for("what was committed", committed) == [100]
    node = c.leader("__consumer_offsets")
    c.kill_all()  # nobody has it in memory
    path = segment(node, "__consumer_offsets")
    for at in (30, os.path.getsize(path) // 2, os.path.getsize(path) - 5):
        flip(path, at)
    c.start()
    c.wait_in_sync("__consumer_offsets")
    assert wait_for("what was committed", committed, 60) == [100]
    ctx.varve("cluster", "move", "__consumer_offsets", "--replicas", ",".join(map(str, [node.id] + [n for n in c.nodes if n != node.id])), "-b", c.bootstrap)
    elect_there(c, node, "__consumer_offsets", 0)
    assert wait_for("what was committed", committed, 60) == [100]


for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test.any_io = True
for test in (test_damaged_everywhere, test_a_damaged_journal, test_everything_but_the_records_is_gone):
    test.slow = True
