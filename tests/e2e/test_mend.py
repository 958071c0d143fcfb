"""Damage on one of three brokers is found, never served, and put right from the others, byte for byte."""
import hashlib
import os
import time

from cluster import Cluster
from harness import wait_for

SETTINGS = {"scrub.interval.ms": "500", "scrub.bytes.per.second": "200000000", "journal.bytes": "16777216"}


def digest(path):
    try:
        with open(path, "rb") as f:
            return hashlib.sha256(f.read()).hexdigest()
    except FileNotFoundError:
        return None


def segment(node, topic="t", base=0):
    return os.path.join(node.data, f"{topic}-0", f"{base:020d}.log")


def bases(node, topic="t"):
    folder = os.path.join(node.data, f"{topic}-0")
    return sorted(int(f[:-4]) for f in os.listdir(folder) if f.endswith(".log")) if os.path.isdir(folder) else []


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        byte = f.read(1)
        f.seek(at)
        f.write(bytes([byte[0] ^ 0x10]))


def filled(ctx, megabytes=4):
    """Three brokers, a topic on all of them, its first segments complete, synced and equal everywhere."""
    c = Cluster(ctx, settings=SETTINGS)
    c.create("t", segment_bytes=1048576)
    lines = "\n".join(hashlib.sha256(str(i).encode()).hexdigest() * 14 for i in range(megabytes * 1165)) + "\n"
    ctx.varve("produce", "t", "--acks", "all", "-b", c.bootstrap, input=lines)
    manifest = lambda n: os.path.join(n.data, "t-0", "varve.manifest")  # noqa: E731

    def complete():
        return all(len(bases(n)) >= 3 and os.path.exists(manifest(n)) and os.path.getsize(manifest(n)) > 300 for n in c.nodes.values())
    wait_for("complete segments with digests", complete)
    time.sleep(1.5)  # and a checkpoint
    assert len({digest(segment(n)) for n in c.nodes.values()}) == 1
    return c, lines


def all_there(ctx, c, lines):
    got = ctx.varve("consume", "t", "--exit", "-b", c.bootstrap, timeout=120).stdout
    assert got == lines, (len(got), len(lines))


def whole_again(node, path, want, seconds=60):
    wait_for(f"the segment of node {node.id} to be what it was", lambda: digest(path) == want, seconds)


def test_flipped_bits(ctx):
    c, lines = filled(ctx)
    want = digest(segment(c.nodes[1]))
    size = os.path.getsize(segment(c.nodes[1]))
    # A batch's offset, its length, its CRC, its attributes, records in the middle, the last byte.
    for turn, at in enumerate((3, 9, 18, 22, size // 2, size - 1)):
        node = c.nodes[1 + turn % 3]
        flip(segment(node), at)
        whole_again(node, segment(node), want)
    all_there(ctx, c, lines)
    for node in c.nodes.values():
        assert "whole again, byte for byte" in node.trace(), node.id


def test_in_all_its_segments(ctx):
    c, lines = filled(ctx)
    node = c.leader("t")
    before = {b: digest(segment(node, base=b)) for b in bases(node)[:-1]}
    for base in before:
        flip(segment(node, base=base), 5000)
        flip(segment(node, base=base), os.path.getsize(segment(node, base=base)) - 5000)
    for base, want in before.items():
        whole_again(node, segment(node, base=base), want)
    all_there(ctx, c, lines)


def test_segments_gone_or_short(ctx):
    c, lines = filled(ctx)
    want = digest(segment(c.nodes[1]))
    for node, size in ((c.nodes[1], None), (c.nodes[2], 0), (c.nodes[3], 300001)):
        node.stop()
        if size is None:
            for suffix in (".log", ".index", ".timeindex"):
                os.unlink(segment(node)[:-4] + suffix)
        else:
            os.truncate(segment(node), size)
        node.start()
        whole_again(node, segment(node), want)
        c.wait_in_sync("t")
    all_there(ctx, c, lines)


def test_the_segment_that_is_written(ctx):
    c, lines = filled(ctx)
    node = c.nodes[2]
    node.stop()
    newest = segment(node, base=bases(node)[-1])
    if os.path.getsize(newest) < 2000:
        ctx.varve("produce", "t", "--acks", "all", "-b", c.bootstrap, input="x\n" * 100)
        raise AssertionError("the newest segment is too short to be of use")
    flip(newest, 1000)
    node.start()
    wait_for("it to be mended", lambda: "is whole again" in node.trace(), 60)
    c.wait_in_sync("t")
    all_there(ctx, c, lines)


def test_lost_disks(ctx):
    """Catalogue or varve.meta damaged: the directory is put aside, and the node is filled again as another incarnation."""
    c, lines = filled(ctx, megabytes=2)
    for node, name in ((c.nodes[3], "journal-0/catalog"), (c.nodes[2], "varve.meta")):
        node.stop()
        path = os.path.join(node.data, name)
        with open(path, "r+b") as f:
            f.write(b"\xa5" * os.path.getsize(path))
        node.start()
        assert "the disk is lost" in node.trace()
        aside = [d for d in os.listdir(node.data) if d.startswith("damaged.")]
        assert len(aside) == 1 and os.path.exists(os.path.join(node.data, aside[0], "t-0")), aside
        c.wait_in_sync(seconds=120)
        wait_for("its segments", lambda: digest(segment(node)) == digest(segment(c.nodes[1])), 60)
    all_there(ctx, c, lines)


for test in [f for name, f in list(globals().items()) if name.startswith("test_")]:
    test.any_io = True
