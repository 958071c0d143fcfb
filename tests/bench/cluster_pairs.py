#!/usr/bin/python3
"""Three brokers of one kind and three of another under the same load, in turn: A B B A. See README.md here.

  cluster_pairs.py BUILD OTHER-BUILD          two builds of varved
  cluster_pairs.py BUILD kafka:JARS           varved and Apache Kafka (three combined nodes of KRaft) from a folder of its jars
  cluster_pairs.py BUILD kafka-flush:JARS     ... that syncs before it acknowledges (log.flush.interval.messages=1)

  --pairs 3          rounds of A B B A
  --workloads ...    NAME:CONNECTIONS:IN-FLIGHT:BATCH-BYTES:SECONDS, separated by blanks
  --kills 5          of leaders, afterwards, each kind alone; 0: none

A topic of six partitions with three replicas, min.insync.replicas=2, acks=all. CPU seconds are those of all three brokers. Each kind is started
on empty folders, and gets every workload once unmeasured, which a JVM needs. Data goes to $TMPDIR."""
import argparse
import json
import os
import statistics
import sys
import time

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(here, "../e2e"))
import harness  # noqa: E402
from checker import Load, summary  # noqa: E402
from cluster import Cluster, killed_at  # noqa: E402
from kafka_nodes import Kafka  # noqa: E402

WORKLOADS = "1k:64:1:1024:5 16k:16:4:16384:5 64k:8:2:65536:5 512k:4:2:524288:5"


class Kind:
    """Three brokers, and what they cost."""

    def __init__(self, name, build, spec):
        self.name, self.spec = name, spec
        self.ctx = harness.Context(os.path.join(build, "bin"), "", False)  # whose varve does the work, for both kinds

    def begin(self):
        begun = time.monotonic()
        what, _, jars = self.spec.partition(":")
        if jars:
            flush = {"log.flush.interval.messages": 1} if what == "kafka-flush" else {}
            self.c = Kafka(self.ctx, jars, settings=flush)
        else:
            own = harness.Context(os.path.join(self.spec, "bin"), "", False)
            own.brokers = self.ctx.brokers
            self.c = Cluster(own)
        self.c.create("first", partitions=1, min_insync_replicas=2)
        print(f"{self.name} {self.spec}: {time.monotonic() - begun:.1f} s from empty folders to the first topic, in sync; {self.memory()}", flush=True)
        self.c.create("load", partitions=6, min_insync_replicas=2)

    def memory(self):
        return "resident " + ", ".join(f"{n.rss_kb() / 1024:.0f}" for n in self.c.nodes.values()) + " MB"

    def cpu(self):
        return sum(n.cpu_seconds() for n in self.c.nodes.values())

    def run(self, workload):
        name, connections, depth, size, seconds = workload.split(":")
        before = self.cpu()
        said = self.ctx.varve("bench", "produce", "load", "--connections", connections, "--in-flight", depth, "--batch", size, "--seconds", seconds,
                              "--record", min(1000, int(size) - 100), "--json", "-b", self.c.bootstrap, timeout=600).stdout
        d = json.loads(said)
        time.sleep(0.5)  # what followers still have to do
        gb = d["bytes"] / 1e9
        return {"cpu": (self.cpu() - before) / gb if gb else float("nan"), "mbs": d["mb_per_s"], "p50": d["p50_us"] / 1000, "p99": d["p99_us"] / 1000}

    def failover(self, kills):
        """One partition, two idempotent librdkafka producers with default retries, 200 records a second each."""
        self.c.create("one", partitions=1, min_insync_replicas=2)
        gaps = []
        with Load(self.c, "one", threads=2, raw=0) as load:
            for _ in range(kills):
                victim = self.c.leader("one")
                at = killed_at(victim)
                load.wait_acks(50, 60)
                time.sleep(0.5)
                gaps.append(load.gap(at, window=20))
                victim.start()
                self.c.wait_formed()
                self.c.wait_in_sync("one", seconds=120)
                load.wait_acks(10)
        print(f"{self.name}: kill -9 of the leader, {summary(gaps)}; {load.check()} records acknowledged, 0 lost, 0 twice, 0 out of order", flush=True)


def pairs(kinds, workloads, count):
    if not workloads:
        return
    for w in workloads:
        for k in kinds:
            k.run(w)
    print("\nworkload  CPU-s/GB A       B    MB/s A       B   p50 ms A       B   p99 ms A       B | B/A of CPU: median (min-max)   B/A of MB/s", flush=True)
    for w in workloads:
        runs = [(k, k.run(w)) for _ in range(count) for k in (kinds[0], kinds[1], kinds[1], kinds[0])]
        med = lambda k, what: statistics.median(r[what] for kind, r in runs if kind is k)  # noqa: B023,E731
        two = [(x, y) if x[0] is kinds[0] else (y, x) for x, y in zip(runs[::2], runs[1::2])]
        cpu, mbs = ([b[1][what] / a[1][what] for a, b in two] for what in ("cpu", "mbs"))
        print(f"{w.split(':')[0]:8}" + "".join(f"{med(k, what):{width}.{digits}f}" for what, width, digits in
                                               (("cpu", 10, 2), ("mbs", 9, 1), ("p50", 9, 1), ("p99", 9, 1)) for k in kinds) +
              f" | {statistics.median(cpu):.2f} ({min(cpu):.2f}-{max(cpu):.2f})   {statistics.median(mbs):.2f} ({min(mbs):.2f}-{max(mbs):.2f})", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("build")
    p.add_argument("other")
    p.add_argument("--pairs", type=int, default=3)
    p.add_argument("--workloads", default=WORKLOADS)
    p.add_argument("--kills", type=int, default=5)
    args = p.parse_args()
    kinds = [Kind("A", args.build, args.build), Kind("B", args.build, args.other)]
    try:
        for k in kinds:
            k.begin()
        pairs(kinds, args.workloads.split(), args.pairs)
        for k in kinds:
            print(f"{k.name} after the load: {k.memory()}", flush=True)
        if args.kills:
            kinds[1].c.kill_all()
            kinds[0].failover(args.kills)
            kinds[0].c.kill_all()
            kinds[1].c.start()
            kinds[1].failover(args.kills)
    finally:
        for k in kinds:
            k.ctx.cleanup()


main()
