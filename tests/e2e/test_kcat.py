"""kcat with Debian's librdkafka: what a person types first."""
import json
import os
import random
import subprocess
import tempfile

from harness import kcat, run, wait_for


def lines(n, seed=1, size=80):
    r = random.Random(seed)
    return [f"{i} " + "".join(r.choices("abcdefghij klmnop", k=r.randrange(size))) for i in range(n)]


def test_list(ctx):
    b = ctx.broker()
    kcat("-b", b.bootstrap, "-P", "-t", "listed", input="x\n")
    out = kcat("-b", b.bootstrap, "-L", "-J").stdout
    meta = json.loads(out)
    assert [t["topic"] for t in meta["topics"]] == ["listed"], out
    assert meta["brokers"][0]["name"] == b.bootstrap, out


def test_produce_consume_every_codec(ctx):
    b = ctx.broker()
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        sent = lines(20000)
        kcat("-b", b.bootstrap, "-P", "-t", codec, "-z", codec, "-X", "acks=all", input="\n".join(sent) + "\n")
        got = kcat("-b", b.bootstrap, "-C", "-t", codec, "-e", "-q", "-f", "%o %s\n").stdout.splitlines()
        assert [g.split(" ", 1)[1] for g in got] == sent, codec
        assert [int(g.split(" ", 1)[0]) for g in got] == list(range(len(sent))), codec
        dump = ctx.varve("dump", os.path.join(b.data, f"{codec}-0"), check=False).stdout
        # What is stored is what came. (librdkafka leaves a batch alone that would not become smaller.)
        stored = [(row.split("compresscodec: ")[1].split()[0], int(row.split("count: ")[1].split()[0]))
                  for row in dump.splitlines() if "compresscodec: " in row]
        assert stored and all(name == codec for name, count in stored if count > 1000), (codec, stored)


def test_keys_headers_and_nulls(ctx):
    b = ctx.broker()
    kcat("-b", b.bootstrap, "-P", "-t", "kv", "-K", ":", "-H", "a=1", "-H", "b=two", "-Z", input="k1:v1\nk2:\n:v3\n")
    got = [json.loads(x) for x in kcat("-b", b.bootstrap, "-C", "-t", "kv", "-e", "-q", "-J").stdout.splitlines()]
    assert [(g["key"], g["payload"]) for g in got] == [("k1", "v1"), ("k2", None), (None, "v3")] or \
        [(g["key"] or None, g["payload"]) for g in got] == [("k1", "v1"), ("k2", None), (None, "v3")], got
    assert all(g["headers"] == ["a", "1", "b", "two"] for g in got), got


def test_large_record(ctx):
    b = ctx.broker()
    value = os.urandom(500_000).hex()[:999_000]
    with tempfile.NamedTemporaryFile("w") as f:
        f.write(value)
        f.flush()
        kcat("-b", b.bootstrap, "-P", "-t", "big", "-X", "message.max.bytes=1500000", f.name)
    assert kcat("-b", b.bootstrap, "-C", "-t", "big", "-e", "-q", "-f", "%s").stdout == value


def test_offsets_and_times(ctx):
    b = ctx.broker()
    kcat("-b", b.bootstrap, "-P", "-t", "o", input="".join(f"{i}\n" for i in range(1000)))
    assert kcat("-b", b.bootstrap, "-C", "-t", "o", "-o", "995", "-e", "-q").stdout.split() == [str(i) for i in range(995, 1000)]
    assert kcat("-b", b.bootstrap, "-C", "-t", "o", "-o", "-3", "-e", "-q").stdout.split() == ["997", "998", "999"]
    assert kcat("-b", b.bootstrap, "-C", "-t", "o", "-o", "beginning", "-c", "2", "-q").stdout.split() == ["0", "1"]
    first = json.loads(kcat("-b", b.bootstrap, "-C", "-t", "o", "-c", "1", "-q", "-J").stdout)["ts"]
    out = kcat("-b", b.bootstrap, "-Q", "-t", f"o:0:{first}").stdout
    assert "offset 0" in out, out
    out = kcat("-b", b.bootstrap, "-Q", "-t", f"o:0:{first + 3_600_000}").stdout
    assert "offset -1" in out or "offset 1000" in out, out


def test_partitions(ctx):
    b = ctx.broker(settings={"num.partitions": 7, "reactors": 2})
    sent = lines(20000)
    kcat("-b", b.bootstrap, "-P", "-t", "many", "-K", " ", input="\n".join(sent) + "\n")
    got = kcat("-b", b.bootstrap, "-C", "-t", "many", "-e", "-q", "-f", "%p %o %k %s\n").stdout.splitlines()
    assert len(got) == len(sent)
    next_offset = {}
    for g in got:
        p, o = map(int, g.split()[:2])
        assert o == next_offset.get(p, 0), g
        next_offset[p] = o + 1
    assert len(next_offset) == 7, next_offset
    assert sorted(g.split(" ", 2)[2] for g in got) == sorted(sent)


def test_tail(ctx):
    """A consumer that waits at the end gets what comes, without polling."""
    b = ctx.broker()
    kcat("-b", b.bootstrap, "-P", "-t", "tail", input="old\n")
    p = subprocess.Popen(["kcat", "-b", b.bootstrap, "-C", "-t", "tail", "-o", "end", "-q", "-u", "-c", "3"], stdout=subprocess.PIPE, text=True)
    try:
        wait_for("the consumer's connection", lambda: p.poll() is None and established(b.port))
        for i in range(100):  # the first ones may come before the consumer knows the end
            kcat("-b", b.bootstrap, "-P", "-t", "tail", input=f"new{i}\n")
            if p.poll() is not None:
                break
        out = p.communicate(timeout=30)[0].split()
    finally:
        p.kill()
    assert len(out) == 3 and all(x.startswith("new") for x in out), out


def established(port):
    hexport = f":{port:04X}"
    with open("/proc/net/tcp") as f:
        return [x for x in f if hexport in x.split()[1] and x.split()[3] == "01"]


def test_idempotent_producer(ctx):
    b = ctx.broker()
    sent = lines(50000)
    kcat("-b", b.bootstrap, "-P", "-t", "idem", "-X", "enable.idempotence=true", "-z", "lz4", input="\n".join(sent) + "\n")
    assert kcat("-b", b.bootstrap, "-C", "-t", "idem", "-e", "-q").stdout.splitlines() == sent
