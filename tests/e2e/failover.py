"""A group of librdkafka's consumers on three brokers, whose coordinator is killed with -9 again and again while they read and commit. No
commit that was acknowledged goes back, nobody is put out of the group, and everything that was produced comes."""
import collections
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from cluster import killed_at
from harness import wait_for
from test_coordinator import partition_of

PARTITIONS, GROUP_PARTITIONS = 6, 4


class Feed(threading.Thread):
    """Numbered records with default settings but idempotence; `sent` are acknowledged."""

    def __init__(self, bootstrap, topic):
        super().__init__(daemon=True)
        self.topic, self.sent, self.failed, self.over = topic, set(), [], threading.Event()
        self.producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "log_level": 0})

    def run(self):
        number = 0
        while not self.over.is_set():
            value = number
            self.producer.produce(self.topic, b"%d" % value, partition=value % PARTITIONS,
                                  on_delivery=lambda err, _, v=value: self.failed.append((v, str(err))) if err else self.sent.add(v))
            number += 1
            self.producer.poll(0.005)
        assert self.producer.flush(60) == 0


class Member(threading.Thread):
    """Commits what it has read every 50 ms, and waits for the answer; an error means: later again."""

    def __init__(self, bootstrap, group, topic, protocol, history):
        super().__init__(daemon=True)
        conf = {"bootstrap.servers": bootstrap, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False, "log_level": 0}
        if protocol != "classic":
            conf["group.protocol"] = protocol
        self.c, self.topic, self.history, self.over = Consumer(conf), topic, history, threading.Event()
        self.seen, self.errors, self.assignments, self.commits, self.refused = set(), collections.Counter(), 0, 0, collections.Counter()
        self.commit_times, self.broken = [], None

    def assigned(self, c, partitions):
        self.assignments += 1

    def run(self):
        try:
            self.c.subscribe([self.topic], on_assign=self.assigned)
            position, due = {}, 0
            while not self.over.is_set():
                m = self.c.poll(0.02)
                if m is not None and m.error():
                    self.errors[m.error().name()] += 1
                elif m is not None:
                    self.seen.add(int(m.value()))
                    position[m.partition()] = m.offset() + 1
                if position and time.monotonic() >= due:
                    self.commit(position)
                    position, due = {}, time.monotonic() + 0.05
            self.c.close()
        except BaseException as e:
            self.broken = e

    def commit(self, position):
        try:
            done = self.c.commit(offsets=[TopicPartition(self.topic, p, o) for p, o in position.items()], asynchronous=False)
        except KafkaException as e:
            self.refused[e.args[0].name()] += 1
            return
        self.commits += 1
        self.commit_times.append(time.monotonic())
        for p in done:
            if p.error is None:
                self.history.acknowledged(p.partition, p.offset)


class History:
    """The highest commit of each partition that was acknowledged."""

    def __init__(self):
        self.lock, self.highest = threading.Lock(), {}

    def acknowledged(self, partition, offset):
        with self.lock:
            self.highest[partition] = max(offset, self.highest.get(partition, 0))

    def now(self):
        with self.lock:
            return dict(self.highest)


def committed(bootstrap, group, topic):
    c = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "log_level": 0})
    try:
        return {p.partition: p.offset for p in c.committed([TopicPartition(topic, i) for i in range(PARTITIONS)], timeout=30)}
    finally:
        c.close()


def behind(before, after):
    return {p: (o, after.get(p)) for p, o in before.items() if after.get(p, -1) < o}


def failover(c, protocol, kills):
    """`protocol`: classic, or consumer (KIP-848; current librdkafka only). `c` has offsets.topic.num.partitions=GROUP_PARTITIONS. Returns how
    often members were assigned partitions anew."""
    group, topic, history = f"g-{protocol}", f"t-{protocol}", History()
    c.create(topic, partitions=PARTITIONS, min_insync_replicas=2)
    feed = Feed(c.bootstrap, topic)
    members = [Member(c.bootstrap, group, topic, protocol, history) for _ in range(2)]
    for t in [feed, *members]:
        t.start()
    wait_for("both to read", lambda: all(m.commits > 5 for m in members), 60)
    calm, gaps = [m.assignments for m in members], []
    for _ in range(kills):
        victim = c.leader("__consumer_offsets", partition_of(group, GROUP_PARTITIONS))
        at, before = killed_at(victim), history.now()
        wait_for("commits to go on", lambda: all(m.broken or sum(t > at + 0.2 for t in m.commit_times) > 3 for m in members), 60)
        for m in members:
            if m.broken:
                raise m.broken
            times = [at] + [t for t in m.commit_times if t > at]
            gaps.append(max(b - a for a, b in zip(times, times[1:])))
        after = committed(c.bootstrap, group, topic)
        assert not behind(before, after), ("went back", behind(before, after))
        victim.spawn()
        c.wait_formed()
        c.wait_in_sync()
    feed.over.set()
    feed.join(90)
    assert not feed.failed, feed.failed[:3]
    wait_for("everything to come", lambda: feed.sent <= members[0].seen | members[1].seen, 60)
    for m in members:
        m.over.set()
        m.join(60)
        assert not m.is_alive() and not m.broken, m.broken
    assert not behind(history.now(), committed(c.bootstrap, group, topic))
    gaps.sort()
    print(f"{protocol}: {kills} kills, {len(feed.sent)} records, {sum(m.commits for m in members)} commits, none went back; refused: "
          f"{dict(sum((m.refused for m in members), collections.Counter()))}; errors: {dict(sum((m.errors for m in members), collections.Counter()))}; "
          f"assignments after the first: {sum(m.assignments for m in members) - sum(calm)}; longest pause of a member's commits: "
          f"p50 {gaps[len(gaps) // 2]:.2f} s, max {gaps[-1]:.2f} s", flush=True)
    return sum(m.assignments for m in members) - sum(calm)
