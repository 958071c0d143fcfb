"""`varve dump --compare`: two copies of a partition."""
import glob
import json
import os
import shutil

from harness import kcat


def compare(ctx, a, b, *args):
    return ctx.varve("dump", "--compare", *args, a, b, check=False)


def stopped_copies(ctx):
    """Two data directories with the same records in several segments, cleanly stopped."""
    b = ctx.broker(settings={"log.segment.bytes": 1 << 20})
    ctx.varve("topic", "create", "t", "--partitions", 2, "-b", b.bootstrap)
    for i in range(20):
        kcat("-b", b.bootstrap, "-P", "-t", "t", "-p", i % 2, input="".join(f"{i} {k} {'x' * 3000}\n" for k in range(100)))
    assert b.stop() == 0
    other = os.path.join(b.root, "other")
    shutil.copytree(b.data, other)
    return b, b.data, other


def logs(data):
    return sorted(glob.glob(os.path.join(data, "t-1", "*.log")))


def test_the_same(ctx):
    _, a, b = stopped_copies(ctx)
    p = compare(ctx, a, b)
    assert p.returncode == 0 and p.stdout.count("the same") == 3, p
    assert len(logs(a)) > 2
    rows = [json.loads(line) for line in compare(ctx, a, b, "--json").stdout.splitlines()]
    assert rows.pop(0)["partition"] == "__cluster_metadata-0"
    assert [(r["partition"], r["same"], r["startA"], r["endA"], r["endB"]) for r in rows] == \
        [("t-0", True, 0, 1000, 1000), ("t-1", True, 0, 1000, 1000)], rows
    assert compare(ctx, os.path.join(a, "t-0"), os.path.join(b, "t-0")).returncode == 0
    p = compare(ctx, os.path.join(a, "t-0"), os.path.join(b, "t-1"))
    assert p.returncode == 3 and "different topics or partitions" in p.stdout, p


def test_a_byte(ctx):
    _, a, b = stopped_copies(ctx)
    victim = logs(b)[1]
    with open(victim, "r+b") as f:
        f.seek(150000)
        byte = f.read(1)
        f.seek(150000)
        f.write(bytes([byte[0] ^ 1]))
    p = compare(ctx, a, b)
    assert p.returncode == 3 and "t-0" in p.stdout and "CRC of A good, of B wrong" in p.stdout, p
    row = json.loads(compare(ctx, os.path.join(a, "t-1"), os.path.join(b, "t-1"), "--json").stdout)
    base = int(os.path.basename(victim)[:20])
    assert not row["same"] and base <= row["offset"] < base + 500, row


def test_an_end(ctx):
    _, a, b = stopped_copies(ctx)
    victim = logs(b)[-1]
    os.truncate(victim, 0)
    p = compare(ctx, a, b)
    assert p.returncode == 3 and f"B at {int(os.path.basename(victim)[:20])}" in p.stdout, p


def test_in_use(ctx):
    """A copy that is behind because records lie in its journal is no difference."""
    b, a, other = stopped_copies(ctx)
    b.start()
    kcat("-b", b.bootstrap, "-P", "-t", "t", "-p", 1, input="more\n")
    b.kill9()
    p = compare(ctx, a, other)
    assert p.returncode == 0, p
    b.start()
    assert b.stop() == 0
    p = compare(ctx, a, other)
    assert p.returncode == 3 and "A ends at offset 1001, B at 1000" in p.stdout, p


def test_starts_differ(ctx):
    """Retention may have been further on one of them."""
    b, a, other = stopped_copies(ctx)
    b.start()
    ctx.varve("topic", "trim", "t", "--before", 700, "-b", b.bootstrap)
    assert b.stop() == 0
    p = compare(ctx, a, other)
    assert p.returncode == 0 and "the same" in p.stdout, p


def test_usage(ctx):
    b, a, other = stopped_copies(ctx)
    for args, code in (((a,), 2), ((a, os.path.join(b.root, "nothing")), 1), ((a, b.root), 2), ((a, other, "--verify"), 2), ((a, os.path.join(b.data, "t-0")), 2)):
        p = ctx.varve("dump", "--compare", *args, check=False)
        assert p.returncode == code and p.stderr, (args, p)
