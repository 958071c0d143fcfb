"""Damage on disk: the broker serves what is sound and says what is not; `varve dump --repair` makes the rest servable."""
import json
import os
import re

from harness import kcat, wait_for
from test_dump import files, fill, flip, lines, verify

NO_SCRUB = {"scrub.bytes.per.second": 0}


def offsets(b, topic, start="beginning"):
    p = kcat("-b", b.bootstrap, "-C", "-t", topic, "-p", "0", "-o", start, "-e", "-f", "%o\n")
    return [int(x) for x in p.stdout.split()]


def lost_of(p):
    """What the tool says is lost, as a set of offsets."""
    found = set()
    for line in map(json.loads, p.stdout.splitlines()):
        if line["type"] == "lost":
            found |= set(range(line["firstOffset"], line["endOffset"]))
    return found


def test_damage_is_reported_and_the_rest_is_served(ctx):
    b = ctx.broker(settings=dict(NO_SCRUB))
    fill(ctx, b, topics=2, count=12000)
    assert b.stop() == 0
    first, last = (files(os.path.join(b.data, "t0-0"), ".log")[i] for i in (0, -1))
    assert first != last
    for where in (100, 300000):
        flip(first, where)
    b.settings = {"scrub.bytes.per.second": 1 << 30}
    b.start()
    # Nobody reads: the scrubber finds it.
    wait_for("the scrubber", lambda: b.trace(b.log_start).count("damaged from byte") >= 2)
    said = re.findall(r"(\S+\.log): damaged from byte (\d+) to (\d+): offsets (\d+) to (\d+)", b.trace(b.log_start))
    lost = {o for _, _, _, x, y in said for o in range(int(x), int(y) + 1)}
    assert {path for path, *_ in said} == {first} and 0 in lost and len(lost) <= 80, said
    assert offsets(b, "t1") == list(range(12000))
    begin = min(o for o in range(12000) if o not in lost)
    end = min(o for o in lost if o > begin)
    p = kcat("-b", b.bootstrap, "-C", "-t", "t0", "-p", "0", "-o", begin, "-c", end - begin, "-f", "%o\n")
    assert [int(x) for x in p.stdout.split()] == list(range(begin, end))
    behind = max(lost) + 1
    assert offsets(b, "t0", behind) == list(range(behind, 12000))
    assert b.stop() == 0
    # A copy without the damage; then the same in place. The broker in between holds the lock.
    p = ctx.varve("dump", "--repair", "--json", b.data, check=False)
    assert p.returncode == 3 and lost_of(p) == lost, (p.stdout, p.stderr)
    fixed = os.path.join(b.root, "fixed")
    p = ctx.varve("dump", "--repair", "--json", "--to", fixed, b.data)
    assert lost_of(p) == lost and verify(ctx, fixed).returncode == 0
    assert verify(ctx, b.data).returncode == 3  # as it was
    c = ctx.broker(data=fixed)
    assert offsets(c, "t0") == [o for o in range(12000) if o not in lost]
    p = ctx.varve("dump", "--repair", "--in-place", fixed, check=False)
    assert p.returncode == 1 and "a broker uses this directory" in p.stderr, p.stderr
    kcat("-b", c.bootstrap, "-P", "-t", "t0", "-p", "0", input="more\n")
    assert offsets(c, "t0", 12000) == [12000]
    assert c.stop() == 0
    assert verify(ctx, fixed).returncode == 0
    p = ctx.varve("dump", "--repair", "--json", "--in-place", b.data)
    assert lost_of(p) == lost and verify(ctx, b.data).returncode == 0
    b.start()
    assert offsets(b, "t0") == [o for o in range(12000) if o not in lost]


def test_a_damaged_journal_is_refused_and_repaired(ctx):
    b = ctx.broker(settings=dict(NO_SCRUB))
    for topic in ("t", "u"):
        kcat("-b", b.bootstrap, "-P", "-t", topic, "-p", "0", input=lines(500))
    piece = os.path.join(b.data, "journal-0", "000000.vj")

    def groups():
        return [g for g in map(json.loads, ctx.varve("dump", "--json", piece).stdout.splitlines()) if g["isvalid"] and not g["checkpointed"]]

    wait_for("a checkpoint", lambda: not [g for g in groups() if g["flags"] != "IDLE"])
    for topic in ("t", "u"):
        kcat("-b", b.bootstrap, "-P", "-t", topic, "-p", "0", input=lines(20))
    b.kill9()
    live = [g for g in groups() if g["flags"] != "IDLE"]
    vouched = max(g["durableSeq"] for g in groups())
    if not live or live[0]["seq"] > vouched:
        return  # a checkpoint came first: nothing is left to damage
    flip(piece, live[0]["position"] + 200)
    b.spawn()
    assert b.process.wait(30) != 0
    assert "was durable and is damaged" in b.trace(b.log_start), b.trace(b.log_start)
    fixed = os.path.join(b.root, "fixed")
    ctx.varve("dump", "--repair", "--to", fixed, b.data)
    assert verify(ctx, fixed).returncode == 0
    c = ctx.broker(data=fixed)
    for topic in ("t", "u"):
        got = offsets(c, topic)
        assert got == list(range(len(got))) and len(got) in (500, 520), (topic, len(got))
    kcat("-b", c.bootstrap, "-P", "-t", "t", "-p", "0", input="more\n")
    c.kill9()
    c.start()
    assert offsets(c, "t")[:500] == list(range(500))
