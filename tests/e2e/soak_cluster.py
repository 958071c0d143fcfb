#!/usr/bin/python3
"""Random faults for as long as wanted against three brokers under load; not part of the test run.

  soak_cluster.py SEED CYCLES [--bin DIR] [--nodes N] [--namespaces] [--only FAULT,...] [--partitions N]

Each cycle does one random thing (kill -9 of one or two or all, a graceful stop, SIGSTOP, a wiped disk, with --namespaces cut links),
heals it, waits until all replicas are in sync, and every 20 cycles everything is read and judged. Prints a line for each cycle and, at the
end, how long clients saw no acknowledgement after each kind of fault. Exit 1 when something acknowledged is lost, there twice, out of
order or at another offset. The same seed makes the same choices; what the machine makes of them differs."""
import argparse
import collections
import math
import os
import random
import sys
import time

sys.dont_write_bytecode = True
here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import harness  # noqa: E402
from checker import Load, summary  # noqa: E402
from cluster import Cluster, killed_at  # noqa: E402
from test_cluster_kill import healthy  # noqa: E402


class Soak:
    def __init__(self, c, load, dice):
        self.c, self.load, self.dice = c, load, dice
        self.gaps = collections.defaultdict(list)

    def pick(self):
        return self.dice.choice(list(self.c.nodes.values()))

    def measured(self, what, at, partition=None, window=10):
        self.load.wait_acks(30, 60)
        time.sleep(1.0)
        end = time.monotonic() + 30
        while (gap := self.load.gap(at, window, partition)) == math.inf and time.monotonic() < end:
            time.sleep(0.1)
        self.gaps[what].append(gap)
        return f"{gap * 1000:.0f} ms"

    def back(self, *nodes):
        for node in nodes:
            if not node.alive():
                node.spawn()

    def kill_leader(self):
        index = self.dice.randrange(self.partitions)
        victim = self.c.leader(self.load.topic, index)
        said = self.measured("kill -9 of the leader", killed_at(victim), index)
        self.back(victim)
        return f"node {victim.id} of partition {index}: {said}"

    def kill_any(self):
        victim = self.pick()
        said = self.measured("kill -9 of any", killed_at(victim))
        self.back(victim)
        return f"node {victim.id}: {said}"

    def kill_two(self):
        victims = self.dice.sample(list(self.c.nodes.values()), 2)
        for v in victims:
            killed_at(v)
        time.sleep(self.dice.uniform(0, 1))
        self.back(*victims)
        return f"nodes {[v.id for v in victims]}"

    def kill_all(self):
        self.c.kill_all()
        time.sleep(self.dice.uniform(0, 0.5))
        self.back(*self.c.nodes.values())
        return ""

    def kill_again(self):
        victim = self.pick()
        killed_at(victim)
        for _ in range(self.dice.randint(1, 5)):
            victim.spawn()
            time.sleep(self.dice.uniform(0, 0.3))
            victim.kill9()
        self.back(victim)
        return f"node {victim.id}"

    def graceful(self):
        victim = self.pick()
        at = time.monotonic()
        code = victim.stop()
        assert code == 0, victim.trace()[-3000:]
        said = self.measured("graceful stop", at)
        self.back(victim)
        return f"node {victim.id}: {said}"

    def pause(self):
        victim = self.pick()
        at = time.monotonic()
        victim.pause()
        time.sleep(self.dice.uniform(0.1, 4))
        victim.resume()
        return f"node {victim.id}: {self.measured('SIGSTOP', at)}"

    def wipe(self):
        victim = self.pick()
        killed_at(victim)
        victim.wipe()
        self.back(victim)
        return f"node {victim.id}"

    def cut(self):
        victim = self.pick()
        at = time.monotonic()
        self.c.cut(victim)
        time.sleep(self.dice.uniform(0.1, 4))
        self.c.heal()
        return f"node {victim.id}: {self.measured('cut off', at)}"

    def cut_one_way(self):
        a, b = self.dice.sample(list(self.c.nodes.values()), 2)
        at = time.monotonic()
        self.c.cut_one_way(a, b)
        time.sleep(self.dice.uniform(0.1, 4))
        self.c.heal()
        return f"{a.id} to {b.id}: {self.measured('one way', at)}"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("seed", type=int)
    p.add_argument("cycles", type=int)
    p.add_argument("--bin", default=os.path.join(here, "../../build-dev/bin"))
    p.add_argument("--nodes", type=int, default=3)
    p.add_argument("--partitions", type=int, default=4)
    p.add_argument("--rate", type=float, default=100)
    p.add_argument("--namespaces", action="store_true")
    p.add_argument("--only", default="")
    p.add_argument("--io", default="")
    args = p.parse_args()
    faults = ["kill_leader"] * 4 + ["kill_any", "kill_two", "kill_all", "kill_again", "graceful", "graceful", "pause", "pause", "wipe"]
    if args.namespaces:
        faults += ["cut", "cut_one_way"] * 2
    if args.only:
        faults = args.only.split(",")
    dice = random.Random(args.seed)
    with harness.told(harness.Context(args.bin, args.io, False)) as ctx:
        c = Cluster(ctx, args.nodes, namespaces=args.namespaces)
        c.create("soak", partitions=args.partitions, min_insync_replicas=2)
        load = Load(c, "soak", threads=2, raw=2, rate=args.rate)
        soak = Soak(c, load, dice)
        soak.partitions = args.partitions
        with load:
            for cycle in range(args.cycles):
                what = dice.choice(faults)
                begun = time.monotonic()
                said = getattr(soak, what)()
                c.wait_formed()
                c.wait_in_sync("soak")
                healthy(ctx, c)
                load.wait_acks(20)
                print(f"{cycle}: {what} {said}; in sync after {time.monotonic() - begun:.1f} s; {load.acks()} acknowledged", flush=True)
                if cycle % 20 == 19:
                    load.judge_now()
        total = load.check()
        for what, gaps in sorted(soak.gaps.items()):
            print(f"{what}: {summary(gaps)}")
        print(f"seed {args.seed}: {args.cycles} cycles, {total} acknowledged, 0 lost, 0 duplicated, 0 reordered")


main()
