"""Our own command line against our own broker."""
import json
import os
import time

from harness import kcat


def test_topics(ctx):
    b = ctx.broker()
    v = lambda *a, **kw: ctx.varve(*a, "-b", b.bootstrap, **kw)
    v("topic", "create", "a", "--partitions", 3, "--config", "retention.ms=1000000")
    assert v("topic", "create", "a", check=False).returncode == 1
    assert v("topic", "create", "bad/name", check=False).returncode == 1
    assert v("topic", "create", "c", "--config", "no.such=1", check=False).returncode == 1
    assert "a" in v("topic", "list").stdout
    described = v("topic", "describe", "a", "--json").stdout
    json.loads(described)
    assert "1000000" in described, described
    v("topic", "alter", "a", "--config", "retention.ms=2000000")
    assert "2000000" in v("topic", "describe", "a", "--json").stdout
    v("topic", "alter", "a", "--partitions", 5)
    assert "5 partitions" in kcat("-b", b.bootstrap, "-L", "-t", "a").stdout
    v("topic", "delete", "a")
    assert '"a"' not in v("topic", "list", "--json").stdout


def test_cluster(ctx):
    b = ctx.broker()
    v = lambda *a, **kw: ctx.varve(*a, "-b", b.bootstrap, **kw)
    broker = lambda: json.loads(v("cluster", "describe", "--json").stdout)["brokers"][0]  # noqa: E731
    v("topic", "create", "a", "--partitions", 3)
    v("produce", "a", input="line\n" * 1000)
    before = broker()
    disk = before["log_dirs"][0]
    assert disk["path"] == os.path.abspath(b.data) and disk["partitions"] == 3 and disk["error"] is None, disk
    assert 5000 < disk["log_bytes"] < disk["usable_bytes"] < disk["total_bytes"], disk
    assert before["configs"] == {}, before
    v("cluster", "alter", "--config", "message.max.bytes=50000")
    v("cluster", "alter", before["id"], "--config", "log.retention.ms=5000000")
    assert v("cluster", "alter", before["id"], "--config", "num.partitions=3", check=False).returncode == 1
    assert v("cluster", "alter", check=False).returncode == 2
    b.kill9()
    b.start()
    assert broker()["configs"] == {"log.retention.ms": "5000000", "message.max.bytes": "50000"}
    assert "config message.max.bytes=50000" in v("cluster", "describe").stdout
    p = kcat("-b", b.bootstrap, "-P", "-t", "a", "-X", "message.max.bytes=1000000", "-X", "batch.size=100000", input="x" * 60000, check=False)
    assert "too large" in p.stderr.lower(), p.stderr  # in force again
    v("cluster", "alter", "--delete-config", "message.max.bytes")
    assert broker()["configs"] == {"log.retention.ms": "5000000"}
    kcat("-b", b.bootstrap, "-P", "-t", "a", "-X", "message.max.bytes=1000000", "-X", "batch.size=100000", input="x" * 60000)


def test_produce_and_consume(ctx):
    b = ctx.broker()
    v = lambda *a, **kw: ctx.varve(*a, "-b", b.bootstrap, **kw)
    sent = [f"line {i}" for i in range(30000)]
    for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
        p = v("produce", codec, "-z", codec, input="\n".join(sent) + "\n")
        assert "30000" in p.stderr, p.stderr
        assert v("consume", codec, "-o", "beginning", "-e").stdout.splitlines() == sent
        assert kcat("-b", b.bootstrap, "-C", "-t", codec, "-e", "-q").stdout.splitlines() == sent
    assert v("consume", "none", "-o", "-2", "-e").stdout.splitlines() == sent[-2:]
    assert v("consume", "none", "-o", "100", "-c", "2", "-f", "%t %p %o %s\\n").stdout == "none 0 100 line 100\nnone 0 101 line 101\n"
    row = json.loads(v("consume", "none", "-o", "7", "-c", "1", "-J").stdout)
    assert row["offset"] == 7 and row["payload"] == "line 7", row
    v("produce", "kv", "-k", ":", "-H", "h=1", input="k:v\n")
    got = json.loads(kcat("-b", b.bootstrap, "-C", "-t", "kv", "-e", "-q", "-J").stdout)
    assert (got["key"], got["payload"], got["headers"]) == ("k", "v", ["h", "1"]), got


def test_dump(ctx):
    b = ctx.broker()
    kcat("-b", b.bootstrap, "-P", "-t", "d", "-z", "zstd", input="".join(f"{i}\n" for i in range(2000)))
    ctx.varve("dump", "--verify", b.data)  # live
    b.stop()
    segment = os.path.join(b.data, "d-0", "0" * 20 + ".log")
    out = ctx.varve("dump", segment).stdout
    assert "baseOffset: 0" in out and "compresscodec: zstd" in out and "isvalid: true" in out, out[:500]
    assert "| offset: 1999 " in ctx.varve("dump", "--records", segment).stdout
    json.loads(ctx.varve("dump", "--json", segment).stdout.splitlines()[0])
    assert ctx.varve("dump", "--verify", b.data).returncode == 0
    with open(segment, "r+b") as f:
        f.seek(30)
        byte = f.read(1)
        f.seek(30)
        f.write(bytes([byte[0] ^ 1]))
    p = ctx.varve("dump", "--verify", segment, check=False)
    assert p.returncode == 3 and f"{segment}: position 0: " in p.stdout, p


def test_bench(ctx):
    b = ctx.broker()
    v = lambda *a, **kw: ctx.varve(*a, "-b", b.bootstrap, **kw)
    assert v("bench", "consume", "none", check=False).returncode == 1  # no such topic
    made = json.loads(v("bench", "produce", "load", "--partitions", 4, "--count", 20000, "--batch", 8000, "--connections", 3,
                        "--per-request", 2, "--compression", "lz4", "--server-pid", b.process.pid, "--json").stdout)
    assert made["records"] >= 20000 and made["requests"] > 0 and made["bytes"] > 100000, made
    assert 0 < made["p50_us"] <= made["p99_us"] <= made["max_us"], made
    assert made["server"]["rss_bytes"] > 1000000, made
    # What was counted is there, for other clients too.
    assert len(kcat("-b", b.bootstrap, "-C", "-t", "load", "-e", "-q", "-f", "x\\n").stdout.splitlines()) == made["records"]
    read = json.loads(v("bench", "consume", "load", "--connections", 2, "--json").stdout)
    assert (read["records"], read["bytes"]) == (made["records"], made["bytes"]), (made, read)
    paced = v("bench", "produce", "load", "--rate", 200, "--seconds", 1, "--acks", 1).stdout
    assert "open loop" in paced, paced
    unanswered = json.loads(v("bench", "produce", "load", "--acks", 0, "--count", 170, "--json").stdout)
    assert unanswered["p50_us"] == 0 and unanswered["records"] >= 170, unanswered
    assert v("bench", "produce", "load", "--batch", 5000000, "--count", 1, check=False).returncode == 1  # above message.max.bytes


def test_produce_report(ctx):
    """--report tells of each line when it is acknowledged."""
    b = ctx.broker()
    at = ("-b", b.bootstrap)
    ctx.varve("topic", "create", "t", *at)
    lines = ctx.varve("produce", "t", "--report", *at, input="a\nb\n").stdout.splitlines()
    assert [row.split()[:3] for row in lines] == [["1", "0", "0"], ["2", "0", "1"]], lines
    rows = [json.loads(row) for row in ctx.varve("produce", "t", "--report", "--json", *at, input="c\n").stdout.splitlines()]
    assert rows[0]["line"] == 1 and rows[0]["offset"] == 2 and abs(rows[0]["acknowledged_ms"] / 1000 - time.time()) < 60, rows
    assert rows[1]["acknowledged"] == 1, rows
