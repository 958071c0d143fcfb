"""`varve dump` on real data directories: in use, killed, stopped; and what it says when bytes change."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading

from harness import kcat, wait_for


def verify(ctx, *paths, check=False):
    return ctx.varve("dump", "--verify", *paths, check=check)


def damages(p):
    found = [re.match(r"(.*): position (\d+): .+$", line) for line in p.stdout.splitlines()]
    assert all(found), p.stdout
    return [(m.group(1), int(m.group(2))) for m in found]


def flip(path, position, mask=1):
    with open(path, "r+b") as f:
        f.seek(position)
        byte = f.read(1)[0]
        f.seek(position)
        f.write(bytes([byte ^ mask]))


def files(data, *suffixes):
    return sorted(os.path.join(d, n) for d, _, names in os.walk(data) for n in names if n.endswith(suffixes))


def lines(count, seed=1):
    r = random.Random(seed)
    return "".join(f"{i} {r.getrandbits(400):x}\n" for i in range(count))


def fill(ctx, b, topics=2, count=12000):
    for t in range(topics):
        ctx.varve("topic", "create", f"t{t}", "-b", b.bootstrap, "--config", "segment.bytes=1048576", "--config", "index.interval.bytes=1000")
        kcat("-b", b.bootstrap, "-P", "-t", f"t{t}", "-p", "0", "-X", "batch.num.messages=40", "-X", "enable.idempotence=true", input=lines(count, t))


def test_in_use(ctx):
    """Verified again and again while records come in, checkpoints run, pieces are recycled and topics go."""
    b = ctx.broker(settings={"journal.bytes": 4 << 20})
    stop = threading.Event()
    failures = []

    def produce(n):
        try:
            k = 0
            while not stop.is_set():
                topic = f"live{n}-{k}"
                ctx.varve("topic", "create", topic, "-b", b.bootstrap, "--config", "segment.bytes=1048576", "--config", "index.interval.bytes=500")
                for _ in range(3):
                    kcat("-b", b.bootstrap, "-P", "-t", topic, "-p", "0", "-X", "batch.num.messages=50", "-X", "enable.idempotence=true", input=lines(8000, k))
                if k > 1:
                    ctx.varve("topic", "delete", f"live{n}-{k - 1}", "-b", b.bootstrap)
                k += 1
        except Exception as e:  # reported by the main thread
            failures.append(e)

    threads = [threading.Thread(target=produce, args=(n,)) for n in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(4 if ctx.quick else 15):
            p = verify(ctx, b.data)
            assert p.returncode == 0 and not p.stdout, (p.stdout, p.stderr)
            ctx.varve("dump", b.data)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not failures, failures
    b.kill9()
    p = verify(ctx, b.data)
    assert p.returncode == 0 and not p.stdout, (p.stdout, p.stderr)
    b.start()
    assert b.stop() == 0
    p = verify(ctx, b.data)
    assert p.returncode == 0 and not p.stdout and "unfinished" not in p.stderr, (p.stdout, p.stderr)


def test_damage_after_clean_stop(ctx):
    b = ctx.broker()
    fill(ctx, b)
    assert b.stop() == 0
    assert verify(ctx, b.data).returncode == 0
    logs = files(os.path.join(b.data, "t0-0"), ".log")
    assert len(logs) >= 2, logs
    r = random.Random(7)
    for path in logs[:1] + logs[-1:]:
        batches = [json.loads(line) for line in ctx.varve("dump", "--json", path).stdout.splitlines()]
        starts = [x["position"] for x in batches]
        for _ in range(6 if ctx.quick else 25):
            batch = r.choice(batches)
            where = batch["position"] + r.choice([r.randrange(21), r.randrange(batch["size"])])
            mask = 1 << r.randrange(8)
            flip(path, where, mask)
            for p in (verify(ctx, b.data), verify(ctx, path)):
                assert p.returncode == 3 and damages(p) == [(path, batch["position"])], (where, mask, batch, p.stdout)
            flip(path, where, mask)
        for suffix, size in ((".index", 8), (".timeindex", 12)):
            index = path[:-4] + suffix
            where = r.randrange(os.path.getsize(index))
            flip(index, where)
            p = verify(ctx, b.data)
            assert p.returncode == 3 and damages(p) == [(index, where - where % size)], (where, p.stdout)
            flip(index, where)
        # Too short and too long: nothing may be missing below what the catalogue says, and nothing follows a clean stop.
        whole = os.path.getsize(path)
        shutil.copyfile(path, path + ".saved")
        os.truncate(path, whole - 1)
        p = verify(ctx, b.data)
        assert p.returncode == 3 and damages(p) == [(path, starts[-1])], p.stdout
        shutil.copyfile(path + ".saved", path)
        os.truncate(path, starts[-1])
        p = verify(ctx, b.data)
        assert p.returncode == 3 and (path, starts[-1]) in damages(p), p.stdout
        os.unlink(path)
        p = verify(ctx, b.data)
        assert p.returncode == 3 and (path, 0) in damages(p), p.stdout
        os.rename(path + ".saved", path)
        with open(path, "ab") as f:
            f.write(b"\0" * 100)
        p = verify(ctx, b.data)
        assert p.returncode == 3 and damages(p) == [(path, whole)], p.stdout
        os.truncate(path, whole)
    assert verify(ctx, b.data).returncode == 0


def test_damage_in_state_files(ctx):
    b = ctx.broker()
    fill(ctx, b, topics=1, count=500)
    assert b.stop() == 0
    catalog = os.path.join(b.data, "journal-0", "catalog")
    records = [json.loads(line) for line in ctx.varve("dump", "--json", catalog).stdout.splitlines()]
    assert records[-1]["type"] == "footer" and records[-1]["cleanStop"] is True, records[-1]
    r = random.Random(3)
    for i, record in enumerate(records):
        end = records[i + 1]["position"] if i + 1 < len(records) else os.path.getsize(catalog)
        where = r.randrange(record["position"], end)
        flip(catalog, where)
        p = verify(ctx, catalog)
        assert p.returncode == 3 and damages(p) == [(catalog, record["position"])], (where, record, p.stdout, p.stderr)
        assert verify(ctx, b.data).returncode == 3
        flip(catalog, where)
    meta = os.path.join(b.data, "varve.meta")
    for where, position in ((30, 0), (4096 + 30, 4096)):
        flip(meta, where)
        p = verify(ctx, b.data)
        assert p.returncode == 3 and (meta, position) in damages(p), p.stdout
        flip(meta, where)
    for path in files(b.data, "varve.manifest", ".snapshot"):
        flip(path, os.path.getsize(path) - 1)
        p = verify(ctx, b.data)
        assert p.returncode == 3 and (path, 0) in damages(p), (path, p.stdout)
        flip(path, os.path.getsize(path) - 1)
    assert verify(ctx, b.data).returncode == 0


def test_damage_in_the_journal(ctx):
    b = ctx.broker()
    for i in range(30):
        kcat("-b", b.bootstrap, "-P", "-t", "t", input=lines(20, i))
    piece = os.path.join(b.data, "journal-0", "000000.vj")

    def groups():
        return [g for g in map(json.loads, ctx.varve("dump", "--json", piece).stdout.splitlines()) if g["isvalid"] and not g["checkpointed"]]

    for _ in range(20):  # until no checkpoint has come between the IDLE group and the kill
        wait_for("the IDLE group", lambda: (groups() or [{"flags": "IDLE"}])[-1]["flags"] == "IDLE")
        kcat("-b", b.bootstrap, "-P", "-t", "t", input=lines(20))
        b.kill9()
        p = verify(ctx, b.data)
        assert p.returncode == 0 and not p.stdout, p.stdout
        live = groups()
        vouched = max((g["durableSeq"] for g in live), default=0)
        durable = [g for g in live if g["seq"] <= vouched]
        if durable:
            break
        b.start()
        for i in range(3):
            kcat("-b", b.bootstrap, "-P", "-t", "t", input=lines(20, i))
    assert durable, live
    r = random.Random(5)
    for g in durable:
        where = g["position"] + r.randrange(g["size"])
        mask = 1 << r.randrange(8)
        flip(piece, where, mask)
        p = verify(ctx, b.data)
        assert p.returncode == 3 and damages(p) == [(piece, g["position"])], (g, where, p.stdout)
        p = verify(ctx, piece)
        assert p.returncode == 3 and damages(p) == [(piece, g["position"])], (g, where, p.stdout)
        flip(piece, where, mask)
    assert verify(ctx, b.data).returncode == 0
    b.start()
    assert b.stop() == 0


def test_filters_and_follow(ctx):
    """While records come in: what --follow shows, over segments that roll, is what was produced, once and in order."""
    b = ctx.broker()
    for t in ("a", "b"):
        ctx.varve("topic", "create", t, "-b", b.bootstrap, "--config", "segment.bytes=1048576")
    kcat("-b", b.bootstrap, "-P", "-t", "a", "-K", ":", input="k:before\n")
    with open(os.path.join(b.root, "followed"), "w+") as out:
        follow = subprocess.Popen([os.path.join(ctx.bin, "varve"), "dump", "--follow", "--records", "--json", b.data], stdout=out)
        try:
            text = lines(12000)
            for t in ("a", "b"):
                kcat("-b", b.bootstrap, "-P", "-t", t, "-X", "batch.num.messages=50", input=text)

            def followed():
                shown = {"a": [], "b": []}
                with open(out.name) as f:
                    for line in f.read().rpartition("\n")[0].splitlines():
                        r = json.loads(line)
                        topic = os.path.basename(os.path.dirname(r["file"]))[:-2]
                        if r["type"] == "record" and topic in shown:
                            shown[topic].append((r["offset"], r["payload"]))
                return shown

            wait_for("all records to be shown", lambda: [len(v) for v in followed().values()] == [12001, 12000], 90)
        finally:
            follow.send_signal(signal.SIGINT)
        assert follow.wait(30) == 0
    shown = followed()
    assert [o for o, _ in shown["a"]] == list(range(12001)) and [o for o, _ in shown["b"]] == list(range(12000))
    assert [p for _, p in shown["b"]] == text.splitlines() and shown["a"][0][1] == "before"
    assert len(files(os.path.join(b.data, "a-0"), ".log")) > 1
    p = ctx.varve("dump", "--key", "k", "--json", b.data)
    assert [json.loads(r)["type"] for r in p.stdout.splitlines()] == ["batch", "record"], p.stdout
    p = ctx.varve("dump", "--summary", "--json", os.path.join(b.data, "b-0"))
    assert json.loads(p.stdout)["records"] == 12000 and json.loads(p.stdout)["lastOffset"] == 11999, p.stdout


def metadata_records(ctx, b):
    p = ctx.varve("dump", "--records", "--json", os.path.join(b.data, "__cluster_metadata-0"))
    return [r for r in map(json.loads, p.stdout.splitlines()) if r["type"] == "record"]


def test_metadata_log(ctx):
    """The metadata log in words: what was asked for is there, and a snapshot from its begin to its end."""
    b = ctx.broker(settings={"metadata.log.max.record.bytes.between.snapshots": 2000})
    ctx.varve("topic", "create", "first", "-b", b.bootstrap, "--partitions", 3, "--config", "retention.ms=1234567")
    kcat("-P", "-t", "first", "-X", "enable.idempotence=true", "-b", b.bootstrap, input="x\n")
    id_shown = ctx.varve("topic", "describe", "first", "--json", "-b", b.bootstrap).stdout
    b.stop()  # what was in the journal only is in the files now
    shown = metadata_records(ctx, b)
    assert all("undecoded" not in r and r["key"] is None for r in shown), shown
    of = lambda kind: [r["payload"]["data"] for r in shown if r["payload"]["type"] == kind and "kept" not in r["payload"]]
    topic, = of("TOPIC_RECORD")
    assert topic["name"] == "first" and topic["id"] in id_shown, (topic, id_shown)
    assert [p["partition"] for p in of("PARTITION_RECORD") if p["topicId"] == topic["id"]] == [0, 1, 2]
    config, = of("CONFIG_RECORD")
    assert config == {"resourceType": 2, "resourceName": "first", "key": "retention.ms", "value": "1234567", "removed": False}
    assert of("PRODUCER_IDS_RECORD")[0]["next"] >= 1000
    b.start()
    made = 0
    while "the metadata log begins at offset" not in b.trace():
        assert made < 300, "the metadata log does not begin with a snapshot"
        ctx.varve("topic", "create", f"t{made}", "-b", b.bootstrap)
        made += 1
    b.stop()
    kinds = [(r["offset"], r["payload"]) for r in metadata_records(ctx, b)]
    begins = [o for o, p in kinds if p["type"] == "SNAPSHOT_BEGIN_RECORD"]
    ends = [(o, p["data"]) for o, p in kinds if p["type"] == "SNAPSHOT_END_RECORD"]
    assert begins and ends and ends[0][1]["begin"] == begins[0], (begins, ends)
    first, last = begins[0], ends[0][0]
    assert [o for o, p in kinds if "kept" in p and first < o < last] == list(range(first + 1, last)) and ends[0][1]["pieces"] == last - first - 1
