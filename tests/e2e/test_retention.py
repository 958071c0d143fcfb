"""Records go: retention by size and age, DeleteRecords; and stay gone after kill -9."""
import glob
import json
import os
import time

from harness import kcat


def segments(b, topic):
    return sorted(os.path.basename(p) for p in glob.glob(f"{b.data}/{topic}-0/*.log"))


def first_offset(b, topic):
    out = kcat("-b", b.bootstrap, "-Q", "-t", f"{topic}:0:-2").stdout
    return int(out.split()[-1])


def wait_for(what, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def test_retention(ctx):
    b = ctx.broker(settings={"log.retention.check.interval.ms": 300})
    v = lambda *a, **kw: ctx.varve(*a, "-b", b.bootstrap, **kw)
    v("topic", "create", "size", "--config", "segment.bytes=1048576", "--config", "retention.bytes=3000000")
    v("topic", "create", "kept", "--config", "segment.bytes=1048576", "--config", "retention.bytes=-1", "--config", "retention.ms=-1")
    v("topic", "create", "age", "--config", "segment.bytes=1048576", "--config", "retention.ms=2000")
    for topic in ("size", "kept", "age"):
        v("bench", "produce", topic, "--count", 10000, "--connections", 1)  # 10 MB
    # By size: what stays is at least retention.bytes, and less than that and one more segment.
    read = lambda topic: kcat("-b", b.bootstrap, "-C", "-t", topic, "-o", "beginning", "-e", "-q", "-f", "%o\\n").stdout.split()
    wait_for(lambda: 3000000 <= len(read("size")) * 1000 <= 4200000 and len(segments(b, "size")) == 4)
    start, left = first_offset(b, "size"), read("size")
    assert 0 < start < 10000 and left[0] == str(start), (start, left[0])
    assert len(read("kept")) >= 10000
    # By age: all of it, the newest segment too.
    wait_for(lambda: kcat("-b", b.bootstrap, "-C", "-t", "age", "-o", "beginning", "-e", "-q").stdout == "")
    end = first_offset(b, "age")
    assert end >= 10000, end
    v("produce", "age", input="fresh\n")
    assert kcat("-b", b.bootstrap, "-C", "-t", "age", "-o", "beginning", "-e", "-q").stdout == "fresh\n"
    b.kill9()
    b.start()
    assert first_offset(b, "size") == start and first_offset(b, "age") >= end
    # A changed setting acts at the next look.
    v("topic", "alter", "kept", "--config", "retention.bytes=0")
    wait_for(lambda: first_offset(b, "kept") > 0)
    assert len(read("kept")) < 2000


def test_delete_records(ctx):
    b = ctx.broker()
    v = lambda *a, **kw: ctx.varve(*a, "-b", b.bootstrap, **kw)
    v("topic", "create", "t", "--partitions", 2, "--config", "segment.bytes=1048576")
    v("topic", "create", "compacted", "--config", "cleanup.policy=compact")
    v("bench", "produce", "t", "--partition", 0, "--count", 5000, "--connections", 1)
    assert json.loads(v("topic", "trim", "t", "--partition", 0, "--before", 3000, "--json").stdout)[0]["start"] == 3000
    assert first_offset(b, "t") == 3000
    assert v("topic", "trim", "t", "--partition", 0, "--before", 10, "--json").returncode == 0  # gone already
    assert v("topic", "trim", "t", "--partition", 0, "--before", 9999999, check=False).returncode == 1
    assert v("topic", "trim", "t", "--partition", 5, "--before", 1, check=False).returncode == 1
    assert v("topic", "trim", "t", check=False).returncode == 2
    refused = v("topic", "trim", "compacted", "--before", "end", check=False)
    assert refused.returncode == 1 and "POLICY" in refused.stderr.upper(), refused.stderr
    b.kill9()  # what was answered is durable
    b.start()
    assert first_offset(b, "t") == 3000
    left = kcat("-b", b.bootstrap, "-C", "-t", "t", "-p", "0", "-o", "beginning", "-e", "-q", "-f", "%o\\n").stdout.split()
    assert left[0] == "3000", left[0]
    v("topic", "trim", "t", "--before", "end")
    assert kcat("-b", b.bootstrap, "-C", "-t", "t", "-o", "beginning", "-e", "-q").stdout == ""
    v("produce", "t", "--partition", 0, input="one\n")
    assert kcat("-b", b.bootstrap, "-C", "-t", "t", "-o", "beginning", "-e", "-q").stdout == "one\n"
