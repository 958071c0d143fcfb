#!/usr/bin/python3
"""Figures of three brokers on this machine, for README.md beside this file.

  cluster.py failover [KILLS]      kill -9 of the leader of a partition: how long a client sees no acknowledgement
  cluster.py graceful [STOPS]      the same with SIGTERM
  cluster.py partitions [N]        N replicated partitions: idle CPU and memory of each broker, and how long until all have a leader
                                   again when one broker is killed
  cluster.py snapshots [N]         N partitions without data: what snapshots of the metadata log cost those who change metadata

  --bin DIR    default build/bin (a release build)
  --beside N   failover, graceful: N more replicated partitions, which change their leaders at the same time
  --kills K    partitions: one broker after the other, K in all (3)
  --busy N     N loops beside it that want a processor each
  --slow MS    partitions: every sync of a journal takes so much longer, from when all is made (the blocking I/O over tests/e2e/disk_fault.c)

Compare two builds only by turns, in the same minutes."""
import argparse
import contextlib
import os
import re
import subprocess
import sys
import time

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../e2e"))
import harness  # noqa: E402
from checker import Load, summary  # noqa: E402
from cluster import Cluster, killed_at  # noqa: E402
from raw import Client  # noqa: E402


def say(*words):
    print(*words, flush=True)


@contextlib.contextmanager
def busy(count):
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def rounds(ctx, count, graceful, beside):
    """One partition, two idempotent librdkafka producers with default retries and one by hand, 200 records a second each."""
    c = Cluster(ctx)
    if beside:
        c.create("many", partitions=beside, min_insync_replicas=2)
    c.create("t", partitions=1, min_insync_replicas=2)
    gaps = []
    with Load(c, "t", threads=2, raw=1) as load:
        for i in range(count):
            victim = c.leader("t")
            at = time.monotonic()
            if graceful:
                assert victim.stop() == 0, victim.trace()[-2000:]
            else:
                at = killed_at(victim)
            load.wait_acks(50, 30)
            time.sleep(0.5)
            gaps.append(load.gap(at))
            victim.start()
            c.wait_formed()
            c.wait_in_sync(seconds=120)
            load.wait_acks(10)
            if i % 10 == 9:
                say(f"{i + 1}: {summary(gaps)}")
    total = load.check()
    say(f"{'graceful stop' if graceful else 'kill -9'} of the leader, {summary(gaps)}; {total} records acknowledged, 0 lost, 0 twice, 0 out of order")


def idle(c, seconds):
    before = {n.id: n.cpu_seconds() for n in c.running()}
    time.sleep(seconds)
    for n in c.running():
        say(f"node {n.id}: {(n.cpu_seconds() - before[n.id]) / seconds * 100:.2f} % of a processor, {n.rss_kb() / 1024:.1f} MiB resident")


def leaderless(c, topic, but):
    m = c.any_metadata([topic], but=but)
    return -1 if not m else sum(1 for p in m.topics[topic].values() if p.leader in {b.id for b in but} or p.leader < 0)


def slow_disks(ctx):
    """A cluster, and what makes its journals slow."""
    library = os.path.join(ctx.bin, "libdisk-fault.so")
    if not os.path.exists(library):
        raise AssertionError("--slow wants a build with tests")
    c = Cluster(ctx, settings={"io.backend": "blocking"}, start=False)
    control = os.path.join(c.nodes[1].root, "fault")
    for node in c.nodes.values():
        node.wrapper = ["env", f"LD_PRELOAD={library}", f"VARVE_DISK_FAULT={control}"]

    def slow(ms):
        with open(control + ".new", "w") as f:
            f.write(f"slow {ms} journal-0/\n")
        os.rename(control + ".new", control)
    return c.start(), slow


def partitions(ctx, count, kills, slow_ms):
    c, slow = slow_disks(ctx) if slow_ms else (Cluster(ctx), None)
    say("three brokers, nothing in them:")
    idle(c, 10)
    begun = time.monotonic()
    c.create("many", partitions=count, min_insync_replicas=2)
    say(f"{count} partitions with three replicas each, created and in sync after {time.monotonic() - begun:.1f} s; idle:")
    time.sleep(3)
    idle(c, 20)
    for i in range(kills):
        victim = c.nodes[i % len(c.nodes) + 1]
        if slow:
            slow(slow_ms)
            time.sleep(2 * slow_ms / 1000)
        led = sum(1 for p in c.any_metadata(["many"]).topics["many"].values() if p.leader == victim.id)
        at = killed_at(victim)
        half = None
        while True:
            left = leaderless(c, "many", (victim,))
            now = time.monotonic() - at
            if half is None and 0 <= left <= led / 2:
                half = now
            if left == 0:
                break
            if now > 60:
                raise AssertionError(f"{left} partitions have no leader after 60 s")
            time.sleep(0.01)
        say(f"kill -9 of node {victim.id}, which led {led}: half of them led again after {half * 1000:.0f} ms, all after {now * 1000:.0f} ms")
        if slow:
            slow(0)
        begun = time.monotonic()
        victim.start()
        c.wait_in_sync("many", seconds=120)
        say(f"started again: all in sync after {time.monotonic() - begun:.1f} s")
        time.sleep(3)
    idle(c, 10)


def made(c):
    """(records, bytes, ms that other changes waited) of the snapshots so far."""
    said = "\n".join(n.trace() for n in c.nodes.values())
    pattern = r"snapshot of the metadata .*: (\d+) records, (\d+) bytes; other changes waited for ([\d.]+) ms"
    return [(int(r), int(b), float(ms)) for r, b, ms in re.findall(pattern, said)]


def change_until(c, count):
    """A topic comes and goes until there were so many snapshots: how long each change took, in ms."""
    took = []
    with Client(c.controller(), timeout=60) as client:
        while len(made(c)) < count:
            for change in (client.create, client.delete):
                begun = time.monotonic()
                errors = change("passing")
                assert errors == [0], errors
                took.append((time.monotonic() - begun) * 1000)
    return sorted(took)


def snapshots(ctx, count):
    per_topic = 500
    for size in (1, 3):
        c = Cluster(ctx, size=size, settings={"metadata.log.max.record.bytes.between.snapshots": 20000})
        for i in range(0, count, per_topic):
            c.create(f"many-{i}", partitions=min(per_topic, count - i), replicas=1)
        time.sleep(20)  # the checkpoint that makes so many folders
        before = len(made(c))
        took = change_until(c, before + 5)
        say(f"{size} brokers, {count} partitions: {len(took)} changes, median {took[len(took) // 2]:.1f} ms, "
            f"p99 {took[len(took) * 99 // 100]:.1f} ms, longest {took[-1]:.1f} ms")
        for records, size_bytes, ms in made(c)[before:]:
            say(f"  a snapshot of {records} records, {size_bytes} bytes: other changes waited for {ms:.1f} ms")
        for node in c.running():
            say(f"  node {node.id}: {node.rss_kb() / 1024:.1f} MiB resident")
        c.kill_all()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("what", choices=("failover", "graceful", "partitions", "snapshots"))
    p.add_argument("count", type=int, nargs="?")
    p.add_argument("--bin", default=os.path.join(here, "../../build/bin"))
    p.add_argument("--beside", type=int, default=0)
    p.add_argument("--kills", type=int, default=3)
    p.add_argument("--busy", type=int, default=0)
    p.add_argument("--slow", type=int, default=0)
    args = p.parse_args()
    with harness.told(harness.Context(args.bin, "", False)) as ctx:
        with busy(args.busy):
            if args.what == "partitions":
                partitions(ctx, args.count or 1000, args.kills, args.slow)
            elif args.what == "snapshots":
                snapshots(ctx, args.count or 10000)
            else:
                rounds(ctx, args.count or 50, args.what == "graceful", args.beside)


main()
