#!/usr/bin/python3
"""Clients that others wrote, on three brokers that are killed and paused while the clients produce and read.

  ride.py BIN_DIR [--kills N] [--seed S] [--away SECONDS] [--calm SECONDS] [--only FAULT,...] [--kafka JARS]
          --client NAME=COMMAND [--client NAME=COMMAND]...

COMMAND gets BOOTSTRAP TOPIC GROUP PARTITIONS RATE as further arguments (GROUP is also who it is) and runs an idempotent producer and two
members of a group, with the settings that its library has by itself. Its records are GROUP:1:, GROUP:2:, ..., RATE a second, dealt out over the
partitions. It prints

  acked MICROSECONDS PARTITION OFFSET VALUE   of CLOCK_MONOTONIC
  failed VALUE WHY
  read MEMBER PARTITION OFFSET VALUE
  assigned|revoked|lost MEMBER COUNT          what a rebalance brought
  crashed|broken WHO WHY                      it goes on by itself, or it is at its end
  produced                                    everything that was produced has its answer: after a line on its input

and ends when its input does. Each fault is one of: the leader of a partition, another replica, the controller, two brokers, or all killed with
-9 and started again after up to --away seconds (all after up to a second); one stopped with SIGSTOP for up to three seconds. Then all is well
again before the next, the groups after every fourth: some of these clients take their time. At the end: nothing lost, nothing twice, nothing
out of order; the groups have read all that was acknowledged; the copies of the brokers are the same. Prints, for each client, how long
partitions whose leader died acknowledged nothing. With --kafka all of this happens to three nodes of Apache Kafka instead.

Of a broker that they lost less than ten seconds before, clients stay away for up to a second or more (librdkafka's reconnect.backoff.max.ms), and
librdkafka asks for new leaders when it tries again: --calm waits between the faults, for figures that are not about that."""
import argparse
import collections
import os
import random
import shlex
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from checker import Record, gap, judge, percentile, read_all  # noqa: E402
from cluster import Cluster, killed_at  # noqa: E402
from harness import wait_for  # noqa: E402
from kafka_nodes import Kafka  # noqa: E402

PARTITIONS, RATE = 6, 300
FAULTS = ["leader"] * 4 + ["follower", "controller", "controller", "two", "all", "pause", "pause"]


class Rider:
    """One client's process, and what it said."""

    def __init__(self, c, name, command):
        self.c, self.name, self.topic = c, name, f"ride-{name}"
        c.create(self.topic, partitions=PARTITIONS, min_insync_replicas=2)
        self.history, self.read, self.again = Record(), {}, 0
        self.broken, self.rebalances, self.crashes = None, [], collections.Counter()
        self.produced = threading.Event()
        self.log = open(os.path.join(c.nodes[1].root, f"{name}.err"), "w")
        self.p = subprocess.Popen([*shlex.split(command), c.bootstrap, self.topic, name, str(PARTITIONS), str(RATE)],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.reader = threading.Thread(target=self.listen, daemon=True)
        self.reader.start()

    def listen(self):
        for line in self.p.stdout:
            word, _, rest = line.rstrip("\n").partition(" ")
            getattr(self, "said_" + word)(*rest.split(" ", {"acked": 3, "read": 3, "failed": 1, "crashed": 1}.get(word, 1)))

    def said_acked(self, micros, partition, offset, value):
        self.history.ack(self.topic, int(partition), int(offset), value)
        self.history.acks[-1] = self.history.acks[-1]._replace(time=int(micros) / 1e6)

    def said_failed(self, value, why):
        self.history.fail(value, why)

    def said_read(self, member, partition, offset, value):
        at = int(partition), int(offset)
        self.again += at in self.read
        if self.read.setdefault(at, value) != value:
            self.broken = f"{at} was read as {self.read[at]} and as {value}"

    def said_assigned(self, member, count):
        self.rebalances.append((time.monotonic(), "assigned", member, count))

    def said_revoked(self, member, count):
        self.rebalances.append((time.monotonic(), "revoked", member, count))

    def said_lost(self, member, count):
        self.rebalances.append((time.monotonic(), "lost", member, count))

    def said_crashed(self, who, why):
        self.crashes[why] += 1

    def said_broken(self, who, why):
        self.broken = f"{who}: {why}"

    def said_produced(self, *_):
        self.produced.set()

    def said_last(self, characters=3000):
        """Of its standard error: what its library has to say."""
        with open(self.log.name, errors="replace") as f:
            return f.read()[-characters:]

    def well(self):
        if self.broken or self.p.poll() is not None:
            raise AssertionError(f"{self.name}: {self.broken or f'ended with {self.p.returncode}'}\n{self.said_last()}")
        return True

    def flowing(self, reading, seconds=90):
        """Until every partition has acknowledged more, and, if `reading`, more was read."""
        before, read = len(self.history.acks), len(self.read)

        def moved():
            self.well()
            return len({a.partition for a in self.history.acks[before:]}) == PARTITIONS and (not reading or len(self.read) >= read + 20)
        try:
            wait_for("records", moved, seconds)
        except AssertionError as e:
            raise AssertionError(f"{self.name}: {e}: {len(self.history.acks) - before} acknowledged, of partitions "
                                 f"{sorted({a.partition for a in self.history.acks[before:]})}, {len(self.read) - read} read; {self.rebalances[-6:]}; "
                                 f"{self.crashes}; {self.history.failures[-3:]}\n{self.said_last(20000)}") from None

    def gaps(self, at, partitions):
        return [gap(self.history, self.topic, at, window=2.0, partition=p) for p in partitions]

    def end_producing(self):
        self.p.stdin.write("stop\n")
        self.p.stdin.flush()
        if not self.produced.wait(150):
            raise AssertionError(f"{self.name}: records without an answer after 150 s")

    def unread(self):
        self.well()
        return {(a.partition, a.offset) for a in self.history.acks} - self.read.keys()

    def end(self):
        self.p.stdin.close()
        self.p.wait(60)
        self.reader.join(10)

    def verdict(self):
        wrong = judge(self.history, read_all(self.c.bootstrap, [self.topic]))
        wrong += [f"read another record at {(a.partition, a.offset)}" for a in self.history.acks
                  if self.read[a.partition, a.offset] != a.value]
        wrong += [f"failed: {f}" for f in self.history.failures[:3]]
        if wrong:
            raise AssertionError(f"{self.name}: {len(wrong)} wrong of {len(self.history.acks)} acknowledged:\n  " + "\n  ".join(wrong[:30]))


class Ride:
    def __init__(self, c, riders, dice, away):
        self.c, self.riders, self.dice, self.away = c, riders, dice, away
        self.gaps = collections.defaultdict(lambda: collections.defaultdict(list))

    def led_by(self, nodes):
        """Of each client the partitions that these lead."""
        m = self.c.any_metadata([r.topic for r in self.riders])
        ids = {n.id for n in nodes}
        return {r.name: [i for i, p in m.topics[r.topic].items() if p.leader in ids] for r in self.riders}

    def kill(self, what, nodes, away):
        led = self.led_by(nodes)
        for n in nodes:
            n.process.kill()
        at = time.monotonic()
        for n in nodes:
            killed_at(n)
        time.sleep(self.dice.uniform(0, away))
        for n in nodes:
            n.spawn()
        return at, led

    def some_leader(self):
        r = self.dice.choice(self.riders)
        return self.c.leader(r.topic, self.dice.randrange(PARTITIONS))

    def fault(self, what):
        nodes = list(self.c.nodes.values())
        if what == "leader":
            return self.kill(what, [self.some_leader()], self.away)
        if what == "follower":
            leader = self.some_leader()
            return self.kill(what, [self.dice.choice([n for n in nodes if n is not leader])], self.away)
        if what == "controller":
            return self.kill(what, [self.c.controller()], self.away)
        if what == "two":
            return self.kill(what, self.dice.sample(nodes, 2), self.away)
        if what == "all":
            return self.kill(what, nodes, 1)
        assert what == "pause", what
        victim = self.dice.choice(nodes)
        led = self.led_by([victim])
        at = time.monotonic()
        victim.pause()
        time.sleep(self.dice.uniform(0.1, 3))
        victim.resume()
        return at, led

    def step(self, what, reading):
        begun = time.monotonic()
        at, led = self.fault(what)
        back = time.monotonic()
        self.c.wait_formed()
        self.c.wait_in_sync(*(r.topic for r in self.riders), "__consumer_offsets")
        said = [f"{back - begun:.1f} s, in sync {time.monotonic() - back:.1f} s later"]
        for r in self.riders:
            r.flowing(reading)
            said.append(f"{r.name} {time.monotonic() - back:.1f} s")
            changes = [e for e in r.rebalances if e[0] > at]
            if changes:
                said[-1] += f" ({', '.join(f'{what} {member}:{count}' for _, what, member, count in changes)})"
        for r in self.riders:
            gaps = r.gaps(at, led[r.name])
            self.gaps[what][r.name] += gaps
            said.append(f"{r.name} {max(gaps, default=0) * 1000:.0f} ms")
        return ", ".join(said)

    def summary(self):
        kinds = {"one killed": ("leader", "follower", "controller"), "two or all killed": ("two", "all"), "paused": ("pause",)}
        for r in self.riders:
            for kind, faults in kinds.items():
                gaps = [g for f in faults for g in self.gaps[f][r.name]]
                if gaps:
                    print(f"{r.name}: {kind}: of {len(gaps)} partitions that lost their leader nothing was acknowledged for: p50 "
                          f"{percentile(gaps, 50) * 1000:.0f} ms, p99 {percentile(gaps, 99) * 1000:.0f} ms, max {max(gaps) * 1000:.0f} ms")


def compare(ctx, c):
    nodes = list(c.nodes.values())
    for n in nodes:
        assert n.stop() == 0, n.trace()[-3000:]
    for n in nodes[1:]:
        ctx.varve("dump", "--compare", nodes[0].data, n.data)


def ride(ctx, args):
    dice = random.Random(args.seed)
    settings = {"group.initial.rebalance.delay.ms": 100}
    c = Kafka(ctx, args.kafka, settings=settings) if args.kafka else Cluster(ctx, settings=settings)
    riders = [Rider(c, *spec.split("=", 1)) for spec in args.client]
    ride = Ride(c, riders, dice, args.away)
    for r in riders:
        r.flowing(True)
    faults = args.only.split(",") if args.only else FAULTS
    for i in range(args.kills):
        what = dice.choice(faults)
        print(f"{i + 1}: {what}: {ride.step(what, i % 4 == 3)}", flush=True)
        time.sleep(args.calm)
    for r in riders:
        r.end_producing()
    for r in riders:
        wait_for(f"{r.name}'s members to read everything", lambda: not r.unread(), 90)
        r.end()
        r.verdict()
    ride.summary()
    if not args.kafka:
        compare(ctx, c)
    for r in riders:
        print(f"{r.name}: {len(r.history.acks)} acknowledged over {args.kills} faults: 0 lost, 0 twice, 0 out of order; all read by its group"
              f" ({r.again} of {len(r.read)} again; {dict(collections.Counter(what for _, what, *_ in r.rebalances))}; "
              f"{sum(r.crashes.values())} restarts of members)")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("bin")
    p.add_argument("--kills", type=int, default=6)
    p.add_argument("--seed", type=int, default=random.randrange(1 << 31))
    p.add_argument("--away", type=float, default=10)
    p.add_argument("--calm", type=float, default=0)
    p.add_argument("--only", default="")
    p.add_argument("--kafka", help="a folder with its jars")
    p.add_argument("--client", action="append", required=True)
    args = p.parse_args()
    print(f"seed {args.seed}", flush=True)
    harness.use_ports_apart()
    with harness.told(harness.Context(args.bin, "", False)) as ctx:
        ride(ctx, args)


main()
